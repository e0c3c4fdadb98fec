"""ToMe Speed and ToMe Speed (Advanced): the same patch, by a word and a slider or by every knob."""

from collections.abc import Callable
from typing import Any

from comfy_api.latest import io

from ..tome_core.presets import speed_preset
from ..tome_core.speed import SpeedConfig, SpeedReport
from ..tome_core.speed.patcher import find_family, patch_speed
from ..tome_core.speed.summary import expectation, result
from .presets import preset_inputs
from .schema import CATEGORY, config_from, config_inputs, schema
from .telling import tell
from .watching import RunWatch

ALIASES = ["token merging", "tome", "tomesd", "faster", "speed up", "accelerate", "ToDo", "optimize"]
MODEL_TOOLTIP = "Any Stable Diffusion 1.x, 2.x or SDXL model. Put LoRAs before or after, in any order."
OUTPUTS = (
    io.Model.Output(display_name="model", tooltip="The model with token merging, for the KSampler."),
    io.String.Output(display_name="report", tooltip="What will be merged, or why nothing. Results come on the node."),
)


class ToMeSpeed(io.ComfyNode):
    """Token merging by a word and a slider."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to ComfyUI."""
        return schema(
            node_id="ToMeSpeed",
            display_name="ToMe Speed",
            category=CATEGORY,
            search_aliases=ALIASES,
            description=(
                "Makes images faster by merging similar tokens before attention (token merging, ToMe). Works on SD "
                "1.x, 2.x and SDXL; the larger the picture, the more it gains. Other models pass through untouched."
            ),
            inputs=[
                io.Model.Input("model", tooltip=MODEL_TOOLTIP),
                *preset_inputs(
                    "speed",
                    "balanced",
                    "How much of the preset's merging to do. 0 is the untouched model, bit for bit.",
                ),
            ],
            outputs=list(OUTPUTS),
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # or two equal nodes would be cached as one, and only one of them tell of its runs
        )

    @classmethod
    def execute(cls, model: Any, preset: str, strength: float) -> io.NodeOutput:
        """Patch a clone of the model by a preset for its family."""
        return _patch(model, lambda: speed_preset(preset, find_family(model), strength), cls.hidden.unique_id)


class ToMeSpeedAdvanced(io.ComfyNode):
    """Token merging by every knob of its config."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to ComfyUI."""
        return schema(
            node_id="ToMeSpeedAdvanced",
            display_name="ToMe Speed (Advanced)",
            category=CATEGORY,
            search_aliases=ALIASES,
            description=(
                "ToMe Speed with every setting of token merging. It replaces a ToMe Speed before it. Ratio 0 is the "
                "untouched model, bit for bit."
            ),
            inputs=[io.Model.Input("model", tooltip=MODEL_TOOLTIP), *config_inputs(SpeedConfig)],
            outputs=list(OUTPUTS),
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # or two equal nodes would be cached as one, and only one of them tell of its runs
        )

    @classmethod
    def validate_inputs(cls, **knobs: Any) -> bool | str:
        """Return True, or the rule that a knob breaks; knobs that come by wire are not known yet."""
        try:
            config_from(SpeedConfig, knobs)
        except ValueError as mistake:
            return str(mistake)
        return True

    @classmethod
    def execute(cls, model: Any, **knobs: Any) -> io.NodeOutput:
        """Patch a clone of the model by the knobs."""
        return _patch(model, lambda: config_from(SpeedConfig, knobs), cls.hidden.unique_id)


def _patch(model: Any, choose: Callable[[], SpeedConfig], node_id: str | None) -> io.NodeOutput:
    """Return the patched model and what to expect of it, or the model as it came and why.

    It comes out as it came where it is not supported, has no such level, or a knob that came by wire breaks its rule:
    the picture is drawn all the same.
    """

    watch = RunWatch(model.load_device)

    def on_end(run: SpeedReport) -> None:
        tell(node_id, f"{watch.told(run.merged_calls + run.untouched_calls)}\n{result(run)}")

    try:
        patched, report = patch_speed(model, choose(), on_end=on_end)
    except ValueError as problem:  # UnsupportedModelError among them
        text = f"The model passes through as it came: {problem}"
        tell(node_id, text)
        return io.NodeOutput(model, text)
    text = expectation(report)
    if report.config.is_neutral:  # the time without merging, to be seen beside the time with it
        watch = RunWatch(model.load_device, lambda: tell(node_id, f"{watch.told()}\n{text}"))
    watch.watch(patched)
    tell(node_id, text)
    return io.NodeOutput(patched, text)
