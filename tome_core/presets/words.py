"""The words for presets: the suite's own, and the user's, which are files in a folder that all hosts share.

A word is a file's name without `.json`: 1 to 40 of a to z, 0 to 9, space, - and _, beginning with a letter or digit.
Capital letters count as small ones, and names that Windows keeps for devices are none. So no word leads out of its
folder, and a word is the same file on every system. Files are read anew each time, since they change while a host runs.
"""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from ..binding.config import BindingConfig
from ..errors import UserError
from ..files import write_whole
from ..speed.config import SpeedConfig
from .file import Preset, System, file_content, one_line, read_file

SPEED_PRESETS: Final = ("off", "gentle", "balanced", "fast")
"""The suite's own words of speed, from what changes a picture least to what saves most."""

BINDING_PRESETS: Final = ("paper", "gentle", "objects", "attributes")
"""The suite's own words of binding, the config's own defaults first."""

FOLDER_VARIABLE: Final = "TOME_PRESETS"
"""The environment variable that names another folder than the platform's."""

_SUITE: Final[Mapping[System, tuple[str, ...]]] = {"speed": SPEED_PRESETS, "binding": BINDING_PRESETS}
_OWN: Final = tuple(dict.fromkeys((*SPEED_PRESETS, *BINDING_PRESETS)))
_FOR_KNOBS: Final = ("custom", "same")  # what interfaces have in their lists beside presets
_WORD: Final = re.compile(r"(?!(con|prn|aux|nul|com\d|lpt\d)$)[a-z0-9][a-z0-9 _-]{0,39}")
_WORD_RULE: Final = (
    "1 to 40 of a to z, 0 to 9, space, - and _, beginning with a letter or digit, no device's name, nor custom or same"
)


@dataclass(frozen=True)
class UserPreset:
    """A file in the user's folder.

    Attributes:
        word: its name without `.json`.
        systems: what it has settings for; none if it is refused.
        help: what the user wrote about it.
        refused: the one-line reason why no host offers it; empty if they do.
    """

    word: str
    systems: tuple[System, ...] = ()
    help: str = ""
    refused: str = ""


def user_folder() -> Path:
    """Return the folder of the user's presets, which need not exist: the same for all hosts.

    `TOME_PRESETS`, or `tome-suite/presets` in ~/.config (or $XDG_CONFIG_HOME) on Linux, in ~/Library/Application
    Support on macOS, and in %APPDATA% on Windows.
    """
    if given := os.environ.get(FOLDER_VARIABLE):
        return Path(os.path.expanduser(given))
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        base = os.environ.get("APPDATA") or os.path.join(home, "AppData", "Roaming")
    elif sys.platform == "darwin":
        base = os.path.join(home, "Library", "Application Support")
    else:
        base = os.environ.get("XDG_CONFIG_HOME", "")
        base = base if os.path.isabs(base) else os.path.join(home, ".config")  # a relative one does not count
    return Path(base, "tome-suite", "presets")


def normal_word(word: object) -> str:
    """Return a word as its file has it: in small letters, without spaces around it. Raises `ValueError` if it is none.

    >>> normal_word(" My Look")
    'my look'
    """
    normal = word.strip().lower() if isinstance(word, str) else ""
    if not _WORD.fullmatch(normal) or normal in _FOR_KNOBS:
        raise ValueError(one_line(f"word must be {_WORD_RULE}, got {word!r}"))
    return normal


def preset_words(system: System) -> tuple[str, ...]:
    """Return the words of a system: the suite's own, then the user's, sorted, without refused files."""
    return (*_SUITE[system], *(preset.word for preset in user_presets() if system in preset.systems))


def read_preset(system: System, word: str) -> Preset:
    """Return one preset of a system.

    Raises:
        ValueError: in one line, the word is none of the system's words, or its file is refused and why.
    """
    path = _file(word)
    sections = read_file(path) if path is not None and os.path.lexists(path) else {}
    if system not in sections:
        raise ValueError(one_line(f"preset must be one of {preset_words(system)}, got {word!r}"))
    return sections[system]


def user_presets() -> list[UserPreset]:
    """Return what is in the user's folder, by word, with what is wrong with each file that is refused. Never raises."""
    folder = user_folder()
    try:
        files = [path for path in folder.iterdir() if path.suffix.lower() == ".json" and path.name[0] != "."]
    except FileNotFoundError:
        return []
    except OSError as error:
        reason = f"the folder of presets {folder} cannot be read: {error.strerror or error}"
        return [UserPreset(one_line(folder.name), refused=one_line(reason))]
    return [_described(path) for path in sorted(files, key=lambda path: path.stem)]


def save_preset(
    word: str,
    *,
    speed: SpeedConfig | None = None,
    binding: BindingConfig | None = None,
    help: str = "",
    replace: bool = False,
) -> Path:
    """Write a preset into the user's folder, which is made if need be; return its file.

    It keeps the values that differ from the config's defaults, for every family of models alike. A file that holds the
    very same already stays as it is.

    Args:
        word: what it is called from now on; see `normal_word`.
        speed: the settings of speed, at the strength that they have.
        binding: the settings of binding. Its own strength stays in it, and a host's slider scales that.
        help: what it is for, in a line; of line breaks spaces are left.
        replace: whether a file of this word may go. Its section of a system that is not given stays; a refused file
            goes as a whole.

    Raises:
        ValueError: neither config is given; the word is none, one of the suite's own, or there already and not to be
            replaced; the help is too long; or the folder cannot be written.
    """
    word = normal_word(word)
    given: dict[System, Any] = {"speed": speed, "binding": binding}
    if word in _OWN:
        raise ValueError(f"word must be none of the suite's own, {', '.join(_OWN)}, got {word!r}")
    if speed is None and binding is None:
        raise ValueError("a preset must have settings of speed, of binding, or of both, got none")
    text = " ".join(help.split())
    path = user_folder() / f"{word}.json"
    earlier = _earlier(path)
    sections = dict(earlier)
    for system, config in given.items():
        if config is not None:
            sections[system] = Preset(_changed(config), text)
    if sections == earlier:
        return path
    if os.path.lexists(path) and not replace:
        raise ValueError(f"word must be a new one, or replace chosen, got {word!r}, which {path} holds")
    write_whole(path, file_content(sections))
    return path


def delete_preset(word: str) -> None:
    """Delete the file of one of the user's presets, also a refused one.

    Raises:
        ValueError: the word is none, has no file in the user's folder, or its file cannot be deleted.
    """
    path = user_folder() / f"{normal_word(word)}.json"
    try:
        path.unlink()
    except FileNotFoundError:
        words = ", ".join(preset.word for preset in user_presets()) or "none yet"
        raise ValueError(one_line(f"word must be one of your own presets, {words}, got {word!r}")) from None
    except OSError as error:
        raise UserError(f"cannot delete {path}: {error.strerror or error}") from error


def _file(word: object) -> Path | None:
    """Return the file that a word stands for, whether or not it exists; None for no word."""
    try:
        normal = normal_word(word)
    except ValueError:
        return None
    if normal in _OWN:
        return Path(__file__).with_name(f"{normal}.json").resolve()  # an installed file may be a link
    return user_folder() / f"{normal}.json"


def _described(path: Path) -> UserPreset:
    """Return what hosts show of a file in the user's folder."""
    word = one_line(path.stem)
    try:
        if path.name != f"{normal_word(path.stem)}.json":
            raise ValueError("word must be in small letters, without spaces around it")
        if path.stem in _OWN:
            raise ValueError("word must be none of the suite's own")
    except ValueError as mistake:
        return UserPreset(word, refused=one_line(f"preset file {path.name}: {mistake}"))
    try:
        sections = read_file(path)
    except ValueError as mistake:
        return UserPreset(word, refused=str(mistake))
    helps = [preset.help for preset in sections.values() if preset.help]
    return UserPreset(word, tuple(sections), helps[0] if helps else "")


def _earlier(path: Path) -> dict[System, Preset]:
    """Return what a file holds already; nothing where there is none, or a refused one."""
    try:
        return read_file(path)
    except ValueError:
        return {}


def _changed(config: Any) -> dict[str, Any]:
    """Return the fields of a config that differ from its defaults, as JSON has them."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    default = type(config)()
    changed = {name: value for name, value in values.items() if value != getattr(default, name)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}
