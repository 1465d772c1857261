"""Texts with translations: where they come from, what is left out or held out, and one line for each thing wrong."""

import codecs
import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict, Features, Translation
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.parallel_rows import Pair
from zoo.data.parallel_texts import ParallelTexts, TranslationData, _draw, load_parallel_texts
from zoo.errors import InputError

PAIRS = [("a dog", "ein Hund"), ("a cat", "eine Katze"), ("two", "zwei"), ("Hello!", "Hallo! 👋🏽")]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def load(data: Path | str, source: str = "en", target: str = "de", **options: Any) -> TranslationData:
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    return load_parallel_texts(str(data), source=source, target=target, **plain)


def refused(data: Path | str, **options: Any) -> str:
    """The one-line message that load_parallel_texts refuses with."""
    with pytest.raises(InputError) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_files(prefix: Path, pairs: Sequence[tuple[str, str]], languages: tuple[str, str] = ("en", "de")) -> Path:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    for side, language in enumerate(languages):
        text = "".join(f"{pair[side]}\n" for pair in pairs)
        Path(f"{prefix}.{language}").write_bytes(text.encode())
    return prefix


def write_table(path: Path, pairs: Sequence[tuple[str, str]], header: tuple[str, str] = ("en", "de")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, dialect="excel-tab" if path.suffix == ".tsv" else "excel").writerows([header, *pairs])
    return path


def pairs_of(texts: ParallelTexts) -> list[tuple[str, str]]:
    assert len(texts) == len(texts.sources) == len(texts.targets)
    return list(zip(texts.sources, texts.targets, strict=True))


# Two files


def test_two_files_and_the_pairs_held_out(tmp_path: Path) -> None:
    prefix = write_files(tmp_path / "train", PAIRS)
    data = load(prefix, validation_fraction=0.5)
    assert (data.name, data.tests, data.notes) == (str(prefix), {}, [])
    assert len(data.validation) == 2
    assert sorted(pairs_of(data.train) + pairs_of(data.validation)) == sorted(PAIRS)
    assert load(prefix, validation_fraction=0.5) == data
    assert any(load(prefix, validation_fraction=0.5, seed=seed).validation != data.validation for seed in range(1, 9))


def test_the_other_way_round(tmp_path: Path) -> None:
    prefix = write_files(tmp_path / "train", PAIRS)
    data = load(prefix, "de", "en", validation_data=prefix)
    assert pairs_of(data.train) == [(target, source) for source, target in PAIRS]


def test_validation_and_test_files(tmp_path: Path) -> None:
    train = write_files(tmp_path / "europarl.v7", PAIRS)
    dev = write_files(tmp_path / "newstest2013", [("x", "y")])
    test = write_files(tmp_path / "newstest2014", [("v", "w"), ("two", "zwei"), ("two", "zwo")])
    data = load(train, validation_data=dev, test_data=test)
    assert pairs_of(data.train) == PAIRS
    assert pairs_of(data.validation) == [("x", "y")]
    assert {name: len(texts) for name, texts in data.tests.items()} == {"test": 3}
    assert data.notes == ["test: 1 of 3 pairs are training pairs too"]
    # A test set that is called one keeps its name.
    assert list(load(train, test_data=write_files(tmp_path / "test_2016_flickr", PAIRS)).tests) == ["test_2016_flickr"]


def test_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_files(tmp_path / "train", PAIRS)
    assert pairs_of(load("~/train", validation_data="~/train").train) == PAIRS


line = st.text(st.characters(exclude_characters="\n\0\ufeff", exclude_categories=["Cs"]), max_size=12)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(line, line), max_size=8), st.booleans(), st.booleans(), st.booleans())
def test_files_of_any_lines_come_back(pairs: list[tuple[str, str]], bom: bool, crlf: bool, last_end: bool) -> None:
    pairs = [*pairs, ("last", "x" * 90)]
    end = "\r\n" if crlf else "\n"
    with TemporaryDirectory() as folder:
        for side, language in enumerate(("en", "de")):
            text = end.join(pair[side] for pair in pairs) + (end if last_end else "")
            Path(folder, f"a.{language}").write_bytes((codecs.BOM_UTF8 if bom else b"") + text.encode())
        other = write_files(Path(folder, "b"), PAIRS)
        data = load(other, validation_data=other, test_data=Path(folder, "a"))
        assert pairs_of(data.tests["test"]) == [(source.strip(), target.strip()) for source, target in pairs]


def test_bom_and_line_ends(tmp_path: Path) -> None:
    (tmp_path / "t.en").write_bytes(codecs.BOM_UTF8 + b" one\r\n\ttwo \r\nthree")
    (tmp_path / "t.de").write_bytes("eins\nzwei\u2028zwo\ndrei\u00a0\n".encode())
    expected = [("one", "eins"), ("two", "zwei\u2028zwo"), ("three", "drei")]
    assert pairs_of(load(tmp_path / "t", validation_data=tmp_path / "t").train) == expected


def test_one_of_two_files(tmp_path: Path) -> None:
    prefix = write_files(tmp_path / "train", PAIRS)
    assert refused(prefix, target="fr").startswith(f"{prefix}.fr is missing: there is {prefix}.en, expected both")
    assert refused(prefix, source="fr").startswith(f"{prefix}.fr is missing: there is {prefix}.de, expected both")
    dev = write_files(tmp_path / "dev", PAIRS, ("en", "fr"))
    assert refused(prefix, validation_data=dev).startswith(f"{dev}.de is missing")


def test_files_of_unequal_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.en").write_text("a\n" * 29_000)
    (tmp_path / "train.de").write_text("b\n" * 28_999)
    message = "train.de has 28,999 lines and train.en 29,000: line n of one must translate line n of the other"
    assert refused("train") == message
    assert refused("train", source="de", target="en") == message
    (tmp_path / "train.de").write_text("b")
    assert refused("train").startswith("train.de has 1 line and train.en 29,000:")
    (tmp_path / "train.de").write_text("")
    assert refused("train").startswith("train.de has 0 lines and train.en 29,000:")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\0c\n", "train.de, line 2 has a NUL byte"),
        (b"a\nK\xe4se\n", "train.de, line 2 is not UTF-8 (byte 0xe4)"),
        ("a\nb\n".encode("utf-16"), "train.de is UTF-16, expected UTF-8"),
        (b"a\n" + b"b" * 1_000_001, "train.de, line 2 has more than 1,000,000 characters"),
    ],
)
def test_files_that_are_no_text(content: bytes, message: str, tmp_path: Path) -> None:
    prefix = write_files(tmp_path / "train", [("a", "b"), ("c", "d")])
    (tmp_path / "train.de").write_bytes(content)
    assert message in refused(prefix)


def test_prefix_is_a_folder_as_well(tmp_path: Path) -> None:
    write_files(tmp_path / "data", PAIRS)
    write_files(tmp_path / "data" / "train", PAIRS[:2])
    assert len(load(tmp_path / "data", validation_data=tmp_path / "data").train) == 4
    # One file of a pair does not hide the folder.
    (tmp_path / "data.de").unlink()
    assert len(load(tmp_path / "data", validation_data=tmp_path / "data").train) == 2


# Record files


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_table(name: str, tmp_path: Path) -> None:
    path = write_table(tmp_path / name, [(f" {source}", target) for source, target in PAIRS])
    assert pairs_of(load(path, validation_data=path).train) == PAIRS


def test_records_with_columns_or_a_translation(tmp_path: Path) -> None:
    flat = [{"id": 1, "en": "one\r\ntwo", "de": "eins"}, {"de": "zwei", "en": "two", "translation": "?"}]
    nested = [{"translation": {"en": "one", "de": "eins", "fr": "un"}}, {"translation": {"en": None, "de": "zwei"}}]
    for path in (tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"):
        content = "\n".join(map(json.dumps, [*flat, *nested])).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        data = load(path, validation_data=path)
        assert pairs_of(data.validation) == [("one\ntwo", "eins"), ("two", "zwei"), ("one", "eins"), ("", "zwei")]
        assert len(data.train) == 3


@pytest.mark.parametrize("nested", [False, True])
def test_parquet(nested: bool, tmp_path: Path) -> None:
    rows = [{"en": source, "de": target} for source, target in PAIRS]
    Dataset.from_list([{"translation": row} for row in rows] if nested else rows).to_parquet(tmp_path / "a.parquet")
    assert pairs_of(load(tmp_path / "a.parquet", validation_data=tmp_path / "a.parquet").train) == PAIRS


def test_missing_column(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", PAIRS, header=("en", "german"))
    assert refused(path) == f"{path}, line 2 has no column 'de': it has en, german; expected en and de"
    path = tmp_path / "a.jsonl"
    path.write_text('{"translation": {"en": "a", "de": "b"}}\n{"translation": {"en": "a", "fr": "b"}}')
    assert refused(path) == f"{path}, line 2 has no translation 'de': it has en, fr; expected en and de"
    path.write_text('{"translation": {}}')
    assert "has no translation 'en': it has none" in refused(path)
    long = write_table(tmp_path / "b.csv", PAIRS, header=("word " * 100, "1"))
    assert len(refused(long).removeprefix(str(long))) < 150


@pytest.mark.parametrize("value", [3, ["a"], {"a": "b"}, True])
def test_column_that_holds_no_text(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"en": "a", "de": value}))
    assert refused(path) == f"{path}, line 1: column 'de' holds {type(value).__name__}, expected text"


# Folders


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "dev"])
def test_folder_of_pairs_of_files(validation: str, tmp_path: Path) -> None:
    write_files(tmp_path / "train", PAIRS)
    write_files(tmp_path / validation, [("x", "y")])
    write_files(tmp_path / "test_2017_mscoco", [("p", "q")])
    write_files(tmp_path / "test_2016_flickr", [("r", "s"), PAIRS[0]])
    write_files(tmp_path / "more", [("?", "?")])
    (tmp_path / "README.md").write_text("# About")
    data = load(tmp_path)
    assert (pairs_of(data.train), pairs_of(data.validation)) == (PAIRS, [("x", "y")])
    assert {name: pairs_of(texts) for name, texts in data.tests.items()} == {
        "test_2016_flickr": [("r", "s"), PAIRS[0]],
        "test_2017_mscoco": [("p", "q")],
    }
    assert data.notes == ["test_2016_flickr: 1 of 2 pairs are training pairs too"]
    # A folder as validation or test data gives its splits of that kind.
    other = write_files(tmp_path / "other" / "own", [("fair", "schön")])
    assert load(other, validation_data=tmp_path, test_data=tmp_path).tests == data.tests
    assert load(other, validation_data=tmp_path).validation == data.validation
    # Data given for a purpose replaces the folder's.
    assert pairs_of(load(tmp_path, validation_data=other).validation) == [("fair", "schön")]
    assert pairs_of(load(tmp_path, test_data=other).tests["test"]) == [("fair", "schön")]


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl.gz"])
def test_folder_of_record_files(suffix: str, tmp_path: Path) -> None:
    for stem, pairs in (("train", PAIRS), ("dev", [("x", "y")]), ("test", [("p", "q")]), ("test_b", [("r", "s")])):
        if suffix == ".jsonl.gz":
            lines = [json.dumps({"en": source, "de": target}) for source, target in pairs]
            (tmp_path / f"{stem}{suffix}").write_bytes(gzip.compress("\n".join(lines).encode()))
        else:
            write_table(tmp_path / f"{stem}{suffix}", pairs)
    data = load(tmp_path)
    assert (pairs_of(data.train), pairs_of(data.validation)) == (PAIRS, [("x", "y")])
    assert {name: pairs_of(texts) for name, texts in data.tests.items()} == {
        "test": [("p", "q")],
        "test_b": [("r", "s")],
    }
    (tmp_path / f"train{suffix}").unlink()
    other = write_files(tmp_path / "other" / "own", PAIRS)
    assert load(other, validation_data=tmp_path, test_data=tmp_path).tests == data.tests


def test_folder_of_both_kinds_of_files(tmp_path: Path) -> None:
    write_files(tmp_path / "train", PAIRS)
    write_table(tmp_path / "test.tsv", [("p", "q")])
    data = load(tmp_path)
    assert pairs_of(data.tests["test"]) == [("p", "q")]
    write_files(tmp_path / "test", PAIRS)
    message = f"{tmp_path} has two sources for test, expected one: {tmp_path}/test.en and {tmp_path}/test.de; "
    assert refused(tmp_path) == message + f"{tmp_path}/test.tsv"


def test_files_of_splits_in_any_spelling(tmp_path: Path) -> None:
    write_files(tmp_path / "Train", PAIRS)
    write_files(tmp_path / "Test_2016", [("r", "s")])
    write_table(tmp_path / "Valid.tsv", [("x", "y")])
    write_table(tmp_path / "Test.tsv", [("p", "q")])
    data = load(tmp_path)
    assert (pairs_of(data.train), pairs_of(data.validation)) == (PAIRS, [("x", "y")])
    assert {name: pairs_of(texts) for name, texts in data.tests.items()} == {
        "test": [("p", "q")],
        "Test_2016": [("r", "s")],
    }
    write_table(tmp_path / "val.tsv", [("x", "y")])
    assert f"has two sources for validation, expected one: {tmp_path}/Valid.tsv; {tmp_path}/val.tsv" in refused(
        tmp_path
    )


@pytest.mark.parametrize("test", ["test.tsv", "Test.tsv"])
def test_a_test_file_beside_one_that_is_called_otherwise(test: str, tmp_path: Path) -> None:
    write_table(tmp_path / "talks.tsv", PAIRS)
    write_table(tmp_path / test, [("p", "q")])
    message = refused(tmp_path)
    assert "has the splits" in message and "talks" in message and "expected one named train" in message


def test_folder_with_test_files_only_does_not_validate_on_them(tmp_path: Path) -> None:
    write_files(tmp_path / "train", PAIRS)
    write_files(tmp_path / "test", [("x", "y")])
    data = load(tmp_path)
    assert pairs_of(data.tests["test"]) == [("x", "y")]
    assert sorted(pairs_of(data.train) + pairs_of(data.validation)) == sorted(PAIRS)


def test_folder_in_which_a_file_of_a_pair_is_missing(tmp_path: Path) -> None:
    write_files(tmp_path / "train", PAIRS)
    write_files(tmp_path / "val", [("x", "y")])
    write_files(tmp_path / "test_2016", [("p", "q")])
    write_files(tmp_path / "test_2018", [("p", "q")])
    (tmp_path / "test_2018.de").unlink()
    data = load(tmp_path, validation_data=tmp_path, test_data=tmp_path)
    assert list(data.tests) == ["test_2016"]
    assert data.notes == [f"{tmp_path}/test_2018.de is missing: the test set test_2018 is left out"]
    (tmp_path / "val.en").unlink()
    assert refused(tmp_path).startswith(f"{tmp_path}/val.en is missing: there is {tmp_path}/val.de")
    assert pairs_of(load(tmp_path, validation_data=tmp_path / "test_2016").validation) == [("p", "q")]
    (tmp_path / "train.de").unlink()
    assert refused(tmp_path).startswith(f"{tmp_path}/train.de is missing: there is {tmp_path}/train.en")


def test_folder_without_a_split_to_train_on(tmp_path: Path) -> None:
    write_files(tmp_path / "test", [("x", "y")])
    # The only pair of files is the data, whatever it is called.
    assert pairs_of(load(tmp_path, validation_data=tmp_path).train) == [("x", "y")]
    write_files(tmp_path / "train.clean", PAIRS)
    assert refused(tmp_path) == f"{tmp_path} has the splits test, train.clean: expected one named train"
    write_files(tmp_path / "train", PAIRS)
    assert list(load(tmp_path).tests) == ["test"]
    other = write_files(tmp_path / "other" / "a", PAIRS)
    assert "splits test, train, train.clean: expected one named val" in refused(other, validation_data=tmp_path)
    write_files(tmp_path / "other" / "b", PAIRS)
    assert "has the splits a, b: expected one named test" in refused(other, test_data=other.parent)


def test_folder_without_files_of_the_languages(tmp_path: Path) -> None:
    write_files(tmp_path / "train", PAIRS, ("en", "cs"))
    message = refused(tmp_path, source="fr", target="de")
    assert message.startswith(f"there are no files {tmp_path}/train.fr and {tmp_path}/train.de; {tmp_path} cannot be")


def test_saved_data_set(tmp_path: Path) -> None:
    rows = Dataset.from_list([{"en": source, "de": target} for source, target in PAIRS])
    DatasetDict(train=rows, validation=rows.select([0]), test_a=rows.select([1])).save_to_disk(tmp_path / "saved")
    data = load(tmp_path / "saved")
    assert pairs_of(data.train) == PAIRS
    assert pairs_of(data.validation) == PAIRS[:1]
    assert pairs_of(data.tests["test_a"]) == PAIRS[1:2]


def test_folder_for_the_datasets_library(tmp_path: Path) -> None:
    rows = Dataset.from_list([{"en": source, "de": target} for source, target in PAIRS])
    rows.to_parquet(tmp_path / "train-00000-of-00002.parquet")
    rows.to_parquet(tmp_path / "train-00001-of-00002.parquet")
    rows.select([0]).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    data = load(tmp_path)
    assert len(data.train) + len(data.validation) == 8
    assert {name: len(texts) for name, texts in data.tests.items()} == {"test": 1}


# What is left out or drawn


def test_pairs_that_are_not_trained_on(tmp_path: Path) -> None:
    noise = [("a", " "), ("", "b"), ("", ""), ("abcde", "x" * 40), ("abcde", "x" * 41), ("x" * 41, "abcde")]
    prefix = write_files(tmp_path / "train", [*PAIRS, *noise])
    data = load(prefix, validation_data=prefix, test_data=prefix)
    assert pairs_of(data.train) == [*PAIRS, ("abcde", "x" * 40)]
    assert len(data.validation) == len(data.tests["test"]) == 10
    assert pairs_of(data.validation)[4:7] == [("a", ""), ("", "b"), ("", "")]
    assert data.notes[0] == (
        "train: 5 of 10 pairs are left out, 3 with an empty side, 2 with one of more than 4 times the characters of "
        "the other plus 20"
    )
    assert data.notes[1:] == [f"{split}: 5 of 10 pairs are training pairs too" for split in ("validation", "test")]
    assert len(load(prefix, validation_data=prefix, max_length_ratio=4.2).train) == 7
    assert len(load(prefix, validation_data=prefix, max_length_ratio=float("inf")).train) == 7


def test_the_characters_of_a_text_are_counted_not_its_bytes(tmp_path: Path) -> None:
    prefix = write_files(tmp_path / "train", [("a" * 10, "😀" * 60), ("x", "y")])
    assert len(load(prefix, validation_data=prefix).train) == 2


def test_no_pair_to_train_on(tmp_path: Path) -> None:
    prefix = write_files(tmp_path / "train", [("a", ""), ("", "b")])
    assert refused(prefix).startswith(f"{prefix} has no pair to train on: all 2 are left out, 2 with an empty side, 0")
    empty = write_files(tmp_path / "empty", [])
    assert refused(empty) == (
        f"{empty}.en and {empty}.de: there are no pairs, expected texts in en with their translations in de"
    )
    table = write_table(tmp_path / "a.csv", [])
    assert refused(table).startswith(f"{table}: there are no pairs")
    prefix = write_files(tmp_path / "one_side", [("a", ""), ("b", " ")])
    assert refused(prefix).startswith(f"{prefix}.en and {prefix}.de: all texts in de are empty, expected texts in en")


@pytest.mark.parametrize("option", ["validation_data", "test_data"])
def test_nothing_to_validate_or_test_on(option: str, tmp_path: Path) -> None:
    train = write_files(tmp_path / "train", PAIRS)
    withheld = write_files(tmp_path / "withheld", [("a", ""), ("b", "")])
    expected = f"{withheld}.en and {withheld}.de: all texts in de are empty"
    assert refused(train, **{option: withheld}).startswith(expected)
    assert "there are no pairs" in refused(train, **{option: write_files(tmp_path / "none", [])})
    # Where there is a translation at all, pairs without one count too.
    partly = write_files(tmp_path / "partly", [("a", ""), ("b", "c")])
    data = load(train, **{option: partly})
    held_out = data.validation if option == "validation_data" else data.tests["test"]
    assert pairs_of(held_out) == [("a", ""), ("b", "c")]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz")), max_size=40),
    st.floats(0.01, 0.5),
    st.integers(),
)
def test_no_pair_is_drawn_and_trained_on(examples: list[tuple[str, str]], fraction: float, seed: int) -> None:
    pairs = [Pair(*example) for example in [*examples, ("e", "w"), ("e", "x")]]
    train, validation = _draw("", pairs, fraction, seed)
    assert train and validation and not set(train) & set(validation)
    assert sorted(train + validation) == sorted(pairs)
    assert [pair for pair in pairs if pair in set(train)] == train
    assert len(set(validation)) == min(max(1, round(fraction * len(set(pairs)))), len(set(pairs)) - 1)
    assert (train, validation) == _draw("", pairs, fraction, seed)


def test_as_many_different_pairs_as_asked_for_are_drawn(tmp_path: Path) -> None:
    prefix = write_files(tmp_path / "train", [(f"text {n // 2}", f"Text {n // 2}") for n in range(2000)])
    data = load(prefix)
    assert (len(data.train), len(data.validation), data.notes) == (1900, 100, [])


def test_too_few_pairs_to_draw_from(tmp_path: Path) -> None:
    prefix = write_files(tmp_path / "train", [("a", "b")] * 5)
    assert "too few pairs to draw validation pairs from" in refused(prefix)


# What can be wrong with what is asked for


def test_missing_source(tmp_path: Path) -> None:
    prefix = write_files(tmp_path / "train", PAIRS)
    assert refused(tmp_path / "none.csv") == f"{tmp_path}/none.csv: no such file; give one that exists"
    assert "none.jsonl.gz: no such file" in refused(prefix, validation_data="none.jsonl.gz")
    assert "a data source is empty" in refused(" ")
    assert "a data source is empty" in refused(prefix, test_data="")
    none = tmp_path / "none"
    assert refused(none).startswith(f"there are no files {none}.en and {none}.de; '{none}' is no file, no folder")
    assert refused(f"{prefix}.en").startswith(f"{prefix}.en is one file: expected the prefix of two, such as train of")


@pytest.mark.parametrize("fraction", [0.0, -0.1, 0.51, float("nan")])
def test_validation_fraction_out_of_range(fraction: float) -> None:
    assert f"validation_fraction is {fraction}" in refused("numbers", validation_fraction=fraction)


@pytest.mark.parametrize("ratio", [0.0, 0.99, -4, float("nan")])
def test_length_ratio_out_of_range(ratio: float) -> None:
    assert f"max_length_ratio is {ratio}" in refused("numbers", max_length_ratio=ratio)


def test_languages() -> None:
    assert refused("numbers", target="en") == "source and target are both 'en': expected two languages"
    assert refused("numbers", source=" ").startswith("source is empty")
    assert refused("numbers", target="").startswith("target is empty")
    assert "no language 'xx': expected one of af" in refused("numbers", target="xx")


def test_numbers_to_test_another_source_on(tmp_path: Path) -> None:
    prefix = write_files(tmp_path / "train", [("one", "eins"), ("two", "zwei")])
    data = load(prefix, validation_data="numbers", test_data="numbers")
    assert {name: len(texts) for name, texts in data.tests.items()} == {"test": 1000, "test_longer": 500}
    assert len(data.validation) == 1000
    assert len(data.notes) == 1 and data.notes[0].startswith("test_longer: ")


# The hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Dataset]]:
    """{name: splits} of a hub that needs no network."""
    sets: dict[str, dict[str, Dataset]] = {}
    monkeypatch.setattr("zoo.data.parallel_rows.load_splits", lambda name: sets[name])
    return sets


@pytest.mark.parametrize("name", ["multi30k", "bentrevett/multi30k"])
def test_multi30k(name: str, hub: dict[str, dict[str, Dataset]]) -> None:
    rows = Dataset.from_list([{"en": source, "de": target} for source, target in PAIRS])
    hub["bentrevett/multi30k"] = {"train": rows, "validation": rows.select([0]), "test": rows.select([1, 2])}
    data = load(name)
    assert data.name == name
    assert (pairs_of(data.train), pairs_of(data.validation)) == (PAIRS, PAIRS[:1])
    assert pairs_of(data.tests["test"]) == PAIRS[1:3]
    message = f"{name}, split train, row 1 has no column 'fr': it has en, de; expected en and fr"
    assert refused(name, target="fr") == message


def test_hub_set_with_a_column_of_translations(hub: dict[str, dict[str, Dataset]]) -> None:
    texts = [(f"text {n}", f"Text {n}") for n in range(1001)]
    nested = [{"translation": {"de": target, "en": source}} for source, target in [*texts, ("", "leer")]]
    rows = Dataset.from_list(nested, Features({"translation": Translation(languages=["en", "de"])}))
    hub["wmt/wmt14:de-en"] = {"train": rows, "dev": rows.select([1]), "test": rows.select([2]), "extra": rows}
    data = load("wmt/wmt14:de-en")
    assert pairs_of(data.train) == texts
    assert pairs_of(data.validation) == texts[1:2]
    assert list(data.tests) == ["test"]
    hub["wmt/wmt14:de-en"]["test"] = rows.select([1001])
    assert refused("wmt/wmt14:de-en").startswith("wmt/wmt14:de-en, split test: all texts in en are empty")


def test_only_split_serves_once(hub: dict[str, dict[str, Dataset]]) -> None:
    rows = Dataset.from_list([{"en": source, "de": target} for source, target in PAIRS])
    hub["owner/one"] = {"test": rows}
    data = load("owner/one")
    assert data.tests == {}
    assert sorted(pairs_of(data.train) + pairs_of(data.validation)) == sorted(PAIRS)
    hub["owner/two"] = {"en_de": rows, "test": rows}
    assert refused("owner/two") == "owner/two has the splits en_de, test: expected one named train"


def test_what_is_here_comes_before_short_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: dict[str, dict[str, Dataset]]
) -> None:
    rows = Dataset.from_list([{"en": source, "de": target} for source, target in PAIRS])
    hub["bentrevett/multi30k"] = {"train": rows, "validation": rows}
    monkeypatch.chdir(tmp_path)
    assert len(load("multi30k").train) == 4
    write_files(tmp_path / "multi30k" / "train", PAIRS[:3])
    assert len(load("multi30k", validation_data="multi30k").train) == 3
    write_files(tmp_path / "multi30k", PAIRS[:2])
    assert len(load("multi30k", validation_data="multi30k").train) == 2
