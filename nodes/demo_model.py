"""The embedded demo model as ComfyUI's own classes hold it.

ComfyUI recognises a checkpoint by widths that this small one does not have. So its classes are made here directly, with
the model's own numbers; nothing is added to what the host knows.
"""

from typing import Any

from comfy import model_detection, model_management, supported_models
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE
from comfy.utils import calculate_parameters, load_torch_file, state_dict_prefix_replace, weight_dtype

from ..tome_core.demo import CHECKPOINT
from ..tome_core.demo.architecture import AUTOENCODER, TEXT, UNET

UNET_PREFIX = "model.diffusion_model."


class DemoModel(supported_models.SD15):
    """Stable Diffusion 1.5 but for its widths, which come from the weights."""

    unet_extra_config = {"num_heads": UNET["attention_head_dim"], "num_head_channels": -1}  # noqa: RUF012 (the host's)


def load_demo_model() -> tuple[ModelPatcher, CLIP, VAE]:
    """Return the demo model's three parts, read from the file that comes with the suite."""
    weights = load_torch_file(str(CHECKPOINT), safe_load=True)
    config = DemoModel(model_detection.detect_unet_config(weights, UNET_PREFIX))
    return _model(config, weights), _clip(config, weights), _vae(config, weights)


def _model(config: DemoModel, weights: dict[str, Any]) -> ModelPatcher:
    device = model_management.get_torch_device()
    parameters = calculate_parameters(weights, UNET_PREFIX)
    dtypes = list(config.supported_inference_dtypes)
    given = weight_dtype(weights, UNET_PREFIX)
    dtype = model_management.unet_dtype(model_params=parameters, supported_dtypes=dtypes, weight_dtype=given)
    config.set_inference_dtype(dtype, model_management.unet_manual_cast(dtype, device, dtypes))
    model = config.get_model(weights, UNET_PREFIX, device=model_management.unet_offload_device())
    model.load_model_weights(weights, UNET_PREFIX)
    return ModelPatcher(model, load_device=device, offload_device=model_management.unet_offload_device())


def _clip(config: DemoModel, weights: dict[str, Any]) -> CLIP:
    clip_weights = config.process_clip_state_dict(weights)
    clip = CLIP(
        config.clip_target(state_dict=weights),
        tokenizer_data=clip_weights,
        parameters=calculate_parameters(clip_weights),
        model_options={"clip_l_model_config": dict(TEXT)},
    )
    clip.load_sd(clip_weights, full_model=True)
    return clip


def _vae(config: DemoModel, weights: dict[str, Any]) -> VAE:
    vae_weights = state_dict_prefix_replace(weights, dict.fromkeys(config.vae_key_prefix, ""), filter_keys=True)
    return VAE(sd=config.process_vae_state_dict(vae_weights), config={"params": vae_params()})


def vae_params() -> dict[str, Any]:
    """Return the autoencoder's numbers under the names that the original layout has for them."""
    widths = AUTOENCODER["block_out_channels"]
    latent = AUTOENCODER["latent_channels"]
    layout = {
        "double_z": True,
        "z_channels": latent,
        "resolution": AUTOENCODER["sample_size"],
        "in_channels": AUTOENCODER["in_channels"],
        "out_ch": AUTOENCODER["out_channels"],
        "ch": widths[0],
        "ch_mult": [width // widths[0] for width in widths],
        "num_res_blocks": AUTOENCODER["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    return {"ddconfig": layout, "embed_dim": latent}
