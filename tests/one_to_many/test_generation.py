"""Text from tokens, with decoders that follow a script: what is shown, when, and where it ends."""

import gc
import os
import time
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from zoo.data import TextTokenizer
from zoo.one_to_many import TextGenerator, generation
from zoo.one_to_many.generation import generate_text, stream_text

CHARACTERS = TextTokenizer.train(["abc.\n XY"], level="char")
BYTES = TextTokenizer.train(["plain words and no other\n" * 20], level="bpe", vocab_size=280)
WORDS = TextTokenizer.train(["the cat sat , and the dog sat .\n" * 3], level="word", pretokenized=True)


class Scripted:
    """A decoder that says given tokens one after the other, whatever it reads, and then the first one for ever."""

    def __init__(self, tokenizer, tokens):
        self.tokens = list(tokens)
        self.vocab_size = tokenizer.vocab_size
        self.steps = 0

    def logits(self, position):
        logits = torch.full((len(position), self.vocab_size), -1e4)
        for row, at in enumerate(position.tolist()):
            logits[row, self.tokens[at] if at < len(self.tokens) else self.tokens[0]] = 0.0
        return logits

    def prefill(self, tokens, lengths):
        position = torch.zeros(1, len(tokens), 1, dtype=torch.long)
        return self.logits(position[0, :, 0]), (position,)

    def step(self, tokens, state):
        self.steps += 1
        return self.logits(state[0][0, :, 0] + 1), (state[0] + 1,)


def said(tokenizer, text, prompt="a", **options):
    """(what `generate` returns, the pieces of `stream`, how many steps it took) where the decoder says `text`."""
    ids = tokenizer.encode(text) if isinstance(text, str) else text
    options = {"max_new_tokens": len(ids), **options}
    decoder = Scripted(tokenizer, ids)
    whole = generate_text(decoder, tokenizer, prompt, **options)
    return whole, list(stream_text(Scripted(tokenizer, ids), tokenizer, prompt, **options)), decoder.steps


def plainly_stopped(text, stops):
    """The text read a character at a time until a stop string is whole, without it."""
    for end in range(1, len(text) + 1):
        found = [text[:end].find(stop) for stop in stops if stop in text[:end]]
        if found:
            return text[: min(found)], end
    return text, len(text)


# --- stop strings -------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    st.text("ab\n", min_size=1, max_size=20), st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=0, max_size=3)
)
@example("aaab", ["aab"])
@example("ababac", ["abac"])
@example("abaa", ["abab"])
@example("bab", ["ab", "bab"])
def test_text_ends_before_the_first_stop_string(text, stops):
    whole, pieces, steps = said(CHARACTERS, text, stop=stops)
    expected, read = plainly_stopped(text, stops)
    assert whole == expected
    assert "".join(pieces) == expected
    assert steps == read - 1  # the first token needs no step, and nothing is computed after the end
    assert all(pieces)  # no empty piece


@settings(max_examples=100, deadline=None)
@given(
    st.text("plain words🙂é", min_size=1, max_size=12),
    st.lists(st.text("plain words🙂é", min_size=1, max_size=3), min_size=1, max_size=2),
)
@example("ab🙂cd", ["🙂c"])
@example("words and no", ["ds an"])
def test_stop_strings_straddle_tokens_of_several_characters_and_of_single_bytes(text, stops):
    whole, pieces, _ = said(BYTES, text, stop=stops)
    assert "".join(pieces) == whole
    assert not any(stop in whole for stop in stops)
    if any(stop in text for stop in stops):
        assert text.startswith(whole)
        assert any(text.startswith(whole + stop) for stop in stops)
    else:
        assert whole == text


def test_a_stop_string_may_be_given_as_a_string_or_a_list():
    assert said(CHARACTERS, "abXYab", stop="XY")[0] == "ab"
    assert said(CHARACTERS, "abXYab", stop=["XY"])[0] == "ab"
    assert said(CHARACTERS, "abXYab", stop=["ba", "Y"])[0] == "abX"


def test_a_stop_string_does_not_reach_back_into_the_prompt():
    assert said(CHARACTERS, "Yab", prompt="X", stop="XY")[0] == "Yab"


def test_a_begun_stop_string_is_shown_at_the_end_if_nothing_completes_it():
    whole, pieces, _ = said(CHARACTERS, "abX", stop="XY")
    assert whole == "abX"
    assert pieces == ["a", "b", "X"]


def test_a_begun_stop_string_is_held_back_until_it_is_decided():
    whole, pieces, _ = said(CHARACTERS, "aXbXXYb", stop="XYb")
    assert whole == "aXbX"
    assert pieces == ["a", "Xb", "X"]


def test_a_stop_string_at_once_gives_no_text():
    assert said(CHARACTERS, "XYab", stop="XY") == ("", [], 1)


def test_each_row_stops_on_its_own():
    ids = CHARACTERS.encode("abXcc")
    rows = generate_text(Scripted(CHARACTERS, ids), CHARACTERS, ["a", "bb", "c"], stop="X", max_new_tokens=5)
    assert rows == ["ab"] * 3


# --- streaming ----------------------------------------------------------------------------------------------


def test_each_character_is_shown_as_soon_as_it_is_made():
    text = "abc. XYab\n"
    decoder = Scripted(CHARACTERS, CHARACTERS.encode(text))
    steps = []
    for piece in stream_text(decoder, CHARACTERS, "a", max_new_tokens=len(text)):
        steps.append((decoder.steps, piece))
    assert steps == list(enumerate(text))


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=12).filter(lambda text: "\ufffd" not in text), st.text(max_size=8))
@example("🙂", "")
@example("a🇩🇪👨‍👩‍👧é漢字🙂", "🙂")
def test_no_half_character_is_shown_while_streaming(text, prompt):
    text = text.encode("utf-8", "ignore").decode() or "a"
    prompt = prompt.encode("utf-8", "ignore").decode()
    whole, pieces, _ = said(BYTES, text, prompt)
    assert whole == text
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_character_cut_off_by_the_end_is_shown_as_one_that_cannot_be_read():
    ids = BYTES.encode("ab🙂")[:-1]
    whole, pieces, _ = said(BYTES, ids)
    assert whole == "".join(pieces) == BYTES.decode(ids)
    assert whole.startswith("ab\ufffd")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, BYTES.vocab_size - 1), min_size=1, max_size=20), st.text("ab🙂é", max_size=6))
def test_any_bytes_at_all_stream_as_they_generate_and_decode(ids, prompt):
    whole, pieces, _ = said(BYTES, ids, prompt)
    assert whole == "".join(pieces)
    assert whole == BYTES.decode(ids)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, WORDS.vocab_size - 1), min_size=1, max_size=20), st.sampled_from(["the cat", "\n", ""]))
def test_words_are_spaced_as_in_one_decoding_of_prompt_and_text(ids, prompt):
    whole, pieces, _ = said(WORDS, ids, prompt)
    assert whole == "".join(pieces)
    start = WORDS.encode(prompt) or [WORDS.newline_id]
    assert WORDS.decode(start) + whole == WORDS.decode(start + ids)


def test_nothing_is_computed_before_the_first_piece_is_asked_for():
    class Untouched:
        def prefill(self, tokens, lengths):
            raise AssertionError("called")

    stream_text(Untouched(), CHARACTERS, "a")


# --- options ------------------------------------------------------------------------------------------------


def test_shapes_of_what_comes_back():
    decoder = Scripted(CHARACTERS, CHARACTERS.encode("ab"))

    def generate(prompt, **options):
        return generate_text(decoder, CHARACTERS, prompt, max_new_tokens=2, **options)

    assert generate("a") == "ab"
    assert generate(["a"]) == ["ab"]
    assert generate(("a", "b")) == ["ab", "ab"]
    assert generate([]) == []
    assert generate("a", num_return=1) == ["ab"]
    assert generate("a", num_return=3) == ["ab"] * 3
    assert generate(["a", "b"], num_return=2) == [["ab", "ab"], ["ab", "ab"]]
    assert generate([], num_return=2) == []


def test_no_new_tokens_is_no_text():
    decoder = Scripted(CHARACTERS, CHARACTERS.encode("ab"))
    assert generate_text(decoder, CHARACTERS, "a", max_new_tokens=0) == ""
    assert generate_text(decoder, CHARACTERS, ["a", "b"], max_new_tokens=0) == ["", ""]
    assert generate_text(decoder, CHARACTERS, "a", max_new_tokens=0, num_return=2) == ["", ""]
    assert list(stream_text(decoder, CHARACTERS, "a", max_new_tokens=0)) == []
    assert decoder.steps == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens is -1, but must be at least 0"),
        ({"stop": ""}, "a stop string is empty"),
        ({"stop": ["a", ""]}, "a stop string is empty"),
        ({"num_return": 0}, "num_return is 0, but must be at least 1"),
        ({"temperature": -1}, "temperature is -1, but must be"),
        ({"top_k": 0}, "top_k is 0, but must be"),
        ({"top_p": 0}, "top_p is 0, but must be"),
        ({"min_p": 2}, "min_p is 2, but must be"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0, but must be"),
        ({"max_new_tokens": 0, "temperature": -1}, "temperature is -1, but must be"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        generate_text(Scripted(CHARACTERS, [1]), CHARACTERS, "a", **options)


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="tempreature"):
        generate_text(Scripted(CHARACTERS, [1]), CHARACTERS, "a", tempreature=1)


def test_the_unknown_token_is_never_said():
    class Unknowing(Scripted):
        def logits(self, position):
            logits = torch.zeros(len(position), self.vocab_size)
            logits[:, CHARACTERS.unknown_id] = 50.0
            return logits

    text = generate_text(Unknowing(CHARACTERS, [0]), CHARACTERS, "é🙂", max_new_tokens=50, seed=0)
    assert len(text) == 50
    assert "<" not in text


def test_an_empty_prompt_starts_as_after_a_new_line():
    read = []

    class Reader(Scripted):
        def prefill(self, tokens, lengths):
            read.append(tokens.tolist())
            return super().prefill(tokens, lengths)

    for tokenizer in (CHARACTERS, BYTES, WORDS):
        generate_text(Reader(tokenizer, [1]), tokenizer, "", max_new_tokens=1)
        assert read.pop() == [[tokenizer.newline_id]]
    no_newline = TextTokenizer.train(["abc"], level="char")
    generate_text(Reader(no_newline, [1]), no_newline, "", max_new_tokens=1)
    assert read.pop() == [[no_newline.unknown_id]]


def test_a_model_is_given_its_prompt_on_its_own_device():
    class Elsewhere(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1, device="meta"))

        def prefill(self, tokens, lengths):
            assert tokens.device.type == lengths.device.type == "meta"
            raise InterruptedError

    with pytest.raises(InterruptedError):
        generate_text(Elsewhere(), CHARACTERS, "a")


# --- texts without an end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokenizer", "text", "stop"),
    [
        (CHARACTERS, "abc. XY\n" * 400, []),
        (CHARACTERS, "ab" * 1500, ["abc", "X"]),
        (BYTES, "plain € and 😀 " * 100, []),
    ],
)
def test_what_is_kept_of_a_text_does_not_grow_with_it(monkeypatch, tokenizer, text, stop):
    rows = []
    make = generation._Row.__init__
    monkeypatch.setattr(generation._Row, "__init__", lambda row, *given: (rows.append(row), make(row, *given))[1])
    ids = tokenizer.encode(text)
    shown = 0
    pieces = stream_text(Scripted(tokenizer, ids), tokenizer, "a", max_new_tokens=len(ids), stop=stop)
    for piece in pieces:
        shown += len(piece)
        (row,) = rows
        assert max(len(row.before), len(row.unshown), len(row.text)) <= generation.DECODING_CONTEXT + 1
    assert shown == len(tokenizer.decode(ids))


def test_bytes_that_are_no_text_do_not_pile_up():
    """Each would otherwise be decoded again with all those before it, which takes hours for 100,000."""
    (lone,) = {BYTES.encode("€")[-1]}
    count = 3000
    began = time.process_time()
    text = generate_text(Scripted(BYTES, [lone]), BYTES, "a", max_new_tokens=count, temperature=0)
    assert text == "\ufffd" * count
    assert time.process_time() - began < 5


def test_a_character_after_bytes_that_are_no_text():
    euro = BYTES.encode("€")
    for lone in range(7, 14):
        ids = [euro[-1]] * lone + euro + BYTES.encode("x")
        assert generate_text(Scripted(BYTES, ids), BYTES, "a", max_new_tokens=len(ids)) == "\ufffd" * lone + "€x"


@pytest.mark.slow
def test_100000_characters_without_drift_in_memory():
    torch.manual_seed(0)
    tokenizer = TextTokenizer.train(["the quick brown fox jumps over the lazy dog.\n"], level="char")
    model = TextGenerator(tokenizer=tokenizer, embedding_size=8, hidden_size=16, ngram_order=3, ngram_buckets=50)
    page = os.sysconf("SC_PAGE_SIZE")
    sizes = []
    characters = 0
    for piece in model.stream("the ", max_new_tokens=100_000, repetition_penalty=1.1, stop=["##"], seed=0):
        characters += len(piece)
        if characters % 20_000 == 0:
            gc.collect()
            sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * page)
    assert characters == 100_000
    assert len(sizes) == 5
    assert sizes[-1] - sizes[0] < 400_000  # a list of the tokens would have grown by 640,000
