"""Token merging on the patcher protocol that ComfyUI and the Forge family share: `patch_speed(model, config)`.

A clone carries two wrappers, one around each sampling run and one around each model call, or one function in the one
slot that the Forge family has. What a run knows is in the options that the host makes for that run. Hooks are on the
network for the time of the run, or of one call where no run is announced, and act in its own calls alone: all clones of
a model share one network.
"""

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ...errors import UnsupportedModelError
from ...merging import MergePlan
from ...unet_walk import original_network, uncompiled
from ..config import WHOLE, SpeedConfig, config_or_default
from ..engine.engine import SpeedEngine, may_be_ours
from ..layouts.points import Layout
from ..layouts.unet_original import SUPPORTED, has_original_layout, read_layout
from ..plans.run import ModelCall, SamplingRun, SamplingRuns
from ..plans.schedule import NoiseSchedule, share_of_steps
from ..report import SpeedReport, gave_up_sentence
from .patches import OVERRIDE, CompiledMerging, Options, OtherPatches, SharedInCopies, with_attention_patches

KEY = "tome_speed"  # under which the host keeps the wrappers of a clone
RUN = "tome_speed_run"  # where the run is in the options that the host makes for it
MERGED = "tome_speed_merged"  # there: from the options of a patch to the plan by which its tokens are merged, if any
SLOT = "model_function_wrapper"  # the Forge family's one slot, in a patcher's `model_options`

_IS_MERGED = "tome_speed_is_merged"  # in the options of a call that a slot function of this suite has begun
_AROUND_RUN, _AROUND_CALL = "outer_sample", "apply_model"  # as ComfyUI names the places of its wrappers

_TIMESTEPS = 1000
_POINTS = 256  # of the table: the places in the run whose sigmas are asked for

OnEnd = Callable[[SpeedReport], None]


class Patcher(Protocol):
    """What every patcher has. Where it has keyed wrappers as well, as ComfyUI's, these are used."""

    model: Any
    model_options: dict[str, Any]

    def clone(self) -> Any:
        """Return another patcher of the same model."""
        ...


AnyPatcher = TypeVar("AnyPatcher", bound=Patcher)


def patch_speed(
    model: AnyPatcher, config: SpeedConfig | None = None, *, on_end: OnEnd | None = None
) -> tuple[AnyPatcher, SpeedReport]:
    """Return a clone of a patcher that merges tokens, and the report that fills in as it samples.

    Bolya & Hoffman 2023, "Token Merging for Fast Stable Diffusion". Neither `model` nor the network that it shares with
    its clones is changed. An earlier merging by this suite is replaced: with a neutral config a plain clone comes back.
    Other packs' patches stay, and see every token; where one of them does not go together with merging, that part steps
    aside and the report says so. The report is of all runs of the clone that are over, and of its clones.

    Args:
        model: a patcher of a UNet with transformer blocks (SD 1.x, SD 2.x, SDXL).
        config: what to merge; None for the defaults.
        on_end: is called with a report of that run alone when a sampling run is over, also when it failed or was
            interrupted. The Forge family announces no runs, and so it is never called there.

    Raises:
        TypeError: the config is none, such as a preset's word.
        UnsupportedModelError: the model has no such UNet, as DiT models.
        ValueError: the config names a level that the model lacks.
    """
    config = config_or_default(config)
    layout = read_layout(find_unet(model))
    layout.check_levels(config.levels)
    report = SpeedReport.before_calls(layout, config)
    clone = model.clone()
    _take_away(clone)
    if not config.is_neutral:
        _put_around(clone, SpeedWrappers(config, report, layout, on_end))
    return clone, report


def find_unet(model: object) -> nn.Module:
    """Return the UNet of a patcher (ComfyUI's ModelPatcher, Forge's UnetPatcher).

    Raises:
        UnsupportedModelError: there is none; the message names what there is.
    """
    network = original_network(model)
    if isinstance(network, nn.Module) and has_original_layout(network):
        return network
    found = type(model).__name__ if network is None else type(network).__name__
    hint = "" if network is None else ": merging in transformer models without a UNet (DiT) is not yet possible"
    raise UnsupportedModelError(f"model must be {SUPPORTED}, got {found}{hint}")


def find_family(model: object) -> str:
    """Return the family of a patcher's model, as its layout names it. Raises `UnsupportedModelError`."""
    return read_layout(find_unet(model)).family


def find_config(model: Any) -> SpeedConfig | None:
    """Return the config by which a patcher merges tokens, as `patch_speed` patched it; None where it does not."""
    in_slot = model.model_options.get(SLOT)
    if isinstance(in_slot, SlotFunction):
        return in_slot.wrappers.config
    wrappers = getattr(model, "wrappers", {}).get(_AROUND_CALL, {}).get(KEY, [])
    return wrappers[-1].__self__.config if wrappers else None


def _put_around(clone: Any, ours: "SpeedWrappers") -> None:
    """Put our wrappers around the runs and calls of a clone, or into the one slot that its host has."""
    if hasattr(clone, "add_wrapper_with_key"):
        clone.add_wrapper_with_key(_AROUND_RUN, KEY, ours.around_run)
        clone.add_wrapper_with_key(_AROUND_CALL, KEY, ours.around_call)
    else:
        clone.model_options[SLOT] = SlotFunction(ours, clone.model, clone.model_options.get(SLOT))


def _take_away(clone: Any) -> None:
    """Take an earlier merging by this suite off a clone."""
    for wrappers in getattr(clone, "wrappers", {}).values():
        wrappers.pop(KEY, None)
    in_slot = clone.model_options.get(SLOT)
    if isinstance(in_slot, SlotFunction):
        clone.model_options[SLOT] = in_slot.other
        if in_slot.other is None:
            del clone.model_options[SLOT]


class SpeedWrappers(SharedInCopies):
    """The wrappers of one patched clone and of its clones. What their runs leave in them is the report.

    Args:
        config: what to merge.
        report: gets what really happens, in all runs together.
        layout: where the network can merge.
        on_end: is called with the report of a sampling run when it is over.
    """

    def __init__(self, config: SpeedConfig, report: SpeedReport, layout: Layout, on_end: OnEnd | None = None) -> None:
        self.config, self._report, self._on_end = config, report, on_end
        self._engine = SpeedEngine(config, layout)
        self._before = report.of_one_run()
        self._unannounced = HostRun(config, report, is_announced=False)

    def around_run(self, executor: Any, *given: Any, **named: Any) -> Tensor:
        """Run the host's sampling, as its OUTER_SAMPLE wrapper."""
        options = getattr(executor.class_obj, "model_options", {}).setdefault("transformer_options", {})
        report = self._before.of_one_run()
        run = options[RUN] = HostRun(self.config, report, is_announced=True)
        try:
            return executor(*given, **named)
        finally:
            options.pop(RUN, None)
            run.unhook()
            self._report.add(report)
            if self._on_end is not None:
                self._on_end(report)

    def around_call(
        self,
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: Options | None = None,
        **named: Any,
    ) -> Tensor:
        """Run the host's model on noisy latents x [B, C, height, width] at sigmas t [B], as its APPLY_MODEL wrapper."""
        model, options = executor.class_obj, transformer_options or {}
        host_run: HostRun = options.get(RUN) or self._unannounced
        if host_run.has_given_up:
            host_run.report.count(merged=False)
            return executor(x, t, c_concat, c_crossattn, control, options, **named)
        if x.dim() != 4:
            host_run.report.note("a model input that is no batch of images [B, C, height, width] merges nothing")
            return executor(x, t, c_concat, c_crossattn, control, options, **named)
        others, network = OtherPatches(options), uncompiled(model.diffusion_model)
        is_compiled = others.compiles(model)
        try:
            call = host_run.begin(model, x, t, c_crossattn, options.get("sample_sigmas"), is_compiled=is_compiled)
        except Exception as error:  # whatever it is, it must not cost the picture
            host_run.give_up(error)
            return executor(x, t, c_concat, c_crossattn, control, options, **named)
        merging = CompiledMerging(self._engine, others)
        ours = {**options, MERGED: partial(_plan_at, merging)}
        if call.is_active:
            self._note_others(others, options, call.run.report, is_compiled=is_compiled)
        try:
            with nullcontext() if is_compiled else host_run.hooked(network, self._engine) as owner:
                self._engine.begin(call, (x.shape[2], x.shape[3]), others.obstacle, owner)
                given = with_attention_patches(ours, merging) if is_compiled else ours
                output = executor(x, t, c_concat, c_crossattn, control, given, **named)
        except BaseException as error:
            self._engine.abort()
            host_run.drop(call.run)
            if not (call.is_active and may_be_ours(error)):
                raise
            host_run.give_up(error)
            return executor(x, t, c_concat, c_crossattn, control, options, **named)
        self._engine.end(output)
        return output

    def _note_others(self, others: OtherPatches, options: Options, report: SpeedReport, *, is_compiled: bool) -> None:
        """Report what other packs or a compiled network keep from merging in a call, or get to see of it."""
        config = self.config
        for stack in self._engine.layout.stacks:
            if stack.level in config.levels:
                for sentence in others.replaced(stack, config.separate_parts):
                    report.note(f"level {stack.level}: {sentence}")
        if options.get(OVERRIDE) is not None and config.parts != ("mlp",):
            report.note("another pack's attention gets merged tokens: positions that it assumes are wrong")
        if is_compiled:
            report.note("compiling is cut at each block, where merging runs uncompiled: some of its gain is lost")
            if set(config.parts) & set(WHOLE):
                report.note("only attention merges: a compiled model has no patch point around whole blocks or the MLP")
            elif "mlp" in config.parts:
                report.note("mlp runs unmerged: a compiled model has no patch point around it")
            if config.weighs_keys:
                report.note("proportional has no effect: a compiled attention takes no weights for its keys")


class HostRun(SharedInCopies):
    """One sampling run of a host, in all its threads. Where the host announces none, it stands for all of them.

    Args:
        config: what to merge.
        report: gets what happens in this run.
        is_announced: whether the host announces its beginning and end.
    """

    def __init__(self, config: SpeedConfig, report: SpeedReport, *, is_announced: bool) -> None:
        self.report, self._config = report, config
        self.has_given_up = False
        self._key = object() if is_announced else None
        self._run: SamplingRun | None = None  # the announced one, which all threads of the host share
        self._under_way = SamplingRuns()
        self._levels: NoiseLevels | None = None
        self._hooks: dict[nn.Module, list[RemovableHandle]] = {}
        self._lock = threading.Lock()

    def begin(
        self, model: Any, x: Tensor, sigmas: Tensor, text: Tensor | None, steps: Tensor | None, *, is_compiled: bool
    ) -> ModelCall:
        """Begin a call on x [B, C, height, width] at `sigmas` [B], in a run whose steps are at sigmas `steps`."""
        sampling = model.model_sampling if hasattr(model, "model_sampling") else model.predictor  # ComfyUI, Forge
        levels = self._levels
        if levels is None or levels.model_sampling is not sampling:
            levels = self._levels = NoiseLevels(sampling)
        timesteps = levels.timesteps(sigmas)

        def new_run() -> SamplingRun:
            schedule = NoiseSchedule(share_of_steps(levels.train_timesteps))  # the model puts out clean latents
            run = SamplingRun(self._config, self.report, schedule, key=self._key, is_compiled=is_compiled)
            if self._key is not None and steps is not None and len(steps) > 1:
                run.note_idle(levels.timesteps(steps[:-1]).tolist())  # at last comes 0
            return run

        if self._key is None:
            run = self._under_way.find(None, x, timesteps.flatten().tolist, text, new_run)
        else:
            with self._lock:
                run = self._run = self._run or new_run()
        return ModelCall(run, x, timesteps, text)

    def give_up(self, error: BaseException) -> None:
        """Merge no more, for an error that must not cost the picture; the call that failed runs again."""
        self.has_given_up = True
        self.report.note(gave_up_sentence(error))
        self.report.count(merged=False)

    def drop(self, run: SamplingRun) -> None:
        """Forget what was known of a run that failed."""
        self._under_way.drop(run)
        self._run = None

    @contextmanager
    def hooked(self, network: nn.Module, engine: SpeedEngine) -> Iterator[object]:
        """Hook a network for a call, or for the rest of the run where its end will be announced; yield their owner."""
        if self._key is not None:
            with self._lock:
                if network not in self._hooks:
                    engine.install(network, self._hooks.setdefault(network, []), self)
            yield self
            return
        owner, handles = object(), list[RemovableHandle]()
        try:
            engine.install(network, handles, owner)
            yield owner
        finally:
            for handle in handles:
                handle.remove()

    def unhook(self) -> None:
        """Take every hook of the run off again."""
        for handle in [handle for handles in self._hooks.values() for handle in handles]:
            handle.remove()
        self._hooks.clear()


class NoiseLevels:
    """Timesteps of a model whose host counts noise by sigmas; timestep t is at 1 - t / `train_timesteps` of the run.

    Where the host numbers its sigmas, these numbers are the timesteps. Where it does not (EDM, distilled models), they
    are read from a table of its `percent_to_sigma`, made once, and interpolated by the logarithm of sigma.

    Args:
        model_sampling: the host's, with `percent_to_sigma` and, where its noise levels are numbered, `sigmas` and
            `timestep`.
    """

    def __init__(self, model_sampling: Any) -> None:
        self.model_sampling = model_sampling
        self.train_timesteps = _TIMESTEPS
        self._table: tuple[np.ndarray, np.ndarray] | None = None
        sigmas = getattr(model_sampling, "sigmas", None)
        if isinstance(sigmas, Tensor) and int(model_sampling.timestep(sigmas[-1:])) == len(sigmas) - 1:
            self.train_timesteps = len(sigmas)
        else:
            percents = (np.arange(_POINTS) + 0.5) / _POINTS
            logs = np.array([-math.log(max(float(model_sampling.percent_to_sigma(p)), 1e-12)) for p in percents])
            self._table = logs, percents

    def timesteps(self, sigmas: Tensor) -> Tensor:
        """Return the timestep of each sigma [B]. Nothing is read back from the device where the host numbers them."""
        if self._table is None:
            return self.model_sampling.timestep(sigmas).float()
        logs = -np.log(np.maximum(sigmas.detach().double().cpu().numpy(), 1e-12))
        percents = np.interp(logs, *self._table)
        return torch.from_numpy((1 - percents) * _TIMESTEPS).float()


class SlotFunction(SharedInCopies):
    """Token merging in the Forge family's slot: innermost, since what was in it may call on with tiles of a picture.

    Args:
        wrappers: what merges.
        model: the host's, with its `diffusion_model` and its noise levels.
        other: another extension's function; None where the slot was empty.
    """

    def __init__(self, wrappers: SpeedWrappers, model: Any, other: Callable[..., Tensor] | None) -> None:
        self.other = other
        self.wrappers, self._model = wrappers, model

    def __call__(self, apply_model: Callable[..., Tensor], given: dict[str, Any]) -> Tensor:
        """Run a model call, as the host asks for it: with `input`, `timestep` and, as `c`, all that is named."""
        options = given["c"].get("transformer_options") or {}
        if options.get(_IS_MERGED):  # a later merging by this suite is around this one, and replaces it
            if self.other is not None:
                return self.other(apply_model, given)
            return apply_model(given["input"], given["timestep"], **given["c"])
        given = {**given, "c": {**given["c"], "transformer_options": {**options, _IS_MERGED: True}}}
        inner = partial(self.wrappers.around_call, _SlotExecutor(self._model, apply_model))
        if self.other is not None:
            return self.other(inner, given)
        return inner(given["input"], given["timestep"], **given["c"])


class _SlotExecutor:
    """Calls the host's model on, as ComfyUI's executors do."""

    def __init__(self, model: Any, apply_model: Callable[..., Tensor]) -> None:
        self.class_obj, self._apply_model = model, apply_model

    def __call__(
        self, x: Tensor, t: Tensor, c_concat: Any, c_crossattn: Any, control: Any, options: Any, **named: Any
    ) -> Tensor:
        known = {"c_concat": c_concat, "c_crossattn": c_crossattn, "control": control}
        given = {name: value for name, value in known.items() if value is not None}
        return self._apply_model(x, t, **named, **given, transformer_options=options)


def _plan_at(merging: CompiledMerging, options: Mapping[str, Any]) -> MergePlan | None:
    """Return the plan by which a part, block or stack has merged the tokens that are seen now; None where all are."""
    engine = merging.engine
    for index, stack in enumerate(engine.layout.stacks):
        if stack.host_block == options.get("block"):
            call = engine.stack_call(index)
            return None if call is None else call.span or call.part
    return None
