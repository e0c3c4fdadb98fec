"""The Triton kernels against plain torch: run by Triton's interpreter, and compiled for GPUs that are not here."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tome_core.merging import MergePlan, bipartite_soft_matching_2d, kernels

pytest.importorskip("triton", reason="triton is not installed: its kernels are not tested")
SOURCE = Path(kernels.__file__).with_name("triton_kernels.py")


def load() -> ModuleType:
    """Return a fresh copy of the kernels: whether they are interpreted is decided when they are defined."""
    spec = importlib.util.spec_from_file_location("kernels_under_test", SOURCE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def interpreted() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        yield load()


def new_plan(batch: int, height: int, width: int, r: int) -> MergePlan:
    metric = random(batch, height * width, 6, seed=1)
    return bipartite_soft_matching_2d(metric, height, width, r)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@settings(max_examples=15)
@given(
    batch=st.integers(1, 3),
    grid=st.tuples(st.integers(2, 7), st.integers(2, 7)),
    ratio=st.floats(0, 1),
    channels=st.sampled_from([1, 3, 20, 64]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)
def test_they_do_what_plain_torch_does(interpreted, batch, grid, ratio, channels, dtype):
    plan = new_plan(batch, *grid, r=int(grid[0] * grid[1] * ratio))
    x = random(batch, plan.tokens, channels, dtype=dtype)
    merged = interpreted.mean_segments(x.flatten(0, 1), plan.order, plan.starts)
    expected = kernels.mean_segments(x.flatten(0, 1), plan.order, plan.starts, plan.sizes.flatten())
    assert merged.dtype == dtype
    torch.testing.assert_close(merged, expected)  # the interpreter rounds bfloat16 down
    y = random(*merged.shape, seed=2, dtype=dtype)
    got = interpreted.add_gathered(x.flatten(0, 1), y, merged, plan.slots)
    exact = x.double() + plan.unmerge((y.double() - merged.double()).unflatten(0, (batch, -1)))
    assert got.dtype == dtype
    torch.testing.assert_close(got, exact.flatten(0, 1).to(dtype))


def test_a_row_that_is_wider_than_a_program_is_whole(interpreted):
    plan, x = new_plan(1, 2, 4, r=3), random(8, interpreted._MAX_BLOCK + 5)
    merged = interpreted.mean_segments(x, plan.order, plan.starts)
    torch.testing.assert_close(merged, plan.merge(x.unsqueeze(0)).squeeze(0))
    torch.testing.assert_close(interpreted.add_gathered(x, merged, merged, plan.slots), x)


def test_strided_input_is_read_right_and_left_alone(interpreted):
    plan, wide = new_plan(1, 4, 4, r=7), random(16, 12)
    x, before = wide[:, ::2], wide.clone()
    torch.testing.assert_close(
        interpreted.mean_segments(x, plan.order, plan.starts), plan.merge(x.unsqueeze(0)).squeeze(0)
    )
    assert torch.equal(wide, before)


def test_a_float16_sum_that_would_overflow_is_a_mean(interpreted):
    x = torch.full((4, 2), 60000.0, dtype=torch.float16)
    order = torch.arange(4)
    assert torch.equal(interpreted.mean_segments(x, order, order[:1]), x[:1])


@pytest.mark.parametrize("capability", [75, 90])
@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_they_compile_without_atomics_for_a_gpu(monkeypatch, dtype, capability):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    module, target = load(), GPUTarget("cuda", capability, 32)
    rows, numbers = f"*{dtype}", "*i64"
    mean = {"rows": rows, "order": numbers, "starts": numbers, "merged": rows}
    add = {"x": rows, "y": rows, "merged": rows, "index": numbers, "out": rows}
    for kernel, pointers, sizes in (
        (module._mean_segments, mean, ("entries", "segments", "channels")),
        (module._add_gathered, add, ("channels",)),
    ):
        signature = {**pointers, **dict.fromkeys(sizes, "i32"), "BLOCK": "constexpr"}
        text = compile(ASTSource(kernel, signature, constexprs={"BLOCK": 512}), target=target).asm["ptx"]
        assert "st.global" in text
        assert "atom." not in text and "red." not in text


def test_without_a_gpu_plain_torch_does_the_work(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert kernels._triton_kernels(torch.ones(2, 2)) is None
    assert kernels._working_triton_kernels(torch.device("cpu")) is None


def test_they_are_trusted_only_where_they_agree_with_plain_torch(interpreted, monkeypatch):
    assert kernels._agree(interpreted, torch.device("cpu"))
    for name in ("mean_segments", "add_gathered"):
        with monkeypatch.context() as patch:
            right = getattr(interpreted, name)
            patch.setattr(interpreted, name, lambda *given, right=right: right(*given) + 0.01)
            assert not kernels._agree(interpreted, torch.device("cpu"))


class OnGpu(Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True  # type: ignore[assignment]


@pytest.fixture
def served(monkeypatch) -> list[torch.device]:
    asked: list[torch.device] = []
    monkeypatch.setattr(kernels, "_working_triton_kernels", lambda device: asked.append(device) or kernels)
    return asked


def test_on_a_gpu_they_serve_what_they_can_do(served):
    x = torch.ones(2, 2).as_subclass(OnGpu)
    assert kernels._triton_kernels(x, x) is kernels
    assert kernels._triton_kernels(x.double()) is None
    assert kernels._triton_kernels(x, x.half()) is None
    with_gradient = torch.ones(2, 2).as_subclass(OnGpu).requires_grad_()
    assert kernels._triton_kernels(x, with_gradient) is None
    with torch.no_grad():
        assert kernels._triton_kernels(x, with_gradient) is kernels
    assert len(served) == 2
