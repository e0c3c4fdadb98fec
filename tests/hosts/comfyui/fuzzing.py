"""The command that both fuzzers are: runs by number, each drawn from the seed and its own number alone."""

from __future__ import annotations

import argparse
import random
import traceback
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from tests.hosts.comfyui import host

Run = dict[str, Any]
Check = Callable[[Run], str]  # what is wrong with a run, and nothing where it is right


def fuzz(description: str | None, draw_run: Callable[[random.Random], Run], new_check: Callable[[], Check]) -> int:
    """Run the command; return 0, 1 where any run failed, 2 where no host is there.

    Args:
        description: for --help.
        draw_run: returns all that one run is made from.
        new_check: makes ready what all runs share.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first run, to repeat one alone")
    arguments = parser.parse_args()
    if (reason := host.missing()) is not None:
        print(reason)
        return 2
    check, failed = new_check(), 0
    for number in tqdm(range(arguments.first, arguments.first + arguments.runs)):
        run = draw_run(random.Random(f"{arguments.seed} {number}"))
        try:
            problem = check(run)
        except Exception:  # it is told, and the next one goes on
            problem = traceback.format_exc()
        if problem:
            failed += 1
            tqdm.write(f"run {number} of seed {arguments.seed}: {problem}\n  {run}")
    print(f"{arguments.runs} runs, {failed} failed")
    return int(failed > 0)
