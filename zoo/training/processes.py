"""The processes of a run: one, or several that train together, as torchrun or accelerate launch start them."""

import atexit
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState

from zoo.device import choose_device
from zoo.errors import InputError, OtherProcessError

T = TypeVar("T")

# The main process may evaluate for hours while the others wait. One that died is noticed all the same: its connections
# are closed, and the launcher ends the others.
PATIENCE = timedelta(days=30)


class Processes:
    """This process among those of its run.

    One that is not the main process says nothing on standard output from now on, and draws no bars.

    Args:
        device: as `zoo.device.choose_device` takes it. Each of several takes a GPU of its own, or all the CPU.

    Attributes:
        count: how many there are, on all machines.
        rank: this one's number, from 0 on.
        device: where it computes.

    Raises:
        InputError: no such device, or one GPU for several processes, or a launcher that starts fewer than it was told.
    """

    def __init__(self, device: str = "auto") -> None:
        on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
        if on_cpu and "MASTER_PORT" in os.environ and "WORLD_SIZE" not in os.environ:
            raise InputError(
                "accelerate launch --cpu starts one process, whatever --num_processes says: use torchrun "
                "--nproc_per_node, or accelerate launch --multi_gpu, which starts them without a GPU too"
            )
        self.device = choose_device("cpu" if on_cpu and device == "auto" else device)
        if self.device.type == "cuda" and self.device.index is not None:
            torch.cuda.set_device(self.device)  # the one that accelerate then takes
        if not dist.is_initialized():
            PartialState._reset_state()  # it would stay on the device of a run before, in the same process
        state = PartialState(cpu=self.device.type == "cpu")
        self.count, self.rank = state.num_processes, state.process_index
        self._is_first_here = state.is_local_main_process
        if self.count == 1:
            return
        if ":" in device:
            raise InputError(
                f"device is {device}, but each of {self.count} processes takes its own: leave the number out"
            )
        if self.device.type != "cpu":
            self.device = state.device
        # What is agreed on goes between CPUs; gradients go their own way (nccl between GPUs).
        self._group: Any = dist.new_group(backend="gloo", timeout=PATIENCE)
        atexit.register(_leave)
        if not self.is_main and not isinstance(sys.stderr, _NoTerminal):
            errors = "backslashreplace"  # as run_script has it
            sys.stdout = open(os.devnull, "w", encoding="utf-8", errors=errors)  # noqa: SIM115 (for the whole process)
            sys.stderr = _NoTerminal(sys.stderr.buffer, encoding="utf-8", errors=errors, line_buffering=True)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that evaluates, writes and speaks."""
        return self.rank == 0

    def launcher(self) -> list[str]:
        """The command that starts as many processes of a script again; on several machines without their addresses."""
        if self.count == 1:
            return [sys.executable]
        here = int(os.environ.get("LOCAL_WORLD_SIZE", self.count))
        machines = [] if here == self.count else ["--nnodes", str(self.count // here)]
        return [sys.executable, "-m", "torch.distributed.run", *machines, "--nproc_per_node", str(here)]

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside the `with`, that another process has gone is an OtherProcessError."""
        try:
            yield
        except RuntimeError as error:
            # gloo has no type of its own for it.
            if self.count == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
                raise
            raise OtherProcessError(
                "another process of this run has ended, and so does this one; the last good save is kept"
                if self.is_main
                else ""
            ) from error

    def gather(self, *numbers: float) -> list[list[float]]:
        """The numbers of every process, by rank."""
        if self.count == 1:
            return [list(numbers)]
        own = torch.tensor(numbers, dtype=torch.float64)
        parts = [torch.empty_like(own) for _ in range(self.count)]
        with self.listening():
            dist.all_gather(parts, own, group=self._group)
        return [part.tolist() for part in parts]

    def gather_objects(self, value: T) -> list[T]:
        """The values of every process, by rank; on the CPU if they are tensors."""
        if self.count == 1:
            return [value]
        parts: list[Any] = [None] * self.count
        with self.listening():
            dist.all_gather_object(parts, value, group=self._group)
        return parts

    def from_main(self, work: Callable[[], T]) -> T:
        """Do `work` in the main process alone; all wait for it and return its result.

        Raises whatever `work` does, and OtherProcessError in the others if that was an InputError or OSError.
        """
        if self.count == 1:
            return work()
        result: list[Any] = [None, False]  # and whether it failed
        failure: Exception | None = None
        if self.is_main:
            try:
                result[0] = work()
            except (InputError, OSError) as error:
                failure, result[1] = error, True
        with self.listening():
            dist.broadcast_object_list(result, group=self._group)
        if failure is not None:
            raise failure
        if result[1]:
            raise OtherProcessError
        return result[0]

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Inside the `with` is first one process of each machine and then the others, who find what it has stored."""
        if not self._is_first_here:
            self.gather(0)
        yield
        if self._is_first_here:
            self.gather(0)

    @contextmanager
    def one_error(self) -> Iterator[None]:
        """What is inside may fail in one process or several with an InputError: the first of them raises it.

        Raises OtherProcessError in the others.
        """
        failure: InputError | None = None
        try:
            yield
        except InputError as error:
            failure = error
        failed = [rank for rank, (bad,) in enumerate(self.gather(failure is not None)) if bad]
        if failure is not None and failed[0] == self.rank:
            raise failure
        if failed:
            raise OtherProcessError


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


class _NoTerminal(io.TextIOWrapper):
    """A stream on which nobody draws a bar."""

    def isatty(self) -> bool:
        return False
