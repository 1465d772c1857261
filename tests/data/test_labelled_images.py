"""Images with labels: every kind of source, what is held out, and one line for each thing that can be wrong."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features
from PIL import Image

from zoo.data.images import read_image
from zoo.data.labelled_images import load_labelled_images
from zoo.data.stored_images import ImageLabelData, LabelledImages, StoredImage
from zoo.errors import InputError

MNIST = Path("/work/shared/data/images/mnist_t10k/test.parquet")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def load(data: Path | str, **options: Any) -> ImageLabelData:
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    return load_labelled_images(str(data), **plain)


def refused(data: Path | str, **options: Any) -> str:
    """The one-line message that load_labelled_images refuses with."""
    with pytest.raises(InputError) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def draw_images(folder: Path, names: Sequence[str]) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (number, 0, 7)).save(folder / name)
    return folder


def write_csv(path: Path, rows: Sequence[Sequence[Any]], header: Sequence[str] = ("file_name", "label")) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def labels(*parts: LabelledImages) -> dict[str, str]:
    """{file name: label}."""
    return {
        Path(image.place).name: label for part in parts for image, label in zip(part.images, part.labels, strict=True)
    }


def opened(image: StoredImage) -> Image.Image:
    return read_image(image.content() if callable(image.content) else image.content, image.place)


PETS = ["cat/1.png", "cat/2.png", "cat/kittens/3.JPG", "dog/4.png", "dog/5.gif"]
EXPECTED = {Path(name).name: name.split("/")[0] for name in PETS}


# Folders


def test_a_folder_for_each_label(tmp_path: Path) -> None:
    draw_images(tmp_path, PETS)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    found = load(tmp_path, validation_fraction=0.4)
    assert labels(found.train, found.validation) == EXPECTED
    assert (len(found.train), len(found.validation)) == (3, 2)
    assert (found.labels, found.tests, found.notes, found.name) == (["cat", "dog"], {}, [], str(tmp_path))
    assert all(image.content == Path(image.place) and opened(image).size == (4, 3) for image in found.train.images)


def test_what_is_in_no_folder_is_named(tmp_path: Path) -> None:
    draw_images(tmp_path, [*PETS, "stray.png", ".git/a.png"])
    (tmp_path / "empty").mkdir()
    assert load(tmp_path).notes == [
        f"{tmp_path}: 1 of 6 images are in no label's folder: left out",
        f"{tmp_path}: no images in empty",
    ]


@pytest.mark.parametrize("called", ["val", "validation", "valid", "dev"])
def test_folders_of_splits(called: str, tmp_path: Path) -> None:
    draw_images(tmp_path, [f"{split}/{name}" for split in ("train", called, "test") for name in PETS])
    found = load(tmp_path)
    for part in (found.train, found.validation, found.tests["test"]):
        assert labels(part) == EXPECTED
    assert not {image.place for image in found.train.images} & {image.place for image in found.validation.images}
    draw_images(tmp_path, [f"more/{name}" for name in PETS])
    other = load(tmp_path / "train", validation_data=tmp_path / "more", test_data=tmp_path)
    assert {Path(image.place).parts[-3] for image in other.validation.images} <= {"more", "cat"}
    assert labels(other.tests["test"]) == EXPECTED


@pytest.mark.parametrize("called", [("Train", "Val", "Test"), ("Training", "VALID", "Testing")])
def test_folders_of_splits_in_any_spelling(called: tuple[str, str, str], tmp_path: Path) -> None:
    draw_images(tmp_path, [f"{split}/{name}" for split in called for name in PETS])
    found = load(tmp_path)
    parts = (found.train, found.validation, found.tests["test"])
    assert [Path(part.images[0].place).parts[-3] for part in parts] == list(called)
    assert (found.labels, found.notes) == (["cat", "dog"], [])


def test_two_folders_for_one_split(tmp_path: Path) -> None:
    draw_images(tmp_path, [f"{split}/{name}" for split in ("train", "val", "valid") for name in PETS])
    assert refused(tmp_path) == f"{tmp_path} has both val and valid for validation: expected one of them"


def test_folders_of_splits_without_one_to_train_on(tmp_path: Path) -> None:
    draw_images(tmp_path, [f"test_set/{name}" for name in PETS])
    assert labels((found := load(tmp_path)).train, found.validation) == EXPECTED  # all there is
    draw_images(tmp_path, [f"val/{name}" for name in PETS])
    assert "has the splits test_set, validation: expected one named train" in refused(tmp_path)
    other = draw_images(tmp_path / "train", PETS)
    assert labels(load(other, validation_data=tmp_path).validation) == EXPECTED
    other.rename(tmp_path / "training_set")
    said = refused(tmp_path)
    assert said.startswith(f"{tmp_path} has a folder test_set and beside it training_set, but none called train: ")


def test_a_label_may_be_called_as_a_split(tmp_path: Path) -> None:
    draw_images(tmp_path, ["valid/1.png", "valid/2.png", "invalid/3.png", "Test/4.png"])
    assert load(tmp_path).labels == ["Test", "invalid", "valid"]


def test_a_test_folder_without_labels_is_left_out(tmp_path: Path) -> None:
    draw_images(tmp_path, [*(f"train/{name}" for name in PETS), "test/1.png"])
    found = load(tmp_path)
    assert found.tests == {}
    assert found.notes == [f"{tmp_path}/test has no folder for each label: left out"]


def test_train_may_be_a_label(tmp_path: Path) -> None:
    draw_images(tmp_path, ["train/1.png", "train/2.png", "ship/3.png", "ship/4.png"])
    assert load(tmp_path).labels == ["ship", "train"]


def test_labels_that_are_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    draw_images(tmp_path, [f"{label}/{number}.png" for label in (10, 9, 2) for number in range(2)])
    assert load(tmp_path).labels == ["2", "9", "10"]


def test_faulty_folders(tmp_path: Path) -> None:
    assert f"{tmp_path} has no images: expected files that end in .jpg" in refused(tmp_path)
    draw_images(tmp_path, ["1.png"])
    assert f"{tmp_path} has images, but none in a folder for its label" in refused(tmp_path)
    draw_images(tmp_path, ["cat/1.png", "cat/2.png"])
    assert "only the label 'cat': expected two or more labels" in refused(tmp_path)
    draw_images(tmp_path, ["dog/1.png"])
    found = load(tmp_path)
    assert (found.train.labels, found.validation.labels) == (["cat", "dog"], ["cat"])
    draw_images(tmp_path / "v", ["cow/1.png", "cat/1.png"])
    said = refused(tmp_path / "cat", validation_data=tmp_path / "v")
    assert "none in a folder for its label" in said
    draw_images(tmp_path / "all", ["train/cat/1.png", "train/dog/1.png", "test/cow/2.png", "test/cat/1.png"])
    said = refused(tmp_path / "all")
    assert (
        f"{tmp_path}/all/test/cow/2.png has the label 'cow', which no training image has: expected one of cat, dog"
        == said
    )
    assert "too few images to draw" in refused(tmp_path / "all" / "train")
    assert "a data source is empty" in refused("")
    assert "no such file" in refused(tmp_path / "none.csv")
    assert "is one file: expected a folder of images" in refused(tmp_path / "1.png")
    for fraction in (0, 0.51):
        assert "expected more than 0 and at most 0.5" in refused(tmp_path, validation_fraction=fraction)
    assert "leave out the options of other data" in refused("scenes", label_column="label")


# Lists


@pytest.mark.parametrize("name", ["labels.csv", "metadata.jsonl", "labels.json", "metadata.tsv"])
def test_lists_of_labels(name: str, tmp_path: Path) -> None:
    draw_images(tmp_path, ["a.png", "b.png", "below/c.png", "below/d.png"])
    rows = [("a.png", 0), ("b.png", 1), ("c.png", 0), ("below/d.png", 1)]
    file = tmp_path / name
    if name.endswith("csv"):
        write_csv(file, rows)
    elif name.endswith("tsv"):
        file.write_text("image\tclass\n" + "\n".join(f"{image}\t{label}" for image, label in rows))
    else:
        items = [{"image": image, "label": label} for image, label in rows]
        file.write_text(json.dumps(items) if name.endswith("json") else "\n".join(map(json.dumps, items)))
    for source in (tmp_path, file):
        found = load(source, validation_fraction=0.5)
        assert labels(found.train, found.validation) == {"a.png": "0", "b.png": "1", "c.png": "0", "d.png": "1"}
        assert sorted(found.train.labels) == sorted(found.validation.labels) == ["0", "1"]


def test_lists_of_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        draw_images(tmp_path / split, ["1.png", "2.png", "3.png"])
        write_csv(tmp_path / split / "metadata.csv", [("1.png", "a"), ("2.png", "b"), ("3.png", "a")])
    found = load(tmp_path)
    assert (len(found.train), len(found.validation), labels(found.tests["test"])["2.png"]) == (2, 1, "b")


def test_faulty_lists(tmp_path: Path) -> None:
    draw_images(tmp_path, [f"{number}.png" for number in range(4)])
    there = [(f"{number % 4}.png", number % 2) for number in range(100)]
    file = write_csv(tmp_path / "labels.csv", [*there, ("lost.png", 1)])
    few = f"1 of 101 labels in {file} are of images that are not in {tmp_path} (such as lost.png): left out"
    assert load(tmp_path).notes == [few]
    write_csv(file, [*there, ("lost.png", 1), ("../out.png", 1)])
    assert f"2 of 102 labels in {file}" in refused(tmp_path)
    write_csv(file, [("lost.png", 1)])
    assert f"none of the images that {file} has labels of, such as lost.png, is in {tmp_path}" in refused(tmp_path)
    write_csv(file, [("0.png", " ")])
    assert f"{file}, line 2 has no label in 'label': fill it in" in refused(tmp_path)
    write_csv(file, [("0.png", "a")], ("file_name", "kind"))
    assert "has no column 'label' or 'labels' or 'class': its columns are file_name, kind; name one with" in refused(
        tmp_path
    )
    write_csv(file, [(f"{number}.png", number % 2) for number in range(4)], ("file_name", "kind"))
    assert load(tmp_path, label_column="kind").labels == ["0", "1"]
    (tmp_path / "metadata.jsonl").write_text("{}")
    assert "has labels.csv and metadata.jsonl: give the one to use as --data" in refused(tmp_path)


def test_an_image_named_twice_is_on_one_side(tmp_path: Path) -> None:
    draw_images(tmp_path, [f"{number}.png" for number in range(8)])
    write_csv(tmp_path / "labels.csv", [(f"{number // 2}.png", number % 2) for number in range(16)])
    for seed in range(5):
        found = load(tmp_path, seed=seed, validation_fraction=0.5)
        assert not labels(found.train).keys() & labels(found.validation).keys()
        assert (len(found.train), len(found.validation)) == (8, 8)


def test_equal_files_are_on_one_side(tmp_path: Path) -> None:
    draw_images(tmp_path, [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(4)])
    for label in ("cat", "dog"):
        for number in range(4):
            copy = tmp_path / label / f"copy_{number}.png"
            copy.write_bytes((tmp_path / label / f"{number}.png").read_bytes())
    (tmp_path / "dog" / "other_name.png").write_bytes((tmp_path / "cat" / "0.png").read_bytes())
    for seed in range(5):
        found = load(tmp_path, seed=seed, validation_fraction=0.5)
        sides = [{Path(image.place).read_bytes() for image in part.images} for part in (found.train, found.validation)]
        assert not sides[0] & sides[1]
        assert len(found.train) + len(found.validation) == 17


def test_only_files_as_long_as_another_are_read_to_tell_them_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        (tmp_path / f"{number % 2}").mkdir(exist_ok=True)
        (tmp_path / f"{number % 2}" / f"{number}.png").write_bytes(b"a" * [0, 1, 1, 2, 3, 4][number])
    os.mkfifo(tmp_path / "0" / "pipe.png")  # of no length, as the first
    opened_paths = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *a, **b: opened_paths.append(path.name) or real(path, *a, **b))
    found = load(tmp_path, validation_fraction=0.5)
    assert len(found.train) + len(found.validation) == 7
    assert sorted(opened_paths) == ["1.png", "2.png"]
    opened_paths.clear()
    load(tmp_path, validation_data=tmp_path)
    assert opened_paths == []


# Data sets


def data_set(values: Sequence[Any], feature: Any = None, column: str = "label") -> Dataset:
    images = [Image.new("RGB", (4, 3), (number, 0, 0)) for number in range(len(values))]
    kind = feature or Dataset.from_dict({column: values}).features[column]
    features = Features({"img": datasets.Image(), column: kind})
    return Dataset.from_dict({"img": images, column: list(values)}, features=features)


@pytest.mark.parametrize(
    ("values", "feature", "expected"),
    [
        ([0, 1, 0, 1], ClassLabel(names=["cat", "dog"]), ["cat", "dog"]),
        ([10, 9, 10, 9], None, ["9", "10"]),
        (["x", "y", "x", "y"], None, ["x", "y"]),
        ([True, False, True, False], None, ["False", "True"]),
    ],
)
def test_labels_of_parquet(values: list[Any], feature: Any, expected: list[str], tmp_path: Path) -> None:
    data_set(values, feature).to_parquet(tmp_path / "train.parquet")
    found = load(tmp_path / "train.parquet", validation_fraction=0.5)
    assert found.labels == sorted(set(found.train.labels)) if expected != ["9", "10"] else found.labels == expected
    assert found.labels == expected and sorted(found.train.labels) == sorted(found.validation.labels)
    assert callable(found.train.images[0].content) and opened(found.train.images[0]).size == (4, 3)


def test_splits_of_data_sets(tmp_path: Path) -> None:
    names = ClassLabel(names=["cat", "dog"])
    splits = {"train": [0, 1, 1, 0], "valid": [1, 0], "test": [-1, -1]}
    DatasetDict({split: data_set(values, names) for split, values in splits.items()}).save_to_disk(tmp_path / "set")
    found = load(tmp_path / "set")
    assert (found.train.labels, found.validation.labels) == (["cat", "dog", "dog", "cat"], ["dog", "cat"])
    assert found.tests == {}
    assert found.notes == [f"{tmp_path}/set, split test: the labels are withheld, so it is left out"]
    assert [opened(image).getpixel((0, 0)) for image in found.train.images] == [(number, 0, 0) for number in range(4)]


def test_hub_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"train": data_set([0, 1, 0, 1]), "test": data_set([1])}
    monkeypatch.setattr("zoo.data.image_rows.load_splits", {"owner/name": rows}.__getitem__)
    found = load("owner/name")
    assert (len(found.train), len(found.validation), found.tests["test"].labels) == (3, 1, ["1"])


def test_faulty_data_sets(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    data_set([0.5, 0.7]).to_parquet(path)
    assert "the label is float, expected text, an integer" in refused(path)
    data_set(["a", None]).to_parquet(path)
    assert f"{path}, row 2 has no label in 'label'" in refused(path)
    data_set([1, 2], column="kind").to_parquet(path)
    assert "has no column 'label' or 'labels' or 'class'" in refused(path)
    Dataset.from_dict({"label": [1, 2]}).to_parquet(path)
    assert "has no column 'image' of images: its columns are label" in refused(path)
    data_set([1, 1]).to_parquet(path)
    assert f"the training images of {path} have only the label '1'" in refused(path)
    data_set([-1, -1], ClassLabel(names=["a", "b"])).to_parquet(path)
    assert "has the splits (none): expected one named train" in refused(path)


@pytest.mark.skipif(not MNIST.is_file(), reason="MNIST is not here")
def test_mnist() -> None:
    found = load(MNIST, validation_fraction=0.2)
    assert (len(found.train), len(found.validation), found.tests) == (8000, 2000, {})
    assert found.labels == [str(digit) for digit in range(10)]
    picture = opened(found.train.images[0])
    assert (picture.mode, picture.size) == ("RGB", (28, 28))
