"""The training loop: what it computes, when it evaluates, when it ends and what it keeps."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file
from torch import Tensor, nn

from zoo.errors import InputError
from zoo.one_to_many import TextGenerator
from zoo.training import Outcome
from zoo.training.optimizer import warmup_cosine

Run = Callable[..., Outcome]


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def assert_same_weights(a: nn.Module, b: nn.Module, **tolerance: float) -> None:
    for name, value in weights(a).items():
        torch.testing.assert_close(weights(b)[name], value, **(tolerance or {"rtol": 0, "atol": 0}))


def steps(outcome: Outcome) -> list[int]:
    return [line["step"] for line in outcome.history]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_loss_goes_down(run_training: Run, text_task: Any, optimizer: str, precision: str) -> None:
    task = text_task()
    outcome = run_training(task, precision=precision, optimizer=optimizer, max_steps=60, evaluations=3)
    values = [line["nats_per_token"] for line in outcome.history]
    assert values == sorted(values, reverse=True)
    assert min(task.losses) < 0.87 * task.losses[0]
    assert task.losses[0] == pytest.approx(math.log(task.model.decoder.vocab_size), rel=0.1)


def test_one_process_trains_in_both_precisions_and_on_another_device(
    run_training: Run, text_task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """accelerate keeps a precision and a device for the whole process, and refuses others."""
    for number, precision in enumerate(("float32", "bfloat16", "float32")):
        run_training(text_task(), out=tmp_path / f"{number}", precision=precision, max_steps=1)
    monkeypatch.setitem(PartialState._shared_state, "device", torch.device("cuda"))
    run_training(text_task(), out=tmp_path / "other device", max_steps=1)


def test_one_step_of_adamw_by_hand(run_training: Run, line_task: Any) -> None:
    """The first step is lr · sign(gradient), decayed before: lr · schedule(0) would be 0, so there is no warm-up."""
    task = line_task()
    before = weights(task.model)
    loss, _ = task.loss(task.batch(0, 0), ())
    gradients = dict(zip(before, torch.autograd.grad(loss, list(task.model.parameters())), strict=True))
    run_training(task, optimizer="adamw", learning_rate=0.01, weight_decay=0.5, warmup=0, max_steps=1, evaluations=1)
    after = weights(task.model)
    torch.testing.assert_close(
        after["layer.weight"], before["layer.weight"] * (1 - 0.01 * 0.5) - 0.01 * gradients["layer.weight"].sign()
    )
    torch.testing.assert_close(after["layer.bias"], before["layer.bias"] - 0.01 * gradients["layer.bias"].sign())


def test_the_learning_rate_follows_the_schedule(
    run_training: Run, line_task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = []
    step = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    run_training(line_task(), optimizer="adamw", learning_rate=0.1, warmup=0.25, max_steps=8, evaluations=1)
    assert rates == pytest.approx([0.1 * warmup_cosine(step / 8, 0.25) for step in range(8)])
    assert max(rates) == 0.1


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_accumulated_batches_are_one_large_batch(run_training: Run, line_task: Any, optimizer: str) -> None:
    whole, halves = line_task(rows=8), line_task(rows=4)
    options = {"optimizer": optimizer, "learning_rate": 0.05, "max_steps": 11, "evaluations": 2}
    first = run_training(whole, **options)
    second = run_training(halves, overwrite=True, accumulate=2, **options)
    assert_same_weights(whole.model, halves.model, rtol=1e-5, atol=1e-6)
    assert (whole.calls, halves.calls) == (11, 22)
    assert steps(first) == steps(second)
    assert first.progress.tokens == second.progress.tokens == 88


def test_accumulation_past_the_end_of_an_epoch(run_training: Run, line_task: Any) -> None:
    outcome = run_training(line_task(), epochs=1, accumulate=3, evaluations=1)  # 8 batches: 3 + 3 + 2 + 1
    assert (outcome.progress.step, outcome.progress.epoch, outcome.progress.batch) == (3, 1, 1)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_the_gradient_is_clipped(
    run_training: Run, line_task: Any, monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    norms, raw = [], []
    step = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW, *arguments: Any) -> Any:
        parameters = [p for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.stack([p.grad.norm() for p in parameters]).norm()))
        return step(self, *arguments)

    def change(loss: Tensor, call: int) -> Tensor:
        gradients = torch.autograd.grad(loss * scale, list(task.model.parameters()), retain_graph=True)
        raw.append(float(torch.stack([g.norm() for g in gradients]).norm()))
        return loss * scale

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    task = line_task(change_loss=change)
    run_training(task, optimizer="adamw", gradient_clip=3 * scale, max_steps=12, evaluations=1, learning_rate=0.2)
    assert norms == pytest.approx([min(norm, 3 * scale) for norm in raw], rel=1e-4)
    assert min(raw) < 3 * scale < max(raw)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_steps": 10, "evaluations": 5}, [2, 4, 6, 8, 10]),
        ({"max_steps": 10, "evaluations": 3}, [4, 7, 10]),
        ({"max_steps": 3, "evaluations": 10}, [1, 2, 3]),
        ({"max_steps": 7, "evaluations": 1}, [7]),
        ({"epochs": 2, "evaluations": 4}, [4, 8, 12, 16]),
        ({"epochs": 0.5, "evaluations": 2}, [2, 4]),
        ({"epochs": 0.3, "evaluations": 1}, [3]),
        ({"epochs": 3, "max_steps": 10, "evaluations": 1}, [10]),
        ({"epochs": 1, "max_steps": 100, "evaluations": 2}, [4, 8]),
        ({"max_minutes": 1e-9, "max_steps": 50, "evaluations": 10}, [1]),
    ],
)
def test_when_it_evaluates_and_ends(
    run_training: Run, line_task: Any, options: dict[str, Any], expected: list[int]
) -> None:
    outcome = run_training(line_task(), **options)
    assert steps(outcome) == expected
    assert outcome.progress.step == expected[-1]
    assert outcome.progress.ended
    assert outcome.signal_number is None


def test_it_ends_by_the_clock(run_training: Run, line_task: Any) -> None:
    outcome = run_training(line_task(), max_minutes=0.2 / 60, evaluations=3)
    assert 0.2 <= outcome.progress.training_seconds < 20
    assert len(outcome.history) >= 1
    assert outcome.progress.step > 1


@pytest.mark.parametrize(("higher", "sign"), [(False, 1), (True, -1)])
def test_patience(run_training: Run, line_task: Any, higher: bool, sign: int) -> None:
    figures = [sign * value for value in (5.0, 4.0, 4.5, 4.0, 3.9, 6.0, 3.9, 4.0, 1.0, 1.0)]
    outcome = run_training(
        line_task(figures=figures, higher_is_better=higher), max_steps=20, evaluations=10, patience=3
    )
    assert steps(outcome)[-1] == 16  # the eighth evaluation is the third after 3.9
    assert (outcome.progress.best, outcome.progress.best_step) == (sign * 3.9, 10)
    assert outcome.progress.ended


@pytest.mark.parametrize(("higher", "best"), [(False, 2), (True, 0)])
def test_the_best_weights_are_kept_and_not_the_last(
    run_training: Run, line_task: Any, tmp_path: Path, higher: bool, best: int
) -> None:
    task = line_task(figures=[5.0, 4.0, 3.0, 4.0], higher_is_better=higher)
    run_training(task, max_steps=8, evaluations=4)
    kept = type(task.model).from_pretrained(tmp_path / "run").layer.weight
    torch.testing.assert_close(kept, task.evaluated[best], rtol=0, atol=0)
    assert not torch.equal(kept, task.evaluated[3])


@pytest.mark.parametrize("kind", [math.nan, math.inf])
def test_a_loss_that_is_not_finite(run_training: Run, line_task: Any, tmp_path: Path, kind: float) -> None:
    task = line_task(change_loss=lambda loss, call: loss * kind if call == 11 else loss)
    with pytest.raises(InputError, match=f"the loss is {kind} at step 10, epoch 1, batch 2: lower --learning_rate"):
        run_training(task, max_steps=20, evaluations=4)
    # What was saved at step 10 is whole and finite, and a run can go on from there.
    good = line_task()
    outcome = run_training(good, max_steps=20, evaluations=4, resume=True)
    assert good.calls == 10
    assert steps(outcome) == [5, 10, 15, 20]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gradient_too_large_for_floats(run_training: Run, line_task: Any, precision: str) -> None:
    """bfloat16 overflows where float32 does, so that no loss is scaled and none has to be scaled back."""

    def steepen(loss: Tensor, call: int) -> Tensor:
        if call == 3:
            loss.register_hook(lambda gradient: gradient * 3e38)
        return loss

    task = line_task(change_loss=steepen)
    with pytest.raises(InputError, match="the gradient is inf at step 2, epoch 0, batch 2: lower --learning_rate"):
        run_training(task, precision=precision, max_steps=6, evaluations=3)
    assert all(parameter.isfinite().all() for parameter in task.model.parameters())


def test_weights_too_large_for_floats_are_not_saved(run_training: Run, line_task: Any, tmp_path: Path) -> None:
    """Decay alone, of so large a rate, takes them there from fine gradients."""
    task = line_task(change_loss=lambda loss, call: task.model.layer.weight.sum() * 0)
    options = {"optimizer": "adamw", "learning_rate": 1e20, "weight_decay": 1.0, "warmup": 0}
    with pytest.raises(InputError, match="the largest weight or state is inf at step 2, epoch 0, batch 2: lower"):
        run_training(task, max_steps=9, evaluations=1, save_minutes=1e-9, **options)
    save = load_file(tmp_path / "run" / "resume.safetensors")
    assert all(tensor.isfinite().all() for tensor in save.values())


def test_a_gradient_that_is_not_finite_reaches_neither_weights_nor_save(run_training: Run, line_task: Any) -> None:
    # The square root of 0 has an infinite slope, though 0 is a fine loss.
    task = line_task(change_loss=lambda loss, call: loss + ((loss * 0).sqrt() if call == 10 else 0))
    with pytest.raises(InputError, match=r"the gradient is .* at step 9, epoch 1, batch 1"):
        run_training(task, max_steps=20, evaluations=4)
    assert all(value.isfinite().all() for value in weights(task.model).values())
    good = line_task()
    run_training(good, max_steps=20, evaluations=4, resume=True)
    assert good.calls == 15


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_evaluations_are_not_felt_in_training(run_training: Run, text_task: Any, precision: str) -> None:
    tasks = [text_task(dropout=0.3, embedding_dropout=0.2, num_layers=2) for _ in range(2)]
    for task, evaluations in zip(tasks, (1, 10), strict=True):
        torch.manual_seed(5)
        run_training(task, precision=precision, max_steps=20, evaluations=evaluations, overwrite=True)
    assert_same_weights(*(task.model for task in tasks))
    assert tasks[0].losses == tasks[1].losses


def test_dropout_is_drawn_in_training_and_not_in_evaluation(run_training: Run, text_task: Any) -> None:
    task = text_task(dropout=0.5)
    modes: list[bool] = []
    task.before_loss = lambda call: modes.append(task.model.training)
    evaluate = task.evaluate
    task.evaluate = lambda: (modes.append(task.model.training), evaluate())[1]
    run_training(task, max_steps=2, evaluations=2)
    assert modes == [True, False, True, False]


def test_the_state_is_carried_within_an_epoch_and_not_past_it(run_training: Run, text_task: Any) -> None:
    task = text_task()
    carried = []
    loss = task.loss
    task.loss = lambda batch, carry: (carried.append((batch.first, len(carry))), loss(batch, carry))[1]
    run_training(task, epochs=2, evaluations=1)
    batches = [task.num_batches(epoch) for epoch in (0, 1)]
    assert min(batches) > 2
    assert carried[0] == (True, 0)
    assert carried[1:] == [(batches[0] == k, 3) for k in range(1, sum(batches))]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_computes_in_the_precision_asked_for(run_training: Run, text_task: Any, precision: str) -> None:
    task = text_task()
    seen = set()
    task.model.decoder.core.register_forward_hook(
        lambda module, inputs, result: seen.add(result[0].dtype) if task.model.training else None
    )
    run_training(task, precision=precision, max_steps=2, evaluations=1)
    assert seen == {getattr(torch, precision)}
    assert {parameter.dtype for parameter in task.model.parameters()} == {torch.float32}


def test_what_an_evaluation_writes(
    run_training: Run, text_task: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = text_task()
    outcome = run_training(task, max_steps=4, evaluations=2)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines == outcome.history
    assert list(lines[0]) == [
        "step",
        "epoch",
        "training_minutes",
        "tokens_per_second",
        "training_loss",
        "nats_per_token",
    ]
    assert lines[1]["epoch"] == pytest.approx(4 / task.num_batches(0), abs=1e-3)
    assert lines[1]["nats_per_token"] == pytest.approx(task.evaluate()["nats_per_token"])
    running = task.losses[0]
    for loss in task.losses:
        running = 0.98 * running + 0.02 * loss
    assert lines[1]["training_loss"] == pytest.approx(running)
    samples = (tmp_path / "run" / "samples.txt").read_text()
    assert samples.startswith("--- step 2 ---\n")
    assert samples.endswith(f"--- step 4 ---\n{task.sample()}\n\n")
    shown = capsys.readouterr().out
    assert f"nats_per_token {lines[1]['nats_per_token']:.4g}" in shown
    model = TextGenerator.from_pretrained(tmp_path / "run")
    assert_same_weights(model, task.model)


def test_tensorboard(run_training: Run, line_task: Any, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    outcome = run_training(line_task(), max_steps=4, evaluations=2, tensorboard=True)
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    written = [(event.step, event.value) for event in events.Scalars("error")]
    assert written == [(line["step"], pytest.approx(line["error"])) for line in outcome.history]
