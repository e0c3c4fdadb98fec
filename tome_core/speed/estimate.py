"""What the last step of a sampling run took its pictures to be: features that are sharp early and know no text.

A noisy latent is x = a z + s n, of the clean latent z and the noise n, with a^2 + s^2 = 1 known from the timestep. What
the model predicted in the last step tells z. The mean over all rows that had the same x, those of the prompt and those
of the empty prompt, is the same for each of them, whether they were evaluated together or apart (rule 8 of the house).

Ours. DiTo (arXiv 2605.22011) matches on the last step's features inside the model, which differ between those rows.
"""

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_CALLS = 8  # that are kept: those of the last step, also where an image takes several
_SAME_RUN = 0.5  # cosine of two successive noisy latents of a run, at least: most of their noise is the same


@dataclass(frozen=True)
class _Rows:
    """Rows of model calls: x, z [R, C, height, width]; timesteps t [R]; the number of their run [R]."""

    x: Tensor
    z: Tensor
    t: Tensor
    run: Tensor


class CleanEstimate:
    """The clean latents of a sampling run, one step late. Everything stays on the device: nothing is read back.

    Args:
        alphas: [timesteps], a^2 at each whole timestep, falling.
        prediction_type: what the model predicts: "epsilon" (n), "v_prediction" (a n - s z) or "sample" (z).
    """

    def __init__(self, alphas: Tensor, prediction_type: str = "epsilon") -> None:
        self._alphas = alphas.float()
        self._prediction_type = prediction_type
        self.reset()

    def reset(self) -> None:
        """Forget every run."""
        self._calls: deque[_Rows] = deque(maxlen=_CALLS)
        self._current: tuple[Tensor, Tensor, Tensor] | None = None

    @torch.no_grad()
    def expect(self, x: Tensor, timestep: Tensor | float) -> Tensor:
        """Begin a model call; return features [B, 9 C, height, width]: each clean latent and its eight neighbours.

        Args:
            x: [B, C, height, width], the model's input.
            timestep: a number, or a tensor of one or of B. A run goes from high ones to low ones.

        A row of which no earlier step is known, as in the first step of a run, gives the features of its noisy latent.
        """
        x = x.detach().float()
        t = torch.as_tensor(timestep, device=x.device).detach().float().expand(len(x)).clone()
        last = self._calls[-1] if self._calls else None
        run = torch.zeros((), device=x.device) if last is None else last.run[-1] + (t.max() > last.t.max())
        self._current = x, t, run.expand(len(x))
        known = [rows for rows in self._calls if rows.x.shape[1:] == x.shape[1:] and rows.x.device == x.device]
        z = self._clean(x, t, run, known) if known else x
        channels = functional.unfold(functional.pad(z, (1, 1, 1, 1), mode="replicate"), 3)
        return channels.unflatten(2, x.shape[2:])

    @torch.no_grad()
    def learn(self, output: Tensor) -> None:
        """End the call that `expect` began, with what the model predicted [B, C, height, width]."""
        if self._current is None:
            return
        (x, t, run), self._current = self._current, None
        place = t.clamp(0, len(self._alphas) - 1)
        self._alphas = self._alphas.to(x.device)
        lower, upper = self._alphas[place.floor().long()], self._alphas[place.ceil().long()]
        alpha = torch.lerp(lower, upper, place.frac()).reshape(-1, 1, 1, 1)
        a, s, predicted = alpha.sqrt(), (1 - alpha).sqrt(), output.detach().float()
        if self._prediction_type == "epsilon":
            z = (x - s * predicted) / a
        else:
            z = a * x - s * predicted if self._prediction_type == "v_prediction" else predicted
        self._calls.append(_Rows(x, z, t, run))

    @staticmethod
    def _clean(x: Tensor, t: Tensor, run: Tensor, known: list[_Rows]) -> Tensor:
        """Return for each row the mean z of the rows that were its image in the last step; x where there are none."""
        earlier = _Rows(*(torch.cat(parts) for parts in zip(*(vars(rows).values() for rows in known), strict=True)))
        flat, flat_x = earlier.x.flatten(1), x.flatten(1)
        cosine = functional.normalize(flat_x, dim=1) @ functional.normalize(flat, dim=1).T  # [B, R]
        is_before = (earlier.t > t.unsqueeze(1)) & (earlier.run == run)
        best, nearest = cosine.masked_fill(~is_before, -1).max(dim=1)
        is_same = (flat[nearest].unsqueeze(1) == flat).all(dim=2)  # [B, R]
        is_same &= (earlier.t[nearest].unsqueeze(1) == earlier.t) & (earlier.run == run)
        total = torch.where(is_same.unsqueeze(2), earlier.z.flatten(1), 0).sum(dim=1)  # exact in any order of two rows
        z = (total / is_same.sum(dim=1, keepdim=True)).reshape(x.shape)
        return torch.where((best > _SAME_RUN).reshape(-1, 1, 1, 1), z, x)
