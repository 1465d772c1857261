"""What a captioner is trained on: images and captions from several sources, without broken ones, and its batches."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

from zoo.data.captioned_images import load_captioned_images
from zoo.data.image_tensors import load_image
from zoo.data.stored_images import CaptionData, CaptionedImages, StoredImage
from zoo.one_to_many import ImageCaptioner

pytestmark = pytest.mark.usefixtures("without_pictures")
Run = Callable[..., Any]


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text("utf-8"))
    return found


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


def write_images(folder: Path, captions: list[list[str]], name: str = "captions.jsonl") -> Path:
    """A folder of one-coloured images, and their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, several in enumerate(captions):
        colour = (number * 37 % 256, number * 91 % 256, number * 5 % 256)
        Image.new("RGB", (8, 6), colour).save(folder / f"{number}.png")
        rows.append({"file_name": f"{number}.png", "captions": several})
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_a_folder_without_splits_and_other_data_to_validate_and_test_on(train_captioner: Run, tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", [[f"number {n % 5}", f"it is {n % 5}"] for n in range(20)])
    others = write_images(tmp_path / "others", [["number one"], ["number two"]])
    result = train_captioner(tmp_path / "drawn", data=data, validation_fraction=0.25)
    assert result.code == 0, result
    assert f"{data}: 15 images with 30 captions to train on, 5 validation, vocabulary" in result.out
    assert not (tmp_path / "drawn" / "test_captions.txt").exists()
    result = train_captioner(tmp_path / "given", data=data, validation_data=others, test_data=others)
    assert result.code == 0, result
    assert f"{data}: 20 images with 40 captions to train on, 2 validation, 2 test, vocabulary" in result.out
    assert figures(tmp_path / "given")["validation"] == figures(tmp_path / "given")["test"]


def test_captions_in_a_file_of_their_own(train_captioner: Run, photos: Path, tmp_path: Path) -> None:
    """Also one whose columns are called otherwise."""
    data = write_images(tmp_path / "data", [["one"]] * 12)
    (data / "captions.jsonl").unlink()
    file = tmp_path / "said.csv"
    file.write_text("photo,said\n" + "".join(f"{n}.png,number {n % 3}\n" for n in range(12)), encoding="utf-8")
    result = train_captioner(
        tmp_path / "run", data=data, captions=file, image_column="photo", caption_column="said", validation_fraction=0.5
    )
    assert result.code == 0, result
    assert "6 images with 6 captions to train on, 6 validation, vocabulary 5" in result.out


def test_one_caption_an_image_and_one_image_to_validate_on(train_captioner: Run, tmp_path: Path) -> None:
    """CIDEr-D of one image is 0, whatever its caption: chrF decides which weights are best."""
    data = write_images(tmp_path / "data", [[f"a number {n % 2}"] for n in range(9)])
    result = train_captioner(tmp_path / "run", data=data, captions_per_image=5, max_steps=12, evaluations=4)
    assert result.code == 0, result
    assert "8 images with 8 captions to train on, 1 validation" in result.out
    assert {line["cider_d"] for line in history(tmp_path / "run")} == {0.0}
    best = max(history(tmp_path / "run"), key=lambda line: line["chrf"])
    assert figures(tmp_path / "run")["best_step"] == best["step"]


def test_captions_without_words_are_left_out_and_images_with_none_other(train_captioner: Run, tmp_path: Path) -> None:
    captions = [["A red one!", "...", "RED"], ["?!"], ["a blue one"], ["-"], ["one"], ["a red one", "😀"]]
    held_out = [["a one"], ["--", "***"]]
    data = write_images(tmp_path / "data", captions)
    others = write_images(tmp_path / "others", held_out)
    result = train_captioner(tmp_path / "plain", data=data, validation_data=others)
    assert result.code == 0, result
    assert "4 images with 5 captions to train on, 1 validation, vocabulary 5" in result.out
    assert "note: 2 training images have captions without words: left out" in result.out
    assert "note: 1 validation images have captions without words: left out" in result.out
    result = train_captioner(tmp_path / "as_they_are", data=data, validation_data=others, plain="false")
    assert result.code == 0, result
    assert "6 images with 9 captions to train on, 2 validation, vocabulary" in result.out


def test_what_is_true_of_an_image_is_asked_of_the_right_one(train_captioner_script: ModuleType) -> None:
    images = [StoredImage(str(number), b"") for number in range(4)]
    given = CaptionedImages(
        images, [["one!"], ["?"], ["Two"], ["3", "."]], lambda n, caption: f"{n} {caption}" == "2 x"
    )
    plain = train_captioner_script._plain(given, "test", CaptionData("data", given, given))
    assert [image.place for image in plain.images] == ["0", "2", "3"]
    assert plain.captions == [["one"], ["two"], ["3"]]
    assert [plain.is_true(number, "x") for number in range(3)] == [False, True, False]


@pytest.mark.parametrize("frozen", [False, True], ids=["learning", "frozen"])
def test_a_few_broken_images_are_left_out(
    train_captioner: Run,
    train_captioner_script: ModuleType,
    trunk: Path,
    tmp_path: Path,
    frozen: bool,
) -> None:
    """At most 1 %. The others keep their captions."""
    data = write_images(tmp_path / "data", [[f"number {n}"] for n in range(200)])
    others = write_images(tmp_path / "others", [["number one"], ["number two"]])
    options = {"data": data, "validation_data": others, "max_steps": 1, "cache": tmp_path / "cache"}
    options |= {"weights": trunk, "finetune": 0.0} if frozen else {}
    (data / "7.png").write_bytes((data / "7.png").read_bytes()[:40])
    (data / "150.png").write_text("no image")
    result = train_captioner(tmp_path / "run", **options)
    assert result.code == 0, result
    assert "198 images with 198 captions to train on" in result.out
    assert f"note: 2 training images are broken and left out ({data / '7.png'}" in result.out

    images = load_captioned_images(str(data), validation_data=str(others)).train
    model = ImageCaptioner.from_pretrained(tmp_path / "run")
    model.encoder.requires_grad_(not frozen)
    split = train_captioner_script.Split("training", images, model, "float32", tmp_path / "cache")
    assert len(split) == len(split.references) == len(split.rows) == 198
    for row in (0, 6, 7, 148, 149, 197):
        number = row + (row >= 7) + (row >= 149)
        assert split.references[row] == [f"number {number}"]
        found = split.images([row])
        expected = load_image(StoredImage("", data / f"{number}.png"), 16, "squash")[None]
        torch.testing.assert_close(found, model.encoder(expected).detach() if frozen else expected)

    (data / "9.png").write_bytes(b"")
    result = train_captioner(tmp_path / "again", **options)
    assert result.is_an_error("more than 1% of the 200 training images cannot be read"), result
    assert not (tmp_path / "again").exists()
    assert not list((tmp_path / "cache").glob("*.partial"))


# --- batches ------------------------------------------------------------------------------------------------------


@pytest.fixture
def task_of(
    train_captioner: Run, train_captioner_script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """`task_of(**changes)`: the task that a run with these options trains."""

    def start(**changes: object) -> Any:
        found = []

        def keep(task: Any, *_: object) -> None:
            found.append(task)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(train_captioner_script, "train", keep)
            assert train_captioner(tmp_path / "run", "--overwrite", **changes).code == 130
        return found[0]

    return start


@pytest.mark.parametrize("wanted", [1, 2, 7])
def test_captions_of_a_batch(task_of: Run, wanted: int) -> None:
    """Each image's captions stand one after the other, none twice before all are there."""
    task = task_of(captions_per_image=wanted, augment="none")
    several = min(wanted, 3)
    seen: dict[int, set[str]] = {}
    for epoch in range(24):
        for k in range(task.num_batches(epoch)):
            batch = task.batch(epoch, k)
            numbers = task.batches.rows(epoch, k)
            assert torch.equal(batch.images, task.training.images(numbers))
            assert len(batch.captions) == len(batch.lengths) == several * len(numbers)
            assert task.tokens(batch) == int(batch.lengths.sum())
            rows = [row[: length - 1] for row, length in zip(batch.captions, batch.lengths.tolist(), strict=True)]
            texts = [task.model.tokenizer.decode(row) for row in rows]
            for place, number in enumerate(numbers):
                few, known = texts[place * several : (place + 1) * several], task.training.references[number]
                assert set(few) <= set(known)
                assert len(set(few)) == min(several, len(known))
                seen.setdefault(number, set()).update(few)
    assert set().union(*seen.values()) == task.known  # all are drawn in the end
    assert len(seen) == len(task.training) == 18


def test_a_batch_is_a_pure_function_of_seed_epoch_and_number(task_of: Run) -> None:
    options = {"augment": "shift+flip", "captions_per_image": 2}
    task, again, other = (task_of(seed=seed, **options) for seed in (3, 3, -4))
    first = task.batch(1, 2)
    task.batch(0, 1)
    for repeated in (task.batch(1, 2), again.batch(1, 2)):
        assert all(torch.equal(one, two) for one, two in zip(first, repeated, strict=True))
    # Which captions, and how the images are moved, is drawn anew for every batch.
    for one in (task, other):
        one.batches.rows = lambda epoch, k: list(range(12))
    drawn = [one.batch(epoch, k) for one, epoch, k in ((task, 0, 0), (task, 0, 1), (task, 1, 0), (other, 0, 0))]
    for one, two in combinations(drawn, 2):
        assert not torch.equal(one.captions, two.captions)
        assert not torch.equal(one.images, two.images)
    assert not torch.equal(drawn[0].images, task.training.images(range(12)))
