"""One process at a time in a run's folder."""

from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from zoo.errors import InputError

LOCK = ".lock"


def locked(folder: Path) -> BaseFileLock | None:
    """Keep other processes out of the run in `folder` for as long as the result is kept.

    The lock is the operating system's, and so ends with the process, however that ends; the file stays. None where the
    file system has no locks: that is no reason not to train, but is said.

    Raises:
        InputError: another process has it.
    """
    # A singleton: this process may open the folder again.
    lock = FileLock(folder / LOCK, timeout=0, is_singleton=True, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"another process is at work in {folder}: wait for its end, or stop it") from None
    except (OSError, NotImplementedError) as error:
        print(f"note: {folder} cannot be locked ({error}): let no other process work on it meanwhile")
        return None
    return lock
