"""What the last step of a sampling run took its pictures to be: features that are sharp early and know no text.

A noisy latent is x = a z + s n, of the clean latent z and the noise n, with a^2 + s^2 = 1 known from the timestep. What
the model predicted in the last step tells z. The mean over all texts that an image was evaluated with, its prompt and
its empty prompt, is the same for each of them, whether they were evaluated together or apart (rule 8 of the house).

Ours. DiTo (arXiv 2605.22011) matches on the last step's features inside the model, which differ between those rows.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .run import Image, fingerprints

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")  # as diffusers names them
_LEAST_SIGNAL = 1e-4  # a, at least: a schedule with no signal at all at its end would divide by 0


class CleanEstimate:
    """Clean latents, one step late. They stay with the images of the run, which are two steps of them at most.

    Args:
        alphas: [timesteps], a^2 at each whole timestep, falling.
        prediction_type: what the model predicts: "epsilon" (n), "v_prediction" (a n - s z) or "sample" (z).

    Raises:
        ValueError: the prediction type is none of these.
    """

    def __init__(self, alphas: Tensor, prediction_type: str = "epsilon") -> None:
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(f"prediction_type must be one of {PREDICTION_TYPES}, got {prediction_type!r}")
        self._alphas = alphas.float()
        self._prediction_type = prediction_type

    @torch.no_grad()
    def features(self, images: list[Image]) -> Tensor:
        """Return [B, 9 C, height, width] for the images of B rows: each one's clean latent and its eight neighbours.

        An image gives those of its noisy latent in its first step and in its second: in the first, pictures that begin
        with the same noise cannot be told apart, and the mean over one's texts would be one over its neighbours' too.
        """
        latents = torch.stack([_latent(image) for image in images])
        channels = functional.unfold(functional.pad(latents, (1, 1, 1, 1), mode="replicate"), 3)
        return channels.unflatten(2, latents.shape[2:])

    @staticmethod
    def is_known(images: list[Image]) -> bool:
        """Return whether any of these images gives another latent than its noisy one."""
        return any(_learnt(image) for image in images)

    @torch.no_grad()
    def learn(self, images: list[Image], predicted: Tensor, text: Tensor | None) -> bool:
        """Keep with the image of each row what the model predicted for it; return whether that tells its clean latent.

        Args:
            images: B of them.
            predicted: [B, C, height, width], any float dtype.
            text: [B, ...], what the model drew from, which tells the rows of an image apart. A row with a text that
                the image had in this step already replaces that one.
        """
        if predicted.shape != (len(images), *images[0].x.shape):
            return False  # such as learned variances behind the prediction
        texts = fingerprints(text) if text is not None and len(text) == len(images) else [0] * len(images)
        z = self._clean(torch.stack([image.x for image in images]), [image.t for image in images], predicted.float())
        for image, number, latent in zip(images, texts, z, strict=True):
            image.clean[number] = latent
        return True

    def _clean(self, x: Tensor, timesteps: list[float], predicted: Tensor) -> Tensor:
        """Return z [B, C, height, width], from x and what the model predicted, both of that shape."""
        place = torch.tensor(timesteps).clamp(0, len(self._alphas) - 1)
        lower, upper = self._alphas[place.floor().long()], self._alphas[place.ceil().long()]
        alpha = torch.lerp(lower, upper, place.frac()).reshape(-1, 1, 1, 1).to(x.device)
        a, s = alpha.sqrt(), (1 - alpha).sqrt()
        if self._prediction_type == "epsilon":
            return (x - s * predicted) / a.clamp_min(_LEAST_SIGNAL)
        return a * x - s * predicted if self._prediction_type == "v_prediction" else predicted


def _latent(image: Image) -> Tensor:
    """Return [C, height, width]: what the last step took an image to be, or its noisy latent."""
    clean = _learnt(image)
    if not clean:
        return image.x
    texts = sorted(clean)  # one order for any order of the calls
    return torch.stack([clean[text] for text in texts]).mean(dim=0)


def _learnt(image: Image) -> dict[int, Tensor]:
    """Return the clean latents that the last step predicted for an image, by text; none where they do not count."""
    before = image.before
    return {} if before is None or before.is_first else before.clean
