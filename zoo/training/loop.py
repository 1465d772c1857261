"""The training loop of all scripts."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from tqdm import tqdm

from zoo.core import State
from zoo.device import Precision
from zoo.errors import InputError, OtherProcessError
from zoo.pretrained import named_tensors
from zoo.training.batch_parts import own_part
from zoo.training.checkpoint import load_checkpoint, own_state, save_checkpoint
from zoo.training.interruption import Interruption
from zoo.training.memory import keep_freed_memory
from zoo.training.optimizer import build_optimizers, set_learning_rate, warmup_cosine
from zoo.training.options import TrainingOptions
from zoo.training.outcome import Outcome, Progress
from zoo.training.processes import Processes
from zoo.training.run_folder import RunFolder
from zoo.training.save_contents import saved_progress
from zoo.training.task import Task

LOSS_MEMORY = 0.98  # of the running mean of the training loss that is shown


class _LossModule(nn.Module):
    """The task's loss as a module's forward, which is what `accelerate` wraps for precision and processes."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = task.model
        self.task_loss = task.loss

    def forward(self, batch: Any, carry: State) -> tuple[Tensor, State]:
        return self.task_loss(batch, carry)


def train(task: Task, options: TrainingOptions, run: RunFolder, processes: Processes, precision: Precision) -> Outcome:
    """Train `task.model` until a limit of `options` is reached, or a signal says stop.

    Several processes make the same batches, and each computes its rows of them; the gradient is that of the whole
    batch. The main process alone evaluates and writes.

    On a CPU the process keeps the memory that it has once had; see `keep_freed_memory`.

    The best weights by `task.metric` are in the run folder when this returns; `task.model` has the last ones.

    Raises:
        InputError: the loss or its gradient is not finite, or the run cannot be resumed.
        OSError: the run folder cannot be written.
        OtherProcessError: one of several processes has failed.
    """
    with processes.listening():
        return _Loop(task, options, run, processes, precision).run_to_end()


class _Loop:
    def __init__(
        self, task: Task, options: TrainingOptions, run: RunFolder, processes: Processes, precision: Precision
    ) -> None:
        self.task, self.options, self.run, self.processes = task, options, run, processes
        if len(set(processes.gather_objects(task.fingerprint))) > 1:
            raise self._failure("the processes have different data: --data must give the same on every machine")
        if processes.count > 1 and processes.device.type == "cuda":
            # Statistics of whole batches. (There is no such batch norm for CPUs.)
            nn.SyncBatchNorm.convert_sync_batchnorm(task.model)
        thaws = any(pace.thaw for pace in task.paces().values())
        if processes.device.type == "cpu":
            keep_freed_memory()
        # accelerate keeps one precision for the whole process, and would refuse that of a second run.
        AcceleratorState._reset_state()
        accelerator = Accelerator(
            cpu=processes.device.type == "cpu",
            mixed_precision="bf16" if precision == "bfloat16" else "no",
            gradient_accumulation_steps=options.accumulate,
            # What is frozen for now gets no gradient that could be waited for.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=thaws)],
        )
        module = _LossModule(task).to(processes.device)
        # Built after the move, before prepare: they hold the same parameters that prepare keeps.
        self.optimizers = build_optimizers(task.model, task.matrices(), options, task.paces())
        self.accelerator = accelerator
        self.module = accelerator.prepare_model(module)
        self.prepared = [accelerator.prepare_optimizer(optimizer) for optimizer in self.optimizers]
        self.progress = Progress(
            data=task.fingerprint, options=run.lasting_options(), precision=precision, processes=processes.count
        )
        self.carry: State = ()
        self.last_save = time.monotonic()
        if not processes.is_main:
            torch.manual_seed(options.seed + processes.rank)  # other dropout in each; the weights are the main one's
        if options.resume:
            with processes.one_error():
                save = self._resume()
            if processes.is_main:  # now that all have read it
                run.go_back_to(save, self.progress.step, self.progress.samples_size)
        self.writer = _tensorboard(run, self.progress.step) if options.tensorboard and processes.is_main else None

    def _resume(self) -> Path:
        """Put everything back as it was saved, and return the file that it was in."""
        run, rank, device = self.run, self.processes.rank, self.processes.device
        save = run.save_to_resume(self.options.resume_previous)
        self.carry, saved = load_checkpoint(save, self.task.model, self.optimizers, device, rank)
        self.progress = _resumed(saved, self.progress, run)
        # Fewer are behind it if the run was made longer.
        done = int(self._share() * self.options.evaluations + 1e-9)
        self.progress.evaluations = min(self.progress.evaluations, done)
        if run.best_weights() != self.progress.best_weights:
            self.progress.best = None  # they are of a later evaluation, which will be made again
        return save

    def run_to_end(self) -> Outcome:
        self._consider_ended()
        if self.progress.ended:
            self._say_why_it_has_ended()
            if self.progress.best is None:  # stopped before its first evaluation, or its weights were removed
                self.progress = self.processes.from_main(self._evaluate)
                self._save()
        signal_number: int | None = None
        bar = tqdm(total=100, initial=int(100 * self._share()), unit="%", disable=None, bar_format=_BAR)
        with Interruption(passed_on=self.processes.count > 1) as interruption, bar:
            for batch in self._batches():
                started = time.perf_counter()
                self._train_on(batch)
                self.progress.training_seconds += time.perf_counter() - started
                save_is_due, signal_number = self._agree(interruption.signal_number)
                if not self.accelerator.sync_gradients:
                    continue  # half a step cannot be saved
                evaluation_is_due = self._share() >= (self.progress.evaluations + 1) / self.options.evaluations
                if evaluation_is_due or signal_number is not None or save_is_due:
                    self._require_finite_weights()
                    if evaluation_is_due:
                        self.progress = self.processes.from_main(self._evaluate)
                        self._consider_ended()
                    self._save()
                if signal_number is not None:
                    break
                bar.update(100 * self._share() - bar.n)
                loss = f"loss {self.progress.running_loss:.3f}"
                bar.set_postfix_str(f"{loss}, {self._speed():,.0f} tokens/s", refresh=False)
        if self.writer is not None:
            self.writer.close()
        if self.progress.ended:
            signal_number = None  # it came too late
        if signal_number is not None:
            print(f"\nstopped at step {self.progress.step} and saved; to go on:\n  {self._resume_command()}")
        return Outcome(self.progress, signal_number, self.run.history(), self.processes.is_main)

    def _resume_command(self) -> str:
        return self.run.resume_command(self.processes.launcher())

    def _agree(self, signal_number: int | None) -> tuple[bool, int | None]:
        """Go by the main process's clock: whether a save is due; and by a signal to any of them."""
        due = time.monotonic() - self.last_save > 60 * self.options.save_minutes
        heard = self.processes.gather(self.progress.training_seconds, due, signal_number or 0)
        self.progress.training_seconds = heard[0][0]
        return bool(heard[0][1]), int(max(signal for _, _, signal in heard)) or None

    def _batches(self) -> Iterator[Any]:
        while not self.progress.ended:
            progress = self.progress
            if progress.batch >= self.task.num_batches(progress.epoch):
                progress.epoch, progress.batch = progress.epoch + 1, 0
            yield self.task.batch(progress.epoch, progress.batch)

    def _train_on(self, batch: Any) -> None:
        progress, options, processes = self.progress, self.options, self.processes
        share = self._share()
        set_learning_rate(self.optimizers, warmup_cosine(share, options.warmup), share)
        self.task.model.train()
        part = own_part(batch, processes.rank, processes.count)
        with self.accelerator.accumulate(self.module):
            loss, carry = self.module(_to_device(part, processes.device), self.carry)
            # The batch's mean is that of the parts', each by its weight. (A batch that was not divided is in each.)
            parts = processes.count if part is batch else 1
            weight = self.task.weight(part) / (parts * self.task.weight(batch))
            value = sum(own for (own,) in processes.gather(weight * float(loss.detach())))
            self._require_finite("loss", value)
            # Gradients come together as the mean of the processes', and so each brings `count` times its own.
            self.accelerator.backward(loss * (weight * processes.count))
            if self.accelerator.sync_gradients:
                norm = self.accelerator.clip_grad_norm_(self.task.model.parameters(), options.gradient_clip)
                # A finite loss can have an infinite slope, and weights that are not finite must not be saved.
                self._require_finite("gradient", float(norm))
            for optimizer in self.prepared:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        self.carry = carry
        progress.batch += 1
        progress.tokens += self.task.tokens(batch)
        if self.accelerator.sync_gradients:
            progress.step += 1
        before = value if progress.running_loss is None else progress.running_loss
        progress.running_loss = LOSS_MEMORY * before + (1 - LOSS_MEMORY) * value

    def _require_finite(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            step, epoch, batch = self.progress.step, self.progress.epoch, self.progress.batch
            saved = self.run.checkpoint.exists()
            raise self._failure(
                f"the {name} is {value} at step {step}, epoch {epoch}, batch {batch}: lower --learning_rate, "
                "--matrix_learning_rate or --gradient_clip"
                + ("; the last good save is kept, and --resume goes on from it with them" if saved else "")
            )

    def _require_finite_weights(self) -> None:
        """A finite gradient can still lead out of what floats can hold; that is neither saved nor judged."""
        tensors = [*named_tensors(self.task.model).values(), *self.carry]
        largest = torch.stack([t.detach().abs().max().float() for t in tensors if t.is_floating_point()]).max()
        for (value,) in self.processes.gather(float(largest)):
            self._require_finite("largest weight or state", value)

    def _failure(self, message: str) -> Exception:
        """What all processes raise, for something that all of them know: the main one alone says it."""
        return InputError(message) if self.processes.is_main else OtherProcessError()

    def _share(self) -> float:
        """How much of the run is done, 0 to 1: by whichever limit is nearest."""
        return min(1.0, max(self._shares().values()))

    def _shares(self) -> dict[str, float]:
        """How much of the run is done, by each limit that it has."""
        progress, options = self.progress, self.options
        shares = {}
        if options.max_steps is not None:
            shares["max_steps"] = progress.step / options.max_steps
        if options.max_minutes is not None:
            shares["max_minutes"] = progress.training_seconds / 60 / options.max_minutes
        if options.epochs is not None:
            within = progress.batch / self.task.num_batches(progress.epoch)
            shares["epochs"] = (progress.epoch + within) / options.epochs
        return shares

    def _limits_reached(self) -> list[str]:
        patience = self.options.patience
        worn_out = patience is not None and self.progress.since_best >= patience
        return [name for name, share in self._shares().items() if share >= 1] + ["patience"] * worn_out

    def _consider_ended(self) -> None:
        self.progress.ended = bool(self._limits_reached())

    def _say_why_it_has_ended(self) -> None:
        """config.yaml has the minutes that a run was given where no limit was: more epochs alone do not prolong it."""
        limits = self._limits_reached()
        reached = ", ".join(f"{name} {getattr(self.options, name)}" for name in limits)
        lifted = " ".join(f"--{name} null" for name in limits)
        print(f"this run has ended already, by {reached}: to go on, raise it, or give {lifted} and another limit")

    def _evaluate(self) -> Progress:
        progress, task = self.progress, self.task
        started = time.perf_counter()
        task.model.eval()
        # What evaluation draws must not shift what training draws.
        device = self.processes.device
        cuda = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(cuda), torch.inference_mode():
            figures, sample = self._figures_and_sample()
        value = figures[task.metric]
        self._require_finite(task.metric, value)
        better = progress.best is None or (value > progress.best if task.higher_is_better else value < progress.best)
        progress.evaluation_seconds += time.perf_counter() - started
        progress.evaluations = max(progress.evaluations + 1, int(self._share() * self.options.evaluations))
        if better:
            progress.best, progress.best_step, progress.since_best = value, progress.step, 0
            task.model.save_pretrained(self.run.path)
            progress.best_weights = self.run.best_weights()
        else:
            progress.since_best += 1
        line = {
            "step": progress.step,
            "epoch": round(progress.epoch + progress.batch / task.num_batches(progress.epoch), 3),
            "training_minutes": round(progress.training_seconds / 60, 3),
            "tokens_per_second": round(self._speed()),
            "training_loss": progress.running_loss,
            **figures,
        }
        self.run.log(line, sample)
        if self.writer is not None:
            for name, number in line.items():
                self.writer.add_scalar(name, number, progress.step)
        shown = ", ".join(f"{name} {number:.4g}" for name, number in line.items() if name != "step")
        tqdm.write(f"step {progress.step}: {shown}{' *' if better else ''}")
        tqdm.write("  " + " ".join(sample.split())[:100])
        return progress

    def _figures_and_sample(self) -> tuple[dict[str, float], str]:
        try:
            return self.task.evaluate(), self.task.sample()
        except Exception:
            # Finite weights can be so large that no score is a number: then that is what is wrong.
            batch = self.task.batch(self.progress.epoch, self.progress.batch - 1)
            part = own_part(batch, self.processes.rank, self.processes.count)
            loss, _ = self.task.loss(_to_device(part, self.processes.device), self.carry)
            self._require_finite("loss before an evaluation", float(loss))
            raise

    def _save(self) -> None:
        device = self.processes.device
        self.progress.samples_size = self.processes.from_main(self.run.samples_size)
        _, *others = self.processes.gather_objects(own_state(self.carry, device))
        self.processes.from_main(
            lambda: save_checkpoint(
                self.run.checkpoint, self.task.model, self.optimizers, self.carry, asdict(self.progress), device, others
            )
        )
        self.last_save = time.monotonic()

    def _speed(self) -> float:
        return self.progress.tokens / max(self.progress.training_seconds, 1e-9)


_BAR = "{percentage:3.0f}% |{bar:20}| {elapsed} {postfix}"


def _to_device(batch: Any, device: torch.device) -> Any:
    moved = (part.to(device) if isinstance(part, Tensor) else part for part in batch)
    return type(batch)(*moved)


def _resumed(saved: dict[str, Any], now: Progress, run: RunFolder) -> Progress:
    progress = saved_progress(run.checkpoint, saved)
    if progress.options != now.options:
        names = sorted(name for name, value in now.options.items() if progress.options.get(name) != value)
        raise InputError(f"the save in {run.path} is of a run with another {', '.join(names)}: put back its own")
    if progress.data != now.data:
        raise InputError(f"{run.path} was trained on other data, or with another tokenizer, than --data gives now")
    if progress.precision != now.precision:
        raise InputError(f"{run.path} was trained in {progress.precision}: add --precision {progress.precision}")
    if progress.processes != now.processes:
        raise InputError(
            f"{run.path} was trained by {progress.processes} processes and now there are {now.processes}, whose random "
            "numbers would be others: start as many as before"
        )
    return progress


def _tensorboard(run: RunFolder, step: int) -> Any:
    # Here and not above: it is an extra, whose presence `TrainingOptions` checks.
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run.path / "tensorboard"), purge_step=step + 1)  # type: ignore[no-untyped-call]
