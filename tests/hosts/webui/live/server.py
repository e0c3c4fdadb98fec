"""A real webui with the suite and the demo model, in a folder of its own: AUTOMATIC1111, Forge or Forge Neo.

WEBUI_PATH names its folder, WEBUI_PYTHON the Python that it runs in. Nothing is written into the webui's own folder.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file

from tome_core.checkpoints.tokenizer import merges, vocabulary
from tome_core.demo import CHECKPOINT, load_demo
from tome_core.demo.architecture import AUTOENCODER, SCHEDULER, TEXT, UNET

SUITE = Path(__file__).resolve().parents[4]
PARTS = ("a1111_extension", "tome_core", "nodes", "scripts", "javascript", "style.css", "metadata.ini", "install.py")
MODEL, OTHER = "tome-demo", "tome-demo-2"  # the same weights twice, so that a host can change its model
LORA = "random-lora"
START_SECONDS = 600
COMMON = """--skip-prepare-environment --skip-python-version-check --skip-install --skip-torch-cuda-test
    --skip-version-check --no-hashing --api"""
FLAGS = {
    "a1111": "--no-download-sd-model --use-cpu all --no-half --no-half-vae --disable-nan-check",
    "forge": "--no-download-sd-model --always-cpu",
    "neo": "--cpu",
}
REGISTRATION = '''"""Lets Forge recognise a model by widths that it does not know."""

from backend.diffusion_engine.sd15 import StableDiffusion
from huggingface_guess import model_list

if not any(kind.__name__ == "TomeDemo" for kind in model_list.models):

    class TomeDemo(model_list.SD15):
        huggingface_repo = {folder!r}
        unet_config = {{**model_list.SD15.unet_config, "context_dim": {text}, "model_channels": {channels}}}
        unet_extra_config = {{"num_heads": {heads}, "num_head_channels": -1}}

    model_list.models.insert(0, TomeDemo)
    StableDiffusion.matched_guesses.append(TomeDemo)
'''

FAULTS = '''"""Makes the sampling of a prompt fail that asks for it."""

from modules import script_callbacks


def fail(params):
    if "fail now" in params.denoiser.p.prompts[0] and params.denoiser.step == 2:
        params.text_cond = None


script_callbacks.on_cfg_denoiser(fail)
'''


def missing() -> str | None:
    """Return why there is no host here; None where there is one."""
    if not os.environ.get("WEBUI_PATH") or not os.environ.get("WEBUI_PYTHON"):
        return "WEBUI_PATH and WEBUI_PYTHON do not name a webui and its Python"
    return None


def kind() -> str:
    """Return which of the webuis WEBUI_PATH names."""
    path = Path(os.environ["WEBUI_PATH"])
    if not (path / "modules_forge").exists():
        return "a1111"
    return "neo" if (path / "modules_forge" / "packages").exists() else "forge"


class Server:
    """Starts the webui; use in `with`.

    Args:
        base: the folder for all that it reads and writes.
        has_suite: whether the suite is among its extensions.
        options: more flags.
    """

    def __init__(self, base: Path, *, has_suite: bool = True, options: str = "") -> None:
        self.base, self._options, self.log = base, options, base / "server.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        models = base / "models" / "Stable-diffusion"
        models.mkdir(parents=True)
        for name in (MODEL, OTHER):
            shutil.copy2(CHECKPOINT, models / f"{name}.safetensors")
        settings = {"sd_model_checkpoint": f"{MODEL}.safetensors", "CLIP_stop_at_last_layers": 1}
        settings |= {
            "token_merging_ratio": 0,
            "batch_cond_uncond": True,
        }  # what is not saved stays as a job overrides it
        settings |= {"VERSION_UID": "PY313", "forge_checkpoint_sd": f"{MODEL}.safetensors"} if kind() == "neo" else {}
        (base / "config.json").write_text(json.dumps(settings), "utf-8")
        _write_extension(base, "faults", FAULTS)
        _write_lora(base / "models" / "Lora")
        if has_suite:
            _copy_suite(base / "extensions" / "tome-suite")
        if kind() == "a1111":
            for name in (MODEL, OTHER):
                _write_config(models / f"{name}.yaml", base / "text")
        else:
            _register_model(base)

    def __enter__(self) -> Server:
        flags = f"{COMMON} {FLAGS[kind()]} {self._options} --port {self.port} --data-dir {self.base}".split()
        flags += ["--gradio-allowed-path", os.environ["WEBUI_PATH"]]  # its own page, outside of the folder of data
        flags += ["--ckpt", str(self.base / "models" / "Stable-diffusion" / f"{MODEL}.safetensors")] * (kind() != "neo")
        command = [os.environ["WEBUI_PYTHON"], "launch.py", *flags]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "GRADIO_ANALYTICS_ENABLED": "False",
            "PYTHONUNBUFFERED": "1",
            "TOME_PRESETS": str(self.base / "presets"),
        }
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                command,
                cwd=os.environ["WEBUI_PATH"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while "Startup time:" not in self.said() or not self._listens():  # a request before that can end the host
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"the webui did not start:\n{self.said()[-4000:]}")
            time.sleep(1)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(20)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True

    def said(self) -> str:
        """Return all that it has printed."""
        return self.log.read_text("utf-8", errors="replace")

    def memory(self) -> int:
        """Return the resident memory of the server in bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]

    def processor_seconds(self) -> float:
        """Return the processor time of the server so far, over all of its threads."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=300) as answer:
            return json.loads(answer.read())

    def post(self, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body or {}).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error.code} {error.read().decode()[:2000]}") from None

    def draw(self, *args: Any, path: str = "txt2img", **request: Any) -> Drawn:
        """Make pictures; `args` are the script's arguments by position."""
        start = len(self.said())
        body = {"prompt": "a red circle and a blue square", "width": 256, "height": 256, "steps": 6, "cfg_scale": 5}
        body |= {"seed": 1, "sampler_name": "Euler", "scheduler": "Automatic", "styles": []}
        body["alwayson_scripts"] = {"ToMe": {"args": list(args)}} if args else {}
        body |= request
        if body.get("enable_hr"):
            body |= {"hr_additional_modules": ["Use same choices"]} if kind() != "a1111" else {}
        answer = self.post(f"/sdapi/v1/{path}", body)
        images = [Image.open(io.BytesIO(base64.b64decode(image.split(",", 1)[-1]))) for image in answer["images"]]
        time.sleep(0.2)
        lines = re.findall(r"ToMe: ([^\r\n\x1b]*)", self.said()[start:])  # behind a progress bar, perhaps
        return Drawn(images, json.loads(answer["info"])["infotexts"], lines)


class Drawn:
    """Pictures, the infotext of each, and what the suite said in the console."""

    def __init__(self, images: list[Image.Image], infotexts: list[str], said: list[str]) -> None:
        self.images, self.infotexts, self.said = images, infotexts, said

    @property
    def bytes(self) -> list[bytes]:
        """The pixels of each picture."""
        return [image.tobytes() for image in self.images]


def encoded(image: Image.Image) -> str:
    """Return a picture as a request holds it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _copy_suite(folder: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    folder.mkdir(parents=True)
    for part in PARTS:
        source = SUITE / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=ignored)
        else:
            shutil.copy2(source, folder / part)


def _write_config(path: Path, text: Path) -> None:
    """Write the configuration that A1111 reads beside a checkpoint; JSON is YAML."""
    text.mkdir(exist_ok=True)
    (text / "vocab.json").write_text(json.dumps(vocabulary(), ensure_ascii=False), "utf-8")
    (text / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges()) + "\n", "utf-8")
    (text / "config.json").write_text(json.dumps({**TEXT, "model_type": "clip_text_model"}), "utf-8")
    unet = {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": UNET["block_out_channels"][0],
        "attention_resolutions": [4, 2, 1],
        "num_res_blocks": UNET["layers_per_block"],
        "channel_mult": [width // UNET["block_out_channels"][0] for width in UNET["block_out_channels"]],
        "num_heads": UNET["attention_head_dim"],
        "use_spatial_transformer": True,
        "transformer_depth": 1,
        "context_dim": UNET["cross_attention_dim"],
        "use_checkpoint": False,
        "legacy": False,
    }
    widths = AUTOENCODER["block_out_channels"]
    decoder = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": widths[0]}
    decoder |= {"ch_mult": [width // widths[0] for width in widths], "num_res_blocks": AUTOENCODER["layers_per_block"]}
    first_stage = {"embed_dim": 4, "lossconfig": {"target": "torch.nn.Identity"}}
    first_stage["ddconfig"] = decoder | {"attn_resolutions": [], "dropout": 0.0}
    params = {
        "linear_start": SCHEDULER["beta_start"],
        "linear_end": SCHEDULER["beta_end"],
        "timesteps": SCHEDULER["num_train_timesteps"],
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": 32,
        "channels": 4,
        "conditioning_key": "crossattn",
        "scale_factor": AUTOENCODER["scaling_factor"],
        "use_ema": False,
        "unet_config": {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": unet},
        "first_stage_config": {"target": "ldm.models.autoencoder.AutoencoderKL", "params": first_stage},
        "cond_stage_config": {
            "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
            "params": {"version": str(text)},
        },
    }
    model = {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}
    path.write_text(json.dumps({"model": model}), "utf-8")


def _register_model(base: Path) -> None:
    """Write an extension by which Forge knows the demo model, and the folder that it reads beside the weights."""
    source = Path(os.environ["WEBUI_PATH"]) / "backend" / "huggingface" / "runwayml" / "stable-diffusion-v1-5"
    folder = base / "demo-model"
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(source / name, folder / name)
    shutil.copy2(source / "model_index.json", folder)
    for name, config in (("text_encoder", TEXT | {"model_type": "clip_text_model"}), ("vae", AUTOENCODER)):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config), "utf-8")
    values = {"text": UNET["cross_attention_dim"], "channels": UNET["block_out_channels"][0]}
    code = REGISTRATION.format(folder=str(folder), heads=UNET["attention_head_dim"], **values)
    _write_extension(base, "demo_model", code)


def _write_lora(folder: Path) -> None:
    """Write a LoRA of random weights, named LORA, for the self-attentions of the demo model."""
    random, weights = torch.Generator().manual_seed(0), {}
    for name, module in load_demo().unet.named_modules():
        if name.endswith("attn1.to_q"):
            key, (rows, columns) = f"lora_unet_{name.replace('.', '_')}", module.weight.shape
            weights[f"{key}.lora_down.weight"] = torch.randn(4, columns, generator=random)
            weights[f"{key}.lora_up.weight"] = 0.1 * torch.randn(rows, 4, generator=random)
            weights[f"{key}.alpha"] = torch.tensor(4.0)
    folder.mkdir(parents=True)
    save_file(weights, folder / f"{LORA}.safetensors")


def _write_extension(base: Path, name: str, code: str) -> None:
    scripts = base / "extensions" / name / "scripts"
    scripts.mkdir(parents=True)
    (scripts / f"{name}.py").write_text(code, "utf-8")
