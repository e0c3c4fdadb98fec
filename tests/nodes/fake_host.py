"""As much of ComfyUI as importing the nodes takes: classes that accept what ComfyUI 0.3.64 accepts, and nothing more.

Every class below has the signature of the host's own, so that a word which that version does not know is an error here
too. What the nodes do in a real host is tested in tests/hosts/comfyui/live.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any


class NumberDisplay(str, Enum):
    number = "number"
    slider = "slider"


class Hidden(str, Enum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"


@dataclass
class Input:
    id: str
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None
    lazy: bool | None = None


@dataclass
class FloatInput(Input):
    default: float | None = None
    min: float | None = None
    max: float | None = None
    step: float | None = None
    round: float | None = None
    display_mode: NumberDisplay | None = None


@dataclass
class IntInput(Input):
    default: int | None = None
    min: int | None = None
    max: int | None = None
    step: int | None = None
    control_after_generate: bool | None = None
    display_mode: NumberDisplay | None = None


@dataclass
class BooleanInput(Input):
    default: bool | None = None
    label_on: str | None = None
    label_off: str | None = None


@dataclass
class StringInput(Input):
    multiline: bool = False
    placeholder: str | None = None
    default: str | None = None
    dynamic_prompts: bool | None = None


@dataclass
class ComboInput(Input):
    options: list[str] = field(default_factory=list)
    default: str | None = None


@dataclass
class Output:
    id: str | None = None
    display_name: str | None = None
    tooltip: str | None = None
    is_output_list: bool = False


@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    is_output_node: bool = False
    is_experimental: bool = False
    not_idempotent: bool = False


class NodeOutput:
    def __init__(self, *args: Any, ui: Any = None, block_execution: str | None = None) -> None:
        self.args, self.ui, self.block_execution = args, ui, block_execution


class ComfyNode:
    hidden = SimpleNamespace(unique_id="7")


class ComfyExtension:
    pass


class PreviewImage:
    def __init__(self, image: Any, cls: Any = None) -> None:
        self.image = image

    def as_dict(self) -> dict[str, Any]:
        return {"images": [self.image], "animated": (False,)}


class Response:
    """An answer of aiohttp, with which ComfyUI serves."""

    status = 200


class Routes:
    """Keeps what answers to a request."""

    def __init__(self) -> None:
        self.posts: dict[str, Any] = {}

    def post(self, path: str) -> Any:
        return lambda handler: self.posts.setdefault(path, handler)


@dataclass
class Server:
    """Keeps what was sent, as progress text and as messages, and the handlers of prompts and requests."""

    sent: list[tuple[str, str, str | None]] = field(default_factory=list)
    messages: list[tuple[str, Any, str | None]] = field(default_factory=list)
    handlers: list[Any] = field(default_factory=list)
    client_id: str | None = "browser"
    sockets_metadata: dict[str, dict[str, Any]] = field(default_factory=lambda: {"browser": {"feature_flags": {}}})
    routes: Routes = field(default_factory=Routes)

    def send_progress_text(self, text: str, node_id: str, sid: str | None = None) -> None:
        self.sent.append((text, node_id, sid))

    def send_sync(self, event: str, data: Any, sid: str | None = None) -> None:
        self.messages.append((event, data, sid))

    def add_on_prompt_handler(self, handler: Any) -> None:
        self.handlers.append(handler)


class NewerServer(Server):
    """Has the prompt's id in third place, as hosts after 0.3.64."""

    def send_progress_text(  # type: ignore[override]
        self, text: str, node_id: str, prompt_id: str | None = None, sid: str | None = None
    ) -> None:
        self.sent.append((text, node_id, sid))


def modules() -> dict[str, ModuleType]:
    """Return fresh modules by the names under which the nodes import them."""
    kinds = dict.fromkeys(("Model", "Clip", "Vae", "Image", "Latent", "Mask", "Conditioning"), Input)
    kinds |= {"Float": FloatInput, "Int": IntInput, "Boolean": BooleanInput, "String": StringInput, "Combo": ComboInput}
    types = {name: SimpleNamespace(Input=made, Output=Output) for name, made in kinds.items()}
    io = SimpleNamespace(
        ComfyNode=ComfyNode,
        Schema=Schema,
        NodeOutput=NodeOutput,
        Hidden=Hidden,
        NumberDisplay=NumberDisplay,
        Custom=lambda name: SimpleNamespace(Input=Input, Output=Output),
        **types,
    )
    nothing: Any = object()
    given: dict[str, dict[str, Any]] = {
        "comfy_api": {},
        "comfy_api.latest": {
            "io": io,
            "ui": SimpleNamespace(PreviewImage=PreviewImage),
            "ComfyExtension": ComfyExtension,
        },
        "aiohttp": {"web": SimpleNamespace(Request=object, Response=Response)},
        "server": {"PromptServer": SimpleNamespace(instance=Server())},
        "comfy": {
            "model_detection": nothing,
            "model_management": nothing,
            "supported_models": SimpleNamespace(SD15=object),
        },
        "comfy.model_patcher": {"ModelPatcher": object},
        "comfy.patcher_extension": {"WrappersMP": SimpleNamespace(OUTER_SAMPLE="outer_sample")},
        "comfy.sd": {"CLIP": object, "VAE": object},
        "comfy.utils": dict.fromkeys(
            ("ProgressBar", "calculate_parameters", "load_torch_file", "state_dict_prefix_replace", "weight_dtype"),
            nothing,
        ),
    }
    made: dict[str, ModuleType] = {}
    for name, attributes in given.items():
        made[name] = ModuleType(name)
        vars(made[name]).update(attributes)
    return made
