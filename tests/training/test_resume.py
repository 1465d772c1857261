"""A run that was stopped and resumed is, bit for bit, the run that was not."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from zoo.errors import InputError
from zoo.training import Outcome

Run = Callable[..., Outcome]
TIMES = ("training_minutes", "tokens_per_second")
DROPOUTS = {
    "num_layers": 2,
    "dropout": 0.3,
    "input_dropout": 0.1,
    "embedding_dropout": 0.1,
    "ngram_dropout": 0.2,
}


def stop_at(*calls: int, number: int = signal.SIGINT) -> Callable[[int], None]:
    """For `before_loss`: a signal while the batch of that number is computed, which is then still finished."""
    return lambda call: os.kill(os.getpid(), number) if call in calls else None


def timeless(outcome: Outcome) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name not in TIMES} for line in outcome.history]


def assert_same_tensors(a: Path, b: Path) -> None:
    first, second = load_file(a), load_file(b)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize(
    ("options", "architecture"),
    [
        ({"optimizer": "muon", "precision": "float32"}, {"cell": "lstm", "weight_dropout": 0.1} | DROPOUTS),
        ({"optimizer": "muon", "precision": "bfloat16"}, {"cell": "gru", "residual": True} | DROPOUTS),
        ({"optimizer": "adamw", "precision": "float32"}, {"cell": "mingru", "tied": True} | DROPOUTS),
        ({"optimizer": "adamw", "precision": "bfloat16"}, {"cell": "lstm"} | DROPOUTS),
        ({"optimizer": "muon", "accumulate": 2}, {"cell": "rnn"} | DROPOUTS),
    ],
)
def test_stopped_twice_equals_unbroken(
    run_training: Run,
    text_task: Any,
    tmp_path: Path,
    options: dict[str, Any],
    architecture: dict[str, Any],
) -> None:
    options = {"max_steps": 14, "evaluations": 4} | options
    unbroken = text_task(**architecture)
    torch.manual_seed(7)
    expected = run_training(unbroken, out=tmp_path / "unbroken", **options)
    assert expected.progress.epoch >= 1

    parts = [text_task(before_loss=stop_at(n), **architecture) for n in (6, 5)] + [text_task(**architecture)]
    for number, part in enumerate(parts):
        torch.manual_seed(7 if number == 0 else 100 + number)  # a new process knows nothing of the old stream
        outcome = run_training(part, out=tmp_path / "broken", resume=number > 0, **options)
        assert outcome.signal_number == (None if number == 2 else signal.SIGINT)
        assert outcome.progress.ended == (number == 2)

    assert all(part.losses for part in parts)
    assert [batch for part in parts for batch in part.seen] == unbroken.seen
    assert [loss for part in parts for loss in part.losses] == unbroken.losses
    assert timeless(outcome) == timeless(expected)
    for name in ("model.safetensors", "samples.txt", "config.json", "tokenizer.json"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes(), name
    assert_same_tensors(tmp_path / "broken" / "resume.safetensors", tmp_path / "unbroken" / "resume.safetensors")
    assert (outcome.progress.best, outcome.progress.best_step) == (expected.progress.best, expected.progress.best_step)


def test_it_stops_after_the_batch_in_hand(run_training: Run, text_task: Any) -> None:
    task = text_task(before_loss=stop_at(3, number=signal.SIGTERM))
    outcome = run_training(task, max_steps=9, evaluations=3)
    assert outcome.signal_number == signal.SIGTERM
    assert (outcome.progress.step, len(task.losses)) == (3, 3)
    assert [line["step"] for line in outcome.history] == [3]


def test_a_signal_in_the_last_step_does_not_unfinish_a_run(run_training: Run, text_task: Any) -> None:
    outcome = run_training(text_task(before_loss=stop_at(4)), max_steps=4, evaluations=1)
    assert outcome.signal_number is None
    assert outcome.progress.ended


@pytest.mark.parametrize("stop", [1, 2, 9])
def test_a_stop_in_the_middle_of_an_accumulated_step(run_training: Run, text_task: Any, stop: int) -> None:
    task = text_task(before_loss=stop_at(stop))
    outcome = run_training(task, max_steps=5, accumulate=3, evaluations=1)
    assert len(task.losses) == 3 * outcome.progress.step == 3 * -(-stop // 3)


def test_work_after_the_last_save_is_done_again(run_training: Run, text_task: Any, tmp_path: Path) -> None:
    """As after a kill: the folder has a newer evaluation, best model and sample than the save."""
    unbroken = text_task(**DROPOUTS)
    expected = run_training(unbroken, out=tmp_path / "unbroken", max_steps=12, evaluations=4)
    run_training(text_task(before_loss=stop_at(4), **DROPOUTS), max_steps=12, evaluations=4)
    save = (tmp_path / "run" / "resume.safetensors").read_bytes()
    run_training(text_task(before_loss=stop_at(4), **DROPOUTS), max_steps=12, evaluations=4, resume=True)
    (tmp_path / "run" / "resume.safetensors").write_bytes(save)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "epo')
    outcome = run_training(text_task(**DROPOUTS), max_steps=12, evaluations=4, resume=True)
    assert timeless(outcome) == timeless(expected)
    for name in ("model.safetensors", "samples.txt"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()


def test_a_finished_run_is_resumed_as_it_is(run_training: Run, text_task: Any, tmp_path: Path) -> None:
    run_training(text_task(), max_steps=4, evaluations=2)
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    task = text_task()
    outcome = run_training(task, max_steps=4, evaluations=2, resume=True)
    assert outcome.progress.ended
    assert outcome.signal_number is None
    assert task.losses == []
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before


def test_a_finished_run_can_be_made_longer(run_training: Run, text_task: Any) -> None:
    run_training(text_task(), max_steps=4, evaluations=2)
    task = text_task()
    outcome = run_training(task, max_steps=10, evaluations=2, resume=True)
    assert len(task.losses) == 6
    assert [line["step"] for line in outcome.history] == [2, 4, 5, 10]


def test_a_run_out_of_patience_stays_ended_and_goes_on_with_more(run_training: Run, line_task: Any) -> None:
    figures = [1.0, 2.0, 3.0]
    run_training(line_task(figures=figures), max_steps=10, evaluations=5, patience=2)
    same = line_task(figures=figures)
    assert run_training(same, max_steps=10, evaluations=5, patience=2, resume=True).progress.step == 6
    assert same.calls == 0
    more = line_task(figures=[4.0, 5.0])
    assert run_training(more, max_steps=10, evaluations=5, patience=9, resume=True).progress.step == 10


def test_a_run_of_another_seed_is_not_resumed(run_training: Run, text_task: Any) -> None:
    run_training(text_task(before_loss=stop_at(2)), max_steps=4, evaluations=2)
    with pytest.raises(InputError, match="cannot be resumed with other options: seed was 0 and is 1"):
        run_training(text_task(), max_steps=4, evaluations=2, seed=1, resume=True)


def test_saves_as_often_as_asked(run_training: Run, text_task: Any, tmp_path: Path) -> None:
    save = tmp_path / "run" / "resume.safetensors"
    there: list[bool] = []
    for minutes in (60.0, 1e-9):
        task = text_task(before_loss=lambda call: there.append(save.exists()))
        run_training(task, max_steps=3, evaluations=1, save_minutes=minutes, overwrite=True)
    assert there == [False, False, False, False, True, True]
