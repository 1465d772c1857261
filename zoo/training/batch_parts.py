"""Which rows of a batch a process computes, where several train together.

Every process makes the whole batch, a pure function of the seed, and takes its own rows: nothing has to be sent.
"""

from typing import Any

from torch import Tensor


def own_part(batch: Any, rank: int, count: int) -> Any:
    """The rows of a batch that process `rank` of `count` computes: neighbours, as many as another's or one more.

    A batch of fewer rows than processes is computed whole by each, so that none has to go without.

    Args:
        batch: a named tuple; the first tensor has B rows, the others B or a multiple, those of a row one after the
            other. What is no tensor is left as it is.
        rank: 0 to `count` - 1.
        count: processes.

    Returns:
        A batch of the same kind; `batch` itself if it was not divided.
    """
    rows = next(len(part) for part in batch if isinstance(part, Tensor))
    if count == 1 or rows < count:
        return batch
    start, stop = rows * rank // count, rows * (rank + 1) // count

    def own(part: Any) -> Any:
        if not isinstance(part, Tensor):
            return part
        several = len(part) // rows
        return part[several * start : several * stop]

    return type(batch)(*map(own, batch))
