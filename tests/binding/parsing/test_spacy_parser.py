"""Groups from dependencies, on documents parsed by hand: spaCy is needed, and no model of it."""

import pytest

from tome_core.binding import Parse, choose_parser, phrases
from tome_core.binding.parsing import spacy_parser

HAND_MADE = {
    # word/part of speech/dependency/head, counted from 0
    "a cat wearing sunglasses and a dog wearing a red hat": (
        "a/DET/det/1 cat/NOUN/ROOT/1 wearing/VERB/acl/1 sunglasses/NOUN/dobj/2 and/CCONJ/cc/1 a/DET/det/6 "
        "dog/NOUN/conj/1 wearing/VERB/acl/6 a/DET/det/10 red/ADJ/amod/10 hat/NOUN/dobj/7",
        "cat (wearing sunglasses); dog (wearing a red hat)",
    ),
    "a red and black fire truck in a park": (
        "a/DET/det/5 red/ADJ/amod/5 and/CCONJ/cc/1 black/ADJ/conj/1 fire/NOUN/compound/5 truck/NOUN/ROOT/5 "
        "in/ADP/prep/5 a/DET/det/8 park/NOUN/pobj/6",
        "fire truck (red and black)",
    ),
    "the cat is black, a girl in red": (
        "the/DET/det/1 cat/NOUN/nsubj/2 is/AUX/ROOT/2 black/ADJ/acomp/2 ,/PUNCT/punct/2 a/DET/det/6 "
        "girl/NOUN/appos/1 in/ADP/prep/6 red/NOUN/pobj/7",
        "cat (is black); girl (in red)",
    ),
    "a cat and a dog": ("a/DET/det/1 cat/NOUN/ROOT/1 and/CCONJ/cc/1 a/DET/det/4 dog/NOUN/conj/1", "no groups"),
    "a boy with a blue kite": (
        "a/DET/det/1 boy/NOUN/ROOT/1 with/ADP/prep/1 a/DET/det/5 blue/ADJ/amod/5 kite/NOUN/pobj/2",
        "boy (with a blue kite)",
    ),
    "blue kite": ("blue/ADJ/amod/1 kite/NOUN/ROOT/1", "kite (blue)"),
}


@pytest.fixture
def documents():
    """Return a function from a text to its document, as a pipeline of spaCy is one."""
    tokens = pytest.importorskip("spacy.tokens")
    vocabulary = pytest.importorskip("spacy.vocab").Vocab()

    def parse(text: str):
        words = [item.rsplit("/", 3) for item in HAND_MADE[text][0].split()]
        names, parts, dependencies, heads = zip(*words, strict=True)
        place, spaces = 0, []
        for name in names:
            place = text.index(name, place) + len(name)
            spaces.append(text[place : place + 1] == " ")
        lemmas = ["be" if name == "is" else name for name in names]
        heads = [int(head) for head in heads]
        return tokens.Doc(vocabulary, names, spaces, pos=parts, deps=dependencies, heads=heads, lemmas=lemmas)

    return parse


@pytest.mark.parametrize("text", HAND_MADE)
def test_a_thing_goes_with_what_depends_on_it(documents, text):
    parse = Parse(text, tuple(spacy_parser.doc_groups(documents(text))))
    assert str(parse) == HAND_MADE[text][1]


def test_it_takes_the_place_of_the_rules_and_not_of_markup(documents, monkeypatch):
    monkeypatch.setattr(spacy_parser, "_models", lambda: ["en_core_web_sm"])
    monkeypatch.setattr(spacy_parser, "_load", lambda name: documents)
    parser, text = choose_parser("spacy"), "a boy with a blue kite"
    assert str(parser(text)) == "boy (with a blue kite)"
    assert str(parser(text, "kite: blue")) == "kite (blue)"
    assert str(parser("a boy with a ~blue kite~")) == "kite (blue)"
    assert str(choose_parser("auto")(text)) == "boy (with a blue kite)"


def test_without_a_model_auto_is_the_rules_and_spacy_is_refused(monkeypatch):
    monkeypatch.setattr(spacy_parser, "find_spec", lambda name: None)
    assert choose_parser("auto") is choose_parser("rules") is choose_parser() is phrases
    with pytest.raises(ValueError, match=r"parser must be 'rules' unless chosen with spacy and .*, got 'spacy'"):
        choose_parser("spacy")
    with pytest.raises(ValueError, match=r"parser must be one of \('auto', 'rules', 'spacy'\), got 'tree'"):
        choose_parser("tree")


def test_the_most_exact_model_of_english_is_taken(monkeypatch):
    installed = ["de_core_news_lg", "en_core_web_sm", "en_core_web_trf", "en_core_web_md", "en_other"]
    monkeypatch.setattr(spacy_parser, "find_spec", lambda name: object())
    fake = type("util", (), {"get_installed_models": staticmethod(lambda: installed)})
    monkeypatch.setattr(spacy_parser, "import_module", lambda name: fake)
    assert spacy_parser._models() == ["en_core_web_trf", "en_core_web_md", "en_core_web_sm", "en_other"]
