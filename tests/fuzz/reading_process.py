"""The other process, in which hostile files are read (`readers.py`), as the tests see it."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import zoo

SECONDS = 30.0  # of the processor; a case that takes longer hangs
WAITING = 20  # times as long by the clock: machines are busy with other things at times
MEMORY = 1 << 30  # more than this beside what the process starts with, and a reader has no bound


class Case(NamedTuple):
    """Files by their paths in a folder, the arguments of a command line, and its standard input."""

    files: dict[str, bytes]
    arguments: Sequence[str] = ()
    stdin: bytes = b""


class ReadingProcess:
    """Reads cases in a process of its own, which is started anew after one that ended it or filled its memory."""

    def __init__(self, home: Path) -> None:
        self._environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(home / "hub"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "HOME": str(home),
            "MPLBACKEND": "agg",
            "PYTHONPATH": str(Path(zoo.__file__).parents[1]),  # the same zoo as here
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._peak_at_start = 0

    def read(self, reader: str, folder: Path, case: Case) -> str:
        """How `reader` ended: "read", or "refused: " and the message.

        Raises:
            AssertionError: it ended otherwise: by another exception, a signal, too late, or with too much memory.
        """
        process = self._started()
        request = {
            "reader": reader,
            "folder": str(folder),
            "arguments": case.arguments,
            "stdin": case.stdin.decode("latin-1"),
        }
        answer = self._ask(process, request)
        grown = answer["peak"] - self._peak_at_start
        if grown > MEMORY:
            self.stop()
            raise AssertionError(f"{reader} took {grown / 2**20:,.0f} MiB; it ended so: {answer}")
        assert answer["ended"] != "traceback", f"{reader}: {answer['message']}"
        if answer["ended"] == "read":
            return "read"
        message = answer["message"]
        assert message and "\n" not in message, f"{reader}: no message of one line: {message!r}"
        return f"refused: {message}"

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            command = [sys.executable, str(Path(__file__).with_name("readers.py"))]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environment
            )
            answer = self._ask(self._process, {"reader": "lines", "folder": "/", "arguments": [], "stdin": ""})
            self._peak_at_start = answer["peak"]
        return self._process

    def _ask(self, process: "subprocess.Popen[bytes]", request: dict[str, Any]) -> dict[str, Any]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        before = _seconds(process.pid)
        for _ in range(WAITING):
            if select.select([process.stdout], [], [], SECONDS)[0]:
                break
            if _seconds(process.pid) - before > SECONDS:
                self.stop()
                raise AssertionError(f"{request['reader']} had not ended after {SECONDS:g} seconds")
        else:
            self.stop()
            raise AssertionError(f"{request['reader']} waited for {SECONDS * WAITING:g} seconds")
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self._process = None
            raise AssertionError(f"{request['reader']} ended the process with exit code {code}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _seconds(pid: int) -> float:
    """What a process has had of the processor."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
