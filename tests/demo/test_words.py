from tome_core.demo import untaught_words


def test_untaught_words_are_named_once_in_their_order():
    assert untaught_words("A photo of 2 RED cats, a photo of été") == ["photo", "2", "cats", "été"]
    assert untaught_words("") == []
