"""Ctrl-C and SIGTERM as a request to stop at the next step, so that the run can be saved."""

import signal
from types import FrameType, TracebackType


class Interruption:
    """Inside the `with`, the first signal sets `signal_number`; a second one stops at once, as usual.

    Args:
        passed_on: a second signal does nothing: a launcher passes on those that the terminal has sent to all already,
            and itself ends who takes too long.
    """

    def __init__(self, passed_on: bool = False) -> None:
        self.signal_number: int | None = None
        self.passed_on = passed_on
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        if not self.passed_on:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
