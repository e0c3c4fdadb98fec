"""What merging gains in ComfyUI beside what it gains in diffusers: `python -m tests.hosts.comfyui.door_times`.

One call of a denoiser of Stable Diffusion 1.5's true size with random weights, two rows, float32, PyTorch's attention.
All ways run in turn, round by round, in one process; times are processor seconds. Needs 12 GB of memory.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from tome_core.bench.speed.denoisers import new_call, random_denoiser
from tome_core.speed import SpeedConfig, apply_speed
from tome_core.speed.doors.patcher import patch_speed

from . import host

FORMS = {
    "attention, level 1": SpeedConfig(metric="latent"),
    "block, window, levels 1 to 3": SpeedConfig(metric="latent", levels=(1, 2, 3), parts="block", matching="window"),
}
ROWS = 2

Call = Callable[[], object]


def comfyui_calls(size: int) -> dict[str, Call]:
    """Return one call in ComfyUI for the untouched model and for each form."""
    model = host.new_model("sd15-true-size")
    random = torch.Generator().manual_seed(0)
    sigma = model.model.model_sampling.sigmas[500].expand(ROWS)
    x = torch.randn(1, 4, size // 8, size // 8, generator=random).repeat(ROWS, 1, 1, 1) * sigma[0]
    text = torch.randn(ROWS, host.TEXT_ROWS, host.SHAPES["sd15-true-size"]["context_dim"], generator=random)

    @torch.inference_mode()
    def call(patched: Any) -> None:
        options = {"wrappers": patched.wrappers}
        patched.model.apply_model(x, sigma, c_crossattn=text, transformer_options=options)

    clones = {name: patch_speed(model, config)[0] for name, config in FORMS.items()}
    return {name: partial(call, clone) for name, clone in {"untouched": model, **clones}.items()}


def diffusers_calls(size: int) -> dict[str, Call]:
    """Return one call in diffusers for the untouched model and for each form."""
    unet = random_denoiser("sd15", dtype=torch.float32, device=torch.device("cpu"))
    call = new_call(unet, (size, size), ROWS)

    def merged(config: SpeedConfig) -> None:
        with apply_speed(unet, config):
            call()

    return {"untouched": call, **{name: partial(merged, config) for name, config in FORMS.items()}}


def main() -> None:
    """Print the time of every form over that of the untouched model, in each door."""
    parser = argparse.ArgumentParser(prog="python -m tests.hosts.comfyui.door_times", description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    doors = {"ComfyUI": comfyui_calls(arguments.size), "diffusers": diffusers_calls(arguments.size)}
    seconds: dict[tuple[str, str], list[float]] = {(door, name): [] for door, calls in doors.items() for name in calls}
    for turn in tqdm(range(-1, arguments.repeats), desc="rounds"):
        for (door, name), times in seconds.items():
            start = time.process_time()
            doors[door][name]()
            if turn >= 0:  # the first round warms up
                times.append(time.process_time() - start)
    for (door, name), times in seconds.items():
        ratios = [own / plain for own, plain in zip(times, seconds[door, "untouched"], strict=True)]
        least, most = min(ratios), max(ratios)
        print(f"{door:10} {name:30} {median(times):6.2f} s  x {median(ratios):.3f} ({least:.3f}-{most:.3f})")


if __name__ == "__main__":
    main()
