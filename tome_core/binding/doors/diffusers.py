"""Binding on diffusers: `apply_binding(pipeline, config)`, until `close()` or the end of a `with`."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import currentframe, signature
from typing import Any, Final

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ...errors import UnsupportedModelError
from ..config import BindingConfig
from ..encoding import BoundPrompt, Encoded, TextEncoder, encode_bound, read_prompt
from ..parsing.phrases import Parser, phrases, phrases_or_none
from ..rows.table import OtherTokensError, TokenTable, read_tokens, token_bytes

_HANDLE: Final = "_tome_binding"  # the pipeline's attribute that finds a handle which another tool wrapped
_PAIRS: Final = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
_ROWS_ONLY: Final = {"num_images_per_prompt": 1, "do_classifier_free_guidance": False}
_is_compiling: Callable[[], bool] = getattr(torch.compiler, "is_compiling", bool)  # older torch has no such function


def apply_binding(
    pipeline: object, config: BindingConfig | None = None, *, parser: Parser = phrases
) -> "BindingHandle":
    """Bind every prompt that a pipeline encodes from now on; return the handle that takes it back.

    Hu et al. 2024, the part without gradients: composite tokens and end-token substitution, for one more run of the
    text encoder a prompt. The negative prompt and the pooled vectors stay, as in the authors' code. Markup is taken out
    of prompts; at strength 0 nothing else is changed, and markup that breaks a rule stays. SDXL's second prompt binds
    the rows of the text encoder that reads it. A prompt that a tokenizer changes before it cuts it stays unbound, with
    a warning; a group that the model does not read whole raises `ValueError` before anything is encoded.

    Until it is closed the pipeline object has an `encode_prompt` of its own and `_tome_binding`; its class and weights
    are not touched. An earlier binding is closed first, also one that another tool has wrapped. A hook on each text
    encoder, which changes nothing, warns once where a prompt is encoded unbound: by a pipeline that `from_pipe` made of
    this one, or by this one without `encode_prompt`.

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
    towers = _find_towers(pipeline)
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

    def __init__(self, pipeline: Any, config: BindingConfig, parser: Parser, towers: "tuple[Tower, ...]") -> None:
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


@dataclass(frozen=True)
class Tower:
    """One text encoder of a pipeline, and the number of columns that it adds to the rows."""

    pipeline: Any
    tokenizer: Any
    encoder: nn.Module
    width: int

    def read(self, text: str) -> TokenTable:
        """Return the table of a prompt, cut as the pipeline's own encoding cuts it; no token has what is cut off.

        Raises:
            OtherTokensError: the tokens are not those of the text.
        """
        convert = getattr(self.pipeline, "maybe_convert_prompt", None)  # each word of textual inversion to its tokens
        converted = text if convert is None else convert(text, self.tokenizer)
        ids = self.tokenizer(converted, truncation=True, max_length=self.tokenizer.model_max_length).input_ids
        added = self.tokenizer.get_added_vocab()
        tokens = self.tokenizer.convert_ids_to_tokens(ids[1:-1])
        return read_tokens(text, [[_added_bytes(x, added) if x in added else token_bytes(x) for x in tokens]])


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


def _find_towers(pipeline: object) -> tuple[Tower, ...]:
    """Return the text encoders of a pipeline in the order of their columns.

    Raises:
        UnsupportedModelError: it has none, or one that is not CLIP's, or it does not encode its prompts by
            `encode_prompt`; the message names what there is.
    """
    name = type(pipeline).__name__
    if getattr(pipeline, "unet", None) is None:
        raise _unsupported(name)
    encode = getattr(type(pipeline), "encode_prompt", None)
    if encode is None or "prompt" not in signature(encode).parameters:
        raise _unsupported(f"{name}, which does not encode its prompts by encode_prompt")
    towers: list[Tower] = []
    for names in _PAIRS:
        tokenizer, encoder = (getattr(pipeline, part, None) for part in names)
        missing = [part for part in names if getattr(pipeline, part, None) is None]
        if len(missing) == 2 and (towers or hasattr(pipeline, "tokenizer_2")):
            continue  # SD has the first alone, and SDXL's refiner the second
        if missing or encoder is None:
            raise _unsupported(f"{name} without {' and '.join(missing)}")
        if not any(cls.__name__.startswith("CLIPText") for cls in type(encoder).__mro__):
            raise _unsupported(f"{name} with a {type(encoder).__name__}")
        towers.append(Tower(pipeline, tokenizer, encoder, encoder.config.hidden_size))
    if not towers:
        raise _unsupported(f"{name} without a text encoder")
    return tuple(towers)


def _unsupported(found: str) -> UnsupportedModelError:
    supported = "a Stable Diffusion or SDXL pipeline with its tokenizers and CLIP text encoders"
    return UnsupportedModelError(f"pipeline must be {supported}, got {found}")


def _added_bytes(token: str, added: dict[str, int]) -> bytes | None:
    """Return the bytes of a token of textual inversion, as the prompt has them; None for its second and later ones."""
    base = re.sub(r"_\d+$", "", token)
    if base != token and base in added:
        return None
    return "".join(letter.lower() for letter in token).encode()


def _calling_pipeline() -> object | None:
    """Return the innermost diffusers pipeline among the callers; None where something else runs the text encoder."""
    frame = currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if any(cls.__name__ == "DiffusionPipeline" for cls in type(caller).__mro__):
            return caller
        frame = frame.f_back
    return None
