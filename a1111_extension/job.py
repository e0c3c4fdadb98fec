"""One job of the host, from its first pass to its last: what is patched when, and what there is to say of it."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from modules import shared
from PIL import Image
from torch import nn

from tome_core.speed import SpeedReport

from .bound_prompts import BoundPrompts
from .choice import Choice, Choose, Pass
from .maps import PromptMaps

_NO_BINDING = "Maps need “Bind each thing to its words”."
_STRENGTH_0 = "Nothing merges at speed strength 0."
_NOTHING = "Nothing to do: nothing is to merge, and “Bind each thing to its words” is not ticked."


class SpeedPatch(Protocol):
    """How a host's model is patched for one sampling; `webui.ModuleSpeed` and `forge.PatcherSpeed`."""

    reports: list[SpeedReport]
    merging: Any

    def start(self, p: Any, choose: Choose) -> None:
        """Merge in the sampling that comes. Raises ValueError where the model or the settings do not allow it."""
        ...

    def check(self, denoiser: Any) -> None:
        """See before a step that the patch is still in place."""
        ...

    def stop(self, p: Any) -> None:
        """Take everything off again."""
        ...

    def remarks(self, p: Any) -> list[str]:
        """Return what there is to say of other patches that go together with ours."""
        ...

    def network(self, p: Any) -> nn.Module | None:
        """Return the UNet that samples; None where hooks on it would not be called."""
        ...


class Job:
    """What ToMe does in one job that is on. It is kept on the job itself, so that jobs within jobs have their own.

    Args:
        p: the host's job; a copy that another extension makes of it is none of ours.
        choice: of the user.
        speed: how this host is patched.
    """

    def __init__(self, p: Any, choice: Choice, speed: SpeedPatch) -> None:
        self.choice = choice
        self.has_merged = False
        self._owner = weakref.ref(p)
        self._speed = speed
        config = choice.binding()
        self._bound = None if config is None else BoundPrompts(config, choice.values["groups"])
        self._maps = None if self._bound is None or not choice.values["maps"] else PromptMaps(self._bound)
        self._pictures: list[Image.Image] = []  # of the batch under way
        self._drawn = 0  # pictures of the batches before
        self._sheets: list[tuple[int, Image.Image]] = []
        self._notes: dict[str, None] = {}  # each sentence once, in order
        self._told: set[str] = set()  # of notes and bound groups
        if self._bound is None and choice.values["maps"]:
            self.note(_NO_BINDING)
        if choice.values["speed_strength"] == 0 and choice.preset() != "off":
            self.note(_STRENGTH_0)

    @property
    def has_bound(self) -> bool:
        """Whether any prompt was bound so far."""
        return self._bound is not None and self._bound.has_bound

    def belongs_to(self, p: Any) -> bool:
        """Return whether it is of a job itself."""
        return self._owner() is p

    def note(self, sentence: str) -> None:
        """Keep a sentence for the user."""
        self._notes[sentence] = None

    def before_encoding(self, p: Any) -> None:
        """Take the marks of groups out of the prompts that the host is about to encode."""
        if self._bound is None:
            return
        self._lay_maps()  # of the batch before
        p.prompts = self._bound.unmark(p.prompts)
        if getattr(p, "enable_hr", False):
            p.hr_prompts = self._bound.unmark(p.hr_prompts, is_hires=True)

    def start_pass(self, p: Any, cond: Any) -> None:
        """Patch the model for a pass, and encode what binding needs. A host may ask for it twice."""
        in_pass: Pass = "hires" if getattr(p, "is_hr_pass", False) else "first"
        self.abort(p)
        obstacle = merging_obstacle(p)
        if obstacle is not None:
            self.note(obstacle)
        else:
            for sentence in self._speed.remarks(p):
                self.note(sentence)
            with self._noting():
                self._speed.start(p, lambda family: self.choice.speed(family, in_pass))
        if self._bound is not None:
            self._bound.prepare(p, cond)
        self._attach_maps(p)

    def step(self, params: Any) -> None:
        """Bind the prompts of a step that is about to be computed."""
        with self._noting():
            self._speed.check(params.denoiser)
        self._attach_maps(params.denoiser.p)  # where a refiner took over, to its network as well
        if self._bound is not None:
            self._bound.apply(params)

    def end_passes(self, p: Any) -> list[str]:
        """Take everything off; return what was done since the last time, in lines for the user."""
        reports, lines = list(self._speed.reports), []
        for number, report in enumerate(reports, 1):
            part = f"Part {number} of {len(reports)}: " if len(reports) > 1 else ""  # a hires pass, a refiner
            lines += [f"{part}{line}" for line in report.result().splitlines()]
        self.has_merged = self.has_merged or any(report.merged_calls for report in reports)
        self._speed.reports.clear()
        self.abort(p)
        if not reports and self._bound is None and not self._notes:
            self.note(_NOTHING)
        return lines + self.new_notes()

    def new_notes(self) -> list[str]:
        """Return what was bound and what there is to say beside, each sentence once a job."""
        notes = [] if self._bound is None else self._bound.report().splitlines()
        notes += [*([] if self._maps is None else self._maps.notes), *self._notes]
        found = [note for note in dict.fromkeys(notes) if note not in self._told]
        self._told.update(found)
        return found

    def _attach_maps(self, p: Any) -> None:
        network = None if self._maps is None else self._speed.network(p)
        if self._maps is not None and network is None:
            self.note("No maps: the model is compiled.")
        elif self._maps is not None:
            self._maps.attach(network, self._speed.merging)

    def add_picture(self, picture: Image.Image) -> None:
        """Keep a picture of the batch under way, over which its maps are laid."""
        if self._maps is not None:
            self._pictures.append(picture)

    def take_sheets(self) -> list[tuple[int, Image.Image]]:
        """Return a sheet for each picture of the job that has maps, with its number; none where no maps are wanted."""
        self._lay_maps()
        sheets, self._sheets = self._sheets, []
        return sheets

    def _lay_maps(self) -> None:
        """Lay the maps of a finished batch over its pictures."""
        if self._maps is not None and self._pictures:
            sheets = self._maps.sheets(self._pictures)
            first = self._drawn if len(sheets) == len(self._pictures) else 0
            self._sheets += list(enumerate(sheets, first))
        self._drawn += len(self._pictures)
        self._pictures = []

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Inside the block, a model or settings that do not allow merging leave a note, and binding goes on."""
        try:
            yield
        except ValueError as problem:  # UnsupportedModelError among them
            self.note(f"Nothing merges: {problem}.")

    def abort(self, p: Any) -> None:
        """Take everything off, whatever state it is in."""
        self._speed.stop(p)
        if self._maps is not None:
            self._maps.close()


def merging_obstacle(p: Any) -> str | None:
    """Return why nothing must merge in a pass, where the host merges tokens itself, or cuts attention into tiles."""
    is_hires = getattr(p, "is_hr_pass", False)
    ratio = p.get_token_merging_ratio(for_hr=is_hires)
    if ratio and ratio > 0:
        return (
            f"Nothing merges: the webui's own token merging is on at {ratio:g}. "
            "Set “Token merging ratio” to 0 in the settings to merge with ToMe."
        )
    tiles = ("hypertile_enable_unet", *(["hypertile_enable_unet_secondpass"] if is_hires else []))
    if any(getattr(shared.opts, name, False) for name in tiles):
        return "Nothing merges: HyperTile is on, which cuts attention into tiles. Use one of the two."
    return None
