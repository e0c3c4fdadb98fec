"""The reference mode against the authors' own package: matching at each block's input, top left dst, attention only."""

import pytest
import tomesd
import torch

from tome_core.speed import SpeedConfig, apply_speed


@pytest.mark.parametrize(
    ("shape", "ratio", "max_downsample", "levels"),
    [
        ("sd15", 0.5, 1, (1,)),
        ("sd15", 0.25, 2, (1, 2)),
        ("sd15", 0.75, 8, (1, 2, 3, 4)),
        ("sd2", 0.5, 8, (1, 2, 3, 4)),
    ],
)
def test_a_unet_gives_what_tomesd_gives(new_unet, new_inputs, relative_error, shape, ratio, max_downsample, levels):
    unet, inputs = new_unet(shape), new_inputs()
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        unet, inputs = unet.to(dtype), new_inputs(dtype=dtype)
        inputs["timestep"] = 500
        tomesd.apply_patch(unet, ratio=ratio, max_downsample=max_downsample, use_rand=False)
        expected = unet(inputs["sample"], 500, inputs["encoder_hidden_states"]).sample
        tomesd.remove_patch(unet)
        with apply_speed(unet, SpeedConfig(metric="block", levels=levels, ratio=ratio)):
            got = unet(**inputs).sample
        assert relative_error(got, expected) < tolerance
        assert relative_error(unet(**inputs).sample, expected) > 1e-3


def test_every_part_gives_what_tomesd_gives(new_unet, new_inputs, relative_error):
    unet, inputs = new_unet().double(), new_inputs(size=(12, 20), dtype=torch.float64)
    tomesd.apply_patch(unet, ratio=0.4, use_rand=False, merge_crossattn=True, merge_mlp=True)
    expected = unet(inputs["sample"], 500, inputs["encoder_hidden_states"]).sample
    tomesd.remove_patch(unet)
    with apply_speed(unet, SpeedConfig(metric="block", ratio=0.4, parts=("attention", "cross_attention", "mlp"))):
        assert relative_error(unet(**inputs).sample, expected) < 1e-12


def test_both_can_be_on_the_same_model_one_after_the_other(new_unet, new_inputs, traces):
    unet, inputs = new_unet(), new_inputs()
    before, untouched = traces(unet), unet(**inputs).sample
    apply_speed(unet).close()
    assert traces(unet) == before
    tomesd.remove_patch(tomesd.apply_patch(unet))
    assert torch.equal(unet(**inputs).sample, untouched)
