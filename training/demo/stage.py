"""One resumable stretch of training: where it stands, when it saves, what it shows."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm import tqdm

SAVE_EVERY = 120.0  # seconds


class Stateful(Protocol):
    """What torch's modules and optimisers can do."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


@dataclass
class Stage:
    """Steps `done` ... `steps` of the stage `name`; `parts` are saved to `folder` now and then, and at the end.

    Only a stage that `writes` saves and shows its bar: one process of several does.
    """

    folder: Path
    name: str
    steps: int
    parts: dict[str, Stateful]
    writes: bool = True
    done: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.pt"

    def resume(self) -> None:
        """Take up the saved state, where there is one."""
        if not self.file.exists():
            return
        saved = torch.load(self.file, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(saved["parts"][name])
        self.done, self.seconds, self.losses = saved["done"], saved["seconds"], saved["losses"]

    def save(self) -> None:
        """Write the state in one move, so that a kill leaves the old file or the new one."""
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        state = {"parts": parts, "done": self.done, "seconds": self.seconds, "losses": self.losses}
        draft = self.file.with_suffix(".draft")
        torch.save(state, draft)
        os.replace(draft, self.file)

    def run(self) -> Iterator[int]:
        """Yield the number of each step that is still to do; the caller appends its loss to `losses`."""
        bar = tqdm(total=self.steps, initial=self.done, desc=self.name, disable=not self.writes, mininterval=5)
        started = saved = time.monotonic()
        before = self.seconds
        while self.done < self.steps:
            yield self.done
            self.done += 1
            now = time.monotonic()
            self.seconds = before + now - started
            bar.update()
            bar.set_postfix(loss=f"{sum(self.losses[-50:]) / max(1, len(self.losses[-50:])):.4f}", refresh=False)
            if self.writes and (now - saved > SAVE_EVERY or self.done == self.steps):
                self.save()
                saved = now
        bar.close()
