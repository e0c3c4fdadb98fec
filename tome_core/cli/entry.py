"""From words in a terminal to one command, and from whatever comes of it to an exit code.

A command is a module with `DESCRIPTION`, `EXAMPLES`, `add_arguments(parser)` and `execute(arguments)`. It is imported
when it is asked for, torch and diffusers with it, so that `tome --help` answers at once.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from io import TextIOWrapper
from types import ModuleType
from typing import Final, NoReturn

from .. import __version__
from ..errors import CheckpointError, UnsupportedModelError, UserError
from .console import DONE, INTERRUPTED, MISTAKE, Parser, complain, own_voice


@dataclass(frozen=True)
class Command:
    """The words that ask for a command, the module that is it, and one line for the overview."""

    name: str
    module: str
    summary: str


COMMANDS: Final = (
    Command("demo", ".demo", "a sheet of pictures, untouched and merged side by side; needs nothing but this package"),
    Command("generate", ".generate", "a picture from a prompt, with your own checkpoint or the demo model"),
    Command(
        "bind", ".bind", "what a prompt says of which thing, and the picture with that bound, beside the untouched one"
    ),
    Command("bench speed", ".bench.speed", "what merging is worth on this machine, beside tomesd, in one run"),
    Command("bench quality", ".bench.quality", "what merging does to pictures, judged and measured on the demo model"),
    Command("bench binding", ".bench.binding", "what binding does to pictures: judged on the demo model, or on yours"),
)
_EXAMPLES: Final = """\
start here:
  tome demo
  tome generate "a red square"
  tome generate "a lighthouse at dusk" --model model.safetensors --preset gentle --compare
  tome bind "a red circle and a blue square"
  tome bench speed --model model.safetensors

Each command tells more: tome generate --help
Exit codes: 0 done, 2 something to put right (one line says what), 130 interrupted."""


def run() -> NoReturn:
    """Run the command that the terminal gave, and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a prompt may hold what the terminal's encoding lacks
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    argv: the words after `tome`; None takes them from the process.

    0: done. 2: a user's mistake, told in one line on stderr, nothing written. 130: interrupted; what
    was done is kept where it is of use alone. Anything else that goes
    wrong is a defect of ours and raises.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with own_voice():
            return _dispatch(words)
    except SystemExit as leaving:  # argparse, after --help and --version
        return leaving.code if isinstance(leaving.code, int) else DONE
    except (UserError, CheckpointError, UnsupportedModelError) as error:
        complain(str(error))
        return MISTAKE
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, named so that it need not be imported here
            raise
        complain("the GPU has too little memory for this; a smaller --size or --batch, or --dtype float16, takes less")
        return MISTAKE
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED


def _dispatch(words: list[str]) -> int:
    for command in COMMANDS:
        length = len(command.name.split())
        if " ".join(words[:length]) == command.name:
            return _execute(command, words[length:])
    parser = _overview()
    _, unknown = parser.parse_known_args(words)
    if words:
        known = ", ".join(command.name for command in COMMANDS)
        raise UserError(f"there is no command {' '.join(unknown or words)!r}; commands are {known}")
    parser.print_help()
    return DONE


def _execute(command: Command, words: list[str]) -> int:
    module: ModuleType = import_module(command.module, __package__)
    parser = Parser(prog=f"tome {command.name}", description=module.DESCRIPTION, epilog=module.EXAMPLES)
    module.add_arguments(parser)
    return module.execute(parser.parse_args(words))


def _overview() -> Parser:
    width = max(len(command.name) for command in COMMANDS)
    listed = "\n".join(f"  tome {command.name:{width}}  {command.summary}" for command in COMMANDS)
    parser = Parser(
        prog="tome",
        usage="tome COMMAND ...",
        description=f"Token merging: Stable Diffusion with less work per picture.\n\ncommands:\n{listed}",
        epilog=_EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"tome {__version__}")
    return parser
