"""The text that a node shows on itself, and what it leaves in the metadata of images.

What a node knows when it runs is part of its output, and ComfyUI keeps it. What it learns from a sampler after that
goes to the browser in a message of its own. `web/node_text.js` draws both, and keeps them on the node when the job is
over. A browser without that script gets both as progress text, which some front ends clear at the end of the job.
"""

from typing import Any, Final

from aiohttp import web
from server import PromptServer

from ..tome_core import __version__

METADATA_KEY: Final = "tome_suite"
OUTPUT_MARK: Final = "tome_suite"  # tells the browser that an output is of this pack
TEXT_MESSAGE: Final = "tome_suite.text"
BROWSER_ROUTE: Final = "/tome_suite/browser"
KEEPS_TEXT: Final = "tome_suite_keeps_text"  # in what the host knows of a connected browser


def text_output(node_id: str | None, text: str) -> dict[str, Any]:
    """Return the `ui` of a node that shows a text."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and not _keeps_text(server):
        _send_progress_text(server, node_id, text)
    return {"text": (text,), OUTPUT_MARK: (True,)}


def update_text(node_id: str | None, text: str) -> None:
    """Show another text on a node that has run already, in the browser that asked for the prompt; from any thread."""
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    if _keeps_text(server):
        server.send_sync(TEXT_MESSAGE, {"node": node_id, "text": text}, server.client_id)
    else:
        _send_progress_text(server, node_id, text)


def _keeps_text(server: Any) -> bool:
    """Return whether the browser that asked for the prompt has said that it keeps texts."""
    return KEEPS_TEXT in server.sockets_metadata.get(server.client_id, {})


def _send_progress_text(server: Any, node_id: str | None, text: str) -> None:
    if server.client_id is not None and node_id is not None:
        server.send_progress_text(text, node_id, sid=server.client_id)  # newer hosts have another third parameter


async def keep_browser(request: web.Request) -> web.Response:
    """Note that a browser keeps texts; the host forgets it when the browser disconnects."""
    metadata = PromptServer.instance.sockets_metadata.get((await request.json()).get("client_id"))
    if metadata is not None:
        metadata[KEEPS_TEXT] = True
    return web.Response()


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


def connect(node_ids: set[str]) -> None:
    """Write this version into the images of every prompt that uses one of the nodes, and listen to browsers."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.add_on_prompt_handler(lambda request: mark_version(request, node_ids))
        server.routes.post(BROWSER_ROUTE)(keep_browser)
