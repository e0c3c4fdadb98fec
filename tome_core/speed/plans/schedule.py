"""How noisy a model's input is at each timestep: x = a z + s n, of the clean latent z and the noise n.

Every host, scheduler and kind of model comes down to that: diffusion that keeps the variance (a^2 + s^2 = 1), noise
levels alone (EDM), flow matching (a + s = 1). A door reads it; the plans use it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_prediction")  # as diffusers names them
_LEAST_SIGNAL = 1e-4  # a, at least: a schedule with no signal at all at its end would divide by 0

Amounts = Callable[[Sequence[float]], tuple[Tensor, Tensor]]  # of timesteps: a and s, [B] float32 each


@dataclass(frozen=True)
class NoiseSchedule:
    """What a host knows about the inputs and outputs of its model.

    Attributes:
        percent: from a timestep to where it is in the run, from 0 to 1.
        prediction: what the model predicts: n ("epsilon"), a n - s z ("v_prediction"), z ("sample") or n - z
            ("flow_prediction").
        amounts: a and s of timesteps; None where the prediction is z itself.
        data_std: of the clean latents in the preconditioning of Karras et al. 2022, table 1; 1 elsewhere.
        assumption: what is taken for granted where the host says nothing; None where it does.
        obstacle: why the clean latent does not follow from a prediction; None where it does.
    """

    percent: Callable[[float], float]
    prediction: str = "sample"
    amounts: Amounts | None = None
    data_std: float = 1.0
    assumption: str | None = None
    obstacle: str | None = None

    def clean(self, x: Tensor, predicted: Tensor, timesteps: Sequence[float]) -> Tensor:
        """Return z [B, C, height, width] float32, for the inputs x and what the model predicted, both of that shape."""
        if self.amounts is None or self.prediction == "sample":
            return predicted
        a, s = (y.reshape(-1, 1, 1, 1).to(x.device) for y in self.amounts(timesteps))
        if self.prediction == "epsilon":
            return (x - s * predicted) / a.clamp_min(_LEAST_SIGNAL)
        if self.prediction == "flow_prediction":
            return (x - s * predicted) / (a + s)
        return self.data_std * (self.data_std * a * x - s * predicted)


def share_of_steps(train_timesteps: float) -> Callable[[float], float]:
    """Return the percent of models whose timesteps count down from `train_timesteps` over the run."""

    def percent(timestep: float) -> float:
        found = round(1 - timestep / train_timesteps, 6)  # 1 - 0.8 shall be 0.2
        return min(max(found, 0.0), 1.0)

    return percent


def variance_preserving(alphas: Tensor) -> Amounts:
    """Return a and s with a^2 + s^2 = 1, given a^2 at each whole timestep [timesteps], falling."""
    alphas = alphas.float()

    def amounts(timesteps: Sequence[float]) -> tuple[Tensor, Tensor]:
        place = torch.tensor(timesteps, dtype=torch.float32).clamp(0, len(alphas) - 1)
        alpha = torch.lerp(alphas[place.floor().long()], alphas[place.ceil().long()], place.frac())
        return alpha.sqrt(), (1 - alpha).sqrt()

    return amounts


def stable_diffusion_alphas(timesteps: int = 1000) -> Tensor:
    """Return a^2 [timesteps] of Stable Diffusion: the products of 1 - beta, whose roots rise in a line."""
    roots = torch.linspace(0.00085**0.5, 0.012**0.5, timesteps, dtype=torch.float64)
    return (1 - roots.square()).cumprod(dim=0).float()
