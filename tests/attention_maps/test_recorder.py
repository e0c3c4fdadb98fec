"""Maps of a running UNet, against the attention scores that diffusers' plain processor computes."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, StableDiffusionPAGPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from PIL import Image
from torch import Tensor, nn

from tests.binding.conftest import OBJECTS
from tome_core.attention_maps import record_maps, resize
from tome_core.binding import apply_binding
from tome_core.errors import UnsupportedModelError
from tome_core.merging import MergePlan, window_matching
from tome_core.speed import SpeedConfig, apply_speed

ROWS = [2, 7]
TOKENS = 9
KEPT = torch.tensor([row not in (3, 4) for row in range(TOKENS)])


@pytest.fixture
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("CrossAttnDownBlock2D",) * 2, "up_block_types": ("CrossAttnUpBlock2D",) * 2}
    sizes = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 4}
    return UNet2DConditionModel(**blocks, **sizes, cross_attention_dim=12, attention_head_dim=2).eval()  # type: ignore[arg-type]


def inputs(batch: int = 2, size: tuple[int, int] = (8, 8), rows: int = TOKENS) -> dict[str, Any]:
    random = torch.Generator().manual_seed(1)
    return {
        "sample": torch.randn(batch, 4, *size, generator=random),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": 3 * torch.randn(batch, rows, 12, generator=random),
    }


@pytest.fixture
def scores(unet, monkeypatch) -> list[Tensor]:
    """The shares [B, heads, N, T] of each cross-attention, as the layers themselves compute them."""
    seen: list[Tensor] = []
    original: Callable[..., Tensor] = Attention.get_attention_scores

    def watch(self: Any, query: Tensor, key: Tensor, mask: Any = None) -> Tensor:
        result = original(self, query, key, mask)
        if self.is_cross_attention:
            seen.append(result.unflatten(0, (-1, self.heads)).detach())
        return result

    monkeypatch.setattr(Attention, "get_attention_scores", watch)
    unet.set_attn_processor(AttnProcessor())
    return seen


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (5, 7), (12, 4), (1, 3)])
@pytest.mark.parametrize("images", [1, 2, 4])
def test_the_maps_are_what_the_layers_attend_to(unet, scores, size, images):
    with record_maps(unet, ROWS, images=images) as recorder:
        unet(**inputs(4, size))
    assert len(scores) == 7
    expected = []
    for shares in scores:  # [4, heads, N, T]
        side = 1 if shares.shape[2] == size[0] * size[1] else 2
        grid = (-(-size[0] // side), -(-size[1] // side))
        maps = shares[-images:].mean(dim=1)[..., ROWS].transpose(1, 2).unflatten(2, grid)
        expected.append(resize(maps, size))
    assert recorder.calls[0].shape == (images, 2, *size)
    assert torch.allclose(recorder.calls[0], torch.stack(expected).mean(dim=0), atol=1e-5)
    assert recorder.notes == []


@torch.no_grad()
@pytest.mark.parametrize(
    "config",
    [
        SpeedConfig(ratio=0.5, parts=("cross_attention",)),
        SpeedConfig(ratio=0.4, levels=(1, 2), parts=("attention", "cross_attention", "mlp"), cross_attention_ratio=0.6),
        SpeedConfig(ratio=0.5, levels=(1, 2), parts=("block",)),
        SpeedConfig(ratio=0.5, parts=("stack",), matching="window"),
    ],
    ids=["cross", "parts", "block", "stack"],
)
@pytest.mark.parametrize("size", [(8, 8), (6, 9)])
def test_merged_image_tokens_are_unmerged(unet, scores, config, size):
    with apply_speed(unet, config) as speed:
        merging = Watched(speed)
        with record_maps(unet, ROWS, images=2, merging=merging) as recorder:
            unet(**inputs(4, size))
    assert min(shares.shape[2] for shares in scores) < size[0] * size[1] // 2
    assert merging.plans
    assert recorder.notes == []
    assert torch.allclose(recorder.calls[0], expected_maps(scores, merging.plans, size, slice(2, 4)), atol=1e-5)


class Watched:
    """A handle that merges, and the plans that it was asked for, in order."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.plans: list[MergePlan] = []

    def plan_of(self, grid: tuple[int, int], kept: int) -> MergePlan | None:
        plan = self._handle.plan_of(grid, kept)
        assert plan is not None and (plan.tokens, plan.kept) == (grid[0] * grid[1], kept)
        self.plans.append(plan)
        return plan


class Merging:
    """A handle written for tests: merges image tokens around each cross-attention, each row by a plan of its own."""

    def __init__(self, unet: nn.Module, size: tuple[int, int]) -> None:
        self._grids = {side[0] * side[1]: side for side in (size, (-(-size[0] // 2), -(-size[1] // 2)))}
        self._plan: Any = None
        for module in unet.modules():
            if isinstance(module, Attention) and module.is_cross_attention:
                module.register_forward_pre_hook(self._merge)
                module.register_forward_hook(lambda *call: self._plan.unmerge(call[2]))

    def _merge(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        grid = self._grids[args[0].shape[1]]
        self._plan = window_matching(args[0], *grid, 3 * args[0].shape[1] // 5)
        return (self._plan.merge(args[0]), *args[1:])

    def plan_of(self, grid: tuple[int, int], kept: int) -> MergePlan | None:
        return self._plan if (self._grids[self._plan.tokens], self._plan.kept) == (grid, kept) else None


def expected_maps(scores: list[Tensor], plans: list[MergePlan], size: tuple[int, int], rows: slice) -> Tensor:
    """Return the maps of some rows of a call, given each layer's shares, and the plan of each layer that is merged."""
    grids = {side[0] * side[1]: side for side in (size, (-(-size[0] // 2), -(-size[1] // 2)))}
    expected, following = [], iter(plans)
    for shares in scores:
        maps = shares.mean(dim=1)[..., ROWS].transpose(1, 2)  # [B, 2, N or M]
        if maps.shape[2] not in grids:
            maps = next(following).unmerge(maps.transpose(1, 2)).transpose(1, 2)
        expected.append(resize(maps[rows].unflatten(2, grids[maps.shape[2]]), size))
    assert next(following, None) is None
    return torch.stack(expected).mean(dim=0)


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (5, 7)])
@pytest.mark.parametrize("images", [1, 3])
def test_each_image_is_unmerged_by_its_own_row_of_the_plan(unet, scores, size, images):
    merging = Watched(Merging(unet, size))
    with record_maps(unet, ROWS, images=images, merging=merging) as recorder:
        unet(**inputs(3, size))
    assert len(merging.plans) == 7
    assert not torch.equal(merging.plans[0].assignment[0], merging.plans[0].assignment[2])
    assert recorder.notes == []
    assert torch.allclose(
        recorder.calls[0], expected_maps(scores, merging.plans, size, slice(3 - images, 3)), atol=1e-5
    )


@torch.no_grad()
@pytest.mark.parametrize("wrong", [None, MergePlan.identity(2, 26), MergePlan.identity(1, 64)])
def test_a_plan_of_other_tokens_is_not_used(unet, wrong):
    Merging(unet, (8, 8))
    other = type("Other", (), {"plan_of": lambda self, grid, kept: wrong})()
    with record_maps(unet, ROWS, merging=other) as recorder:
        unet(**inputs())
    assert recorder.calls == []
    assert "26 merged tokens were left out: record_maps needs the handle that merges them" in recorder.notes


@torch.no_grad()
def test_merged_tokens_of_an_unnamed_merging_are_left_out_and_said(unet):
    with apply_speed(unet, SpeedConfig(parts=("cross_attention",))), record_maps(unet, ROWS) as recorder:
        unet(**inputs())
    assert recorder.notes == ["32 merged tokens were left out: record_maps needs the handle that merges them"]
    assert recorder.calls[0].shape == (1, 2, 4, 4)


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 8), (5, 7)])
def test_recording_changes_no_bit_and_closing_leaves_no_trace(unet, traces, size):
    before, untouched = traces(unet), unet(**inputs(2, size)).sample
    recorder = record_maps(unet, ROWS)
    assert recorder.is_installed
    assert traces(unet) != before
    assert torch.equal(unet(**inputs(2, size)).sample, untouched)
    recorder.close()
    recorder.close()
    assert traces(unet) == before
    assert len(recorder.calls) == 1


@torch.no_grad()
def test_a_call_that_raises_is_not_recorded_and_disturbs_no_other(unet, traces):
    before = traces(unet)
    with record_maps(unet, ROWS) as recorder:
        unet(**inputs())
        with pytest.raises(RuntimeError):
            unet(**inputs() | {"encoder_hidden_states": torch.zeros(2, TOKENS, 5)})
        unet(**inputs())
    assert len(recorder.calls) == 2
    assert torch.equal(*recorder.calls)
    assert traces(unet) == before


def test_an_installation_that_fails_half_way_is_undone(unet, traces, monkeypatch):
    before = traces(unet)
    last = [module for module in unet.modules() if isinstance(module, Attention) and module.is_cross_attention][-1]

    def fail(*args: Any, **kwargs: Any) -> None:
        assert traces(unet) != before
        raise RuntimeError("no hooks here")

    monkeypatch.setattr(last.to_k, "register_forward_hook", fail)
    with pytest.raises(RuntimeError, match="no hooks here"):
        record_maps(unet, ROWS)
    monkeypatch.undo()
    assert traces(unet) == before


@torch.no_grad()
def test_a_text_mask_is_part_of_the_maps(unet, scores):
    with record_maps(unet, [2, 3], images=2) as recorder:
        unet(**inputs(), encoder_attention_mask=KEPT.expand(2, -1))
    assert (recorder.calls[0][:, 1] < 1e-6).all()
    expected = []
    for shares in scores:  # [2, heads, N, T], of what is left
        side = 8 if shares.shape[2] == 64 else 4
        expected.append(resize(shares.mean(dim=1)[..., [2, 3]].transpose(1, 2).unflatten(2, (side, side)), (8, 8)))
    assert torch.allclose(recorder.calls[0], torch.stack(expected).mean(dim=0), atol=1e-5)
    with record_maps(unet, [2], images=2) as unmasked:
        unet(**inputs())
    assert (recorder.calls[0][:, 0] > unmasked.calls[0][:, 0]).all()


@torch.no_grad()
def test_rows_in_another_order_give_the_same_picture_and_their_maps_go_with_them(unet):
    order = torch.randperm(TOKENS, generator=torch.Generator().manual_seed(2))
    given = inputs()
    with record_maps(unet, [2]) as first:
        untouched = unet(**given).sample
    moved = given | {"encoder_hidden_states": given["encoder_hidden_states"][:, order]}
    with record_maps(unet, [order.tolist().index(2)]) as second:
        assert relative(unet(**moved).sample, untouched) < 1e-5
    assert torch.allclose(first.calls[0], second.calls[0], atol=1e-5)


@torch.no_grad()
def test_masking_rows_is_removing_them_and_zeroing_is_not(unet):
    given, kept = inputs(), KEPT
    rows = given["encoder_hidden_states"]
    removed = unet(**given | {"encoder_hidden_states": rows[:, kept]}).sample
    masked = unet(**given, encoder_attention_mask=kept.expand(2, -1)).sample
    zeroed = unet(**given | {"encoder_hidden_states": rows * kept[:, None]}).sample
    assert relative(masked, removed) < 1e-5
    assert relative(zeroed, removed) > 1e-4


@torch.no_grad()
def test_one_row_alone_has_every_map_at_1(unet):
    with record_maps(unet, [0], images=2) as recorder:
        unet(**inputs(rows=1))
    assert torch.allclose(recorder.calls[0], torch.ones(2, 1, 8, 8), atol=1e-6)


def test_one_row_alone_is_told_what_to_write_and_never_where(unet):
    """So a loss on a composite token alone, such as the paper's semantic binding loss, cannot move its map."""
    layers = [module for module in unet.modules() if isinstance(module, Attention) and module.is_cross_attention]
    weights = [getattr(layer, name).weight for layer in layers for name in ("to_q", "to_k", "to_v")]
    loss = unet(**inputs(rows=1)).sample.square().mean()
    gradients = torch.autograd.grad(loss, weights)
    for q, k, v in zip(gradients[0::3], gradients[1::3], gradients[2::3], strict=True):
        assert max(q.norm(), k.norm()) < 1e-6 * v.norm()
    several = torch.autograd.grad(unet(**inputs()).sample.square().mean(), weights)
    assert all(k.norm() > 1e-6 * v.norm() for k, v in zip(several[1::3], several[2::3], strict=True))


def test_maps_keep_no_graph_of_a_model_that_is_trained(unet):
    with record_maps(unet, ROWS) as recorder:
        output = unet(**inputs()).sample
    assert output.requires_grad
    assert not recorder.calls[0].requires_grad


def test_a_pipeline_records_a_map_a_call_and_the_composites_differ_from_the_words(pipeline, latents):
    with record_maps(pipeline, ROWS) as plain:
        latents(pipeline, OBJECTS)
    with apply_binding(pipeline), record_maps(pipeline, ROWS) as bound:
        latents(pipeline, OBJECTS)
    assert len(plain.calls) == len(bound.calls) >= 2  # PNDM calls the model once more than there are steps
    assert plain.mean().shape[:2] == (1, 2)
    assert torch.allclose(plain.mean(), sum(plain.calls) / len(plain.calls))
    assert (bound.mean() - plain.mean()).abs().max() > 1e-5


def test_maps_are_those_of_the_prompt_and_not_of_the_negative_one(sd15, latents):
    recorded = []
    for negative in ("", "a green tower"):
        with record_maps(sd15, ROWS) as recorder:
            latents(sd15, OBJECTS, negative_prompt=negative, num_inference_steps=1)
        recorded.append(recorder.mean())
    assert torch.allclose(*recorded, atol=1e-6)


def perturbed(pipe: Any) -> Any:
    return StableDiffusionPAGPipeline(**pipe.components, pag_applied_layers=["mid"], requires_safety_checker=False)


def pix2pix(pipe: Any) -> Any:
    unet = UNet2DConditionModel.from_config({**pipe.unet.config, "in_channels": 8}).eval()
    return StableDiffusionInstructPix2PixPipeline(**{**pipe.components, "unet": unet}, requires_safety_checker=False)


KINDS: dict[str, tuple[Callable[[Any], Any], dict[str, Any], int, int]] = {  # with the parts, and the prompt's place
    "guided": (lambda pipe: pipe, {}, 2, 1),
    "unguided": (lambda pipe: pipe, {"guidance_scale": 1.0}, 1, 0),
    "perturbed": (perturbed, {}, 3, 1),
    "perturbed, unguided": (perturbed, {"guidance_scale": 1.0}, 2, 0),
    "perturbed at scale 0": (perturbed, {"pag_scale": 0.0}, 2, 1),
    "pix2pix": (pix2pix, {"image": Image.new("RGB", (64, 64))}, 3, 0),
    "pix2pix, unguided": (pix2pix, {"image": Image.new("RGB", (64, 64)), "guidance_scale": 1.0}, 1, 0),
}


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pipelines_maps_are_of_the_part_of_its_batch_that_is_the_prompts(sd15, kind, images):
    make, settings, parts, place = KINDS[kind]
    torch.manual_seed(0)
    processors = sd15.unet.attn_processors
    pipe, calls = make(sd15), []
    pipe.set_progress_bar_config(disable=True)

    def draw(prompt: str, negative: str) -> Any:
        size = {} if "image" in settings else {"width": 64, "height": 64}
        given = {"num_inference_steps": 1, "output_type": "latent", "num_images_per_prompt": images} | size | settings
        with record_maps(pipe, ROWS, images=images) as recorder:
            pipe(prompt, negative_prompt=negative, generator=torch.Generator().manual_seed(0), **given)
        assert recorder.notes == []
        return recorder.calls[0]

    try:
        watch = pipe.unet.register_forward_pre_hook(lambda *call: calls.append(call[1:]), with_kwargs=True)
        maps = draw(OBJECTS, "")
        watch.remove()
        (sample, timestep, *_), given = calls[0]
        text = given["encoder_hidden_states"]
        assert len(sample) == len(text) == parts * images
        own = slice(place * images, (place + 1) * images)
        with record_maps(pipe.unet, ROWS, images=images) as alone, torch.no_grad():
            pipe.unet(sample[own], timestep, encoder_hidden_states=text[own])
        assert torch.allclose(maps, alone.calls[0], atol=1e-5)
        assert not torch.allclose(maps, draw("a green star and a purple cross", ""), atol=1e-5)
        assert torch.allclose(maps, draw(OBJECTS, "blurry"), atol=1e-5)
    finally:
        sd15.unet.set_attn_processor(processors)


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "state", "batch", "images"),
    [
        ("StableDiffusionPipeline", {}, 3, 1),
        ("StableDiffusionXLInstructPix2PixPipeline", {}, 2, 1),
        ("StableDiffusionPAGPipeline", {"do_perturbed_attention_guidance": True}, 4, 1),
        ("LEditsPPPipelineStableDiffusion", {}, 6, 2),
        ("LEditsPPPipelineStableDiffusionXL", {}, 1, 1),
        ("StableDiffusionSAGPipeline", {}, 1, 1),
        ("SemanticStableDiffusionPipeline", {}, 4, 1),
    ],
)
def test_a_batch_whose_order_is_not_known_is_left_out_and_said(unet, kind, state, batch, images):
    pipe = type("Own", (type(kind, (), {}),), {"unet": unet, **state})()
    with record_maps(pipe, ROWS, images=images) as recorder:
        unet(**inputs(batch))
    assert recorder.calls == []
    rows = f"a batch of {batch} rows for {images} image{'s' if images > 1 else ''} was left out"
    assert recorder.notes == [f"{rows}: which of them are the prompt's is not known for Own"]


@torch.no_grad()
def test_of_a_modular_pipelines_calls_those_of_the_prompt_are_recorded(unet):
    guider = SimpleNamespace(is_conditional=False)
    with record_maps(SimpleNamespace(unet=unet, guider=guider), ROWS) as recorder:
        unet(**inputs(1))
        assert recorder.calls == []
        guider.is_conditional = True
        unet(**inputs(1))
    assert len(recorder.calls) == 1 and recorder.notes == []


@torch.no_grad()
def test_a_batch_of_other_images_is_left_out_and_said(unet):
    with record_maps(unet, ROWS, images=3) as recorder:
        unet(**inputs())
    assert recorder.notes == ["a batch of 2 rows is not of 3 images: it was left out"]
    with pytest.raises(ValueError, match="calls must be one or more before there is a mean, got none"):
        recorder.mean()


@torch.no_grad()
def test_fused_projections_are_left_out_and_said(unet):
    unet.fuse_qkv_projections()
    with record_maps(unet, ROWS) as recorder:
        unet(**inputs())
    assert recorder.calls == []
    assert len(recorder.notes) == 1 and "fused projections need unfuse_qkv_projections()" in recorder.notes[0]
    unet.unfuse_qkv_projections()
    with record_maps(unet, ROWS) as recorder:
        unet(**inputs())
    assert (len(recorder.calls), recorder.notes) == (1, [])


@torch.no_grad()
def test_a_call_in_which_no_layer_can_be_read_is_said(unet):
    for module in unet.modules():
        if isinstance(module, Attention):
            module.set_processor(lambda attn, hidden_states, *args, **kwargs: hidden_states)  # type: ignore[arg-type]
    with record_maps(unet, ROWS) as recorder:
        unet(**inputs())
        unet(**inputs())
    (note,) = recorder.notes
    assert note.startswith("a call gave no map: no cross-attention layer in it could be read; fused projections need")


@pytest.mark.parametrize(
    ("rows", "images", "sentence"),
    [
        ([], 1, r"rows must be one or more numbers from 0 up, got \[\]"),
        ([-1], 1, r"rows must be one or more numbers from 0 up, got \[-1\]"),
        ([1], 0, "images must be a whole number from 1 up, got 0"),
    ],
)
def test_wrong_numbers_are_refused(unet, traces, rows, images, sentence):
    before = traces(unet)
    with pytest.raises(ValueError, match=sentence):
        record_maps(unet, rows, images=images)
    assert traces(unet) == before


def test_a_model_without_cross_attention_is_refused():
    with pytest.raises(UnsupportedModelError, match=r"model must be a UNet with cross-attention, .* got Linear"):
        record_maps(nn.Linear(2, 2), ROWS)


def relative(got: Tensor, expected: Tensor) -> float:
    return ((got - expected).norm() / expected.norm()).item()
