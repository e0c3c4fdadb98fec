"""The peak of a call's memory, on sums that can be done by hand."""

import torch

from tome_core.bench.speed.probe import peak_memory

CPU = torch.device("cpu")
SIZE = 400  # bytes of a hundred float32


def test_what_lives_at_the_same_time_adds_up_and_what_is_gone_does_not():
    x = torch.zeros(100)
    with peak_memory(CPU) as peak:
        first = x + 1
        second = first * 2
        del first
        third = second * 2  # two of them live
        del second
        torch.cat([third, third])  # three sizes
    assert peak() == 3 * SIZE


def test_views_and_what_is_done_in_place_take_nothing():
    x = torch.zeros(100)
    with peak_memory(CPU) as peak:
        x.view(10, 10)[1:].add_(1)
        x.reshape(-1).relu_()
    assert peak() == 0


def test_what_was_there_before_does_not_count():
    x = [torch.zeros(100) for _ in range(5)]
    with peak_memory(CPU) as peak:
        x[0] = x[1] + x[2]
    assert peak() == SIZE
    with peak_memory(CPU) as again:
        del x[0]
    assert again() == 0


def test_a_cuda_device_tells_its_own_peak_beyond_what_was_there(monkeypatch):
    reset = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1700)
    device = torch.device("cuda", 0)
    with peak_memory(device) as peak:
        assert reset == [device]
    assert peak() == 700
