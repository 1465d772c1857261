"""Classifying images from the command line: a line for each, in order, with clear errors."""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

from zoo.data.image_tensors import BATCH
from zoo.many_to_one import TextClassifier
from zoo.one_to_one import ImageClassifier

Run = Callable[..., Any]
SCRIPT = Path(__file__).parents[2] / "scripts" / "classify_images.py"
LABELS = ["day", "half a\tnight", "Zoë"]
SHOWN = {"day": "day", "half a\tnight": "half a\ufffdnight", "Zoë": "Zoë"}


@pytest.fixture(scope="session")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scripts_classify_images", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where the types of its options are looked up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "some photos"
    folder.mkdir()
    for number, colour in enumerate(("red", "lime", "blue", "yellow", "black", "white")):
        Image.new("RGB", (20, 12), colour).save(folder / f"{number} {colour}.png")
    return folder


@pytest.fixture(scope="session")
def files(photos: Path) -> list[str]:
    return [str(path) for path in sorted(photos.iterdir())]


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory, files: list[str]) -> Path:
    """A classifier that was never trained, but finds each of its labels among the photos."""
    torch.manual_seed(1)
    model = ImageClassifier(labels=LABELS, image_size=16).eval()
    with torch.no_grad():
        model.output.weight *= 100
        scores = torch.tensor([[value for _, value in sorted(one.ranking)] for one in model.classify(files, 3)])
        order = [sorted(LABELS).index(label) for label in LABELS]
        model.output.bias -= scores.log().mean(dim=0)[order]
    folder = tmp_path_factory.mktemp("runs") / "a classifier"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model(classifier: Path) -> ImageClassifier:
    return ImageClassifier.from_pretrained(classifier)


@pytest.fixture
def classify(run: Run, script: ModuleType, classifier: Path) -> Run:
    def start(*arguments: object, stdin: bytes = b"") -> Any:
        return run(script, classifier, *arguments, stdin=stdin)

    return start


def test_images_come_from_arguments_folders_or_standard_input(
    classify: Run, model: ImageClassifier, photos: Path, files: list[str]
) -> None:
    found = model.classify(files)
    assert {one.label for one in found} == set(LABELS)
    expected = "".join(
        f"{file}\t{SHOWN[one.label]}\t{one.probability:.4f}\n" for file, one in zip(files, found, strict=True)
    )
    for result in (classify(*files), classify(photos), classify(stdin="\n".join(files).encode())):
        assert (result.code, result.out, result.err) == (0, expected, "")
    assert classify(stdin=b"").out == ""


def test_the_likeliest_labels_stand_below_each_other(classify: Run, model: ImageClassifier, files: list[str]) -> None:
    lines = [line.split("\t") for line in classify(*files, "--top_k", 2).out.splitlines()]
    assert [line[:2] for line in lines] == [
        [file, SHOWN[label]]
        for file, one in zip(files, model.classify(files, 2), strict=True)
        for label, _ in one.ranking
    ]
    assert all(float(first[2]) >= float(second[2]) for first, second in zip(lines[::2], lines[1::2], strict=True))


def test_objects_have_the_ranking(classify: Run, model: ImageClassifier, files: list[str]) -> None:
    expected = model.classify(files, 3)
    found = [json.loads(line) for line in classify(*files, "--format", "jsonl", "--top_k", 9).out.splitlines()]
    assert [one["file"] for one in found] == files
    for shown, one in zip(found, expected, strict=True):
        assert shown["label"] == one.label
        assert shown["probability"] == pytest.approx(one.probability, abs=1e-6)
        assert [label for label, _ in shown["ranking"]] == [label for label, _ in one.ranking]
        assert [value for _, value in shown["ranking"]] == pytest.approx([value for _, value in one.ranking], abs=1e-6)
        assert sum(value for _, value in shown["ranking"]) == pytest.approx(1, abs=1e-5)
    (line,) = classify(files[0], "--format", "jsonl").out.splitlines()
    assert json.loads(line).keys() == {"file", "label", "probability"}


def test_more_images_than_are_in_memory_at_a_time(classify: Run, files: list[str]) -> None:
    once = classify(*files).out
    several = 2 * BATCH // len(files) + 2
    assert classify(stdin=("\n".join(files) + "\n").encode() * several).out == once * several


def test_a_line_for_a_label_whatever_is_in_the_path(
    classify: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["a\tb\nc.png", os.fsdecode(b"Zo\xeb.png"), "日本語 🎉.png"]
    for name in names:
        Image.new("RGB", (3, 3)).save(name)
    result = classify(*names)
    assert [line.split("\t")[0] for line in result.out.splitlines()] == [
        "a\ufffdb\ufffdc.png",
        "Zo\ufffd.png",
        names[2],
    ]
    result = classify(*names, "--format", "jsonl")
    assert [json.loads(line)["file"] for line in result.out.splitlines()] == [names[0], "Zo\ufffd.png", names[2]]


def test_the_others_are_classified_where_some_are_broken(classify: Run, files: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no image")
    result = classify(files[2], "no.png", tmp_path, files[4])
    assert (result.code, result.out) == (2, classify(files[2], files[4]).out)
    first, second, last = result.err.splitlines()
    assert first.startswith("error: no.png: no such file")
    assert second.startswith(f"error: {tmp_path}/bad.png is no image")
    assert last == "error: 2 of 4 images could not be read"


@pytest.mark.parametrize(
    ("stdin", "arguments", "match"),
    [
        (b"a\0b\n", [], "standard input, line 1 is no path"),
        (b"", ["no.png"], "no.png: no such file"),
        (b"no.png\n", [], "no.png: no such file"),
        (b"", ["no.png", "--top_k", "0"], "top_k is 0"),
        (b"", ["no.png", "--format", "xml"], "format"),
        (b"", ["no.png", "--device", "abacus"], "device is abacus"),
        (b"", ["--explain"], "--explain"),
    ],
)
def test_bad_input(classify: Run, stdin: bytes, arguments: list[str], match: str) -> None:
    result = classify(*arguments, stdin=stdin)
    assert result.is_an_error(match), result


def test_a_folder_without_images(classify: Run, tmp_path: Path) -> None:
    assert classify(tmp_path).is_an_error("has no images: expected files that end in .jpg")


def test_a_run_of_another_kind(run: Run, script: ModuleType, photos: Path, tmp_path: Path) -> None:
    TextClassifier(vocab_size=5, labels=["a", "b"], embedding_size=4, hidden_size=4).save_pretrained(tmp_path)
    assert run(script, tmp_path, photos).is_an_error("is of a TextClassifier, but ")
    assert run(script, photos, photos).is_an_error("has no config.json: it is not a saved model")
    assert run(script, "no/such/run", photos).is_an_error("no/such/run is not a folder here")
    assert run(script).is_an_error("run")
