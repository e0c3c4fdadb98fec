"""Token merging on diffusers: `apply_speed(pipeline_or_unet, config)`, until `close()` or the end of a `with`."""

import warnings
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .compiling import drop_compiled_calls, is_compiled, is_compiling, outside
from .config import WHOLE, SpeedConfig
from .diffusers_calls import Args, Kwargs, argument
from .diffusers_hooks import TransformerHooks
from .diffusers_layout import Level, find_levels, find_unet, first_transformer, transformer_blocks
from .diffusers_schedule import SchedulerWatch, idle_in_run, read_schedule
from .estimate import CleanEstimate
from .report import LevelReport, SpeedReport, cap_sentence
from .state import Matcher, SpeedState


def apply_speed(model: object, config: SpeedConfig | None = None, *, matcher: Matcher | None = None) -> "SpeedHandle":
    """Merge tokens in a diffusers model from now on; return the handle that takes it back.

    Bolya & Hoffman 2023, "Token Merging for Fast Stable Diffusion". The model is changed in place, by hooks alone: its
    classes, methods, attributes and weights stay as they are. An earlier merging of ours on the same UNet is closed
    first; with a neutral config that is all that happens.

    The model may be compiled, before or after, as a whole or block by block: plans are then made before each call, and
    metrics inside the model give way to stem. Give the model that was compiled, not what it was made from. If it has
    run already, whatever `torch.compile` made in this process is made anew, as it is after closing; with
    `fullgraph=True` it refuses to run.

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
    state = SpeedState(config, report, matcher=matcher)
    handle = SpeedHandle(config, report, state, SchedulerWatch(model))
    for earlier in _installed_on(unet):
        earlier.close()
    if not config.is_neutral:
        handle._install(unet, levels)
        if any(map(is_compiled, (getattr(model, "unet", model), unet, *levels[0].blocks))):
            drop_compiled_calls()
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
        watch: SchedulerWatch,
    ) -> None:
        self.config = config
        self.report = report
        self.state = state
        self._watch = watch
        self._scheduler: object = None
        self._estimate: CleanEstimate | None = None
        self._take_schedule(watch.scheduler)
        self._latent_channels: int | None = None
        self._text: Tensor | None = None  # of the call that is under way
        self._stay_outside()
        self._levels: tuple[Level, ...] = ()
        self._is_compiled = False
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
        if self._is_compiled:
            drop_compiled_calls()
            self._is_compiled = False
        self._forget()
        self._transformers.clear()

    def __enter__(self) -> "SpeedHandle":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.endswith("_outside")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._stay_outside()

    def _stay_outside(self) -> None:
        """Keep what begins and ends a call out of any compiled one; a copy of this handle has its own."""
        self._begin_outside, self._end_outside = outside(self._begin_call), outside(self._end_call)

    def _install(self, unet: nn.Module, levels: tuple[Level, ...]) -> None:
        """Put every hook on the model, or none."""
        self._levels = levels
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
        if self.report.metric == "stem":
            self._hooks.append(unet.get_submodule("conv_in").register_forward_hook(self._observe_stem))

    def _hook_transformer(self, transformer: nn.Module, level: int, is_first: bool) -> None:
        chosen = level in self.config.levels
        observed: list[nn.Module] = []
        if self.report.metric == "block" and chosen:
            observed = transformer_blocks(transformer)
            if self.config.parts == ("stack",):  # inside it the tokens are merged already
                observed = observed[:1]
        elif self.report.metric == "first_block" and is_first:
            observed = transformer_blocks(transformer)[:1]
        if chosen or observed:
            hooks = TransformerHooks(level, self.state, self.report)
            self._transformers.append(hooks)
            hooks.install(transformer, self.config if chosen else None, observed, self._hooks)

    def _begin(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        self._begin_outside(module, args, kwargs, is_compiling())

    def _begin_call(self, module: nn.Module, args: Args, kwargs: Kwargs, is_compiling: bool) -> None:
        sample = argument(args, kwargs, 0, "sample")
        if not isinstance(sample, Tensor) or sample.dim() != 4:
            self.state.reset()
            self.report.note("a model input that is no batch of images [B, C, height, width] merges nothing")
            return
        if self._watch.scheduler is not self._scheduler:
            self._take_schedule(self._watch.scheduler)
        if self._watch.sees_new_run():
            self.state.begin_run()
            for sentence in idle_in_run(self.config, [self.state.percent(t) for t in self._watch.timesteps]):
                self.report.note(sentence)
        # channels behind the latent's own (a mask, another picture) may differ between the rows of one image
        latent = sample[:, : self._latent_channels]
        self._text = argument(args, kwargs, 2, "encoder_hidden_states")
        self.state.begin(argument(args, kwargs, 1, "timestep"), latent)
        if self._estimate is not None and self.state.images:
            self.state.observe(self._estimate.features(self.state.images))
        elif self.report.metric in ("latent", "estimate"):
            self.state.observe(latent)
        if is_compiling or is_compiled(self._levels[0].blocks[0]):
            self._make_ahead(module, sample)

    def _make_ahead(self, unet: nn.Module, sample: Tensor) -> None:
        """Make every plan of a call that is compiled, or whose blocks are."""
        self._is_compiled = True
        if self.report.metric not in ("latent", "estimate"):
            if self.report.metric != "stem":
                self.report.note(f"metric {self.report.metric} is inside the compiled model: stem is used instead")
                self.report.metric = "stem"
            self.state.observe(unet.get_submodule("conv_in")(sample))
        height, width = sample.shape[2:]
        chosen = [level for level in self._levels if level.number in self.config.levels]
        if self.state.is_active:
            self.state.make_ahead(
                (level.number, level.grid(height, width), part)
                for level in chosen
                for part in self.config.merged_parts
                if part in (*level.parts, *WHOLE, "keys")
            )

    def _observe_stem(self, module: nn.Module, args: Args, output: Tensor) -> None:
        if self.state.is_active:
            self.state.observe(output)  # [B, C, height, width]

    def _end(self, module: nn.Module, args: Args, output: object) -> None:
        self._end_outside(output)

    def _end_call(self, output: object) -> None:
        if output is None:  # the model raised
            self._forget()
            return
        for transformer in self._transformers:
            transformer.end()
        self.state.end()
        predicted = output[0] if isinstance(output, tuple) else getattr(output, "sample", None)
        text, self._text = self._text, None
        if self._estimate is None or not self.state.images:
            return
        if not isinstance(predicted, Tensor) or not self._estimate.learn(self.state.images, predicted, text):
            self.report.note("metric estimate learns nothing from this model's output: it sees the noisy latent alone")

    def _take_schedule(self, scheduler: object) -> None:
        """Take over what a scheduler tells, and say where it is not enough."""
        self._scheduler = scheduler
        schedule = read_schedule(scheduler)
        self.state.train_timesteps = len(schedule.alphas)
        self._estimate = None
        if self.config.metric != "estimate":
            return
        if schedule.obstacle is not None:
            self.report.metric = "latent"
            self.report.note(f"metric estimate cannot be had, latent is used instead: {schedule.obstacle}")
            return
        self.report.metric = "estimate"
        if schedule.assumption is not None:
            self.report.note(f"metric estimate: {schedule.assumption}")
        self._estimate = CleanEstimate(schedule.alphas, schedule.prediction_type)

    def _forget(self) -> None:
        self.state.reset()
        self._text = None
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
