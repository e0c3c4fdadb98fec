"""From words in a terminal to one command, and from its outcome to an exit code.

A command is a module with `DESCRIPTION`, `EXAMPLES`, `add_arguments(parser)` and `execute(arguments)`. It is imported
only when its word is given, torch and diffusers with it, so that `tome --help` answers at once.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Any, Final, NoReturn

from .. import __version__
from ..errors import CheckpointError, UnsupportedModelError, UserError
from .console import DONE, INTERRUPTED, MISTAKE, Parser, print_error, warnings_as_notes

COMMANDS: Final[Mapping[str, str]] = {
    "demo": "draw sample pictures, with and without merging; works without a checkpoint",
    "generate": "draw a picture from a prompt, with your own checkpoint or the demo model",
    "bind": "draw a picture in which each thing keeps its own attributes, beside the usual one",
    "preset": "list, show, save or delete presets, the suite's and yours",
    "bench": "measure speed, picture quality or binding on this machine",
    "bench speed": "how much faster merging makes this machine, beside tomesd",
    "bench quality": "what merging does to pictures, on the demo model",
    "bench binding": "what binding does to pictures, on the demo model or on yours",
}
_EXAMPLES: Final = """\
start here:
  tome demo
  tome generate "a red square"
  tome generate "a lighthouse at dusk" --model model.safetensors --preset gentle --compare
  tome bind "a red circle and a blue square"
  tome bench speed --model model.safetensors

For more about a command: tome generate --help
Exit codes: 0 done, 2 a mistake that you can correct (one line names it), 130 interrupted."""


def run() -> NoReturn:
    """Run the command that the terminal gave, and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a prompt may hold what the terminal's encoding lacks
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    argv: the words after `tome`; None takes them from the process.

    0: done. 2: a user's mistake, in one line on stderr; nothing is written. 130: interrupted; finished pictures are
    kept where they are of use. Any other failure is a defect of this package and raises.
    """
    try:
        with warnings_as_notes():
            arguments = parse(argv)
            return arguments.execute(arguments)
    except SystemExit as leaving:  # argparse, after --help and --version
        return leaving.code if isinstance(leaving.code, int) else DONE
    except (UserError, CheckpointError, UnsupportedModelError) as error:
        print_error(str(error))
        return MISTAKE
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, named so that it need not be imported here
            raise
        print_error(
            "the GPU has too little memory for this; a smaller --size or --batch, or --dtype float16, takes less"
        )
        return MISTAKE
    except KeyboardInterrupt:
        print_error("interrupted")
        return INTERRUPTED


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments of a command's words, and as `execute` the function that runs them.

    Raises `UserError` for words that are no command.
    """
    words = sys.argv[1:] if words is None else words
    parser = named = Parser(prog="tome", description="Token merging: faster Stable Diffusion.", epilog=_EXAMPLES)
    parser.add_argument("--version", action="version", version=f"tome {__version__}")
    groups = {"": _add_group(parser)}
    for name, summary in COMMANDS.items():
        group, _, word = name.rpartition(" ")
        command = groups[group].add_parser(word, help=summary, description=f"Commands that {summary}.")
        is_named = list(words[: name.count(" ") + 1]) == name.split()
        named = command if is_named else named
        if any(other.startswith(f"{name} ") for other in COMMANDS):
            groups[name] = _add_group(command)
        elif is_named:
            module = import_module(f".{name.replace(' ', '.')}", __package__)
            command.description, command.epilog = module.DESCRIPTION, module.EXAMPLES
            module.add_arguments(command)
            command.set_defaults(execute=module.execute)
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        named.error(f"unrecognized arguments: {' '.join(unknown)}")  # argparse would always name `tome`
    return arguments


def _add_group(parser: Parser) -> Any:
    """Add the commands below a parser, and let it print its help where none of them is named."""

    def print_help(_: argparse.Namespace) -> int:
        parser.print_help()
        return DONE

    parser.set_defaults(execute=print_help)
    return parser.add_subparsers(title="commands", metavar="COMMAND")
