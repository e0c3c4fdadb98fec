"""The two wrappers that a patched clone has: one around each sampling run, one around each model call.

A clone of the host holds nothing else of ours. What a run knows is in the options that the host makes for that run,
what a call knows in those of the call, and both are gone with them. Where a host tells of no run, as Forge, what the
last one knew stays with the wrappers until the next one begins.
"""

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from torch import Tensor

from ..unet_walk import uncompiled
from .compiling import outside
from .config import WHOLE, SpeedConfig
from .level_guard import LevelGuard
from .patcher_attention import (
    merge_first_attention,
    merge_second_attention,
    unmerge_first_attention,
    unmerge_second_attention,
)
from .patcher_call import CALL, SpeedCall
from .patcher_features import metric_outside, observe_stem, offer_latent
from .patcher_forwards import hooked, needs_hooks
from .patcher_layout import Layout
from .patcher_others import Options, OtherPatches, Patch, with_patches
from .patcher_run import RUN, RunMemory, SpeedRun
from .patcher_weights import OVERRIDE, weigh_keys
from .report import SpeedReport
from .run_report import add_run, report_like

KEY = "tome_speed"  # under which the host keeps the wrappers of a clone
OnEnd = Callable[[SpeedReport], None]

_FIRST: dict[str, Patch] = {
    "input_block_patch": observe_stem,
    "attn1_output_patch": unmerge_first_attention,
    "attn2_output_patch": unmerge_second_attention,
}
_LAST: dict[str, Patch] = {"attn1_patch": merge_first_attention, "attn2_patch": merge_second_attention}


class SpeedWrappers:
    """Token merging as one patched clone has it. What its runs leave in it: the report, and what a guard has timed.

    Args:
        config: what to merge.
        report: gets what really happens, in all runs together.
        layout: where the network has its transformers.
        guard: decides what is left out; None where everything merges.
        on_end: is called with the report of a sampling run when it is over, also when it was broken off.
    """

    def __init__(
        self,
        config: SpeedConfig,
        report: SpeedReport,
        layout: Layout,
        guard: LevelGuard | None = None,
        on_end: OnEnd | None = None,
    ) -> None:
        self._config, self._report, self._layout = config, report, layout
        self._guard, self._on_end = guard, on_end
        self._before = report_like(report)
        self._untold = SpeedRun(config, report, is_told=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> "SpeedWrappers":
        return self  # clones of a clone merge alike, and tell the same report

    def around_run(self, executor: Any, *given: Any, **named: Any) -> Tensor:
        """Run the host's sampling, as its OUTER_SAMPLE wrapper."""
        options = getattr(executor.class_obj, "model_options", {}).setdefault("transformer_options", {})
        report = report_like(self._before)
        options[RUN] = SpeedRun(self._config, report, is_told=True)
        try:
            return executor(*given, **named)
        finally:
            options.pop(RUN, None)
            add_run(self._report, report)
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
        run: SpeedRun = options.get(RUN) or self._untold
        if x.dim() != 4:
            run.report.note("a model input that is no batch of images [B, C, height, width] merges nothing")
            return executor(x, t, c_concat, c_crossattn, control, options, **named)
        memory = run(_model_sampling(model), options.get("sample_sigmas"))
        try:
            call = self._begin(memory, x, t, c_crossattn, OtherPatches(options))
            is_compiled = call.others.compiles(model.diffusion_model)
            if is_compiled:
                _step_back(call)
            offer_latent(call, x, memory.estimates)
            network = uncompiled(model.diffusion_model)
            with hooked(network, call) if needs_hooks(call) and not is_compiled else nullcontext():
                ours = self._options(call, options, is_compiled=is_compiled)
                output = executor(x, t, c_concat, c_crossattn, control, ours, **named)
        except BaseException:
            memory.state.reset()
            raise
        self._end(call, memory, output)
        return output

    def _begin(self, memory: RunMemory, x: Tensor, t: Tensor, text: Tensor | None, others: OtherPatches) -> SpeedCall:
        memory.state.begin(memory.noise.timesteps(t), x)
        if self._guard is not None:
            self._guard.begin()
            memory.clock.begin((len(x), x.shape[2], x.shape[3]), x.device, merges=memory.state.is_active)
        report = memory.report
        found = self._layout, memory.state, others, report.metric
        return SpeedCall(self._config, report, *found, guard=self._guard, text=text)

    def _options(self, call: SpeedCall, options: Options, *, is_compiled: bool) -> Options:
        """Return the options of a call with all that its patches need."""
        first, last = (_FIRST, _LAST) if not is_compiled else (_outside(_FIRST), _outside(_LAST))
        ours = {**with_patches(options, first, last), CALL: call}
        if options.get(OVERRIDE) is not None and call.state.is_active and self._config.parts != ("mlp",):
            call.report.note("another pack's attention gets merged tokens: what it knows of their places does not hold")
        if self._config.weighs_keys:
            call.other_attention = options.get(OVERRIDE)
            ours[OVERRIDE] = _uncompiled_patch(weigh_keys) if is_compiled else weigh_keys
        return ours

    def _end(self, call: SpeedCall, memory: RunMemory, output: Tensor) -> None:
        if not call.has_run:  # a cache of another pack has answered, in its own time
            memory.clock.reset()
        else:
            memory.state.end()
            if self._guard is not None:
                memory.clock.end(self._guard.saved_seconds)
        memory.estimates.learn(call, output)


def _step_back(call: SpeedCall) -> None:
    """Leave out of a call what a compiled network does not let us reach, and say so."""
    config, report = call.config, call.report
    call.metric = metric_outside(call.metric, report)
    report.note("compiling is cut at each block, where merging runs uncompiled: some of its gain is lost")
    if set(config.parts) & {"mlp", *WHOLE}:
        left = "attention apart" if set(config.parts) & set(WHOLE) else "the other parts alone"
        report.note(f"{', '.join(config.parts)} merges {left}: the model is compiled, and has no patch point for more")


def _model_sampling(model: Any) -> Any:
    """Return the noise levels of a host's model: ComfyUI and Forge name them differently."""
    return model.model_sampling if hasattr(model, "model_sampling") else model.predictor


@functools.cache
def _uncompiled_patch(patch: Patch) -> Patch:
    return outside(patch)


def _outside(patches: dict[str, Patch]) -> dict[str, Patch]:
    """Return patches that a compiled network calls uncompiled."""
    return {name: _uncompiled_patch(patch) for name, patch in patches.items()}
