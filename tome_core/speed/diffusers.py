"""Token merging on diffusers: `apply_speed(pipeline_or_unet, config)`, until `close()` or the end of a `with`."""

import warnings
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .call_times import CallClock
from .compiling import drop_compiled_calls, is_compiled, is_compiling, outside
from .config import SpeedConfig
from .diffusers_ahead import make_ahead
from .diffusers_calls import Args, Kwargs, Observation, argument
from .diffusers_costs import DiffusersCosts
from .diffusers_features import ModelFeatures
from .diffusers_guard import DiffusersGuard
from .diffusers_hooks import TransformerHooks
from .diffusers_layout import Level, find_levels, find_unet, first_transformer, transformer_blocks
from .diffusers_report import new_report
from .diffusers_schedule import SchedulerWatch
from .guard import LevelTimes, Timings
from .plan_making import Matcher
from .report import SpeedReport
from .sentences import cap_sentence
from .state import SpeedState


def apply_speed(
    model: object,
    config: SpeedConfig | None = None,
    *,
    matcher: Matcher | None = None,
    timings: Timings | None = None,
) -> "SpeedHandle":
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
        timings: times of your own for the guard, from a level's number and its grid (height, width), in place of
            measuring them here. The same times give the same decisions.

    Raises:
        UnsupportedModelError: the model has no UNet with transformer blocks. Nothing is changed.
        ValueError: the config names a level that the model lacks. Nothing is changed.
    """
    config = config or SpeedConfig()
    unet = find_unet(model)
    levels = find_levels(unet)
    report = new_report(unet, levels, config)
    if config.exceeds_max_ratio:
        warnings.warn(cap_sentence(config), stacklevel=2)
    state = SpeedState(config, report, matcher=matcher)
    guard = DiffusersGuard(config, report, levels, matcher, timings) if config.guard else None
    handle = SpeedHandle(config, report, state, SchedulerWatch(model), guard)
    for earlier in _installed_on(unet):
        earlier.close()
    if not config.is_neutral:
        report.costs = DiffusersCosts(config, tuple(level for level in levels if level.number in config.levels))
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
        guard: DiffusersGuard | None = None,
    ) -> None:
        self.config = config
        self.report = report
        self.state = state
        self._guard = guard
        self._clock = CallClock(report.call_times)
        self._observation = Observation()
        self._features = ModelFeatures(report, state, self._observation, watch)
        self._stay_outside()
        self._levels: tuple[Level, ...] = ()
        self._is_compiled = False
        self._hooks: list[RemovableHandle] = []
        self._transformers: list[TransformerHooks] = []

    @property
    def times(self) -> dict[tuple[int, tuple[int, int]], LevelTimes]:
        """What the guard has measured so far, by level and grid (height, width); `timings` of another handle."""
        return {} if self._guard is None else dict(self._guard.times)

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
        self._features.latent_channels = getattr(getattr(unet, "config", None), "out_channels", None)
        self._hooks.append(unet.register_forward_pre_hook(self._begin, with_kwargs=True))
        self._hooks.append(unet.register_forward_hook(self._end, always_call=True))
        if self.report.metric == "stem":
            self._hooks.append(unet.get_submodule("conv_in").register_forward_hook(self._features.observe_stem))

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
            guard = self._guard if chosen else None
            hooks = TransformerHooks(level, self.state, self.report, self._observation, guard)
            self._transformers.append(hooks)
            hooks.install(transformer, self.config if chosen else None, observed, self._hooks)

    def _begin(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        self._begin_outside(module, args, kwargs, is_compiling())

    def _begin_call(self, module: nn.Module, args: Args, kwargs: Kwargs, is_compiling: bool) -> None:
        self._observation.reset()
        sample, text = argument(args, kwargs, 0, "sample"), argument(args, kwargs, 2, "encoder_hidden_states")
        if not isinstance(sample, Tensor) or sample.dim() != 4:
            self.state.reset()
            self.report.note("a model input that is no batch of images [B, C, height, width] merges nothing")
            return
        self._features.begin(sample, argument(args, kwargs, 1, "timestep"), text)
        if self._guard is not None:
            rows, _, height, width = sample.shape
            self._guard.begin()
            self._clock.begin((rows, height, width), sample.device, merges=self.state.is_active)
        if is_compiling or is_compiled(self._levels[0].blocks[0]):
            self._is_compiled = True
            self._features.begin_ahead(module, sample)
            if self.state.is_active:
                chosen = [level for level in self._levels if level.number in self.config.levels]
                make_ahead(sample, text, chosen, self._transformers, self.state, self._observation, self._guard)

    def _end(self, module: nn.Module, args: Args, output: object) -> None:
        self._end_outside(output)

    def _end_call(self, output: object) -> None:
        if output is None:  # the model raised
            self._forget()
            return
        for transformer in self._transformers:
            transformer.end()
        self.state.end()
        self._observation.reset()
        if self._guard is not None:
            self._clock.end(self._guard.saved_seconds)
        self._features.learn(output)

    def _forget(self) -> None:
        self.state.reset()
        self._observation.reset()
        self._features.forget()
        self._clock.reset()
        for transformer in self._transformers:
            transformer.reset()


def _installed_on(unet: nn.Module) -> list[SpeedHandle]:
    """Return our handles on a UNet. Its hooks are where they are kept, so that closing leaves no trace anywhere."""
    owners = [getattr(hook, "__self__", None) for hook in unet._forward_pre_hooks.values()]
    return [owner for owner in owners if isinstance(owner, SpeedHandle)]
