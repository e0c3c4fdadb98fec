"""CLIP's byte alphabet: a visible letter for every byte."""

from tome_core.clip_bytes import BYTES


def test_each_byte_has_one_visible_letter():
    assert sorted(BYTES.values()) == list(range(256))
    assert all(letter.isprintable() and not letter.isspace() for letter in BYTES)


def test_letters_and_order_are_those_of_the_vocabulary():
    assert list(BYTES)[:3] == ["!", '"', "#"] and list(BYTES)[94] == "¡" and list(BYTES)[188:190] == ["Ā", "ā"]
    assert (BYTES["a"], BYTES["Ġ"], BYTES["ÿ"], BYTES["Ń"]) == (0x61, 0x20, 0xFF, 0xAD)
