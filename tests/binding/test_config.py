"""What a user may choose, and what is refused in one sentence."""

import pytest

from tome_core.binding import BindingConfig


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"strength": 1.5}, "strength must be a number from 0 to 1, got 1.5"),
        ({"strength": float("nan")}, "strength must be a number from 0 to 1, got nan"),
        ({"strength": True}, "strength must be a number from 0 to 1, got True"),
        ({"noun_weight": -1}, "noun_weight must be a number from 0 to 2, got -1"),
        ({"modifier_weight": "1"}, "modifier_weight must be a number from 0 to 2, got '1'"),
        ({"norm": "mean"}, "norm must be one of ('none', 'noun'), got 'mean'"),
        ({"removed": "mask"}, "removed must be one of ('fill', 'zero', 'keep'), got 'mask'"),
        ({"ends": True}, "ends must be one of ('end', 'position', 'off'), got True"),
    ],
)
def test_a_setting_out_of_its_bounds_is_refused(settings, sentence):
    with pytest.raises(ValueError) as caught:
        BindingConfig(**settings)
    assert str(caught.value) == sentence


def test_the_defaults_are_the_papers_and_only_strength_0_is_neutral():
    config = BindingConfig()
    assert (config.noun_weight, config.modifier_weight, config.norm, config.ends) == (1, 1, "none", "end")
    assert not config.is_neutral
    assert BindingConfig(strength=0).is_neutral
    assert isinstance(BindingConfig(strength=1).strength, float)
