"""Numbers that go wrong, and the smallest data there can be: a run ends well, or says in one line why not."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

Run = Callable[..., Any]
TASKS = {
    "train_text_generator": ("text_file", "LanguageModelling"),
    "train_text_classifier": ("reviews", "Classifying"),
    "train_translator": ("sentences", "Translating"),
    "train_image_captioner": ("photos", "Captioning"),
    "train_image_classifier": ("shapes", "Classifying"),
}


@pytest.fixture
def start(
    run: Run, load_script: Callable[[str], ModuleType], tiny_arguments: Callable[..., list[str]], tmp_path: Path
) -> Run:
    """`start(script, *arguments, **changes)`: a tiny run in `tmp_path / "run"`."""

    def begin(script: str, *arguments: object, **changes: object) -> Any:
        return run(load_script(script), "--out", tmp_path / "run", *tiny_arguments(script, **changes), *arguments)

    return begin


@pytest.mark.parametrize("script", TASKS)
def test_a_loss_that_is_no_number(
    start: Run,
    load_script: Callable[[str], ModuleType],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    script: str,
) -> None:
    fixture, name = TASKS[script]
    options = {"data": request.getfixturevalue(fixture), "max_steps": 4, "evaluations": 1, "save_minutes": 1e-9}
    task = getattr(load_script(script), name)
    loss = task.loss
    calls = []

    def broken(self: Any, batch: Any, carry: Any) -> Any:
        calls.append(batch)
        value, carry = loss(self, batch, carry)
        return value / (0 if len(calls) == 3 else 1), carry

    monkeypatch.setattr(task, "loss", broken)
    result = start(script, **options)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert result.err.startswith("error: the loss is inf at step 2, epoch ")
    assert "lower --learning_rate, --matrix_learning_rate or --gradient_clip; the last good save is kept" in result.err
    save = load_file(tmp_path / "run" / "resume.safetensors")
    assert all(tensor.isfinite().all() for tensor in save.values())
    resumed = start(script, "--resume", **options)
    assert (resumed.code, resumed.err) == (0, "")
    assert len(calls) == 5  # the two that are saved are not done again
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["steps"] == 4


@pytest.mark.parametrize(
    ("script", "precision"), [*((script, "float32") for script in TASKS), ("train_text_generator", "bfloat16")]
)
def test_a_rate_that_is_far_too_high(
    start: Run, request: pytest.FixtureRequest, tmp_path: Path, script: str, precision: str
) -> None:
    """bfloat16 has the range of float32, so there is no scale of the loss to look after: both overflow alike."""
    data = request.getfixturevalue(TASKS[script][0])
    changes = {"learning_rate": 1e30, "optimizer": "adamw", "warmup": 0, "max_steps": 50, "evaluations": 50}
    result = start(script, data=data, save_minutes=1e-9, **(changes | {"precision": precision}))
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "at step " in result.err
    assert ": lower --learning_rate" in result.err
    for saved in (tmp_path / "run").glob("*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(saved).values()), saved


def lines(file: Path, *texts: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return file


def finite(figures: Any) -> bool:
    if isinstance(figures, dict):
        return all(map(finite, figures.values()))
    return not isinstance(figures, float) or math.isfinite(figures)


def assert_ends_well(result: Any, folder: Path) -> None:
    assert (result.code, result.err) == (0, "")
    assert finite(json.loads((folder / "metrics.json").read_text()))


@pytest.mark.parametrize("level", ["char", "word"])
def test_a_text_of_one_token(start: Run, tmp_path: Path, level: str) -> None:
    file = tmp_path / "a.txt"
    file.write_text("a" * 2000 if level == "char" else "a " * 2000)
    assert_ends_well(start("train_text_generator", data=file, level=level), tmp_path / "run")


def test_a_window_of_one_token(start: Run, tmp_path: Path, text_file: Path) -> None:
    assert_ends_well(start("train_text_generator", data=text_file, window=1), tmp_path / "run")


@pytest.mark.parametrize("level", ["char", "word"])
def test_texts_of_one_token_of_which_one_alone_has_its_label(start: Run, tmp_path: Path, level: str) -> None:
    texts = [f"{'b' if number % 2 else 'a'},{'x' * (1 + number % 3)}" for number in range(20)]
    file = lines(tmp_path / "texts.csv", "label,text", *texts, "c,y")
    for balanced in ([], ["--balanced"]):
        result = start("train_text_classifier", "--overwrite", *balanced, data=file, level=level, min_frequency=1)
        assert_ends_well(result, tmp_path / "run")


def test_texts_with_no_label_at_all(start: Run, tmp_path: Path) -> None:
    texts = [f'{"a" if number == 3 else ""},"text {number}"' for number in range(20)]
    file = lines(tmp_path / "texts.csv", "label,text", *texts)
    for balanced in ([], ["--balanced"]):
        options = {"data": file, "multi_label": True, "label_separator": "+"}
        assert_ends_well(start("train_text_classifier", "--overwrite", *balanced, **options), tmp_path / "run")


@pytest.mark.parametrize("attention", ["multihead", "none"])
@pytest.mark.parametrize("level", ["char", "word"])
def test_sentences_of_one_token(start: Run, tmp_path: Path, level: str, attention: str) -> None:
    for language, word in (("en", "a"), ("fr", "b")):
        for split in ("train", "val"):
            lines(tmp_path / "data" / f"{split}.{language}", *[word] * 9)
    result = start("train_translator", data=tmp_path / "data", level=level, attention=attention, min_frequency=1)
    assert_ends_well(result, tmp_path / "run")


@pytest.mark.parametrize("attention", ["multihead", "none"])
def test_captions_of_one_word(start: Run, tmp_path: Path, attention: str) -> None:
    for number in range(12):
        lines(tmp_path / "photos" / "captions.txt", *(f"{n}.png#0\ta" for n in range(12)))
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
    result = start("train_image_captioner", data=tmp_path / "photos", attention=attention)
    assert_ends_well(result, tmp_path / "run")


def test_images_of_which_one_alone_has_its_label(start: Run, tmp_path: Path) -> None:
    for number in range(21):
        file = tmp_path / "images" / ("c" if number == 20 else "ab"[number % 2]) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * number, 0, 0)).save(file)
    assert_ends_well(start("train_image_classifier", data=tmp_path / "images"), tmp_path / "run")


def test_an_evaluation_that_fails_for_another_reason_says_so(
    start: Run, train_script: ModuleType, monkeypatch: pytest.MonkeyPatch, text_file: Path
) -> None:
    def fail(self: Any) -> dict[str, float]:
        raise ZeroDivisionError("nothing to do with the weights")

    monkeypatch.setattr(train_script.LanguageModelling, "evaluate", fail)
    with pytest.raises(ZeroDivisionError, match="nothing to do with the weights"):
        start("train_text_generator", data=text_file)


def test_it_goes_on_from_the_last_save_at_a_lower_rate(
    start: Run, train_script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text_file: Path
) -> None:
    options = {"data": text_file, "max_steps": 6, "evaluations": 1, "save_minutes": 1e-9}
    loss = train_script.LanguageModelling.loss
    rates = []

    def broken(self: Any, batch: Any, carry: Any) -> Any:
        value, carry = loss(self, batch, carry)
        rates.append(value)
        return value * (torch.nan if len(rates) > 3 else 1), carry

    monkeypatch.setattr(train_script.LanguageModelling, "loss", broken)
    assert "and --resume goes on from it with them" in start("train_text_generator", **options).err
    monkeypatch.undo()
    steps = []
    step = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW, *arguments: Any) -> Any:
        steps.append(self.param_groups[0]["peak_lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    lower = {"learning_rate": 1e-4, "matrix_learning_rate": 1e-4, "gradient_clip": 0.1}
    assert_ends_well(start("train_text_generator", "--resume", **options, **lower), tmp_path / "run")
    assert steps == [1e-4] * 3


@pytest.mark.parametrize("script", ["train_text_generator", "train_translator"])
def test_a_loss_that_is_finite_but_has_no_finite_perplexity(
    start: Run, request: pytest.FixtureRequest, tmp_path: Path, script: str
) -> None:
    data = request.getfixturevalue(TASKS[script][0])
    changes = {"learning_rate": 1e4, "optimizer": "adamw", "warmup": 0, "max_steps": 2, "evaluations": 1}
    result = start(script, data=data, **changes)
    assert_ends_well(result, tmp_path / "run")
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())["validation"]
    assert figures["nats_per_token"] > 710
    assert figures["perplexity"] == sys.float_info.max
