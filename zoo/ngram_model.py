"""An n-gram language model with interpolated modified Kneser-Ney smoothing: what the baselines count with.

The next token w depends on a context h of at most n-1 tokens; h' is h without its oldest token:

    p(w | h) = (c(h, w) - D(c(h, w))) / sum_v c(h, v) + gamma(h) * p(w | h'),    below the empty h: 1 / V

c(h, w) counts how often h w occurs at the highest order, how many different tokens precede it at lower ones.
D is one of three discounts an order, for counts of 1, 2 and 3 or more; gamma(h) hands on what D took away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from zoo.core.state import State

MAX_ORDER = 64  # no text repeats itself further than that to any use, and time and memory grow with it


class NgramModel:
    """Predicts each token from counts of n-grams; follows the decoding protocol of the neural decoders.

    Source: Chen & Goodman, "An empirical study of smoothing techniques for language modeling" (1998),
    after Kneser & Ney (1995). Every token has a probability above zero after every context, seen or not.

    Args:
        vocab_size: V; token ids are in [0, V).
        order: n, the longest n-gram that is counted; a context has up to n-1 tokens.

    Raises:
        ValueError: `order` is not 1 to 64, or `vocab_size` is less than 1.
    """

    def __init__(self, vocab_size: int, order: int) -> None:
        if not 1 <= order <= MAX_ORDER:
            raise ValueError(f"order is {order}: expected 1 to {MAX_ORDER} (6 predicts from the last 5 tokens)")
        if vocab_size < 1:
            raise ValueError(f"a vocab_size {vocab_size} leaves no token to predict: expected at least 1")
        self.vocab_size = vocab_size
        self.order = order
        self._unigram = torch.empty(0, dtype=torch.float64)
        self._levels: list[_Level] = []

    def fit(self, tokens: Tensor) -> Self:
        """Counts the n-grams of one text; an earlier fit is replaced.

        A text of N < n tokens has no n-gram of the full order: the highest order is then N.

        Args:
            tokens: (N,) integers in [0, V).

        Returns:
            This model.

        Raises:
            ValueError: `tokens` is not one row of integers, is empty, or holds an id outside [0, V).
        """
        tokens = self._checked(tokens)
        # A context, and a pair of context and next token, is named by its rank among the different ones of
        # that length. A longer one has the key (rank of its suffix) * V + its oldest token: below N * V.
        context_keys = torch.zeros(1, dtype=torch.long)
        contexts = torch.zeros_like(tokens)
        longest = min(self.order, len(tokens)) - 1
        levels = []
        for length in range(longest + 1):
            if length > 0:
                context_keys, contexts, _ = _ranks(contexts[1:] * self.vocab_size + tokens[:-length])
            pair_keys, pairs, counts = _ranks(contexts * self.vocab_size + tokens[length:])
            if length < longest:
                # Below the highest order a pair counts once for each different token before it.
                before, _, _ = _ranks(pairs[1:] * self.vocab_size + tokens[: -length - 1])
                counts = torch.bincount(before // self.vocab_size, minlength=len(pair_keys))
            levels.append(_smooth(context_keys, pair_keys, counts, self.vocab_size))

        # Every prediction starts from the empty context: its distribution is kept whole.
        root, self._levels = levels[0], levels[1:]
        self._unigram = (root.backoffs / self.vocab_size).repeat(self.vocab_size)
        self._unigram[root.pair_keys] += root.weights
        return self

    def nats_per_token(self, tokens: Tensor) -> float:
        """Average negative log-likelihood of a text: minus the mean of its `log_probabilities`."""
        return -self.log_probabilities(tokens).mean().item()

    def log_probabilities(self, tokens: Tensor) -> Tensor:
        """How likely each token of a text is after those before it; the first ones have only shorter contexts.

        Args:
            tokens: (N,) integers in [0, V).

        Returns:
            (N,) float64 natural logarithms, on the CPU.

        Raises:
            ValueError: `tokens` is not one row of integers, is empty, or holds an id outside [0, V).
            RuntimeError: `fit` was not called.
        """
        tokens = self._checked(tokens)
        before = torch.cat([tokens.new_full((1,), -1), tokens[:-1]])  # -1 where there is none
        return self.log_probabilities_after(self._states(before[None], self._nothing(1)), tokens)

    def log_probabilities_after(self, state: State, tokens: Tensor) -> Tensor:
        """How likely one token is after each state: what `next_log_probabilities` says of it, without the others.

        Args:
            state: as in `prefill`, of N rows.
            tokens: (N,) integers in [0, V).

        Returns:
            (N,) float64 natural logarithms, on the CPU.

        Raises:
            ValueError: the state is not (n-1, N), or an id is outside [0, V).
            RuntimeError: `fit` was not called.
        """
        tokens = self._checked(tokens)
        history = self._checked_state(state, len(tokens))
        probabilities = self._unigram[tokens]
        contexts = torch.zeros_like(tokens)
        for level, older in zip(self._levels, reversed(history.unbind()), strict=False):
            contexts = level.extend(contexts, older, self.vocab_size)
            pairs = _find(level.pair_keys, contexts * self.vocab_size + tokens, contexts >= 0)
            kept = torch.where(pairs >= 0, level.weights[pairs], 0.0)
            probabilities = kept + level.backoff(contexts) * probabilities
        return probabilities.log()

    def window_log_probabilities(
        self, inputs: Tensor, targets: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """How likely the target of each step is after the inputs so far and what `state` remembers.

        Args:
            inputs, targets: (B, T) integers in [0, V).
            state: as in `prefill`, of B rows; None for no tokens before.

        Returns:
            (B, T) float64 natural logarithms and the state after the inputs, both on the CPU.

        Raises:
            ValueError: shapes do not fit, T is 0, or an id is outside [0, V).
            RuntimeError: `fit` was not called.
        """
        if inputs.dim() != 2 or inputs.shape != targets.shape or not inputs.numel():
            shapes = f"inputs has shape {tuple(inputs.shape)} and targets {tuple(targets.shape)}"
            raise ValueError(f"{shapes}: expected (B, T) for both, at least (1, 1)")
        self._check_ids(inputs)
        states = self._states(inputs, self._nothing(len(inputs)) if state is None else state)
        after = states[0].view(self.order - 1, *inputs.shape)[:, :, -1]
        return self.log_probabilities_after(states, targets.flatten()).view(targets.shape), (after,)

    def prefill(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """Reads a batch of prompts.

        Args:
            tokens: (B, T) integers in [0, V), each row right-padded with anything.
            lengths: (B,) number of tokens of each row, 0 to T.

        Returns:
            logits: (B, V) float32 log-probabilities of the token after each row's own last one.
            state: one (n-1, B) int64 tensor: each row's last tokens, oldest first, -1 where there is none.

        Raises:
            ValueError: shapes do not fit, a length is outside 0..T, or an id is outside [0, V).
            RuntimeError: `fit` was not called.
        """
        if tokens.dim() != 2 or lengths.shape != tokens.shape[:1]:
            raise ValueError(
                f"tokens has shape {tuple(tokens.shape)} and lengths {tuple(lengths.shape)}: expected (B, T) and (B,)"
            )
        batch, steps = tokens.shape
        if batch and not 0 <= int(lengths.min()) <= int(lengths.max()) <= steps:
            raise ValueError(f"lengths are {lengths.tolist()}: expected 0 to {steps}, the width of tokens")
        lengths = lengths.to(tokens.device)
        columns = torch.arange(steps, device=tokens.device)
        self._check_ids(tokens[columns < lengths[:, None]])
        # One column of -1 in front stands for every position before the first token.
        missing = tokens.new_full((batch, 1), -1, dtype=torch.long)
        positions = lengths + torch.arange(2 - self.order, 1, device=tokens.device)[:, None]
        history = torch.cat([missing, tokens.long()], dim=1).T.gather(0, positions.clamp(min=0))
        return self.next_log_probabilities((history,)), (history,)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Reads one more token in each row.

        Args:
            tokens: (B,) integers in [0, V).
            state: from `prefill` or `step`.

        Returns:
            logits: (B, V) float32 log-probabilities of the token after these.
            state: as in `prefill`.

        Raises:
            ValueError: `tokens` is not one id for each row of the state, or an id is outside [0, V).
            RuntimeError: `fit` was not called.
        """
        (history,) = state
        if tokens.shape != history.shape[1:]:
            raise ValueError(f"tokens has shape {tuple(tokens.shape)}: the state has {history.shape[1]} rows")
        self._check_ids(tokens)
        state = (torch.cat([history, tokens[None].to(history)])[1:],)
        return self.next_log_probabilities(state), state

    def next_log_probabilities(self, state: State) -> Tensor:
        """The distribution of the next token after the last tokens in `state`.

        Args:
            state: one (n-1, B) int64 tensor, oldest token first, -1 where there is none.

        Returns:
            (B, V) float32 log-probabilities, on the state's device (the counts stay on the CPU).

        Raises:
            ValueError: the state does not have n-1 rows.
            RuntimeError: `fit` was not called.
        """
        history = self._checked_state(state, state[0].shape[-1])
        probabilities = self._unigram.repeat(history.shape[1], 1)
        contexts = torch.zeros(history.shape[1], dtype=torch.long)
        for level, older in zip(self._levels, reversed(history.unbind()), strict=False):
            contexts = level.extend(contexts, older, self.vocab_size)
            rows = (contexts >= 0).nonzero().squeeze(1)
            if not len(rows):
                break
            probabilities *= level.backoff(contexts)[:, None]
            # The pairs of one context lie side by side, from its start to the next one's.
            starts, ends = level.starts[contexts[rows]], level.starts[contexts[rows] + 1]
            sizes = ends - starts
            pairs = torch.arange(int(sizes.sum())) + (ends - sizes.cumsum(0)).repeat_interleave(sizes)
            nexts = level.pair_keys[pairs] % self.vocab_size
            probabilities[rows.repeat_interleave(sizes), nexts] += level.weights[pairs]
        return probabilities.log().to(state[0].device, torch.float32)

    def _nothing(self, rows: int) -> State:
        """The state of rows that have no tokens yet."""
        return (torch.full((self.order - 1, rows), -1),)

    def _states(self, inputs: Tensor, state: State) -> State:
        """The state after each token of each row: inputs (B, T), state of B rows -> state of B·T rows."""
        row = torch.cat([self._checked_state(state, len(inputs)).T, inputs.long().cpu()], dim=1)
        return (row.unfold(1, self.order - 1, 1)[:, 1:].flatten(0, 1).T,)

    def _checked_state(self, state: State, rows: int) -> Tensor:
        self._require_fit()
        (history,) = state
        if history.shape != (self.order - 1, rows):
            raise ValueError(f"the state has shape {tuple(history.shape)}: expected ({self.order - 1}, {rows})")
        return history.cpu()

    def _require_fit(self) -> None:
        if not len(self._unigram):
            raise RuntimeError(f"this {type(self).__name__} has no counts yet: call fit(tokens) first")

    def _checked(self, tokens: Tensor) -> Tensor:
        if tokens.dim() != 1 or not len(tokens):
            raise ValueError(f"tokens has shape {tuple(tokens.shape)}: expected (N,) with at least one token")
        self._check_ids(tokens)
        return tokens.long().cpu()

    def _check_ids(self, tokens: Tensor) -> None:
        if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
            raise ValueError(f"tokens has dtype {tokens.dtype}: expected integer token ids")
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.vocab_size:
            raise ValueError(
                f"token ids go from {int(tokens.min())} to {int(tokens.max())}: the vocabulary has ids 0 to "
                f"{self.vocab_size - 1}; encode the text with the tokenizer this model was made for"
            )


@dataclass(frozen=True)
class _Level:
    """All contexts of one length, numbered in the order of their keys, and the tokens seen after them."""

    context_keys: Tensor  # (contexts,) sorted: number of the context one token shorter * V + oldest token
    starts: Tensor  # (contexts + 1,) where the pairs of each context begin
    pair_keys: Tensor  # (pairs,) sorted: number of the context * V + next token
    weights: Tensor  # (pairs,) float64: (c - D) / total
    backoffs: Tensor  # (contexts,) float64: gamma

    def extend(self, contexts: Tensor, older: Tensor, vocab_size: int) -> Tensor:
        """Numbers of contexts one token shorter, and the token before each -> numbers here; -1 is unseen."""
        return _find(self.context_keys, contexts * vocab_size + older, (contexts >= 0) & (older >= 0))

    def backoff(self, contexts: Tensor) -> Tensor:
        """gamma of each context; an unseen one (-1) leaves everything to the shorter context."""
        return torch.where(contexts >= 0, self.backoffs[contexts], 1.0)


def _smooth(context_keys: Tensor, pair_keys: Tensor, counts: Tensor, vocab_size: int) -> _Level:
    context = pair_keys // vocab_size
    discounts = torch.tensor([0.0, *_discounts(counts)], dtype=torch.float64)[counts.clamp(max=3)]
    taken = torch.bincount(context, weights=discounts, minlength=len(context_keys))
    totals = torch.bincount(context, weights=counts.double(), minlength=len(context_keys))
    return _Level(
        context_keys=context_keys,
        starts=torch.searchsorted(pair_keys, torch.arange(len(context_keys) + 1) * vocab_size),
        pair_keys=pair_keys,
        # A context that occurs only where the text begins has no token before it: its total is zero.
        weights=(counts - discounts) / totals[context].clamp(min=1),
        backoffs=torch.where(totals > 0, taken / totals.clamp(min=1), 1.0),
    )


def _discounts(counts: Tensor) -> tuple[float, float, float]:
    """D1, D2 and D3+ from the numbers n1 to n4 of pairs with counts 1 to 4 (Chen & Goodman, 1998)."""
    n1, n2, n3, n4 = torch.bincount(counts.clamp(max=5), minlength=6)[1:5].tolist()
    if min(n1, n2, n3, n4) > 0:
        y = n1 / (n1 + 2 * n2)
        d1, d2, d3 = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
        if d2 > 0 and d3 > 0:  # the upper bounds 1, 2 and 3, and d1 > 0, hold for any counts
            return d1, d2, d3
    # Too few pairs to estimate from, as for the single characters of a text: what KenLM falls back to.
    return 0.5, 1.0, 1.5


def _ranks(keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The different keys, sorted; for each key its place among them; how often each occurs."""
    different, places, counts = torch.unique(keys, return_inverse=True, return_counts=True)
    return different, places, counts


def _find(keys: Tensor, wanted: Tensor, possible: Tensor) -> Tensor:
    """The place of each wanted key in the sorted keys, or -1 where it is absent or not possible."""
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(possible & (keys[place] == wanted), place, -1)
