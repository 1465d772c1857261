"""The training loop of all scripts."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from zoo.core import State
from zoo.device import Precision
from zoo.errors import InputError
from zoo.training.checkpoint import load_checkpoint, save_checkpoint
from zoo.training.interruption import Interruption
from zoo.training.optimizer import build_optimizers, set_learning_rate, warmup_cosine
from zoo.training.options import TrainingOptions
from zoo.training.outcome import Outcome, Progress
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


def train(task: Task, options: TrainingOptions, run: RunFolder, device: torch.device, precision: Precision) -> Outcome:
    """Train `task.model` until a limit of `options` is reached, or a signal says stop.

    The best weights by `task.metric` are in the run folder when this returns; `task.model` has the last ones.

    Raises:
        InputError: the loss or its gradient is not finite, or the run cannot be resumed.
        OSError: the run folder cannot be written.
    """
    return _Loop(task, options, run, device, precision).run_to_end()


class _Loop:
    def __init__(
        self, task: Task, options: TrainingOptions, run: RunFolder, device: torch.device, precision: Precision
    ) -> None:
        self.task, self.options, self.run = task, options, run
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # the one that Accelerator then takes
        accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision="bf16" if precision == "bfloat16" else "no",
            gradient_accumulation_steps=options.accumulate,
        )
        if accelerator.num_processes > 1:
            raise InputError(f"{accelerator.num_processes} processes were started, but training runs in one so far")
        module = _LossModule(task).to(accelerator.device)
        # Built after the move, before prepare: they hold the same parameters that prepare keeps.
        self.optimizers = build_optimizers(task.model, task.matrices(), options, task.paces())
        self.accelerator = accelerator
        self.module = accelerator.prepare_model(module)
        self.prepared = [accelerator.prepare_optimizer(optimizer) for optimizer in self.optimizers]
        self.progress = Progress(data=task.fingerprint, precision=precision)
        self.carry: State = ()
        self.last_save = time.monotonic()
        if options.resume:
            self.carry, saved = load_checkpoint(run.checkpoint, task.model, self.optimizers, accelerator.device)
            self.progress = _resumed(saved, self.progress, run)
            # Fewer are behind it if the run was made longer.
            done = int(self._share() * options.evaluations + 1e-9)
            self.progress.evaluations = min(self.progress.evaluations, done)
            run.forget_after(self.progress.step)
        self.writer = _tensorboard(run, self.progress.step) if options.tensorboard else None

    def run_to_end(self) -> Outcome:
        progress = self.progress
        self._consider_ended()
        bar = tqdm(total=100, initial=int(100 * self._share()), unit="%", disable=None, bar_format=_BAR)
        with Interruption() as interruption, bar:
            for batch in self._batches():
                started = time.perf_counter()
                self._train_on(batch)
                progress.training_seconds += time.perf_counter() - started
                if not self.accelerator.sync_gradients:
                    continue  # half a step cannot be saved
                stopping = interruption.signal_number is not None
                if self._share() >= (progress.evaluations + 1) / self.options.evaluations:
                    self._evaluate()
                    self._consider_ended()
                    self._save()
                elif stopping or time.monotonic() - self.last_save > 60 * self.options.save_minutes:
                    self._save()
                if stopping:
                    break
                bar.update(100 * self._share() - bar.n)
                bar.set_postfix_str(f"loss {progress.running_loss:.3f}, {self._speed():,.0f} tokens/s", refresh=False)
        if self.writer is not None:
            self.writer.close()
        signal_number = None if progress.ended else interruption.signal_number
        return Outcome(progress, signal_number, self.run.history())

    def _batches(self) -> Iterator[Any]:
        progress = self.progress
        while not progress.ended:
            if progress.batch >= self.task.num_batches(progress.epoch):
                progress.epoch, progress.batch = progress.epoch + 1, 0
            yield self.task.batch(progress.epoch, progress.batch)

    def _train_on(self, batch: Any) -> None:
        progress, options = self.progress, self.options
        share = self._share()
        set_learning_rate(self.optimizers, warmup_cosine(share, options.warmup), share)
        self.task.model.train()
        with self.accelerator.accumulate(self.module):
            loss, carry = self.module(_to_device(batch, self.accelerator.device), self.carry)
            value = float(loss.detach())
            self._require_finite("loss", value)
            self.accelerator.backward(loss)
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
            raise InputError(
                f"the {name} is {value} at step {step}, epoch {epoch}, batch {batch}: lower --learning_rate, "
                "--matrix_learning_rate or --gradient_clip; the last good save is kept"
            )

    def _share(self) -> float:
        """How much of the run is done, 0 to 1: by whichever limit is nearest."""
        progress, options = self.progress, self.options
        shares = [0.0]
        if options.max_steps is not None:
            shares.append(progress.step / options.max_steps)
        if options.max_minutes is not None:
            shares.append(progress.training_seconds / 60 / options.max_minutes)
        if options.epochs is not None:
            within = progress.batch / self.task.num_batches(progress.epoch)
            shares.append((progress.epoch + within) / options.epochs)
        return min(1.0, max(shares))

    def _consider_ended(self) -> None:
        patience = self.options.patience
        worn_out = patience is not None and self.progress.since_best >= patience
        self.progress.ended = self._share() >= 1 or worn_out

    def _evaluate(self) -> None:
        progress, task = self.progress, self.task
        started = time.perf_counter()
        task.model.eval()
        # What evaluation draws must not shift what training draws.
        cuda = [self.accelerator.device] if self.accelerator.device.type == "cuda" else []
        with torch.random.fork_rng(cuda), torch.inference_mode():
            figures = task.evaluate()
            sample = task.sample()
        value = figures[task.metric]
        self._require_finite(task.metric, value)
        better = progress.best is None or (value > progress.best if task.higher_is_better else value < progress.best)
        progress.evaluation_seconds += time.perf_counter() - started
        progress.evaluations = max(progress.evaluations + 1, int(self._share() * self.options.evaluations))
        if better:
            progress.best, progress.best_step, progress.since_best = value, progress.step, 0
            task.model.save_pretrained(self.run.path)
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

    def _save(self) -> None:
        save_checkpoint(
            self.run.checkpoint,
            self.task.model,
            self.optimizers,
            self.carry,
            asdict(self.progress),
            self.accelerator.device,
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
    if progress.data != now.data:
        raise InputError(f"{run.path} was trained on other data, or with another tokenizer, than --data gives now")
    if progress.precision != now.precision:
        raise InputError(f"{run.path} was trained in {progress.precision}: add --precision {progress.precision}")
    return progress


def _tensorboard(run: RunFolder, step: int) -> Any:
    # Here and not above: it is an extra, whose presence `TrainingOptions` checks.
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run.path / "tensorboard"), purge_step=step + 1)  # type: ignore[no-untyped-call]
