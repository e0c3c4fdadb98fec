"""Open and write checkpoints in Stable Diffusion's original key layout; configurations come from elsewhere."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from ..errors import CheckpointError
from .configuration import Configs, check_complete, is_xl, text_encoders, tokenizer_of, tokenizers
from .family import Header, read_header
from .layout import clip_names, renamed, unet_names, vae_names

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

_CLASSES: Final = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "tokenizer_2": ("transformers", "CLIPTokenizer"),
}


def load_original(
    path: str | Path,
    configs: Configs,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    """Return a diffusers pipeline with the weights of one safetensors file in original layout; nothing is fetched.

    configs: see `configuration.Configs`; any widths, so that small models open too.

    Raises `CheckpointError` if the file is missing, a pickle, damaged, or lacks a weight that `configs` asks for:
    all told from its header. There is no safety checker and no watermark.
    """
    header = read_header(Path(path))
    with opening(header.path):
        check_complete(header, configs)
        return _convert(header, configs, dtype).to(device)


def to_original_layout(
    unet: Any, vae: Any, text_encoder: Any, *, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Return original name -> weight on the CPU, in `dtype` or as it is, ready for `safetensors.torch.save_file`.

    unet: a `UNet2DConditionModel`; vae: an `AutoencoderKL`; text_encoder: a `CLIPTextModel`; of any width.
    The weights share no memory with the models. `load_original` is the way back.
    """
    weights = {
        **renamed(unet, unet_names(unet.state_dict(), unet.config.layers_per_block)),
        **renamed(vae, vae_names(vae.state_dict(), len(vae.config.block_out_channels))),
        **renamed(text_encoder, clip_names(text_encoder.state_dict())),
    }
    for name, weight in weights.items():
        if ".mid.attn_1." in name and weight.ndim == 2:  # the original autoencoder has 1x1 convolutions, not matrices
            weights[name] = weight[:, :, None, None]
    return {name: weight.detach().to("cpu", dtype, copy=True).contiguous() for name, weight in weights.items()}


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Hold back the libraries' warnings inside the block, and raise what they raise as a `CheckpointError` of one line.

    Progress bars stay. What a user must know of a checkpoint is checked here, before the libraries see it.
    """
    with quiet_libraries():
        try:
            yield
        except CheckpointError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} cannot be opened by diffusers: {' '.join(str(error).split())}") from error


@contextmanager
def quiet_libraries(*, bars: bool = True) -> Iterator[None]:
    """Silence the warnings of diffusers and transformers inside the block, then set them back as they were.

    bars: whether their progress bars stay.

    Opening a sound checkpoint makes them warn about types to keep (an empty list), image processors that are never
    used, and weights that old releases left in the file.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    with ExitStack() as undo:
        for library in (diffusers_logging, transformers_logging):
            undo.callback(library.set_verbosity, library.get_verbosity())
            library.set_verbosity_error()
            if not bars and library.is_progress_bar_enabled():
                undo.callback(library.enable_progress_bar)
                library.disable_progress_bar()
        undo.enter_context(warnings.catch_warnings())
        # Older releases know the argument by no other name.
        warnings.filterwarnings("ignore", message="`torch_dtype` is deprecated", category=FutureWarning)
        yield


def pipeline_options(xl: bool) -> dict[str, Any]:
    """Return what every pipeline is opened with: no network, no safety checker, no watermark."""
    checker = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return {"local_files_only": True, **({"add_watermarker": False} if xl else checker)}


def _convert(header: Header, configs: Configs, dtype: torch.dtype) -> Any:
    import diffusers

    xl, wanted = is_xl(configs), dict(configs["scheduler"])
    pipeline_class = getattr(diffusers, "StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline")
    scheduler = getattr(diffusers, wanted.get("_class_name", "DDIMScheduler")).from_config(wanted)
    options = {"scheduler": scheduler, "torch_dtype": dtype, **tokenizers(configs), **pipeline_options(xl)}
    with tempfile.TemporaryDirectory() as folder:  # diffusers reads configurations from a folder only
        _write_configs(Path(folder), configs, pipeline_class, type(scheduler))
        return pipeline_class.from_single_file(str(header.path), config=folder, **options)


def _write_configs(folder: Path, configs: Configs, pipeline_class: type, scheduler_class: type) -> None:
    """Write the configurations the way a diffusers folder holds them."""
    names = text_encoders(configs)
    for name in ("unet", "vae", *names):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(dict(configs[name])), encoding="utf-8")
    index: dict[str, Any] = {name: _CLASSES[name] for name in ("unet", "vae", *names, *map(tokenizer_of, names))}
    index["scheduler"] = ("diffusers", scheduler_class.__name__)
    index["_class_name"] = pipeline_class.__name__
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
