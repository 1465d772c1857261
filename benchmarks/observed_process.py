"""A fork that runs a script's `main` and notes what it does, up to the moment at which it is to die."""

import hashlib
import itertools
import os
import signal
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from zoo.command_line import run_script


class Process:
    """A fork that runs a script's `main`, and notes each batch that it sees and each moment that it touches `folder`.

    At the moment of that number it kills itself; of what a file then gets it has `share`.
    """

    def __init__(
        self, module: ModuleType, arguments: list[str], folder: Path, log: Path, moment: int | None, share: float
    ) -> None:
        self.log = log
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid:
            return
        code: Any = 1
        try:
            output = os.open(f"{log}.out", os.O_CREAT | os.O_WRONLY)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
            sys.argv = [f"{module.__name__}.py", *arguments]
            _observe(module, folder.resolve(), os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), moment, share)
            run_script(module.main)
        except SystemExit as ended:
            code = ended.code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else 1)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def notes(self) -> list[list[str]]:
        """Each a kind and what is to be said; one that a kill cut short is left out."""
        text = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
        return [line.rstrip("\n").split(" ", 1) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def output(self) -> str:
        return Path(f"{self.log}.out").read_text(encoding="utf-8")


def _observe(module: ModuleType, folder: Path, log: int, kill_at: int | None, share: float) -> None:
    """Make this process note what it does, and die at the moment `kill_at`."""
    moments = itertools.count(1)
    begins: dict[str, int] = {}  # of what a file that is open gets, in bytes
    train, fsync = module.train, os.fsync

    def note(text: str) -> None:
        os.write(log, f"{text}\n".encode())

    def is_last(moment: str) -> bool:
        note(f"moment {moment}")
        return next(moments) == kill_at

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
        if event == "open" and isinstance(arguments[2], int):
            writes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if writes and isinstance(arguments[0], str | os.PathLike) and folder in Path(arguments[0]).absolute().parents:
            file = Path(arguments[0])
            if is_last(f"{event} {file.name}"):
                os.kill(os.getpid(), signal.SIGKILL)
            is_added_to = event == "open" and arguments[2] & os.O_APPEND and file.exists()
            begins[file.name] = file.stat().st_size if is_added_to else 0

    def noted_fsync(descriptor: int) -> None:
        file = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if is_last(f"fsync {file.name}"):
            if file.is_file():
                begin = begins[file.name]
                os.ftruncate(descriptor, begin + int(share * (file.stat().st_size - begin)))
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    def noted_train(task: Any, *arguments: Any) -> Any:
        batch = task.batch

        def noted_batch(epoch: int, k: int) -> Any:
            found = batch(epoch, k)
            digest = hashlib.sha256()
            for part in found:
                digest.update(part.numpy().tobytes() if isinstance(part, Tensor) else repr(part).encode())
            note(f"batch {epoch} {k} {digest.hexdigest()}")
            return found

        task.batch = noted_batch
        return train(task, *arguments)

    module.train = noted_train  # type: ignore[attr-defined]
    os.fsync = noted_fsync  # type: ignore[assignment]
    sys.addaudithook(hook)
