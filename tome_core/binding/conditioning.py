"""Binding on a CONDITIONING, ComfyUI's list of [rows, extras]: `bind_conditioning(text, config, host)`.

No host is imported: it comes as the functions that it encodes a prompt with. Nothing of the host's is changed in place.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from .bound import BoundPrompt
from .composite import Layout, bind_rows
from .config import BindingConfig
from .host_tokens import CLIP_TOWERS, Spell, Tokens, TowerTokens, read_tower, readable_groups, without_rows
from .parse import Parse
from .phrases import phrases, phrases_or_none
from .table import OtherTokensError, row_groups

Conditioning = list[list[Any]]
Parser = Callable[[str], Parse]

GROUPS_KEY: Final = "tome_binding"
"""The key of a conditioning's extras under which its `BoundPrompt` travels."""

_AS_IT_IS: Final = "The prompt is encoded as CLIP Text Encode does."


@dataclass(frozen=True)
class HostClip:
    """How a host encodes a prompt.

    Attributes:
        tokenize: from a prompt to tokens as `encode` takes them, with word numbers if the second argument says so.
        encode: from tokens to a CONDITIONING, weights applied.
        spell: from a token's number to the token as CLIP's vocabulary writes it.
        widths: the number of columns of each text encoder, by name; where there is one alone it need not be told.
    """

    tokenize: Callable[[str, bool], Tokens]
    encode: Callable[[Tokens], Conditioning]
    spell: Spell
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
    breaks a rule stays in the prompt. Rows are bound after the host has weighted them, so `(red:1.3)` counts more in
    its composite token. Pooled vectors stay. What was bound travels in each entry's extras under `GROUPS_KEY`.

    A prompt of several chunks takes each chunk's end tokens from that same chunk without its attributes; one of a
    single chunk from `Parse.bare`, as the diffusers door does, whose articles fit again.

    Raises:
        ValueError: the parser refuses the prompt.
    """
    if config.is_neutral:
        return _unbound(phrases_or_none(text, parser), host, f"Strength 0. {_AS_IT_IS}")
    parse = parser(text)
    if not parse.groups:
        return _unbound(parse, host, f"No groups found. {_AS_IT_IS} {_HINT}")
    tokens = host.tokenize(parse.text, False)
    encoded = host.encode(tokens)
    try:
        towers = _read_towers(parse.text, host)
        parse, notes = readable_groups(parse, list(towers.values()))
        if not parse.groups:
            return BoundConditioning(encoded, "\n".join([*notes, _AS_IT_IS]))
        layouts, bare = _layouts(parse, towers, tokens, host)
    except OtherTokensError as error:
        return BoundConditioning(encoded, f"Nothing bound: {error}. {_AS_IT_IS}")
    substitutes = host.encode(bare) if config.ends != "off" else encoded
    bound = BoundPrompt(parse, next(iter(layouts.values())).groups)
    conditioning = [
        [_bind(rows, other[0], layouts, host, config), {**extras, GROUPS_KEY: bound}]
        for (rows, extras), other in zip(encoded, substitutes, strict=True)
    ]
    return BoundConditioning(conditioning, "\n".join([tell_groups(bound), *notes]))


def tell_groups(bound: BoundPrompt) -> str:
    """Return a line for each group: the thing, what is said of it, and the rows of both."""
    lines = []
    for group, rows in zip(bound.parse.groups, bound.groups, strict=True):
        said = " + ".join(map(bound.parse.words, group.modifiers))
        lines.append(f"{bound.parse.words(group.subject)}: {said} (rows {_sum(rows.noun + rows.modifiers)})")
    return "\n".join(lines)


_HINT: Final = "A group is a thing and what is said of it, as in 'a red cat'; mark it to be sure: ~a red cat~."


def _sum(rows: Sequence[int]) -> str:
    return " + ".join(map(str, rows))


def _unbound(parse: Parse, host: HostClip, report: str) -> BoundConditioning:
    """Return the host's own conditioning; its groups travel along."""
    conditioning = host.encode(host.tokenize(parse.text, False))
    if not parse.groups:
        return BoundConditioning(conditioning, report)
    try:
        towers = _read_towers(parse.text, host)
    except OtherTokensError:
        return BoundConditioning(conditioning, report)
    parse, _ = readable_groups(parse, list(towers.values()))
    if not parse.groups:
        return BoundConditioning(conditioning, report)
    bound = BoundPrompt(parse, row_groups(parse, next(iter(towers.values())).table))
    return BoundConditioning([[rows, {**extras, GROUPS_KEY: bound}] for rows, extras in conditioning], report)


def _read_towers(text: str, host: HostClip) -> dict[str, TowerTokens]:
    """Return what each text encoder reads, in the order of their columns.

    Raises:
        OtherTokensError: one is not CLIP's, or their chunks are not of one number.
    """
    tokens = host.tokenize(text, True)
    others = sorted(set(tokens) - set(CLIP_TOWERS))
    if others or not tokens:
        got = ", ".join(others) or "none"
        raise OtherTokensError(f"text encoders must be CLIP's alone (SD 1.x, SD 2.x, SDXL), got {got}")
    if len({len(chunks) for chunks in tokens.values()}) > 1:
        raise OtherTokensError("text encoders must cut the prompt into as many chunks each, got different numbers")
    return {name: read_tower(text, tokens[name], host.spell) for name in CLIP_TOWERS if name in tokens}


def _layouts(
    parse: Parse, towers: Mapping[str, TowerTokens], tokens: Tokens, host: HostClip
) -> tuple[dict[str, Layout], Tokens]:
    """Return the layout of each text encoder, and the tokens of the prompt without attributes."""
    groups = {name: row_groups(parse, tower.table) for name, tower in towers.items()}
    if all(len(tower.ends) == 1 for tower in towers.values()):
        bare_towers = _read_towers(parse.bare, host)
        bare = host.tokenize(parse.bare, False)
        return {name: Layout(groups[name], towers[name].ends, bare_towers[name].ends) for name in towers}, bare
    empty, layouts, shorter = host.tokenize("", False), {}, {}
    for name, tower in towers.items():
        said = [row for group in groups[name] for row in group.modifiers]
        shorter[name], bare_ends = without_rows(tokens[name], said, tower.ends, empty[name][0][-1])
        layouts[name] = Layout(groups[name], tower.ends, bare_ends)
    return layouts, {**tokens, **shorter}


def _bind(rows: Tensor, bare: Tensor, layouts: Mapping[str, Layout], host: HostClip, config: BindingConfig) -> Tensor:
    """Return bound rows [1, T, D], whose columns are those of each text encoder in turn."""
    widths = [host.widths[name] for name in layouts] if len(layouts) > 1 else [rows.shape[-1]]
    parts = zip(rows[0].split(widths, dim=-1), bare[0].split(widths, dim=-1), layouts.values(), strict=True)
    return torch.cat([bind_rows(own, other, layout, config) for own, other, layout in parts], dim=-1).unsqueeze(0)
