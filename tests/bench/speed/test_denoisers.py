"""Random denoisers and the inputs of their calls."""

import pytest
import torch

from tests.tools.random_checkpoints import narrow_configs
from tome_core.bench.speed import denoisers
from tome_core.bench.speed.denoisers import RANDOM, new_call, random_denoiser

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setattr(denoisers, "read_configs", narrow_configs)


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_random_denoiser_gives_finite_outputs_that_are_always_the_same(name, dtype):
    unet = random_denoiser(name, dtype=dtype, device=CPU)
    assert unet.dtype == dtype
    output = new_call(unet, (72, 64), 3)()
    assert output.shape == (3, 4, 8, 9)
    assert output.isfinite().all()
    assert 0.1 < output.float().std() < 10
    again = random_denoiser(name, dtype=dtype, device=CPU)
    assert torch.equal(output, new_call(again, (72, 64), 3)())


def test_rows_of_one_image_share_their_latent_and_differ_in_their_text():
    unet, seen = random_denoiser("sdxl-random", dtype=torch.float32, device=CPU), []
    unet.register_forward_pre_hook(lambda module, args, kwargs: seen.append((*args, kwargs)), with_kwargs=True)
    new_call(unet, (64, 64), 4)()
    sample, timestep, text, options = seen[0]
    assert torch.equal(sample[:2], sample[2:])
    assert not torch.equal(sample[0], sample[1])
    assert not torch.equal(text[0], text[2])
    assert text.shape == (4, 77, 80)
    assert options["added_cond_kwargs"]["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]] * 4
    assert timestep.item() == 500
