"""Tokenizers: lossless where they say so, the same from a file, the same in pieces."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data import TextTokenizer, text_pieces, tokenizer
from zoo.data.tokenizer import Level
from zoo.errors import InputError

PTB = Path(__file__).parents[3] / "shared/data/text/ptb/ptb.train.txt"
SAMPLE = (
    "The cat's hat -- it's  red.\r\n\r\n\tDon't “touch”… l'été e\u0301t 12.5 naïve\n中文 😀👩\u200d👧\0 <unk> \n" * 3
)

# Text with much of what is awkward: blanks of all kinds, newlines, NUL, marks, apostrophes, emoji.
texts = st.text(
    st.one_of(
        st.sampled_from(" \n\t\r\0'’_.,-<unk>sdmtlver\u0301\u2028\x85\u00a0\ufeff\U0001f600\u200d"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=60,
)


def trained(level: Level, text: str = SAMPLE, **options: Any) -> TextTokenizer:
    size = 300 if level == "bpe" else None
    return TextTokenizer.train([text], level, vocab_size=size, **options)


BPE = trained("bpe")
CHAR = trained("char")
WORD = trained("word")
PRETOKENIZED = trained("word", pretokenized=True)
ALL = {"char": CHAR, "word": WORD, "pretokenized": PRETOKENIZED, "bpe": BPE}


@given(texts)
def test_bpe_round_trip_of_any_text(text: str) -> None:
    assert BPE.decode(BPE.encode(text)) == text


@given(texts.filter(bool))
@settings(max_examples=50)
@pytest.mark.parametrize("level", ["char", "word"])
def test_round_trip_of_known_text(level: Level, text: str) -> None:
    known = TextTokenizer.train([text], level)
    ids = known.encode(text)
    assert known.unknown_id == 0
    assert known.never_generated == [0]
    assert 0 not in ids
    assert known.decode(ids) == text
    assert known.decode(torch.tensor(ids)) == text


@given(texts)
@pytest.mark.parametrize("name", ALL)
def test_encode_long_is_encode(name: str, text: str) -> None:
    ids = ALL[name].encode_long(text)
    assert ids.dtype == torch.int32
    assert ids.dim() == 1
    assert ids.tolist() == ALL[name].encode(text)


def test_bpe_never_merges_a_newline() -> None:
    text = "\n\n    a \n\r\n\n" * 50  # nothing but tempting merges
    one = TextTokenizer.train([text], "bpe", vocab_size=300)
    tokens = [one.id_to_token(i) or "" for i in range(one.vocab_size)]
    assert [token for token in tokens if "\u010a" in token] == ["\u010a"]
    assert one.encode(text).count(one.newline_id or -1) == text.count("\n")
    assert one.encode(text) == [i for line in text.splitlines(keepends=True) for i in one.encode(line)]


@given(texts, st.sampled_from(["\n", "s", "t", "é", "中", "7", "²"]), texts)
@pytest.mark.parametrize("name", ALL)
def test_a_cut_after_a_newline_or_a_word_changes_nothing(name: str, before: str, last: str, after: str) -> None:
    one = ALL[name]
    after = after if last == "\n" else f" {after}"
    assert one.encode(before + last + after) == one.encode(before + last) + one.encode(after)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("text", [SAMPLE * 20, SAMPLE.replace("\n", " ") * 20, "\n" * 500, " \n  \n" * 99])
def test_many_pieces_are_the_whole(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ALL[name].encode(text)
    monkeypatch.setattr(text_pieces, "PIECE_CHARACTERS", 7)
    monkeypatch.setattr(tokenizer, "CHARACTERS_AT_ONCE", 20)
    assert ALL[name].encode_long(text).tolist() == whole
    blocks = [text[start : start + 11] for start in range(0, len(text), 11)]
    assert torch.cat(list(ALL[name].encode_blocks(blocks))).tolist() == whole


def test_character_ids_are_in_code_point_order() -> None:
    one = TextTokenizer.train(["ba\n", "a\U0001f600e\u0301\r"], "char")
    assert [one.id_to_token(i) for i in range(one.vocab_size)] == [
        "<unk>", "\n", "\r", "a", "b", "e", "\u0301", "\U0001f600",
    ]  # fmt: skip
    assert one.newline_id == 1
    assert one.encode("e\u0301z") == [5, 6, 0]
    assert one.encode("<unk>"[1:2]) == [0]


def test_word_tokens() -> None:
    text = "The cat's  hat, the 2nd_x...\n\n don't"
    one = TextTokenizer.train([text], "word")
    tokens = [one.id_to_token(i) for i in one.encode(text)]
    assert tokens == [
        "The", " cat", "'s", " ", " hat", ",", " the", " 2nd_x", ".", ".", ".", "\n", "\n", " don", "'t",
    ]  # fmt: skip
    assert one.encode("zebra")[0] == one.unknown_id == 0
    assert one.decode([0]) == "<unk>"


def test_pretokenized_words() -> None:
    one = TextTokenizer.train([" no it was n't <unk> \n\n"], "word", pretokenized=True)
    assert one.pretokenized
    assert not WORD.pretokenized
    assert sorted(filter(None, map(one.id_to_token, range(one.vocab_size)))) == sorted(
        ["<unk>", "no", "it", "was", "n't", "\n"]
    )
    assert one.encode("no   it\t\n \n was<unk> <unk>") == one.encode("no it\n\nwas<unk> <unk>\n")[:-1]
    assert one.encode("<unk>") == [0] == one.encode("<unk>x")
    assert one.decode(one.encode(" no  it \n\n  n't <unk> \n was")) == "no it\n\nn't <unk>\nwas"
    assert one.decode([]) == ""


@given(
    st.lists(st.lists(st.text("ab'<>\u0301\U0001f600.", min_size=1)), min_size=1),
    st.sampled_from([" ", "  ", "\t"]),
)
def test_pretokenized_tokens_are_the_blank_separated_strings(lines: list[list[str]], blank: str) -> None:
    text = "\n".join(blank + blank.join(line) + blank for line in lines)
    one = TextTokenizer.train([text], "word", pretokenized=True)
    tokens = [one.id_to_token(i) for i in one.encode(text)]
    assert tokens == [token for line in lines for token in [*line, "\n"]][:-1]
    assert one.decode(one.encode(text)) == "\n".join(map(" ".join, lines))


@pytest.mark.skipif(not PTB.is_file(), reason=f"Penn Treebank is not at {PTB}")
def test_penn_treebank_has_its_published_size() -> None:
    text = PTB.read_text(encoding="utf-8")
    one = TextTokenizer.train([text], "word", pretokenized=True)
    ids = one.encode_long(text)
    assert one.vocab_size == 10_000
    assert len(ids) == 929_589
    assert ids.tolist().count(one.newline_id) == 42_068
    lines = text.splitlines()[:2000]
    assert one.decode(one.encode("\n".join(lines))) == "\n".join(line.strip() for line in lines)


def test_vocabulary_is_cut_by_frequency_then_code_point() -> None:
    text = "d d d c c b b a a e"
    one = TextTokenizer.train([text], "word", vocab_size=4, pretokenized=True)
    assert [one.id_to_token(i) for i in range(4)] == ["<unk>", "d", "a", "b"]
    two = TextTokenizer.train([text], "word", min_frequency=2, pretokenized=True)
    assert [two.id_to_token(i) for i in range(two.vocab_size)] == ["<unk>", "d", "a", "b", "c"]
    three = TextTokenizer.train(["dddccbbaae"], "char", vocab_size=4)
    assert [three.id_to_token(i) for i in range(4)] == ["<unk>", "a", "b", "d"]
    four = TextTokenizer.train(["dddccbbaae"], "char", min_frequency=3)
    assert [four.id_to_token(i) for i in range(four.vocab_size)] == ["<unk>", "d"]
    assert BPE.vocab_size == 300
    assert BPE.unknown_id is None
    assert BPE.never_generated == []


def test_one_string_is_one_text() -> None:
    assert TextTokenizer.train("the cat the", "word").token_to_id(" cat") is not None


@pytest.mark.parametrize("name", ALL)
def test_training_is_deterministic_and_the_file_says_everything(name: str, tmp_path: Path) -> None:
    one = ALL[name]
    again = trained(one.level, pretokenized=one.pretokenized)
    one.save(tmp_path / "one")
    again.save(tmp_path / "deep" / "two")
    file = tmp_path / "one" / "tokenizer.json"
    assert file.read_bytes() == (tmp_path / "deep" / "two" / "tokenizer.json").read_bytes()
    for loaded in (TextTokenizer.load(tmp_path / "one"), TextTokenizer.load(str(file))):
        for attribute in ("level", "pretokenized", "vocab_size", "unknown_id", "newline_id"):
            assert getattr(loaded, attribute) == getattr(one, attribute)
        assert loaded.encode(SAMPLE) == one.encode(SAMPLE)
        assert loaded.decode(loaded.encode(SAMPLE)) == one.decode(one.encode(SAMPLE))


@pytest.mark.parametrize("name", ALL)
def test_newline_id(name: str) -> None:
    one = ALL[name]
    assert one.newline_id is not None
    assert one.encode("\n\n") == [one.newline_id] * 2


@pytest.mark.parametrize("name", ALL)
def test_odd_text(name: str) -> None:
    one = ALL[name]
    assert one.encode("") == []
    assert one.encode_long("").shape == (0,)
    assert one.decode([]) == ""
    assert one.encode("\ud83d\ude00") == one.encode("\U0001f600")
    assert one.encode("a\ud800b") == one.encode("a\ufffdb")
    assert one.encode_long("a\ud800b").tolist() == one.encode("a\ufffdb")
    assert len(one.encode("\0")) >= 1


def test_lone_surrogates_in_training_text() -> None:
    one = TextTokenizer.train(["a\ud800"], "char")
    assert one.decode(one.encode("a\ud800")) == "a\ufffd"


def test_loading_what_is_not_there_or_not_whole(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        TextTokenizer.load(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        TextTokenizer.load(tmp_path / "nothing.json")
    WORD.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    whole = file.read_text()
    for broken in (whole[: len(whole) // 2], "", "{}", "[1, 2]", "\0"):
        file.write_text(broken)
        with pytest.raises(InputError, match="truncated or no tokenizer") as caught:
            TextTokenizer.load(tmp_path)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("part", "value"), [("pre_tokenizer", {"type": "Whitespace"}), ("decoder", None)])
def test_loading_a_foreign_tokenizer(part: str, value: object, tmp_path: Path) -> None:
    WORD.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {part: value}))
    with pytest.raises(InputError, match="not made by TextTokenizer"):
        TextTokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], "char"), {}, "empty"),
        ((["", ""], "bpe"), {}, "empty"),
        ((["a"], "sentence"), {}, "'sentence'"),
        ((["a"], "bpe"), {"vocab_size": 255}, "256"),
        ((["a"], "word"), {"vocab_size": 1}, "vocab_size is 1"),
        ((["a"], "word"), {"min_frequency": 0}, "min_frequency is 0"),
        ((["a"], "char"), {"pretokenized": True}, "pretokenized"),
    ],
)
def test_bad_arguments(arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TextTokenizer.train(*arguments, **options)


@pytest.mark.parametrize("level", ["char", "word", "bpe"])
def test_lowercase_takes_upper_case_for_lower_case(level: Level, tmp_path: Path) -> None:
    texts = ["The Cat\nÜber İ the cat"]
    tokenizer = TextTokenizer.train(texts, level, 300 if level == "bpe" else None, lowercase=True)
    assert tokenizer.lowercase
    assert tokenizer.encode("THE cat") == tokenizer.encode("the CAT")
    assert tokenizer.decode(tokenizer.encode("The Cat\nÜber")) == "the cat\nüber"
    assert tokenizer.encode_long(texts[0]).tolist() == tokenizer.encode(texts[0])
    assert tokenizer.token_to_id("T") is None or level == "bpe"
    tokenizer.save(tmp_path)
    loaded = TextTokenizer.load(tmp_path)
    assert loaded.lowercase
    assert loaded.encode(texts[0]) == tokenizer.encode(texts[0])
    assert not TextTokenizer.train(texts, level, 300 if level == "bpe" else None).lowercase


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("level", ["char", "word", "pretokenized", "bpe"])
def test_pieces_joined_are_the_text(level: str, lowercase: bool) -> None:
    texts = ["The cat sat.\nThe End"]
    pretokenized = level == "pretokenized"
    kind: Any = "word" if pretokenized else level
    size = 300 if level == "bpe" else None
    tokenizer = TextTokenizer.train(texts, kind, size, pretokenized=pretokenized, lowercase=lowercase)
    for text in ("The END  of a cät.\n", " the cat", "😀ü", "", "cat \n sat  "):
        pieces = tokenizer.pieces(text)
        assert len(pieces) == len(tokenizer.encode(text))
        assert "".join(pieces) == text
    assert "sat" in [piece.strip() for piece in tokenizer.pieces("The cat sat")] or level in ("char", "bpe")


@pytest.mark.parametrize("level", ["char", "word", "bpe"])
def test_a_batch_is_its_texts_one_by_one(level: Level) -> None:
    texts = ["the cat", "", "Ein längerer Satz.\nUnd noch einer \ud800.", "cat"]
    tokenizer = TextTokenizer.train(texts, level, 300 if level == "bpe" else None)
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch([]) == []
    for text, row in zip(texts, tokenizer.sentence_rows(texts), strict=True):
        assert row.tolist() == [*tokenizer.encode(text), tokenizer.vocab_size]


def spoilt(**model: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["model"].update(model)


@pytest.mark.parametrize(
    "spoil",
    [
        spoilt(vocab={"<unk>": 0, "a": 2}),
        spoilt(vocab={"<unk>": 0, "a": 0}),
        spoilt(vocab={"<unk>": False, "a": 1}),
        spoilt(vocab={"<unk>": 0, "a": 10**20}),
        spoilt(vocab={"a": 0, "<unk>": 1}),
        spoilt(vocab={"<unk>": 0, "\ud800": 1}),
        spoilt(unk_token="a"),
        spoilt(type="Unigram"),
        spoilt(dropout=0.5),
        lambda document: document.update(added_tokens=[{"id": 0, "content": "a", "special": True}]),
        lambda document: document.update(truncation={"max_length": 0}),
        lambda document: document.update(normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}),
        lambda document: document["pre_tokenizer"].update(pattern={"Regex": "(?:(?:a{1,9999}){1,9999}){1,9999}"}),
    ],
)
def test_a_file_of_ours_that_says_something_else_is_refused(
    spoil: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    WORD.save(tmp_path)
    document = json.loads((tmp_path / "tokenizer.json").read_text())
    spoil(document)
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="was not made by TextTokenizer"):
        TextTokenizer.load(tmp_path)


def test_tokens_that_a_level_cannot_have_are_refused(tmp_path: Path) -> None:
    for level, vocabulary in (("char", {"<unk>": 0, "ab": 1}), ("bpe", {"a": 0, "b": 1})):
        TextTokenizer.train(["a"], level).save(tmp_path)  # type: ignore[arg-type]  # mypy sees two strings
        document = json.loads((tmp_path / "tokenizer.json").read_text())
        document["model"]["vocab"] = vocabulary
        (tmp_path / "tokenizer.json").write_text(json.dumps(document))
        with pytest.raises(InputError, match="was not made by TextTokenizer"):
            TextTokenizer.load(tmp_path)


def test_merges_that_make_no_token_are_refused(tmp_path: Path) -> None:
    TextTokenizer.train(["a"], "bpe").save(tmp_path)
    document = json.loads((tmp_path / "tokenizer.json").read_text())
    document["model"]["merges"] = [["a", "b"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="its merges do not fit its tokens"):
        TextTokenizer.load(tmp_path)


def test_a_vocabulary_too_large_to_be_read_back_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.data.tokenizer.MAX_BYTES", 500)
    with pytest.raises(InputError, match="is larger than a tokenizer's file may be"):
        TextTokenizer.train(["a"], "bpe").save(tmp_path)
    assert not list(tmp_path.iterdir())
