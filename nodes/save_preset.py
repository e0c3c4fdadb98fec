"""ToMe Save My Preset: the settings of other nodes under a word, for every host."""

from typing import Any

from comfy_api.latest import io

from ..tome_core.presets import normal_word, save_preset, user_presets
from .node_text import text_output
from .schema import CATEGORY, schema

NOTHING_CONNECTED = (
    "connect model to a ToMe Speed or ToMe Speed (Advanced), conditioning to a ToMe Bind Prompt, or both"
)


class ToMeSavePreset(io.ComfyNode):
    """Writes a preset of the user's."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to ComfyUI."""
        return schema(
            node_id="ToMeSavePreset",
            display_name="ToMe Save My Preset",
            category=CATEGORY,
            search_aliases=["save settings", "preset", "favourite", "token merging preset"],
            description=(
                "Saves the settings of a ToMe Speed, of a ToMe Bind Prompt, or of both as a preset of your own. ToMe "
                "Speed and ToMe Bind Prompt offer it from then on, and so do the other hosts of tome-suite on this "
                "computer."
            ),
            inputs=[
                io.Model.Input(
                    "model", optional=True, tooltip="From ToMe Speed or ToMe Speed (Advanced), to save how it merges."
                ),
                io.Conditioning.Input(
                    "conditioning", optional=True, tooltip="From ToMe Bind Prompt, to save how it binds."
                ),
                io.String.Input(
                    "name",
                    default="my preset",
                    tooltip="Its word: up to 40 letters a to z, digits, spaces, - and _. Capital letters become small.",
                ),
                io.String.Input("help", default="", optional=True, tooltip="What it is for, in a sentence of yours."),
                io.Boolean.Input(
                    "replace",
                    default=False,
                    optional=True,
                    tooltip="Whether a preset of yours with that name may be replaced.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None, **others: Any) -> bool | str:
        """Return True, or the rule that is broken; a name that comes by wire is not known yet."""
        if not {"model", "conditioning"} & set(others):
            return NOTHING_CONNECTED
        try:
            return name is None or bool(normal_word(name))
        except ValueError as mistake:
            return str(mistake)

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None, **_: Any) -> bool:
        """Return whether the preset is there, so that the node runs again when it was deleted."""
        return name is not None and name.strip().lower() in [preset.word for preset in user_presets()]

    @classmethod
    def execute(
        cls, name: str, model: Any = None, conditioning: Any = None, help: str = "", replace: bool = False
    ) -> io.NodeOutput:
        """Save the settings, and show on the node where; or why nothing was saved."""
        try:
            text = _save(name, model, conditioning, help, replace)
        except ValueError as mistake:
            text = f"Nothing saved: {mistake}"
        return io.NodeOutput(ui=text_output(cls.hidden.unique_id, text))


def _save(name: str, model: Any, conditioning: Any, help: str, replace: bool) -> str:
    """Save what is connected; return what to say of it. Raises `ValueError` where there is nothing to save."""
    from ..tome_core.binding.doors import conditioning as binding_door
    from ..tome_core.speed.doors import patcher as speed_door

    if model is None and conditioning is None:
        raise ValueError(NOTHING_CONNECTED)
    speed = None if model is None else speed_door.find_config(model)
    binding = None if conditioning is None else binding_door.find_config(conditioning)
    if model is not None and speed is None:
        raise ValueError("model must come from a ToMe Speed that merges, got one without merging")
    if conditioning is not None and binding is None:
        raise ValueError("conditioning must come from a ToMe Bind Prompt that bound something, got none of its groups")
    path = save_preset(name, speed=speed, binding=binding, help=help, replace=replace)
    nodes = [*(["ToMe Speed"] if speed else []), *(["ToMe Bind Prompt"] if binding else [])]
    return (
        f"Saved as {path.stem} in {path}\n"
        f"{' and '.join(nodes)} {'offer' if len(nodes) > 1 else 'offers'} it after you press R (Refresh Node "
        f"Definitions) or reload the page. AUTOMATIC1111, Forge and the command line of tome-suite offer it as well."
    )
