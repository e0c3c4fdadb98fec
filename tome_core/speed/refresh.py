"""When plans are made anew in a sampling run: often early, where the picture takes shape, and more rarely later.

A run has three stages, the same for every model. Ours, and not yet verified on real weights. Others keep a matching
for a number of steps throughout (ToMA, arXiv 2509.10918: ten) or make it at listed ones (CA-ToMe, arXiv 2501.00946).
"""

_EARLY = 0.1  # until here, as a fraction of the run, plans are made at every step
_MIDDLE = 0.4  # until here they are kept for half as many steps as afterwards, rounded up
_LONGEST_STEP = 0.1  # a longer one changes the picture too much: runs of fewer than ten steps keep no plan


def is_kept(age: int, refresh: int, percent: float, earlier_percent: float) -> bool:
    """Return whether the plans of the last step serve a step as well.

    Args:
        age: steps since they were made, this one counted: 1 or more.
        refresh: steps that a plan serves in the last stage.
        percent, earlier_percent: where this step and the last one are in the run, as fractions of it.
    """
    if round(percent - earlier_percent, 6) > _LONGEST_STEP:
        return False
    return age < steps_of_a_plan(refresh, percent)


def steps_of_a_plan(refresh: int, percent: float) -> int:
    """Return how many steps a plan serves at a place in the run."""
    if percent < _EARLY:
        return 1
    return (refresh + 1) // 2 if percent < _MIDDLE else refresh
