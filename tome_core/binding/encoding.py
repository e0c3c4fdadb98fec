"""How prompts are encoded with their groups bound, once for all hosts: each door gives its host as a `TextEncoder`.

`read_prompt` finds the rows of each group before anything is encoded, so that a door can refuse or report what cannot
be bound; `encode_bound` encodes the prompts, encodes them once more without modifiers, and binds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Protocol

import torch
from torch import Tensor

from ..attention_maps import Phrase
from .config import BindingConfig
from .parsing.parse import Group, Parse
from .rows.composite import CHUNK, PromptRows, RowGroup, bind_rows
from .rows.table import OtherTokensError, TokenTable, row_group

_NO_GROUPS: Final = (
    "No groups found. A group is a thing with words that describe it, as in 'a red cat'. "
    "To be sure, mark it in the prompt: ~a red cat~."
)


class Encoded(NamedTuple):
    """What a host makes of prompts: rows [entries, T, D] for each, and whatever else it gives."""

    rows: Sequence[Tensor]
    rest: Any


class TextEncoder(Protocol):
    """How a host reads and encodes prompts, by one text encoder or several whose columns stand side by side."""

    widths: Sequence[int]
    """The number of columns of each text encoder, in their order."""

    def tokenise(self, texts: Sequence[str]) -> Any:
        """Return the tokens of a prompt as `encode` takes them, given the text that each text encoder reads."""
        ...

    def tables(self, texts: Sequence[str], tokens: Any) -> Sequence[TokenTable]:
        """Return what each text encoder reads, given `tokens` of `texts`. Raises `OtherTokensError`."""
        ...

    def encode(self, prompts: Sequence[Any], *, rows_only: bool = False) -> Encoded:
        """Return the rows of prompts, given the tokens of each; with `rows_only` nothing else is needed."""
        ...

    def without(self, tokens: Any, removed: Sequence[Sequence[int]]) -> Any:
        """Return tokens of several chunks without some rows of each text encoder, each chunk padded anew.

        Raises `OtherTokensError` where the host cannot do that; the prompt then stays unbound.
        """
        raise OtherTokensError("a prompt of several chunks cannot lose its modifiers here: shorten it")


@dataclass(frozen=True)
class BoundPrompt:
    """What is bound in one prompt.

    Attributes:
        parse: of its text.
        groups: each group's rows for the first text encoder; none if unbound.
        config: how they are bound, where a door says so.
    """

    parse: Parse
    groups: tuple[RowGroup, ...]
    config: BindingConfig | None = None

    @property
    def phrases(self) -> tuple[Phrase, ...]:
        """Each thing with the row of its composite, as attention maps show it; none if unbound."""
        if not self.groups:
            return ()
        pairs = zip(self.parse.labels, self.groups, strict=True)
        return tuple(Phrase(label, rows.noun[:1]) for label, rows in pairs)


@dataclass(frozen=True)
class ReadPrompt:
    """One prompt as a host reads it.

    Attributes:
        bound: what is bound in it.
        rows: the bound rows, by text encoder; none if nothing is bound.
        tokens: as the host encodes them.
        bare: the same, without modifiers.
        refused: why groups, or the whole prompt if it is an `OtherTokensError`, are not bound.
    """

    bound: BoundPrompt
    rows: tuple[PromptRows, ...]
    tokens: Any
    bare: Any
    refused: tuple[ValueError, ...] = ()


def read_prompt(parses: Sequence[Parse], encoder: TextEncoder) -> ReadPrompt:
    """Return a prompt with the rows of its groups, given the parse of what each text encoder reads.

    A group is bound where every text encoder that reads it has it in one chunk. Without modifiers, a prompt of one
    chunk is that of `Parse.bare`, whose articles fit again. Of several chunks each loses its modifiers and is padded,
    so that it stays beside its own, which a prompt that is cut anew does not promise.
    """
    texts = [parse.text for parse in parses]
    tokens = encoder.tokenise(texts)
    unbound = ReadPrompt(BoundPrompt(parses[0], ()), (), tokens, tokens)
    if not any(parse.groups for parse in parses):
        return unbound
    try:
        tables = encoder.tables(texts, tokens)
        refused = _misfits(parses, tables)
        parses = [Parse(own.text, tuple(x for x in own.groups if (own, x) not in refused)) for own in parses]
        pairs = list(zip(parses, tables, strict=True))
        groups = [tuple(row_group(own, group, table) for group in own.groups) for own, table in pairs]
        if not any(groups):
            return replace(unbound, refused=tuple(refused.values()))
        if all(len(table.ends) == 1 for table in tables):
            texts = [parse.bare for parse in parses]
            bare = encoder.tokenise(texts)
            bare_ends = [table.ends for table in encoder.tables(texts, bare)]
        else:
            removed = [[row for group in own for row in group.modifiers] for own in groups]
            bare = encoder.without(tokens, removed)
            bare_ends = [_ends_without(*pair) for pair in zip(tables, removed, strict=True)]
    except OtherTokensError as error:
        return replace(unbound, refused=(error,))
    rows = tuple(PromptRows(own, table.ends, ends) for own, table, ends in zip(groups, tables, bare_ends, strict=True))
    return ReadPrompt(BoundPrompt(parses[0], groups[0]), rows, tokens, bare, tuple(refused.values()))


def encode_bound(prompts: Sequence[ReadPrompt], encoder: TextEncoder, config: BindingConfig) -> Encoded:
    """Return what the host makes of prompts, their rows bound; at strength 0 or without groups its very rows.

    Rows are bound after the host has weighted them, so `(red:1.3)` counts more in its composite token. It costs one
    more run of the text encoders, and none if `ends` is "off".
    """
    encoded = encoder.encode([prompt.tokens for prompt in prompts])
    if config.is_neutral or not any(prompt.rows for prompt in prompts):
        return encoded
    bare = encoder.encode([prompt.bare for prompt in prompts], rows_only=True) if config.ends != "off" else encoded
    bound = []
    for prompt, rows, bare_rows in zip(prompts, encoded.rows, bare.rows, strict=True):
        entries = zip(rows, bare_rows, strict=True)
        bound.append(torch.stack([_bind(*entry, prompt.rows, encoder.widths, config) for entry in entries]))
    return Encoded(bound, encoded.rest)


def report(prompt: ReadPrompt) -> str:
    """Return what is bound in a prompt and what is not and why, in lines for the user."""
    parse = prompt.bound.parse
    lines = [f"{parse.words(group.subject)}: {parse.modifiers(group)}" for group in parse.groups if prompt.rows]
    for error in prompt.refused:
        lines.append(f"{'Nothing bound' if isinstance(error, OtherTokensError) else 'Left unbound'}: {error}.")
    return "\n".join(lines) or _NO_GROUPS


def _misfits(parses: Sequence[Parse], tables: Sequence[TokenTable]) -> dict[tuple[Parse, Group], ValueError]:
    """Return the groups, each with its parse, that some table does not have whole in one chunk, and why."""
    found: dict[tuple[Parse, Group], ValueError] = {}
    for parse, table in zip(parses, tables, strict=True):
        for group in parse.groups:
            try:
                row_group(parse, group, table)
            except ValueError as error:
                found.setdefault((parse, group), error)
    return found


def _ends_without(table: TokenTable, removed: Sequence[int]) -> tuple[int, ...]:
    """Return the row of each chunk's end token where some rows are gone."""
    return tuple(end - sum(row // CHUNK == chunk for row in removed) for chunk, end in enumerate(table.ends))


def _bind(
    rows: Tensor, bare_rows: Tensor, prompt: Sequence[PromptRows], widths: Sequence[int], config: BindingConfig
) -> Tensor:
    """Return bound rows [T, D], whose columns are those of each text encoder in turn."""
    if not prompt:
        return rows
    widths = widths if len(prompt) > 1 else [rows.shape[-1]]
    parts = zip(rows.split(widths, dim=-1), bare_rows.split(widths, dim=-1), prompt, strict=True)
    return torch.cat([bind_rows(own, bare, where, config) for own, bare, where in parts], dim=-1)
