"""Attention maps of a diffusers UNet as it runs: `record_maps(pipeline, rows)`, until `close()` or the end of a `with`.

Hooks on `to_q` and `to_k` of each cross-attention read what the layer itself goes on with; its attention is not
replaced, and whatever kernel it has stays.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import UnsupportedModelError
from .attention import Grid, attention_maps, resize


def record_maps(model: object, rows: Sequence[int], *, images: int = 1, merging: Any = None) -> "MapRecorder":
    """Record the attention maps of chosen text rows in every call of a UNet from now on; return the recorder.

    Every cross-attention layer counts the same, at whatever size it runs. Nothing that the model computes changes.

    Args:
        model: a pipeline with a `unet`, or the UNet itself.
        rows: the text rows to record, one map each, such as the first noun row of each group.
        images: how many images a call draws; the last rows of its batch are theirs, those before are of the negative
            prompt. The images share one prompt.
        merging: the `SpeedHandle` that merges image tokens in this model, so that maps can be unmerged.

    Raises:
        UnsupportedModelError: the model has no cross-attention.
        ValueError: rows or images are out of their bounds.
    """
    if not rows or min(rows) < 0:
        raise ValueError(f"rows must be one or more numbers from 0 up, got {list(rows)}")
    if images < 1:
        raise ValueError(f"images must be a whole number from 1 up, got {images!r}")
    unet: Any = getattr(model, "unet", model)
    found = _transformers(unet)
    if not any(layers for _, layers in found):
        supported = "a UNet with cross-attention, or a pipeline with such a unet"
        raise UnsupportedModelError(f"model must be {supported}, got {type(model).__name__}")
    recorder = MapRecorder(tuple(rows), images, merging)
    recorder._install(unet, found)
    return recorder


class MapRecorder:
    """Maps as they are recorded; made by `record_maps`. They stay when it is closed.

    Attributes:
        calls: [images, K, height, width] float32 on the CPU for each model call, on the finest grid that has
            cross-attention; each value is a share of attention, from 0 to 1.
        notes: why layers were left out, each sentence once.
    """

    def __init__(self, rows: tuple[int, ...], images: int, merging: Any) -> None:
        self.calls: list[Tensor] = []
        self.notes: list[str] = []
        self._rows = rows
        self._images = images
        self._merging = merging
        self._hooks: list[RemovableHandle] = []
        self._latent: Grid = (0, 0)
        self._layers: list[Tensor] = []  # of the call under way

    @property
    def is_installed(self) -> bool:
        """Whether any hook is on the model."""
        return bool(self._hooks)

    def mean(self) -> Tensor:
        """Return [images, K, height, width]: the mean over all calls.

        Raises:
            ValueError: there was no call.
        """
        if not self.calls:
            raise ValueError("calls must be one or more before there is a mean, got none")
        return torch.stack(self.calls).mean(dim=0)

    def close(self) -> None:
        """Take every hook off the model. Closing again does nothing."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._layers.clear()

    def __enter__(self) -> "MapRecorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _install(self, unet: nn.Module, found: list[tuple[nn.Module, list[nn.Module]]]) -> None:
        """Put every hook on the model, or none."""
        try:
            self._hooks.append(unet.register_forward_pre_hook(self._begin, with_kwargs=True))
            self._hooks.append(unet.register_forward_hook(self._end, always_call=True))
            for transformer, layers in found:
                hooks = _LayerHooks(self)
                self._hooks.append(transformer.register_forward_pre_hook(hooks.read_grid, with_kwargs=True))
                for layer in layers:
                    self._hooks.append(layer.register_forward_pre_hook(hooks.read_layer, with_kwargs=True))
                    self._hooks.append(layer.get_submodule("to_q").register_forward_hook(hooks.read_queries))
                    self._hooks.append(layer.get_submodule("to_k").register_forward_hook(hooks.read_keys))
                    self._hooks.append(layer.register_forward_hook(hooks.end_layer))
        except BaseException:
            self.close()
            raise

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sample = args[0] if args else kwargs.get("sample")
        self._latent = (sample.shape[-2], sample.shape[-1]) if isinstance(sample, Tensor) else (0, 0)
        self._layers.clear()

    def _end(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        if output is not None and self._layers:  # None: the model raised
            finest = max((maps.shape[2], maps.shape[3]) for maps in self._layers)
            self.calls.append(torch.stack([resize(maps, finest) for maps in self._layers]).mean(dim=0).cpu())
        elif output is not None and not self.notes:
            self._note("a call gave no map: no cross-attention layer in it could be read")
        self._layers.clear()

    @torch.no_grad()
    def _record(self, layer: Any, q: Tensor, k: Tensor, mask: Tensor | None, grid: Grid) -> None:
        count = self._images
        if q.shape[0] < count or q.shape[0] % count:
            self._note(f"a batch of {q.shape[0]} rows is not of {count} images: it was left out")
            return
        tokens = grid[0] * grid[1]
        slots = None if q.shape[1] == tokens else self._slots(q.shape[0], q.shape[1], grid)
        if q.shape[1] != tokens and slots is None:
            self._note(f"{q.shape[1]} merged tokens were left out: record_maps needs the handle that merges them")
            return
        mask = mask[-count:] if mask is not None and mask.shape[0] == q.shape[0] else mask
        maps = attention_maps(q[-count:], k[-count:], layer.heads, self._rows, scale=layer.scale, mask=mask)
        if slots is not None:
            maps = maps.gather(2, slots[-count:].unsqueeze(1).expand(-1, len(self._rows), -1))
        self._layers.append(maps.float().unflatten(2, grid))

    def _slots(self, batch: int, kept: int, grid: Grid) -> Tensor | None:
        """Return [B, N], the merged token of each token on a grid, where the merging that was named made it."""
        if self._merging is None:
            return None
        for level in self._merging.report.levels:
            if tuple(-(-side // level.downsample) for side in self._latent) != grid:
                continue
            for part in self._merging.config.parts:
                plan = self._merging.state.plan(level.level, grid, part)
                if plan is not None and (plan.batch, plan.kept) == (batch, kept):
                    return plan.assignment
        return None

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)


class _LayerHooks:
    """The hooks on one transformer's cross-attention layers, which run one after another."""

    def __init__(self, recorder: MapRecorder) -> None:
        self._recorder = recorder
        self._grid: Grid | None = None
        self._layer: nn.Module | None = None
        self._mask: Tensor | None = None
        self._queries: Tensor | None = None

    def read_grid(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden_states = args[0] if args else kwargs["hidden_states"]  # [B, C, height, width]
        self._grid = (hidden_states.shape[2], hidden_states.shape[3]) if hidden_states.dim() == 4 else None

    def read_layer(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._layer, self._queries = module, None
        self._mask = args[2] if len(args) > 2 else kwargs.get("attention_mask")  # [B, 1, T]

    def read_queries(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self._queries = output

    def read_keys(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        queries, self._queries = self._queries, None
        if queries is not None and self._grid is not None and self._layer is not None:
            self._recorder._record(self._layer, queries, output, self._mask, self._grid)

    def end_layer(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        if self._queries is not None and getattr(module, "fused_projections", False):  # its to_kv ran, not its to_k
            self._recorder._note("fused projections were left out: the maps need unfuse_qkv_projections() before them")
        self._layer = self._queries = None


def _transformers(unet: object) -> list[tuple[nn.Module, list[nn.Module]]]:
    """Return each Transformer2DModel of a UNet with the cross-attention layers of its blocks."""
    if not isinstance(unet, nn.Module):
        return []
    transformers = [m for m in unet.modules() if any(cls.__name__ == "Transformer2DModel" for cls in type(m).__mro__)]
    return [(m, [layer for layer in m.modules() if _is_cross_attention(layer)]) for m in transformers]


def _is_cross_attention(module: nn.Module) -> bool:
    return bool(getattr(module, "is_cross_attention", False)) and hasattr(module, "to_q") and hasattr(module, "to_k")
