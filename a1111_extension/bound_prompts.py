"""The prompts of one job with their groups bound, handed to the sampler step by step.

The host encodes prompts before a script sees them, and keeps what it has encoded for later jobs. So the rows are bound
in copies, and each step gets those by the host's own rules: which part of a schedule is active, and how prompts of
different lengths are stacked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from modules import devices, prompt_parser, shared
from torch import Tensor

from tome_core.attention_maps import Phrase, StepPrompts
from tome_core.binding import BindingConfig, Parse, phrases
from tome_core.binding.doors.chunks import BoundRows, HostEncoders, bind_chunks
from tome_core.binding.encoding import ReadPrompt, report
from tome_core.binding.parsing.markup import unmarked

from .encoders import text_encoders

_KEPT: Final = 4  # of a job's encoded prompts: a picture, its hires pass, and a refiner in each
_REFINED: Final = (
    "From where the refiner took over, prompts are as the webui encodes them: it has no room to encode more"
)
_OTHERS: Final = "another extension gives the sampler prompts of its own"

TextKey = tuple[int, int, int]
"""A text of a batch: the image, which of its AND parts, and which part of its schedule."""


@dataclass(frozen=True)
class _Known:
    """What a sampler may get as `cond`, a `MulticondLearnedConditioning` of the host, and what was made of it.

    Attributes:
        cond: the host's own.
        bound: the same with bound rows; the host's own where nothing is bound.
        phrases: of each text.
    """

    cond: Any
    bound: Any
    phrases: Mapping[TextKey, tuple[Phrase, ...]]


class BoundPrompts:
    """Binds the prompts of one job.

    Args:
        config: how to bind.
        groups: groups apart from the prompts, as `phrases` takes a listing.

    Attributes:
        notes: what is not bound and why, each sentence once.
        step: the prompts of the step under way as the network gets them, for maps; None before the first one.
    """

    def __init__(self, config: BindingConfig, groups: str = "") -> None:
        self.notes: list[str] = []
        self.step: StepPrompts | None = None
        self._config, self._parser = config, partial(phrases, listing=groups)
        self._known: list[_Known] = []
        self._marked: dict[bool, list[str]] = {}  # of the batch under way, by whether it is of the hires pass
        self._bound: dict[str, None] = {}  # a line for each group, in order

    def unmark(self, prompts: Sequence[str], *, is_hires: bool = False) -> list[str]:
        """Return prompts without the marks of their groups, which are remembered; markup that breaks a rule stays.

        For the prompts of a batch before the host encodes them, and for those of its hires pass.
        """
        self._marked[is_hires] = list(prompts)
        return [unmarked(prompt) for prompt in prompts]

    def prepare(self, p: Any, cond: Any) -> None:
        """Bind every prompt that the sampler will get; does nothing for what is known already.

        Args:
            p: the host's job, whose prompts were encoded.
            cond: the positive prompts as the sampler will get them. It stays as it is.
        """
        if self._find(cond) is not None:
            return
        try:
            with torch.no_grad(), devices.autocast():
                known = self._bind(p, cond)
        except Exception as error:  # whatever it is, it must not cost the picture
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            self._note(f"Nothing bound: {kind}{error}.")
            known = _Known(cond, cond, {})
        self._known = [*self._known, known][-_KEPT:]

    def apply(self, params: Any) -> None:
        """Give the step under way bound prompts, as `text_cond` of the parameters of the host's denoiser callback.

        What was not prepared, as after a refiner took over, is prepared now. Nothing is changed in place.
        """
        denoiser, self.step = params.denoiser, None
        cond = (denoiser.sampler.sampler_extra_args or {}).get("cond")
        if not hasattr(cond, "batch"):
            return
        if self._find(cond) is None and hasattr(denoiser.p.sd_model, "forge_objects"):
            self._note(f"{_REFINED}.")  # its text encoders would push the sampling network off the GPU
            return
        self.prepare(denoiser.p, cond)
        known = self._find(cond)
        if known is None or not known.phrases:
            return
        _, own = prompt_parser.reconstruct_multicond_batch(cond, denoiser.step)
        if not _same(own, params.text_cond):
            self._note(f"Nothing bound: {_OTHERS}.")
            return
        if known.bound is not cond:
            _, params.text_cond = prompt_parser.reconstruct_multicond_batch(known.bound, denoiser.step)
        self.step = _step(known, denoiser.step, params)

    @property
    def has_bound(self) -> bool:
        """Whether any rows were bound so far."""
        return bool(self._bound) and not self._config.is_neutral

    def report(self) -> str:
        """Return what is bound and what is not and why, in lines for the user."""
        if self._config.is_neutral and self._bound:
            return "\n".join(["Strength 0: prompts stay as they are.", *self.notes])
        return "\n".join([*(f"Bound {line}" for line in self._bound), *self.notes])

    def _find(self, cond: Any) -> _Known | None:
        return next((known for known in self._known if known.cond is cond), None)

    def _bind(self, p: Any, cond: Any) -> _Known:
        """Return what is made of `cond`. Raises ValueError for other text encoders, or another extension's prompts."""
        encoders = text_encoders(p.sd_model)
        schedules, texts, marked = _schedules(cond), *self._texts(p, cond)
        if {place: end for place, (end, _) in texts.items()} != {x: int(y.end_at_step) for x, y in schedules.items()}:
            raise ValueError(_OTHERS)
        bound: dict[tuple[str, int], BoundRows] = {}
        found: dict[TextKey, BoundRows] = {}
        for place, schedule in schedules.items():
            text, mark = texts[place][1], marked.get(place, (0, ""))[1]
            if mark != text and unmarked(mark) != text:
                self._note(f"Marks do not fit in with the prompt's schedule or AND, and have no effect in {text!r}.")
                mark = text
            key = (mark, id(schedule.cond))
            if key not in bound:
                bound[key] = self._bind_text(text, mark, _rows(schedule.cond), encoders)
            found[place] = bound[key]
        self._report([rows.read for rows in bound.values()])
        is_bound = not self._config.is_neutral and any(rows.read.rows for rows in bound.values())
        return _Known(
            cond,
            _with_rows(cond, {place: own.rows for place, own in found.items()}) if is_bound else cond,
            {place: own.read.bound.phrases for place, own in found.items()},
        )

    def _bind_text(self, text: str, marked: str, rows: Tensor, encoders: HostEncoders) -> BoundRows:
        """Return the bound rows of a text; a mistake of the user leaves them as they are, with a note."""
        try:
            parse = self._parser(marked)
        except ValueError as mistake:
            self._note(f"Nothing bound in {text!r}: {mistake}.")
            parse = Parse(text)
        return bind_chunks(rows, parse, encoders, self._config)

    def _texts(self, p: Any, cond: Any) -> tuple[dict[TextKey, tuple[int, str]], dict[TextKey, tuple[int, str]]]:
        """Return each text of the batch with the step at which it ends, as the host encoded it, and with its marks."""
        is_hires = bool(getattr(p, "is_hr_pass", False))
        prompts = list(p.hr_prompts if is_hires else p.prompts)
        last = int(cond.batch[0][0].schedules[-1].end_at_step)
        steps = (int(p.firstpass_steps), last) if is_hires else (last, None)
        marked = self._marked.get(is_hires, prompts)
        if [unmarked(prompt) for prompt in marked] != prompts:  # another extension has changed them since
            marked = prompts
        return _texts_at(prompts, *steps), _texts_at(marked, *steps)

    def _report(self, reads: Sequence[ReadPrompt]) -> None:
        """Keep what is bound in texts, and what is not and why. Without any group, what would be one."""
        for read in reads:
            lines = report(read).splitlines()
            count = len(read.bound.parse.groups) if read.rows else 0
            self._bound |= dict.fromkeys(lines[:count])
            if read.rows or read.refused:
                for line in lines[count:]:
                    self._note(line)
        if not self._bound and not self.notes:
            self._note(report(reads[0]))

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)


def _schedules(cond: Any) -> dict[TextKey, Any]:
    """Return the host's schedules of a batch, each with `end_at_step` and `cond`."""
    return {
        (image, number, index): schedule
        for image, parts in enumerate(cond.batch)
        for number, part in enumerate(parts)
        for index, schedule in enumerate(part.schedules)
    }


def _texts_at(prompts: Sequence[str], steps: int, hires_steps: int | None) -> dict[TextKey, tuple[int, str]]:
    """Return each text of prompts with the step at which it ends, by the host's own parser."""
    places, texts, _ = prompt_parser.get_multicond_prompt_list(prompts)
    old = (True,) if getattr(shared.opts, "use_old_scheduling", False) else ()  # Neo has no such setting
    schedules = prompt_parser.get_learned_conditioning_prompt_schedules(texts, steps, hires_steps, *old)
    return {
        (image, number, index): (int(end), text)
        for image, parts in enumerate(places)
        for number, (place, _) in enumerate(parts)
        for index, (end, text) in enumerate(schedules[place])
    }


def _with_rows(cond: Any, rows: Mapping[TextKey, Tensor]) -> Any:
    """Return a copy of a batch of the host's in which each text has other rows."""
    batch = []
    for image, parts in enumerate(cond.batch):
        batch.append([])
        for number, part in enumerate(parts):
            schedules = [
                schedule._replace(cond=_replaced(schedule.cond, rows[image, number, index]))
                for index, schedule in enumerate(part.schedules)
            ]
            batch[-1].append(type(part)(schedules, part.weight))
    return type(cond)(cond.shape, batch)


def _replaced(encoded: Any, rows: Tensor) -> Any:
    """Return what the host encoded with other rows: a tensor, or SDXL's dictionary with one."""
    return {**encoded, "crossattn": rows} if isinstance(encoded, Mapping) else rows


def _rows(encoded: Any) -> Tensor:
    return encoded["crossattn"] if isinstance(encoded, Mapping) else encoded


def _same(own: Any, given: Any) -> bool:
    """Return whether two stacks of the host's have the same rows."""
    first, second = _rows(own), _rows(given)
    return first.shape == second.shape and first.device == second.device and torch.equal(first, second)


def _step(known: _Known, step: int, params: Any) -> StepPrompts:
    """Return the prompts that a step hands to the network, of which the host chooses by its number."""
    images: list[int] = []
    found: list[tuple[Phrase, ...]] = []
    for image, parts in enumerate(known.cond.batch):
        for number, part in enumerate(parts):
            active = (index for index, schedule in enumerate(part.schedules) if step <= schedule.end_at_step)
            images.append(image)
            found.append(known.phrases[image, number, next(active, 0)])
    height, width = params.x.shape[-2:]
    return StepPrompts(_rows(params.text_cond), tuple(images), tuple(found), (int(height), int(width)))
