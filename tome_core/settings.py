"""Settings: a dataclass field with a kind, which says once how its value is checked, parsed, written and explained.

Nodes, the command line and other user interfaces build their inputs from `kinds(Config)`.

| kind    | value                                  | as text             |
|---------|----------------------------------------|---------------------|
| Number  | a float in bounds, or None if optional | 0.5                 |
| Whole   | an int in bounds, or None if optional  | 12                  |
| Switch  | True or False                          | on, off             |
| Choice  | one of some words                      | window              |
| Choices | one or more of some words, a tuple     | attention,mlp       |
| Wholes  | one or more different ints, a tuple    | 1,2                 |
| Cell    | (height, width), not (1, 1)            | 2x3                 |
"""

import re
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from itertools import combinations
from numbers import Integral, Real
from typing import Any, Final

_OFF_ON: Final = ("off", "on")


@dataclass(frozen=True)
class Kind:
    """What a user interface has to know about a field.

    Attributes:
        help: one or more sentences for the user.
    """

    help: str

    @property
    def rule(self) -> str:
        """What a value must be, as in "<name> must be <rule>"."""
        raise NotImplementedError

    @property
    def bounds(self) -> str:
        """The same as a sentence of a help text."""
        raise NotImplementedError

    def normal(self, value: Any) -> Any:
        """Return a value as the config stores it: a list as a tuple, a number as a float."""
        return value

    def accepts(self, value: Any) -> bool:
        """Return whether a value, as `normal` returns it, keeps the rule."""
        raise NotImplementedError

    def parse(self, text: str) -> Any:
        """Return the value that a user wrote. `accepts` says whether it is allowed.

        Raises:
            ValueError: the text is no value of this kind.
        """
        raise NotImplementedError

    def format(self, value: Any) -> str:
        """Return a value as a user writes it."""
        return str(value)


@dataclass(frozen=True)
class _Bounded(Kind):
    """A number with bounds, in a unit such as "fraction of tokens", and the step of an input."""

    unit: str
    least: Any
    most: Any
    step: Any
    optional: bool = False

    @property
    def bounds(self) -> str:
        return f"From {self.format(self.least)} to {self.format(self.most)} ({self.unit})."

    def _or_none(self, rule: str) -> str:
        return f"None or {rule}" if self.optional else rule


@dataclass(frozen=True)
class Number(_Bounded):
    """A float in bounds."""

    @property
    def rule(self) -> str:
        return self._or_none(f"a number from {self.least:g} to {self.most:g}")

    def normal(self, value: Any) -> Any:
        return float(value) if value is not None and self.accepts(value) else value

    def accepts(self, value: Any) -> bool:
        if value is None:
            return self.optional
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        return is_number and self.least <= value <= self.most  # NaN compares false

    def parse(self, text: str) -> float:
        return float(text)

    def format(self, value: Any) -> str:
        return str(value) if value is None else f"{value:.12g}"


@dataclass(frozen=True)
class Whole(_Bounded):
    """A whole number in bounds."""

    @property
    def rule(self) -> str:
        return self._or_none(f"a whole number from {self.least} to {self.most}")

    def normal(self, value: Any) -> Any:
        return _plain(value)

    def accepts(self, value: Any) -> bool:
        return self.optional if value is None else _is_whole(value, self.least, self.most)

    def parse(self, text: str) -> int:
        return int(text)


@dataclass(frozen=True)
class Switch(Kind):
    """On or off."""

    @property
    def rule(self) -> str:
        return "True or False"

    @property
    def bounds(self) -> str:
        return f"Choose from {', '.join(_OFF_ON)}."

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bool)

    def parse(self, text: str) -> bool:
        return bool(_OFF_ON.index(text))

    def format(self, value: Any) -> str:
        return _OFF_ON[value]


@dataclass(frozen=True)
class Choice(Kind):
    """One of some words."""

    choices: tuple[str, ...]

    @property
    def rule(self) -> str:
        return f"one of {self.choices}"

    @property
    def bounds(self) -> str:
        return f"Choose from {', '.join(self.choices)}."

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.choices

    def parse(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class Choices(Choice):
    """One or more of some words, each once."""

    @property
    def rule(self) -> str:
        return f"one or more of {self.choices}, each once"

    def normal(self, value: Any) -> Any:
        return _as_tuple(value)

    def accepts(self, value: Any) -> bool:
        return _are_different(value) and all(item in self.choices for item in value)

    def parse(self, text: str) -> Any:
        return _items(text, r"[,+]")

    def format(self, value: Any) -> str:
        return ",".join(value)


@dataclass(frozen=True)
class Wholes(_Bounded):
    """One or more different whole numbers in bounds."""

    @property
    def rule(self) -> str:
        return f"one or more different whole numbers from {self.least} to {self.most}"

    def normal(self, value: Any) -> Any:
        return _as_tuple(value)

    def accepts(self, value: Any) -> bool:
        return _are_different(value) and all(_is_whole(item, self.least, self.most) for item in value)

    def parse(self, text: str) -> tuple[int, ...]:
        return tuple(map(int, _items(text, r"[,+\s]+")))

    def format(self, value: Any) -> str:
        return ",".join(map(str, _as_tuple(value)))


@dataclass(frozen=True)
class Cell(_Bounded):
    """Height and width of a cell of more than one token."""

    @property
    def rule(self) -> str:
        return f"two whole numbers from {self.least} to {self.most}, one of them above 1"

    def normal(self, value: Any) -> Any:
        return _as_tuple(value)

    def accepts(self, value: Any) -> bool:
        is_pair = isinstance(value, tuple) and len(value) == 2 and value != (1, 1)
        return is_pair and all(_is_whole(side, self.least, self.most) for side in value)

    def parse(self, text: str) -> tuple[int, ...]:
        return tuple(map(int, _items(text, r"[,+x]")))

    def format(self, value: Any) -> str:
        return "x".join(map(str, _as_tuple(value)))


def setting(default: Any, kind: Kind) -> Any:
    """Return a dataclass field of a kind."""
    return field(default=default, metadata={"kind": kind})


def kinds(config: Any) -> dict[str, Kind]:
    """Return the kind of each field of a config or its class, by name and in order."""
    return {item.name: kind_of(item) for item in fields(config)}


def kind_of(item: "Field[Any]") -> Kind:
    """Return the kind of a field that `setting` made."""
    return item.metadata["kind"]


def accepted_choices(config_class: type, name: str) -> Iterator[tuple[str, ...]]:
    """Yield every choice of some of the words of a `Choices` field that the config accepts, smallest first."""
    kind: Any = kinds(config_class)[name]
    for size in range(1, len(kind.choices) + 1):
        for some in combinations(kind.choices, size):
            try:
                config_class(**{name: some})
            except ValueError:
                continue
            yield some


def settle(config: Any) -> None:
    """Bring the values of a frozen config to the form that their kinds store; for its `__post_init__`.

    Raises:
        ValueError: a value breaks the rule of its field.
    """
    for name, kind in kinds(config).items():
        given = getattr(config, name)
        value = kind.normal(given)
        require(name, kind.accepts(value), kind.rule, given)
        object.__setattr__(config, name, value)


def require(name: str, holds: bool, rule: str, value: object) -> None:
    """Raise `ValueError` with the rule of a setting, unless it holds."""
    if not holds:
        raise ValueError(f"{name} must be {rule}, got {value!r}")


def _as_tuple(value: Any) -> tuple[Any, ...]:
    """Return what has an order as a tuple, and anything else as a tuple of one."""
    if getattr(value, "ndim", 0) == 1:  # of numpy or torch
        value = value.tolist()
    items = value if isinstance(value, (list, tuple, range)) else (value,)
    return tuple(map(_plain, items))


def _plain(value: Any) -> Any:
    """Return a whole number of another library as Python's own."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _items(text: str, separator: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in re.split(separator, text.strip()))


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _are_different(values: Any) -> bool:
    return isinstance(values, tuple) and len(values) > 0 and all(v not in values[:i] for i, v in enumerate(values))
