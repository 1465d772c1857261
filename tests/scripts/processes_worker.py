"""What two processes check together, started once by torchrun: `processes_worker.py RUNS RESULTS`.

RUNS is a JSON object {name: [script, arguments]} of tiny runs; RESULTS a folder in which each process writes
`{rank}.json`: {check: why it failed, or null}.
"""

import importlib.util
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from zoo.errors import InputError, OtherProcessError

SCRIPTS = Path(__file__).parents[2] / "scripts"
RANK = int(os.environ["RANK"])
FITTED = ("bag.table", "bag.bias", "pool")  # before or between the steps


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(module: ModuleType, *arguments: object, seen: dict[str, Any] | None = None) -> Any:
    """The script's exit code, without the final figures; `seen` gets what `train` takes and returns."""
    train, noted = module.train, {} if seen is None else seen

    def watched(task: Any, options: Any, run: Any, processes: Any, precision: Any) -> Any:
        noted.update(task=task, options=options, processes=processes)
        noted["outcome"] = train(task, options, run, processes, precision)
        return replace(noted["outcome"], is_main=False)

    sys.argv = [str(module.__file__), *map(str, arguments)]
    module.train = watched  # type: ignore[attr-defined]
    try:
        return module.main()
    finally:
        module.train = train  # type: ignore[attr-defined]


def gradients_are_those_of_one_process(script: str, arguments: list[str], out: Path) -> None:
    """At each step, and so also after carried states, for uneven batches, and before and after layers thaw."""
    module = load(script)
    steps: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def note(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if isinstance(optimizer, torch.optim.AdamW):  # it is the first to step
            parameters = {name: p for name, p in seen["task"].model.named_parameters() if name not in FITTED}
            gradients = {name: None if p.grad is None else p.grad.clone() for name, p in parameters.items()}
            steps.append(({name: p.detach().clone() for name, p in parameters.items()}, gradients))

    seen: dict[str, Any] = {}
    hook = register_optimizer_step_pre_hook(note)
    assert start(module, *arguments, "--out", out, seen=seen) == 0
    hook.remove()
    task, options = seen["task"], seen["options"]
    task.model.train()
    carry: Any = ()
    place = (0, 0)
    sizes = set()
    for number, (before, gradients) in enumerate(steps):
        parameters = {name: p for name, p in task.model.named_parameters() if name not in FITTED}
        with torch.no_grad():
            for name, value in before.items():
                parameters[name].copy_(value)
                parameters[name].requires_grad_(gradients[name] is not None)
                parameters[name].grad = None
        batch = task.batch(*place)
        sizes.add(len(batch[0]))
        place = (place[0], place[1] + 1) if place[1] + 1 < task.num_batches(place[0]) else (place[0] + 1, 0)
        loss, carry = task.loss(batch, carry)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.model.parameters(), options.gradient_clip)
        for name, parameter in parameters.items():
            said = f"step {number}, {name}: {{}}".format
            if gradients[name] is None:
                assert parameter.grad is None or not parameter.grad.any(), name
            else:
                torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-5, atol=1e-6, msg=said)
    assert len(steps) == options.max_steps
    assert len(sizes) > 1 or script == "train_text_generator", "no batch was smaller than the others"
    frozen = [any(gradient is None for gradient in gradients.values()) for _, gradients in steps]
    late = getattr(getattr(task, "options", None), "finetune_from", 0) > 0
    assert frozen == ([True, True, False, False] if late else [False] * len(steps))


def stopped_by_a_signal_to_one_and_resumed(script: str, arguments: list[str], out: Path) -> None:
    module = load(script)
    task = module.LanguageModelling
    loss, calls = task.loss, []

    def interrupted(self: Any, batch: Any, carry: Any) -> Any:
        calls.append(batch)
        if RANK == 1 and len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(self, batch, carry)

    task.loss = interrupted
    assert start(module, *arguments, "--out", out / "broken") == 128 + signal.SIGTERM
    assert len(calls) == 3
    task.loss = loss
    assert start(module, *arguments, "--out", out / "broken", "--resume") == 0
    assert start(module, *arguments, "--out", out / "whole") == 0
    if RANK == 0:
        for name in ("model.safetensors", "resume.safetensors"):
            one, other = (load_file(out / folder / name) for folder in ("broken", "whole"))
            assert one.keys() == other.keys()
            assert all(torch.equal(value, other[key]) for key, value in one.items()), name
            if name == "resume.safetensors":
                states = [one[key] for key in ("random.cpu", "process.1.random.cpu")]
                assert not torch.equal(*states), "the processes draw the same"
                assert one["carry.0"].shape[1] + one["process.1.carry.0"].shape[1] == 7


def all_end_with_one_message(script: str, arguments: list[str], out: Path) -> None:
    """For a loss that is not a number in one process, for a run that is there already, and for other data in one."""
    module = load(script)
    task = module.LanguageModelling
    loss, calls = task.loss, []

    def fails(match: str) -> Any:
        return pytest.raises(InputError, match=match) if RANK == 0 else pytest.raises(OtherProcessError, match=r"^$")

    def broken(self: Any, batch: Any, carry: Any) -> Any:
        calls.append(batch)
        value, carry = loss(self, batch, carry)
        return value * (torch.nan if RANK == 1 and len(calls) == 3 else 1), carry

    task.loss = broken
    with fails("the loss is nan at step 2, epoch 0, batch 2: lower --learning_rate"):
        start(module, *arguments, "--out", out, "--save_minutes", 1e-9)
    task.loss = loss
    with fails("holds a run: add --resume to go on with it"):
        start(module, *arguments, "--out", out)
    assert start(module, *arguments, "--out", out, "--resume", "--save_minutes", 1e-9) == 0
    with fails("cannot be resumed with other options: hidden_size"):
        start(module, *arguments, "--out", out, "--resume", "--hidden_size", 9)
    make = task.__init__

    def otherwise(self: Any, *given: Any) -> None:
        make(self, *given)
        self.fingerprint += str(RANK)

    task.__init__ = otherwise
    with fails("the processes have different data"):
        start(module, *arguments, "--out", out, "--overwrite")
    task.__init__ = make


def all_stop_at_the_same_step(script: str, arguments: list[str], out: Path) -> None:
    """By the main process's clock, and by its patience; with the same weights, and evaluated by the main one alone."""
    module = load(script)
    evaluate, evaluated = module.LanguageModelling.evaluate, []
    module.LanguageModelling.evaluate = lambda self: (evaluated.append(self), evaluate(self))[1]
    for name, limit in (
        ("clock", ["--max_minutes", 0.002]),
        ("patience", ["--patience", 1, "--max_steps", 40, "--evaluations", 20]),
    ):
        seen: dict[str, Any] = {}
        assert start(module, *arguments, *limit, "--out", out / name, seen=seen) == 0
        weights = torch.cat([p.detach().flatten() for p in seen["task"].model.parameters()])
        progress = seen["outcome"].progress
        told = seen["processes"].gather_objects((progress, weights))
        assert told[0][0] == told[1][0]
        assert torch.equal(told[0][1], told[1][1])
        assert progress.ended and 1 <= progress.step < seen["options"].max_steps, progress
    assert bool(evaluated) == (RANK == 0)


def torch_has_no_batch_norm_over_processes_for_cpus(script: str, arguments: list[str], out: Path) -> None:
    """If this fails, training can have the statistics of whole batches there too."""
    with pytest.raises(ValueError, match="SyncBatchNorm expected input tensor to be on GPU"):
        torch.nn.SyncBatchNorm(3)(torch.zeros(2, 3))


CHECKS: dict[str, Callable[[str, list[str], Path], None]] = {
    check.__name__: check
    for check in (
        gradients_are_those_of_one_process,
        stopped_by_a_signal_to_one_and_resumed,
        all_end_with_one_message,
        all_stop_at_the_same_step,
        torch_has_no_batch_norm_over_processes_for_cpus,
    )
}


def main() -> None:
    runs, results = json.loads(Path(sys.argv[1]).read_text("utf-8")), Path(sys.argv[2])
    found: dict[str, str | None] = {}
    for name, (check, script, arguments) in runs.items():
        try:
            CHECKS[check](script, arguments, results / name)
            found[name] = None
        except AssertionError:
            found[name] = traceback.format_exc()
        (results / f"{RANK}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
