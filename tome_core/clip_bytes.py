"""CLIP's byte alphabet: how its vocabulary writes each byte as a visible letter (Radford et al. 2021, section 2.4)."""

from typing import Final


def _letters() -> dict[str, int]:
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + place): byte for place, byte in enumerate(hidden)}


BYTES: Final = _letters()
"""The byte of each letter, in the vocabulary's order: printable Latin-1 stands for itself, then come the others."""
