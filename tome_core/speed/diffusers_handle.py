"""Token merging as it is installed on one diffusers UNet: its hooks, what begins and ends a call, and how it goes."""

from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .call_times import CallClock
from .compiling import drop_compiled_calls, is_compiled, is_compiling, outside
from .config import SpeedConfig
from .diffusers_ahead import make_ahead
from .diffusers_calls import Args, Kwargs, argument
from .diffusers_features import ModelFeatures
from .diffusers_hooks import TransformerHooks
from .diffusers_layout import first_transformer, transformer_blocks
from .diffusers_schedule import SchedulerWatch
from .guard import LevelTimes
from .level_guard import LevelGuard
from .levels import Level
from .report import SpeedReport
from .site import Observation
from .state import SpeedState


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
        guard: LevelGuard | None = None,
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
