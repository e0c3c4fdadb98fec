"""Attention maps inside any sampler of a host with ComfyUI's patcher protocol: `collect_maps(model)`.

A patch before each cross-attention looks at what goes in and projects it once more, for the prompt's part alone;
nothing that the model computes changes, and no model call is added. So maps are there with any attention kernel, and
where another pack replaces the attention itself. The sums of a run are in its own options, never in the patch.
"""

import hashlib
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from ..errors import UnsupportedModelError
from ..unet_walk import cross_attentions, original_network
from .run import Layers, MapRun
from .sums import PhraseMaps

KEY: Final = "tome_maps"
"""Of the wrapper, and of the run in the host's `transformer_options`."""

_RUNS: Final = 4  # a picture, its hires pass, and two more
_WRAPPER: Final = "outer_sample"
_PATCHES: Final = "attn2_patch"
_NO_GROUPS: Final = (
    "No maps: the positive prompt of this run has no groups. "
    "Bind it; where it is encoded, the groups that were found are shown."
)

OnStep = Callable[[int, int, PhraseMaps], None]


class MapShelf:
    """The maps of the last sampling runs of a patched model and its clones; they are there when a run is over.

    Args:
        problem: why there will never be any, where the model cannot be patched.
    """

    def __init__(self, problem: str = "") -> None:
        self._problem = problem
        self._runs: deque[tuple[int, str, PhraseMaps | None, tuple[str, ...]]] = deque(maxlen=_RUNS)
        self._numbers = itertools.count(1)  # of all runs, also of those that are no longer kept

    def maps(self, latent: Tensor | None = None) -> tuple[PhraseMaps | None, list[str]]:
        """Return the maps of the run that a latent came from, and sentences for the user.

        Args:
            latent: [images, C, height, width] as the sampler returned it; None for the last run, which is also taken
                where no run returned this one.
        """
        runs = tuple(self._runs)  # a sampler's thread may put another one
        if not runs:
            return None, [f"No maps: {self._problem or 'no sampler has run on this model. Connect it to a sampler.'}"]
        notes = []
        name = None if latent is None else _name(latent)
        found = next((run for run in reversed(runs) if run[1] == name), None)
        if latent is not None and found is None:
            notes.append("No sampler of this model returned this latent: these are the maps of its last run.")
        number, _, maps, left_out = found or runs[-1]
        if latent is None and len(runs) > 1:
            kept = f"{len(runs) - 1} earlier one{'s are' if len(runs) > 2 else ' is'} kept"
            notes.append(f"Maps of run {number} on this model, {kept}. Connect a latent to choose.")
        if maps is None:
            notes.append(_NO_GROUPS)
        return maps, [*notes, *left_out]

    def put(self, latent: Tensor, run: MapRun) -> None:
        """Keep what a run has read under the latent that it returned."""
        self._runs.append((next(self._numbers), _name(latent), run.result(), run.notes))


def collect_maps(model: Any, *, on_step: OnStep | None = None) -> tuple[Any, MapShelf]:
    """Return a clone of a model that collects the maps of each sampling run, and the shelf on which it lays them.

    Phrases are those that travel with the positive prompt's conditioning under `PHRASES_KEY`. Collecting replaces an
    earlier one on the same model. Image tokens that `patch_speed` has merged are unmerged in the maps; those that
    another patch has merged are left out, and noted.

    Args:
        model: of the patcher protocol, such as ComfyUI's ModelPatcher.
        on_step: called after each step with its number from 0, how many there are, and the maps so far.

    Raises:
        UnsupportedModelError: the model is no UNet with cross-attention.
    """
    network = original_network(model)
    found = cross_attentions(network) if isinstance(network, nn.Module) else ()
    layers = {(*block, index): attention for block, index, _, attention in found}
    if not layers:
        name = type(model if network is None else network).__name__
        raise UnsupportedModelError(f"model must be a UNet with cross-attention (SD 1.x, SD 2.x, SDXL), got {name}")
    shelf = MapShelf()

    patched = model.clone()
    patches = patched.model_options.setdefault("transformer_options", {}).setdefault("patches", {})
    patches[_PATCHES] = [patch for patch in patches.get(_PATCHES, []) if patch is not _read] + [_read]
    patched.remove_wrappers_with_key(_WRAPPER, KEY)

    def wrapper(*given: Any, **more: Any) -> Tensor:  # which a pack that copies a model's options does not copy
        return _sample(layers, shelf, on_step, *given, **more)

    patched.add_wrapper_with_key(_WRAPPER, KEY, wrapper)
    return patched, shelf


def _sample(
    layers: Layers,
    shelf: MapShelf,
    on_step: OnStep | None,
    executor: Any,
    noise: Tensor,
    latent_image: Tensor,
    sampler: Any,
    sigmas: Tensor,
    denoise_mask: Tensor | None = None,
    callback: Callable[..., Any] | None = None,
    *rest: Any,
    **more: Any,
) -> Tensor:
    """Sample as the host does, and lay the maps of the run on the shelf. The host fills in `executor` and the rest."""
    guider = executor.class_obj
    run = MapRun(guider, layers, (int(noise.shape[-2]), int(noise.shape[-1])))
    guider.model_options.setdefault("transformer_options", {})[KEY] = run  # the host's own copy for this run

    def step_ended(step: int, denoised: Tensor, x: Tensor, total: int) -> Any:
        answer = None if callback is None else callback(step, denoised, x, total)
        if on_step is not None and (maps := run.result()) is not None:
            on_step(step, total, maps)
        return answer

    listener = callback if on_step is None else step_ended
    latent = executor(noise, latent_image, sampler, sigmas, denoise_mask, listener, *rest, **more)
    shelf.put(latent, run)
    return latent


def _read(n: Tensor, context: Tensor, value: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Look at the input of a cross-attention; return it as it is."""
    run = options.get(KEY)
    if run is not None:
        run.record(n, context, options)
    return n, context, value


_read.takes_merged_tokens = True  # pyright: ignore[reportFunctionMemberAccess]  # so that `patch_speed` merges as ever


def _name(latent: Tensor) -> str:
    """Return a name that latents of equal values share."""
    values = latent.detach().to(device="cpu", dtype=torch.float32).contiguous()
    return hashlib.blake2b(values.numpy().tobytes(), digest_size=16).hexdigest()
