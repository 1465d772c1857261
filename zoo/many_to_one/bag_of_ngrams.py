"""A linear classifier of the n-grams that a text has, wherever they stand: the wide part beside a deep one."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core.ngrams import MAX_ORDER, ngram_codes

# Fewer texts than this have an n-gram of no use: what one text alone has tells that text's label and no more.
MIN_TEXTS = 2

ITERATIONS = 100
HISTORY = 10
NONE = torch.iinfo(torch.int64).max  # stands above every code


class BagOfNgrams(nn.Module):
    """Scores of labels from the n-grams in a text, n = 1 to `order`, each counted once.

    Scores are a bias and the sum of the table's rows of the text's n-grams, over the root of how many of these the
    table has. A row is weight · ratio. `ratio`, by counting, is how much likelier the n-gram is with each label than
    with the labels on average (by their logarithms); the weight is learned, for all labels the same. Wang and Manning,
    "Baselines and bigrams: simple, good sentiment and topic classification", 2012: NB-SVM, here with a logistic loss.

    It does not learn step by step with a network: `fit` looks for the best weights, of which there is one set only.
    Before that every score is zero.

    Args:
        num_labels: C.
        order: the longest n-gram, 1 to 8.
        size: K, the most n-grams in the table.

    Raises:
        ValueError: an order or size out of range.
    """

    codes: Tensor

    def __init__(self, num_labels: int, order: int, size: int) -> None:
        super().__init__()
        if not 1 <= order <= MAX_ORDER:
            raise ValueError(f"bag_order is {order}, but must be from 1 to {MAX_ORDER} (or 0 for none)")
        if size < 1:
            raise ValueError(f"bag_size is {size}, but must be at least 1")
        self.order = order
        self.register_buffer("codes", torch.full((size,), NONE))  # of the n-grams, ascending
        self.table = nn.Parameter(torch.zeros(size, num_labels), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(num_labels), requires_grad=False)

    def forward(self, rows: Sequence[Tensor]) -> Tensor:
        """N texts' tokens (T,), N and T at least 1 -> scores (N, C)."""
        places = [_look_up(_codes(row.to(self.codes.device), self.order).unique(), self.codes)[0] for row in rows]
        found = torch.tensor([len(its) for its in places], device=self.codes.device)
        owners = torch.repeat_interleave(found)
        sums = self.table.new_zeros(len(rows), self.table.shape[1]).index_add_(0, owners, self.table[torch.cat(places)])
        return sums * _scale(found, like=sums) + self.bias

    def parts(self, row: Tensor) -> Tensor:
        """What each token of a text adds to its scores, (T,) -> (T, C); an n-gram's part is that of its first end."""
        codes, order = _codes(row.to(self.codes.device), self.order).flatten().sort(stable=True)
        is_first = F.pad(codes[1:] != codes[:-1], (1, 0), value=True)
        places, known = _look_up(codes[is_first], self.codes)
        ends = order[is_first][known] // self.order
        parts = self.table.new_zeros(len(row), self.table.shape[1]).index_add_(0, ends, self.table[places])
        return parts / max(1, len(places)) ** 0.5

    @torch.no_grad()
    def fit(
        self,
        rows: Sequence[Tensor],
        targets: Tensor,
        loss: Callable[[Tensor, Tensor], Tensor],
        variance: float = 10.0,
    ) -> None:
        """Choose the commonest n-grams of the training texts, and find their best weights by L-BFGS.

        On the CPU, in some 40 bytes for each n-gram of each text, and for each n-gram that is kept in 30 numbers and 5
        more a label.

        Args:
            rows: N texts (T,).
            targets: (N,) int64, the label's number, or for several labels a text (N, C) float32, 1 or 0.
            loss: of scores (N, C) and targets, a mean over texts, or for several labels over texts and labels.
            variance: of the weights before any text was seen, which are taken to be normal about 0. The longer the
                texts the larger: 10 is good for sentences, 50 for film reviews.

        Raises:
            ValueError: there are no texts, or `variance` is not above 0.
        """
        if not variance > 0:
            raise ValueError(f"bag_variance is {variance}, but must be above 0")
        if not len(rows):
            raise ValueError("there are no texts to fit a bag of n-grams to")
        targets = targets.cpu()
        every = [_codes(row.cpu(), self.order).unique() for row in rows]
        codes, counts = torch.cat(every).unique(return_counts=True)
        common = (counts >= MIN_TEXTS).nonzero()[:, 0]
        if len(common) > len(self.codes):
            common = common[counts[common].argsort(descending=True, stable=True)[: len(self.codes)]].sort().values
        codes = codes[common]

        found = _Incidence.of([_look_up(its, codes)[0] for its in every], len(codes))
        del every, counts
        turned, scale = found.turned(), _scale(found.starts.diff(), like=torch.empty(0, dtype=self.table.dtype))
        several = targets.ndim == 2
        labels = (targets if several else F.one_hot(targets, self.table.shape[1])).to(scale)
        ratios = _shares(turned.sums(labels)).log()
        ratios -= _shares(turned.sums(1 - labels)).log() if several else ratios.mean(dim=1, keepdim=True)

        weights, bias = torch.zeros_like(ratios[:, :1]), torch.zeros_like(self.bias, device="cpu")
        decay = 1 / (variance * targets.numel())

        def objective() -> Tensor:
            scores = (found.sums(weights * ratios) * scale + bias).requires_grad_()
            with torch.enable_grad():
                value = loss(scores, targets)
            (slope,) = torch.autograd.grad(value, scores)
            bias.grad = slope.sum(dim=0)
            weights.grad = (turned.sums(slope * scale) * ratios).sum(dim=1, keepdim=True) + decay * weights
            return value.detach() + decay / 2 * weights.square().sum()

        search = torch.optim.LBFGS(
            [weights, bias],
            max_iter=ITERATIONS,
            history_size=HISTORY,
            tolerance_grad=1e-6,
            tolerance_change=1e-7,
            line_search_fn="strong_wolfe",
        )
        search.step(objective)
        self.codes.copy_(torch.cat([codes, codes.new_full((len(self.codes) - len(codes),), NONE)]))
        self.table.zero_()[: len(codes)] = (weights * ratios).to(self.table.device)
        self.bias.copy_(bias)


def _codes(row: Tensor, order: int) -> Tensor:
    """Of the n-grams that end at each token, those that begin before the first one included: (T,) -> (T, order)."""
    row = F.pad(row.to(torch.int64)[None], (order - 1, 0), value=-1)
    return torch.stack(list(ngram_codes(row, order)), dim=2)[0]


def _look_up(codes: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (M,), and those known, ascending -> the known ones' places among these, and bool (M,), which they are."""
    if not len(known):
        return codes[:0], torch.zeros_like(codes, dtype=torch.bool)
    places = torch.searchsorted(known, codes).clamp(max=len(known) - 1)
    is_known = known[places] == codes
    return places[is_known], is_known


def _scale(counts: Tensor, like: Tensor) -> Tensor:
    """One over the root of each text's number of n-grams, (N,) -> (N, 1), of the type of `like`; 1 for none of them."""
    return counts[:, None].clamp(min=1).to(like).rsqrt()


def _shares(counts: Tensor) -> Tensor:
    """Of each label's n-grams, with one of each added: (n-grams, C) -> (n-grams, C)."""
    return (counts + 1) / (counts + 1).sum(dim=0)


class _Incidence:
    """A sparse matrix of ones, on the CPU: which columns each of N rows has.

    Not torch.sparse, which multiplies only where PyTorch was built with MKL.
    """

    def __init__(self, columns: Tensor, starts: Tensor, num_columns: int) -> None:
        self.columns, self.starts, self.num_columns = columns, starts, num_columns

    @classmethod
    def of(cls, rows: Sequence[Tensor], num_columns: int) -> "_Incidence":
        """Row n has the columns rows[n] (M,) int64, each once."""
        return cls(torch.cat(list(rows)), torch.tensor([0, *map(len, rows)]).cumsum(0), num_columns)

    def sums(self, table: Tensor) -> Tensor:
        """The product with `table` (columns, C): (N, C)."""
        return F.embedding_bag(self.columns, table, self.starts, mode="sum", include_last_offset=True)

    def turned(self) -> "_Incidence":
        """The transposed matrix."""
        columns, order = self.columns.sort(stable=True)
        owners = torch.repeat_interleave(self.starts.diff())
        starts = torch.searchsorted(columns, torch.arange(self.num_columns + 1))
        return _Incidence(owners[order], starts, len(self.starts) - 1)
