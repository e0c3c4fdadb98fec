import numpy as np
import pytest

from tome_core.evaluation.quality import Store, key_of
from tome_core.evaluation.sampling import Drawn

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(256, size=(2, 16, 16, 3), dtype=np.uint8)
DRAWN = Drawn(PICTURES, RNG.standard_normal((2, 4, 2, 2)).astype(np.float32))


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "a" / "b")


def test_a_picture_comes_back_to_the_last_bit_with_its_latent(store):
    store.save("abc", DRAWN, 1)
    assert "abc" in store
    assert "abd" not in store
    loaded = store.load("abc")
    assert np.array_equal(loaded.pictures, DRAWN.pictures[1:])
    assert np.array_equal(loaded.latents, DRAWN.latents[1:])
    assert loaded.latents.dtype == np.float32


def test_what_is_there_stays(store):
    store.save("abc", DRAWN, 0)
    store.save("abc", DRAWN, 1)
    assert np.array_equal(store.load("abc").pictures, DRAWN.pictures[:1])


def test_a_write_that_fails_half_way_leaves_nothing(store, monkeypatch):
    def fail(file, **_):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="no space"):
        store.save("abc", DRAWN, 0)
    assert "abc" not in store
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []


def test_a_key_follows_from_the_values_and_not_from_their_order():
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": [1, 2], "a": 1})
    assert len({key_of({"a": 1}), key_of({"a": 2}), key_of({"b": 1}), key_of({"a": "1"})}) == 4
