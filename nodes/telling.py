"""What a node says on itself, and what it leaves in the metadata of images."""

from typing import Any, Final

from server import PromptServer

from ..tome_core import __version__

METADATA_KEY: Final = "tome_suite"


def tell(node_id: str | None, text: str) -> None:
    """Show text on a node, in the browser that asked for the prompt; from any thread."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id is not None:
        client = getattr(server, "client_id", None)
        server.send_progress_text(text, node_id, sid=client)  # by name: newer hosts have a prompt's id in third place


def mark_version(request: dict[str, Any], node_ids: set[str]) -> dict[str, Any]:
    """Return a request for a prompt whose images will name this version, if it uses one of the nodes.

    Their settings need no help: ComfyUI writes the prompt itself into every image. This is done to the request and not
    by a node, since a node that is cached does not run.
    """
    prompt = request.get("prompt") or {}
    if not any(isinstance(node, dict) and node.get("class_type") in node_ids for node in prompt.values()):
        return request
    data = dict(request.get("extra_data") or {})
    data["extra_pnginfo"] = {**(data.get("extra_pnginfo") or {}), METADATA_KEY: {"version": __version__}}
    return {**request, "extra_data": data}


def mark_images(node_ids: set[str]) -> None:
    """Write this version into the images of every prompt that uses one of the nodes, from now on."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.add_on_prompt_handler(lambda request: mark_version(request, node_ids))
