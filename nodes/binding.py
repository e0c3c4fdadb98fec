"""ToMe Bind Prompt: CLIP Text Encode that keeps each thing of a prompt and its words together."""

from functools import partial
from typing import Any

from comfy_api.latest import io

from ..tome_core.presets import BINDING_PRESETS, binding_preset
from .node_text import text_output
from .presets import preset_fingerprint, preset_inputs, preset_mistake
from .schema import CATEGORY, schema


class ToMeBindPrompt(io.ComfyNode):
    """Encodes a prompt with each thing and its words as one token."""

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
                "Use it in place of CLIP Text Encode for the positive prompt. It finds each thing in the prompt with "
                "its colour and clothes, and binds them, so that the hat stays on the right dog. For SD 1.x, SD 2.x "
                "and SDXL; with other models it does what CLIP Text Encode does."
            ),
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder, from the checkpoint loader."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip=(
                        "The prompt, in English sentences or tags. The node finds the groups and shows them. To "
                        "choose them yourself, mark each one: ~a red cat wearing a hat~. If it takes the wrong word "
                        "as the thing, put ^ before the right one: ~a red ^cat~. Weights (red:1.3) and "
                        "embedding:names work as usual."
                    ),
                ),
                *preset_inputs(
                    "binding",
                    BINDING_PRESETS[0],
                    "How strongly to bind. 0 is CLIP Text Encode, bit for bit.",
                ),
                io.String.Input(
                    "groups",
                    default="",
                    optional=True,
                    tooltip="Groups without marks, in the prompt's own words: cat: red, wearing a hat; dog: black.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="conditioning", tooltip="The encoded prompt, with its groups."),
                io.String.Output(display_name="report", tooltip="What was bound, what was not, and why."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(
        cls,
        text: str | None = None,
        groups: str | None = None,
        strength: float | None = None,
        preset: str | None = None,
    ) -> bool | str:
        """Return True, or the rule that is broken; what comes by wire is not known yet.

        The host checks no bounds of what is named here, so those of `strength` are checked here as well.
        """
        from ..tome_core.binding import BindingConfig, phrases

        if mistake := preset_mistake("binding", preset):
            return mistake
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
    def fingerprint_inputs(cls, preset: str | None = None, **_: Any) -> str:
        """Return what changes with the preset's file."""
        return preset_fingerprint("binding", preset)

    @classmethod
    def execute(cls, clip: Any, text: str, preset: str, strength: float, groups: str = "") -> io.NodeOutput:
        """Encode the prompt and bind it; one that cannot be read is encoded as it is, and the report says why."""
        from ..tome_core.binding import phrases
        from ..tome_core.binding.doors.conditioning import bind_conditioning
        from ..tome_core.binding.parsing.markup import unmarked
        from .host_clip import host_clip

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
        return io.NodeOutput(conditioning, report, ui=text_output(cls.hidden.unique_id, report))
