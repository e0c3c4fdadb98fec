"""A pack for tests alone: models without files, and a node that makes sampling fail.

The demo model comes from the suite's own loader, but under this pack's name: a server that has this pack and not the
suite runs what a host without the suite runs.
"""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import torch
from comfy import model_base, model_management, supported_models
from comfy.ldm.flux.model import FluxParams
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy_api.latest import ComfyExtension, io

SUITE = Path(__file__).resolve().parents[5]


def _core_of_suite() -> Any:
    """Import the suite's loader of its demo model, without its front door."""
    for name, folder in (("tome_suite_quietly", SUITE), ("tome_suite_quietly.nodes", SUITE / "nodes")):
        package = sys.modules.setdefault(name, types.ModuleType(name))
        package.__path__ = [str(folder)]
    return importlib.import_module("tome_suite_quietly.nodes.demo_model")


def _fill(model: torch.nn.Module) -> None:
    """Give every weight a fixed random value: ComfyUI's layers begin with what lies in memory."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            weight.data.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            weight.data.copy_(torch.randn(weight.shape, generator=generator) * weight[0].numel() ** -0.5)


class TinySDXL(supported_models.SDXL):
    unet_extra_config = {"num_heads": -1, "num_head_channels": 16, "num_classes": "sequential"}  # noqa: RUF012


def tiny_sdxl() -> ModelPatcher:
    """Return a random model of SDXL's shape, a tenth as wide and of fewer blocks."""
    config = TinySDXL(
        {
            "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32,
            "use_spatial_transformer": True,
            "legacy": False, "use_linear_in_transformer": True, "context_dim": 96, "adm_in_channels": 64 + 1536,
            "channel_mult": [1, 2, 4], "num_res_blocks": [2, 2, 2], "transformer_depth": [0, 0, 2, 2, 4, 4],
            "transformer_depth_output": [0, 0, 0, 2, 2, 2, 4, 4, 4], "transformer_depth_middle": 4,
            "use_temporal_attention": False, "use_temporal_resblock": False,
        }
    )  # fmt: skip
    return _patcher(config)


def tiny_flux() -> ModelPatcher:
    """Return a random model of Flux's shape: one that has no attention patches."""
    config = supported_models.Flux(
        {
            "image_model": "flux", "in_channels": 4, "out_channels": 4, "patch_size": 2, "vec_in_dim": 96,
            "context_in_dim": 96, "hidden_size": 64, "mlp_ratio": 4.0, "num_heads": 2, "depth": 1,
            "depth_single_blocks": 1, "axes_dim": [8, 12, 12], "theta": 10000, "qkv_bias": True,
            "guidance_embed": False,
        }
        | ({"txt_ids_dims": []} if "txt_ids_dims" in FluxParams.__annotations__ else {})  # newer hosts ask for it
    )  # fmt: skip
    config.latent_format = supported_models.SD15.latent_format()
    return _patcher(config)


def _patcher(config: Any) -> ModelPatcher:
    config.set_inference_dtype(torch.float32, None)
    model: model_base.BaseModel = config.get_model({}, "", device=torch.device("cpu"))
    _fill(model.diffusion_model)
    offload = model_management.unet_offload_device()
    return ModelPatcher(model, load_device=model_management.get_torch_device(), offload_device=offload)


class TestModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestModel",
            category="tests",
            inputs=[io.Combo.Input("kind", options=["demo", "sdxl", "flux"])],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls, kind: str) -> io.NodeOutput:
        model, clip, vae = _core_of_suite().load_demo_model()
        made = {"demo": lambda: model, "sdxl": tiny_sdxl, "flux": tiny_flux}[kind]()
        return io.NodeOutput(made, clip, vae)


class TestPooled(io.ComfyNode):
    """Gives a prompt the pooled text that SDXL and Flux ask for beside the rows."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs = [io.Conditioning.Input("conditioning"), io.Int.Input("width", default=1280, max=4096)]
        return io.Schema(node_id="TestPooled", category="tests", inputs=inputs, outputs=[io.Conditioning.Output()])

    @classmethod
    def execute(cls, conditioning: Any, width: int) -> io.NodeOutput:
        pooled = torch.linspace(-1, 1, width)[None]
        return io.NodeOutput([[rows, {**known, "pooled_output": pooled}] for rows, known in conditioning])


class TestFailure(io.ComfyNode):
    """Lets the third model call of every sampling run raise an error."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestFailure", category="tests", inputs=[io.Model.Input("model")], outputs=[io.Model.Output()]
        )

    @classmethod
    def execute(cls, model: Any) -> io.NodeOutput:
        calls = []

        def fail(executor: Any, *args: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) == 3:
                raise RuntimeError("planned failure")
            return executor(*args, **options)

        patched = model.clone()
        patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test_failure", fail)
        return io.NodeOutput(patched)


class TestExtension(ComfyExtension):
    async def get_node_list(self) -> list[Any]:
        return [TestModel, TestPooled, TestFailure]


async def comfy_entrypoint() -> TestExtension:
    return TestExtension()
