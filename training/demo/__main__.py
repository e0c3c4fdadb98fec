"""Train the demo model from nothing: `python -m training.demo --out FOLDER`."""

import argparse
import socket
import sys
from pathlib import Path

import torch.multiprocessing as mp

from .recipe import TIERS
from .train import train


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.demo", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for states and weights; a second start goes on")
    parser.add_argument("--tier", choices=sorted(TIERS), default="cpu", help="which recipe (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    parser.add_argument(
        "--processes", type=int, choices=(1, 2), default=2, help="processes of one thread each, CPU only (default: 2)"
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Run every stage that the folder does not hold yet, then write the checkpoint."""
    arguments = parse(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    world = arguments.processes if arguments.device == "cpu" else 1
    job = (world, free_port(), arguments.device, arguments.out, TIERS[arguments.tier])
    if world == 1:
        train(0, *job)
    else:
        mp.spawn(train, job, nprocs=world)


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on, for the processes to find each other."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main(sys.argv[1:])
