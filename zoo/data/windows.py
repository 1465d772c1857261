"""Windows over one long text: contiguous ones for truncated BPTT, separate ones for evaluation.

B batch (rows), T steps (the window), N tokens of the text, W windows.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from zoo.errors import InputError

STRETCH = 1 << 16  # tokens; long enough that what a model misses at its beginning does not count


class WindowBatch(NamedTuple):
    """One step of truncated BPTT: inputs (B, T) int64, targets (B, T) int64 (the inputs one token later), and
    `first`, True where the state must start anew."""

    inputs: Tensor
    targets: Tensor
    first: bool


class ContiguousWindows:
    """Batches for truncated BPTT: row b of batch k + 1 goes on where row b of batch k ended.

    The text is laid out as B rows of equal length, and batch k is the k-th window of every row. Epoch e skips
    the first few tokens, 0 to T - 1 of them, so that windows fall at other places in each epoch. The number
    skipped is a pure function of (seed, e), and batch k of epoch e one of (seed, e, k), so a resumed run sees
    what the unbroken one would have seen. What is left at the end of a row and fills no window is dropped.

    A text too short for `batch_size` rows of one window (and the skipped tokens) gets as many rows as fit, at
    least one: `self.batch_size` is the number of rows there are.

    Args:
        tokens: (N,) integers of any width, on any device; the batches are on the same device.
        batch_size: B, the rows wanted.
        window: T, the steps a batch has.
        seed: any integer.

    Raises:
        InputError: there are fewer than T + 1 tokens, or `batch_size` or `window` is below 1.
    """

    def __init__(self, tokens: Tensor, batch_size: int, window: int, seed: int) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}: expected 1 or more")
        count = _checked_length(tokens, window)
        self.tokens = tokens
        self.window = window
        self.seed = seed
        # One window's worth of tokens stays free for the offset; a single row makes do with what there is.
        self.batch_size = min(batch_size, max(1, count // window - 1))
        self._num_offsets = min(window, count - self.batch_size * window)

    def num_batches(self, epoch: int) -> int:
        """How many batches epoch `epoch` has: always 1 or more, and it may differ by one between epochs."""
        return self._row_length(self.offset(epoch)) // self.window

    def offset(self, epoch: int) -> int:
        """How many tokens epoch `epoch` skips at the start of the text: 0 to T - 1."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        return int(torch.randint(self._num_offsets, (), generator=generator))

    def batch(self, epoch: int, k: int) -> WindowBatch:
        """Batch k of epoch `epoch`: inputs (B, T), targets (B, T), first.

        Raises:
            IndexError: k is not in [0, num_batches(epoch)).
        """
        offset = self.offset(epoch)
        row_length = self._row_length(offset)
        if not 0 <= k < row_length // self.window:
            raise IndexError(f"batch {k} of epoch {epoch}: there are {row_length // self.window} batches")
        ahead = self.tokens[offset + k * self.window :]
        stretch = ahead.unfold(0, self.window + 1, row_length)[: self.batch_size].long()  # (B, T + 1)
        return WindowBatch(stretch[:, :-1].contiguous(), stretch[:, 1:].contiguous(), k == 0)

    def _row_length(self, offset: int) -> int:
        # The last row's last target is one token further, hence the - 1.
        return (len(self.tokens) - offset - 1) // self.batch_size


def fresh_windows(tokens: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Cut a text into separate windows for evaluation, where each window starts from a fresh state.

    Args:
        tokens: (N,) integers.
        window: T.

    Returns:
        inputs (W, T) int64 and targets (W, T) int64 with W = (N - 1) // T: windows from the start of the
        text, none overlapping, the remainder dropped.

    Raises:
        InputError: there are fewer than T + 1 tokens, or `window` is below 1.
    """
    count = (_checked_length(tokens, window) - 1) // window
    inputs = tokens[: count * window].long().view(count, window)
    targets = tokens[1 : count * window + 1].long().view(count, window)
    return inputs, targets


def spread(tokens: Tensor, most: int) -> Tensor:
    """All tokens of a text, or as many as `most` of them: stretches spread evenly over it, one after the other.

    Args:
        tokens: (N,) integers.
        most: 1 or more.

    Returns:
        (min(N, most),) int64.

    Raises:
        ValueError: `most` is below 1.
    """
    if most < 1:
        raise ValueError(f"most is {most}, but must be at least 1")
    if len(tokens) <= most:
        return tokens.long()
    count = -(-most // STRETCH)
    stretches = []
    for number in range(count):
        start = len(tokens) * number // count
        length = most * (number + 1) // count - most * number // count
        stretches.append(tokens[start : start + length].long())
    return torch.cat(stretches)


def _checked_length(tokens: Tensor, window: int) -> int:
    if tokens.dim() != 1:
        raise ValueError(f"tokens have shape {tuple(tokens.shape)}: expected one dimension, (N,)")
    if window < 1:
        raise InputError(f"window is {window}: expected 1 or more")
    if len(tokens) < window + 1:
        raise InputError(
            f"the text has {len(tokens):,} tokens and one window of {window:,} needs {window + 1:,} (a "
            "target is one token further): give more text or a shorter window"
        )
    return len(tokens)
