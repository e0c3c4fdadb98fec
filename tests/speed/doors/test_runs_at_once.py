"""Several runs at once on one network, in threads or between the steps of another: each gives what it gives alone."""

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tome_core.speed import SpeedConfig, apply_speed
from tome_core.speed.plans.schedule import stable_diffusion_alphas, variance_preserving

SMALL = {
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
}
TIMESTEPS = [900, 820, 740, 660, 580, 500]


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def steps(
    unet: Any, timesteps: list[int], *, size: tuple[int, int] = (8, 8), seed: int = 0, prompt: int = 1
) -> Iterator[Tensor]:
    """Yield the latents after each step of a run of DDIM: one image, with an empty prompt and a prompt."""
    x, text = noise(1, 4, *size, seed=seed), torch.cat([noise(1, 7, 16, seed=50), noise(1, 7, 16, seed=50 + prompt)])
    a, s = variance_preserving(stable_diffusion_alphas())([float(t) for t in [*timesteps, 0]])
    for step, timestep in enumerate(timesteps):
        with torch.no_grad():
            empty, told = unet(torch.cat([x, x]), timestep, text).sample.chunk(2)
        z = 3 * told - 2 * empty  # as of a model that predicts the clean latent
        x = a[step + 1] * z + s[step + 1] * (x - a[step] * z) / s[step]
        yield x


def last(run: Iterator[Tensor]) -> Tensor:
    *_, x = run
    return x


def alone(unet: Any, config: SpeedConfig, timesteps: list[int], **settings: Any) -> Tensor:
    with apply_speed(unet, config):
        return last(steps(unet, timesteps, **settings))


def in_threads(*jobs: Callable[[], Tensor]) -> list[Tensor]:
    """Return what the jobs return, each of which runs in a thread of its own."""
    found: dict[int, Any] = {}

    def work(number: int) -> None:
        try:
            found[number] = jobs[number]()
        except BaseException as error:
            found[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in found.values():
        if isinstance(result, BaseException):
            raise result
    return [found[number] for number in range(len(jobs))]


def wait(barrier: threading.Barrier) -> None:
    barrier.wait(timeout=20)


FORMS = [
    {"metric": "latent"},
    {"metric": "estimate", "refresh": 3, "parts": ("attention", "cross_attention", "mlp")},
    {"metric": "block", "parts": "stack", "proportional": True},
    {"metric": "latent", "kv_downsample": 2, "seed": 3},
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_two_threads_in_the_middle_of_the_same_block_give_what_each_gives_alone(new_unet, blocks, form):
    unet, config = new_unet(**SMALL), SpeedConfig(levels=(1, 2), **form)
    jobs = [{"size": (8, 8), "seed": 1}, {"size": (6, 10), "seed": 2, "prompt": 2}]
    expected = [alone(unet, config, TIMESTEPS[:4], **job) for job in jobs]
    barrier = threading.Barrier(2)
    for block in blocks(unet, 1)[:2]:
        block.attn1.to_q.register_forward_pre_hook(lambda module, args: wait(barrier))
    with apply_speed(unet, config) as handle:
        found = in_threads(*(lambda job=job: last(steps(unet, TIMESTEPS[:4], **job)) for job in jobs))
    for got, of_its_own in zip(found, expected, strict=True):
        assert torch.equal(got, of_its_own)
    assert handle.report.merged_calls == 8
    assert handle.report.levels[0].kept.keys() == {(8, 8), (6, 10)}


def random_settings(chance: random.Random) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "ratio": chance.choice([0.3, 0.5, 0.75]),
        "metric": chance.choice(["latent", "estimate", "estimate", "block"]),
        "matching": chance.choice(["bipartite", "bipartite", "window"]),
        "parts": chance.choice([("attention",), ("attention", "cross_attention", "mlp"), ("block",), ("stack",)]),
        "levels": chance.choice([(1,), (2,), (1, 2)]),
        "refresh": chance.choice([1, 1, 3]),
        "seed": chance.choice([None, None, 7]),
        "proportional": chance.random() < 0.3,
        "start_percent": chance.choice([0.0, 0.0, 0.2]),
    }
    if settings["parts"][0] == "attention":
        settings |= chance.choice([{}, {}, {"kv_ratio": 0.75}, {"kv_downsample": 2}])
    return settings


def test_random_pairs_of_sizes_and_settings_in_two_threads_give_what_each_gives_alone(new_unet):
    unet, chance = new_unet(**SMALL), random.Random(0)
    for _ in range(20):
        settings = random_settings(chance)
        config = SpeedConfig(**settings)
        jobs = [
            {"size": (chance.randint(4, 9), chance.randint(4, 9)), "seed": chance.randrange(3), "prompt": prompt}
            for prompt in (1, 2)
        ]
        expected = [alone(unet, config, TIMESTEPS[:3], **job) for job in jobs]
        with apply_speed(unet, config):
            found = in_threads(*(lambda job=job: last(steps(unet, TIMESTEPS[:3], **job)) for job in jobs))
        for got, of_its_own, job in zip(found, expected, jobs, strict=True):
            assert torch.equal(got, of_its_own), (settings, job)


REFRESHED = {"metric": "estimate", "refresh": 3}
PREVIEWS = [
    *((REFRESHED, preview, seed) for preview in ([950, 500], [950, 700, 300], [990]) for seed in (0, 9)),
    (REFRESHED, [900, 500], 9),  # with one noise at one timestep two runs cannot be told apart
    ({"metric": "latent", "refresh": 3}, [950, 700, 300], 9),
    ({"metric": "latent", "refresh": 3}, [990], 0),
]


@pytest.mark.parametrize(("form", "preview", "seed"), PREVIEWS, ids=str)
def test_a_preview_between_two_steps_changes_nothing_where_timesteps_are_plain_numbers(new_unet, form, preview, seed):
    unet, config = new_unet(**SMALL), SpeedConfig(**form)
    expected = alone(unet, config, TIMESTEPS)
    of_preview = alone(unet, config, preview, seed=seed, prompt=2)
    found = []
    with apply_speed(unet, config):
        for x in steps(unet, TIMESTEPS):
            found.append(x)
            assert torch.equal(last(steps(unet, preview, seed=seed, prompt=2)), of_preview)
    assert torch.equal(found[-1], expected)


@pytest.mark.parametrize("seed", [0, 9])
def test_two_runs_that_take_turns_are_told_apart_by_their_latents(new_unet, seed):
    unet, config = new_unet(**SMALL), SpeedConfig(**REFRESHED)
    jobs = [{"prompt": 1}, {"prompt": 2, "seed": seed}]
    expected = [alone(unet, config, TIMESTEPS, **job) for job in jobs]
    with apply_speed(unet, config):
        *_, found = zip(*(steps(unet, TIMESTEPS, **job) for job in jobs), strict=True)
    for got, of_its_own in zip(found, expected, strict=True):
        assert torch.equal(got, of_its_own)
