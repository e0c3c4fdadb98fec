"""ToMe Attention Maps and ToMe Show Maps: where each phrase of a bound prompt looks.

A sampler runs between the two, since a node cannot give what is only there after a later one: the first patches the
model and hands out an empty shelf, the second takes the picture, which comes after the sampler, and reads the shelf.
"""

from typing import Any

from comfy.utils import ProgressBar
from comfy_api.latest import io, ui

from ..tome_core.attention_maps import MapShelf, PhraseMaps, collect_maps, map_masks, overlay_sheets, preview_sheet
from ..tome_core.attention_maps.patcher import NO_GROUPS
from ..tome_core.errors import UnsupportedModelError
from .schema import CATEGORY, schema
from .telling import tell

Maps = io.Custom("TOME_MAPS")
PREVIEW_PIXELS = 768


class ToMeAttentionMaps(io.ComfyNode):
    """Collects attention maps inside any sampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to ComfyUI."""
        return schema(
            node_id="ToMeAttentionMaps",
            display_name="ToMe Attention Maps",
            category=CATEGORY,
            search_aliases=["attention map", "heat map", "heatmap", "DAAM", "cross attention", "visualize attention"],
            description=(
                "Watches where each phrase of a ToMe Bind Prompt draws attention while any sampler draws, at no extra "
                "model call; the image stays as it is. Connect model to the sampler, and maps to ToMe Show Maps behind "
                "it."
            ),
            inputs=[
                io.Model.Input("model", tooltip="Any Stable Diffusion 1.x, 2.x or SDXL model, also with ToMe Speed."),
                io.Boolean.Input(
                    "preview",
                    default=True,
                    optional=True,
                    tooltip="Show the maps here while the sampler draws.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model, for the sampler."),
                Maps.Output(display_name="maps", tooltip="The maps to come, for ToMe Show Maps."),
            ],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # or two such nodes with one model would be cached as one, and share their maps
        )

    @classmethod
    def execute(cls, model: Any, preview: bool = True) -> io.NodeOutput:
        """Patch a clone of the model; an unsupported one passes through untouched."""
        node_id = cls.hidden.unique_id

        def show(step: int, total: int, maps: PhraseMaps) -> None:
            picture = ("JPEG", preview_sheet(maps), PREVIEW_PIXELS)
            ProgressBar(total, node_id).update_absolute(step + 1, total, picture)

        try:
            patched, shelf = collect_maps(model, on_step=show if preview else None)
        except UnsupportedModelError as problem:
            tell(node_id, f"No maps, the model passes through untouched: {problem}")
            return io.NodeOutput(model, MapShelf(str(problem)))
        return io.NodeOutput(patched, shelf)


class ToMeShowMaps(io.ComfyNode):
    """Gives the collected maps as a picture and as masks."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to ComfyUI."""
        return schema(
            node_id="ToMeShowMaps",
            display_name="ToMe Show Maps",
            category=CATEGORY,
            search_aliases=["attention map", "heat map", "overlay", "mask from prompt", "segmentation by prompt"],
            description="Shows where each phrase drew attention, over the finished picture, and gives it as masks.",
            inputs=[
                Maps.Input("maps", tooltip="From ToMe Attention Maps."),
                io.Image.Input("image", tooltip="The finished picture, from VAE Decode, to lay the maps over."),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The sampler's output. Needed only where one model feeds several samplers, to choose one.",
                ),
                io.Int.Input(
                    "phrase", default=0, min=0, max=64, optional=True, tooltip="Masks of this phrase alone; 0 for all."
                ),
                io.Float.Input(
                    "threshold",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="0 gives soft masks. Above, a mask is white where a map reaches this share of its range.",
                ),
                io.Float.Input(
                    "opacity",
                    default=0.65,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="Of the colours over the picture.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="overlay", tooltip="Each picture, and it under the map of each phrase."),
                io.Mask.Output(display_name="masks", tooltip="A mask for each phrase of each image."),
                io.String.Output(display_name="report", tooltip="The phrases by number, and what was left out."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        maps: MapShelf,
        image: Any,
        latent: dict[str, Any] | None = None,
        phrase: int = 0,
        threshold: float = 0.0,
        opacity: float = 0.65,
    ) -> io.NodeOutput:
        """Draw the maps of the run that the picture came from; without any the picture passes through."""
        found, notes = maps.maps(None if latent is None else latent["samples"])
        height, width = int(image.shape[1]), int(image.shape[2])
        sheets, masks = image, image.new_zeros(1, height, width)
        if found is not None:
            try:
                masks = map_masks(found, (height, width), phrase=phrase, threshold=threshold)
            except ValueError as mistake:
                notes.insert(0, f"Masks are black: {mistake}")
            sheets = overlay_sheets(image, found, opacity)
            notes.insert(0, "; ".join(f"{number}: {label}" for number, label in enumerate(found.labels, start=1)))
        elif NO_GROUPS in notes:
            notes.append("Encode it with ToMe Bind Prompt, which says on itself what it binds.")
        report = "\n".join(notes)
        tell(cls.hidden.unique_id, report)
        return io.NodeOutput(sheets, masks, report, ui=ui.PreviewImage(sheets, cls=cls))
