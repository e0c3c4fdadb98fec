"""What the hosts' prompt languages add to plain words, blanked out so that the words can be read.

ComfyUI and AUTOMATIC1111 share weights `(red:1.3)`; the latter has `[red]`, `[red:blue:0.3]`, `[red|blue]`, `BREAK`,
`AND` and `<lora:name:1>`; the former `embedding:name` and `{red|blue}`; both know `__wildcard__` by an extension.
"""

import re
from typing import Final

STOP: Final = "\n"
"""What stands for text that no group reaches across."""

_CLEAR = (  # read through, as if it were not there; the first of them first
    re.compile(r"<[^<>\s]+:[^<>]*>"),  # an extra network
    re.compile(r":\s*[-+]?\d*\.?\d+\s*(?=\))"),  # a weight; `[red:0.5]` is a schedule
    re.compile(r"\\?[()]"),
)
_OPAQUE = (  # words that come and go while sampling, or that only the host can read
    re.compile(r"\[[^\[\]]*[:|][^\[\]]*\]"),
    re.compile(r"\{[^{}]*\}"),
    re.compile(r"__[^\s,]+?__"),
    re.compile(r"\bembedding:\S+"),
    re.compile(r"\b(?:BREAK|AND)\b"),
)
_BRACKETS = re.compile(r"\\?[\[\]]")


def plain(text: str) -> str:
    """Return a prompt of the same length in which host syntax is blank, or a `STOP` where it parts the words."""
    for pattern in _CLEAR:
        text = pattern.sub(_blank, text)
    for pattern in _OPAQUE:
        text = pattern.sub(lambda found: STOP * len(found[0]), text)
    return _BRACKETS.sub(_blank, text)


def _blank(found: re.Match[str]) -> str:
    return " " * len(found[0])
