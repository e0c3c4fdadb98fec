"""Attention maps of a diffusers UNet as it runs: `record_maps(pipeline, rows)`, until `close()` or the end of a `with`.

`AttentionHooks` serve any UNet: hooks on `to_q` and `to_k` of each cross-attention read what the layer itself goes on
with; its attention is not replaced, and whatever kernel it has stays.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import UnsupportedModelError
from .maps import Grid, attention_maps, on_grid, resize, slots_of

# which of the equal parts of a batch is the prompt's, by the number of parts
_PLAIN: Final = {1: 0, 2: 1}  # the prompt alone, or behind the negative one
_PERTURBED: Final = {2: 0, 3: 1}  # the same, and the prompt once more, perturbed
_OTHERS: Final = {  # by a part of the pipeline's name
    "InstructPix2Pix": {1: 0, 3: 0},
    "LEdits": {2: 1},  # one part is the negative prompt, more than two are several edits
    "SAGPipeline": {2: 1},  # one part is the negative prompt, where there is guidance
}


def record_maps(model: object, rows: Sequence[int], *, images: int = 1, merging: Any = None) -> "MapRecorder":
    """Record the attention maps of chosen text rows in every call of a UNet from now on; return the recorder.

    Every cross-attention layer counts the same, at whatever size it runs. Nothing that the model computes changes.

    Args:
        model: a pipeline with a `unet`, or the UNet itself.
        rows: the text rows to record, one map each, such as the first noun row of each group.
        images: how many images a call draws; they share one prompt. A pipeline's guidance says which rows of a batch
            are the prompt's, and a call in which that is not known is left out with a note. In a UNet alone the last
            rows are theirs.
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
    layers = _layers(unet)
    if not layers:
        supported = "a UNet with cross-attention, or a pipeline with such a unet"
        raise UnsupportedModelError(f"model must be {supported}, got {type(model).__name__}")
    recorder = MapRecorder(tuple(rows), images, merging, None if unet is model else model)
    recorder._install(unet, layers)
    return recorder


class AttentionHooks:
    """Hooks on the cross-attentions of a UNet. What they do with a call is up to a class that derives from this one.

    Attributes:
        notes: why layers were left out, each sentence once.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._hooks: list[RemovableHandle] = []
        # of the layer under way, one after another; another tool may call its projections without it
        self._grid: Grid | None = None
        self._mask: tuple[object, Tensor | None] = (None, None)  # with the layer
        self._queries: tuple[object, Tensor | None] = (None, None)

    @property
    def is_installed(self) -> bool:
        """Whether any hook is on the model."""
        return bool(self._hooks)

    def close(self) -> None:
        """Take every hook off the model. Closing again does nothing."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def begin_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Prepare for a call of the UNet."""
        raise NotImplementedError

    def end_call(self, output: object) -> None:
        """Finish a call of the UNet, whose output is None where it raised."""
        raise NotImplementedError

    def mask_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """Return the mask in a call of a cross-attention, if it has one."""
        raise NotImplementedError

    def read(self, layer: Any, q: Tensor, k: Tensor, mask: Tensor | None, grid: Grid) -> None:
        """Read a cross-attention.

        Args:
            layer: the module.
            q: [B, N, heads * d], of image tokens, or of those that are left where some are merged.
            k: [B, T, heads * d], of text rows.
            mask: what is added to their products.
            grid: height and width in tokens.
        """
        raise NotImplementedError

    def _install(self, unet: nn.Module, found: dict[nn.Module, list[nn.Module]]) -> None:
        """Put every hook on a model, or none, given the cross-attentions in each of its transformers."""
        try:
            self._hooks.append(unet.register_forward_pre_hook(self._begin, with_kwargs=True))
            self._hooks.append(unet.register_forward_hook(self._end, always_call=True))
            for transformer, layers in found.items():
                self._hooks.append(transformer.register_forward_pre_hook(self._read_transformer, with_kwargs=True))
                for layer in layers:
                    self._hooks.append(layer.register_forward_pre_hook(self._read_layer, with_kwargs=True))
                    to_q, to_k = layer.get_submodule("to_q"), layer.get_submodule("to_k")
                    self._hooks.append(to_q.register_forward_hook(partial(self._read_queries, layer)))
                    self._hooks.append(to_k.register_forward_hook(partial(self._read_keys, layer)))
        except BaseException:
            self.close()
            raise

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.begin_call(args, kwargs)

    def _end(self, module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        self.end_call(output)

    def _read_transformer(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs.get("hidden_states", kwargs.get("x"))  # [B, C, height, width]
        self._grid = (x.shape[2], x.shape[3]) if isinstance(x, Tensor) and x.dim() == 4 else None

    def _read_layer(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._mask = (module, self.mask_of(args, kwargs))

    def _read_queries(self, layer: nn.Module, module: nn.Module, args: tuple[Any, ...], q: Tensor) -> None:
        self._queries = (layer, q)

    @torch.no_grad()
    def _read_keys(self, layer: nn.Module, module: nn.Module, args: tuple[Any, ...], k: Tensor) -> None:
        (owner, q), self._queries = self._queries, (None, None)
        masked, mask = self._mask
        if owner is layer and q is not None and self._grid is not None:
            self.read(layer, q, k, mask if masked is layer else None, self._grid)

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)


class MapRecorder(AttentionHooks):
    """Maps as they are recorded; made by `record_maps`. They stay when it is closed.

    Attributes:
        calls: [images, K, height, width] float32 on the CPU for each model call, on the finest grid that has
            cross-attention; each value is a share of attention, from 0 to 1.
        notes: why layers were left out, each sentence once.
    """

    def __init__(self, rows: tuple[int, ...], images: int, merging: Any, pipeline: object | None) -> None:
        super().__init__()
        self.calls: list[Tensor] = []
        self._rows = rows
        self._images = images
        self._merging = merging
        self._pipeline = pipeline
        # of the call under way
        self._maps: list[Tensor] = []
        self._is_negative = False

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
        super().close()
        self._maps.clear()

    def __enter__(self) -> "MapRecorder":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def begin_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._maps.clear()
        guider = getattr(self._pipeline, "guider", None)  # modular pipelines call the model for each part alone
        self._is_negative = guider is not None and not guider.is_conditional

    def end_call(self, output: object) -> None:
        if output is not None and self._maps:
            finest = max((maps.shape[2], maps.shape[3]) for maps in self._maps)
            self.calls.append(torch.stack([resize(maps, finest) for maps in self._maps]).mean(dim=0).cpu())
        elif output is not None and not self._is_negative and not self.notes:
            fused = "fused projections need unfuse_qkv_projections() before them"
            self._note(f"a call gave no map: no cross-attention layer in it could be read; {fused}")
        self._maps.clear()

    def mask_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        return args[2] if len(args) > 2 else kwargs.get("attention_mask")  # [B, 1, T]

    def read(self, layer: Any, q: Tensor, k: Tensor, mask: Tensor | None, grid: Grid) -> None:
        own = self._own_rows(q.shape[0])
        if own is None:
            return
        slots = None
        if q.shape[1] != grid[0] * grid[1]:
            plan = None if self._merging is None else self._merging.plan_of(grid, q.shape[1])
            slots = slots_of(plan, q, grid)
            if slots is None:
                self._note(f"{q.shape[1]} merged tokens were left out: record_maps needs the handle that merges them")
                return
            slots = slots[own]
        mask = mask[own] if mask is not None and mask.shape[0] == q.shape[0] else mask
        maps = attention_maps(q[own], k[own], layer.heads, self._rows, scale=layer.scale, mask=mask)
        self._maps.append(on_grid(maps, slots, grid))

    def _own_rows(self, batch: int) -> slice | None:
        """Return the rows of a batch that are the prompt's; None where it has none, and with a note if unknown."""
        if self._is_negative:
            return None
        parts, rest = divmod(batch, self._images)
        if parts == 0 or rest:
            self._note(f"a batch of {batch} rows is not of {self._images} images: it was left out")
            return None
        index = parts - 1 if self._pipeline is None else _part_index(self._pipeline, parts)
        if index is None:
            known = f"which of them are the prompt's is not known for {type(self._pipeline).__name__}"
            count = f"{self._images} image{'s' if self._images > 1 else ''}"
            self._note(f"a batch of {batch} rows for {count} was left out: {known}")
            return None
        return slice(index * self._images, (index + 1) * self._images)


def _part_index(pipeline: object, parts: int) -> int | None:
    """Return which of the equal parts of a batch is the prompt's; None where that is not known."""
    names = [cls.__name__ for cls in type(pipeline).__mro__]
    if getattr(pipeline, "do_perturbed_attention_guidance", False):
        return _PERTURBED.get(parts)
    other = next((indices for part, indices in _OTHERS.items() if any(part in name for name in names)), _PLAIN)
    return other.get(parts)


def _layers(unet: object) -> dict[nn.Module, list[nn.Module]]:
    """Return the cross-attention layers of a UNet by the Transformer2DModel that they are in."""
    modules = list(unet.modules()) if isinstance(unet, nn.Module) else []
    found = [m for m in modules if any(cls.__name__ == "Transformer2DModel" for cls in type(m).__mro__)]
    layers = {m: [layer for layer in m.modules() if _is_cross_attention(layer)] for m in found}
    return {m: inner for m, inner in layers.items() if inner}


def _is_cross_attention(module: nn.Module) -> bool:
    return bool(getattr(module, "is_cross_attention", False)) and hasattr(module, "to_q") and hasattr(module, "to_k")
