"""An extension for a webui under test, which the tests put there: it writes down what each step gets of the prompts.

For each job it saves a file in the folder TOME_WATCH: for each step the host's own rows, those that come out of all
extensions, and what reaches the network; and whether what the host keeps of its encoded prompts stayed as it was.
"""

import os
from pathlib import Path

import torch
from modules import prompt_parser, script_callbacks, scripts

FOLDER = Path(os.environ["TOME_WATCH"])


class Watch(scripts.Script):
    job = None

    def title(self):
        return "Watch"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def process(self, p, *args):
        Watch.job = {"steps": [], "kept": [], "prompts": []}
        Watch.conds = []

    def process_before_every_sampling(self, p, *args, **named):
        if not any(cond is named["c"] for cond, _, _ in Watch.conds):
            own = [encoded for encoded in parts_of(named["c"])]
            Watch.conds.append((named["c"], own, [rows(encoded).clone() for encoded in own]))
        Watch.job["prompts"].append(list(p.hr_prompts if p.is_hr_pass else p.prompts))

    def postprocess(self, p, processed, *args):
        for cond, own, before in Watch.conds:
            same = [a is b and torch.equal(rows(a), x) for a, b, x in zip(parts_of(cond), own, before, strict=True)]
            Watch.job["kept"].append(all(same))
        number = len(list(FOLDER.glob("*.pt")))
        torch.save(Watch.job, FOLDER / f"{number:04}.part")
        (FOLDER / f"{number:04}.part").rename(FOLDER / f"{number:04}.pt")
        Watch.job = None


def parts_of(cond):
    return [schedule.cond for parts in cond.batch for part in parts for schedule in part.schedules]


def rows(encoded):
    return (encoded["crossattn"] if isinstance(encoded, dict) else encoded).detach()


def on_step(params):
    job, denoiser = Watch.job, params.denoiser
    if job is None:
        return
    _, own = prompt_parser.reconstruct_multicond_batch(denoiser.sampler.sampler_extra_args["cond"], denoiser.step)
    step = {"step": denoiser.step, "own": rows(own).clone(), "text": rows(params.text_cond).clone(), "contexts": []}
    job["steps"].append(step)
    network = denoiser.p.sd_model
    unet = network.forge_objects.unet.model if hasattr(network, "forge_objects") else network.model
    for hook in getattr(Watch, "hooks", []):
        hook.remove()
    Watch.hooks = [unet.diffusion_model.register_forward_pre_hook(on_call, with_kwargs=True)]


def on_call(module, args, kwargs):
    if Watch.job is not None and Watch.job["steps"]:
        context = args[2] if len(args) > 2 else kwargs["context"]
        Watch.job["steps"][-1]["contexts"].append(context.detach().clone())


script_callbacks.on_cfg_denoiser(on_step)
