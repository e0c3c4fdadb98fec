"""Sum up the scores of many pictures: the figures by which prompts and methods are compared."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from .scoring import Score


@dataclass(frozen=True)
class Summary:
    """How many pictures of `count` are of which kind; a picture may have both missing and extra objects."""

    count: int
    right: int  # fully right
    present: int  # all wanted shapes there, in whatever colour
    swapped: int  # of those present: by `Score.binding`, so each picture counts for one kind of error
    leaked: int
    wrong: int
    unsure_binding: int  # of those present: no certain error, but a colour that is unsure
    missing: int  # at least one wanted object certainly not there
    extra: int  # at least one object too many
    unsure: int  # at least one object of unsure colour or shape

    @property
    def binding_error(self) -> float:
        """Binding error given presence: the share of pictures with a swapped, leaked or wrong colour among those
        where all wanted shapes are there; NaN where there are none. Unsure ones count as no error."""
        return (self.swapped + self.leaked + self.wrong) / self.present if self.present else float("nan")


def summarise(scores: Iterable[Score]) -> Summary:
    """Count the scores of pictures by kind."""
    scores = tuple(scores)
    binding = Counter(score.binding for score in scores)
    return Summary(
        count=len(scores),
        right=sum(score.right for score in scores),
        present=sum(score.present for score in scores),
        swapped=binding["swapped"],
        leaked=binding["leaked"],
        wrong=binding["wrong"],
        unsure_binding=binding["unsure"],
        missing=sum("missing" in score.fates for score in scores),
        extra=sum(bool(score.extra) for score in scores),
        unsure=sum(score.unsure for score in scores),
    )
