"""ToMe Attention Maps and ToMe Show Maps: where in the picture each phrase of a bound prompt has its attention.

A sampler runs between the two, since a node cannot give what is only there after a later one: the first patches the
model and hands out an empty shelf, the second takes the picture, which comes after the sampler, and reads the shelf.
"""

from typing import TYPE_CHECKING, Any

from comfy.patcher_extension import WrappersMP
from comfy.utils import ProgressBar
from comfy_api.latest import io, ui

from ..tome_core.errors import UnsupportedModelError
from .node_text import text_output, update_text
from .schema import CATEGORY, schema

if TYPE_CHECKING:
    from ..tome_core.attention_maps import MapShelf, PhraseMaps

Maps = io.Custom("TOME_MAPS")
PREVIEW_PIXELS = 768
TEXT_KEY = "tome_suite_maps_text"


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
                "Finds out where in the picture each phrase of a ToMe Bind Prompt has its attention, while any sampler "
                "draws. It needs no extra model call, and the image stays the same. Connect model to the sampler, and "
                "maps to ToMe Show Maps."
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
                Maps.Output(display_name="maps", tooltip="The maps, for ToMe Show Maps."),
            ],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # or two such nodes with one model would be cached as one, and share their maps
        )

    @classmethod
    def execute(cls, model: Any, preview: bool = True) -> io.NodeOutput:
        """Patch a clone of the model; an unsupported one passes through untouched."""
        from ..tome_core.attention_maps import MapShelf, collect_maps, preview_sheet

        node_id = cls.hidden.unique_id

        def show(step: int, total: int, maps: "PhraseMaps") -> None:
            picture = ("JPEG", preview_sheet(maps), PREVIEW_PIXELS)
            ProgressBar(total, node_id).update_absolute(step + 1, total, picture)

        def run_and_report(executor: Any, *args: Any, **options: Any) -> Any:
            latent = executor(*args, **options)
            update_text(node_id, _run_report(shelf))
            return latent

        reporting = model.clone()
        reporting.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, TEXT_KEY)
        reporting.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, TEXT_KEY, run_and_report)  # around what collects
        try:
            patched, shelf = collect_maps(reporting, on_step=show if preview else None)
        except UnsupportedModelError as problem:
            text = f"No maps, the model passes through untouched: {problem}"
            return io.NodeOutput(model, MapShelf(str(problem)), ui=text_output(node_id, text))
        return io.NodeOutput(patched, shelf, ui=text_output(node_id, "Ready. The maps come when the sampler runs."))


def _run_report(shelf: "MapShelf") -> str:
    """Return what came of the latest run."""
    maps, notes = shelf.maps()
    if maps is None:
        return "\n".join(notes)
    phrases = f"{len(maps.labels)} phrase{'' if len(maps.labels) == 1 else 's'}"
    return "\n".join([f"Maps of {phrases} in this run: {_numbered(maps)}.", *maps.notes])


def _numbered(maps: "PhraseMaps") -> str:
    """Return the phrases with their numbers."""
    return "; ".join(f"{number}: {label}" for number, label in enumerate(maps.labels, start=1))


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
            description="Shows where each phrase had its attention, over the finished picture, and gives it as masks.",
            inputs=[
                Maps.Input("maps", tooltip="From ToMe Attention Maps."),
                io.Image.Input("image", tooltip="The finished picture, from VAE Decode."),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The sampler's output. Needed only where one model feeds several samplers, to choose one.",
                ),
                io.Int.Input(
                    "phrase",
                    default=0,
                    min=0,
                    max=64,
                    optional=True,
                    tooltip="Masks of this phrase alone, by its number on the node; 0 for all.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="0: soft masks. Above 0, a mask is white where its map reaches this share of its range.",
                ),
                io.Float.Input(
                    "opacity",
                    default=0.65,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="How strong the colours are over the picture.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="overlay", tooltip="Each picture, alone and under the map of each phrase."
                ),
                io.Mask.Output(display_name="masks", tooltip="A mask for each phrase of each image."),
                io.String.Output(display_name="report", tooltip="The phrases by number, and what was left out."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        maps: "MapShelf",
        image: Any,
        latent: dict[str, Any] | None = None,
        phrase: int = 0,
        threshold: float = 0.0,
        opacity: float = 0.65,
    ) -> io.NodeOutput:
        """Draw the maps of the run that the picture came from; without any the picture passes through."""
        from ..tome_core.attention_maps import map_masks, overlay_sheets

        found, notes = maps.maps(None if latent is None else latent["samples"])
        height, width = int(image.shape[1]), int(image.shape[2])
        sheets, masks = image, image.new_zeros(1, height, width)
        if found is not None:
            try:
                masks = map_masks(found, (height, width), phrase=phrase, threshold=threshold)
            except ValueError as mistake:
                notes.insert(0, f"Masks are black: {mistake}")
            sheets = overlay_sheets(image, found, opacity)
            notes.insert(0, _numbered(found))
        report = "\n".join(notes)
        shown = ui.PreviewImage(sheets, cls=cls).as_dict() | text_output(cls.hidden.unique_id, report)
        return io.NodeOutput(sheets, masks, report, ui=shown)
