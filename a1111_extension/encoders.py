"""The text encoders of the loaded model, as AUTOMATIC1111 and the Forge family have them."""

import functools
import sys
from functools import partial
from typing import Any, Final

from modules import shared

from tome_core.binding.doors.chunks import END, START, HostEncoders
from tome_core.checkpoints.tokenizer import vocabulary
from tome_core.errors import UnsupportedModelError

_ENGINES: Final = "text_processing_engine"  # what Forge calls them: one, or SDXL's `_l` and `_g`
_OF_CLIP: Final = ("", "_l", "_g")  # in the order of their columns
_MEMORY: Final = ("backend.memory_management", "ldm_patched.modules.model_management")  # of Forge and Neo; of reForge


def text_encoders(model: Any) -> HostEncoders:
    """Return the text encoders of a host's model.

    Raises:
        UnsupportedModelError: they are others than CLIP's alone, or the host has an old way to cut prompts switched on.
    """
    if getattr(shared.opts, "use_old_emphasis_implementation", False):
        raise UnsupportedModelError("prompts must be cut in chunks: switch the old emphasis implementation off")
    found = _find(model)
    numbers = [(getattr(encoder, "id_start", None), getattr(encoder, "id_end", None)) for encoder in found]
    if not found or any(each != (START, END) for each in numbers):
        raise _unsupported(type(getattr(model, "cond_stage_model", model)).__name__)
    emphasis = getattr(found[0], "emphasis", None)  # Forge's own; AUTOMATIC1111 reads the setting each time
    name = shared.opts.emphasis if emphasis is None else emphasis.name
    words = _words()
    return HostEncoders(found, words.__getitem__, is_literal=name == "None", before=partial(_load, model))


def _find(model: Any) -> list[Any]:
    """Return the text encoders of a model, in the order of their columns."""
    engines = {name.removeprefix(_ENGINES): own for name, own in vars(model).items() if name.startswith(_ENGINES)}
    others = sorted(name.removeprefix("_") for name in set(engines) - set(_OF_CLIP))
    if others:
        raise _unsupported(", ".join(others))
    if engines:
        return [engines[name] for name in _OF_CLIP if name in engines]
    stage = getattr(model, "cond_stage_model", None)
    return [encoder for encoder in getattr(stage, "embedders", [stage]) if hasattr(encoder, "tokenize_line")]


def _load(model: Any) -> None:
    """Bring the text encoders to the device on which they run, by the host's own ways."""
    clip = getattr(getattr(model, "forge_objects", None), "clip", None)
    memory = next((sys.modules[name] for name in _MEMORY if name in sys.modules), None)
    if clip is not None and memory is not None:
        memory.load_model_gpu(clip.patcher)
    elif getattr(model, "lowvram", False):  # hooks of the host bring them when it encodes
        model.get_learned_conditioning([""])


@functools.cache
def _words() -> list[str]:
    """Return CLIP's vocabulary by number."""
    return list(vocabulary())


def _unsupported(found: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"text encoders must be CLIP's alone (SD 1.x, SD 2.x, SDXL), got {found}")
