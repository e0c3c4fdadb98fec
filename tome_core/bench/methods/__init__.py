"""The methods that a benchmark compares, from how a user writes them to how they draw."""

from collections.abc import Mapping
from typing import Any

from ...errors import UserError
from ...speed import SpeedConfig
from ..drawing.method import UNTOUCHED, Method
from .binding import BINDINGS, parse_binding
from .merging import MERGINGS, SHARED, Merging, parse_merging

__all__ = ["BINDINGS", "MERGINGS", "SHARED", "Merging", "read_mergings", "read_methods"]


def read_methods(text: str, shared: Mapping[str, Any]) -> list[Method]:
    """Return the methods of a list, merging and binding ones, without the untouched model. Raises `UserError`.

    shared: settings of merging methods that name no other; None is not given.
    """
    return [_read(item, shared, (*MERGINGS, *BINDINGS)) for item in _split(text) if item != UNTOUCHED]


def read_mergings(text: str, shared: Mapping[str, Any]) -> list[Merging]:
    """Return the merging methods of a list, the untouched model first. Raises `UserError`."""
    others: Any = [_read(item, shared, MERGINGS) for item in _split(text) if item != UNTOUCHED]
    return [Merging(UNTOUCHED, UNTOUCHED, SpeedConfig(ratio=0.0)), *others]


def _read(item: str, shared: Mapping[str, Any], kinds: tuple[str, ...]) -> Method:
    kind = item.partition(":")[0]
    if kind not in kinds:
        raise UserError(f"methods must be among {', '.join((UNTOUCHED, *kinds))}, got {item!r}")
    return parse_merging(item, shared) if kind in MERGINGS else parse_binding(item)


def _split(text: str) -> list[str]:
    """Return the different items of a comma-separated list. One with a "=" and no ":" goes on with that before it.

    Raises `UserError` for a list of none.
    """
    items: list[str] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        if items and "=" in item and ":" not in item:
            items[-1] += f",{item}"
        else:
            items.append(item)
    if not items:
        raise UserError(f"methods must name at least one, got {text!r}")
    return list(dict.fromkeys(items))
