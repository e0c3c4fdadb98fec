"""A webui for tests: the modules that the extension imports, and a host that runs a job by its script as A1111 does.

The order of calls, what each is given, and what happens after an exception are those of version 1.10.1; as the Forge
family (`is_forge`) it has a patcher, which it makes anew for each pass.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from tests.a1111_extension.fake import gradio, prompts
from tests.hosts.fake import forge, host

SIZE = 16  # of the latent
STEPS = 4


class Script:
    """The host's base class of scripts."""

    infotext_fields: Any = None
    paste_field_names: Any = None

    def elem_id(self, name: str) -> str:
        return f"script_{name}"

    def _nothing(self, p: Any, *args: Any, **named: Any) -> None: ...

    process = process_batch = process_before_every_sampling = post_sample = _nothing
    postprocess_image = postprocess = _nothing


class Denoiser:
    """The object of one sampling that calls the model for each step."""

    def __init__(self, webui: Webui, p: Job) -> None:
        self.p, self.step, self.total_steps = p, 0, STEPS
        self.sampler = SimpleNamespace(sampler_extra_args={"cond": p.c})
        self.inner_model = InnerModel(webui)


class InnerModel(nn.Module):
    """What scales a latent and calls the network."""

    def __init__(self, webui: Webui) -> None:
        super().__init__()
        self._webui = [webui]

    def forward(self, x: Tensor, t: float, cond: Tensor) -> Tensor:
        webui, times = self._webui[0], torch.full((len(x),), t)
        if webui.patcher is None:
            return webui.network(x, times, context=cond, y=None, transformer_options={})
        patcher = webui.sd_model.forge_objects.unet
        c = {"c_crossattn": cond, "transformer_options": {"cond_or_uncond": [0, 1]}}
        sigmas = patcher.model.predictor.sigmas[times.long()]
        slot = patcher.model_options.get(forge.SLOT)
        if slot is None:
            return patcher.model.apply_model(x, sigmas, **c)
        return slot(patcher.model.apply_model, {"input": x, "timestep": sigmas, "c": c, "cond_or_uncond": [0, 1]})


class Job:
    """The host's `p`."""

    def __init__(self, webui: Webui, **given: Any) -> None:
        self.sd_model = webui.sd_model
        self.extra_generation_params: dict[str, Any] = {}
        self.comments: list[str] = []
        self.enable_hr = self.is_hr_pass = False
        self.prompts, self.hr_prompts, self.c, self.token_merging_ratio = ["a red cat"], ["a red cat"], None, 0.0
        vars(self).update(given)

    def comment(self, text: str) -> None:
        self.comments.append(text)

    def get_token_merging_ratio(self, for_hr: bool = False) -> float:
        return self.token_merging_ratio


class Webui:
    """A host with one model and the callbacks of its extensions."""

    def __init__(self, *, is_forge: bool = False) -> None:
        self.on_denoiser: list[Callable[[Any], None]] = []
        self.on_tabs: list[Callable[[], Any]] = []
        self.patcher = forge.new_model() if is_forge else None
        self.network: Any = host.new_model().model.diffusion_model if self.patcher is None else None
        self.sd_model: Any = SimpleNamespace(parameterization="eps")
        if self.patcher is None:
            self.sd_model.model = SimpleNamespace(diffusion_model=self.network)
        else:
            self.sd_model.forge_objects = SimpleNamespace(unet=self.patcher)
        self.opts, self.cmd_opts = SimpleNamespace(), SimpleNamespace()
        self.errors: list[BaseException] = []

    @property
    def unet(self) -> nn.Module:
        """The network that samples."""
        return self.network if self.patcher is None else self.patcher.model.diffusion_model

    def modules(self) -> dict[str, ModuleType]:
        """Return what the extension imports."""
        made = {
            "gradio": gradio.module(),
            "modules": ModuleType("modules"),
            "modules.scripts": _module("modules.scripts", Script=Script, AlwaysVisible=object(), scripts_data=[]),
            **{name: made for name, made in prompts.modules().items() if name != "modules"},
            "modules.shared": _module("modules.shared", sd_model=self.sd_model, opts=self.opts, cmd_opts=self.cmd_opts),
            "modules.sd_unet": _module("modules.sd_unet", current_unet=None),
            "modules.script_callbacks": _module(
                "modules.script_callbacks",
                on_cfg_denoiser=self.on_denoiser.append,
                on_ui_tabs=self.on_tabs.append,
            ),
            "modules.ui_components": _module(
                "modules.ui_components",
                FormRow=type("FormRow", (gradio.Component,), {}),
                InputAccordion=type("InputAccordion", (gradio.Component,), {}),
            ),
        }
        for name, inner in made.items():
            if name.startswith("modules."):
                setattr(made["modules"], name.removeprefix("modules."), inner)
        if self.patcher is not None:
            made["modules_forge"] = _module("modules_forge")
            made["modules_forge"].__spec__ = sys.__spec__
        return made

    @torch.no_grad()
    def run(
        self, script: Any, args: tuple[Any, ...], *, before_step: Callable[[int], object] | None = None, **given: Any
    ):
        """Run a job; return it with its latents. What a script raises is kept in `errors`, as the host prints it."""
        p = Job(self, **given)
        self._call(script, "process", p, *args)
        self._call(script, "process_batch", p, *args, batch_number=0, prompts=p.prompts, seeds=[0], subseeds=[0])
        latents = self._sample(script, p, args, SIZE, before_step)
        if p.enable_hr:
            p.is_hr_pass = True
            latents = self._sample(script, p, args, 2 * SIZE, before_step)
        self._call(script, "post_sample", p, SimpleNamespace(samples=latents), *args)
        self._call(script, "postprocess_image", p, SimpleNamespace(image=Image.new("RGB", (8, 8))), *args)
        processed = SimpleNamespace(images=["picture"], infotexts=["info"], index_of_first_image=0, comments="")
        self._call(script, "postprocess", p, processed, *args)
        p.processed, p.latents = processed, latents
        return p

    def _sample(self, script: Any, p: Job, args: Any, size: int, before_step: Any) -> Tensor:
        if self.patcher is not None:
            self.sd_model.forge_objects = SimpleNamespace(unet=self.patcher)
        random = torch.Generator().manual_seed(0)
        x, text = torch.randn(1, 4, size, size, generator=random), torch.randn(2, 7, 12, generator=random)
        self._call(script, "process_before_every_sampling", p, *args, x=x, noise=x, c=p.c, uc=None)
        denoiser = Denoiser(self, p)
        for step, t in enumerate((900.0, 600.0, 300.0, 1.0)):
            denoiser.step = step
            if before_step is not None:
                before_step(step)
            params = SimpleNamespace(denoiser=denoiser, x=x, text_cond=text[:1], text_uncond=text[1:])
            for callback in self.on_denoiser:
                callback(params)
            rows = torch.cat([params.text_cond, params.text_uncond])
            x = x - 0.2 * denoiser.inner_model(torch.cat([x, x]), t, cond=rows)[:1]
        return x

    def _call(self, script: Any, name: str, *args: Any, **named: Any) -> None:
        try:
            getattr(script, name)(*args, **named)
        except Exception as error:
            self.errors.append(error)


def _module(name: str, **holds: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(holds)
    return made
