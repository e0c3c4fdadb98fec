"""Token merging on a plain torch module, such as A1111's UNet: hooks on it until `close()` or the end of a `with`."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ...errors import UnsupportedModelError
from ...merging import MergePlan
from ...unet_walk import uncompiled
from ..config import Grid, SpeedConfig, config_or_default
from ..engine.engine import SpeedEngine, drop_compiled_calls, is_compiled, is_compiling, may_be_ours, outside
from ..layouts.points import Args, Argument, Kwargs, Layout
from ..layouts.unet_original import SUPPORTED, has_original_layout, read_layout
from ..plans.making import Matcher
from ..plans.run import ModelCall, SamplingRun, SamplingRuns, Timestep, read_timesteps
from ..plans.schedule import NoiseSchedule, share_of_steps, stable_diffusion_alphas, variance_preserving
from ..report import SpeedReport, cap_sentence, gave_up_sentence


class RunSource(Protocol):
    """What a host knows about its sampling runs."""

    def key(self, timestep: object) -> object:
        """Return what the run of a call is known by; None where the host says nothing of runs."""
        ...

    def announces(self, key: Any) -> bool:
        """Return whether no other run has this key."""
        ...

    def schedule(self, key: Any) -> NoiseSchedule:
        """Return what is known of the noise in a run."""
        ...

    def timesteps(self, key: Any) -> list[float]:
        """Return the timesteps of a run; none where they are not known."""
        ...


@dataclass(frozen=True)
class NetworkCall:
    """How a whole network is called.

    Attributes:
        latent: [B, C, height, width], with the noisy latents in its first channels.
        timestep: a number, or a tensor of one value or one per row.
        text: [B, L, D].
        output: from what the network returns to its prediction [B, C, height, width].
    """

    latent: Argument
    timestep: Argument
    text: Argument
    output: Callable[[Any], object]


class AnnouncedRuns:
    """The runs of a host that announces them, in each of its threads. Otherwise timesteps that go up begin one.

    Args:
        noise: what is known of the noise in every run.
    """

    def __init__(self, noise: NoiseSchedule) -> None:
        self._noise = noise
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {"_noise": self._noise}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_noise"])

    @contextmanager
    def announced(self) -> Iterator[None]:
        """Take the calls of this thread for one run; a run within it is another one."""
        outer, self._local.key = self.key(None), object()
        try:
            yield
        finally:
            self._local.key = outer

    def key(self, timestep: object) -> object:
        """Return what the run of a call is known by."""
        return getattr(self._local, "key", None)

    def announces(self, key: object) -> bool:
        """Return whether no other run has this key."""
        return key is not None

    def schedule(self, key: object) -> NoiseSchedule:
        """Return what is known of the noise in a run."""
        return self._noise

    def timesteps(self, key: object) -> list[float]:
        """Return no timesteps: they are not known."""
        return []


def _itself(output: object) -> object:
    return output


_ORIGINAL = NetworkCall(Argument("x", 0), Argument("timesteps", 1), Argument("context", 2), _itself)


def apply_speed_to_module(
    network: nn.Module,
    config: SpeedConfig | None = None,
    *,
    prediction: str = "epsilon",
    call: NetworkCall = _ORIGINAL,
    layout: Layout | None = None,
    matcher: Matcher | None = None,
) -> "SpeedHandle":
    """Merge tokens in a network from now on; return the handle that takes it back.

    The network is changed in place, by hooks alone: its classes, methods, attributes and weights stay as they are. An
    earlier merging by this suite on it is closed first; with a neutral config that is all that happens.

    Args:
        network: a UNet in the original layout, called with noisy latents that are scaled to x = a z + s n with
            a^2 + s^2 = 1, as A1111 does.
        config: what to merge; None for the defaults.
        prediction: what the network predicts, "epsilon" or "v_prediction".
        call: how the network is called.
        layout: where it can merge; None to read it.
        matcher: a matching of your own, as `apply_speed` takes it.

    Raises:
        TypeError: the config is none, such as a preset's word.
        UnsupportedModelError: the network has no transformer blocks that are known. Nothing is changed.
        ValueError: the config names a level that the network lacks. Nothing is changed.
    """
    config, plain = config_or_default(config), uncompiled(network)
    if layout is None:
        layout = _layout_of(network, "give its layout, or give a UNet of diffusers to apply_speed")
    refuse_copies(plain)
    amounts = variance_preserving(stable_diffusion_alphas())
    runs = AnnouncedRuns(NoiseSchedule(share_of_steps(1000), prediction, amounts))
    engine = SpeedEngine(config, layout, matcher)
    return install_handle(plain, network, engine, runs, call)


def find_family(network: nn.Module) -> str:
    """Return the family of a UNet in the original layout. Raises `UnsupportedModelError` for any other network."""
    return _layout_of(network).family


def close_handles(network: nn.Module) -> None:
    """Close every merging by this suite on a network, such as one that a failed job has left."""
    owners = [getattr(hook, "__self__", None) for hook in uncompiled(network)._forward_pre_hooks.values()]
    for owner in owners:
        if isinstance(owner, SpeedHandle):
            owner.close()


def _layout_of(network: nn.Module, hint: str = "") -> Layout:
    plain = uncompiled(network)
    if not has_original_layout(plain):
        refuse_copies(plain)
        advice = f": {hint}" if hint else ""
        raise UnsupportedModelError(f"network must be {SUPPORTED}, got {type(plain).__name__}{advice}")
    return read_layout(plain)


def refuse_copies(network: object) -> None:
    """Raise `UnsupportedModelError` for a wrapper that copies its network for each call, as DataParallel does."""
    if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
        name = type(network).__name__
        raise UnsupportedModelError(
            f"model must be a network itself, got {name}, which copies it for each call: give its .module, and run one "
            "process a device"
        )


def install_handle(
    network: nn.Module, model: object, engine: SpeedEngine, runs: RunSource, call: NetworkCall
) -> "SpeedHandle":
    """Return a handle that merges in a network, in place of an earlier one by this suite.

    `model` is the network as its owner has it, perhaps compiled.
    """
    report = SpeedReport.before_calls(engine.layout, engine.config)
    if engine.config.exceeds_max_ratio:
        warnings.warn(cap_sentence(engine.config), stacklevel=3)
    handle = SpeedHandle(engine, report, runs, call)
    owners = [getattr(hook, "__self__", None) for hook in network._forward_pre_hooks.values()]
    for earlier in owners:
        if isinstance(earlier, SpeedHandle):
            earlier.report.note("another apply_speed on the same network has replaced this one")
            earlier.close()
    if not engine.config.is_neutral:
        handle._install(network)
        if any(map(is_compiled, (model, network, handle._first_block))):
            drop_compiled_calls()
    return handle


class SpeedHandle:
    """Token merging as it is installed on one network; made by `apply_speed` and `apply_speed_to_module`.

    The network keeps the merging alive, not this handle: a handle that is dropped leaves it merging.

    Attributes:
        config: what was asked for.
        report: what really happens; fills in as the network is called, and can still be read after `close()`.
        runs: what is known about the sampling runs.
    """

    def __init__(self, engine: SpeedEngine, report: SpeedReport, runs: RunSource, call: NetworkCall) -> None:
        self.config, self.report, self.runs = engine.config, report, runs
        self._engine, self._call = engine, call
        self._first_block: nn.Module | None = None
        self._is_compiled = self._is_closed = False
        self._hooks: list[RemovableHandle] = []
        self._start()

    def _start(self) -> None:
        """Make what no copy of this handle shares: the runs of each thread, and what stays out of compiled calls."""
        self._under_way = SamplingRuns()
        self._last = threading.local()
        self._begin_outside, self._end_outside = outside(self._begin_call), outside(self._end_call)

    @property
    def is_installed(self) -> bool:
        """Whether any hook is on the network."""
        return bool(self._hooks) and not self._is_closed

    def sampling_run(self) -> AbstractContextManager[None]:
        """Return a context in which the calls of this thread are one sampling run, where the host can announce it.

        Without it timesteps that go up begin another run, and images are recognised by their latents alone. A
        pipeline's scheduler announces each run by itself.
        """
        return self.runs.announced() if isinstance(self.runs, AnnouncedRuns) else nullcontext()

    def close(self) -> None:
        """Take every hook off the network and forget all plans. Closing again does nothing.

        From now on no call merges. Hooks that another thread's call has passed already stay until that call ends.
        """
        self._is_closed = True
        self._engine.abort()
        self._last.call = None
        self._under_way = SamplingRuns()
        self._engine.when_idle(self._remove_hooks)

    def _remove_hooks(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self._is_compiled:
            drop_compiled_calls()
            self._is_compiled = False

    def or_unmerged(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what a function returns that calls the network; where it fails, close, and call it once more.

        For hosts in which no error of merging may cost the picture. The report then says what it was.
        """
        if self.is_installed:
            try:
                return call(*args, **kwargs)
            except Exception as error:
                if not may_be_ours(error):
                    raise
                self.close()
                self.report.note(gave_up_sentence(error))
        self.report.count(merged=False)
        return call(*args, **kwargs)

    def plan(self, level: int, grid: Grid, part: str = "attention") -> MergePlan | None:
        """Return the plan of a part of a level in the last call of this thread; None before it, or where none is."""
        call: ModelCall | None = getattr(self._last, "call", None)
        return None if call is None else call.plan(level, grid, part)

    def plan_of(self, grid: Grid, kept: int) -> MergePlan | None:
        """Return the plan by which the call of this thread has merged tokens of a grid to so many; None for none."""
        return self._engine.plan_of(grid, kept)

    def __enter__(self) -> "SpeedHandle":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        own = ("_under_way", "_last", "_begin_outside", "_end_outside")
        return {name: value for name, value in vars(self).items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start()

    def _new_run(self, key: object, timestep: Timestep) -> SamplingRun:
        run = SamplingRun(
            self.config,
            self.report,
            self.runs.schedule(key),
            matcher=self._engine.matcher,
            key=key,
            is_compiled=self._is_compiled,
        )
        timesteps = self.runs.timesteps(key)
        if timesteps:
            first = max(read_timesteps(timestep), default=max(timesteps))  # img2img begins in the middle
            run.note_idle(t for t in timesteps if t <= first)
        return run

    def _install(self, network: nn.Module) -> None:
        """Put every hook on the network, or none."""
        self._first_block = network.get_submodule(self._engine.layout.stacks[0].blocks[0].path)
        try:
            self._hooks.append(network.register_forward_pre_hook(self._begin, with_kwargs=True))
            self._hooks.append(network.register_forward_hook(self._end, always_call=True))
            self._engine.install(network, self._hooks)
        except BaseException:
            self.close()
            raise

    def _begin(self, module: nn.Module, args: Args, kwargs: Kwargs | None = None) -> None:
        if kwargs is not None:  # another thread may run the network while this hook is only half registered
            self._begin_outside(args, kwargs, is_compiling())

    def _begin_call(self, args: Args, kwargs: Kwargs, is_traced: bool) -> None:
        self._engine.abort()
        self._last.call = None
        if self._is_closed:
            return
        x = self._call.latent.read(args, kwargs)
        if not isinstance(x, Tensor) or x.dim() != 4:
            self.report.note("a model input that is no batch of images [B, C, height, width] merges nothing")
            return
        self._is_compiled = self._is_compiled or is_traced or is_compiled(self._first_block)
        timestep, size = self._call.timestep.read(args, kwargs), (x.shape[2], x.shape[3])
        if timestep is None:
            name = self._call.timestep.name
            self.report.note(f"a call without {name} is nowhere in its run: it merges only where a whole run does")
        latent = x[:, : self._engine.layout.latent_channels]
        key = self.runs.key(timestep)
        new_run = partial(self._new_run, key, timestep)
        text = self._call.text.read(args, kwargs)
        run = self._under_way.find(
            key, latent, lambda: read_timesteps(timestep), text, new_run, is_announced=self.runs.announces(key)
        )
        call = self._last.call = ModelCall(run, latent, timestep, text)
        if self._is_compiled:
            self._engine.make_ahead(call, size)
        self._engine.begin(call, size)

    def _end(self, module: nn.Module, args: Args, output: object) -> None:
        self._end_outside(output)

    def _end_call(self, output: object) -> None:
        if output is None:  # the network raised
            run = self._engine.abort()
            if run is not None:
                self._under_way.drop(run)
            self._last.call = None
        elif getattr(self._last, "call", None) is not None:
            self._engine.end(self._call.output(output))
        elif not self._is_closed:
            self.report.count(merged=False)
