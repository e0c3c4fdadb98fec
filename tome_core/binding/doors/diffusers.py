"""Binding on diffusers: `apply_binding(pipeline, config)`, until `close()` or the end of a `with`."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from inspect import currentframe, signature
from typing import Any, Final

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ..config import BindingConfig
from ..encoding import BoundPrompt, Encoded, TextEncoder, encode_bound, read_prompt
from ..parsing.phrases import Parser, phrases, phrases_or_none
from ..rows.table import OtherTokensError, TokenTable
from .clip_towers import Tower, find_towers

_HANDLE: Final = "_tome_binding"  # the pipeline's attribute that finds a handle which another tool wrapped
_ROWS_ONLY: Final = {"num_images_per_prompt": 1, "do_classifier_free_guidance": False}
_is_compiling: Callable[[], bool] = getattr(torch.compiler, "is_compiling", bool)  # older torch has no such function


def apply_binding(
    pipeline: object, config: BindingConfig | None = None, *, parser: Parser = phrases
) -> "BindingHandle":
    """Bind every prompt that a pipeline encodes from now on; return the handle that takes it back.

    Hu et al. 2024, the part without gradients: composite tokens and end-token substitution, for one more run of the
    text encoder a prompt. The negative prompt and the pooled vectors stay (the paper does not discuss these; its code
    keeps them). Markup is taken out of prompts; at strength 0 nothing else is changed, and markup that breaks a rule
    stays. Where SDXL gets a second prompt, each text encoder's rows are bound by the prompt that it reads. A prompt
    that a tokenizer changes before it cuts it stays unbound, with a warning; one with a group that the model does not
    read whole raises `ValueError` before it is encoded.

    Until it is closed the pipeline object has an `encode_prompt` of its own and `_tome_binding`, which finds the handle
    again; its class and weights are not touched. An earlier binding of the same pipeline is closed first, also one that
    another tool has wrapped. A pipeline that `from_pipe` makes of this one has no binding: a hook on each text encoder,
    which changes nothing, warns once where such a pipeline encodes a prompt, or this one without `encode_prompt`.

    Args:
        pipeline: `StableDiffusionPipeline`, `StableDiffusionXLPipeline`, or one that encodes prompts as these do.
        config: how to bind; None for the defaults.
        parser: from a prompt to its groups and its text without markup.

    Raises:
        TypeError: the config is none, such as a preset's word.
        UnsupportedModelError: the pipeline lacks a text encoder, a tokenizer or a UNet, or they are none of CLIP's, or
            it has no `encode_prompt` for prompts. Nothing is changed.
    """
    if config is not None and not isinstance(config, BindingConfig):
        made = "as binding_preset makes one of a preset's word"
        raise TypeError(f"config must be a BindingConfig, {made}; got {config!r}")
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
        self._signature = signature(type(pipeline).encode_prompt)  # another tool's may name fewer arguments
        self._own = vars(pipeline).get("encode_prompt")  # another tool's, if it put one there
        self._is_closed = False
        self._is_used = False  # whether anything was encoded by it yet
        self._has_warned = False
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
        read = read_prompt([self._parser(prompt)] * len(self._towers), _PipelineEncoder(self, {"prompt": prompt}))
        if read.refused:
            raise read.refused[0]
        return read.bound

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

    def __exit__(self, *error: object) -> None:
        self.close()

    def _install(self) -> None:
        """Put everything in its place, or nothing."""
        try:
            for tower in () if self.config.is_neutral else self._towers:
                self._hooks.append(tower.encoder.register_forward_pre_hook(self._watch))
            self._pipeline.encode_prompt = self._encode_bound
            setattr(self._pipeline, _HANDLE, self)
        except BaseException:
            self.close()
            raise

    def _watch(self, encoder: nn.Module, args: tuple[Any, ...]) -> None:
        """Warn once of a pipeline whose prompts stay unbound: it has no binding, or does not call `encode_prompt`."""
        pipeline = None if self._has_warned or _is_compiling() else _calling_pipeline()
        is_passed_by = pipeline is self._pipeline and not self._is_used
        if pipeline is None or (_HANDLE in vars(pipeline) and not is_passed_by):
            return
        self._has_warned = True
        problem = "does not encode by encode_prompt, so its prompts stay unbound"
        if not is_passed_by:
            shares = "shares the text encoder of a bound pipeline but not its binding"
            problem = f"{shares}, so its prompts stay unbound: call apply_binding on it"
        warnings.warn(f"{type(pipeline).__name__} {problem}", stacklevel=5)

    def _encode_bound(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the pipeline's `encode_prompt` does, and bind the rows of the prompt."""
        self.prompts, self._is_used = (), True
        if self._is_closed:
            return self._encode(*args, **kwargs)
        _, *arguments = self._signature.bind(self._pipeline, *args, **kwargs).arguments.items()
        given = dict(arguments)
        if given.get("prompt") is None or given.get("prompt_embeds") is not None:
            if not self.config.is_neutral:
                warnings.warn("binding has no effect on prompt_embeds: it has one on a prompt in words", stacklevel=3)
            return self._encode(*args, **kwargs)
        encoder = _PipelineEncoder(self, given)
        if self.config.is_neutral:
            texts = [[phrases_or_none(text, self._parser).text for text in own] for own in encoder.texts()]
            return encoder.encode(texts).rest
        read = [read_prompt([self._parser(text) for text in own], encoder) for own in encoder.texts()]
        for prompt in read:
            for error in prompt.refused:
                if not isinstance(error, OtherTokensError):
                    raise error
                warnings.warn(f"prompt was left unbound, {prompt.bound.parse.text!r}: {error}", stacklevel=3)
        self.prompts = tuple(prompt.bound for prompt in read)
        rows, encoded = encode_bound(read, encoder, self.config)
        if not any(prompt.rows for prompt in read):
            return encoded
        images = len(encoded[0]) // len(read)
        return (torch.cat(list(rows)).repeat_interleave(images, dim=0), *encoded[1:])


class _PipelineEncoder(TextEncoder):
    """A pipeline's text encoders in one call of its `encode_prompt`, whose other arguments are handed on."""

    def __init__(self, handle: "BindingHandle", given: Mapping[str, Any]) -> None:
        self.widths = [tower.width for tower in handle._towers]
        self._handle = handle
        self._given = given
        self._names = ["prompt", "prompt_2"][: len(self.widths)] if given.get("prompt_2") else ["prompt"]

    def texts(self) -> list[tuple[str, ...]]:
        """Return for each prompt of the call what each text encoder reads."""
        given = [self._given[name] for name in self._names]
        columns = [[prompts] if isinstance(prompts, str) else prompts for prompts in given]
        return list(zip(*(columns[min(i, len(columns) - 1)] for i in range(len(self.widths))), strict=True))

    def tokenise(self, texts: Sequence[str]) -> Sequence[str]:
        return texts  # the pipeline does it itself

    def tables(self, texts: Sequence[str], tokens: object) -> list[TokenTable]:
        return [tower.read(text) for tower, text in zip(self._handle._towers, texts, strict=True)]

    def encode(self, prompts: Sequence[Sequence[str]], *, rows_only: bool = False) -> Encoded:
        settings = dict(self._given)
        for name, texts in zip(self._names, zip(*prompts, strict=True), strict=False):
            settings[name] = texts[0] if isinstance(self._given[name], str) else list(texts)
        known = self._handle._signature.parameters  # not every pipeline's has these
        settings |= {name: value for name, value in _ROWS_ONLY.items() if rows_only and name in known}
        encoded = self._handle._encode(**settings)
        images = len(encoded[0]) // len(prompts)
        return Encoded(encoded[0][::images].unsqueeze(1), encoded)  # the images of one prompt share its rows


def _calling_pipeline() -> object | None:
    """Return the innermost diffusers pipeline among the callers; None where something else runs the text encoder."""
    frame = currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if any(cls.__name__ == "DiffusionPipeline" for cls in type(caller).__mro__):
            return caller
        frame = frame.f_back
    return None
