"""The state of one sampling run, and of one model call in it: its images, and the plans by which their tokens merge.

A plan is made row by row from features. Where these do not depend on the text (the noisy latent, or the clean image
predicted at the previous step) the rows of an image's prompt and of its empty prompt merge alike, and no image depends
on its neighbours in the batch.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from ...merging import MergePlan
from ..config import Grid, SpeedConfig
from ..report import SpeedReport, idle_in_run
from .estimate import estimate_features, is_estimated, keep_prediction
from .images import SAME_IMAGE, Image, ImageTracker, fingerprints
from .making import Matcher, make_plan, named_matcher, new_generator, serves_another_step
from .schedule import NoiseSchedule

Timestep = Tensor | float | int | None

_Key = tuple[int, Grid, int, torch.device]  # level, grid, tokens to merge and device: what a plan is made for
_MOST_RUNS = 64  # that a thread may have under way on one network; images drawn one by one may have one each


class SamplingRun:
    """One sampling run. It ends when nothing holds it any more.

    Args:
        config: what to merge.
        report: gets what happens.
        schedule: what the host knows about the noise.
        matcher: makes the plans in place of the matching that the config names.
        key: what the host knows the run by; None where it says nothing of runs.
        is_compiled: whether the network is compiled, so that nothing inside it can be looked at.

    Attributes:
        metric: where similarity is measured.
    """

    def __init__(
        self,
        config: SpeedConfig,
        report: SpeedReport,
        schedule: NoiseSchedule,
        *,
        matcher: Matcher | None = None,
        key: object = None,
        is_compiled: bool = False,
    ) -> None:
        self.config, self.report, self.schedule, self.key = config, report, schedule, key
        self.matcher = matcher
        self.metric = self._choose_metric(is_compiled)
        self.images = ImageTracker(is_announced=key is not None)
        self.lock = threading.RLock()  # a host may evaluate the rows of one step in several threads
        self.reuses_plans = config.refresh > 1 and self.metric != "block"
        self._assembled: dict[_Key, tuple[list[tuple[MergePlan, int]], MergePlan]] = {}

    @property
    def follows_images(self) -> bool:
        """Whether a step of the run needs to know the images of the step before."""
        return self.reuses_plans or self.metric == "estimate"

    def note_idle(self, timesteps: Iterable[float]) -> None:
        """Report what has no effect in a run whose steps are at these timesteps."""
        percents = sorted({self.schedule.percent(t) for t in timesteps})
        reuses = any(serves_another_step(1, self.config.refresh, b, a) for a, b in pairwise(percents))
        for sentence in idle_in_run(self.config, self.metric, percents, reuses_plans=reuses):
            self.report.note(sentence)

    def assemble(self, key: _Key, rows: list[tuple[MergePlan, int]]) -> MergePlan:
        """Return the plan of rows of earlier plans; the same rows give the same object."""
        if key not in self._assembled or self._assembled[key][0] != rows:
            self._assembled[key] = rows, MergePlan.of_rows(rows)
        return self._assembled[key][1]

    def _choose_metric(self, is_compiled: bool) -> str:
        metric, note = self.config.metric, self.report.note
        if metric == "block" and is_compiled:
            note("metric block is inside the compiled model: estimate is used instead")
            metric = "estimate"
        if metric == "estimate" and self.schedule.obstacle is not None:
            note(f"metric estimate has no effect here, latent is used instead: {self.schedule.obstacle}")
            metric = "latent"
        elif metric == "estimate" and self.schedule.assumption is not None:
            note(f"metric estimate: {self.schedule.assumption}")
        self.report.metric = metric
        return metric


class SamplingRuns(threading.local):
    """The sampling runs that each thread has under way on one network: a preview may run between two steps of one."""

    def __init__(self) -> None:
        self._runs: deque[SamplingRun] = deque(maxlen=_MOST_RUNS)  # the latest first

    def find(
        self,
        key: object,
        latent: Tensor,
        timesteps: Callable[[], list[float]],
        text: Tensor | None,
        new_run: Callable[[], SamplingRun],
        *,
        is_announced: bool = False,
    ) -> SamplingRun:
        """Return the run that a call belongs to, a new one where it belongs to none.

        Unless the host announces each run, it is one whose timestep is not below the call's and, of several, the one
        that knows most of the call's texts, or else the one with the image that is most like one of the call's. Where
        the host says nothing, it has to know one of the call's images. Two runs under way with one noise and one text
        cannot be told apart then, nor two that begin with one noise at one timestep.

        Args:
            key: what the host knows the run by; None where it says nothing of runs.
            latent: [B, C, height, width], the noisy latents of the call.
            timesteps: gives those of the call.
            text: [B, ...], what the rows are drawn from.
            new_run: makes a run with this key.
            is_announced: whether no other run has this key.
        """
        same = [run for run in self._runs if run.key == key]
        if not is_announced and same and same[0].follows_images:
            highest = max(timesteps(), default=0.0)
            same = [run for run in same if run.images.timestep >= highest]
        found = next(iter(same), None)
        if found is not None and found.follows_images and (len(same) > 1 or key is None):
            texts = set() if text is None else set(fingerprints(text))

            def unlikeness(run: SamplingRun) -> tuple[float, ...]:
                return -len(run.images.texts & texts), run.images.distance(latent), run.images.timestep

            found = min(same, key=unlikeness)
            if key is None and found.images.distance(latent) >= SAME_IMAGE:
                found = None  # it knows none of the images
        if found is None:
            found = new_run()
        self.drop(found)
        self._runs.appendleft(found)
        return found

    def drop(self, run: SamplingRun) -> None:
        """Forget a run, such as one that failed."""
        if run in self._runs:
            self._runs.remove(run)


class ModelCall:
    """The plans of one call of a network.

    After the call they stay for whoever holds it: gradient checkpointing runs blocks again in the backward pass.

    Args:
        run: the one that the call is a step of.
        latent: [B, C, height, width], the noisy latents: the input of the network without further channels.
        timestep: a number, or a tensor of one value or one per row. It is read back from its device only where the
            config asks for a part of the run, for a seed, or for what earlier steps know.
        text: [B, ...], what the rows are drawn from.

    Attributes:
        is_active: whether tokens may merge in this call.
        is_ahead: whether every plan was made before the call.
        rows: B.
    """

    def __init__(self, run: SamplingRun, latent: Tensor, timestep: Timestep, text: Tensor | None = None) -> None:
        config, self.run, self.text = run.config, run, text
        is_whole_run = config.start_percent <= 0 and config.end_percent >= 1
        timesteps = read_timesteps(timestep) if not is_whole_run or config.seed is not None else []
        self.is_active = is_whole_run or (bool(timesteps) and all(self._is_in_run(t) for t in timesteps))
        self.is_ahead, self.rows, self._device = False, len(latent), latent.device
        # rows at different timesteps leave it out of the draw, which must not depend on a row's neighbours
        self._drawn_at = timesteps[0] if len(set(timesteps)) == 1 else 0.0
        self._images: list[Image] = []
        self._has_merged = False
        self._plans: dict[_Key, MergePlan] = {}
        self._features: Tensor | None = None
        self._offered: Callable[[], Tensor] | None = None
        if run.follows_images:
            self._meet(latent, read_timesteps(timestep))
        if run.metric != "block":
            self._offered = partial(self._estimate, latent) if run.metric == "estimate" else lambda: latent

    @property
    def config(self) -> SpeedConfig:
        """What to merge."""
        return self.run.config

    def offer(self, features: Callable[[], Tensor]) -> None:
        """Make plans from [B, C, height, width] from now on, asked for when a plan is; earlier plans are dropped."""
        if not self.is_ahead:
            self._offered, self._features = features, None
            self._plans.clear()

    def plan(self, level: int, grid: Grid, part: str) -> MergePlan | None:
        """Return the plan of a part of a level whose tokens lie on a grid; parts of one ratio share it.

        None where the part shall run on every token.
        """
        tokens = grid[0] * grid[1]
        if not self.merges_at(level, grid):
            return None
        key = (level, grid, self.config.tokens_to_merge(tokens, part), self._device)
        if self.is_ahead or key in self._plans:
            return self._plans.get(key)
        if self.run.reuses_plans and self._images:
            with self.run.lock:
                plan = self._shared(key)
        else:
            plan = self._new(key)
        if plan is not None:
            self._plans[key] = plan
        return plan

    def merges_at(self, level: int, grid: Grid) -> bool:
        """Return whether a level merges on a grid at all, which needs as many tokens as the config says."""
        is_small = grid[0] * grid[1] < self.config.min_tokens
        if is_small:
            self.run.report.note_small(level, grid)
        return self.is_active and not is_small

    def make_ahead(self, wanted: Iterable[tuple[int, Grid, str]]) -> None:
        """Make the plans of a call, by level, grid and part, before it begins: a compiled one cannot.

        From then on nothing is looked at in it, and what has no plan runs on every token.
        """
        for level, grid, part in wanted:
            self.plan(level, grid, part)
        self.is_ahead = True

    def enter(self, level: int, grid: Grid, part: str, kept: int, channels: int) -> None:
        """Note, in the report too, that a part of a level runs on `kept` tokens of `channels` channels now."""
        self._has_merged = self._has_merged or kept < grid[0] * grid[1]
        self.run.report.record(level, grid, part, kept, channels)

    def end(self, output: object, *, has_run: bool = True) -> None:
        """End a call that came through: count it, unless something answered in place of the network, and learn."""
        if has_run:
            self.run.report.count(merged=self._has_merged)
        self._features = self._offered = None
        if self.run.metric != "estimate" or not self._images:
            return
        with self.run.lock:
            is_known = isinstance(output, Tensor) and keep_prediction(
                self._images, output, self.text, self.run.schedule
            )
        if not is_known:
            self.run.report.note(
                "metric estimate learns nothing from this model's output: it sees the noisy latent alone"
            )

    def _meet(self, latent: Tensor, timesteps: list[float]) -> None:
        if not timesteps:
            return
        of_rows = timesteps if len(timesteps) == len(latent) else timesteps[:1] * len(latent)
        with self.run.lock:
            self._images = self.run.images.meet(latent, of_rows)
            if self.run.reuses_plans:
                self._reuse_plans()

    def _reuse_plans(self) -> None:
        """Hand the plans of an image's last step on to this one, where the config's refresh says so."""
        for image in set(self._images):
            before = image.before
            if image.plans or before is None or not before.plans:
                continue
            percents = self.run.schedule.percent(image.t), self.run.schedule.percent(before.t)
            if serves_another_step(before.age + 1, self.config.refresh, *percents):
                image.plans, image.age = dict(before.plans), before.age + 1

    def _estimate(self, latent: Tensor) -> Tensor:
        if not is_estimated(self._images):
            self.run.report.blind_calls += 1
        return estimate_features(self._images, latent.device) if self._images else latent

    def _shared(self, key: _Key) -> MergePlan | None:
        """Return the plan of the images' rows: what they have of it is kept, the rest is made, once for each image."""
        missing = {image: row for row, image in reversed(list(enumerate(self._images))) if key not in image.plans}
        if missing:
            new = self._new(key, sorted(missing.values()))
            if new is None:
                return None
            for place, row in enumerate(sorted(missing.values())):
                self._images[row].plans[key] = new, place
        return self.run.assemble(key, [image.plans[key] for image in self._images])

    def _new(self, key: _Key, rows: list[int] | None = None) -> MergePlan | None:
        """Return a plan for some rows of the call, or for all; None before there are features."""
        if self._features is None and self._offered is not None:
            self._features = self._offered().detach()
        if self._features is None:
            return None
        level, grid, r, _ = key
        features = self._features if rows is None else self._features[rows]
        generator = new_generator(self.config.seed, level, self._drawn_at)
        return make_plan(features, grid, r, self.run.matcher or named_matcher(self.config, generator))

    def _is_in_run(self, timestep: float) -> bool:
        return self.config.start_percent <= self.run.schedule.percent(timestep) <= self.config.end_percent


def read_timesteps(timestep: Timestep) -> list[float]:
    """Return the numbers of a timestep, read back from its device."""
    if isinstance(timestep, Tensor):
        return [float(t) for t in timestep.detach().flatten().tolist()]
    return [] if timestep is None else [float(timestep)]
