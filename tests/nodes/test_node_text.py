"""Texts of nodes: how they reach a browser that keeps them, and any other; and the version in a picture's metadata."""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import tome_core
from tests.nodes import fake_host

WEB = Path(__file__).resolve().parents[2] / "web"
BROWSER = """
const [heard, stored] = [{}, {}];
globalThis.sessionStorage = { getItem: (key) => stored[key] ?? null, setItem: (key, value) => (stored[key] = value) };
const { app } = await import('./scripts/app.js');
const { api } = await import('./scripts/api.js');
api.addEventListener = (kind, listener) => (heard[kind] = listener);
api.queuePrompt = async (job) => ({ prompt_id: job });
app.registerExtension = (extension) => (app.extension = extension);
app.rootGraph = { id: 'open', getNodeById: () => null };
await import('./extensions/pack/node_text.js');
app.extension.setup();
const finish = (job, node, output) => heard.executed({ detail: { node, prompt_id: job, output } });
for (let job = 0; job <= 200; job++) await api.queuePrompt(job, { workflow: { id: 'closed' } });
finish(200, '1', { text: ['ours'], tome_suite: [true] });
finish(200, '2', { text: ['of another pack'] });
finish(0, '3', { text: ['of the oldest job, which is forgotten'], tome_suite: [true] });
console.log(stored['tome_suite.texts']);
"""


@pytest.fixture
def node_text(nodes: Any) -> Any:
    return importlib.import_module(f"{nodes.__name__}.node_text")


class Request:
    """A browser's request with its own name in it."""

    def __init__(self, client: str) -> None:
        self._client = client

    async def json(self) -> dict[str, str]:
        return {"client_id": self._client}


def connect(pack: Any, node_text: Any, client: str = "browser") -> Any:
    """Return the server after a browser has said that it keeps texts."""
    asyncio.run(pack.comfy_entrypoint())
    server = node_text.PromptServer.instance
    answer = asyncio.run(server.routes.posts[node_text.BROWSER_ROUTE](Request(client)))
    assert answer.status == 200
    return server


@pytest.mark.parametrize("kind", [fake_host.Server, fake_host.NewerServer])
def test_a_browser_that_keeps_no_texts_gets_them_as_progress_text(node_text: Any, monkeypatch: Any, kind: Any):
    server = kind()
    monkeypatch.setattr(node_text.PromptServer, "instance", server)
    assert node_text.text_output("7", "words") == {"text": ("words",), "tome_suite": (True,)}
    node_text.update_text("7", "later")
    assert server.sent == [("words", "7", "browser"), ("later", "7", "browser")] and server.messages == []


def test_a_browser_that_keeps_texts_gets_them_as_output_and_as_a_message_of_ours(pack: Any, node_text: Any):
    server = connect(pack, node_text)
    assert node_text.text_output("7", "words") == {"text": ("words",), "tome_suite": (True,)}
    node_text.update_text("7", "later")
    assert server.messages == [("tome_suite.text", {"node": "7", "text": "later"}, "browser")] and server.sent == []


def test_of_two_browsers_each_gets_what_it_can_show(pack: Any, node_text: Any):
    server = connect(pack, node_text)
    server.sockets_metadata["other"] = {"feature_flags": {}}
    server.client_id = "other"
    node_text.update_text("7", "words")
    assert server.sent == [("words", "7", "other")] and server.messages == []


def test_a_browser_that_is_not_connected_is_not_remembered(pack: Any, node_text: Any):
    assert connect(pack, node_text, "gone").sockets_metadata.keys() == {"browser"}


def test_a_prompt_that_no_browser_asked_for_shows_nothing_anywhere(node_text: Any):
    server = node_text.PromptServer.instance
    server.client_id = None
    assert node_text.text_output("7", "words") == {"text": ("words",), "tome_suite": (True,)}
    node_text.update_text("7", "later")
    assert server.sent == server.messages == []


def test_a_prompt_with_one_of_our_nodes_names_the_version_in_its_pictures(pack: Any, node_text: Any):
    asyncio.run(pack.comfy_entrypoint())
    (mark,) = node_text.PromptServer.instance.handlers
    request = {"prompt": {"1": {"class_type": "ToMeSpeed"}}, "extra_data": {"extra_pnginfo": {"workflow": {}}}}
    marked = mark(request)
    assert marked["extra_data"]["extra_pnginfo"] == {"workflow": {}, "tome_suite": {"version": tome_core.__version__}}
    assert request["extra_data"] == {"extra_pnginfo": {"workflow": {}}}, "the request itself is left alone"
    assert mark({"prompt": {"1": {"class_type": "ToMeSpeed"}}})["extra_data"]["extra_pnginfo"]


@pytest.mark.parametrize("request_", [{}, {"prompt": None}, {"prompt": {"1": {"class_type": "KSampler"}, "2": 3}}])
def test_a_prompt_without_our_nodes_is_left_alone(node_text: Any, request_: Any):
    assert node_text.mark_version(request_, {"ToMeSpeed"}) is request_


def test_the_browser_keeps_texts_of_our_nodes_alone_and_forgets_old_jobs(tmp_path: Path):
    if not shutil.which("node"):
        pytest.skip("there is no node")
    files = {"package.json": '{"type": "module"}', "scripts/app.js": "export const app = {};", "browser.js": BROWSER}
    files |= {"scripts/api.js": "export const api = {};"}
    files |= {"extensions/pack/node_text.js": (WEB / "node_text.js").read_text(encoding="utf-8")}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(["node", "browser.js"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"closed": {"1": {"output": "ours"}}}
