"""Where each phrase of a prompt draws attention: maps of cross-attention, recorded in any door."""

from .maps import Phrase, attention_maps, entropy, overlap, resize
from .network import PhraseRecorder, StepPrompts
from .patcher import MapShelf, collect_maps
from .pictures import map_masks, overlay, overlay_sheet, overlay_sheets, preview_sheet
from .recorder import MapRecorder, record_maps
from .run import PHRASES_KEY
from .sums import PhraseMaps

__all__ = [
    "PHRASES_KEY",
    "MapRecorder",
    "MapShelf",
    "Phrase",
    "PhraseMaps",
    "PhraseRecorder",
    "StepPrompts",
    "attention_maps",
    "collect_maps",
    "entropy",
    "map_masks",
    "overlap",
    "overlay",
    "overlay_sheet",
    "overlay_sheets",
    "preview_sheet",
    "record_maps",
    "resize",
]
