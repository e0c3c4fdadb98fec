"""What a word gains on the demo model, through ComfyUI's API beside diffusers.

    COMFYUI_PATH=~/ComfyUI COMFYUI_PYTHON=~/ComfyUI/venv/bin/python \\
      .venv/bin/python -m tests.hosts.comfyui.live.api_times --preset fast

It needs diffusers and aiohttp where it runs itself.

Both doors draw the same prompt with the same number of steps, untouched and merged in turn, one after another and never
at once, with PyTorch's attention. ComfyUI's seconds are what ToMe Speed says of its run; those of diffusers are the
pipeline's up to its latent. --own-attention leaves ComfyUI the one that it chooses on this machine.
"""

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from tqdm import tqdm

from tests.hosts.comfyui.host import missing
from tests.hosts.comfyui.live.graphs import PROMPT, SPEED, drawing, speed
from tests.hosts.comfyui.live.server import MODEL_PACK, SUITE, Server
from tome_core.demo import load_demo
from tome_core.presets import SPEED_PRESETS, speed_preset
from tome_core.speed import apply_speed

STEPS = 20


def seconds_in_comfyui(server: Server, preset: str, size: int, seed: int) -> float:
    """Return how long one run takes by what the node says when it is over."""
    run = server.run(drawing("demo", speed(preset), steps=STEPS, size=size, seed=seed))
    told = [text for node_id, text in run.texts if node_id == SPEED and text.startswith("This run took ")]
    if run.error or not told:
        raise RuntimeError(f"the run told no time: {run.error or run.texts}")
    return float(re.match(r"This run took (\S+) s", told[-1])[1])  # type: ignore[index]


def main() -> int:
    """Print the time of the preset over that of `off`, in each door."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.hosts.comfyui.live.api_times",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", choices=SPEED_PRESETS[1:], default="fast")
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--own-attention", action="store_true", help="let ComfyUI choose its attention")
    arguments = parser.parse_args()
    if (reason := missing()) is not None:
        print(reason)
        return 2
    pipeline = load_demo()
    pipeline.set_progress_bar_config(disable=True)
    size = {"height": arguments.size, "width": arguments.size}
    seconds: dict[tuple[str, str], list[float]] = {}

    def in_diffusers(preset: str, seed: int) -> float:
        with apply_speed(pipeline, speed_preset(preset, "sd1")):
            start = time.perf_counter()
            pipeline(
                PROMPT,
                num_inference_steps=STEPS,
                output_type="latent",
                generator=torch.Generator().manual_seed(seed),
                **size,
            )
            return time.perf_counter() - start

    packs = {"tome-suite": SUITE, "models-for-tests": MODEL_PACK}
    options = [] if arguments.own_attention else ["--use-pytorch-cross-attention"]
    with tempfile.TemporaryDirectory() as base, Server(Path(base), packs, *options) as server:
        for turn in tqdm(range(-1, arguments.repeats), desc="rounds"):
            for preset in ("off", arguments.preset):
                found = {
                    "ComfyUI": seconds_in_comfyui(server, preset, arguments.size, seed=turn + 1),
                    "diffusers": in_diffusers(preset, turn + 1),
                }
                if turn >= 0:  # the first round warms up
                    for door, value in found.items():
                        seconds.setdefault((door, preset), []).append(value)
    for door in ("ComfyUI", "diffusers"):
        merged, plain = seconds[door, arguments.preset], seconds[door, "off"]
        ratios = [own / other for own, other in zip(merged, plain, strict=True)]
        print(
            f"{door:10} {arguments.preset} {median(merged):6.2f} s, off {median(plain):6.2f} s: "
            f"x {median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
