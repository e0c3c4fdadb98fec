"""ToMe Bind Prompt: CLIP Text Encode that keeps with each thing what the prompt says of it."""

from functools import partial
from typing import Any

from comfy_api.latest import io

from ..tome_core.binding import BindingConfig, phrases
from ..tome_core.binding.doors.conditioning import bind_conditioning
from ..tome_core.binding.parsing.markup import unmarked
from ..tome_core.presets import BINDING_PRESETS, binding_preset
from .host_clip import host_clip
from .presets import preset_inputs
from .schema import CATEGORY, schema
from .telling import tell


class ToMeBindPrompt(io.ComfyNode):
    """Encodes a prompt with each thing and what is said of it as one token."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to ComfyUI."""
        return schema(
            node_id="ToMeBindPrompt",
            display_name="ToMe Bind Prompt",
            category=CATEGORY,
            search_aliases=[
                "text encode",
                "prompt",
                "semantic binding",
                "attribute binding",
                "color bleeding",
                "cutoff",
            ],
            description=(
                "Takes the place of CLIP Text Encode for the positive prompt. It finds the things in the prompt and "
                "what is said of each, and merges the two in the encoded prompt, so that a hat stays on the dog that "
                "wears it. SD 1.x, SD 2.x and SDXL; other models get the prompt as CLIP Text Encode makes it."
            ),
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder, from the checkpoint loader."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip=(
                        "The prompt, in English sentences or tags. Groups are found by themselves; to choose them, "
                        "mark each: ~a red cat wearing a hat~, with ^ before the thing where the rules would take "
                        "another: ~a red ^cat~. Weights (red:1.3) and embedding:names work as ever."
                    ),
                ),
                *preset_inputs(
                    "binding",
                    BINDING_PRESETS[0],
                    "How far to go from CLIP Text Encode, which 0 is bit for bit, to the bound prompt.",
                ),
                io.String.Input(
                    "groups",
                    default="",
                    optional=True,
                    tooltip="Groups apart from the prompt, in its words: cat: red, wearing a hat; dog: black.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="conditioning", tooltip="The encoded prompt, with its groups."),
                io.String.Output(display_name="report", tooltip="What was bound, and what was not and why."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(
        cls, text: str | None = None, groups: str | None = None, strength: float | None = None
    ) -> bool | str:
        """Return True, or the rule that is broken; what comes by wire is not known yet.

        The host checks no bounds of what is named here, so those of `strength` are checked here as well.
        """
        if strength is not None:
            try:
                BindingConfig(strength=strength)
            except ValueError as mistake:
                return str(mistake)
        if not isinstance(text, str) or strength == 0:
            return True
        try:
            phrases(text, groups if isinstance(groups, str) else "")
        except ValueError as mistake:
            return str(mistake)
        return True

    @classmethod
    def execute(cls, clip: Any, text: str, preset: str, strength: float, groups: str = "") -> io.NodeOutput:
        """Encode the prompt and bind it; one that cannot be read is encoded as it is, and the report says why."""
        if clip is None:
            raise RuntimeError("clip must be a text encoder, got None: the checkpoint has none, load one beside it")
        try:
            bound = bind_conditioning(
                text, binding_preset(preset, strength), host_clip(clip), parser=partial(phrases, listing=groups)
            )
            conditioning, report = bound.conditioning, bound.report
        except ValueError as mistake:
            conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(unmarked(text)))
            report = f"Nothing bound: {mistake}. The prompt is encoded as CLIP Text Encode does."
        tell(cls.hidden.unique_id, report)
        return io.NodeOutput(conditioning, report)
