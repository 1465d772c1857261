"""A run that was stopped and resumed is, bit for bit, the run that was not."""

import errno
import itertools
import os
import signal
import stat
from collections.abc import Callable, Iterator
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


def test_what_ended_a_run_is_said_when_it_is_resumed(
    run_training: Run, line_task: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run_training(line_task(), max_minutes=1e-9, evaluations=1)
    assert "has ended already" not in capsys.readouterr().out
    # As with a config.yaml that has the minutes that nobody asked for.
    outcome = run_training(line_task(), max_minutes=1e-9, epochs=20, evaluations=1, resume=True)
    assert outcome.progress.step == 1
    assert capsys.readouterr().out == (
        "this run has ended already, by max_minutes 1e-09: to go on, raise it, or give --max_minutes null and another "
        "limit\n"
    )
    longer = run_training(line_task(), epochs=0.5, evaluations=1, resume=True)
    assert longer.progress.step == 4
    assert "has ended already" not in capsys.readouterr().out
    run_training(line_task(), epochs=0.5, max_steps=2, evaluations=1, resume=True)
    assert "by max_steps 2, epochs 0.5: to go on" in capsys.readouterr().out


def test_a_run_that_is_cut_short_before_its_first_evaluation_is_evaluated(
    run_training: Run, text_task: Any, tmp_path: Path
) -> None:
    run_training(text_task(before_loss=stop_at(4)), max_steps=9, evaluations=1)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    task = text_task()
    for _ in range(2):
        outcome = run_training(task, max_steps=3, evaluations=1, resume=True)
        assert outcome.progress.ended and task.losses == []
        assert [line["step"] for line in outcome.history] == [outcome.progress.best_step] == [4]
        best = load_file(tmp_path / "run" / "model.safetensors")["decoder.output.bias"]
        assert torch.equal(best, load_file(tmp_path / "run" / SAVE)["model.decoder.output.bias"])


def test_a_finished_run_whose_best_weights_are_removed_has_its_last_ones(
    run_training: Run, text_task: Any, tmp_path: Path
) -> None:
    run_training(text_task(), max_steps=4, evaluations=2)
    (tmp_path / "run" / "model.safetensors").unlink()
    outcome = run_training(text_task(), max_steps=4, evaluations=2, resume=True)
    assert outcome.progress.best_step == 4
    assert (tmp_path / "run" / "model.safetensors").exists()


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


SAVE, PREVIOUS = "resume.safetensors", "resume.previous.safetensors"
EACH_STEP = {"max_steps": 10, "evaluations": 5, "save_minutes": 1e-9}


def turn_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def assert_same_run(a: Path, b: Path) -> None:
    assert_same_tensors(a / SAVE, b / SAVE)
    for name in ("model.safetensors", "samples.txt"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


@pytest.mark.parametrize("stop", [3, 4, 5, 10])
def test_resumed_from_the_save_before_equals_unbroken(
    run_training: Run, text_task: Any, tmp_path: Path, stop: int
) -> None:
    """An evaluation, and the best weights, may be newer than that save."""
    expected = run_training(text_task(**DROPOUTS), out=tmp_path / "unbroken", **EACH_STEP)
    run_training(text_task(before_loss=stop_at(stop), **DROPOUTS), **EACH_STEP)
    turn_a_bit(tmp_path / "run" / SAVE)
    with pytest.raises(InputError, match=r"resume\.safetensors is damaged .*: --resume_previous goes on from the save"):
        run_training(text_task(**DROPOUTS), resume=True, **EACH_STEP)
    again = text_task(**DROPOUTS)
    outcome = run_training(again, resume_previous=True, **EACH_STEP)
    assert len(again.losses) == 10 - (stop - 1)
    assert timeless(outcome) == timeless(expected)
    assert (outcome.progress.best, outcome.progress.best_step) == (expected.progress.best, expected.progress.best_step)
    assert_same_run(tmp_path / "run", tmp_path / "unbroken")


def test_the_save_before_becomes_the_last_one(run_training: Run, text_task: Any, tmp_path: Path) -> None:
    """Were it the damaged one, the next save would put that in the place of the good one."""
    run_training(text_task(before_loss=stop_at(5)), **EACH_STEP)
    previous = (tmp_path / "run" / PREVIOUS).read_bytes()
    turn_a_bit(tmp_path / "run" / SAVE)

    def die(call: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(text_task(before_loss=die), resume_previous=True, **EACH_STEP)
    assert (tmp_path / "run" / SAVE).read_bytes() == previous
    with pytest.raises(InputError, match="has no save before the last one: use --resume"):
        run_training(text_task(), resume_previous=True, **EACH_STEP)
    assert run_training(text_task(), resume=True, **EACH_STEP).progress.ended


def test_a_kill_between_the_two_moves_of_a_save(run_training: Run, text_task: Any, tmp_path: Path) -> None:
    run_training(text_task(**DROPOUTS), out=tmp_path / "unbroken", **EACH_STEP)
    run_training(text_task(before_loss=stop_at(5), **DROPOUTS), **EACH_STEP)
    (tmp_path / "run" / SAVE).rename(tmp_path / "run" / PREVIOUS)
    run_training(text_task(**DROPOUTS), resume=True, **EACH_STEP)
    assert_same_run(tmp_path / "run", tmp_path / "unbroken")
    assert_same_tensors(tmp_path / "run" / PREVIOUS, tmp_path / "unbroken" / PREVIOUS)


@pytest.mark.parametrize("is_removed", [False, True])
def test_best_weights_that_an_older_save_does_not_know_count_for_nothing(
    run_training: Run, line_task: Any, tmp_path: Path, is_removed: bool
) -> None:
    """They are of an evaluation that, with fewer of them from there on, is not made again."""
    options = {"max_steps": 8, "save_minutes": 1e-9}

    def die(loss: torch.Tensor, call: int) -> torch.Tensor:
        if call == 5:
            raise KeyboardInterrupt
        return loss

    with pytest.raises(KeyboardInterrupt):
        run_training(line_task(figures=[5.0, 1.0], change_loss=die), evaluations=4, **options)
    if is_removed:
        (tmp_path / "run" / "model.safetensors").unlink()
    task = line_task(figures=[7.0, 9.0, 9.0])
    outcome = run_training(task, evaluations=4, max_steps=40, save_minutes=1e-9, resume_previous=True, patience=2)
    # The save before is of step 3, whose best is of step 2: 5.0, not the 1.0 whose weights are in the folder.
    assert (outcome.progress.best, outcome.progress.best_step) == (7.0, 10)
    kept = type(task.model).from_pretrained(tmp_path / "run").layer.weight
    assert torch.equal(kept, task.evaluated[0])


def test_damaged_best_weights_are_named(run_training: Run, text_task: Any, tmp_path: Path) -> None:
    run_training(text_task(before_loss=stop_at(5)), **EACH_STEP)
    weights = tmp_path / "run" / "model.safetensors"
    turn_a_bit(weights)
    before = {file.name: file.read_bytes() for file in weights.parent.iterdir()}
    with pytest.raises(InputError, match=r"model.safetensors is damaged .*, or remove it: then the next evaluation"):
        run_training(text_task(), resume=True, **EACH_STEP)
    assert {file.name: file.read_bytes() for file in weights.parent.iterdir()} == before
    weights.unlink()
    outcome = run_training(text_task(), resume=True, **EACH_STEP)
    assert torch.equal(
        load_file(weights)["decoder.output.bias"], load_file(tmp_path / "run" / SAVE)["model.decoder.output.bias"]
    )
    assert outcome.progress.best_step == 10


def test_a_save_of_another_run_is_refused(run_training: Run, text_task: Any, tmp_path: Path) -> None:
    run_training(text_task(), max_steps=2, evaluations=1)
    run_training(text_task(), out=tmp_path / "other", max_steps=2, evaluations=1, seed=1, weight_decay=0.5)
    (tmp_path / "other" / SAVE).replace(tmp_path / "run" / SAVE)
    with pytest.raises(InputError, match=r"the save in .* is of a run with another seed, weight_decay: put"):
        run_training(text_task(), max_steps=4, evaluations=1, resume=True)


def test_whatever_cannot_be_written_leaves_the_last_good_save(
    run_training: Run, text_task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the n-th file, for every n, and has room again when the run is resumed."""
    options = {"max_steps": 4, "evaluations": 2, "save_minutes": 1e-9}
    run_training(text_task(**DROPOUTS), out=tmp_path / "unbroken", **options)
    fsync = os.fsync
    failed: list[str] = []
    for number in itertools.count():
        out, left = tmp_path / f"full at {number}", iter(range(number))

        def flush(descriptor: int, left: Iterator[int] = left) -> None:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and next(left, None) is None:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", flush)
            try:
                run_training(text_task(**DROPOUTS), out=out, **options)
                break
            except OSError as full:
                error = full
        assert str(error).startswith("[Errno 28] No space left on device: ")
        failed.append(Path(error.filename).name)
        assert not list(out.glob("*.partial"))
        is_saved = (out / SAVE).exists()
        run_training(text_task(**DROPOUTS), out=out, resume=is_saved, overwrite=not is_saved, **options)
        assert_same_run(out, tmp_path / "unbroken")
    assert failed.count(SAVE) == 4
    assert {"config.yaml", "config.json", "model.safetensors", "metrics.jsonl", "samples.txt"} < set(failed)
