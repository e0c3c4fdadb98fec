"""The clean image predicted at the previous step: features that are sharp early and do not depend on the text.

What the model predicted at the previous step gives the clean latent z. The mean over all texts that an image was
evaluated with, its prompt and its empty prompt, is the same for each of them, whether they were evaluated together or
apart (rule 8 of the house).

Ours. DiTo (arXiv 2605.22011) matches on features of the previous step inside the model, which differ between the rows.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .images import Image, fingerprints
from .schedule import NoiseSchedule


@torch.no_grad()
def estimate_features(images: list[Image], device: torch.device) -> Tensor:
    """Return [B, 9 C, height, width] on a device for the images of B rows: clean latents, each with its 8 neighbours.

    An image gives those of its noisy latent in its first step and in its second: in the first, pictures that begin
    with the same noise cannot be told apart, and the mean over one's texts would be one over its neighbours' too.
    """
    latents = torch.stack([_latent(image).to(device) for image in images])
    channels = functional.unfold(functional.pad(latents, (1, 1, 1, 1), mode="replicate"), 3)
    return channels.unflatten(2, latents.shape[2:])


def is_estimated(images: list[Image]) -> bool:
    """Return whether any of these images gives another latent than its noisy one."""
    return any(_clean_latents(image) for image in images)


@torch.no_grad()
def keep_prediction(images: list[Image], predicted: Tensor, text: Tensor | None, schedule: NoiseSchedule) -> bool:
    """Keep with each image the clean latent that the model predicted; return False where the output gives none.

    Args:
        images: those of the B rows.
        predicted: [B, C, height, width], any float dtype: the output of the model.
        text: [B, ...], what the model drew from, which tells the rows of an image apart. A row with a text that the
            image had in this step already replaces that one.
        schedule: of the model.
    """
    if predicted.shape != (len(images), *images[0].x.shape):
        return False  # such as learned variances behind the prediction
    texts = fingerprints(text) if text is not None and len(text) == len(images) else [0] * len(images)
    x = torch.stack([image.x.to(predicted.device) for image in images])
    z = schedule.clean(x, predicted.float(), [image.t for image in images])
    for image, number, latent in zip(images, texts, z, strict=True):
        image.clean[number] = latent
    return True


def _latent(image: Image) -> Tensor:
    """Return [C, height, width]: the clean latent predicted at the previous step, or the noisy one."""
    clean = _clean_latents(image)
    if not clean:
        return image.x
    texts = sorted(clean)  # one order for any order of the calls
    device = clean[texts[0]].device  # a host may evaluate the texts of an image on several
    return torch.stack([clean[text].to(device) for text in texts]).mean(dim=0)


def _clean_latents(image: Image) -> dict[int, Tensor]:
    """Return the clean latents predicted for an image at the previous step, by text; none where they do not count."""
    before = image.before
    return {} if before is None or before.is_first else before.clean
