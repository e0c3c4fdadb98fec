"""What merging gains in a webui beside what it gains in diffusers: `python -m tests.hosts.webui.live.door_times`.

Whole pictures of the demo model at 512 px, drawn in turn, round by round: processor seconds of the server, and of this
process. WEBUI_PATH and WEBUI_PYTHON as for the tests of this folder.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import torch
from diffusers import EulerDiscreteScheduler

from tests.hosts.webui.live.server import Server, kind
from tome_core.demo import load_demo
from tome_core.speed import SpeedConfig, apply_speed

PROMPT = "a red circle and a blue square"
SAME_ATTENTION = {  # by default some have a slower one on a CPU, of which merging saves more
    "a1111": "--opt-sdp-attention",
    "forge": "--attention-pytorch",
    "neo": "--use-pytorch-cross-attention",
}
FORMS = {
    "attention, level 1": ((True, "custom"), SpeedConfig()),
    "block, levels 1 and 2": (
        (True, "custom", 1.0, "same", False, "paper", 1.0, "", False, 0.5, "1,2", "block"),
        SpeedConfig(levels=(1, 2), parts="block"),
    ),
}


def main() -> None:
    """Print a line for each form: the ratio of the time with it to that without, in both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pipe = load_demo()
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="linspace")
    size = {"width": options.size, "height": options.size}

    def by_diffusers(config: SpeedConfig | None) -> float:
        start = time.process_time()
        with nullcontext() if config is None else apply_speed(pipe, config):
            pipe(PROMPT, num_inference_steps=options.steps, guidance_scale=5.0, **size)
        return time.process_time() - start

    flags = f"--nowebui {SAME_ATTENTION[kind()]}"
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder) / "webui", options=flags) as server:

        def by_webui(args: tuple[object, ...]) -> float:
            start = server.processor_seconds()
            server.draw(*args, prompt=PROMPT, steps=options.steps, **size)
            return server.processor_seconds() - start

        by_webui((False,)), by_diffusers(None)  # what is slow once
        times: dict[tuple[str, str], list[float]] = {}
        for _ in range(options.rounds):
            for name, (args, config) in {"untouched": ((False,), None), **FORMS}.items():
                times.setdefault((name, "webui"), []).append(by_webui(args))
                times.setdefault((name, "diffusers"), []).append(by_diffusers(config))
    print(f"{kind()}, {options.size} px, {options.steps} steps, {os.cpu_count()} cores, one thread")
    for name in FORMS:
        ratios = {}
        for who in ("webui", "diffusers"):
            pairs = zip(times[name, who], times["untouched", who], strict=True)
            ratios[who] = median(merged / plain for merged, plain in pairs)
        shown = ", ".join(f"{who} x {ratio:.3f}" for who, ratio in ratios.items())
        print(f"{name}: {shown}; webui / diffusers {ratios['webui'] / ratios['diffusers']:.3f}")


if __name__ == "__main__":
    main()
