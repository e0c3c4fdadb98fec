"""Binding as a way to draw: `merge`, `merge+ets`, `published:ends=off`, `bind:norm=noun,preset=gentle`, `isolation`."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from ... import binding, clip_bytes, merging
from ...binding import BindingConfig, BindingHandle, Parse, apply_binding, phrases
from ...errors import as_user_error
from ..drawing import sampling
from ..drawing.method import Method, sources
from ..drawing.sampling import Settings
from ..suites import Case
from . import isolation
from .isolation import isolated, split_prompt

ISOLATION: Final = "isolation"
BINDING_KINDS: Final[dict[str, dict[str, Any]]] = {
    "bind": {},
    "merge": {"ends": "off"},
    "merge+ets": {},  # Hu et al. 2024
    "ets": {"modifier_weight": 0.0, "removed": "keep"},  # but things of several tokens are summed
    "published": {"noun_weight": 1.1, "modifier_weight": 1.2, "removed": "zero", "ends": "position"},
}


@dataclass(frozen=True)
class Binding(Method):
    """One way to bind prompts."""

    config: BindingConfig | None  # None where each phrase is encoded in a chunk of its own instead

    @property
    def identity(self) -> dict[str, Any]:
        """The config, with the code that binds."""
        rooms = *binding.__path__, *merging.__path__
        code = sources(*rooms, clip_bytes.__file__, __file__, isolation.__file__, sampling.__file__)
        return {"binds": "apart" if self.config is None else asdict(self.config), "code": code}

    def on(self, model: Any, cases: Sequence[Case] = ()) -> AbstractContextManager[object]:
        """Return a context in which a pipeline binds the prompts of cases, and after which nothing of it is left."""
        by_prompt = {case.prompt: case for case in cases}
        if self.config is None:
            return isolated(model, lambda text: split_case(by_prompt[text]))
        return apply_binding(model, self.config, parser=lambda text: read_case(by_prompt[text]))

    def try_out(self, pipeline: Any, cases: Sequence[Case], settings: Settings) -> list[str]:
        """Read all prompts and draw one step of one picture; return in sentences what has no effect.

        Raises `UserError` for a prompt that the parser refuses, or of which a group is cut off.
        """
        with as_user_error():
            notes = self._notes({case.prompt: case for case in cases})
            with self.on(pipeline, cases) as handle:
                if isinstance(handle, BindingHandle):
                    for prompt in dict.fromkeys(case.prompt for case in cases):
                        handle.read(prompt)
        self.draw(pipeline, cases[:1], replace(settings, steps=1))
        return notes

    def _notes(self, by_prompt: dict[str, Case]) -> list[str]:
        if self.config is not None and self.config.is_neutral:
            return ["strength 0 binds nothing: its pictures are the untouched ones"]
        if self.config is None:
            idle = [text for text, case in by_prompt.items() if len(split_case(case)) < 2]
        else:
            idle = [text for text, case in by_prompt.items() if not read_case(case).groups]
        if not idle:
            return []
        wanted = "two things of which something is said" if self.config is None else "thing of which something is said"
        return [f"no {wanted} in {len(idle)} of {len(by_prompt)} prompts, which stay as they are, such as {idle[0]!r}"]


def read_case(case: Case) -> Parse:
    """Return the groups of a case's prompt: what is compared is binding, and not how well a prompt is read.

    They are those of the rules, unless it is known what is wanted and the rules do not find just that: then each thing
    goes with its attribute as a user would list them, "cross: blue; circle: purple".
    """
    if not _is_listed(case):
        return phrases(case.prompt)
    return phrases(case.prompt, "; ".join(f"{shape}: {attribute}" for attribute, shape in case.wanted))


def count_listed(cases: Sequence[Case]) -> tuple[int, int]:
    """Return of how many different prompts `read_case` lists the groups instead of parsing them, and of how many."""
    different = {case.prompt: case for case in cases}
    return sum(map(_is_listed, different.values())), len(different)


def split_case(case: Case) -> tuple[str, ...]:
    """Return the phrases that are encoded apart: those of its suite, or else those that the rules find."""
    return case.phrases or split_prompt(case.prompt)


def _is_listed(case: Case) -> bool:
    return bool(case.wanted) and not _finds(phrases(case.prompt), case.wanted)


def _finds(parse: Parse, wanted: Sequence[tuple[str, str]]) -> bool:
    """Whether each thing is a group with its own attribute and nobody else's."""
    attributes = {attribute for attribute, _ in wanted}
    found = [
        (attributes & set(" ".join(map(parse.words, group.modifiers)).split()), parse.words(group.subject))
        for group in parse.groups
    ]
    return found == [({attribute}, shape) for attribute, shape in wanted]
