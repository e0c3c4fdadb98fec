"""The CLIP text encoders of a diffusers pipeline, and how their tokenizers cut a prompt into tokens."""

import inspect
import re
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, Final

from torch import nn

from ...errors import UnsupportedModelError
from ..rows.table import TokenTable, read_tokens, token_bytes

_PAIRS: Final = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))


@dataclass(frozen=True)
class Tower:
    """One text encoder's side of the conditioning.

    Attributes:
        pipeline: where it is from; replaces the words of textual inversion by one word a token.
        tokenizer: its tokenizer.
        encoder: the text encoder.
        width: the number of columns that it adds to the rows.
    """

    pipeline: Any
    tokenizer: Any
    encoder: nn.Module
    width: int

    def read(self, text: str) -> TokenTable:
        """Return the table of a prompt, cut as the pipeline's own encoding cuts it; no token has what is cut off.

        Raises:
            OtherTokensError: the tokens are not those of the text.
        """
        converted = text
        if hasattr(self.pipeline, "maybe_convert_prompt"):
            converted = self.pipeline.maybe_convert_prompt(text, self.tokenizer)
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
    if not _encodes_prompts(type(pipeline)):
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


def _encodes_prompts(kind: type) -> bool:
    """Return whether a class has an `encode_prompt` for prompts, and its call leads there by the names in its code.

    What the call hands on to is followed through its own methods, and through functions that its modules have.
    """
    encode = getattr(kind, "encode_prompt", None)
    if encode is None or "prompt" not in inspect.signature(encode).parameters:
        return False
    todo, seen = _methods(kind, "__call__"), set[FunctionType]()
    while todo:
        function = todo.pop()
        seen.add(function)
        names = _names(function.__code__)
        if "encode_prompt" in names:
            return True
        found = [_function(function.__globals__.get(name)) for name in names]
        found += [method for name in names for method in _methods(kind, name)]
        todo += [each for each in found if each is not None and each not in seen]
    return not seen  # there is no Python code to look at


def _methods(kind: type, name: str) -> list[FunctionType]:
    """Return the method of a name that a class's objects have, and those that it calls by `super`."""
    found: list[FunctionType] = []
    for method in (_function(vars(cls).get(name)) for cls in kind.__mro__):
        if method is not None and (not found or "super" in _names(found[-1].__code__)):
            found.append(method)
    return found


def _function(member: object) -> FunctionType | None:
    """Return the function behind a member of a class or module, without what decorates it."""
    if isinstance(member, property):
        member = member.fget
    member = getattr(member, "__func__", member)
    member = inspect.unwrap(member) if isinstance(member, FunctionType) else None
    return member if isinstance(member, FunctionType) else None


def _names(code: CodeType) -> set[str]:
    """Return the names that some code, and the functions inside of it, read."""
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _added_bytes(token: str, added: dict[str, int]) -> bytes | None:
    """Return the bytes of a token of textual inversion, as the prompt has them; None for its second and later ones."""
    base = re.sub(r"_\d+$", "", token)
    if base != token and base in added:
        return None
    return "".join(letter.lower() for letter in token).encode()
