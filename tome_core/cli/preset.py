"""`tome preset list`, `show`, `save` and `delete`: the presets that every host offers."""

import argparse
from typing import Final

from ..binding import BindingConfig
from ..errors import as_user_error
from ..presets import (
    SYSTEMS,
    Preset,
    System,
    delete_preset,
    normal_word,
    preset_words,
    read_preset,
    save_preset,
    user_folder,
    user_presets,
)
from ..presets.file import file_content
from ..settings import kinds
from ..speed import SpeedConfig
from .console import DONE, Parser
from .settings import Choice, add_all_settings, new_binding_config

DESCRIPTION: Final = """\
A preset is a word for settings of speed (tome generate --preset WORD), of binding (tome bind --preset WORD), or of
both. Yours are files in a folder of yours, which every host reads; the variable TOME_PRESETS names another folder."""
EXAMPLES: Final = """\
examples:
  tome preset list
  tome preset show fast
  tome preset save finals --speed gentle --min-tokens 256 --about "For my finals"
  tome preset save portrait --speed fast --speed-strength 0.5 --binding gentle --ends end
  tome preset delete finals"""
_SPEED: Final = tuple(name for name in kinds(SpeedConfig) if name != "seed")
_BINDING: Final = tuple(name for name in kinds(BindingConfig) if name != "strength")


def add_arguments(parser: Parser) -> None:
    """Add the four commands; without one of them the help is printed."""

    def print_help(_: argparse.Namespace) -> None:
        parser.print_help()

    parser.set_defaults(chosen=print_help)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    commands.add_parser("list", help="every preset, what it is for, and where yours are").set_defaults(chosen=_list)
    for name, chosen, summary in (
        ("show", _show, "what a preset's file says"),
        ("save", _save, "save settings of speed, of binding, or of both under a word"),
        ("delete", _delete, "delete a preset of yours"),
    ):
        command = commands.add_parser(name, help=summary)
        command.add_argument("word", metavar="WORD", help="up to 40 letters a to z, digits, spaces, - and _")
        command.set_defaults(chosen=chosen)
    save = commands.choices["save"]
    save.add_argument("--about", default="", metavar="TEXT", help="what it is for, in a line")
    save.add_argument("--replace", action="store_true", help="a preset of that word may be there already, and goes")
    add_all_settings(save)


def execute(arguments: argparse.Namespace) -> int:
    """Run the one of the four that is named."""
    with as_user_error():
        arguments.chosen(arguments)
    return DONE


def _list(_: argparse.Namespace) -> None:
    for system in SYSTEMS:
        print(f"{system}:")
        for word in preset_words(system):
            print(f"  {word}: {read_preset(system, word).help}".removesuffix(": "))
    users = user_presets()
    print(f"\nYours are in {user_folder()}{'' if users else ', where none is yet'}")
    for preset in users:
        if preset.refused:
            print(f"  not offered: {preset.refused}")


def _show(arguments: argparse.Namespace) -> None:
    word = normal_word(arguments.word)
    sections: dict[System, Preset] = {
        system: read_preset(system, word) for system in SYSTEMS if word in preset_words(system)
    }
    if not sections:
        read_preset(SYSTEMS[0], word)  # raises why
    print(file_content(sections).decode(), end="")


def _save(arguments: argparse.Namespace) -> None:
    """Save what was named of each system; one of which nothing was named is left out."""
    speed = {name: getattr(arguments, name) for name in _SPEED}
    binding = {name: getattr(arguments, name) for name in _BINDING} | {"strength": arguments.binding_strength}
    has_speed = {*speed.values(), arguments.speed, arguments.speed_strength} != {None}
    has_binding = {*binding.values(), arguments.binding} != {None}
    path = save_preset(
        arguments.word,
        speed=Choice(speed, arguments.speed, arguments.speed_strength).config() if has_speed else None,
        binding=new_binding_config(binding, arguments.binding) if has_binding else None,
        help=arguments.about,
        replace=arguments.replace,
    )
    print(f"saved {path}")


def _delete(arguments: argparse.Namespace) -> None:
    delete_preset(arguments.word)
    print(f"deleted {normal_word(arguments.word)}")
