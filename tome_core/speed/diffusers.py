"""Token merging on diffusers: `apply_speed(pipeline_or_unet, config)`, until `close()` or the end of a `with`."""

import warnings
from types import TracebackType

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .config import WHOLE, SpeedConfig
from .diffusers_calls import Args, Kwargs, argument
from .diffusers_hooks import TransformerHooks
from .diffusers_layout import Level, find_levels, find_unet, first_transformer, transformer_blocks
from .diffusers_schedule import read_schedule
from .estimate import CleanEstimate
from .report import LevelReport, SpeedReport, cap_sentence
from .state import Matcher, SpeedState


def apply_speed(model: object, config: SpeedConfig | None = None, *, matcher: Matcher | None = None) -> "SpeedHandle":
    """Merge tokens in a diffusers model from now on; return the handle that takes it back.

    Bolya & Hoffman 2023, "Token Merging for Fast Stable Diffusion". The model is changed in place, by hooks alone: its
    classes, methods, attributes and weights stay as they are. An earlier merging of ours on the same UNet is closed
    first; with a neutral config that is all that happens.

    Args:
        model: a pipeline with a `unet`, or the UNet itself (SD 1.x, SD 2.x, SDXL).
        config: what to merge; None for the defaults.
        matcher: a matching of your own, from a metric [B, height * width, C], height, width and the number of tokens to
            merge to a plan. None: the one that the config names.

    Raises:
        UnsupportedModelError: the model has no UNet with transformer blocks. Nothing is changed.
        ValueError: the config names a level that the model lacks. Nothing is changed.
    """
    config = config or SpeedConfig()
    unet = find_unet(model)
    levels = find_levels(unet)
    report = _new_report(unet, levels, config)
    if config.exceeds_max_ratio:
        warnings.warn(cap_sentence(config), stacklevel=2)
    schedule = read_schedule(model)
    state = SpeedState(config, report, len(schedule.alphas), matcher)
    handle = SpeedHandle(config, report, state, CleanEstimate(schedule.alphas, schedule.prediction_type))
    for earlier in _installed_on(unet):
        earlier.close()
    if not config.is_neutral:
        handle._install(unet, levels)
    return handle


class SpeedHandle:
    """Token merging as it is installed on one UNet; made by `apply_speed`.

    The model keeps the merging alive, not this handle: a handle that is dropped leaves the model merging.

    Attributes:
        config: what was asked for.
        report: what really happens; fills in as the model is called, and can still be read after `close()`.
        state: the plans of the last model call.
    """

    def __init__(
        self,
        config: SpeedConfig,
        report: SpeedReport,
        state: SpeedState,
        estimate: CleanEstimate,
    ) -> None:
        self.config = config
        self._estimate = estimate
        self.report = report
        self.state = state
        self._metric = report.metric  # the one that the model allows
        self._latent_channels: int | None = None
        self._hooks: list[RemovableHandle] = []
        self._transformers: list[TransformerHooks] = []

    @property
    def is_installed(self) -> bool:
        """Whether any hook is on the model."""
        return bool(self._hooks)

    def close(self) -> None:
        """Take every hook off the model and forget all plans. Closing again does nothing."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._forget()
        self._transformers.clear()

    def __enter__(self) -> "SpeedHandle":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _install(self, unet: nn.Module, levels: tuple[Level, ...]) -> None:
        """Put every hook on the model, or none."""
        try:
            self._hook_model(unet)
            first = first_transformer(unet)
            for level in levels:
                for transformer in level.transformers:
                    self._hook_transformer(transformer, level.number, is_first=transformer is first)
        except BaseException:
            self.close()
            raise

    def _hook_model(self, unet: nn.Module) -> None:
        self._latent_channels = getattr(getattr(unet, "config", None), "out_channels", None)
        self._hooks.append(unet.register_forward_pre_hook(self._begin, with_kwargs=True))
        self._hooks.append(unet.register_forward_hook(self._end, always_call=True))
        if self._metric == "stem":
            self._hooks.append(unet.get_submodule("conv_in").register_forward_hook(self._observe_stem))

    def _hook_transformer(self, transformer: nn.Module, level: int, is_first: bool) -> None:
        chosen = level in self.config.levels
        observed: list[nn.Module] = []
        if self._metric == "block" and chosen:
            observed = transformer_blocks(transformer)
            if self.config.parts == ("stack",):  # inside it the tokens are merged already
                observed = observed[:1]
        elif self._metric == "first_block" and is_first:
            observed = transformer_blocks(transformer)[:1]
        if chosen or observed:
            hooks = TransformerHooks(level, self.state, self.report)
            self._transformers.append(hooks)
            hooks.install(transformer, self.config if chosen else None, observed, self._hooks)

    def _begin(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        sample = argument(args, kwargs, 0, "sample")
        if not isinstance(sample, Tensor) or sample.dim() != 4:
            self.state.reset()
            self.report.note("a model input that is no batch of images [B, C, height, width] merges nothing")
            return
        self.state.begin(argument(args, kwargs, 1, "timestep"))
        # channels behind the latent's own (a mask, another picture) may differ between the rows of one image
        latent = sample[:, : self._latent_channels]
        if self._metric == "latent":
            self.state.observe(latent)
        elif self._metric == "estimate":
            self.state.observe(self._estimate.expect(latent, argument(args, kwargs, 1, "timestep")))

    def _observe_stem(self, module: nn.Module, args: Args, output: Tensor) -> None:
        if self.state.is_active:
            self.state.observe(output)  # [B, C, height, width]

    def _end(self, module: nn.Module, args: Args, output: object) -> None:
        if output is None:  # the model raised
            self._forget()
            return
        self.state.end()
        predicted = output[0] if isinstance(output, tuple) else getattr(output, "sample", None)
        if isinstance(predicted, Tensor):
            self._estimate.learn(predicted)
        elif self._metric == "estimate":
            self.report.note("metric estimate learns nothing from this model's output: it sees the noisy latent alone")

    def _forget(self) -> None:
        self.state.reset()
        self._estimate.reset()
        for transformer in self._transformers:
            transformer.reset()


def _installed_on(unet: nn.Module) -> list[SpeedHandle]:
    """Return our handles on a UNet. Its hooks are where they are kept, so that closing leaves no trace anywhere."""
    owners = [getattr(hook, "__self__", None) for hook in unet._forward_pre_hooks.values()]
    return [owner for owner in owners if isinstance(owner, SpeedHandle)]


def _new_report(unet: nn.Module, levels: tuple[Level, ...], config: SpeedConfig) -> SpeedReport:
    """Return the report of a model before its first call, with all that can be said by then."""
    numbers = tuple(level.number for level in levels)
    if not set(config.levels) <= set(numbers):
        raise ValueError(f"levels must be among {numbers} on this {type(unet).__name__}, got {config.levels}")
    metric = "stem" if config.metric == "first_block" and _text_reaches_first_block(unet) else config.metric
    rows = [LevelReport(x.number, x.downsample, len(x.blocks), x.number in config.levels) for x in levels]
    report = SpeedReport(type(unet).__name__, config, metric, tuple(rows))
    if metric != config.metric:
        report.note("metric first_block would see the text on this model (in its time embedding): stem is used instead")
    present = {part for level in levels if level.number in config.levels for part in level.parts}
    for part in config.parts:
        if part not in present and part not in WHOLE:
            report.note(f"{part} has no effect: the blocks of the chosen levels have {', '.join(sorted(present))} only")
    return report


def _text_reaches_first_block(unet: nn.Module) -> bool:
    """Return whether the time embedding carries text or a class, as SDXL's carries pooled text."""
    return any(getattr(unet, name, None) is not None for name in ("add_embedding", "class_embedding"))
