"""Maps of a UNet in the original layout: whose rows are whose, whatever a host makes of a batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.hosts.fake import forge
from tests.hosts.fake.unet import HEADS, TEXT_WIDTH
from tome_core.attention_maps import Phrase, PhraseRecorder, StepPrompts, resize
from tome_core.merging import MergePlan, window_matching
from tome_core.speed import SpeedConfig, apply_speed_to_module
from tome_core.speed.doors.patcher import patch_speed

SIZE = (12, 10)
CIRCLE, SQUARE, STAR = Phrase("circle", (3,)), Phrase("square", (7,)), Phrase("star", (2, 4))
LAYERS = 5
PARTS = ["attention", "cross_attention", "block", "stack"]


@pytest.fixture
def network() -> Any:
    return forge.new_model().model.diffusion_model


def rows_of(seed: int, rows: int = 11) -> Tensor:
    return 2 * torch.randn(rows, TEXT_WIDTH, generator=torch.Generator().manual_seed(seed))


def latents(count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randn(count, 4, *size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def call(network: Any, x: Tensor, context: Tensor) -> Tensor:
    return network(x, torch.full((len(x),), 500.0, dtype=x.dtype), context, None, {})


class Watch:
    """What each cross-attention of a network computes for itself: shares [B, N, T], as the mean over its heads."""

    def __init__(self, network: nn.Module) -> None:
        self.shares: list[Tensor] = []
        for name, module in network.named_modules():
            if name.endswith("attn2"):
                module.register_forward_pre_hook(self._watch, with_kwargs=True)

    def _watch(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with torch.no_grad():
            q = module.to_q.weight @ args[0].transpose(1, 2)  # not by the modules, which are hooked
            k = module.to_k.weight @ kwargs["context"].transpose(1, 2)
            q, k = (x.transpose(1, 2).unflatten(2, (HEADS, -1)) for x in (q, k))
            logits = torch.einsum("bnhd,bthd->bhnt", q, k) / q.shape[-1] ** 0.5
            self.shares.append(logits.softmax(-1).mean(1))

    def maps(self, row: int, columns: tuple[int, ...], plans: list[MergePlan] | None = None) -> Tensor:
        """Return the map [height, width] of some text rows in a row of the batch, over all layers that were seen."""
        found = []
        for number, shares in enumerate(self.shares):
            own = shares[..., list(columns)].sum(-1, keepdim=True)  # [B, N, 1]
            own = own if plans is None else plans[number].unmerge(own)
            grid = SIZE if own.shape[1] == SIZE[0] * SIZE[1] else (6, 5)
            found.append(resize(own[row].T.unflatten(1, grid).unsqueeze(0), SIZE))
        return torch.cat(found).mean(0)[0]


def recorder_of(step: StepPrompts | None) -> PhraseRecorder:
    return PhraseRecorder(lambda: step)


def prompts(*rows: Tensor, images: tuple[int, ...] = (0,), phrases: Any = ((CIRCLE, SQUARE),)) -> StepPrompts:
    return StepPrompts(torch.stack(rows), images, phrases, SIZE)


ORDERS = {
    "prompts first": [[0, 1, 2, None, None]],
    "prompts last": [[None, None, 0, 1, 2]],
    "mixed": [[1, None, 0, None, 2]],
    "without the negative prompt": [[0, 1, 2]],
    "apart": [[None, None], [0], [1], [2]],
    "in uneven parts": [[0, 1], [2, None], [None]],
}


@pytest.mark.parametrize("order", ORDERS)
def test_each_image_has_its_own_maps_in_any_order_of_the_rows(network, order):
    texts, empty, noise = [rows_of(seed) for seed in (1, 2, 3)], rows_of(9), latents(5)
    phrases = ((CIRCLE, SQUARE), (SQUARE,), (STAR,))
    recorder = recorder_of(prompts(*texts, images=(0, 1, 2), phrases=phrases))
    recorder.attach(network)
    for rows in ORDERS[order]:
        x = torch.stack([noise[3 if row is None else row] for row in rows])
        call(network, x, torch.stack([empty if row is None else texts[row] for row in rows]))
    recorder.close()
    found = recorder.take()
    assert recorder.notes == [] and sorted(found) == [0, 1, 2]
    for image, own in enumerate(phrases):
        watched: Any = forge.new_model().model.diffusion_model
        watch = Watch(watched)
        call(watched, noise[image : image + 1], texts[image][None])
        assert found[image].labels == tuple(phrase.label for phrase in own) and found[image].calls == LAYERS
        for place, phrase in enumerate(own):
            assert torch.allclose(found[image].maps[0, place], watch.maps(0, phrase.rows), atol=1e-5)


def test_images_of_the_same_prompt_are_known_by_their_order(network):
    text, noise = rows_of(1), latents(2)
    recorder = recorder_of(prompts(text, text, images=(0, 1), phrases=((CIRCLE,),) * 2))
    recorder.attach(network)
    for rows in ([0], [1]):
        call(network, noise[rows], text[None])
    call(network, noise[[0, 1]], torch.stack([text, text]))
    found = recorder.take()
    watch = Watch(network)
    call(network, noise, torch.stack([text, text]))
    for image in (0, 1):
        assert found[image].calls == 2 * LAYERS
        assert torch.allclose(found[image].maps[0, 0], watch.maps(image, (3,)), atol=1e-5)
    assert not torch.allclose(found[0].maps, found[1].maps, atol=1e-4)


@pytest.mark.parametrize("longer", ["padded", "repeated", "cut off"])
def test_prompts_are_known_where_a_host_makes_them_longer(network, longer):
    text, noise = rows_of(1), latents(1)
    context = {"padded": [text, rows_of(5)], "repeated": [text, text], "cut off": [text, rows_of(5)[:4]]}[longer]
    context = torch.cat(context)[None]
    recorder = recorder_of(prompts(text))
    recorder.attach(network)
    call(network, noise, context)
    maps = recorder.take()[0].maps
    watch = Watch(network)
    call(network, noise, context)
    for place, row in enumerate((3, 7)):
        assert torch.allclose(
            maps[0, place], watch.maps(0, (row, row + 11) if longer == "repeated" else (row,)), atol=1e-5
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_prompts_are_known_in_the_networks_own_dtype(dtype):
    network: Any = forge.new_model().model.diffusion_model.to(dtype)
    text = rows_of(1)
    recorder = recorder_of(prompts(text))
    recorder.attach(network)
    call(network, latents(1).to(dtype), text[None].to(dtype))
    assert recorder.take()[0].calls == LAYERS and recorder.notes == []


def test_parts_of_one_image_and_words_that_change_have_maps_one_after_another(network):
    first, second, noise = rows_of(1), rows_of(2), latents(2)
    steps = [
        prompts(first, second, images=(0, 0), phrases=((CIRCLE,), (SQUARE,))),
        prompts(first, second, images=(0, 0), phrases=((CIRCLE,), (STAR,))),
    ]
    at = [0]
    recorder = PhraseRecorder(lambda: steps[at[0]])
    recorder.attach(network)
    for number in (0, 1):
        at[0] = number
        call(network, noise, torch.stack([first, second]))
    found = recorder.take()[0]
    assert found.labels == ("circle", "square", "star") and found.calls == 4 * LAYERS
    watch = Watch(network)
    call(network, noise, torch.stack([first, second]))
    for place, (row, columns) in enumerate([(0, (3,)), (1, (7,)), (1, (2, 4))]):
        assert torch.allclose(found.maps[0, place], watch.maps(row, columns), atol=1e-5)


def test_a_pass_at_another_size_counts_on_the_finest_grid(network):
    text, step = rows_of(1), [prompts(rows_of(1))]
    recorder = PhraseRecorder(lambda: step[0])
    recorder.attach(network)
    call(network, latents(1), text[None])
    step[0] = StepPrompts(text[None], (0,), ((CIRCLE, STAR),), (24, 20))
    call(network, latents(1, size=(24, 20)), text[None])
    found = recorder.take()[0]
    assert found.labels == ("circle", "square", "circle", "star") and found.maps.shape == (1, 4, 24, 20)
    assert found.maps.min() > 0


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("before", [True, False])
def test_maps_are_whole_where_a_plain_network_merges(network, parts, before):
    text, noise = rows_of(1), latents(2)
    recorder = recorder_of(prompts(text))
    with apply_speed_to_module(network, SpeedConfig(parts=parts, levels=(1, 2))) as speed:
        if not before:
            speed.close()
            recorder.attach(network, plans := Late())
            speed = plans.handle = apply_speed_to_module(network, SpeedConfig(parts=parts, levels=(1, 2)))
        else:
            recorder.attach(network, speed)
        merged = call(network, noise, torch.stack([text, rows_of(9)]))
        speed.close()
        recorder.close()
    assert recorder.notes == [] and recorder.take()[0].calls == LAYERS
    assert not torch.equal(merged, call(network, noise, torch.stack([text, rows_of(9)])))


class Late:
    """A handle that is there when it is asked."""

    handle: Any = None

    def plan_of(self, grid: tuple[int, int], kept: int) -> MergePlan | None:
        return self.handle.plan_of(grid, kept)


@pytest.mark.parametrize("parts", PARTS)
def test_maps_are_whole_where_forge_merges(parts):
    model = forge.new_model()
    patched, _ = patch_speed(model, SpeedConfig(parts=parts, levels=(1, 2)))
    own = forge.text(model, 1)[0]  # type: ignore[arg-type]
    recorder = recorder_of(StepPrompts(own[None], (0,), ((CIRCLE, STAR),), (16, 16)))
    recorder.attach(patched.model.diffusion_model)
    forge.sample(patched)
    recorder.close()
    found = recorder.take()
    assert recorder.notes == [] and found[0].calls == 3 * LAYERS


class Merging:
    """Merges image tokens around each cross-attention, each row by a plan of its own."""

    def __init__(self, network: nn.Module) -> None:
        self.plans: list[MergePlan] = []
        for name, module in network.named_modules():
            if name.endswith("attn2"):
                module.register_forward_pre_hook(self._merge)
                module.register_forward_hook(lambda *given: self.plans[-1].unmerge(given[2]))

    def _merge(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        grid = SIZE if args[0].shape[1] == SIZE[0] * SIZE[1] else (6, 5)
        self.plans.append(window_matching(args[0], *grid, 3 * args[0].shape[1] // 5))
        return (self.plans[-1].merge(args[0]), *args[1:])

    def plan_of(self, grid: tuple[int, int], kept: int) -> MergePlan | None:
        plan = self.plans[-1]
        return plan if (grid[0] * grid[1], kept) == (plan.tokens, plan.kept) else None


def test_each_row_is_unmerged_by_its_own_row_of_the_plan(network):
    texts, noise = [rows_of(1), rows_of(2)], latents(3)
    merging = Merging(network)
    watch = Watch(network)
    recorder = recorder_of(prompts(*texts, images=(0, 1), phrases=((CIRCLE,), (SQUARE,))))
    recorder.attach(network, merging)
    call(network, noise, torch.stack([rows_of(9), *texts]))
    found = recorder.take()
    assert recorder.notes == []
    assert torch.allclose(found[0].maps[0, 0], watch.maps(1, (3,), merging.plans), atol=1e-5)
    assert torch.allclose(found[1].maps[0, 0], watch.maps(2, (7,), merging.plans), atol=1e-5)


def test_merged_tokens_that_nobody_knows_are_left_out_and_named(network):
    Merging(network)
    recorder = recorder_of(prompts(rows_of(1)))
    recorder.attach(network)
    call(network, latents(1), rows_of(1)[None])
    assert recorder.take() == {}
    assert recorder.notes == [
        "Maps leave out 48 merged tokens on a grid of 12 x 10.",
        "Maps leave out 12 merged tokens on a grid of 6 x 5.",
    ]


def test_cross_attention_that_another_extension_computes_leaves_the_maps(network):
    text, noise, recorder = rows_of(1), latents(1), recorder_of(prompts(rows_of(1)))
    recorder.attach(network)
    replaced = {("input", 1): _first, ("input", 3): _first, ("middle", 0): _first}
    replaced |= {("output", 0): _first, ("output", 2): _first}
    with torch.no_grad():
        network(noise, torch.tensor([500.0]), text[None], None, {"patches_replace": {"attn2": replaced}})
    found = recorder.take()[0]
    assert recorder.notes == [] and found.labels == ("circle", "square") and found.calls == LAYERS


def _first(q: Tensor, k: Tensor, v: Tensor, options: Any) -> Tensor:
    return q


def test_recording_changes_no_bit_and_closing_leaves_no_trace(network, traces):
    text, noise = rows_of(1), latents(2)
    context = torch.stack([text, rows_of(9)])
    plain, before = call(network, noise, context), traces(network)
    recorder = recorder_of(prompts(text))
    recorder.attach(network)
    assert recorder.is_installed and traces(network) != before
    assert torch.equal(call(network, noise, context), plain)
    recorder.close()
    recorder.close()
    assert traces(network) == before and recorder.take()[0].calls == LAYERS


def test_attaching_again_keeps_the_hooks_and_another_network_takes_them_over(network, traces):
    other: Any = forge.new_model("sdxl").model.diffusion_model
    before, recorder = traces(network), recorder_of(prompts(rows_of(1)))
    recorder.attach(network)
    hooked = traces(network)
    recorder.attach(network)
    assert traces(network) == hooked != before
    recorder.attach(other)
    assert traces(network) == before
    with torch.no_grad():
        other(latents(1), torch.tensor([500.0]), rows_of(1)[None], torch.zeros(1, 8), {})
    assert recorder.take()[0].calls == 7


def test_what_was_taken_is_forgotten(network):
    recorder = recorder_of(prompts(rows_of(1)))
    recorder.attach(network)
    call(network, latents(1), rows_of(1)[None])
    first = recorder.take()[0]
    assert recorder.take() == {}
    call(network, latents(1), rows_of(1)[None])
    assert torch.equal(recorder.take()[0].maps, first.maps)


@pytest.mark.parametrize("step", [None, prompts(rows_of(1), phrases=((),)), prompts(rows_of(2))])
def test_without_a_prompt_of_the_call_there_are_no_maps(network, step):
    recorder = recorder_of(step)
    recorder.attach(network)
    call(network, latents(1), rows_of(1)[None])
    assert recorder.take() == {} and recorder.notes == []


def test_tiles_of_a_picture_are_left_out_and_named(network):
    recorder = recorder_of(prompts(rows_of(1)))
    recorder.attach(network)
    call(network, latents(1, size=(8, 8)), rows_of(1)[None])
    assert recorder.take() == {} and recorder.notes == ["Maps leave out calls on a part of the picture (tiles)."]


def test_layers_that_run_in_tiles_are_left_out_and_named(network):
    text, recorder = rows_of(1), recorder_of(prompts(rows_of(1)))
    recorder.attach(network)
    for name, module in network.named_modules():
        if name.endswith("attn2.to_q"):
            module.register_forward_pre_hook(lambda module, args: (args[0].unflatten(1, (2, -1)).flatten(0, 1),))
            module.register_forward_hook(lambda module, args, out: out.unflatten(0, (-1, 2)).flatten(1, 2))
    call(network, latents(1), text[None])
    assert recorder.notes == ["Maps leave out layers that another extension cuts into tiles."]


def test_an_error_in_here_costs_no_picture_and_ends_the_recording(network):
    text, noise = rows_of(1), latents(1)
    plain = call(network, noise, text[None])
    recorder = recorder_of(prompts(text, phrases=((Phrase("circle", (99,)),),)))
    recorder.attach(network)
    for _ in range(2):
        assert torch.equal(call(network, noise, text[None]), plain)
    (note,) = recorder.notes
    assert note.startswith("Maps ended, ValueError: rows must be one or more from 0 to 10, got [99]")


def test_a_call_that_raises_disturbs_no_other(network):
    text, noise, recorder = rows_of(1), latents(1), recorder_of(prompts(rows_of(1)))
    recorder.attach(network)
    with pytest.raises(RuntimeError):
        call(network, torch.zeros(1, 3, *SIZE), text[None])
    call(network, noise, text[None])
    assert recorder.take()[0].calls == LAYERS and recorder.notes == []


def test_other_and_compiled_networks_are_named_and_let_alone(network, traces):
    recorder, other = recorder_of(None), nn.Linear(1, 1)
    recorder.attach(other)
    assert not recorder.is_installed
    compiled: Any = torch.compile(network)
    before = traces(network)
    recorder.attach(compiled)
    assert traces(network) == before
    assert recorder.notes == [
        "No maps: Linear is no UNet with cross-attention (SD 1.x, SD 2.x, SDXL).",
        "No maps: the network is compiled.",
    ]
