"""The life of merge plans in one model call: made once per level, shared by every block and part of that level.

A plan is made row by row from features that the caller lets us observe. Where those are free of text (the noisy latent,
or what the model makes of it before the first cross-attention) the rows of an image's prompt and of its empty prompt
merge alike, and no image depends on its neighbours in the batch.
"""

from collections.abc import Iterable

from torch import Tensor

from ..merging import MergePlan
from .config import SpeedConfig
from .level_report import Grid
from .plan_making import Matcher, make_plan, new_generator
from .refresh import is_kept
from .report import SpeedReport
from .run import Image, SamplingRun

_Key = tuple[int, Grid, int]  # level, grid and tokens to merge: what a plan is made for
Timestep = Tensor | float | int | None


class SpeedState:
    """The plans of the model call that is under way.

    After the call they stay until the next one begins: gradient checkpointing runs blocks again in the backward pass.
    Beside them only the images of the sampling run outlive the call, where the config needs them.

    Args:
        config: what to merge.
        report: gets the sizes as they are met, and each call when it ends.
        train_timesteps: the model's number of noise levels; timestep t is at 1 - t / train_timesteps of the run.
        matcher: makes the plans in place of the matching that the config names.
    """

    def __init__(
        self, config: SpeedConfig, report: SpeedReport, train_timesteps: int = 1000, matcher: Matcher | None = None
    ) -> None:
        self.config = config
        self.train_timesteps = train_timesteps
        self._matcher = matcher
        self._report = report
        self._drawn_at = 0.0
        self._run = SamplingRun()
        self._keeps_plans = config.refresh > 1 and config.metric != "block"
        self._follows_images = self._keeps_plans or config.metric == "estimate"
        self.reset()

    def reset(self) -> None:
        """Forget everything about earlier calls."""
        self._run.forget()
        self._assembled: dict[_Key, tuple[list[tuple[MergePlan, int]], MergePlan]] = {}
        self._clear()

    def begin_run(self) -> None:
        """Begin a sampling run, where the caller knows of it. Otherwise timesteps that go up tell it."""
        self._run.begin()
        self._clear()

    def _clear(self) -> None:
        self.is_active = self.is_ahead = False
        self._images: list[Image] = []
        self._unmet: tuple[Timestep, Tensor, int | None] | None = None  # what tells the images until they are met
        self._has_merged = False
        self._features: Tensor | None = None
        self._plans: dict[_Key, MergePlan] = {}

    def begin(self, timestep: Timestep, latent: Tensor | None = None, channels: int | None = None) -> None:
        """Begin a model call at `timestep` (a number, or a tensor of one value or one per row).

        The noisy latent [B, C, height, width], of which the first `channels` count (None: all), tells the image of each
        row. The timestep is read back from its device where the config asks for a part of the run or for a seed, and
        else not before `images` are asked for: a call in which nothing merges does nothing to either.
        """
        self._clear()
        config = self.config
        is_whole_run = config.start_percent <= 0 and config.end_percent >= 1
        timesteps = _read(timestep) if not is_whole_run or config.seed is not None else []
        self.is_active = is_whole_run or all(self._is_in_run(t) for t in timesteps)
        # rows at different timesteps leave it out of the draw, which must not depend on a row's neighbours
        self._drawn_at = timesteps[0] if len(set(timesteps)) == 1 else 0.0
        if self._follows_images and latent is not None:
            self._unmet = timestep, latent, channels
            if not self.is_active:
                self._meet()  # they are known again in the first step that merges

    @property
    def images(self) -> list[Image]:
        """The image of each row of the call, where the config needs them and the call told them."""
        self._meet()
        return self._images

    def _meet(self) -> None:
        unmet, self._unmet = self._unmet, None
        if unmet is None:
            return
        timesteps, latent = _read(unmet[0]), unmet[1][:, : unmet[2]]
        if timesteps:
            of_rows = timesteps if len(timesteps) == len(latent) else timesteps[:1] * len(latent)
            self._images = self._run.meet(latent, of_rows)
            if self._keeps_plans:
                self._keep_plans()

    def observe(self, features: Tensor) -> None:
        """Take [B, C, height, width] as what plans are made from; plans made from anything earlier are dropped.

        A call whose plans were all made ahead is past that.
        """
        if self.is_ahead:
            return
        self._features = features.detach()
        self._plans.clear()

    def make_ahead(self, keys: Iterable[tuple[int, Grid, str]]) -> None:
        """Make the plans of a call, by level, grid and part, before it begins: a compiled one cannot.

        From then on nothing is observed in it, and what has no plan runs on every token.
        """
        for level, grid, part in keys:
            self.plan(level, grid, part)
        self.is_ahead = True

    def enter(self, level: int, grid: Grid, part: str, kept: int) -> None:
        """Take note, in the report too, that a part of a level really runs on `kept` tokens of `grid` now."""
        self._has_merged = self._has_merged or kept < grid[0] * grid[1]
        self._report.record(level, grid, part, kept)

    def end(self) -> None:
        """End a model call that came through, and count it; its plans stay. One that raised is reset instead."""
        if self._has_merged:
            self._report.merged_calls += 1
        else:
            self._report.untouched_calls += 1
        self.is_active = False
        self._features = self._unmet = None

    def plan(self, level: int, grid: Grid, part: str = "attention") -> MergePlan | None:
        """Return the plan of one part of a level whose tokens lie on `grid` (height, width).

        Parts of one ratio share it. None before anything was observed.
        """
        tokens = grid[0] * grid[1]
        key = (level, grid, self.config.tokens_to_merge(tokens, part))
        if self.is_ahead:
            return self._plans.get(key)
        plan = self._plans.get(key) or (self._shared(key) if self._keeps_plans and self.images else self._new(key))
        if plan is not None:
            self._plans[key] = plan
        return plan

    def _keep_plans(self) -> None:
        """Let the images keep the plans of their last step where the config's refresh says so."""
        for image in set(self._images):
            before = image.before
            if image.plans or before is None or not before.plans:
                continue
            percents = self.percent(image.t), self.percent(before.t)
            if is_kept(before.age + 1, self.config.refresh, *percents):
                image.plans, image.age = dict(before.plans), before.age + 1

    def _shared(self, key: _Key) -> MergePlan | None:
        """Return the plan of the images' rows: what they have of it is kept, the rest is made, once for each image."""
        missing = {image: row for row, image in reversed(list(enumerate(self.images))) if key not in image.plans}
        if missing:
            new = self._new(key, sorted(missing.values()))
            if new is None:
                return None
            for place, row in enumerate(sorted(missing.values())):
                self.images[row].plans[key] = new, place
        rows = [image.plans[key] for image in self.images]
        if key not in self._assembled or self._assembled[key][0] != rows:
            self._assembled[key] = rows, MergePlan.of_rows(rows)
        return self._assembled[key][1]

    def _new(self, key: _Key, rows: list[int] | None = None) -> MergePlan | None:
        """Return a plan for some rows of the call, or for all; None before anything was observed."""
        if self._features is None:
            return None
        level, grid, r = key
        generator = new_generator(self.config.seed, level, self._drawn_at)
        features = self._features if rows is None else self._features[rows]
        return make_plan(features, grid, r, self.config, generator, self._matcher)

    def _is_in_run(self, timestep: float) -> bool:
        return self.config.start_percent <= self.percent(timestep) <= self.config.end_percent

    def percent(self, timestep: float) -> float:
        """Return where a timestep is in the run, from 0 to 1."""
        percent = round(1 - timestep / self.train_timesteps, 6)  # 1 - 0.8 shall be 0.2
        return min(max(percent, 0.0), 1.0)


def _read(timestep: Timestep) -> list[float]:
    if isinstance(timestep, Tensor):
        return [float(t) for t in timestep.detach().flatten().tolist()]
    return [] if timestep is None else [float(timestep)]
