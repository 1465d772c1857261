"""Texts with labels: where they come from, what is held out, and one line for each thing that can be wrong."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.labelled_rows import LabelledRow
from zoo.data.labelled_texts import ClassificationData, LabelledTexts, _draw, load_labelled_texts
from zoo.errors import InputError

ROWS = [
    ("good film", "pos"),
    ("bad film", "neg"),
    ("fine", "pos"),
    ("dull", "neg"),
    ("lovely", "pos"),
    ("awful", "neg"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def refused(data: Path | str, **options: Any) -> str:
    """The one-line message that load_labelled_texts refuses with."""
    with pytest.raises(InputError) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def load(data: Path | str, **options: Any) -> ClassificationData:
    return load_labelled_texts(str(data), **{key: _plain(value) for key, value in options.items()})


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def write_csv(path: Path, rows: list[tuple[Any, ...]], header: tuple[str, ...] | None = ("text", "label")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows] if header else rows)
    return path


def write_json(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def pairs(texts: LabelledTexts | None) -> list[tuple[str, str]]:
    assert texts is not None
    assert all(len(labels) == 1 for labels in texts.labels)
    return [(text, labels[0]) for text, labels in zip(texts.texts, texts.labels, strict=True)]


# Files and folders


def test_file_and_its_held_out_texts(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "reviews.csv", ROWS)
    data = load(path, validation_fraction=0.34)
    assert (data.name, data.labels, data.test, data.notes) == (str(path), ["neg", "pos"], None, [])
    assert len(data.validation) == 2
    assert sorted(pairs(data.train) + pairs(data.validation)) == sorted(ROWS)
    assert load(path, validation_fraction=0.34) == data
    assert any(load(path, validation_fraction=0.34, seed=seed).validation != data.validation for seed in range(1, 9))


def test_validation_and_test_files(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ROWS)
    dev = write_json(tmp_path / "b.jsonl", [{"text": "so so", "label": "pos"}, {"text": "good  film", "label": "neg"}])
    test = write_csv(tmp_path / "c.tsv", [])
    test.write_text("label\ttext\nneg\tmeh\n")
    data = load(path, validation_data=dev, test_data=test)
    assert pairs(data.train) == ROWS
    assert pairs(data.validation) == [("so so", "pos"), ("good  film", "neg")]
    assert pairs(data.test) == [("meh", "neg")]
    assert data.notes == ["validation: 1 of 2 texts are training texts too"]


@pytest.mark.parametrize("validation", ["dev.csv", "valid.csv.gz", "validation.json", "val.csv"])
def test_folder_with_a_file_for_each_split(validation: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    held_out = tmp_path / validation
    if validation.endswith("gz"):
        held_out.write_bytes(gzip.compress(b"text,label\nmeh,neg\n"))
    elif validation.endswith("csv"):
        write_csv(held_out, [("meh", "neg")])
    else:
        held_out.write_text('[{"text": "meh", "label": "neg"}]')
    write_csv(tmp_path / "test.csv", [("so so", "pos")])
    (tmp_path / "README.md").write_text("# The card")
    data = load(tmp_path)
    assert (pairs(data.train), pairs(data.validation), pairs(data.test)) == (ROWS, [("meh", "neg")], [("so so", "pos")])
    other = write_csv(tmp_path / "mine" / "own.csv", [("fair", "pos")])
    assert pairs(load(tmp_path, validation_data=other).validation) == [("fair", "pos")]
    assert pairs(load(other.parent.parent, test_data=other).test) == [("fair", "pos")]
    # A folder as validation or test data gives its split of that name.
    whole = load(tmp_path / "train.csv", validation_data=tmp_path, test_data=tmp_path)
    assert (pairs(whole.validation), pairs(whole.test)) == ([("meh", "neg")], [("so so", "pos")])


@pytest.mark.parametrize("train", ["Train.csv", "train.csv", "training.csv"])
def test_files_of_splits_in_any_spelling(train: str, tmp_path: Path) -> None:
    write_csv(tmp_path / train, ROWS)
    write_csv(tmp_path / "Valid.csv", [("meh", "neg")])
    write_csv(tmp_path / "TEST.CSV", [("so so", "pos")])
    data = load(tmp_path)
    assert (pairs(data.train), pairs(data.validation), pairs(data.test)) == (ROWS, [("meh", "neg")], [("so so", "pos")])
    (tmp_path / train).unlink()
    assert "has the splits test, validation: expected one named train" in refused(tmp_path)
    assert pairs(load(write_csv(tmp_path / "mine" / "own.csv", ROWS), test_data=tmp_path).test) == [("so so", "pos")]


@pytest.mark.parametrize("test", ["test.csv", "Test.csv"])
def test_a_test_file_beside_one_that_is_called_otherwise(test: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "reviews.csv", ROWS)
    write_csv(tmp_path / test, [("so so", "pos")])
    assert "has the splits test, reviews: expected one named train" in refused(tmp_path)


def test_parts_of_the_training_split_are_for_the_datasets_library(tmp_path: Path) -> None:
    write_csv(tmp_path / "train-0.csv", ROWS[:4])
    write_csv(tmp_path / "train-1.csv", ROWS[4:])
    write_csv(tmp_path / "test.csv", [("so so", "pos")])
    data = load(tmp_path)
    assert sorted(pairs(data.train) + pairs(data.validation)) == sorted(ROWS)
    assert pairs(data.test) == [("so so", "pos")]
    (tmp_path / "test.csv").rename(tmp_path / "Test.csv")
    said = refused(tmp_path)
    assert said.startswith(f"{tmp_path}/Test.csv is called as a split is, but in upper case, which the `datasets` lib")


def test_folder_with_a_test_file_only_does_not_validate_on_it(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(tmp_path / "test.csv", [("so so", "pos")])
    data = load(tmp_path)
    assert pairs(data.test) == [("so so", "pos")]
    assert len(data.validation) == 1
    assert sorted(pairs(data.train) + pairs(data.validation)) == sorted(ROWS)


def test_two_files_for_one_split(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(tmp_path / "dev.csv", ROWS)
    write_csv(tmp_path / "validation.csv", ROWS)
    assert "has both dev.csv and validation.csv for validation: expected one of them" in refused(tmp_path)
    (tmp_path / "dev.csv").unlink()
    write_csv(tmp_path / "Train.csv", ROWS)
    assert "has both Train.csv and train.csv for train" in refused(tmp_path)


def test_saved_data_set(tmp_path: Path) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    rows = Dataset.from_dict(
        {"text": [text for text, _ in ROWS], "label": [int(b == "pos") for _, b in ROWS]}, features
    )
    DatasetDict(train=rows, validation=rows.select([0])).save_to_disk(tmp_path / "saved")
    data = load(tmp_path / "saved")
    assert pairs(data.train) == ROWS
    assert pairs(data.validation) == ROWS[:1]
    assert "--columns is for CSV and TSV" in refused(tmp_path / "saved", columns=["text", "label"])


def test_splits_of_a_data_set_in_any_spelling(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]})
    splits = {"Train": rows, "val": rows.select([0]), "Test": rows.select([1]), "unsupervised": rows}
    DatasetDict(splits).save_to_disk(tmp_path / "set")
    data = load(tmp_path / "set")
    assert (pairs(data.train), pairs(data.validation), pairs(data.test)) == (ROWS, ROWS[:1], ROWS[1:2])
    DatasetDict(splits | {"dev": rows}).save_to_disk(tmp_path / "more")
    assert "more has both val and dev for validation: expected one of them" in refused(tmp_path / "more")


def test_only_split_serves_once(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]})
    DatasetDict(test=rows).save_to_disk(tmp_path / "one")
    data = load(tmp_path / "one")
    assert data.test is None
    assert sorted(pairs(data.train) + pairs(data.validation)) == sorted(ROWS)
    DatasetDict(test=rows, validation=rows).save_to_disk(tmp_path / "two")
    assert "has the splits validation, test: expected one named train" in refused(tmp_path / "two").replace(
        "test, validation", "validation, test"
    )


# Columns and labels


def test_file_without_a_header(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "ag.csv", [(3, "Wall St.", "Bears"), (4, "", "Chips"), (3, "Oil", " ")] * 2, header=None
    )
    data = load(path, columns=["class", "title", "body"], text_column="title + body", label_column="class")
    assert set(pairs(data.train)) == {("Wall St. Bears", "3"), ("Chips", "4"), ("Oil", "3")} - set(
        pairs(data.validation)
    )
    assert data.labels == ["3", "4"]


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ([10, 9, -1], ["-1", "9", "10"]),
        (["10", "9", "b"], ["10", "9", "b"]),
        ([True, False, True], ["False", "True"]),
        ([" b ", "a", "é"], ["a", "b", "é"]),
    ],
)
def test_labels_are_sorted_texts(given: list[Any], labels: list[str], tmp_path: Path) -> None:
    rows = [{"text": f"{n} {label}", "label": label} for n in range(3) for label in given]
    assert load(write_json(tmp_path / "a.jsonl", rows)).labels == labels


def test_texts_are_as_they_are_but_for_line_ends(tmp_path: Path) -> None:
    rows = [{"text": " a\r\nb ", "label": 1}, {"text": "c", "label": 2}, {"text": "d", "label": 1}]
    dev = write_json(tmp_path / "dev.jsonl", rows)
    assert load(dev, validation_data=dev).train.texts == [" a\nb ", "c", "d"]


def test_several_labels(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": ["x", "y", "x"]}, {"text": "b", "label": []}, {"text": "c", "label": [2, True]}]
    path = write_json(tmp_path / "a.jsonl", rows)
    data = load(path, multi_label=True, validation_data=path)
    assert data.train.labels == [("x", "y"), (), ("2", "True")]
    assert data.labels == ["2", "True", "x", "y"]
    assert f"{path}, line 1 has a list of labels, expected one: add --multi_label" in refused(path)

    path = write_csv(tmp_path / "a.csv", [("a", "x| y"), ("b", ""), ("c", "|y|")])
    data = load(path, multi_label=True, label_separator="|", validation_data=path)
    assert data.train.labels == [("x", "y"), (), ("y",)]
    assert f"{path}, line 2: the labels are the text 'x| y'" in refused(path, multi_label=True)


def test_one_label_is_enough_where_a_text_may_have_none(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.jsonl", [{"text": "a", "label": ["x"]}, {"text": "b", "label": []}])
    assert load(path, multi_label=True).validation == LabelledTexts(["b"], [()])


# What is drawn


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3), st.booleans()), max_size=40),
    st.floats(0.01, 0.5),
    st.integers(),
)
def test_no_text_is_drawn_and_trained_on_and_every_label_stays(
    examples: list[tuple[str, int, bool]], fraction: float, seed: int
) -> None:
    rows = [LabelledRow("", f"{text} {text}" if wide else f" {text}\n{text}", (str(n),)) for text, n, wide in examples]
    rows += [LabelledRow("", text, ("0",)) for text in ("x x", "y y")]
    train, validation = _draw("", rows, fraction, seed)
    keys = [{" ".join(row.text.split()) for row in side} for side in (train, validation)]
    assert keys[0] and keys[1] and not keys[0] & keys[1]
    assert sorted(train + validation) == sorted(rows)
    assert {row.labels for row in train} == {row.labels for row in rows}
    assert len(keys[1]) <= max(1, round(fraction * len(keys[0] | keys[1])))
    assert (train, validation) == _draw("", rows, fraction, seed)


def test_as_many_different_texts_as_asked_for_are_drawn(tmp_path: Path) -> None:
    rows = [(f"text {n // 2}", "ab"[n % 3 == 0]) for n in range(2000)]
    data = load(write_csv(tmp_path / "a.csv", rows), validation_fraction=0.2)
    assert len(set(data.validation.texts)) == 200
    assert (len(data.train), len(data.validation)) == (1600, 400)


def test_too_few_texts_to_draw_from(tmp_path: Path) -> None:
    for rows in ([("a", "x"), ("b", "y")], [("a", "x"), ("a", "y")]):
        assert "too few texts to draw validation texts from" in refused(write_csv(tmp_path / "a.csv", rows))


# What can be wrong


def test_missing_source(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.csv").startswith(f"{tmp_path}/none.csv: no such file")
    assert refused("none.jsonl.gz").startswith("none.jsonl.gz: no such file")
    assert "a data source is empty" in refused(" ")
    path = write_csv(tmp_path / "a.csv", ROWS)
    assert "none.csv: no such file" in refused(path, validation_data="none.csv")
    assert "none.csv: no such file" in refused(path, test_data="none.csv")
    (tmp_path / "a.txt").write_text("x")
    assert "unknown ending" in refused(tmp_path / "a.txt")


def test_missing_column(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ROWS, header=("review", "stars"))
    assert f"{path}, line 2 has no column 'text': its columns are review, stars; name one with --text" in refused(path)
    assert "no column 'label': its columns are review, stars; name one with --label_column" in refused(
        path, text_column="review"
    )
    assert "no column 'title'" in refused(path, text_column="review+title", label_column="stars")
    path = write_json(tmp_path / "a.jsonl", [{"text": "a", "label": "b"}, {"text": "c"}])
    assert f"{path}, line 2 has no column 'label'" in refused(path)
    long = write_csv(tmp_path / "b.csv", [("x", "y")], header=("word " * 100, "1"))
    assert len(refused(long).removeprefix(str(long))) < 250


def test_no_rows(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [])
    assert f"{path} has no rows" in refused(path)
    (tmp_path / "b.csv").write_bytes(b"")
    assert "b.csv is empty" in refused(tmp_path / "b.csv")
    assert f"{path} has no rows" in refused(write_csv(tmp_path / "c.csv", ROWS), test_data=path)


def test_empty_text(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [*ROWS, (" \t", "pos")])
    assert f"{path}, line 8 has no text in 'text'" in refused(path)
    path = write_json(tmp_path / "a.jsonl", [{"title": None, "text": "", "label": 1}])
    assert f"{path}, line 1 has no text in 'title+text'" in refused(path, text_column="title+text")
    assert f"{path}, line 1: column 'label' holds int, expected text" in refused(path, text_column="label")


@pytest.mark.parametrize("label", ["", " ", None])
def test_missing_label(label: str | None, tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.jsonl", [{"text": "a", "label": "b"}, {"text": "c", "label": label}])
    assert f"{path}, line 2 has no label in 'label'" in refused(path)
    path = write_json(tmp_path / "b.jsonl", [{"text": "a", "label": ["b", label]}])
    assert f"{path}, line 1 has no label in 'label'" in refused(path, multi_label=True)


@pytest.mark.parametrize("label", [1.5, {"a": 1}])
def test_label_of_another_kind(label: Any, tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.jsonl", [{"text": "a", "label": "b"}, {"text": "c", "label": label}])
    assert f"{path}, line 2: the label is {type(label).__name__}, expected text, an integer" in refused(path)


def test_one_label_only(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [("a", "x"), ("b", "x")])
    assert f"the training texts of {path} have only the label 'x'" in refused(path)
    path = write_json(tmp_path / "a.jsonl", [{"text": "a", "label": []}])
    assert f"the training texts of {path} have no label" in refused(path, multi_label=True)


@pytest.mark.parametrize("option", ["validation_data", "test_data"])
def test_label_that_no_training_text_has(option: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ROWS)
    other = write_csv(tmp_path / "b.csv", [("a", "pos"), ("b", "meh")])
    expected = f"{other}, line 3 has the label 'meh', which no training text has: expected one of neg, pos"
    assert refused(path, **{option: other}) == expected


@pytest.mark.parametrize("fraction", [0.0, -0.1, 0.51, float("nan")])
def test_validation_fraction_out_of_range(fraction: float) -> None:
    assert f"validation_fraction is {fraction}" in refused("surnames", validation_fraction=fraction)


def test_label_separator_without_several_labels(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ROWS)
    assert "label_separator is '|': it needs --multi_label" in refused(path, label_separator="|")
    assert "label_separator is ''" in refused(path, label_separator="", multi_label=True)


# The hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Dataset]]:
    """{name: splits} of a hub that needs no network."""
    sets: dict[str, dict[str, Dataset]] = {}
    monkeypatch.setattr("zoo.data.labelled_rows.load_splits", lambda name: sets[name])
    return sets


def rows_of(texts: list[str], labels: list[int], column: str = "text") -> Dataset:
    features = Features({"idx": Value("int32"), column: Value("string"), "label": ClassLabel(names=["no", "yes"])})
    return Dataset.from_dict({"idx": list(range(len(texts))), column: texts, "label": labels}, features)


@pytest.mark.parametrize("name", ["sst2", "stanfordnlp/sst2"])
def test_sst2(name: str, hub: dict[str, dict[str, Dataset]]) -> None:
    hub["stanfordnlp/sst2"] = {
        "train": rows_of(["a", "b"], [1, 0], "sentence"),
        "validation": rows_of(["c"], [1], "sentence"),
        "test": rows_of(["d", "e"], [-1, -1], "sentence"),
    }
    data = load(name)
    assert pairs(data.train) == [("a", "yes"), ("b", "no")]
    assert pairs(data.validation) == [("c", "yes")]
    assert data.test is None
    assert data.labels == ["no", "yes"]
    assert data.notes == [f"{name}: the labels of the split test are withheld, so it is left out"]


def test_hub_set_without_a_validation_split(hub: dict[str, dict[str, Dataset]]) -> None:
    texts = [f"text {n}" for n in range(2500)]
    hub["stanfordnlp/imdb"] = {
        "train": rows_of(texts, [n % 2 for n in range(2500)]),
        "test": rows_of(["new", "text 7"], [0, 1]),
        "unsupervised": rows_of(["u"], [-1]),
    }
    data = load("imdb")
    assert (len(data.train), len(data.validation)) == (2250, 250)
    assert pairs(data.test) == [("new", "no"), ("text 7", "yes")]
    assert len(data.notes) == (1 if "text 7" in data.train.texts else 0)
    assert [text for text, label in pairs(data.train) if (int(text[5:]) % 2 == 1) != (label == "yes")] == []


def test_row_of_a_hub_set_whose_label_is_withheld(hub: dict[str, dict[str, Dataset]]) -> None:
    hub["owner/name"] = {"train": rows_of(["t"] * 1001 + ["c"], [1] * 1001 + [-1])}
    assert "owner/name, split train, row 1,002 has no label in 'label'" in refused("owner/name")
    assert "no column 'body': its columns are idx, text, label" in refused("owner/name", text_column="body")


def test_several_labels_of_a_hub_set(hub: dict[str, dict[str, Dataset]]) -> None:
    features = Features({"text": Value("string"), "labels": datasets.List(ClassLabel(names=["joy", "fear"]))})
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "labels": [[1, 0], [], [0]]}, features)
    hub["owner/emotions"] = {"train": rows, "validation": rows}
    data = load("owner/emotions", label_column="labels", multi_label=True)
    assert data.train.labels == [("fear", "joy"), (), ("joy",)]


def test_what_is_here_comes_before_short_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: dict[str, dict[str, Dataset]]
) -> None:
    hub["fancyzhx/ag_news"] = {"train": rows_of(["a", "b", "c"], [0, 1, 1])}
    monkeypatch.chdir(tmp_path)
    assert load("ag_news").labels == ["no", "yes"]
    write_csv(tmp_path / "ag_news" / "train.csv", ROWS)
    assert load("ag_news").labels == ["neg", "pos"]
