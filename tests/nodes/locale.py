"""The English locale, made of what the nodes themselves say: `python -m tests.nodes.locale` writes it anew.

Translators begin from this file; a test keeps it as the nodes are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).resolve().parents[2] / "locales" / "en" / "nodeDefs.json"


def english(nodes: Any) -> dict[str, Any]:
    """Return what ComfyUI reads of a locale, for every node."""
    return {schema.node_id: _node(schema) for schema in (node.define_schema() for node in nodes.NODES)}


def _node(schema: Any) -> dict[str, Any]:
    inputs = {made.id: {"name": made.id, "tooltip": made.tooltip} for made in schema.inputs}
    outputs = {
        str(place): {"name": made.display_name, "tooltip": made.tooltip} for place, made in enumerate(schema.outputs)
    }
    told: dict[str, Any] = {"display_name": schema.display_name, "description": schema.description}
    return told | ({"inputs": inputs} if inputs else {}) | {"outputs": outputs}


def main() -> None:
    """Write the file."""
    from tests.nodes.loading import PACK, loaded_pack

    with loaded_pack():
        FILE.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(english(sys.modules[f"{PACK}.nodes"]), indent=2, ensure_ascii=False)
        FILE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
