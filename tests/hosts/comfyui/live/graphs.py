"""Prompts in API format, small enough for a test."""

from __future__ import annotations

from typing import Any

Graph = dict[str, Any]
PROMPT = "a red circle and a blue square"
SPEED = "5"
SAMPLER = "6"
LATENT = "7"


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def drawing(kind: str = "demo", *patches: dict[str, Any], steps: int = 3, size: int = 256, seed: int = 0) -> Graph:
    """Return a prompt that draws with a test model through a chain of patch nodes and saves the latent.

    The first patch has the id SPEED; the following ones 50, 51, ...
    """
    graph = {
        "1": node("TestModel", kind=kind),
        "2": node("CLIPTextEncode", text=PROMPT, clip=["1", 1]),
        "3": node("CLIPTextEncode", text="", clip=["1", 1]),
        "4": node("EmptyLatentImage", width=size, height=size, batch_size=1),
    }
    texts = "2", "3"
    if kind != "demo":
        width = {"sdxl": 64, "flux": 96}[kind]
        graph |= {f"2{text}": node("TestPooled", conditioning=[text, 0], width=width) for text in texts}
        texts = "22", "23"
    model = "1"
    for number, patch in enumerate(patches):
        name = SPEED if number == 0 else f"{49 + number}"
        graph[name] = {**patch, "inputs": {**patch["inputs"], "model": [model, 0]}}
        model = name
    graph[SAMPLER] = node(
        "KSampler", model=[model, 0], positive=[texts[0], 0], negative=[texts[1], 0], latent_image=["4", 0],
        seed=seed, steps=steps, cfg=3.0, sampler_name="euler", scheduler="normal", denoise=1.0,
    )  # fmt: skip
    graph[LATENT] = node("SaveLatent", samples=[SAMPLER, 0], filename_prefix="latents/x")
    return graph


def picture(graph: Graph) -> Graph:
    """Return the prompt with a picture of its latent, decoded and saved."""
    decode, save = node("VAEDecode", samples=[SAMPLER, 0], vae=["1", 2]), node("SaveImage", images=["8", 0])
    save["inputs"]["filename_prefix"] = "picture"
    return {**graph, "8": decode, "9": save}


def speed(preset: str = "fast", strength: float = 1.0) -> dict[str, Any]:
    return node("ToMeSpeed", preset=preset, strength=strength)


def advanced(**knobs: Any) -> dict[str, Any]:
    return node("ToMeSpeedAdvanced", **knobs)
