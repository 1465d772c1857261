"""Many-to-many: one network reads a sentence, another writes its translation, token by token."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.core import Bridge, Memory, PackedDecoder, RecurrentDecoder, State
from zoo.core.decoder import END, delayed
from zoo.core.dropout import check_probability
from zoo.data.length_batches import evaluation_batches, pad
from zoo.data.text_parts import cut_text
from zoo.data.tokenizer import TextTokenizer
from zoo.decoding import BeamOptions, Hypothesis, beam_search, rows_at_once
from zoo.pretrained import PretrainedModel, agreed_vocab_size, evaluating
from zoo.seq2seq.encoder import RecurrentEncoder

# Sentences are translated so many source tokens, padding included, at a time.
BATCH_TOKENS = 4_096


FREE_TOKENS = 10  # of a translation, beside those that its source's length allows

# Tokens of a translation to each of its source, at most: a longer limit is a slip, and would not end.
MAX_RATIO = 1_000


class TranslationBatch(NamedTuple):
    """Sentences and their translations, each padded on the right and ending with its end token: source (B, S) int64,
    source_lengths (B,), target (B, T) int64, target_lengths (B,)."""

    source: Tensor
    source_lengths: Tensor
    target: Tensor
    target_lengths: Tensor


class Translation(NamedTuple):
    """One way to translate a text.

    Attributes:
        text: the translation.
        score: log P / lp, see `zoo.decoding.BeamOptions`; of a text in parts, the sum of theirs.
        finished: whether it came to its end before the limit of its length.
        parts: how many parts the text was cut into, because it was longer than any in training.
    """

    text: str
    score: float
    finished: bool
    parts: int


class Translator(PretrainedModel):
    """A translator: `RecurrentEncoder` → bridge → `RecurrentDecoder`, with attention or without.

    - `attention=None`, the plain pattern: one network gathers the sentence into its state, another unrolls that state
      (Sutskever et al., "Sequence to sequence learning with neural networks", 2014; Cho et al., 2014).
    - With attention the decoder also looks at the encoder's outputs, its memory, at each step.

    One token more than the vocabulary has ends every sentence, and stands before the translation's first token.

    Args:
        tokenizer: of the target language, or of both where there is no `source_tokenizer`. Needed for texts only.
        source_tokenizer: of the source language, where the two have vocabularies of their own.
        vocab_size: tokens of the target's vocabulary; may be left out where a tokenizer is given.
        source_vocab_size: tokens of the source's, None for a joint vocabulary.
        embedding_size: E.
        hidden_size: H, even.
        num_layers: L, of the encoder and of the decoder; with attention at least 2.
        cell: a name in `zoo.core.CELLS`.
        encoder_cell: the encoder's, if it is another.
        attention: a name in `zoo.core.ATTENTIONS`, or None.
        num_heads: of the attention `multihead`.
        tied: the target's embeddings score the next token too and, with a joint vocabulary, are the source's as well
            (Press and Wolf, 2017).
        max_length: longest source in tokens; longer texts are translated in parts.
        max_ratio: a translation has at most so many tokens for each of its source, and 10 more.
        dropout: locked dropout between layers, on the outputs and on what attention reads.
        input_dropout, embedding_dropout: see `zoo.core.embedding.TokenEmbedding`.
        weight_dropout: share of the recurrent matrices' weights dropped.
        label_smoothing: this share of each target is spread over the vocabulary (Szegedy et al., 2016).

    Raises:
        ValueError: a size, probability or name out of range, or a vocabulary that is not the tokenizer's.
    """

    tokenizer_files = PretrainedModel.tokenizer_files | {"source_tokenizer": "source_tokenizer.json"}

    def __init__(
        self,
        *,
        tokenizer: TextTokenizer | None = None,
        source_tokenizer: TextTokenizer | None = None,
        vocab_size: int | None = None,
        source_vocab_size: int | None = None,
        embedding_size: int = 256,
        hidden_size: int = 256,
        num_layers: int = 2,
        cell: str = "lstm",
        encoder_cell: str | None = None,
        attention: str | None = "multihead",
        num_heads: int = 8,
        tied: bool = True,
        max_length: int | None = None,
        max_ratio: float = 2.0,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        vocab_size = agreed_vocab_size(vocab_size, tokenizer)
        if source_vocab_size is not None or source_tokenizer is not None:
            source_vocab_size = agreed_vocab_size(source_vocab_size, source_tokenizer, "source_")
        if max_length is not None and max_length < 2:
            raise ValueError(f"max_length is {max_length}, but must be at least 2, a token and the end")
        _check_ratios(0.0, max_ratio)
        check_probability("label_smoothing", label_smoothing)
        self.config = {
            "vocab_size": vocab_size,
            "source_vocab_size": source_vocab_size,
            "embedding_size": embedding_size,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "cell": cell,
            "encoder_cell": encoder_cell,
            "attention": attention,
            "num_heads": num_heads,
            "tied": tied,
            "max_length": max_length,
            "max_ratio": max_ratio,
            "dropout": dropout,
            "input_dropout": input_dropout,
            "embedding_dropout": embedding_dropout,
            "weight_dropout": weight_dropout,
            "label_smoothing": label_smoothing,
        }
        self.tokenizer = tokenizer
        self.source_tokenizer = source_tokenizer
        self.end_id = vocab_size
        self.source_end_id = vocab_size if source_vocab_size is None else source_vocab_size
        self.max_length = max_length
        self.max_ratio = max_ratio
        self.label_smoothing = label_smoothing
        dropouts: dict[str, Any] = {
            "dropout": dropout,
            "input_dropout": input_dropout,
            "embedding_dropout": embedding_dropout,
            "weight_dropout": weight_dropout,
        }
        self.decoder = RecurrentDecoder(
            vocab_size=vocab_size + 1,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            cell=cell,
            attention=attention,
            memory_size=None if attention is None else hidden_size,
            num_heads=num_heads,
            tied=tied,
            residual=True,
            **dropouts,
        )
        self.encoder = RecurrentEncoder(
            vocab_size=self.source_end_id + 1,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            cell=encoder_cell or cell,
            **dropouts,
        )
        if tied and source_vocab_size is None:
            self.encoder.embedding.tokens.weight = self.decoder.embedding.tokens.weight
        self.bridge = Bridge(self.encoder.summary_size, self.decoder.core, num_layers)

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[State, Memory | None]:
        """Read sentences: (B, S) padded on the right, lengths (B,) -> the decoder's first state and its memory."""
        outputs, summary = self.encoder(source, lengths)
        memory = None if self.decoder.attention is None else self.decoder.memory(outputs, lengths)
        return self.bridge(summary), memory

    def forward(self, batch: TranslationBatch) -> Tensor:
        """A batch -> logits (B, T, V + 1): at step t of the translation's t-th token, given those before it."""
        return self.decoder.scores(self._features(batch))

    def _features(self, batch: TranslationBatch) -> Tensor:
        state, memory = self.encode(batch.source, batch.source_lengths)
        features, _ = self.decoder.features(delayed(batch.target, self.end_id), state, batch.target_lengths, memory)
        return features

    def loss(self, batch: TranslationBatch, label_smoothing: float | None = None) -> Tensor:
        """Mean nats a token of the translations, smoothed as the model is unless said otherwise: a scalar."""
        smoothing = self.label_smoothing if label_smoothing is None else label_smoothing
        return self.decoder.loss(self._features(batch), batch.target, batch.target_lengths, smoothing)

    def require_source_tokenizer(self) -> TextTokenizer:
        """The source's tokenizer, which a joint vocabulary shares. Raises ValueError where there is none."""
        if self.config["source_vocab_size"] is None:
            return self.require_tokenizer()
        if self.source_tokenizer is None:
            raise ValueError("this Translator has no source_tokenizer; give it one to work on text")
        return self.source_tokenizer

    def source_rows(self, texts: Sequence[str]) -> list[Tensor]:
        """Each text's tokens and the end token: N rows (S,) int32."""
        return self.require_source_tokenizer().sentence_rows(texts)

    def target_rows(self, texts: Sequence[str]) -> list[Tensor]:
        """Each translation's tokens and the end token: N rows (T,) int32."""
        return self.require_tokenizer().sentence_rows(texts)

    def translate(self, text: str | Sequence[str], **options: Any) -> Any:
        """Translate a text or a list of texts; `options` are those of `translations`. A text, or a list of texts."""
        best = [found[0].text for found in self.translations([text] if isinstance(text, str) else text, **options)]
        return best[0] if isinstance(text, str) else best

    def translations(
        self,
        texts: Sequence[str],
        *,
        num_beams: int = 5,
        n_best: int = 1,
        length_penalty: float = 1.0,
        no_repeat_ngram_size: int | None = None,
        min_ratio: float = 0.0,
        max_ratio: float | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> list[list[Translation]]:
        """Translate texts; they are sorted by length, batched, and given back in their order.

        A text without anything but blanks has the empty translation. One that is longer than `max_length` is cut into
        parts, where a sentence ends if that can be, and its `n_best` translations are made of the parts' n-th best.

        Args:
            texts: N texts.
            num_beams, n_best, length_penalty, no_repeat_ngram_size: see `zoo.decoding.BeamOptions`.
            min_ratio: fewest tokens for each of the source.
            max_ratio: most tokens for each of the source, and 10 more; None for the model's own.
            batch_tokens: source tokens in a batch, padding included; it has fewer where the scores of their beams would
                be more than `zoo.decoding.beam.MAX_SCORES`.

        Returns:
            N lists of up to `n_best` translations, the best first.

        Raises:
            ValueError: an option outside its range.
        """
        beams = BeamOptions(num_beams, n_best, length_penalty, no_repeat_ngram_size)
        max_ratio = self.max_ratio if max_ratio is None else max_ratio
        _check_ratios(min_ratio, max_ratio)
        texts = [text.strip() for text in texts]
        parts = [self._parts(text, row) for text, row in zip(texts, self.source_rows(texts), strict=True)]
        rows = [row for several in parts for row in several]
        found = iter(self._search(rows, beams, min_ratio, max_ratio, batch_tokens))
        return [self._joined([next(found) for _ in several]) for several in parts]

    def _joined(self, parts: list[list[Hypothesis]]) -> list[Translation]:
        """The translations of a text, from those of its parts (none for an empty text)."""
        tokenizer = self.require_tokenizer()
        if not parts:
            return [Translation("", 0.0, True, 0)]
        return [
            Translation(
                " ".join(text for part in nth if (text := tokenizer.decode(part.tokens).strip())),
                sum(part.score for part in nth),
                all(part.finished for part in nth),
                len(nth),
            )
            for nth in zip(*parts, strict=False)
        ]

    def _parts(self, text: str, row: Tensor) -> list[Tensor]:
        """The rows of the text's parts, none of more than `max_length` tokens; [] if there is nothing in it."""
        if len(row) == 1:
            return []
        if self.max_length is None or len(row) <= self.max_length:
            return [row]
        return self.source_rows(cut_text(self.require_source_tokenizer().pieces(text), self.max_length - 1))

    @torch.inference_mode()
    def _search(
        self, rows: list[Tensor], beams: BeamOptions, min_ratio: float, max_ratio: float, batch_tokens: int
    ) -> list[list[Hypothesis]]:
        banned = self.require_tokenizer().never_generated
        device = self.bridge.linear.weight.device
        results: list[list[Hypothesis]] = [[] for _ in rows]
        with evaluating(self):
            # For one sentence that takes as long as it saves.
            decoder = PackedDecoder(self.decoder) if len(rows) > 1 else self.decoder
            batch_size = rows_at_once(self.decoder.vocab_size, beams.num_beams)
            for numbers in evaluation_batches([len(row) for row in rows], batch_tokens, batch_size):
                source, lengths = (part.to(device) for part in pad([rows[n] for n in numbers]))
                state, memory = self.encode(source, lengths)
                first = torch.full((len(numbers),), self.end_id, device=device)
                logits, state = decoder.step(first, state, memory)
                found = beam_search(
                    decoder,
                    logits,
                    state,
                    end_id=self.end_id,
                    min_new_tokens=[int(min_ratio * length) for length in lengths.tolist()],
                    max_new_tokens=[int(max_ratio * length) + FREE_TOKENS for length in lengths.tolist()],
                    options=beams,
                    memory=memory,
                    banned=banned,
                )
                for number, hypotheses in zip(numbers, found, strict=True):
                    results[number] = hypotheses
        return results

    def align(self, source: str, target: str) -> tuple[list[str], list[str], Tensor]:
        """Where the decoder looks as it writes `target`: (pieces of source, pieces of target, weights (T, S)).

        Both sides end with `</s>`, their end token. Raises ValueError for a translator without attention.
        """
        source, target = source.strip(), target.strip()
        device = self.bridge.linear.weight.device
        batch = TranslationBatch(*(part.to(device) for part in self.batch([source], [target])))
        with evaluating(self), torch.inference_mode():
            state, memory = self.encode(batch.source, batch.source_lengths)
            if memory is None:
                raise ValueError("this translator has no attention: it looks at nothing but its state")
            weights = self.decoder.attention_weights(delayed(batch.target, self.end_id), memory, state)[0]
        source_pieces = self.require_source_tokenizer().pieces(source)
        return [*source_pieces, END], [*self.require_tokenizer().pieces(target), END], weights.cpu()

    def batch(self, sources: Sequence[str], targets: Sequence[str]) -> TranslationBatch:
        """Texts and their translations as one batch, on the CPU."""
        return TranslationBatch(*pad(self.source_rows(sources)), *pad(self.target_rows(targets)))


def _check_ratios(min_ratio: float, max_ratio: float) -> None:
    if not 0 <= min_ratio <= max_ratio <= MAX_RATIO:
        raise ValueError(
            f"min_ratio is {min_ratio} and max_ratio {max_ratio}, but must be 0 <= min <= max <= {MAX_RATIO:,}"
        )
