"""Runs of a captioner that are stopped and resumed, repeated, or would be overwritten."""

import json
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from zoo.one_to_many import ImageCaptioner

pytestmark = pytest.mark.usefixtures("without_pictures")
Run = Callable[..., Any]
TIMES = ("training_minutes", "tokens_per_second")


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals | None) -> None:
    """The run gets a signal in its `step`-th batch, or dies there."""
    steps = []
    loss = ImageCaptioner.loss

    def stopping(self: ImageCaptioner, *arguments: Any) -> torch.Tensor:
        steps.append(1)
        if len(steps) == step:
            if number is None:
                raise KeyboardInterrupt
            signal.raise_signal(number)
        return loss(self, *arguments)

    monkeypatch.setattr(ImageCaptioner, "loss", stopping)


def history(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in found]


def assert_same_end(whole: Path, cut: Path) -> None:
    ends = [load_file(folder / "resume.safetensors") for folder in (whole, cut)]
    assert ends[0].keys() == ends[1].keys()
    assert [name for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])] == []
    for name in ("model.safetensors", "config.json", "samples.txt", "test_captions.txt", "test_worst.jsonl"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name
    assert history(whole) == history(cut)


@pytest.mark.parametrize(
    ("number", "code", "options"),
    [
        (signal.SIGTERM, 143, {"level": "bpe", "weight_dropout": 0.1, "augment": "shift"}),
        (signal.SIGINT, 130, {"frozen": True, "cell": "mingru", "attention": "additive", "accumulate": 2}),
        (signal.SIGTERM, 143, {"frozen": True, "finetune": 0.5, "finetune_from": 0.25, "captions_per_image": 2}),
        (None, 130, {"frozen": True, "finetune": 0.1, "finetune_from": 0.5, "optimizer": "adamw"}),
    ],
    ids=["learning", "frozen", "thawed", "dies"],
)
def test_resumed_it_ends_bit_for_bit_as_if_never_stopped(
    train_captioner: Run,
    run: Run,
    train_captioner_script: ModuleType,
    trunk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals | None,
    code: int,
    options: dict[str, object],
) -> None:
    options = {"max_steps": 8, "evaluations": 4, "dropout": 0.2, **options}
    if options.pop("frozen", False):
        options |= {"weights": trunk, "cache": tmp_path / "cache"}
    assert train_captioner(tmp_path / "whole", **options).code == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 6, number)
        stopped = train_captioner(tmp_path / "cut", **options)
    assert (stopped.code, stopped.err) == (code, "")
    assert not (tmp_path / "cut" / "metrics.json").exists()
    command = ["--config", str(tmp_path / "cut" / "config.yaml"), "--resume"]
    if number is not None:
        said, shown = stopped.out.rstrip("\n").splitlines()[-2:]
        assert said.startswith("stopped at step ")
        assert shlex.split(shown)[2:] == command
    result = run(train_captioner_script, *command)
    assert (result.code, result.err) == (0, "")
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_the_seed_decides(train_captioner: Run, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert train_captioner(tmp_path / name, seed=seed, dropout=0.2, augment="shift+flip").code == 0
    assert_same_end(tmp_path / "a", tmp_path / "b")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] != weights[2]


def test_a_run_goes_on_with_the_same_captions_and_images_only(
    train_captioner: Run, photos: Path, trunk: Path, tmp_path: Path
) -> None:
    """Whether it sees images or cached features of them."""
    data = tmp_path / "data"
    options: dict[str, object]
    for options in ({}, {"weights": trunk, "cache": tmp_path / "cache"}):
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(photos, data)
        out = tmp_path / f"run {len(options)}"
        assert train_captioner(out, data=data, **options).code == 0
        assert train_captioner(out, "--resume", data=data, max_steps=4, **options).code == 0
        captions = (data / "captions.txt").read_text("utf-8")
        (data / "captions.txt").write_text(captions.replace("red on", "blue on"), encoding="utf-8")
        said = "was trained on other data, or with another tokenizer, than --data gives now"
        resumed = train_captioner(out, "--resume", data=data, max_steps=5, **options)
        assert (resumed.code, said in resumed.err) == (2, True)
        (data / "captions.txt").write_text(captions, encoding="utf-8")
        image = next((data / "train").glob("*.png"))
        Image.new("RGB", (20, 14)).save(image)
        resumed = train_captioner(out, "--resume", data=data, max_steps=5, **options)
        assert (resumed.code, said in resumed.err) == (2, True)


def test_a_run_is_overwritten_only_when_told(train_captioner: Run, tmp_path: Path) -> None:
    assert train_captioner(tmp_path / "run", attention="none").code == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    assert train_captioner(tmp_path / "run").is_an_error("holds a run: add --resume")
    assert train_captioner(tmp_path / "run", "--overwrite", backbone="x").is_an_error("backbone is 'x'")
    changed = train_captioner(tmp_path / "run", "--resume")
    assert changed.code == 2
    assert "cannot be resumed with other options: attention was 'none' and is 'multihead'" in changed.err
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before
    assert train_captioner(tmp_path / "run", "--overwrite", attention="general").code == 0
    pictures = {"validation_attention.png", "test_attention.png"}
    assert {file.name for file in (tmp_path / "run").iterdir()} == before.keys() | pictures
