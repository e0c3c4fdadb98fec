"""What all doors promise of the rows of a prompt, whatever its text encoders are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.binding.conftest import narrow
from tests.binding.fake_clip import WIDTHS, new_clip, tokenizer
from tests.binding.fake_webui import Encoder
from tome_core.binding import BindingConfig, Parse, RowGroup, apply_binding, phrases
from tome_core.binding.doors.chunks import HostEncoders, bind_chunks
from tome_core.binding.doors.conditioning import HostClip, bind_conditioning
from tome_core.binding.doors.diffusers import Tower
from tome_core.binding.parsing.phrases import phrases_or_none

OBJECTS, BARE = "a cat wearing sunglasses and a dog wearing a hat", "a cat and a dog"
COLOURS = "a white cat and a black dog"
GROUPS = [((2,), (3, 4)), ((7,), (8, 9, 10))]
SETTINGS: dict[str, Any] = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
Bound = tuple[Tensor, list[RowGroup]]


class Pipeline:
    """The door of diffusers."""

    def __init__(self, family: str) -> None:
        self._pipe = narrow(family)
        encoders = [self._pipe.text_encoder, getattr(self._pipe, "text_encoder_2", None)]
        self.widths = [encoder.config.hidden_size for encoder in encoders if encoder is not None]

    @torch.no_grad()
    def plain(self, text: str) -> Tensor:
        return self._pipe.encode_prompt(prompt=text, **SETTINGS)[0][0]

    def bound(self, text: str, config: BindingConfig, parser: Callable[[str], Parse] = phrases) -> Bound:
        with apply_binding(self._pipe, config, parser=parser) as handle:
            rows = self.plain(text)
        return rows, [group for prompt in handle.prompts for group in prompt.groups]

    def texts_read(self, text: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Return what a binding tokenises of a prompt, once for each text encoder."""
        seen: list[str] = []
        read = Tower.read
        monkeypatch.setattr(Tower, "read", lambda tower, own: (seen.append(own), read(tower, own))[1])
        self.bound(text, BindingConfig())
        return seen


class Conditioning:
    """The door of ComfyUI."""

    def __init__(self, *names: str) -> None:
        self._clip = new_clip(*names)
        self._names = names
        self.widths = [WIDTHS[name] for name in sorted(names, reverse=True)]

    def plain(self, text: str) -> Tensor:
        return self._clip.encode(self._clip.tokenize(text, False))[0][0][0]

    def bound(self, text: str, config: BindingConfig, parser: Callable[[str], Parse] = phrases) -> Bound:
        (((rows, extras),), _) = bind_conditioning(text, config, self._clip, parser=parser)
        return rows[0], list(extras["tome_binding"].groups) if "tome_binding" in extras else []

    def texts_read(self, text: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        seen: list[str] = []
        own = self._clip
        host = HostClip(lambda *given: (seen.append(given[0]), own.tokenize(*given))[1], own.encode, own.spell, WIDTHS)
        bind_conditioning(text, BindingConfig(), host)
        return [text for text in seen if text for _ in self._names]


class Chunks:
    """The door of AUTOMATIC1111 and Forge."""

    def __init__(self, *names: str) -> None:
        self._encoders = [Encoder(name) for name in names]
        self.widths = [WIDTHS[name] for name in names]

    def plain(self, text: str) -> Tensor:
        return torch.cat([encoder.encode([text])[0] for encoder in self._encoders], dim=1)

    def bound(self, text: str, config: BindingConfig, parser: Callable[[str], Parse] = phrases) -> Bound:
        parse = phrases_or_none(text, parser) if config.is_neutral else parser(text)
        spell = tokenizer().convert_ids_to_tokens
        encoders = HostEncoders(self._encoders, lambda token: spell(token))
        rows, read = bind_chunks(self.plain(parse.text), parse, encoders, config)
        return rows, list(read.bound.groups)

    def texts_read(self, text: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        rows = self.plain(text)
        for encoder in self._encoders:
            encoder.lines.clear()
        spell = tokenizer().convert_ids_to_tokens
        bind_chunks(rows, phrases(text), HostEncoders(self._encoders, lambda token: spell(token)), BindingConfig())
        return [line for encoder in self._encoders for line in encoder.lines]


DOORS = {
    "diffusers-sd15": lambda: Pipeline("sd15"),
    "diffusers-sdxl": lambda: Pipeline("sdxl"),
    "conditioning-l": lambda: Conditioning("l"),
    "conditioning-h": lambda: Conditioning("h"),
    "conditioning-gl": lambda: Conditioning("g", "l"),
    "chunks-l": lambda: Chunks("l"),
    "chunks-g": lambda: Chunks("g"),
    "chunks-lg": lambda: Chunks("l", "g"),
}


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Any:
    return DOORS[request.param]()


def test_the_rows_are_the_papers(door: Any):
    plain, bare = door.plain(OBJECTS), door.plain(BARE)
    bound, groups = door.bound(OBJECTS, BindingConfig())
    assert [(group.noun, group.modifiers) for group in groups] == GROUPS
    assert torch.allclose(bound[2], plain[2:5].sum(0), atol=1e-5)
    assert torch.allclose(bound[7], plain[7:11].sum(0), atol=1e-5)
    assert torch.equal(bound[[0, 1, 5, 6]], plain[[0, 1, 5, 6]])
    assert torch.equal(bound[11:], bare[6:72])
    assert torch.equal(bound[[3, 4, 8, 9, 10]], bound[76].expand(5, -1))


def test_end_tokens_may_come_from_the_same_places(door: Any):
    bound, _ = door.bound(OBJECTS, BindingConfig(ends="position"))
    assert torch.equal(bound[11:], door.plain(BARE)[11:])


def test_each_text_encoder_is_bound_in_its_own_columns(door: Any):
    plain = door.plain(COLOURS)
    bound, _ = door.bound(COLOURS, BindingConfig(norm="noun", ends="off"))
    assert sum(door.widths) == plain.shape[1]
    for own, found in zip(plain.split(door.widths, dim=1), bound.split(door.widths, dim=1), strict=True):
        total = own[2:4].sum(0)
        assert torch.allclose(found[3], total * own[3].norm() / total.norm(), atol=1e-5)


@pytest.mark.parametrize("text", [OBJECTS, "a ~red ^^cat~", "~ ~a ^^ cat~", "~10 apples", ""])
def test_strength_0_gives_the_hosts_own_bits(door: Any, text: str):
    assert torch.equal(door.bound(text, BindingConfig(strength=0))[0], door.plain(text))
    assert not torch.equal(door.bound(OBJECTS, BindingConfig())[0], door.plain(OBJECTS))


@pytest.mark.parametrize("text", [BARE, "", "赤い四角", "masterpiece, best quality", "~10 apples and ~5 pears"])
def test_a_prompt_without_groups_gives_the_hosts_own_bits(door: Any, text: str):
    bound, groups = door.bound(text, BindingConfig())
    assert torch.equal(bound, door.plain(text)) and groups == []


@pytest.mark.parametrize("strength", [0, 1])
@pytest.mark.parametrize(
    ("marked", "text"),
    [("a ~white cat~ and a ~black ^dog~", COLOURS), ("a white cat at ~noon", "a white cat at ~noon")],
)
def test_marks_reach_no_text_encoder_and_other_tildes_do(door: Any, strength: float, marked: str, text: str):
    config = BindingConfig(strength=strength)
    assert torch.equal(door.bound(marked, config)[0], door.bound(text, config)[0])


def test_a_mistake_in_the_markup_is_refused_above_strength_0(door: Any):
    with pytest.raises(ValueError, match=r"^group must hold a thing"):
        door.bound("a ~cat~ and a dog", BindingConfig())
    assert torch.equal(door.bound("a ~cat~ and a dog", BindingConfig(strength=0))[0], door.plain(BARE))


def test_a_users_list_takes_the_place_of_the_rules(door: Any):
    _, groups = door.bound(COLOURS, BindingConfig(), lambda text: phrases(text, "dog: black"))
    assert [(group.noun, group.modifiers) for group in groups] == [((7,), (6,))]


def test_a_prompt_is_tokenised_once_a_text_encoder_and_so_is_that_without_modifiers(door: Any, monkeypatch: Any):
    towers = len(door.widths)
    assert sorted(door.texts_read(OBJECTS, monkeypatch)) == [BARE] * towers + [OBJECTS] * towers
