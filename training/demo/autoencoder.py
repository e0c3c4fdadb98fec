"""Stage two: the autoencoder, on crops first and a few whole pictures last."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tome_core.demo.architecture import AUTOENCODER, LATENT_SCALE, seeded, to_unit
from training.demo.scene import Scene, random_scene, render

from .optimisers import Optimisers
from .recipe import Recipe, Stream
from .stage import Stage

NEAR_THING = 0.85  # share of crops around a thing; the others lie anywhere
SIZES = (256, 256, 256, 128)  # pixels of the whole picture a crop comes from
WARM_UP = 30  # steps


def train_autoencoder(folder: Path, recipe: Recipe, device: str, *, writes: bool) -> Any:
    """Train it by mean absolute error, or take up where the folder's state stands.

    The result is whitened: latents times `LATENT_SCALE` have mean 0 and covariance 1 over scenes.
    Departure from Stable Diffusion's: the posterior's width is constant (`latent_noise`), there is no discriminator.
    """
    net = build_autoencoder(seed=recipe.seed + 1).to(device)
    optimisers = Optimisers(net.parameters(), recipe)
    steps = recipe.crop_steps + recipe.whole_steps
    stage = Stage(folder, "autoencoder", steps, {"net": net, **optimisers.parts()}, writes=writes)
    stage.resume()
    for step in stage.run():
        rng = recipe.generator(Stream.AUTOENCODER, step)
        whole = step >= recipe.crop_steps
        x = to_unit(render(random_scene(rng), 256)[None] if whole else random_crops(rng, recipe)).to(device)
        loss = _loss(net, x, rng, recipe)
        optimisers.step(loss, rate=min(1.0, (step + 1) / WARM_UP, 2 * (1 - step / steps)))
        stage.losses.append(loss.item())
    return whiten(net.eval().requires_grad_(False), recipe)


def build_autoencoder(seed: int) -> Any:
    """Return an untrained autoencoder (0.9 M parameters) whose residual blocks start at zero.

    Its attention, which crops could not teach, is zero and stays so.
    """
    from diffusers import AutoencoderKL
    from diffusers.models.resnet import ResnetBlock2D

    with seeded(seed):
        autoencoder = AutoencoderKL(**AUTOENCODER)
    for block in autoencoder.modules():
        if isinstance(block, ResnetBlock2D):
            _zero(block.conv2)
    halves: tuple[Any, Any] = (autoencoder.encoder, autoencoder.decoder)
    for half in halves:
        _zero(half.mid_block.attentions[0].to_out[0])
        half.mid_block.attentions[0].requires_grad_(False)
    return autoencoder


def _zero(layer: Any) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def _loss(net: Any, x: Tensor, rng: np.random.Generator, recipe: Recipe) -> Tensor:
    with torch.autocast(x.device.type, torch.bfloat16):
        latent = net.encode(x).latent_dist.mean
        noise = torch.from_numpy(rng.standard_normal(latent.shape, dtype=np.float32)).to(x.device)
        y = net.decode(latent + recipe.latent_noise * noise).sample
    return (y.float() - x).abs().mean() + recipe.latent_penalty * latent.float().square().mean()


def random_crops(rng: np.random.Generator, recipe: Recipe) -> np.ndarray:
    """Return [B, crop, crop, 3] crops of B random scenes, most of them around a thing."""
    return np.stack([_crop(random_scene(rng), rng, recipe.crop) for _ in range(recipe.autoencoder_batch)])


def _crop(scene: Scene, rng: np.random.Generator, crop: int) -> np.ndarray:
    size = int(rng.choice(SIZES))
    centre = rng.uniform(0, 1, size=2)
    if rng.random() < NEAR_THING:
        thing = scene.things[rng.integers(len(scene.things))]
        centre = np.array([thing.x, thing.y]) + rng.uniform(-1.1, 1.1, size=2) * thing.radius
    left, top = np.clip(centre * size - crop / 2, 0, size - crop).astype(int)
    return render(scene, size)[top : top + crop, left : left + crop]


@torch.no_grad()
def whiten(net: Any, recipe: Recipe) -> Any:
    """Fold a linear map of the latents into the 1x1 convolutions on both of its sides; pictures stay the same."""
    rng = recipe.generator(Stream.WHITENING)
    device = net.quant_conv.weight.device
    pictures = to_unit(np.stack([render(random_scene(rng), 256) for _ in range(recipe.whitening_pictures)])).to(device)
    latents = torch.cat([net.encode(batch).latent_dist.mean for batch in pictures.split(8)])
    flat = latents.double().permute(0, 2, 3, 1).reshape(-1, 4)
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((flat - mean).T))
    scale = values.rsqrt() / LATENT_SCALE
    _fold_encoder(net.quant_conv, scale[:, None] * vectors.T, mean, recipe.latent_noise / LATENT_SCALE)
    _fold_decoder(net.post_quant_conv, vectors / scale, mean)
    return net


def _fold_encoder(conv: Any, forward: Tensor, mean: Tensor, width: float) -> None:
    """Map the rows of the mean, z -> forward (z - mean), and set the log variances to a constant."""
    weight, bias = conv.weight[:4, :, 0, 0].double(), conv.bias[:4].double()
    conv.weight[:4, :, 0, 0] = (forward @ weight).to(conv.weight.dtype)
    conv.bias[:4] = (forward @ (bias - mean)).to(conv.bias.dtype)
    conv.weight[4:] = 0
    conv.bias[4:] = 2 * float(np.log(width))


def _fold_decoder(conv: Any, backward: Tensor, mean: Tensor) -> None:
    """Undo the map before the decoder sees latents: z -> backward z + mean."""
    weight = conv.weight[:, :, 0, 0].double()
    conv.bias.copy_(conv.bias.double() + weight @ mean)
    conv.weight[:, :, 0, 0] = (weight @ backward).to(conv.weight.dtype)
