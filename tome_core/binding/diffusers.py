"""Binding on diffusers: `apply_binding(pipeline, config)`, until `close()` or the end of a `with`."""

import warnings
from collections.abc import Callable, Sequence
from inspect import currentframe, signature
from types import TracebackType
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .bound import BoundPrompt
from .composite import Layout, bind_rows
from .config import BindingConfig
from .diffusers_towers import Tower, find_towers
from .parse import Parse
from .phrases import phrases, phrases_or_none
from .table import OtherTokensError, row_groups

Parser = Callable[[str], Parse]
_UNBOUND: Final = Layout((), (), ())
_HANDLE: Final = "_tome_binding"  # the pipeline's attribute that finds a handle which another tool wrapped
_is_compiling: Callable[[], bool] = getattr(torch.compiler, "is_compiling", bool)  # older torch has no such function


def apply_binding(
    pipeline: object, config: BindingConfig | None = None, *, parser: Parser = phrases
) -> "BindingHandle":
    """Bind every prompt that a pipeline encodes from now on; return the handle that takes it back.

    Hu et al. 2024, the part without gradients: composite tokens and end-token substitution, for one more run of the
    text encoder a prompt. Markup is taken out of prompts; at strength 0 nothing else is changed, and markup that breaks
    a rule stays. The negative prompt and the pooled vectors stay as they are (the paper does not discuss
    these; its code keeps them). Until it is closed the pipeline object has an `encode_prompt` of its own and
    `_tome_binding`, which finds the handle again; its class and weights are not touched. An earlier binding of the same
    pipeline is closed first, also one that another tool has wrapped.

    A pipeline that `from_pipe` makes of this one has no binding. A hook on each text encoder, which changes nothing,
    warns once where such a pipeline encodes a prompt.

    Where SDXL gets a second prompt, each text encoder's rows are bound by its own prompt; the refiner, whose only text
    encoder reads the first one, by that. A prompt that a tokenizer changes before it cuts it stays unbound, with a
    warning.

    Args:
        pipeline: `StableDiffusionPipeline`, `StableDiffusionXLPipeline`, or one that encodes prompts as these do.
        config: how to bind; None for the defaults.
        parser: from a prompt to its groups and its text without markup.

    Raises:
        UnsupportedModelError: the pipeline lacks a text encoder, a tokenizer or a UNet, or they are none of CLIP's, or
            it does not encode its prompts by `encode_prompt`. Nothing is changed.
    """
    if config is not None and not isinstance(config, BindingConfig):
        raise TypeError(
            f"config must be a BindingConfig, as binding_preset makes one of a preset's word; got {config!r}"
        )
    towers = find_towers(pipeline)
    for earlier in (vars(pipeline).get(_HANDLE), getattr(vars(pipeline).get("encode_prompt"), "__self__", None)):
        if isinstance(earlier, BindingHandle):
            earlier.close()
    handle = BindingHandle(pipeline, config or BindingConfig(), parser, towers)
    handle._install()
    return handle


class BindingHandle:
    """Binding as it is installed on one pipeline; made by `apply_binding`.

    Attributes:
        config: how prompts are bound.
        prompts: what was bound in each prompt of the last call. Empty before the first one, and at strength 0.
    """

    def __init__(self, pipeline: Any, config: BindingConfig, parser: Parser, towers: tuple[Tower, ...]) -> None:
        self.config = config
        self.prompts: tuple[BoundPrompt, ...] = ()
        self._pipeline = pipeline
        self._parser = parser
        self._towers = towers
        self._encode: Callable[..., Any] = pipeline.encode_prompt
        self._signature = signature(type(pipeline).encode_prompt)  # another tool's may tell less
        self._own = vars(pipeline).get("encode_prompt")  # another tool's, if it put one there
        self._is_closed = False
        self._hooks: list[RemovableHandle] = []

    @property
    def is_installed(self) -> bool:
        """Whether the pipeline binds by this handle, also where another tool has wrapped it."""
        return vars(self._pipeline).get(_HANDLE) is self

    def read(self, prompt: str) -> BoundPrompt:
        """Return what will be bound in a prompt, for the first text encoder.

        Raises:
            ValueError: a group is cut off by the end of what the model reads, or the parser refuses the prompt.
        """
        parse = self._parser(prompt)
        return BoundPrompt(parse, _layout(self._towers[0], parse).groups)

    def close(self) -> None:
        """Give the pipeline its own encoding back. Closing again does nothing.

        What another tool put over it in the meantime stays, and goes straight through to the pipeline's own.
        """
        self._is_closed = True
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self.is_installed:
            delattr(self._pipeline, _HANDLE)
        if getattr(vars(self._pipeline).get("encode_prompt"), "__self__", None) is self:
            del self._pipeline.encode_prompt
            if self._own is not None:
                self._pipeline.encode_prompt = self._own

    def __enter__(self) -> "BindingHandle":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _install(self) -> None:
        """Put everything in its place, or nothing."""
        watch = _UnboundWatch()
        try:
            for tower in () if self.config.is_neutral else self._towers:
                self._hooks.append(tower.encoder.register_forward_pre_hook(watch))
            self._pipeline.encode_prompt = self._encode_bound
            setattr(self._pipeline, _HANDLE, self)
        except BaseException:
            self.close()
            raise

    def _encode_bound(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the pipeline's `encode_prompt` does, and bind the rows of the prompt."""
        self.prompts = ()
        if self._is_closed:
            return self._encode(*args, **kwargs)
        given = self._signature.bind(self._pipeline, *args, **kwargs).arguments
        given = dict(list(given.items())[1:])  # without the pipeline itself
        if given.get("prompt") is None or given.get("prompt_embeds") is not None:
            if not self.config.is_neutral:
                warnings.warn("binding has no effect on prompt_embeds: it has one on a prompt in words", stacklevel=3)
            return self._encode(*args, **kwargs)
        names = ["prompt", "prompt_2"] if given.get("prompt_2") else ["prompt"]
        if self.config.is_neutral:
            return self._encode(**given | {name: self._unmarked(given[name]) for name in names})
        parses = {name: [self._parser(text) for text in _as_list(given[name])] for name in names}
        by_tower = [parses[names[min(column, len(names) - 1)]] for column in range(len(self._towers))]
        layouts = self._layouts(by_tower)
        encoded = self._encode(**given | {name: _like(given[name], [x.text for x in parses[name]]) for name in names})
        if not any(layout.groups for own in layouts for layout in own):
            self.prompts = tuple(BoundPrompt(parse, ()) for parse in by_tower[0])
            return encoded
        self.prompts = tuple(map(BoundPrompt, by_tower[0], (layout.groups for layout in layouts[0])))
        images = given.get("num_images_per_prompt") or 1
        rows = encoded[0][::images]  # [prompts, T, D]; the images of one prompt share theirs
        bare_rows = rows
        if self.config.ends != "off":
            bare = {name: [parse.bare for parse in parses[name]] for name in names}
            alone = {"num_images_per_prompt": 1, "do_classifier_free_guidance": False}
            bare_rows = self._encode(**given | bare | alone)[0]
        bound = torch.stack([self._bind(rows[i], bare_rows[i], [own[i] for own in layouts]) for i in range(len(rows))])
        return (bound.repeat_interleave(images, dim=0), *encoded[1:])

    def _unmarked(self, prompt: str | list[str]) -> str | list[str]:
        return _like(prompt, [phrases_or_none(text, self._parser).text for text in _as_list(prompt)])

    def _layouts(self, parses: Sequence[Sequence[Parse]]) -> list[list[Layout]]:
        """Return the layout of each prompt for each text encoder, given the parses that each one reads."""
        layouts: list[list[Layout]] = [[] for _ in self._towers]
        for own in zip(*parses, strict=True):  # the parses of one prompt
            try:
                found = [_layout(tower, parse) for tower, parse in zip(self._towers, own, strict=True)]
            except OtherTokensError as error:
                warnings.warn(f"prompt was left unbound, {own[0].text!r}: {error}", stacklevel=4)
                found = [_UNBOUND] * len(self._towers)
            for column, layout in zip(layouts, found, strict=True):
                column.append(layout)
        return layouts

    def _bind(self, rows: Tensor, bare_rows: Tensor, layouts: Sequence[Layout]) -> Tensor:
        """Return the bound rows [T, D] of one prompt, whose columns are those of each text encoder in turn."""
        widths = [tower.width for tower in self._towers]
        parts = zip(rows.split(widths, dim=-1), bare_rows.split(widths, dim=-1), layouts, strict=True)
        return torch.cat([bind_rows(own, bare, layout, self.config) for own, bare, layout in parts], dim=-1)


class _UnboundWatch:
    """A hook on text encoders that warns once of a pipeline which shares them and has no binding."""

    def __init__(self) -> None:
        self._has_warned = False

    def __call__(self, encoder: nn.Module, args: tuple[Any, ...]) -> None:
        if self._has_warned or _is_compiling():
            return
        pipeline = _calling_pipeline()
        if pipeline is not None and _HANDLE not in vars(pipeline):
            self._has_warned = True
            shares = f"{type(pipeline).__name__} shares the text encoder of a bound pipeline but not its binding"
            warnings.warn(f"{shares}, so its prompts stay unbound: call apply_binding on it", stacklevel=5)


def _calling_pipeline() -> object | None:
    """Return the innermost diffusers pipeline among the callers; None where something else runs the text encoder."""
    frame = currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if any(cls.__name__ == "DiffusionPipeline" for cls in type(caller).__mro__):
            return caller
        frame = frame.f_back
    return None


def _layout(tower: Tower, parse: Parse) -> Layout:
    if not parse.groups:
        return _UNBOUND
    groups = row_groups(parse, tower.read(parse.text))
    return Layout(groups, (tower.end_of(parse.text),), (tower.end_of(parse.bare),))


def _as_list(prompt: str | list[str]) -> list[str]:
    return [prompt] if isinstance(prompt, str) else prompt


def _like(prompt: str | list[str], texts: list[str]) -> str | list[str]:
    return texts[0] if isinstance(prompt, str) else texts
