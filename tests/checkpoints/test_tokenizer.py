import hashlib

import pytest

from tome_core.checkpoints.tokenizer import END, OPEN_CLIP_PAD, clip_tokenizer, merges, vocabulary

# Of lines 2 to 48,895 of OpenAI's bpe_simple_vocab_16e6.txt, the part that CLIP's own tokenizer reads.
SHA256_OF_RULES = "d308b7377a8ceaa9707a21614fe8c831b9196e197b7aeb69833359362907af02"


def test_the_shipped_rules_are_the_ones_that_clip_reads():
    rules = "\n".join(merges()) + "\n"
    assert hashlib.sha256(rules.encode()).hexdigest() == SHA256_OF_RULES
    assert rules.startswith("i n\nt h\na n\n")


def test_the_vocabulary_has_clips_ids():
    tokens = vocabulary()
    assert len(tokens) == 49408
    known = {"!": 0, "!</w>": 256, "a</w>": 320, "red</w>": 736, "cat</w>": 2368, "<|startoftext|>": 49406}
    assert {token: tokens[token] for token in known} == known


@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        ("a red cat", [320, 736, 2368]),
        ("A RED  Cat", [320, 736, 2368]),
        ("a photo of an astronaut riding a horse on mars", [320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496]),
        ("", []),
    ],
)
def test_prompts_become_clips_ids_between_start_and_end(prompt: str, ids: list[int]):
    assert clip_tokenizer()(prompt).input_ids == [49406, *ids, 49407]


@pytest.mark.parametrize(("pad", "pad_id"), [(END, 49407), (OPEN_CLIP_PAD, 0)])
def test_a_prompt_fills_77_tokens_with_the_pad_of_its_encoder(pad: str, pad_id: int):
    tokenizer = clip_tokenizer(pad=pad)
    ids = tokenizer("a red cat", padding="max_length", truncation=True).input_ids
    assert tokenizer.model_max_length == 77
    assert ids == [49406, 320, 736, 2368, 49407] + [pad_id] * 72


def test_a_long_prompt_is_cut_to_77_tokens_and_keeps_its_end():
    ids = clip_tokenizer()("cat " * 100, padding="max_length", truncation=True).input_ids
    assert ids == [49406] + [2368] * 75 + [49407]


def test_an_exclamation_mark_is_a_word_even_where_it_pads():
    assert clip_tokenizer(pad=OPEN_CLIP_PAD)("a cat!").input_ids == [49406, 320, 2368, 256, 49407]


def test_ids_read_back_as_the_prompt():
    tokenizer = clip_tokenizer()
    text = str(tokenizer.decode(tokenizer("a red cat").input_ids, skip_special_tokens=True))
    assert text.strip() == "a red cat"


def test_changing_one_tokenizer_leaves_the_next_as_it_was():
    clip_tokenizer().add_tokens(["<my-style>"])
    assert len(clip_tokenizer()) == 49408
