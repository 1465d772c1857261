"""Runs of a translator that are stopped and resumed, repeated, or would be overwritten."""

import json
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from zoo.seq2seq import Translator

Run = Callable[..., Any]
TIMES = ("training_minutes", "tokens_per_second")


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals | None) -> None:
    """The run gets a signal in its `step`-th step, or dies there."""
    steps = []
    loss = Translator.loss

    def stopping(self: Translator, *arguments: Any, **options: Any) -> torch.Tensor:
        steps.extend([1] * self.training)  # evaluation has losses too
        if self.training and len(steps) == step:
            if number is None:
                raise KeyboardInterrupt
            signal.raise_signal(number)
        return loss(self, *arguments, **options)

    monkeypatch.setattr(Translator, "loss", stopping)


def history(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in found]


def assert_same_end(whole: Path, cut: Path) -> None:
    ends = [load_file(folder / "resume.safetensors") for folder in (whole, cut)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    for name in ("model.safetensors", "config.json", "samples.txt", "test_translations.txt"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name
    assert history(whole) == history(cut)


@pytest.mark.parametrize(
    ("number", "code", "options"),
    [
        (signal.SIGTERM, 143, {"level": "bpe", "joint": "true", "weight_dropout": 0.1}),
        (signal.SIGINT, 130, {"cell": "mingru", "encoder_cell": "gru", "attention": "additive", "accumulate": 2}),
        (None, 130, {"attention": "none", "embedding_dropout": 0.2, "optimizer": "adamw"}),
    ],
    ids=["SIGTERM", "SIGINT", "dies"],
)
def test_resumed_it_ends_bit_for_bit_as_if_never_stopped(
    train_translator: Run,
    run: Run,
    train_translator_script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals | None,
    code: int,
    options: dict[str, object],
) -> None:
    options = {"max_steps": 12, "evaluations": 4, "dropout": 0.2, **options}
    assert train_translator(tmp_path / "whole", **options).code == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 8, number)
        stopped = train_translator(tmp_path / "cut", **options)
    assert (stopped.code, stopped.err) == (code, "")
    assert not (tmp_path / "cut" / "metrics.json").exists()
    command = ["--config", str(tmp_path / "cut" / "config.yaml"), "--resume"]
    if number is not None:
        said, shown = stopped.out.rstrip("\n").splitlines()[-2:]
        assert said.startswith("stopped at step ")
        assert shlex.split(shown)[2:] == command
    result = run(train_translator_script, *command)
    assert (result.code, result.err) == (0, "")
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_the_seed_decides(train_translator: Run, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert train_translator(tmp_path / name, seed=seed, dropout=0.2).code == 0
    assert_same_end(tmp_path / "a", tmp_path / "b")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] != weights[2]


def test_a_run_is_overwritten_only_when_told(train_translator: Run, tmp_path: Path) -> None:
    assert train_translator(tmp_path / "run", attention="none").code == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    assert train_translator(tmp_path / "run").is_an_error("holds a run: add --resume")
    assert train_translator(tmp_path / "run", "--overwrite", target="de").is_an_error("train.de is missing")
    changed = train_translator(tmp_path / "run", "--resume")
    assert changed.code == 2
    assert "cannot be resumed with other options: attention was 'none' and is 'multihead'" in changed.err
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before
    assert train_translator(tmp_path / "run", "--overwrite").code == 0
    assert {file.name for file in (tmp_path / "run").iterdir()} == before.keys() | {"alignment.png"}
