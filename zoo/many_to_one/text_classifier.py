"""Many-to-one: a recurrent network reads a whole text and gives it a label."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core import RecurrentCore
from zoo.core.dropout import check_probability
from zoo.core.embedding import TokenEmbedding
from zoo.core.pooling import Pooling
from zoo.data.length_batches import evaluation_batches, pad
from zoo.data.tokenizer import TextTokenizer
from zoo.many_to_one.adversarial import adversarial_loss
from zoo.many_to_one.bag_of_ngrams import BagOfNgrams
from zoo.many_to_one.explanation import Explanation, integrated_gradients
from zoo.many_to_one.opinion_pool import opinion_weights
from zoo.pretrained import PretrainedModel, agreed_vocab_size, evaluating

# Texts are classified so many tokens, padding included, at a time.
BATCH_TOKENS = 16_384

# Of a text that is too long, this share of what is kept is its beginning and the rest its end: Sun et al., "How to
# fine-tune BERT for text classification?", 2019, section 5.3.1, found a quarter best.
HEAD_SHARE = 0.25


class TextBatch(NamedTuple):
    """Texts and their labels: tokens (B, T) int64 padded on the right, lengths (B,), targets (B,) int64, the label's
    number, or for several labels a text (B, C) float32, 1 or 0."""

    tokens: Tensor
    lengths: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Classification:
    """What a text was classified as.

    Attributes:
        label: the most probable label.
        probability: how probable the model takes it to be.
        labels: `label` alone; of a multi-label model every label that is as probable as not, or more (maybe none).
        ranking: the most probable labels with their probabilities, as many as `top_k` asked for.
    """

    label: str
    probability: float
    labels: tuple[str, ...]
    ranking: tuple[tuple[str, float], ...]


class TextClassifier(PretrainedModel):
    """A text classifier: token embeddings → recurrent core → pooling → a score for each label.

    Args:
        labels: C names, in the order of the scores.
        vocab_size: V; may be left out where a tokenizer is given.
        tokenizer: needed by `classify` and `explain` only.
        multi_label: each label is a yes or no of its own, instead of one label a text.
        embedding_size: E.
        hidden_size: H, of one direction.
        num_layers: L.
        cell: a name in `zoo.core.CELLS`.
        bidirectional: read each text from both ends.
        residual: see `RecurrentCore`.
        pooling: one or several of `last`, `mean`, `max` and `attention`, joined by `+`; see `Pooling`.
        max_length: longest text in tokens that the network reads; of a longer one the first quarter of that and the
            last three are kept.
        ngram_order, ngram_buckets: see `TokenEmbedding`.
        bag_order, bag_size: of a `BagOfNgrams` beside the network; 0 for none. It reads texts whole. Scores are the sum
            of the network's and the bag's, each times its weight, 1 at first. The two are trained apart, the bag by
            `fit_bag`, or the bag, which is quick to know the training texts by heart, would leave the network nothing
            to learn (Mesnil et al., "Ensemble of generative and discriminative techniques for sentiment analysis of
            movie reviews", 2014); `fit_pool` then finds the two weights.
        bag_variance: see `BagOfNgrams.fit`.
        dropout: locked dropout between layers, and dropout on the pooled vector.
        input_dropout: locked dropout on the embedded tokens.
        embedding_dropout: share of the vocabulary whose embeddings are dropped whole, a draw a batch.
        word_dropout: share of the positions whose embedding is dropped whole.
        ngram_dropout: share of the n-gram embeddings dropped.
        weight_dropout: share of the recurrent matrices' weights dropped.
        label_smoothing: this share of each target is spread over all labels (Szegedy et al., 2016).
        adversarial: in training the network also learns from each text's embedding moved to where its loss rises most,
            by this share of the embedding's own length; 0 for not. A step takes not quite twice as long. Miyato, Dai
            and Goodfellow, "Adversarial training methods for semi-supervised text classification", 2017, normalise
            embeddings and move them by 5, which is 0.016 of the length of 400 words with 256 features.
        class_weights: C factors of the loss of each label's examples (multi-label: of its positive ones).

    Raises:
        ValueError: a size, probability or name out of range, fewer than two labels (or one twice), or a
            `vocab_size` that is not the tokenizer's.
    """

    def __init__(
        self,
        *,
        labels: Sequence[str],
        vocab_size: int | None = None,
        tokenizer: TextTokenizer | None = None,
        multi_label: bool = False,
        embedding_size: int = 64,
        hidden_size: int = 128,
        num_layers: int = 1,
        cell: str = "lstm",
        bidirectional: bool = True,
        residual: bool = False,
        pooling: str = "mean+max",
        max_length: int | None = None,
        ngram_order: int = 1,
        ngram_buckets: int = 20_000,
        bag_order: int = 0,
        bag_size: int = 2**19,
        bag_variance: float = 10.0,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        word_dropout: float = 0.0,
        ngram_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        label_smoothing: float = 0.0,
        adversarial: float = 0.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        labels = list(labels)
        if len(set(labels)) < len(labels) or len(labels) < (1 if multi_label else 2):
            raise ValueError(f"labels are {labels}, but must be two or more different ones")
        vocab_size = agreed_vocab_size(vocab_size, tokenizer)
        if max_length is not None and max_length < 2:
            raise ValueError(f"max_length is {max_length}, but must be at least 2, a head and a tail")
        if class_weights is not None and (len(class_weights) != len(labels) or not min(class_weights) > 0):
            raise ValueError(f"class_weights are {class_weights}, but must be {len(labels)} numbers above 0")
        for name, p in (("word_dropout", word_dropout), ("label_smoothing", label_smoothing)):
            check_probability(name, p)
        if not bag_variance > 0:
            raise ValueError(f"bag_variance is {bag_variance}, but must be above 0")
        if not 0 <= adversarial < float("inf"):
            raise ValueError(f"adversarial is {adversarial}, but must be at least 0")
        self.config = {
            "labels": labels,
            "vocab_size": vocab_size,
            "multi_label": multi_label,
            "embedding_size": embedding_size,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "cell": cell,
            "bidirectional": bidirectional,
            "residual": residual,
            "pooling": pooling,
            "max_length": max_length,
            "ngram_order": ngram_order,
            "ngram_buckets": ngram_buckets,
            "bag_order": bag_order,
            "bag_size": bag_size,
            "bag_variance": bag_variance,
            "dropout": dropout,
            "input_dropout": input_dropout,
            "embedding_dropout": embedding_dropout,
            "word_dropout": word_dropout,
            "ngram_dropout": ngram_dropout,
            "weight_dropout": weight_dropout,
            "label_smoothing": label_smoothing,
            "adversarial": adversarial,
            "class_weights": None if class_weights is None else list(class_weights),
        }
        self.tokenizer = tokenizer
        self.labels = labels
        self.multi_label = multi_label
        self.max_length = max_length
        self.word_dropout = word_dropout
        self.label_smoothing = label_smoothing
        self.adversarial = adversarial
        self.embedding = TokenEmbedding(
            vocab_size,
            embedding_size,
            ngram_order=ngram_order,
            ngram_buckets=ngram_buckets,
            embedding_dropout=embedding_dropout,
            ngram_dropout=ngram_dropout,
            input_dropout=input_dropout,
        )
        self.core = RecurrentCore(
            cell,
            embedding_size,
            hidden_size,
            num_layers,
            bidirectional=bidirectional,
            dropout=dropout,
            locked_dropout=True,
            weight_dropout=weight_dropout,
            residual=residual,
        )
        self.pooling = Pooling(tuple(pooling.split("+")), self.core.output_size, self.core.num_directions)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.pooling.output_size, len(labels))
        nn.init.zeros_(self.output.bias)
        self.bag_variance = bag_variance
        self.bag = BagOfNgrams(len(labels), bag_order, bag_size) if bag_order else None
        self.pool = nn.Parameter(torch.ones(2), requires_grad=False) if bag_order else None
        # Not saved: config.json has them.
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Tokens (B, T) padded on the right, lengths (B,) -> a score for each label (B, C), float32.

        The network and a bag read the same; of texts that are too long for the network see `scores_of`.
        """
        scores = self._network_scores(tokens, lengths)
        if self.bag is None:
            return scores
        return self.pooled(
            scores, self.bag([row[:length] for row, length in zip(tokens, lengths.tolist(), strict=True)])
        )

    def _network_scores(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        embedded, _ = self.embedding(tokens, None, lengths)
        return self._scores(embedded, lengths)[0]

    def _scores(self, embedded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B, C), and the core's outputs (B, T, D·H) that they come from."""
        if self.training and self.word_dropout:
            embedded = embedded * F.dropout(embedded.new_ones(*embedded.shape[:2], 1), self.word_dropout)
        lengths = lengths.to(embedded.device)
        outputs, _ = self.core(embedded, None, lengths)
        scores = self.output(self.dropout(self.pooling(outputs, lengths)))
        return scores.to(torch.promote_types(scores.dtype, torch.float32)), outputs

    def loss(self, batch: TextBatch) -> Tensor:
        """Mean cross-entropy of the labels, a scalar; multi-label: mean binary cross-entropy over texts and labels.

        It is the network's alone: what a bag of n-grams says is left out. With `adversarial`, in training, it is the
        mean of that and of the moved texts', and its gradient is by the model's parameters and no other tensor.

        Raises ValueError for a batch of no texts, which has no mean.
        """
        if not len(batch.targets):
            raise ValueError("the batch has no texts, but must have at least one to take the mean of")
        embedded, _ = self.embedding(batch.tokens, None, batch.lengths)

        def loss(embedded: Tensor) -> Tensor:
            return self._loss(self._scores(embedded, batch.lengths)[0], batch.targets, self.label_smoothing)

        if self.adversarial and self.training and torch.is_grad_enabled():
            return adversarial_loss(loss, embedded, batch.lengths, self.adversarial, self.parameters())
        return loss(embedded)

    def _loss(self, scores: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        weights = None if self.class_weights is None else self.class_weights.to(scores.dtype)
        if self.multi_label:
            smooth = targets * (1 - smoothing) + smoothing / 2
            return F.binary_cross_entropy_with_logits(scores, smooth.to(scores.dtype), pos_weight=weights)
        return F.cross_entropy(scores, targets, weights, label_smoothing=smoothing)

    def pooled(self, network: Tensor, bag: Tensor | None) -> Tensor:
        """The network's scores and the bag's, each (N, C) -> the model's scores (N, C)."""
        if bag is None or self.pool is None:
            return network
        of_network, of_bag = self.pool.to(network.device)
        return of_network * network + of_bag * bag

    def fit_pool(self, network: Tensor, bag: Tensor, targets: Tensor) -> None:
        """Weigh the network's scores and the bag's so that together they are most probable: a logarithmic opinion pool.

        See `opinion_weights`. Of texts that neither was trained on, since the bag knows those by heart.

        Args:
            network, bag: scores as `scores_of` gives them, each (N, C).
            targets: as in `TextBatch`, (N,) or (N, C).

        Raises:
            ValueError: the model has no bag.
        """
        if self.pool is None:
            raise ValueError("the model has no bag of n-grams: bag_order is 0")

        def loss(scores: Tensor, targets: Tensor) -> Tensor:
            return self._loss(scores, targets, 0.0)

        self.pool.data.copy_(opinion_weights([part.to(self.pool.device) for part in (network, bag)], targets, loss))

    def loss_weight(self, batch: TextBatch) -> float:
        """What `loss` is a mean over: the texts, each by its label's weight if it has one label that has a weight."""
        if self.class_weights is None or self.multi_label:
            return len(batch.targets)
        return float(self.class_weights[batch.targets.to(self.class_weights.device)].sum())

    def fit_bag(self, rows: Sequence[Tensor], targets: Tensor) -> None:
        """Train the bag of n-grams.

        Args:
            rows: N training texts as `encode` gives them.
            targets: as in `TextBatch`, (N,) or (N, C).

        Raises:
            ValueError: the model has no bag, or there are no texts.
        """
        if self.bag is None:
            raise ValueError("the model has no bag of n-grams: bag_order is 0")
        # Smoothed labels make it worse: 88.0 % of IMDb's held-out films' reviews in an early form, not 89.1 %.
        device = self.output.weight.device  # where weights of the labels are

        def loss(scores: Tensor, targets: Tensor) -> Tensor:
            return self._loss(scores.to(device), targets.to(device), 0.0)

        self.bag.fit(rows, targets, loss, self.bag_variance)

    def to_probabilities(self, scores: Tensor) -> Tensor:
        """Scores (N, C) -> probabilities (N, C)."""
        return scores.sigmoid() if self.multi_label else scores.softmax(dim=-1)

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        """Each text's tokens, N rows (T,) int32, whole. Raises ValueError for a text without any."""
        rows = self.require_tokenizer().encode_rows(texts)
        for number, row in enumerate(rows, start=1):
            if not len(row):
                raise ValueError(f"text {number} of {len(texts)} is empty: there is nothing in it to classify")
        return rows

    def shorten(self, row: Tensor, max_length: int | None = None) -> Tensor:
        """What is kept of a text's tokens: (T,) -> (at most `max_length`,), its head and its tail.

        `max_length` is the model's own if left out. Raises ValueError if it is below 2.
        """
        longest = self.max_length if max_length is None else max_length
        if longest is None or len(row) <= longest:
            return row
        if longest < 2:
            raise ValueError(f"max_length is {longest}, but must be at least 2, a head and a tail")
        head = max(1, int(HEAD_SHARE * longest))
        return torch.cat([row[:head], row[head - longest :]])

    def classify(self, text: str | Iterable[str], top_k: int = 1) -> Any:
        """Classify a text or several.

        Args:
            text: one text, or any number of them. They are sorted by length and batched; the results are in the
                order asked, and do not depend on what else is asked.
            top_k: how many labels `ranking` is to have; more than there are gives all.

        Returns:
            A `Classification`, or a list of them if several texts were given.

        Raises:
            ValueError: a text is empty, or `top_k` is below 1.
        """
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}, but must be at least 1")
        if isinstance(text, str):
            return self.classify([text], top_k)[0]
        return self.classify_rows(self.encode(list(text)), top_k)

    def classify_rows(self, rows: Sequence[Tensor], top_k: int = 1) -> list[Classification]:
        """`classify` for texts as `encode` gives them."""
        return [self._classification(probabilities, top_k) for probabilities in self.probabilities_of(rows)]

    def probabilities_of(self, rows: Sequence[Tensor]) -> Tensor:
        """Texts as `encode` gives them, N rows (T,) -> each label's probability, (N, C) float32 on the CPU.

        Softmax, or a sigmoid a label where there may be several.
        """
        return self.to_probabilities(self.pooled(*self.scores_of(rows)))

    def scores_of(self, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Of texts as `encode` gives them the network's scores and the bag's or None, (N, C) float32 on the CPU."""
        short = [self.shorten(row) for row in rows]
        network, bag = (torch.empty(len(rows), len(self.labels)) for _ in range(2))
        with evaluating(self), torch.inference_mode():
            for numbers in evaluation_batches([len(row) for row in short], BATCH_TOKENS):
                tokens, lengths = (part.to(self.output.weight.device) for part in pad([short[n] for n in numbers]))
                network[numbers] = self._network_scores(tokens, lengths).float().cpu()
                if self.bag is not None:
                    bag[numbers] = self.bag([rows[n] for n in numbers]).float().cpu()
        return network, None if self.bag is None else bag

    def _classification(self, probabilities: Tensor, top_k: int) -> Classification:
        values, numbers = probabilities.sort(descending=True, stable=True)
        ranking = tuple(
            (self.labels[number], value) for number, value in zip(numbers.tolist(), values.tolist(), strict=True)
        )
        label, probability = ranking[0]
        likely = tuple(name for name, value in ranking if value >= 0.5) if self.multi_label else (label,)
        return Classification(label, probability, likely, ranking[:top_k])

    def explain(self, text: str) -> Explanation:
        """Which pieces of a text decided on its label; see `Explanation`. Raises ValueError for an empty text."""
        (row,) = self.encode([text])
        places = torch.arange(len(row))
        kept = self.shorten(places)
        tokens = row[kept][None].long().to(self.output.weight.device)
        lengths = torch.tensor([tokens.shape[1]], device=tokens.device)
        by_attention = self.bag is None and self.pooling.kinds == ("attention",)
        with evaluating(self), torch.no_grad():
            embedded = self.embedding(tokens, None, lengths)[0]
            scores, outputs = self._scores(embedded, lengths)
            parts = scores.new_zeros(len(row), len(self.labels)) if self.bag is None else self.bag.parts(row)
            scores = self._with_bag(scores, parts.sum(dim=0))
            number = int(scores[0].argmax())
            probability = float(self.to_probabilities(scores)[0, number])
            if by_attention:
                weights = self.pooling.attention_weights(outputs, lengths)[0]
            else:

                def log_odds(embedded: Tensor, bag: Tensor) -> Tensor:
                    scores, _ = self._scores(embedded, lengths.expand(len(embedded)))
                    return self._log_odds(self._with_bag(scores, bag), number)

                gradient, slope = integrated_gradients(log_odds, [embedded[0], parts.sum(dim=0)])
                of_network = (gradient * embedded[0]).sum(dim=-1)
                weights = (parts @ slope).index_add(0, kept.to(slope.device), of_network.to(parts))
                weights = weights if self.bag is not None else weights[kept]
        pieces = self.require_tokenizer().pieces(text)
        shown = kept if self.bag is None else places
        return Explanation(
            self.labels[number],
            probability,
            tuple(pieces[place] for place in shown.tolist()),
            tuple(weights.tolist()),
            "attention" if by_attention else "integrated gradients",
        )

    def _with_bag(self, scores: Tensor, bag: Tensor) -> Tensor:
        """The network's scores (N, C) and the bag's without its bias, zero without a bag -> (N, C)."""
        return scores if self.bag is None else self.pooled(scores, bag + self.bag.bias)

    def _log_odds(self, scores: Tensor, number: int) -> Tensor:
        """log p / (1 - p) of one label, (N, C) -> (N,): a score alone says nothing if all labels' rise with it."""
        if self.multi_label:
            return scores[:, number]
        others = torch.cat([scores[:, :number], scores[:, number + 1 :]], dim=1)
        return scores[:, number] - others.logsumexp(dim=1)
