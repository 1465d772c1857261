"""Images with captions: every kind of source, what is held out, and one line for each thing that can be wrong."""

import csv
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.data.captioned_images import load_captioned_images
from zoo.data.image_rows import draw
from zoo.data.images import read_image
from zoo.data.stored_images import CaptionData, CaptionedImages, StoredImage
from zoo.errors import InputError

FLICKR8K = Path("/work/shared/data/captioning/flickr8k")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def load(data: Path | str, **options: Any) -> CaptionData:
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    return load_captioned_images(str(data), **plain)


def refused(data: Path | str, **options: Any) -> str:
    """The one-line message that load_captioned_images refuses with."""
    with pytest.raises(InputError) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def draw_images(folder: Path, names: Sequence[str]) -> Path:
    """Images that differ, in folders of their own where the names say so."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (number % 256, number // 256, 7)).save(folder / name)
    return folder


def write_csv(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = ("image", "caption")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def opened(image: StoredImage) -> Image.Image:
    return read_image(image.content() if callable(image.content) else image.content, image.place)


def captions(*parts: CaptionedImages) -> dict[str, list[str]]:
    """{file name: captions}."""
    return {
        Path(image.place).name: texts for part in parts for image, texts in zip(part.images, part.captions, strict=True)
    }


NAMES = [f"{number}.png" for number in range(4)]
ROWS = [(name, f"picture {name[0]} {word}") for name in NAMES for word in ("one", "two, with a comma")]
EXPECTED = {name: [caption for called, caption in ROWS if called == name] for name in NAMES}


def write_token(path: Path) -> Path:
    path.write_text("\n".join(f"{name}#{number % 2}\t{caption}" for number, (name, caption) in enumerate(ROWS)))
    return path


def write_coco(path: Path) -> Path:
    images = [{"id": 100 + number, "file_name": name, "height": 3} for number, name in enumerate(NAMES)]
    annotations = [{"id": 1, "image_id": 100 + NAMES.index(name), "caption": caption} for name, caption in ROWS]
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": annotations}, indent=1))
    return path


def write_json_lines(path: Path) -> Path:
    path.write_text("\n".join(json.dumps({"file_name": name, "captions": EXPECTED[name]}) for name in NAMES))
    return path


def write_tsv(path: Path) -> Path:
    path.write_text("filename\ttext\n" + "\n".join(map("\t".join, ROWS)))
    return path


WRITERS: dict[str, Any] = {
    "captions.txt": lambda path: write_csv(path, ROWS),  # as Kaggle has Flickr8k
    "Flickr8k.token.txt": write_token,
    "results_20130124.token": write_token,
    "captions.json": write_coco,
    "captions_val2014.json": write_coco,
    "captions.jsonl": write_json_lines,
    "metadata.jsonl": write_json_lines,
    "metadata.csv": lambda path: write_csv(path, ROWS, ("file_name", "text")),
    "captions.tsv": write_tsv,
}


# Folders of images


@pytest.mark.parametrize("name", WRITERS)
def test_every_file_of_captions(name: str, tmp_path: Path) -> None:
    folder = draw_images(tmp_path / "pictures", NAMES)
    file = WRITERS[name](folder / name)
    found = load(folder)
    assert captions(found.train, found.validation) == EXPECTED
    assert (len(found.train), len(found.validation), found.tests, found.notes) == (3, 1, {}, [])
    assert found.name == str(folder)
    assert all(image.content == Path(image.place) == folder / Path(image.place).name for image in found.train.images)
    assert load(file) == CaptionData(str(file), found.train, found.validation, found.tests, found.notes)
    elsewhere = file.rename(tmp_path / name)
    assert load(folder, captions=elsewhere) == found
    assert f"{folder} has no file of captions" in refused(folder)


def test_images_in_folders_below(tmp_path: Path) -> None:
    draw_images(tmp_path, ["Images/a.png", "Images/b.png", "more/c.png", "more/Images/d.png"])
    write_csv(
        tmp_path / "captions.txt", [(name, name[-5]) for name in ("a.png", "Images/b.png", "./more/c.png", "d.png")]
    )
    found = load(tmp_path)
    expected = {name: [name[0]] for name in ("a.png", "b.png", "c.png", "d.png")}
    assert captions(found.train, found.validation) == expected


def test_columns_by_name(tmp_path: Path) -> None:
    draw_images(tmp_path, NAMES)
    write_csv(tmp_path / "captions.csv", [(name, name, f"a {name}") for name in NAMES], ("image", "photo", "says"))
    found = load(tmp_path, image_column="photo", caption_column="says")
    assert captions(found.train, found.validation) == {name: [f"a {name}"] for name in NAMES}
    assert "has no column 'captions' or 'caption' or 'text': its columns are image, photo, says; name one with" in (
        refused(tmp_path)
    )
    assert "has no column 'title'" in refused(tmp_path, image_column="title", caption_column="says")


def test_numbered_columns(tmp_path: Path) -> None:
    draw_images(tmp_path, NAMES)
    write_csv(
        tmp_path / "captions.csv",
        [(name, "a", " b  c ", "") for name in NAMES],
        ("image", *("caption_0", "caption_1", "caption_2")),
    )
    found = load(tmp_path)
    assert captions(found.train, found.validation) == {name: ["a", "b c"] for name in NAMES}


def test_split_folders(tmp_path: Path) -> None:
    for split in ("train", "val", "test", "test_hard", "other"):
        draw_images(tmp_path / split, ["1.png", "2.png"])
        write_csv(tmp_path / split / "captions.csv", [("1.png", f"{split} one"), ("2.png", f"{split} two")])
    found = load(tmp_path)
    assert found.train.captions == [["train one"], ["train two"]]
    assert found.validation.captions == [["val one"], ["val two"]]
    assert {split: part.captions[0] for split, part in found.tests.items()} == {
        "test": ["test one"],
        "test_hard": ["test_hard one"],
    }
    found = load(tmp_path / "train", validation_data=tmp_path / "val", test_data=tmp_path / "other")
    assert (found.validation.captions[0], found.tests["test"].captions[1]) == (["val one"], ["other two"])


def test_split_folders_in_any_spelling(tmp_path: Path) -> None:
    for split in ("Train", "Test"):
        draw_images(tmp_path / split, ["1.png", "2.png"])
        write_csv(tmp_path / split / "captions.csv", [("1.png", split), ("2.png", split)])
    found = load(tmp_path)
    assert (found.train.captions, found.validation.captions) == ([["Train"]], [["Train"]])
    assert found.tests["test"].captions == [["Test"], ["Test"]]
    (tmp_path / "Train").rename(tmp_path / "images")
    assert "has a folder Test and beside it images, but none called train" in refused(tmp_path)
    draw_images(tmp_path / "images" / "dev", ["3.png"])
    assert "has a folder dev and beside it 1.png, but none called train" in refused(tmp_path / "images")


def test_one_file_for_all_splits(tmp_path: Path) -> None:
    for split, name in (("train", "1.png"), ("train", "2.png"), ("dev", "3.png"), ("test", "4.png")):
        draw_images(tmp_path / split, [name])
    rows = [("1.png", "one"), ("train/2.png", "two"), ("3.png", "three"), ("4.png", "four")]
    file = write_csv(tmp_path / "captions.csv", rows)
    found = load(tmp_path)
    assert (found.train.captions, found.validation.captions) == ([["one"], ["two"]], [["three"]])
    assert (found.tests["test"].captions, found.notes) == ([["four"]], [])
    rows[1] = ("2.png", "two")
    file = write_csv(tmp_path / "captions.csv", rows)
    parts = {"validation_data": tmp_path / "dev", "test_data": tmp_path / "test"}
    found = load(tmp_path / "train", captions=file, **parts)
    assert (found.train.captions, found.validation.captions) == ([["one"], ["two"]], [["three"]])
    assert found.notes == []
    del parts["test_data"]
    said = refused(tmp_path / "train", captions=file, **parts)
    assert f"1 of 4 captions in {file} are of images that are not in {tmp_path}/train or {tmp_path}/dev" in said
    assert "such as 4.png" in said


def test_images_without_captions_are_left_out(tmp_path: Path) -> None:
    folder = draw_images(tmp_path, [*NAMES, "extra.png"])
    file = write_csv(folder / "captions.csv", [*ROWS, ("extra.png", "  ")])
    found = load(folder)
    assert captions(found.train, found.validation) == EXPECTED
    assert found.notes == [f"{folder}: 1 of 5 images have no caption: left out"]
    write_csv(file, ROWS)
    assert load(folder).notes == found.notes
    write_csv(file, [(name, "") for name in NAMES])
    assert f"{folder} has no image with a caption" in refused(folder)


def test_captions_of_missing_images(tmp_path: Path) -> None:
    folder = draw_images(tmp_path, ["a.png", "b.png"])
    there = [(name, f"caption {number}") for name in ("a.png", "b.png") for number in range(100)]
    file = write_csv(folder / "captions.csv", [*there, ("b.png.1", "odd"), ("b.png.1", "odd")])
    found = load(folder)
    assert sorted(map(len, captions(found.train, found.validation).values())) == [100, 100]
    few = f"2 of 202 captions in {file} are of images that are not in {folder} (such as b.png.1)"
    assert found.notes == [f"{few}: left out"]
    write_csv(file, [*there, *[("lost.png", "gone")] * 3])
    assert f"3 of 203 captions in {file}" in refused(folder) and "at most 1%" in refused(folder)
    write_csv(file, [("lost.png", "gone")])
    assert f"none of the images that {file} has captions of, such as lost.png, is in {folder}" in refused(folder)


@pytest.mark.parametrize("way", ["../secret.png", "/absolute", "in/../../secret.png"])
def test_no_way_out_of_the_folder(way: str, tmp_path: Path) -> None:
    draw_images(tmp_path, ["secret.png"])
    folder = draw_images(tmp_path / "pictures", ["in/a.png"])
    way = str(tmp_path / "secret.png") if way == "/absolute" else way
    write_csv(folder / "captions.csv", [(way, "a secret")])
    assert "is in" in refused(folder) and "none of the images" in refused(folder)
    write_csv(folder / "captions.csv", [(str(folder.resolve() / "in/a.png"), "one"), (way, "a secret")])
    assert "1 of 2 captions" in refused(folder)  # the absolute path of an image in the folder is one of it


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    draw_images(tmp_path, [*NAMES, ".hidden.png", "__MACOSX/0.png", ".cache/5.png"])
    write_csv(tmp_path / "captions.csv", ROWS)
    assert load(tmp_path).notes == []


def test_images_are_not_read(tmp_path: Path) -> None:
    folder = draw_images(tmp_path, NAMES)
    (folder / "0.png").write_text("broken")
    write_csv(folder / "captions.csv", ROWS)
    found = load(folder)
    assert len(found.train) + len(found.validation) == 4
    broken = next(image for part in (found.train, found.validation) for image in part.images if "0.png" in image.place)
    with pytest.raises(InputError, match=r"0\.png is no image"):
        opened(broken)


# Files of captions that are wrong


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("captions.txt", "", "is empty"),
        ("captions.csv", "", "is empty"),
        ("captions.csv", "image,caption\n", "none of the images"),
        (
            "a.token.txt",
            "0.png#0\tfine\n0.png without a number\n",
            "line 2: expected a file name, # and a number, a tab",
        ),
        ("captions.txt", 'image,caption\n0.png,"open\n', "line 2: malformed CSV"),
        ("captions.txt", "image,caption\n0.png,a, b\n", "line 2 has 3 fields and the header 2"),
        ("captions.txt", "image,caption\n\n ,b\n", "line 3: the file name in 'image' is empty"),
        ("captions.jsonl", '{"image": 3, "caption": "a"}', "the file name in 'image' is int"),
        ("captions.jsonl", '{"image": "0.png", "caption": 3}', "line 1: the caption is int, expected text or a list"),
        ("captions.jsonl", '{"image": "0.png", "caption": ["a", 3]}', "the caption is int"),
        ("captions.json", '{"images": [], "annotations": {}}', '"annotations" is no list'),
        (
            "captions.json",
            '{"images": [{"id": 1}], "annotations": []}',
            "images, object 1 has no 'id' or no 'file_name'",
        ),
        ("captions.json", '{"images": [7], "annotations": []}', "images, object 1 has no"),
        (
            "captions.json",
            '{"images": [{"id": 1, "file_name": "0.png"}], "annotations": [{"image_id": 2, "caption": "a"}]}',
            "annotations, object 1 is of image 2, which is not among the images",
        ),
        (
            "captions.json",
            '{"images": [{"id": 1, "file_name": "0.png"}], "annotations": [{"image_id": 1, "bbox": []}]}',
            "annotations, object 1 has no 'image_id' or no 'caption'",
        ),
        (
            "captions.json",
            '{"images": [{"id": 1, "file_name": " "}], "annotations": [{"image_id": 1, "caption": "a"}]}',
            "images, object 1: the file name is empty",
        ),
        ("captions.json", '{"images": [', "malformed JSON"),
        ("captions.json", '{"images": []}', "has no column 'file_name' or 'image'"),
        ("captions.txt", "image,caption\n0.png,\udcff\n", "not UTF-8"),
    ],
)
def test_faulty_files(name: str, content: str, said: str, tmp_path: Path) -> None:
    folder = draw_images(tmp_path, NAMES)
    file = folder / name
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    message = refused(folder)
    assert said in message and str(file) in message


def test_token_lines_of_all_kinds(tmp_path: Path) -> None:
    folder = draw_images(tmp_path, ["my dog#1.jpg", "b.jpg"])
    lines = "my dog#1.jpg#0  two blanks , player #12 too\n\nb.jpg#0\t\nb.jpg#11\tfine \n"
    (folder / "a.token.txt").write_text(lines)
    found = load(folder)
    assert captions(found.train, found.validation) == {
        "my dog#1.jpg": ["two blanks , player #12 too"],
        "b.jpg": ["fine"],
    }


def test_files_that_are_not_there(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"{empty} has no images: expected files that end in .jpg" in refused(empty)
    folder = draw_images(tmp_path / "pictures", NAMES)
    assert f"{tmp_path}/none.csv: no such file" in refused(folder, captions=tmp_path / "none.csv")
    assert "no such file" in refused(tmp_path / "none.csv")
    assert "no such file" in refused(tmp_path / "none.parquet")
    assert f"{empty} is a folder: expected a file of captions" in refused(folder, captions=empty)
    assert "unknown ending: expected a file of captions" in refused(folder, captions=folder / "0.png")
    assert "is one file: expected a folder of images" in refused(folder / "0.png")
    assert "a data source is empty" in refused(" ")
    write_token(folder / "a.token.txt")
    write_token(folder / "Flickr8k.lemma.token.txt")
    assert load(folder).notes == []
    write_coco(folder / "captions.json")
    assert f"{folder} has a.token.txt and captions.json: name the file to use with --captions" in refused(folder)
    assert load(folder, captions=folder / "a.token.txt").notes == []


def test_scenes_have_splits_of_their_own(tmp_path: Path) -> None:
    assert "leave out the options of other data" in refused("scenes", captions="captions.csv")
    assert "leave out the options of other data" in refused("scenes", validation_data=tmp_path)


# Data sets


def data_set(numbers: Sequence[int], **columns: list[Any]) -> Dataset:
    files = [{"image": Image.new("RGB", (4, 3), (number, 0, 0))} for number in numbers]
    rows = {"image": [file["image"] for file in files], **columns}
    features = Features({"image": datasets.Image(), **Dataset.from_dict(columns).features})
    return Dataset.from_dict(rows, features=features)


def reds(part: CaptionedImages) -> list[int]:
    """What tells the images of `data_set` apart."""
    return [opened(image).getpixel((0, 0))[0] for image in part.images]  # type: ignore[index]


def test_parquet_files(tmp_path: Path) -> None:
    texts = [[f"a {number}", f"b {number}"] for number in range(6)]
    data_set(range(4), captions=texts[:4]).to_parquet(tmp_path / "train.parquet")
    data_set(range(4, 6), captions=texts[4:]).to_parquet(tmp_path / "val.parquet")
    data_set([9], captions=[["nine"]]).to_parquet(tmp_path / "test.parquet")
    for name in ("README.md", "split.txt", "other.txt"):  # more than there are Parquet files
        (tmp_path / name).write_text("words")
    found = load(tmp_path)
    assert (found.train.captions, reds(found.train)) == (texts[:4], [0, 1, 2, 3])
    assert (found.validation.captions, reds(found.validation)) == (texts[4:], [4, 5])
    assert (reds(found.tests["test"]), found.notes) == ([9], [])
    assert found.train.images[1].place == f"{tmp_path}, split train, row 2"
    assert callable(found.train.images[0].content)
    sent = pickle.loads(pickle.dumps(found.train.images[2]))  # to a worker process
    assert opened(sent).getpixel((0, 0)) == (2, 0, 0)
    alone = load(tmp_path / "train.parquet", validation_fraction=0.5, test_data=tmp_path / "test.parquet")
    assert (len(alone.train), len(alone.validation), reds(alone.tests["test"])) == (2, 2, [9])
    assert sorted(reds(alone.train) + reds(alone.validation)) == [0, 1, 2, 3]
    assert "is no folder of images: leave it out" in refused(tmp_path, captions="captions.csv")


def test_parquet_in_parts(tmp_path: Path) -> None:
    for part in range(2):
        name = f"train-{part:05}-of-00002.parquet"
        (tmp_path / "data").mkdir(exist_ok=True)
        data_set([part, 5 + part], caption=["x", "y"]).to_parquet(tmp_path / "data" / name)
    found = load(tmp_path)
    assert sorted(reds(found.train) + reds(found.validation)) == [0, 1, 5, 6]
    data_set([3], other=["x"]).to_parquet(tmp_path / "data" / "train-00002-of-00003.parquet")
    assert "has the columns image, other; train-00000-of-00002.parquet has image, caption" in refused(tmp_path)


def test_parquet_files_for_one_split(tmp_path: Path) -> None:
    for name in ("Train", "Valid", "Test"):
        data_set(range(3), caption=["x", "y", "z"]).to_parquet(tmp_path / f"{name}.parquet")
    found = load(tmp_path)
    assert (len(found.train), len(found.validation), list(found.tests)) == (3, 3, ["test"])
    data_set([3], caption=["x"]).to_parquet(tmp_path / "val.parquet")
    assert f"{tmp_path} has both Valid and val for validation: expected one of them" in refused(tmp_path)


def test_saved_data_set(tmp_path: Path) -> None:
    DatasetDict({"train": data_set(range(3), text=["a", "b", "c"]), "dev": data_set([7], text=["d"])}).save_to_disk(
        tmp_path / "set"
    )
    found = load(tmp_path / "set")
    assert (found.train.captions, found.validation.captions) == ([["a"], ["b"], ["c"]], [["d"]])
    assert (reds(found.train), reds(found.validation)) == ([0, 1, 2], [7])


def test_hub_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"train": data_set([1, 2], caption=["a", "b"]), "test": data_set([3], caption=["c"])}
    monkeypatch.setattr("zoo.data.image_rows.load_splits", {"owner/name": rows}.__getitem__)
    found = load("owner/name")
    assert (len(found.train), len(found.validation), reds(found.tests["test"])) == (1, 1, [3])


def test_an_image_in_several_rows(tmp_path: Path) -> None:
    numbers = [1, 2, 1, 3, 2, 1]
    data_set(numbers, caption=[f"{number} {row}" for row, number in enumerate(numbers)]).to_parquet(
        tmp_path / "a.parquet"
    )
    found = load(tmp_path / "a.parquet")
    both = dict(zip(reds(found.train), found.train.captions, strict=True))
    both |= dict(zip(reds(found.validation), found.validation.captions, strict=True))
    assert both == {1: ["1 0", "1 2", "1 5"], 2: ["2 1", "2 4"], 3: ["3 3"]}


def test_equal_images_with_different_names_stay_together(tmp_path: Path) -> None:
    folder = draw_images(tmp_path / "pictures", ["a.png"])
    content = (folder / "a.png").read_bytes()
    other = draw_images(folder, ["x.png", "b.png"]).joinpath("b.png").read_bytes()
    rows = [
        {"bytes": content, "path": "a.png"},
        {"bytes": content, "path": "copy.png"},
        {"bytes": other, "path": "b.png"},
    ]
    features = Features({"image": datasets.Image(), "caption": Value("string")})
    texts = ["a", "copy", "b"]
    Dataset.from_dict({"image": rows, "caption": texts}, features=features).to_parquet(tmp_path / "set.parquet")
    for seed in range(4):
        found = load(tmp_path / "set.parquet", seed=seed, validation_fraction=0.5)
        sides = [found.train.captions, found.validation.captions]
        assert sorted(sides) == [[["a"], ["copy"]], [["b"]]]


def test_equal_files_stay_together(tmp_path: Path) -> None:
    folder = draw_images(tmp_path / "pictures", ["a.png", "b.png"])
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    write_csv(folder / "captions.csv", [("a.png", "a"), ("b.png", "b"), ("copy.png", "copy")])
    for seed in range(4):
        found = load(folder, seed=seed, validation_fraction=0.5)
        assert sorted([found.train.captions, found.validation.captions]) == [[["a"], ["copy"]], [["b"]]]


def test_images_as_plain_columns(tmp_path: Path) -> None:
    folder = draw_images(tmp_path, NAMES)
    contents = [(folder / name).read_bytes() for name in NAMES]
    Dataset.from_dict({"photo": contents, "caption": NAMES}).to_parquet(tmp_path / "bytes.parquet")
    Dataset.from_dict(
        {"photo": [{"bytes": content, "path": None} for content in contents], "caption": NAMES}
    ).to_parquet(tmp_path / "struct.parquet")
    paths = [{"bytes": None, "path": str(folder / name)} for name in NAMES]
    Dataset.from_dict(
        {"photo": paths, "caption": NAMES}, features=Features({"photo": datasets.Image(), "caption": Value("string")})
    ).save_to_disk(tmp_path / "paths")
    for source in ("bytes.parquet", "struct.parquet", "paths"):
        found = load(tmp_path / source)
        assert sorted(reds(found.train) + reds(found.validation)) == [0, 1, 2, 3]


def test_faulty_data_sets(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    Dataset.from_dict({"caption": ["a"], "n": [1]}).to_parquet(path)
    said = refused(path)
    assert f"{path} has no column 'image' of images: its columns are caption, n, with images none" in said
    data_set([1], words=["a"]).to_parquet(path)
    assert "has no column 'captions' or 'caption'" in refused(path)
    assert "has no column 'words' of images" in refused(path, image_column="words")
    data_set([1, 2], caption=["", None]).to_parquet(path)
    assert f"{path} has no image with a caption" in refused(path)
    data_set([1, 1], caption=["a", "b"]).to_parquet(path)
    assert "too few images to draw validation images from" in refused(path)
    DatasetDict({"one": data_set([1], caption=["a"]), "two": data_set([2], caption=["a"])}).save_to_disk(tmp_path / "s")
    assert "has the splits one, two: expected one named train" in refused(tmp_path / "s")
    path.write_text("this is no Parquet")
    assert "cannot be loaded as a data set" in refused(path)


def test_a_row_without_an_image_is_broken_only_when_it_is_needed(tmp_path: Path) -> None:
    features = Features({"image": datasets.Image(), "caption": Value("string")})
    rows = {"image": [Image.new("RGB", (1, 1)), None, None], "caption": ["a", "b", "c"]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    found = load(tmp_path / "train.parquet")
    assert sorted([*found.train.captions, *found.validation.captions]) == [["a"], ["b"], ["c"]]
    broken = [image for part in (found.train, found.validation) for image in part.images if "row 1" not in image.place]
    for image in broken:
        with pytest.raises(InputError, match=r"row [23] has no image"):
            opened(image)


# What is held out


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(), st.sets(st.sampled_from("abc"), max_size=2), min_size=2, max_size=40),
    st.floats(0.01, 0.5),
    st.integers(0, 5),
)
def test_draw(labels_of: dict[Any, set[str]], fraction: float, seed: int) -> None:
    try:
        drawn = draw("pictures", labels_of, fraction, seed)
    except InputError:
        counts = [sum(label in labels for labels in labels_of.values()) for label in "abc"]
        assert all(labels and any(counts["abc".index(label)] == 1 for label in labels) for labels in labels_of.values())
        return
    assert drawn == draw("pictures", labels_of, fraction, seed)
    assert 0 < len(drawn) <= max(1, round(fraction * len(labels_of))) and drawn < labels_of.keys()
    kept = set().union(*(labels for key, labels in labels_of.items() if key not in drawn))
    assert kept == set().union(*labels_of.values())


def test_draw_by_seed(tmp_path: Path) -> None:
    folder = draw_images(tmp_path, [f"{number}.png" for number in range(50)])
    write_csv(folder / "captions.csv", [(f"./{n}.png" if i else f"{n}.png", "x") for n in range(50) for i in range(2)])
    drawn = {seed: set(captions(load(folder, seed=seed).validation)) for seed in range(3)}
    assert {len(names) for names in drawn.values()} == {5} and len(set(map(frozenset, drawn.values()))) == 3
    assert drawn[1] == set(captions(load(folder, seed=1).validation))
    assert not drawn[1] & set(captions(load(folder, seed=1).train))
    for fraction in (0.0, 0.6, float("nan")):
        assert "expected more than 0 and at most 0.5" in refused(folder, validation_fraction=fraction)


@pytest.mark.skipif(not FLICKR8K.is_dir(), reason="Flickr8k is not here")
def test_flickr8k(monkeypatch: pytest.MonkeyPatch) -> None:
    found = load(FLICKR8K / "validation.parquet", validation_fraction=0.2)
    assert (len(found.train), len(found.validation)) == (800, 200)
    assert all(len(texts) == 5 for texts in found.train.captions)
    assert opened(found.train.images[0]).size == (224, 224)
