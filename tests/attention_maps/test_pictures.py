"""Maps over a picture, as sheets, and as masks."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from tome_core.attention_maps import PhraseMaps, map_masks, overlay, overlay_sheet, overlay_sheets, preview_sheet

PICTURE = Image.fromarray(np.full((40, 60, 3), 128, dtype=np.uint8))


def phrases(images=1, count=2, size=(6, 4)):
    maps = torch.rand(images, count, *size, generator=torch.Generator().manual_seed(0))
    return PhraseMaps(tuple(f"thing {number}" for number in range(count)), maps, 1, ())


def test_masks_are_soft_from_0_to_1_or_of_two_values():
    soft = map_masks(phrases(2), (24, 16))
    assert soft.shape == (4, 24, 16)
    assert torch.equal(soft.amin((1, 2)), torch.zeros(4)) and torch.allclose(soft.amax((1, 2)), torch.ones(4))
    hard = map_masks(phrases(2), (24, 16), threshold=0.5)
    assert torch.equal(hard, (soft >= 0.5).float())


def test_one_phrase_has_the_masks_that_it_has_among_all():
    every = map_masks(phrases(3), (12, 8)).unflatten(0, (3, 2))
    assert torch.equal(map_masks(phrases(3), (12, 8), phrase=2), every[:, 1])


@pytest.mark.parametrize("phrase", [-1, 3])
def test_a_phrase_that_is_not_there_is_refused(phrase):
    with pytest.raises(ValueError, match=f"phrase must be 0 for all, or from 1 to 2, got {phrase}"):
        map_masks(phrases(), (12, 8), phrase=phrase)


def test_a_flat_map_is_a_black_mask_and_no_nan():
    flat = PhraseMaps(("thing",), torch.full((1, 1, 4, 4), 0.2), 1, ())
    assert torch.equal(map_masks(flat, (8, 8)), torch.zeros(1, 8, 8))
    assert bool(overlay_sheets(torch.zeros(1, 8, 8, 3), flat).isfinite().all())


@pytest.mark.parametrize(("count", "columns"), [(1, 2), (2, 3), (3, 4), (5, 3), (9, 4)])
def test_a_sheet_shows_the_picture_first_and_every_phrase(count, columns):
    images = torch.rand(2, 40, 32, 3, generator=torch.Generator().manual_seed(1))
    sheets = overlay_sheets(images, phrases(2, count))
    rows = -(-(count + 1) // columns)
    assert sheets.shape == (2, rows * (40 + 14), columns * 32, 3)
    assert (sheets[:, :40, :32] - images).abs().max() < 1 / 255


def test_a_preview_keeps_the_shape_of_the_picture():
    sheet = preview_sheet(phrases(size=(6, 3)))
    assert sheet.size == (2 * 96, 192 + 14)


def test_an_overlay_is_lightest_where_the_map_is_and_has_the_pictures_size():
    weights = torch.zeros(4, 6)
    weights[:2, :3] = 0.01  # however small, the greatest value is the lightest
    seen = np.asarray(overlay(PICTURE, weights)).astype(int).sum(axis=-1)
    assert seen.shape == (40, 60)
    assert seen[2, 2] > seen[-2, -2] + 200


def test_without_opacity_an_overlay_is_the_picture_in_grey():
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    seen = overlay(colours, torch.rand(2, 2, generator=torch.Generator().manual_seed(0)), opacity=0)
    assert np.array_equal(np.asarray(seen), np.asarray(colours.convert("L").convert("RGB")))


@pytest.mark.parametrize("value", [0, 0.5])
def test_a_map_without_differences_is_dark_all_over(value):
    seen = np.asarray(overlay(PICTURE, torch.full((3, 3), value), opacity=1))
    assert (seen == [20, 20, 60]).all()


@pytest.mark.parametrize("weights", [torch.ones(2), torch.full((2, 2), float("nan")), torch.full((2, 2), -1.0)])
def test_what_is_no_map_is_refused(weights):
    with pytest.raises(ValueError, match=r"weights must be .* of numbers from 0 up, got"):
        overlay(PICTURE, weights)
    with pytest.raises(ValueError, match="opacity must be a number from 0 to 1, got 2"):
        overlay(PICTURE, torch.ones(2, 2), opacity=2)


def test_a_sheet_of_one_picture_is_that_of_several():
    images = torch.rand(2, 40, 32, 3, generator=torch.Generator().manual_seed(1))
    picture = Image.fromarray((images[1] * 255).round().to(torch.uint8).numpy()).convert("RGBA")
    sheet = np.asarray(overlay_sheet(picture, phrases(2), 1), dtype=np.float32) / 255
    assert np.allclose(sheet, overlay_sheets(images, phrases(2))[1].numpy(), atol=1e-6)


def test_names_are_written_where_pillow_has_one_small_font(monkeypatch):
    with_names = np.asarray(preview_sheet(phrases(count=1)))
    font = ImageFont.load_default_imagefont()
    monkeypatch.setattr(ImageFont, "load_default", lambda: font)  # as before Pillow 10.1, without a size
    maps = phrases(count=1)
    old = np.asarray(preview_sheet(PhraseMaps(("thing 猫",), maps.maps, 1, ())))
    assert old.shape == with_names.shape
    assert old[192:].max() > 200 and old[192:].min() < 40
    assert np.array_equal(old[:192], with_names[:192])
