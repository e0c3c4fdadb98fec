"""Presets of binding: words that give settings, and say what they follow."""

import pytest

from tome_core.binding import BindingConfig
from tome_core.presets import BINDING_PRESETS, binding_preset, read_preset, save_preset


def test_the_first_word_is_the_papers_default():
    assert BINDING_PRESETS[0] == "paper"
    assert binding_preset("paper") == BindingConfig()


def test_each_word_has_settings_of_its_own_and_a_sentence_about_them():
    assert len({binding_preset(word) for word in BINDING_PRESETS}) == len(BINDING_PRESETS)
    for word in BINDING_PRESETS:
        preset = read_preset("binding", word)
        assert preset.help.endswith(".") and "Not yet verified on real weights." in preset.source


def test_gentle_is_what_was_measured_the_length_of_the_things_own_word_without_other_end_tokens():
    assert binding_preset("gentle") == BindingConfig(norm="noun", ends="off")


@pytest.mark.parametrize("word", BINDING_PRESETS)
def test_strength_0_is_neutral(word):
    assert binding_preset(word, 0).is_neutral
    assert binding_preset(word, 0.5).strength == 0.5


def test_strength_is_a_factor_for_the_presets_own():
    save_preset("mine", binding=BindingConfig(strength=0.5, norm="noun"))
    assert binding_preset("mine") == BindingConfig(strength=0.5, norm="noun")
    assert binding_preset("mine", 0.5) == BindingConfig(strength=0.25, norm="noun")


def test_other_words_and_strengths_are_refused():
    with pytest.raises(ValueError, match=r"^preset must be one of \('paper', .*got 'balanced'"):
        binding_preset("balanced")
    with pytest.raises(ValueError, match=r"^strength must be a number from 0 to 1, got 2"):
        binding_preset("paper", 2)
