"""A preset's file: JSON with a section for each system that it sets.

    {"speed": {"help": "For finals.", "settings": {"ratio": 0.5}, "families": {"sdxl": {"levels": [1, 2]}}},
     "binding": {"help": "For finals.", "settings": {"norm": "noun"}, "source": "Ours."}}

One section is enough; of its keys only `settings` must be there, and `families` is for speed alone. Anyone may have
written a file, so it is read strictly: what is not described here is refused, in one line.
"""

import json
import stat
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from ..binding.config import BindingConfig
from ..settings import kinds
from ..speed.config import SpeedConfig, without_retired

System = Literal["speed", "binding"]

SYSTEMS: Final[tuple[System, ...]] = ("speed", "binding")
MAX_BYTES: Final = 64 * 1024
MAX_LETTERS: Final = 1000  # of a help sentence, and of a source
MAX_ITEMS: Final = 16  # of a setting, and families of a section
MAX_DIGITS: Final = 20
MAX_LINE: Final = 300  # letters of a sentence about a file
_KEYS: Final = ("help", "settings", "families", "source")


@dataclass(frozen=True)
class Preset:
    """What a word stands for in one system.

    Attributes:
        settings: fields of the config, for any model; what is not named keeps its default.
        help: for an artist: what it is for and what it costs.
        source: what it follows, what its figures rest on, and what is not verified.
        families: by model family, the fields that differ there.
    """

    settings: Mapping[str, Any]
    help: str = ""
    source: str = ""
    families: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_file(path: Path) -> dict[System, Preset]:
    """Return the sections of a preset's file, at least one.

    Raises:
        ValueError: there is no such file, or it breaks a rule; one line names both. A link is refused, wherever it
            leads.
    """
    try:
        return _sections(_parsed(_content(path)))
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
    except RecursionError:
        reason = "must not be nested so deep"
    except ValueError as error:
        reason = str(error)
    raise ValueError(one_line(f"preset file {path.name}: {reason}"))


def file_content(sections: Mapping[System, Preset]) -> bytes:
    """Return what a preset's file holds for its sections. Raises `ValueError` for a help that is no plain line."""
    stored: dict[str, Any] = {}
    for system in SYSTEMS:
        if system in sections:
            section = asdict(sections[system])
            _check_text("help", section["help"])
            stored[system] = {key: section[key] for key in _KEYS if section[key] or key == "settings"}
    return (json.dumps(stored, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def one_line(text: str) -> str:
    """Return a text as one line that any host can show, cut where it is long."""
    line = " ".join("".join(letter if _is_plain(letter) else " " for letter in text).split())
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 3]}..."


def _content(path: Path) -> str:
    """Return the text of a plain file, and look at no more of it than the rules allow."""
    if not stat.S_ISREG(path.lstat().st_mode):  # to open a pipe would wait for ever
        raise ValueError("must be a plain file, no link, folder or device")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"must be at most {MAX_BYTES // 1024} kB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("must be text in UTF-8") from None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise ValueError(f"must be JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"must name each key once, got {name!r} twice")
        found[name] = value
    return found


def _constant(text: str) -> float:
    raise ValueError(f"must hold finite numbers, got {text}")


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"must hold numbers of at most {MAX_DIGITS} digits, got {len(text)}")
    return int(text)


def _sections(stored: Any) -> dict[System, Preset]:
    _check_object("the file", stored, SYSTEMS)
    if not stored:
        raise ValueError(f"must have a section {' or '.join(SYSTEMS)}")
    return {system: _section(system, stored[system]) for system in SYSTEMS if system in stored}


def _section(system: System, stored: Any) -> Preset:
    _check_object(system, stored, [key for key in _KEYS if key != "families" or system == "speed"])
    if "settings" not in stored:
        raise ValueError(f"{system} must have settings")
    preset = Preset(**stored)
    _check_text(f"{system}.help", preset.help)
    _check_text(f"{system}.source", preset.source)
    _check_settings(system, f"{system}.settings", preset.settings)
    _check_object("speed.families", preset.families)
    if len(preset.families) > MAX_ITEMS:
        raise ValueError(f"speed.families must be at most {MAX_ITEMS}, got {len(preset.families)}")
    for family, own in preset.families.items():
        _check_object(f"speed.families.{family}", own)
        _check_settings(system, f"speed.families.{family}", {**preset.settings, **own})
    return preset


def _check_settings(system: System, name: str, settings: Any) -> None:
    """Raise `ValueError` unless settings are plain values that the system's config takes, retired ones aside."""
    config: Callable[..., object] = SpeedConfig if system == "speed" else BindingConfig
    _check_object(name, settings)
    kept = without_retired(settings)[0] if system == "speed" else settings
    _check_object(name, kept, kinds(config))
    for setting, value in settings.items():
        items = value if isinstance(value, list) else [value]
        if len(items) > MAX_ITEMS or not all(isinstance(item, str | bool | int | float | None) for item in items):
            rule = f"a number, a word, true, false, null, or a list of at most {MAX_ITEMS} of these"
            raise ValueError(f"{name}.{setting} must be {rule}")
    try:
        config(**kept)
    except ValueError as mistake:
        raise ValueError(f"{name}: {mistake}") from None


def _check_object(name: str, value: Any, keys: Collection[str] | None = None) -> None:
    """Raise `ValueError` unless a value is an object with no other keys than these, where any are given."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object in braces, got {type(value).__name__}")
    if unknown := [key for key in value if keys is not None and key not in keys]:
        raise ValueError(f"{name} must have no other keys than {', '.join(keys or ())}, got {unknown[0]!r}")


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) > MAX_LETTERS or not all(map(_is_plain, value)):
        raise ValueError(f"{name} must be one line of at most {MAX_LETTERS} letters")


def _is_plain(letter: str) -> bool:
    """Return whether a letter leaves a line a line: no control character, half of a pair, or end of a line."""
    return unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp")
