"""What people do today against mixed-up attributes: each phrase encoded in a chunk of its own, as with BREAK."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any, Final

import torch
from torch import Tensor

from ...binding import Parse, phrases
from ...binding.parsing.lexicon import DETERMINERS

_ARTICLES: Final = re.compile(rf"(?:\b(?:{'|'.join(sorted(DETERMINERS))})\s+)*$", re.IGNORECASE)
_JOINTS: Final = re.compile(r"^(?:[\s,;]|and\b)+|(?:[\s,;]|\band)+$", re.IGNORECASE)


def split_phrases(parse: Parse) -> tuple[str, ...]:
    """Return a prompt in parts, one for each group, cut before the article of the next one.

    An "and" or a comma that joined two parts is gone; all other words stay with the group before them, those at the
    beginning with the first. Groups within each other stay together.
    """
    text, cuts, reached = parse.text, [0], 0
    for group in sorted(parse.groups, key=lambda group: group.spans[0]):
        start = group.spans[0].start
        if reached and start >= reached:
            articles = _ARTICLES.search(text[reached:start])
            cuts.append(start - len(articles[0] if articles else ""))
        reached = max(reached, *(span.end for span in group.spans))
    if len(cuts) == 1:
        return (text,)
    return tuple(_JOINTS.sub("", text[start:end]) for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True))


def split_prompt(text: str) -> tuple[str, ...]:
    """Return a prompt in parts, one for each group that the rules find."""
    return split_phrases(phrases(text))


@contextmanager
def isolated(pipeline: Any, split: Callable[[str], Sequence[str]] = split_prompt) -> Iterator[None]:
    """Inside the block, a pipeline encodes each phrase of a prompt alone and joins the chunks on the axis of rows.

    Rows are [B, n * 77, D], n the least number into which the chunks of every prompt of the batch fit whole times: a
    chunk and its repetition share the attention of one. The negative prompt is repeated likewise; pooled vectors are
    those of the whole prompt.
    """
    own, encode = vars(pipeline).get("encode_prompt"), pipeline.encode_prompt
    order = signature(type(pipeline).encode_prompt)

    def encode_apart(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        given = dict(list(order.bind(pipeline, *args, **kwargs).arguments.items())[1:])
        rows, negative, *pooled = encode(**given)
        prompts = [given["prompt"]] if isinstance(given["prompt"], str) else given["prompt"]
        alone = given | {"do_classifier_free_guidance": False, "num_images_per_prompt": 1}
        chunks = [encode(**alone | {"prompt": list(split(x))})[0].flatten(0, 1) for x in prompts]
        length = math.lcm(*(len(chunk) for chunk in chunks))
        joined = torch.stack([_repeat(chunk, length, 0) for chunk in chunks])
        joined = joined.repeat_interleave(len(rows) // len(joined), dim=0)
        return (joined, None if negative is None else _repeat(negative, length, 1), *pooled)

    pipeline.encode_prompt = encode_apart
    try:
        yield
    finally:
        del pipeline.encode_prompt
        if own is not None:
            pipeline.encode_prompt = own


def _repeat(rows: Tensor, length: int, axis: int) -> Tensor:
    return torch.cat([rows] * (length // rows.shape[axis]), dim=axis)
