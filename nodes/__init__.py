"""The suite's nodes for ComfyUI (V3 API): thin, stateless, without maths.

ComfyUI waits for every pack when it starts. So a node imports at the top what its inputs are made of, and what it runs
when it runs.
"""

from typing import Any

from comfy_api.latest import ComfyExtension

from .binding import ToMeBindPrompt
from .compare import ToMeCompare
from .demo import ToMeDemoModel
from .maps import ToMeAttentionMaps, ToMeShowMaps
from .node_text import connect
from .save_preset import ToMeSavePreset
from .speed import ToMeSpeed, ToMeSpeedAdvanced

NODES: list[Any] = [
    ToMeSpeed,
    ToMeSpeedAdvanced,
    ToMeBindPrompt,
    ToMeAttentionMaps,
    ToMeShowMaps,
    ToMeCompare,
    ToMeDemoModel,
    ToMeSavePreset,
]


class ToMeSuite(ComfyExtension):
    """What ComfyUI loads."""

    async def get_node_list(self) -> list[Any]:
        """Return the node classes."""
        return list(NODES)


async def comfy_entrypoint() -> ToMeSuite:
    """Return the extension; images made with its nodes will name its version, and browsers can keep its texts."""
    connect({node.__name__ for node in NODES})
    return ToMeSuite()
