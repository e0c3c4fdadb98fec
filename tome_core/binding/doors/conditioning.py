"""Binding on a CONDITIONING, ComfyUI's list of [rows, extras]: `bind_conditioning(text, config, host)`.

No host is imported: it comes as the functions that it encodes a prompt with. It cuts a prompt into chunks of (token,
weight, word number) for each text encoder, in which start, end and padding have word number 0. A token is a number of
CLIP's vocabulary, or a vector in place of one (textual inversion). Nothing of the host's is changed in place.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import torch

from ...attention_maps import PHRASES_KEY
from ..config import BindingConfig
from ..encoding import Encoded, TextEncoder, encode_bound, read_prompt, report
from ..parsing.parse import Span
from ..parsing.phrases import Parser, phrases, phrases_or_none
from ..rows.composite import CHUNK
from ..rows.table import OtherTokensError, TokenTable, read_tokens, token_bytes

Conditioning = list[list[Any]]
Chunk = Sequence[tuple[Any, ...]]
Tokens = Mapping[str, Sequence[Chunk]]

_CLIP: Final = ("l", "h", "g")
"""The names of CLIP's text encoders, in the order of their columns."""

_EMBEDDING: Final = re.compile(r"(?<!\S)embedding:[^\s]*[^\s,]")
_MOST_BRACKETS: Final = 100  # inside each other
_AS_IT_IS: Final = "The prompt is encoded as CLIP Text Encode does."


@dataclass(frozen=True)
class HostClip:
    """How a host encodes a prompt.

    Attributes:
        tokenize: from a prompt to tokens as `encode` takes them, with word numbers if the second argument says so.
        encode: from tokens to a CONDITIONING, weights applied.
        spell: from a token's number to the token as CLIP's vocabulary writes it.
        widths: the number of columns of each text encoder, by name; not needed where there is one alone.
    """

    tokenize: Callable[[str, bool], Tokens]
    encode: Callable[[Tokens], Conditioning]
    spell: Callable[[int], str]
    widths: Mapping[str, int]


class BoundConditioning(NamedTuple):
    """A CONDITIONING, and what was bound in it in sentences for the user."""

    conditioning: Conditioning
    report: str


def bind_conditioning(
    text: str, config: BindingConfig, host: HostClip, *, parser: Parser = phrases
) -> BoundConditioning:
    """Return the CONDITIONING of a prompt with its groups bound, for one more run of the text encoder.

    At strength 0, without groups, and with text encoders other than CLIP's alone, it is what the host itself makes of
    the prompt without its marks, bit for bit; the report then says why. At strength 0 nothing is refused: markup that
    breaks a rule stays in the prompt. Pooled vectors stay. The `BoundPrompt` travels with the config in each
    entry's extras under `PHRASES_KEY`.

    Raises:
        ValueError: the parser refuses the prompt.
    """
    parse = phrases_or_none(text, parser) if config.is_neutral else parser(text)
    encoder = _HostEncoder(host)
    prompt = read_prompt([parse] * max(1, len(encoder.widths)), encoder)
    (rows, *_), conditioning = encode_bound([prompt], encoder, config)
    if prompt.rows:
        bound = zip(rows, conditioning, strict=True)
        extra = {PHRASES_KEY: replace(prompt.bound, config=config)}
        conditioning = [[own.unsqueeze(0), extras | extra] for own, (_, extras) in bound]
    if config.is_neutral:
        return BoundConditioning(conditioning, f"Strength 0. {_AS_IT_IS}")
    return BoundConditioning(conditioning, report(prompt) + ("" if prompt.rows else f"\n{_AS_IT_IS}"))


def find_config(conditioning: Conditioning) -> BindingConfig | None:
    """Return how `bind_conditioning` bound the first bound prompt of a CONDITIONING; None where none is."""
    prompts = (extras[PHRASES_KEY] for _, extras in conditioning if PHRASES_KEY in extras)
    return next((prompt.config for prompt in prompts), None)


def kept_characters(text: str) -> frozenset[int]:
    """Return the indices of the characters of a ComfyUI prompt that reach the tokenizer: not its brackets and weights.

    Brackets count only where they open and close a whole stretch; escaped ones, `\\(`, are text. A colon at which the
    last number of a bracket begins is its weight. All other text reaches the tokenizer as it is.

    Raises:
        OtherTokensError: more than `_MOST_BRACKETS` brackets are inside each other.
    """
    text = text.replace("\\)", "\0\1").replace("\\(", "\0\2")  # as the host does
    return frozenset(index for index in _without_weights(text, 0) if text[index] != "\0")


def embedding_names(text: str, kept: frozenset[int]) -> tuple[Span, ...]:
    """Return where a prompt names embeddings, `embedding:name`, which may come out as vectors or as nothing."""
    spaced = "".join(letter if index in kept else " " for index, letter in enumerate(text))
    return tuple(Span(*found.span()) for found in _EMBEDDING.finditer(spaced))


class _HostEncoder(TextEncoder):
    """A host's text encoders for one prompt. Those that are not CLIP's alone get the prompt as they cut it."""

    def __init__(self, host: HostClip) -> None:
        self._host = host
        self._empty = host.tokenize("", True)
        self._others = sorted(set(self._empty) - set(_CLIP))
        self._names = [name for name in _CLIP if name in self._empty]
        self.widths = [host.widths.get(name, 0) for name in self._names]

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        return self._host.tokenize(texts[0], not self._others)

    def tables(self, texts: Sequence[str], tokens: Tokens) -> list[TokenTable]:
        if self._others or not self._names:
            got = ", ".join(self._others) or "none"
            raise OtherTokensError(f"text encoders must be CLIP's alone (SD 1.x, SD 2.x, SDXL), got {got}")
        if len({len(chunks) for chunks in tokens.values()}) > 1:
            raise OtherTokensError("text encoders must cut the prompt into as many chunks each, got different numbers")
        kept = kept_characters(texts[0])
        names = embedding_names(texts[0], kept)
        cut = [[_bytes(_words(chunk), self._host.spell) for chunk in tokens[name]] for name in self._names]
        return [read_tokens(texts[0], chunks, kept=kept, vectors=names) for chunks in cut]

    def without(self, tokens: Tokens, removed: Sequence[Sequence[int]]) -> Tokens:
        shorter = {}
        for name, gone in zip(self._names, removed, strict=True):
            pad, chunks = self._empty[name][0][-1], []
            for first, chunk in zip(range(0, CHUNK * len(tokens[name]), CHUNK), tokens[name], strict=True):
                left = [entry for row, entry in enumerate(chunk, first) if row not in gone]
                chunks.append(left + [pad] * (len(chunk) - len(left)))
            shorter[name] = chunks
        return shorter

    def encode(self, prompts: Sequence[Tokens], *, rows_only: bool = False) -> Encoded:
        (tokens,) = prompts
        if self._others:
            return Encoded([torch.empty(0)], self._host.encode(tokens))
        plain = {name: [[entry[:2] for entry in chunk] for chunk in chunks] for name, chunks in tokens.items()}
        conditioning = self._host.encode(plain)
        return Encoded([torch.cat([rows for rows, _ in conditioning])], conditioning)


def _words(chunk: Chunk) -> Chunk:
    """Return a chunk's tokens without start, end and padding.

    Raises:
        OtherTokensError: it is no chunk of `CHUNK` rows as CLIP has them.
    """
    words = [entry for entry in chunk if entry[2] != 0]
    last = len(words) + 1
    if len(chunk) != CHUNK or last >= CHUNK or chunk[0][2] != 0 or any(entry[2] != 0 for entry in chunk[last:]):
        raise OtherTokensError(f"tokens must be in chunks of {CHUNK} with start and end, got {len(chunk)} in one")
    return words


def _bytes(words: Chunk, spell: Callable[[int], str]) -> list[bytes | None]:
    """Return tokens as UTF-8: empty for a vector, None for a further vector of the same word."""
    found: list[bytes | None] = []
    for before, (token, _, number) in zip([None, *words], words, strict=False):
        goes_on = before is not None and not isinstance(before[0], int) and before[2] == number
        found.append(token_bytes(spell(token)) if isinstance(token, int) else None if goes_on else b"")
    return found


def _without_weights(text: str, start: int, depth: int = 0) -> Iterator[int]:
    """Yield the indices of a text, the first of them `start`, without the brackets and the weight of each stretch."""
    if depth > _MOST_BRACKETS:
        raise OtherTokensError(f"brackets must be at most {_MOST_BRACKETS} inside each other, got more")
    for stretch in _stretches(text):
        if len(stretch) > 1 and stretch[0] == "(" and stretch[-1] == ")":
            yield from _without_weights(_without_number(stretch[1:-1]), start + 1, depth + 1)
        else:
            yield from range(start, start + len(stretch))
        start += len(stretch)


def _stretches(text: str) -> list[str]:
    """Return the stretches that brackets separate at the outermost depth.

    A bracket that closes none leaves the depth below 0, as it does in the host, and those behind it separate nothing.
    """
    stretches, depth = [""], 0
    for letter in text:
        if letter == "(" and depth == 0:
            stretches.append("")
        stretches[-1] += letter
        depth += (letter == "(") - (letter == ")")
        if letter == ")" and depth == 0:
            stretches.append("")
    return stretches


def _without_number(text: str) -> str:
    """Return the inside of a pair of brackets without the weight at its end."""
    words, _, number = text.rpartition(":")
    try:
        float(number)
    except ValueError:
        return text
    return words or text
