"""A real ComfyUI server in a folder of its own, and what a browser says to it: HTTP and websocket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.request
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SUITE = HERE.parents[3]
MODEL_PACK = HERE / "model_pack"
START_SECONDS = 300  # on a busy machine; fifteen on an idle one
TEXT_EVENT = 3  # the number of the binary message that carries a node's text


@dataclass
class Run:
    """What one prompt did.

    Attributes:
        texts: every text that a node showed, as (node id, text), in order.
        outputs: by node id, what the history says of it.
        cached: ids of nodes that did not run again.
        error: the host's message where a node raised; "interrupted" where the run was.
    """

    prompt_id: str
    texts: list[tuple[str, str]] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)
    error: str = ""


class Server:
    """Starts ComfyUI with the packs given, linked into a base directory; use in `with`.

    COMFYUI_PYTHON names the Python that it runs in, where that is not this one. `options` are more of its own.
    """

    def __init__(self, base: Path, packs: dict[str, Path], *options: str) -> None:
        self.base, self._options = base, options
        for name in ("custom_nodes", "models", "input", "output", "temp", "user"):
            (base / name).mkdir(parents=True, exist_ok=True)
        for name, folder in packs.items():
            (base / "custom_nodes" / name).symlink_to(folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def presets(self) -> Path:
        """The folder of the user's presets."""
        return self.base / "presets"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Server:
        options = "--cpu --disable-auto-launch --disable-api-nodes --database-url sqlite:///:memory:".split()
        python = os.environ.get("COMFYUI_PYTHON", sys.executable)
        command = [python, str(HERE / "start.py"), os.environ["COMFYUI_PATH"], *options, *self._options]
        command += ["--port", str(self.port), "--base-directory", str(self.base)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        environment["TOME_PRESETS"] = str(self.presets)
        self.log = self.base / "server.log"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.get("/system_stats")
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__()
                    raise RuntimeError(f"ComfyUI did not start:\n{self.log.read_text()[-4000:]}") from None
                time.sleep(1)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read()

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def post(self, path: str, body: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def run(self, graph: dict[str, Any], *, interrupt_after: int | None = None) -> Run:
        """Run a prompt in API format to its end; interrupt it after so many steps of its sampler."""
        run = asyncio.run(self._run(graph, interrupt_after))
        for _ in range(100):  # the history is written a moment after the last message
            known = self.get_json(f"/history/{run.prompt_id}")
            if known:
                run.outputs = known[run.prompt_id]["outputs"]
                break
            time.sleep(0.1)
        return run

    async def _run(self, graph: dict[str, Any], interrupt_after: int | None) -> Run:
        import aiohttp  # what ComfyUI itself serves with

        client = uuid.uuid4().hex
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self.url}/ws?clientId={client}") as socket_,
        ):
            body = {"prompt": graph, "client_id": client}
            run = Run((await asyncio.to_thread(self.post, "/prompt", body))["prompt_id"])
            async for message in socket_:
                if message.type == aiohttp.WSMsgType.BINARY:
                    _keep_text(run, message.data)
                    continue
                event = json.loads(message.data)
                if interrupt_after is not None and _steps(event) >= interrupt_after:
                    await asyncio.to_thread(self.post, "/interrupt", {})
                    interrupt_after = None
                if _is_over(run, event):
                    break
        return run


def _keep_text(run: Run, data: bytes) -> None:
    kind, length = struct.unpack_from(">II", data)
    if kind == TEXT_EVENT:
        run.texts.append((data[8 : 8 + length].decode(), data[8 + length :].decode()))


def _steps(event: dict[str, Any]) -> int:
    return event["data"]["value"] if event["type"] == "progress" else -1


def _is_over(run: Run, event: dict[str, Any]) -> bool:
    kind, data = event["type"], event["data"]
    if data.get("prompt_id") != run.prompt_id:
        return False
    if kind == "execution_cached":
        run.cached = list(data["nodes"])
    if kind == "execution_error":
        run.error = data["exception_message"].strip()
    if kind == "execution_interrupted":
        run.error = "interrupted"
    # not execution_success: that one is sent before the queue is done
    return kind == "executing" and data["node"] is None
