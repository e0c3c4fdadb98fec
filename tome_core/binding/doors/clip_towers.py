"""The CLIP text encoders of a diffusers pipeline, and how their tokenizers cut a prompt into tokens."""

import re
from dataclasses import dataclass
from inspect import signature
from typing import Any, Final

from torch import nn

from ...errors import UnsupportedModelError
from ..rows.table import TokenTable, read_tokens, token_bytes

_PAIRS: Final = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))


@dataclass(frozen=True)
class Tower:
    """One text encoder of a pipeline, and the number of columns that it adds to the rows."""

    pipeline: Any
    tokenizer: Any
    encoder: nn.Module
    width: int

    def read(self, text: str) -> TokenTable:
        """Return the table of a prompt, cut as the pipeline's own encoding cuts it; no token has what is cut off.

        Raises:
            OtherTokensError: the tokens are not those of the text.
        """
        convert = getattr(self.pipeline, "maybe_convert_prompt", None)  # each word of textual inversion to its tokens
        converted = text if convert is None else convert(text, self.tokenizer)
        ids = self.tokenizer(converted, truncation=True, max_length=self.tokenizer.model_max_length).input_ids
        added = self.tokenizer.get_added_vocab()
        tokens = self.tokenizer.convert_ids_to_tokens(ids[1:-1])
        return read_tokens(text, [[_added_bytes(x, added) if x in added else token_bytes(x) for x in tokens]])


def find_towers(pipeline: object) -> tuple[Tower, ...]:
    """Return the text encoders of a pipeline in the order of their columns.

    Raises:
        UnsupportedModelError: it has none, or one that is not CLIP's, or it does not encode its prompts by
            `encode_prompt`; the message names what there is.
    """
    name = type(pipeline).__name__
    if getattr(pipeline, "unet", None) is None:
        raise _unsupported(name)
    encode = getattr(type(pipeline), "encode_prompt", None)
    if encode is None or "prompt" not in signature(encode).parameters:
        raise _unsupported(f"{name}, which does not encode its prompts by encode_prompt")
    towers: list[Tower] = []
    for names in _PAIRS:
        tokenizer, encoder = (getattr(pipeline, part, None) for part in names)
        missing = [part for part in names if getattr(pipeline, part, None) is None]
        if len(missing) == 2 and (towers or hasattr(pipeline, "tokenizer_2")):
            continue  # SD has the first alone, and SDXL's refiner the second
        if missing or encoder is None:
            raise _unsupported(f"{name} without {' and '.join(missing)}")
        if not any(cls.__name__.startswith("CLIPText") for cls in type(encoder).__mro__):
            raise _unsupported(f"{name} with a {type(encoder).__name__}")
        towers.append(Tower(pipeline, tokenizer, encoder, encoder.config.hidden_size))
    if not towers:
        raise _unsupported(f"{name} without a text encoder")
    return tuple(towers)


def _unsupported(found: str) -> UnsupportedModelError:
    supported = "a Stable Diffusion or SDXL pipeline with its tokenizers and CLIP text encoders"
    return UnsupportedModelError(f"pipeline must be {supported}, got {found}")


def _added_bytes(token: str, added: dict[str, int]) -> bytes | None:
    """Return the bytes of a token of textual inversion, as the prompt has them; None for its second and later ones."""
    base = re.sub(r"_\d+$", "", token)
    if base != token and base in added:
        return None
    return "".join(letter.lower() for letter in token).encode()
