"""How well a language model predicts a text, in nats a token."""

from typing import Protocol

import torch
from torch import Tensor

from zoo.core import State, detach

BATCH_TOKENS = 16_384
CHUNK = 512


class LanguageModel(Protocol):
    """What is measured: mean nats a token of (inputs, targets), both (B, T), and the state after them."""

    def loss_and_state(self, batch: tuple[Tensor, Tensor], state: State | None) -> tuple[Tensor, State]:
        """See `TextGenerator.loss_and_state`."""


@torch.inference_mode()
def window_nats(model: LanguageModel, inputs: Tensor, targets: Tensor) -> float:
    """Mean nats a token over windows that each start from nothing, as nanoGPT evaluates: inputs, targets (W, T)."""
    rows = max(1, BATCH_TOKENS // inputs.shape[1])
    total = 0.0
    for start in range(0, len(inputs), rows):
        batch = inputs[start : start + rows], targets[start : start + rows]
        loss, _ = model.loss_and_state(batch, None)
        total += float(loss) * batch[0].numel()
    return total / inputs.numel()


@torch.inference_mode()
def carried_nats(model: LanguageModel, tokens: Tensor, rows: int = 1) -> float:
    """Mean nats a token over a whole text, with the state carried from one chunk to the next.

    Args:
        model: what is measured.
        tokens: (N,), the text.
        rows: cut the text into that many stretches of equal length read side by side: quicker, but each starts
            from nothing, and up to `rows` - 1 tokens at the end are left out.

    Returns:
        The mean over the N - 1 tokens that have one before them (with several rows, over all whose predecessor is in
        their row).

    Raises:
        ValueError: there are fewer than `rows` + 1 tokens.
    """
    length = (len(tokens) - 1) // rows
    if length < 1:
        raise ValueError(f"{len(tokens)} tokens are too few for {rows} rows: expected at least {rows + 1}")
    inputs = tokens[: length * rows].view(rows, length)
    targets = tokens[1 : length * rows + 1].view(rows, length)
    total, state = 0.0, None
    for start in range(0, length, CHUNK):
        batch = inputs[:, start : start + CHUNK], targets[:, start : start + CHUNK]
        loss, state = model.loss_and_state(batch, state)
        state = detach(state)
        total += float(loss) * batch[0].numel()
    return total / inputs.numel()
