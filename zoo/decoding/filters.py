"""What turns next-token scores into one drawn token: penalties, filters, and the draw itself.

Top-k hands on only its k tokens, so that all that follows runs over k columns instead of the vocabulary; the draw is
one look-up in their cumulative distribution. `torch.multinomial` over 8,000 columns is most of a decoding step on a
CPU.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is chosen.

    Attributes:
        temperature: logits are divided by it; 0 takes the best token (greedy). 1 draws from the model as it is.
        top_k: only the k best tokens.
        top_p: only the fewest best tokens whose probabilities sum to at least p (nucleus; Holtzman et al., 2020).
        min_p: only tokens at least min_p times as probable as the best (Nguyen et al., 2024).
        repetition_penalty: scores of tokens that already stand in the row are divided by it where positive and
            multiplied where negative (CTRL, Keskar et al., 2019); 1 for none.

    Filters act after the temperature, in the order of this list.

    Raises:
        ValueError: a value outside its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        for name, holds, expected in (
            ("temperature", 0 <= self.temperature < float("inf"), "at least 0 (0 is greedy)"),
            ("top_k", self.top_k is None or self.top_k >= 1, "at least 1"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("repetition_penalty", 0 < self.repetition_penalty < float("inf"), "above 0 (1 is none)"),
        ):
            if not holds:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be {expected}")


def choose(logits: Tensor, options: SamplingOptions, uniform: Tensor, seen: Tensor | None = None) -> Tensor:
    """Choose one token a row.

    Args:
        logits: (B, V).
        options: how.
        uniform: (B,), each row's own number in [0, 1), float64, on the CPU: where on its cumulative distribution it
            is drawn.
        seen: (B, V), bool, what already stands in each row; only a repetition penalty needs it.

    Returns:
        (B,), int64.
    """
    logits = logits.float()
    if seen is not None and options.repetition_penalty != 1:
        penalised = torch.where(logits > 0, logits / options.repetition_penalty, logits * options.repetition_penalty)
        logits = torch.where(seen, penalised, logits)
    if options.temperature == 0:
        return logits.argmax(dim=-1)
    logits, tokens = candidates(logits, options)
    # In float64, and so on the CPU, since not every accelerator has it.
    cumulative = torch.softmax(logits.to("cpu", torch.float64), dim=-1).cumsum(dim=-1)
    # Scaled by the total, which rounding leaves a little off 1, so that the draw stays inside the row.
    drawn = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)
    drawn = drawn.clamp(max=cumulative.shape[1] - 1).to(logits.device)
    return drawn.squeeze(1) if tokens is None else tokens.gather(1, drawn).squeeze(1)


def candidates(logits: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor | None]:
    """Apply temperature, top-k, top-p and min-p to logits (B, V). Greedy is not for here.

    Returns:
        The logits left (B, C), -inf where a row has fewer than C, and their tokens (B, C), best first; tokens is
        None where nothing was filtered and column n is token n.
    """
    tokens = None
    if options.top_k is not None and options.top_k < logits.shape[1]:
        logits, tokens = logits.topk(options.top_k, dim=-1)  # the same ones at any temperature
    if options.temperature != 1:
        # With the best at 0 and the temperature well inside float32's range, nothing overflows: the best stays 0.
        temperature = min(max(options.temperature, 1e-30), 1e30)
        logits = (logits - logits.amax(dim=-1, keepdim=True)) / temperature
    if options.top_p < 1:
        if tokens is None:
            tokens = best_first(logits)
            logits = logits.gather(1, tokens)
        probabilities = torch.softmax(logits, dim=-1)
        # A token stays if those before it do not reach p; the best always does.
        left_out = probabilities.cumsum(dim=-1) - probabilities >= options.top_p
        count = int((~left_out).sum(dim=-1).max())
        logits, tokens = logits.masked_fill(left_out, -torch.inf)[:, :count], tokens[:, :count]
    if options.min_p > 0:
        # p / p_best = exp(logit - best logit), so no softmax is needed.
        relative = torch.exp(logits - logits.max(dim=-1, keepdim=True).values)
        logits = logits.masked_fill(relative < options.min_p, -torch.inf)
    return logits, tokens


def best_first(logits: Tensor) -> Tensor:
    """The tokens of each row by their logits, the best first and equal ones in their own order: (B, V) -> (B, V).

    On a CPU NumPy sorts whole numbers several times as fast as PyTorch sorts numbers with their places. So logits go
    before it as the whole numbers that are in the order of float32's bits, each with its token in the lower half.
    """
    if logits.device.type != "cpu" or logits.dtype != torch.float32:
        return logits.sort(dim=-1, descending=True, stable=True).indices
    bits = (logits + 0.0).view(torch.int32)  # + 0 makes -0 a 0, its equal
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    keys = ((~ascending).to(torch.int64) << 32) | torch.arange(logits.shape[1])
    keys.numpy().sort(axis=1)
    return keys & 0xFFFFFFFF
