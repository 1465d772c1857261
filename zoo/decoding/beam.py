"""Batched beam search on any decoder.

Each source has K beams, the best hypotheses of one length that have not ended. A step extends each by every token;
extensions that end and are among the K best of all are finished, and the K best that do not end are the next beams.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.core.state import State, reorder

MAX_BEAMS = 10_000
"""More is a slip, and would not fit any memory."""

MAX_SCORES = 2**26
"""Scores (rows, V) of a step's next tokens that a batch may have: 256 MB in float32, of which a step keeps a few."""


@dataclass(frozen=True)
class BeamOptions:
    """How beam search searches and what it returns.

    Attributes:
        num_beams: K; 1 is greedy.
        n_best: hypotheses returned for each source.
        length_penalty: alpha of `length_penalty`; 0 for none, more favours longer hypotheses.
        no_repeat_ngram_size: no n-gram of this many tokens occurs twice in a hypothesis (Paulus et al., "A deep
            reinforced model for abstractive summarization", 2018); None allows all.

    Raises:
        ValueError: a value outside its range.
    """

    num_beams: int = 5
    n_best: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram_size: int | None = None

    def __post_init__(self) -> None:
        for name, holds, expected in (
            ("num_beams", 1 <= self.num_beams <= MAX_BEAMS, f"from 1 (greedy) to {MAX_BEAMS:,}"),
            ("n_best", 1 <= self.n_best <= self.num_beams, f"from 1 to num_beams, {self.num_beams}"),
            ("length_penalty", 0 <= self.length_penalty <= 10, "from 0 (none) to 10"),
            ("no_repeat_ngram_size", self.no_repeat_ngram_size is None or self.no_repeat_ngram_size >= 1, "at least 1"),
        ):
            if not holds:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be {expected}")


class Hypothesis(NamedTuple):
    """One result: its tokens without the end token, and whether that followed.

    `log_probability` is log P(Y), the end token's included where it is finished; `score` is that over its
    `length_penalty`.
    """

    tokens: tuple[int, ...]
    score: float
    log_probability: float
    finished: bool


class DecoderMemory(Protocol):
    """What beam search needs of the memory that a decoder attends to, one row a source."""

    def rows(self, index: Tensor) -> Self:
        """The memory whose row n is row `index[n]` of this one; `index` is (N,), int64."""


class BeamDecoder(Protocol):
    """What beam search needs of a decoder."""

    def step(self, *args: Any, **kwargs: Any) -> tuple[Tensor, State]:
        """Tokens (N,), state, and the memory where there is one -> logits (N, V), state."""


def rows_at_once(vocab_size: int, num_beams: int = 1) -> int:
    """How many sources a batch may have, V and K given, for no more than MAX_SCORES; at least one."""
    return max(1, MAX_SCORES // (vocab_size * num_beams))


def length_penalty(length: Tensor | int, alpha: float) -> Tensor:
    """((5 + |Y|) / 6)^alpha: Wu et al., "Google's neural machine translation system", 2016, eq. 14.

    |Y| is a hypothesis' length, with the end token where it is finished; its score is log P(Y) over this.
    """
    return ((5 + torch.as_tensor(length)) / 6) ** alpha


@torch.inference_mode()
def beam_search(
    decoder: BeamDecoder,
    logits: Tensor,
    state: State,
    *,
    end_id: int | None,
    max_new_tokens: int | Sequence[int],
    min_new_tokens: int | Sequence[int] = 0,
    options: BeamOptions,
    memory: DecoderMemory | None = None,
    banned: Sequence[int] = (),
) -> list[list[Hypothesis]]:
    """Search for the best continuations of B sources.

    A source is done when n_best of its hypotheses are finished and none of its beams can still beat the n_best-th:
    log P only falls, so that a beam's score never gets above its log P over the largest length penalty. With one beam
    it is done when that beam ends, so that K = 1 is greedy whatever the length penalty. It then leaves the batch.
    What a source gets does not depend on the others.

    Args:
        decoder: its `step` is called with N = (sources not done)·K rows; those of the n-th such source are n·K to
            n·K + K-1, also where it has fewer than K hypotheses.
        logits: (B, V), of the first new token.
        state: that of B rows.
        end_id: the token that ends a hypothesis; None where nothing does, and each gets max_new_tokens tokens.
        max_new_tokens: without the end token, for all sources or for each. After this many tokens only the end may
            follow; a hypothesis for which it is not among the K best is cut. 0 gives an empty, unfinished one.
        min_new_tokens: no end before this many; where it is above max_new_tokens nothing ends.
        options: how.
        memory: given to each `step`; its rows are the sources not done, one each, not K.
        banned: tokens never chosen. What is forbidden, here or elsewhere, leaves the other tokens' probabilities as
            they are.

    Returns:
        For each source up to n_best hypotheses: finished ones, best first, then, where these are too few, unfinished
        ones, best first. There is always at least one: where nothing can follow any beam, those are cut.

    Raises:
        ValueError: lengths below 0 or not one a source, or `end_id` outside the vocabulary.
    """
    batch, vocab_size = logits.shape
    width, n_best, alpha = options.num_beams, options.n_best, options.length_penalty
    if end_id is not None and not 0 <= end_id < vocab_size:
        raise ValueError(f"end_id is {end_id}, but the vocabulary has ids 0 to {vocab_size - 1}")
    longest = _one_each("max_new_tokens", max_new_tokens, logits)
    shortest = longest + 1 if end_id is None else _one_each("min_new_tokens", min_new_tokens, logits)
    shortest = torch.where(longest == 0, 1, shortest)
    unwanted = torch.tensor(list(banned), dtype=torch.long, device=logits.device)

    found: list[list[Hypothesis]] = [[] for _ in range(batch)]
    source = torch.arange(batch, device=logits.device)  # (B,), which of `found` each row of these tensors is
    best = torch.full((batch, n_best), -torch.inf, device=logits.device)  # scores of the finished
    # The beams, best first: one to begin with, then K, of which some may be dead (log P is -inf).
    live = best.new_zeros(batch, 1)  # (B, K), log P
    tokens = source.new_zeros(batch, 1, 0)  # (B, K, t)

    def add(chosen: Tensor, log_probability: Tensor, score: Tensor, finished: bool) -> None:
        """Put those of the (B, K) beams among what was found."""
        n, k = chosen.nonzero(as_tuple=True)
        if not len(n):
            return
        numbers = torch.stack([score[n, k], log_probability[n, k]], dim=1).tolist()
        for to, its_tokens, (its_score, its_log_p) in zip(
            source[n].tolist(), tokens[n, k].tolist(), numbers, strict=True
        ):
            found[to].append(Hypothesis(tuple(its_tokens), its_score, its_log_p, finished))

    def cut(leaving: Tensor) -> None:
        """Fill up with beams as they are, where too few are finished."""
        chosen = (leaving & (best[:, -1] == -torch.inf))[:, None] & (live > -torch.inf)
        chosen &= chosen.cumsum(dim=1) <= n_best
        add(chosen, live, live / length_penalty(tokens.shape[2], alpha), False)

    while len(source):
        length = tokens.shape[2]
        scores = torch.log_softmax(logits.float(), dim=-1)
        scores.index_fill_(1, unwanted, -torch.inf)
        if options.no_repeat_ngram_size is not None:
            _ban_repeats(scores, tokens.flatten(0, 1), options.no_repeat_ngram_size)
        scores = scores.view(*live.shape, vocab_size).add_(live[..., None])
        if end_id is not None:
            scores[..., end_id].masked_fill_((length < shortest)[:, None], -torch.inf)
        ends, next_live, parent, token = _extend(scores, width, end_id)

        final = ends / length_penalty(length + 1, alpha)
        add(final > best[:, -1:], ends, final, True)
        best = torch.cat([best, final], dim=1).topk(n_best, dim=1).values
        can_improve = next_live[:, 0] / length_penalty(longest + 1, alpha) > best[:, -1]
        done = ~can_improve | (length == longest)
        if width == 1:
            done |= ends[:, 0] > -torch.inf
        live = live.masked_fill(ends > -torch.inf, -torch.inf)  # a finished one is not an unfinished one too
        cut(done)

        rows = parent + torch.arange(len(source), device=source.device)[:, None] * live.shape[1]
        before = tokens.gather(1, parent[..., None].expand(-1, -1, length))
        tokens, live = torch.cat([before, token[..., None]], dim=2), next_live
        # Where no end may follow the last token, what would follow it need not be scored.
        full = ~done & (length + 1 == longest) & (longest < shortest)
        cut(full)

        staying = (~done & ~full).nonzero().squeeze(1)
        if len(staying) == 0:
            break
        if len(staying) < len(source):
            source, longest, shortest, best = (part[staying] for part in (source, longest, shortest, best))
            live, tokens, rows = live[staying], tokens[staying], rows[staying]
            memory = None if memory is None else memory.rows(staying)
        inputs = (tokens[..., -1].flatten(), reorder(state, rows.flatten()))
        logits, state = decoder.step(*inputs) if memory is None else decoder.step(*inputs, memory)

    return [sorted(few, key=lambda one: (not one.finished, -one.score))[:n_best] for few in found]


def _extend(scores: Tensor, width: int, end_id: int | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """From log P of each beam with each token to what ends and what goes on.

    Args:
        scores: (B, K, V); the end token's are overwritten.
        width: how many go on; K but for the first step, where there is one beam.
        end_id: the end token.

    Returns:
        ends: (B, K), log P of each beam with the end token, -inf where that is not among the `width` best of all.
        live: (B, width), log P of those that go on, best first, -inf where there are not so many.
        parent: (B, width), which beam each of them extends.
        token: (B, width), and by which token.
    """
    batch, beams, vocab_size = scores.shape
    ends = scores.new_full((batch, beams), -torch.inf)
    if end_id is not None:
        ends = scores[..., end_id].clone()
        scores[..., end_id] = -torch.inf
    # As fast on a CPU as a top-k for each beam and another over those: 4 ms for 64 sources, 5 beams and 8,000 tokens.
    live, place = scores.flatten(1).topk(min(width, beams * vocab_size), dim=1)
    missing = (0, width - live.shape[1])
    live, place = F.pad(live, missing, value=-torch.inf), F.pad(place, missing)
    worst = torch.cat([live, ends], dim=1).topk(width, dim=1).values[:, -1:]
    return ends.masked_fill(ends < worst, -torch.inf), live, place // vocab_size, place % vocab_size


def _one_each(name: str, values: int | Sequence[int], logits: Tensor) -> Tensor:
    """(B,), int64, from one number for all rows of logits (B, V) or one for each."""
    values = [values] * len(logits) if isinstance(values, int) else list(values)
    if len(values) != len(logits):
        raise ValueError(f"{name} has {len(values)} numbers for {len(logits)} rows: give one for all or one for each")
    if min(values, default=0) < 0:
        raise ValueError(f"{name} is {min(values)}, but must be at least 0")
    return torch.tensor(values, dtype=torch.long, device=logits.device)


def _ban_repeats(scores: Tensor, tokens: Tensor, size: int) -> None:
    """Set to -inf, in scores (N, V), each token that would complete an n-gram that stands in tokens (N, t)."""
    if tokens.shape[1] < size:
        return
    ngrams = tokens.unfold(1, size, 1)  # (N, t - size + 1, size)
    recent = tokens[:, tokens.shape[1] - size + 1 :]  # (N, size - 1), what the next n-gram begins with
    row, place = (ngrams[..., :-1] == recent[:, None]).all(dim=-1).nonzero(as_tuple=True)
    scores[row, ngrams[row, place, -1]] = -torch.inf
