"""Bind and map random prompts in a real ComfyUI: `python -m tests.hosts.comfyui.binding_fuzz --runs 500 --seed 0`.

COMFYUI_PATH names the checkout. Each run draws a prompt, a config, a size, an area, a batch, a sampler and whether
image tokens merge, all on the demo model. It fails where a run raises, gives a number that is not finite, changes the
picture by collecting its maps, has maps of another shape than its latent, or leaves a trace on the next plain prompt.
"""

from __future__ import annotations

import random
import sys
from functools import partial

import torch

from tests.hosts.comfyui import host
from tests.hosts.comfyui.bound import bind, demo, encode
from tests.hosts.comfyui.fuzzing import Check, Run, fuzz
from tome_core.attention_maps import collect_maps
from tome_core.speed import SpeedConfig
from tome_core.speed.doors.patcher import patch_speed

WORDS = (
    *("a red circle", "a blue square", "and", ",", "with", "a ~green ^star~", "(purple:1.3) cross", "wearing a hat"),
    *("[black:yellow:.5]", "BREAK", "a cat", "Ein Kreis", "赤い円", "🟥", "\\(plain\\)", "in red and blue"),
    "and " * 60,
)
NORMS, REMOVED, ENDS = ("none", "noun"), ("fill", "zero", "keep"), ("end", "position", "off")
SAMPLERS = ("euler", "euler_ancestral", "dpmpp_2m", "heun")
PLAIN = "a red circle and a blue square"


def draw_run(draw: random.Random) -> Run:
    """Return all that one run is made from; the same draw gives the same run."""
    size = draw.randint(4, 33), draw.randint(4, 41)
    # areas may reach past the edge, but the host itself fails on those that keep a pixel or two of the latent
    beyond = [draw.randint(4, 60) for _ in range(2)], [draw.randint(0, side - 4) for side in size]
    return {
        "text": " ".join(draw.choices(WORDS, k=draw.randint(0, 8))),
        "config": {
            "strength": draw.choice([0.0, 0.5, 1.0]),
            "norm": draw.choice(NORMS),
            "removed": draw.choice(REMOVED),
            "ends": draw.choice(ENDS),
            "modifier_weight": draw.choice([1.0, 1.2]),
        },
        "size": size,
        "area": draw.choice([None, None, (*beyond[0], *beyond[1])]),
        "batch": draw.choice([1, 1, 2]),
        "cfg": draw.choice([1.0, 4.0]),
        "sampler": draw.choice(SAMPLERS),
        "merges": draw.random() < 0.4,
        "seed": draw.randint(0, 2**31),
    }


def run_once(before: torch.Tensor, run: Run) -> str:
    """Return what is wrong with one run, and nothing where it is right. `before`: the plain prompt's rows."""
    model, clip, _ = demo()
    if run["merges"]:  # not whole blocks: these step back to their parts where something looks at cross-attention
        model = patch_speed(model, SpeedConfig(parts=("attention", "mlp")))[0]
    area = {} if run["area"] is None else {"area": run["area"], "strength": 1.0, "set_area_to_bounds": False}
    bound = bind(clip, run["text"], **run["config"]).conditioning
    given = {name: run[name] for name in ("size", "batch", "cfg", "sampler", "seed")} | {"steps": 2}
    given |= {"positive": [[rows, {**known, **area}] for rows, known in bound], "negative": encode(clip, "")}
    mapped, shelf = collect_maps(model)
    latent = host.sample(mapped, **given)
    found, notes = shelf.maps(latent)
    if not latent.isfinite().all():
        return "a number is not finite"
    if not torch.equal(latent, host.sample(model, **given)):
        return "collecting maps changes the picture"
    if found is None:
        return "" if notes else "neither maps nor a word why not"
    if found.maps.shape != (run["batch"], len(found.labels), *run["size"]) or not found.maps.isfinite().all():
        return f"maps are {list(found.maps.shape)} for {len(found.labels)} phrases"
    return "" if torch.equal(encode(clip, PLAIN)[0][0], before) else "a trace is left on the text encoder"


def new_check() -> Check:
    """Return a check that has the rows of the plain prompt before any other."""
    return partial(run_once, encode(demo()[1], PLAIN)[0][0].clone())


if __name__ == "__main__":
    sys.exit(fuzz(__doc__, draw_run, new_check))
