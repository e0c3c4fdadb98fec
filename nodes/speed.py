"""ToMe Speed and ToMe Speed (Advanced): the same patch, by a word and a slider or by every knob."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..tome_core.presets import speed_preset
from ..tome_core.speed.config import SpeedConfig, without_retired
from .node_text import text_output, update_text
from .presets import preset_fingerprint, preset_inputs, preset_mistake
from .run_timer import RunTimer
from .schema import CATEGORY, config_from, config_inputs, schema

if TYPE_CHECKING:
    from ..tome_core.speed import SpeedReport

ALIASES = ["token merging", "tome", "tomesd", "faster", "speed up", "accelerate", "ToDo", "optimize"]
MODEL_TOOLTIP = "Any Stable Diffusion 1.x, 2.x or SDXL model. Put LoRAs before or after, in any order."
OUTPUTS = (
    io.Model.Output(display_name="model", tooltip="The model with token merging, for the KSampler."),
    io.String.Output(
        display_name="report",
        tooltip="What will be merged, or why nothing will be. After a run the node itself shows what was.",
    ),
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
                "Makes images faster: parts of the picture that are alike (tokens) are merged before attention and "
                "copied back after it (token merging, ToMe). For SD 1.x, 2.x and SDXL; the larger the picture, the "
                "more time it saves. Other models pass through untouched."
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
            not_idempotent=True,  # or two equal nodes would be cached as one, and one of them would report no run
        )

    @classmethod
    def validate_inputs(cls, preset: str | None = None) -> bool | str:
        """Return True, or why the word is no preset, or its file is refused."""
        return preset_mistake("speed", preset) or True

    @classmethod
    def fingerprint_inputs(cls, preset: str | None = None, **_: Any) -> str:
        """Return what changes with the preset's file."""
        return preset_fingerprint("speed", preset)

    @classmethod
    def execute(cls, model: Any, preset: str, strength: float) -> io.NodeOutput:
        """Patch a clone of the model by a preset for its family."""
        from ..tome_core.speed.doors.patcher import find_family

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
            not_idempotent=True,  # or two equal nodes would be cached as one, and one of them would report no run
        )

    @classmethod
    def validate_inputs(cls, **knobs: Any) -> bool | str:
        """Return True, or the rule that a knob breaks; knobs that come by wire are not known yet."""
        try:
            config_from(SpeedConfig, _present_knobs(knobs)[0])
        except ValueError as mistake:
            return str(mistake)
        return True

    @classmethod
    def execute(cls, model: Any, **knobs: Any) -> io.NodeOutput:
        """Patch a clone of the model by the knobs."""
        present, gone = _present_knobs(knobs)
        return _patch(model, lambda: config_from(SpeedConfig, present), cls.hidden.unique_id, gone)


def _present_knobs(knobs: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the knobs of a workflow, saved by any version, without those that are gone, and a sentence for each.

    A workflow keeps its values by their places, and the switch of guard was where min_tokens is now. The host makes 0
    and 1 of it: as numbers of tokens both leave no level untouched, as the default does.
    """
    present = dict(knobs)
    if present.get("min_tokens") in (0, 1):
        present["guard"] = present.pop("min_tokens") or present.get("guard", False)
    return without_retired(present)


def _patch(
    model: Any, choose: Callable[[], SpeedConfig], node_id: str | None, gone: Sequence[str] = ()
) -> io.NodeOutput:
    """Return the patched model and what to expect of it, or the model as it came and why.

    It comes out as it came where it is not supported, has no such level, or a knob that came by wire breaks its rule:
    the picture is drawn all the same. `gone` is what to say of settings that are gone.
    """
    from ..tome_core.speed.doors.patcher import patch_speed

    timer, notes = RunTimer(model.load_device), "".join(f"\nNote: {sentence}." for sentence in gone)

    def on_end(run: "SpeedReport") -> None:
        update_text(node_id, f"{timer.sentence(run.merged_calls + run.untouched_calls)}\n{run.result()}{notes}")

    try:
        patched, report = patch_speed(model, choose(), on_end=on_end)
    except ValueError as problem:  # UnsupportedModelError among them
        text = f"The model passes through as it came: {problem}{notes}"
        return io.NodeOutput(model, text, ui=text_output(node_id, text))
    text = f"{report.expectation()}{notes}"
    if report.config.is_neutral:  # the time without merging, to be seen beside the time with it
        timer = RunTimer(model.load_device, lambda: update_text(node_id, f"{timer.sentence()}\n{text}"))
    timer.attach(patched)
    return io.NodeOutput(patched, text, ui=text_output(node_id, text))
