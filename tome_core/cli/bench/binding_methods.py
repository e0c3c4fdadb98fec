"""The ways to bind that a benchmark compares, as a user writes them: `merge`, `bind:norm=noun,ends=off`, `isolation`.

merge,merge+ets,ets,merge:norm=noun,published,published:ends=off,bind:orthogonal=gram_schmidt,isolation
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from ...binding import BindingConfig, apply_binding, phrases
from ...binding.parse import Parse
from ..console import UserError
from ..settings import binding_setting_names, bound_config, parse_binding_setting
from .isolation import isolated, split_phrases

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

    def on(self, pipeline: Any) -> AbstractContextManager[object]:
        """Return a context in which a pipeline binds this way, and after which nothing of it is left."""
        return isolated(pipeline) if self.config is None else apply_binding(pipeline, self.config)

    def notes(self, prompts: Sequence[str]) -> list[str]:
        """Return what has no effect, in sentences. Raises `UserError` for a prompt that the parser refuses."""
        if self.config is not None and self.config.is_neutral:
            return ["strength 0 binds nothing: its pictures are the untouched ones"]
        different = list(dict.fromkeys(prompts))
        idle = [text for text in different if not self._changes(_parse(text))]
        if not idle:
            return []
        wanted = "two things of which something is said" if self.config is None else "thing of which something is said"
        return [f"no {wanted} in {len(idle)} of {len(different)} prompts, which stay as they are, such as {idle[0]!r}"]

    def _changes(self, parse: Parse) -> bool:
        return len(split_phrases(parse)) > 1 if self.config is None else bool(parse.groups)


def parse_binding(text: str) -> Binding:
    """Return the binding of a text that begins with one of `BINDINGS`. Raises `UserError`."""
    kind, _, rest = text.partition(":")
    if kind == ISOLATION:
        if rest:
            raise UserError(f"{ISOLATION} has no settings, got {text!r}")
        return Binding(text, None)
    values = dict(_KINDS[kind])
    for item in filter(None, rest.split(",")):
        name, _, value = item.partition("=")
        if name not in binding_setting_names():
            raise UserError(f"{kind} has no setting {name!r}; it has {', '.join(binding_setting_names())}")
        try:
            values[name] = parse_binding_setting(name, value)
        except ValueError:
            raise UserError(f"{name} cannot be {value!r}, in {text!r}") from None
    return Binding(text, bound_config(values))


def _parse(text: str) -> Parse:
    try:
        return phrases(text)
    except ValueError as error:
        raise UserError(str(error)) from error
