"""The ways to bind that a benchmark compares, as a user writes them: `merge`, `bind:norm=noun,ends=off`, `isolation`.

merge,merge+ets,ets,merge:norm=noun,published,published:ends=off,isolation
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from ...binding import BindingConfig, Parse, apply_binding, phrases
from ...evaluation.cases import Case
from ...settings import kinds
from ..console import UserError
from ..settings import bound_config
from .isolation import isolated, split_prompt

ISOLATION: Final = "isolation"
_KINDS: Final[dict[str, dict[str, Any]]] = {
    "bind": {},
    "merge": {"ends": "off"},
    "merge+ets": {},  # Hu et al. 2024
    "ets": {"modifier_weight": 0.0, "removed": "keep"},
    "published": {"noun_weight": 1.1, "modifier_weight": 1.2, "removed": "zero", "ends": "position"},
}
BINDINGS: Final = (*_KINDS, ISOLATION)


@dataclass(frozen=True)
class Binding:
    """One way to bind prompts.

    Attributes:
        name: as the user wrote it.
        config: composite tokens and end tokens; None where each phrase is encoded in a chunk of its own instead.
            "ets" leaves all rows but the end tokens, apart from things of several tokens, which are summed.
    """

    name: str
    config: BindingConfig | None

    def on(self, pipeline: Any, cases: Sequence[Case]) -> AbstractContextManager[object]:
        """Return a context in which a pipeline binds the prompts of some cases, and after which nothing of it is left.

        Groups and phrases are those that `read_case` and `split_case` give.
        """
        by_prompt = {case.prompt: case for case in cases}
        if self.config is None:
            return isolated(pipeline, lambda text: split_case(by_prompt[text]))
        return apply_binding(pipeline, self.config, parser=lambda text: read_case(by_prompt[text]))

    def notes(self, cases: Sequence[Case]) -> list[str]:
        """Return what has no effect, in sentences. Raises `UserError` for a prompt that the parser refuses."""
        if self.config is not None and self.config.is_neutral:
            return ["strength 0 binds nothing: its pictures are the untouched ones"]
        different = {case.prompt: case for case in cases}
        try:
            idle = [text for text, case in different.items() if not self._changes(case)]
        except ValueError as error:
            raise UserError(str(error)) from error
        if not idle:
            return []
        wanted = "two things of which something is said" if self.config is None else "thing of which something is said"
        return [f"no {wanted} in {len(idle)} of {len(different)} prompts, which stay as they are, such as {idle[0]!r}"]

    def _changes(self, case: Case) -> bool:
        return len(split_case(case)) > 1 if self.config is None else bool(read_case(case).groups)


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


def parse_binding(text: str) -> Binding:
    """Return the binding of a text that begins with one of `BINDINGS`. Raises `UserError`."""
    kind, _, rest = text.partition(":")
    if kind == ISOLATION:
        if rest:
            raise UserError(f"{ISOLATION} has no settings, got {text!r}")
        return Binding(text, None)
    values: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        name, _, value = item.partition("=")
        names = (*(("preset",) if kind == "bind" else ()), *kinds(BindingConfig))  # the others are presets
        if name not in names:
            raise UserError(f"{kind} has no setting {name!r}; it has {', '.join(names)}")
        try:
            values[name] = value if name == "preset" else kinds(BindingConfig)[name].parse(value)
        except ValueError:
            raise UserError(f"{name} cannot be {value!r}, in {text!r}") from None
    preset = values.pop("preset", None)
    return Binding(text, bound_config({**_KINDS[kind], **values}, preset))
