"""How ComfyUI's CLIP cuts and encodes a prompt, as functions for the core."""

from typing import Any

from ..tome_core.binding.doors.conditioning import HostClip


def host_clip(clip: Any) -> HostClip:
    """Return how ComfyUI's CLIP encodes a prompt."""
    encoders = {name: getattr(clip.cond_stage_model, f"clip_{name}", None) for name in ("l", "g")}
    return HostClip(
        tokenize=lambda text, numbered: clip.tokenize(text, return_word_ids=True) if numbered else clip.tokenize(text),
        encode=clip.encode_from_tokens_scheduled,
        spell=lambda token: clip.tokenizer.untokenize([(token, 1.0)])[0][1],
        widths={
            name: encoder.transformer.get_input_embeddings().weight.shape[1]
            for name, encoder in encoders.items()
            if encoder is not None
        },
    )
