"""What plans are made from where that comes before any block: the latent, its estimate, the first convolution."""

from functools import partial

from torch import Tensor, nn

from .diffusers_calls import Args
from .diffusers_schedule import SchedulerWatch, read_schedule
from .estimate import CleanEstimate
from .report import SpeedReport
from .sentences import idle_in_run
from .site import Observation
from .state import SpeedState, Timestep

_NEIGHBOURS = 9  # what the estimate tells of each channel at each token: its own and those around it


class ModelFeatures:
    """Offers the features that a metric wants, as they come; nothing is done to them before a plan asks.

    Args:
        report: tells the metric; another one stands in for it where its scheduler or a compiled call forbids it.
        state: is told of each call and each run that begins.
        observation: where the features are offered.
        watch: the scheduler of the model.

    Attributes:
        latent_channels: of the latent itself; those behind it (a mask, another picture) may differ between the rows
            of one image. None: all.
    """

    def __init__(self, report: SpeedReport, state: SpeedState, observation: Observation, watch: SchedulerWatch) -> None:
        self.latent_channels: int | None = None
        self._report = report
        self._state = state
        self._observation = observation
        self._watch = watch
        self._text: Tensor | None = None  # of the call that is under way
        self._estimate: CleanEstimate | None = None
        self._take_schedule(watch.scheduler)

    def begin(self, sample: Tensor, timestep: Timestep, text: Tensor | None) -> None:
        """Begin a model call on [B, C, height, width]."""
        if self._watch.scheduler is not self._scheduler:
            self._take_schedule(self._watch.scheduler)
        if self._watch.sees_new_run():
            self._state.begin_run()
            for sentence in idle_in_run(self._report.config, [self._state.percent(t) for t in self._watch.timesteps]):
                self._report.note(sentence)
        self._text = text
        self._state.begin(timestep, sample, self.latent_channels)
        channels, height, width = sample.shape[1:]
        channels = min(channels, self.latent_channels or channels)
        if self._report.metric == "latent":
            self._observation.offer((channels, height, width), partial(_first, sample, channels))
        elif self._report.metric == "estimate":
            shape = (_NEIGHBOURS * channels, height, width)
            self._observation.offer(shape, partial(self._expect, sample, channels))

    def begin_ahead(self, unet: nn.Module, sample: Tensor) -> None:
        """Offer what there is before a compiled call: metrics inside the model give way to its first convolution."""
        if self._report.metric in ("latent", "estimate"):
            return
        if self._report.metric != "stem":
            self._report.note(f"metric {self._report.metric} is inside the compiled model: stem is used instead")
            self._report.metric = "stem"
        stem = unet.get_submodule("conv_in")
        channels, height, width = sample.shape[1:]
        self._observation.offer((getattr(stem, "out_channels", channels), height, width), partial(stem, sample))

    def observe_stem(self, module: nn.Module, args: Args, output: Tensor) -> None:
        """Take the output [B, C, height, width] of the first convolution, as its hook."""
        if self._state.is_active and not self._state.is_ahead:
            channels, height, width = output.shape[1:]
            self._observation.offer((channels, height, width), partial(_first, output, channels))

    def learn(self, output: object) -> None:
        """Take what the model put out, when its call has ended."""
        predicted = output[0] if isinstance(output, tuple) else getattr(output, "sample", None)
        text, self._text = self._text, None
        if self._estimate is None or not self._state.images:
            return
        if not isinstance(predicted, Tensor) or not self._estimate.learn(self._state.images, predicted, text):
            self._report.note("metric estimate learns nothing from this model's output: it sees the noisy latent alone")

    def forget(self) -> None:
        """Forget a call that broke off."""
        self._text = None

    def _expect(self, sample: Tensor, channels: int) -> Tensor:
        images = self._state.images
        if self._estimate is None or not self._estimate.is_known(images):
            self._report.blind_calls += 1
        return self._estimate.features(images) if self._estimate and images else _first(sample, channels)

    def _take_schedule(self, scheduler: object) -> None:
        """Take over what a scheduler tells, and say where it is not enough."""
        self._scheduler = scheduler
        schedule = read_schedule(scheduler)
        self._state.train_timesteps = len(schedule.alphas)
        self._estimate = None
        if self._report.config.metric != "estimate":
            return
        if schedule.obstacle is not None:
            self._report.metric = "latent"
            self._report.note(f"metric estimate cannot be had, latent is used instead: {schedule.obstacle}")
            return
        self._report.metric = "estimate"
        if schedule.assumption is not None:
            self._report.note(f"metric estimate: {schedule.assumption}")
        self._estimate = CleanEstimate(schedule.alphas, schedule.prediction_type)


def _first(features: Tensor, channels: int) -> Tensor:
    """Return the first channels of [B, C, height, width], or the very tensor where that is all of them."""
    return features if features.shape[1] == channels else features[:, :channels]
