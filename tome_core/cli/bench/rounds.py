"""How long a picture takes by each method, in turn in one process; kept with the pictures, so that a table stays."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from ...evaluation.cases import Case
from ...evaluation.quality import Easel, Method, Spread, key_of
from ..files import write_json
from ..machine import Clock
from .timing import spread

ROUNDS: Final = 3


def time_methods(
    easel: Easel,
    methods: Sequence[Method],
    case: Case,
    clock: Clock,
    machine: dict[str, Any],
    on_drawn: Callable[[], object],
    rounds: int = ROUNDS,
) -> list[Spread]:
    """Return each method's time for one picture over that of the first method, from some rounds.

    The same methods, settings and machine are timed once for a number of rounds; after that the figures come from
    the store's folder.
    """
    identities = [dict(method.identity) for method in methods]
    told = {"model": easel.model.identity, "settings": asdict(easel.settings), "machine": machine, "case": asdict(case)}
    told |= {"rounds": rounds}
    path = easel.store.folder / "times" / f"{key_of(told | {'methods': identities})}.json"
    if not path.exists():
        times = [[_time(easel, method, case, clock, on_drawn) for method in methods] for _ in range(rounds)]
        write_json(path, [[row[i] / row[0] for row in times] for i in range(len(methods))])
    return [spread(row) for row in json.loads(path.read_text("utf-8"))]


def _time(easel: Easel, method: Method, case: Case, clock: Clock, on_drawn: Callable[[], object]) -> float:
    pipeline, start = easel.model.open(), clock()
    method.draw(pipeline, [case], easel.settings)
    seconds = clock.figure(clock() - start)
    on_drawn()
    return seconds
