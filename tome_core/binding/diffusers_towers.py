"""The CLIP text encoders of a diffusers pipeline, and how their tokenizers cut a prompt into tokens."""

import re
from dataclasses import dataclass
from typing import Any, Final

from ..errors import UnsupportedModelError
from .table import TokenTable, read_tokens, token_bytes

_SUPPORTED: Final = "a Stable Diffusion or SDXL pipeline with its tokenizers and CLIP text encoders"
_PAIRS: Final = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))


@dataclass(frozen=True)
class Tower:
    """One text encoder's side of the conditioning.

    Attributes:
        pipeline: where it is from; replaces the words of textual inversion by one word a token.
        tokenizer: its tokenizer.
        width: the number of columns that it adds to the rows.
    """

    pipeline: Any
    tokenizer: Any
    width: int

    def read(self, text: str) -> TokenTable:
        """Return the table of a prompt. What the tokenizer cuts off is in none of its rows."""
        return read_tokens(text, [self._tokens(text)])

    def end_of(self, text: str) -> int:
        """Return the row of a prompt's end token."""
        return len(self._ids(text)) - 1

    def _ids(self, text: str) -> list[int]:
        """Return the prompt's token numbers, start and end token with them, as the pipeline's own encoding has them."""
        if hasattr(self.pipeline, "maybe_convert_prompt"):
            text = self.pipeline.maybe_convert_prompt(text, self.tokenizer)
        return self.tokenizer(text, truncation=True, max_length=self.tokenizer.model_max_length).input_ids

    def _tokens(self, text: str) -> list[bytes | None]:
        added = self.tokenizer.get_added_vocab()
        tokens = self.tokenizer.convert_ids_to_tokens(self._ids(text)[1:-1])
        return [_added_bytes(token, added) if token in added else token_bytes(token) for token in tokens]


def find_towers(pipeline: object) -> tuple[Tower, ...]:
    """Return the text encoders of a pipeline in the order of their columns.

    Raises:
        UnsupportedModelError: it has none, or one that is not CLIP's; the message names what there is.
    """
    name = type(pipeline).__name__
    if not hasattr(pipeline, "encode_prompt") or getattr(pipeline, "unet", None) is None:
        raise UnsupportedModelError(f"pipeline must be {_SUPPORTED}, got {name}")
    towers = []
    for tokenizer_name, encoder_name in _PAIRS:
        tokenizer, encoder = (getattr(pipeline, x, None) for x in (tokenizer_name, encoder_name))
        if tokenizer is None and encoder is None and hasattr(pipeline, "tokenizer_2"):
            continue  # SDXL's refiner has the second alone, and SD the first
        missing = [x for x, y in ((tokenizer_name, tokenizer), (encoder_name, encoder)) if y is None]
        if towers and len(missing) == 2:
            continue
        if missing or encoder is None:
            raise UnsupportedModelError(f"pipeline must be {_SUPPORTED}, got {name} without {' and '.join(missing)}")
        if not any(cls.__name__.startswith("CLIPText") for cls in type(encoder).__mro__):
            found = f"{name} with a {type(encoder).__name__}"
            raise UnsupportedModelError(f"pipeline must be {_SUPPORTED}, got {found}")
        towers.append(Tower(pipeline, tokenizer, encoder.config.hidden_size))
    if not towers:
        raise UnsupportedModelError(f"pipeline must be {_SUPPORTED}, got {name} without a text encoder")
    return tuple(towers)


def _added_bytes(token: str, added: dict[str, int]) -> bytes | None:
    """Return the bytes of a token of textual inversion, as the prompt has them; None for its second and later ones."""
    base = re.sub(r"_\d+$", "", token)
    if base != token and base in added:
        return None
    return "".join(letter.lower() for letter in token).encode()
