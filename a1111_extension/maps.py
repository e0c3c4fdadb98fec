"""Attention maps for the gallery: each picture, and it under the map of each phrase that is bound in its prompt."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from tome_core.attention_maps import PhraseRecorder, overlay_sheet

from .bound_prompts import BoundPrompts


class PromptMaps:
    """Maps of the phrases of one job, summed up over its passes until they are shown.

    Args:
        bound: the prompts of the job.
    """

    def __init__(self, bound: BoundPrompts) -> None:
        self._recorder = PhraseRecorder(lambda: bound.step)
        self._has_nothing = False

    @property
    def notes(self) -> list[str]:
        """What is left out and why, each sentence once."""
        nothing = self._has_nothing and not self._recorder.notes
        return ["No maps: no bound prompt was seen in the network."] if nothing else list(self._recorder.notes)

    def attach(self, network: Any, speed: Any = None) -> None:
        """Record in a network from now on, until `close`; doing so again for the same network does nothing.

        Args:
            network: the model's UNet in the original layout, as AUTOMATIC1111 and Forge have it.
            speed: the `SpeedHandle` that merges tokens in it; None where none does, and on Forge, whose calls say it.
        """
        self._recorder.attach(network, speed)

    def close(self) -> None:
        """Take every hook off the network; the maps stay."""
        self._recorder.close()

    def sheets(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """Return a sheet for each picture of the batch that has maps, and forget these; none, with a note, without."""
        found = self._recorder.take()
        self._has_nothing = not found
        return [overlay_sheet(picture, found[number]) for number, picture in enumerate(images) if number in found]
