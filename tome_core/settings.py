"""What a setting is made of: a field whose metadata draw it in a user interface, and the check that they imply."""

from collections.abc import Iterable, Mapping
from dataclasses import field
from numbers import Real
from typing import Any


def setting(default: Any, help: str, **metadata: Any) -> Any:
    """Return a dataclass field that carries what a user interface needs to draw it."""
    return field(default=default, metadata={"help": help, **metadata})


def share(help: str) -> Any:
    """Return the field of a ratio that need not be given."""
    return setting(None, help, min=0.0, max=1.0, step=0.05, unit="fraction of tokens")


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return a sequence as a tuple, and a single value as a tuple of one."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)


def require(name: str, holds: bool, rule: str, value: object) -> None:
    """Raise `ValueError` with the rule of a setting, unless it holds."""
    if not holds:
        raise ValueError(f"{name} must be {rule}, got {value!r}")


def check(value: Any, default: Any, bounds: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether a value is within the bounds of its field, and the rule in words; `default` tells its kind."""
    if "choices" in bounds:
        choices = bounds["choices"]
        if not isinstance(default, tuple):
            return value in choices, f"one of {choices}"
        are_known = _are_different(value) and all(item in choices for item in value)
        return are_known, f"one or more of {choices}, each once"
    least, most = bounds["min"], bounds["max"]
    if isinstance(default, float):
        return _is_number(value, least, most), f"a number from {least:g} to {most:g}"
    if default is None and isinstance(most, float):
        return value is None or _is_number(value, least, most), f"None or a number from {least:g} to {most:g}"
    if default is None:
        return value is None or _is_whole(value, least, most), f"None or a whole number from {least} to {most}"
    if isinstance(default, int):
        return _is_whole(value, least, most), f"a whole number from {least} to {most}"
    are_whole = all(_is_whole(item, least, most) for item in value)
    if len(default) == 2:
        is_cell = are_whole and len(value) == 2 and value != (1, 1)
        return is_cell, f"two whole numbers from {least} to {most}, one of them above 1"
    return are_whole and _are_different(value), f"one or more different whole numbers from {least} to {most}"


def _is_number(value: Any, least: float, most: float) -> bool:
    # NaN compares false
    return isinstance(value, Real) and not isinstance(value, bool) and least <= float(value) <= most


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _are_different(values: tuple[Any, ...]) -> bool:
    return len(values) > 0 and all(value not in values[:i] for i, value in enumerate(values))
