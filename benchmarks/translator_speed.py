"""The translator's speed: training beside the same model as tutorials write it, and translating in batches.

    python -m benchmarks.translator_speed                                  # lengths drawn as Multi30k's; numbers
    python -m benchmarks.translator_speed --data multi30k/train --source en --target de
    python -m benchmarks.translator_speed --run runs/en-de --file multi30k/test_2016_flickr.en

Training: target tokens a second, padding not counted, of whole steps: loss, gradients, clipping, optimizer. The peer is
an attention model with input feeding as in Bahdanau et al., 2015, and in most tutorials: `torch.nn.LSTM` (or GRU) on
`pack_padded_sequence` reads, and a Python loop over `nn.LSTMCell`, with attention at each step, writes. What can be
done once is done outside of the loop. It has the same attention, as many layers of the same width, and within 3 % as
many parameters. All take the same batches in turn, and use the same optimizer, AdamW, so that models are compared and
not optimizers: the training script's Muon is not in these figures.

Translating: sentences a second, in float32, with all sentences in one call and with one call each.
"""

import math
import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.machine import describe
from benchmarks.tables import markdown_head
from benchmarks.timing import medians, seconds
from zoo.command_line import parse_options, run_script
from zoo.core import ATTENTIONS
from zoo.data.length_batches import LengthBatches, pad
from zoo.data.lines import read_lines
from zoo.data.parallel_texts import load_parallel_texts
from zoo.data.tokenizer import TextTokenizer
from zoo.device import choose_device, choose_precision
from zoo.seq2seq import Translation, TranslationBatch, Translator

# Of Multi30k's English captions in words and punctuation marks, with the end: log-normal, mean 14, deviation 4. A
# translation is as long as its source, but for a log-normal factor; the two lengths correlate by 0.87.
MEDIAN_LENGTH, SPREAD, FACTOR_SPREAD = 13.5, 0.28, 0.16
DRAWN_PAIRS = 20_000
IGNORED = -100  # as a target


@dataclass
class TranslatorSpeedOptions:
    """What to time.

    Args:
        data: Pairs whose lengths are taken, as for scripts/train_translator.py; drawn if none are given.
        source: The language to translate from.
        target: The language to translate into.
        batch_size: Rows.
        vocab_size: Tokens of the joint vocabulary.
        embedding_size: Width of the embeddings.
        hidden_size: Width of each layer; half of it for each direction of the encoder.
        num_layers: Layers of the encoder, and of the decoder.
        num_heads: Heads of the attention multihead.
        steps: Training steps in a round.
        repeats: Rounds; their median counts.
        run: Run folder of a translator to translate with; without one, a small one is trained on numbers in words.
        file: A sentence a line, to translate with that run.
        training_steps: Steps that the small one is trained for.
        sentences: How many to translate.
        num_beams: Beams.
        device: auto, cpu, cuda, ...
        seed: Seed of weights and batches.
    """

    data: str | None = None
    source: str = "en"
    target: str = "de"
    batch_size: int = 128
    vocab_size: int = 5_000
    embedding_size: int = 256
    hidden_size: int = 256
    num_layers: int = 2
    num_heads: int = 8
    steps: int = 2
    repeats: int = 7
    run: str | None = None
    file: Path | None = None
    training_steps: int = 200
    sentences: int = 200
    num_beams: int = 5
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.run is None) != (self.file is None):
            raise ValueError("run and file go together: a translator, and what it is to translate")


class TutorialTranslator(nn.Module):
    """Encoder on packed rows; decoder that takes one step at a time, because what it reads is part of its next input.

    As in ours the embeddings are shared and tied to the output, and a linear map makes the decoder's first state.
    """

    def __init__(self, cell: str, attention: str, options: TranslatorSpeedOptions) -> None:
        super().__init__()
        embedding_size, hidden_size, num_layers = options.embedding_size, options.hidden_size, options.num_layers
        sequence, step = {"lstm": (nn.LSTM, nn.LSTMCell), "gru": (nn.GRU, nn.GRUCell)}[cell]
        self.end_id = options.vocab_size
        self.embedding = nn.Embedding(options.vocab_size + 1, embedding_size)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)
        self.encoder = sequence(embedding_size, hidden_size // 2, num_layers, batch_first=True, bidirectional=True)
        self.state_parts = 2 if cell == "lstm" else 1
        width = self.state_parts * num_layers * hidden_size
        self.bridge = nn.Linear(width, width)
        self.cells = nn.ModuleList(
            step(hidden_size if layer else embedding_size + hidden_size, hidden_size) for layer in range(num_layers)
        )
        self.heads, self.scale = 1, 1.0
        if attention == "multihead":
            self.heads, self.scale = options.num_heads, (hidden_size // options.num_heads) ** -0.5
        self.keys = nn.Linear(hidden_size, hidden_size, bias=False)
        self.values = nn.Linear(hidden_size, hidden_size) if attention == "multihead" else nn.Identity()
        self.queries = nn.Linear(hidden_size, hidden_size) if attention != "general" else nn.Identity()
        self.energy = nn.Linear(hidden_size, 1, bias=False) if attention == "additive" else None
        self.combine = nn.Linear(2 * hidden_size, embedding_size)
        self.output = nn.Linear(embedding_size, options.vocab_size + 1)
        self.output.weight = self.embedding.weight

    def loss(self, batch: TranslationBatch) -> Tensor:
        wanted = batch.target.masked_fill(padding(batch.target, batch.target_lengths), IGNORED)
        return F.cross_entropy(self(batch).flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)

    def forward(self, batch: TranslationBatch) -> Tensor:
        """A batch, rows sorted by length of source, the longest first -> logits (B, T, V + 1)."""
        embedded = self.embedding(batch.source)
        packed = pack_padded_sequence(embedded, batch.source_lengths.cpu(), batch_first=True)
        outputs, state = self.encoder(packed)
        memory, _ = pad_packed_sequence(outputs, batch_first=True)
        keys, values = self.split(self.scale * self.keys(memory)), self.split(self.values(memory))
        outside = padding(batch.source, batch.source_lengths)[:, None]
        h, c = self.first_state(state)
        before = torch.cat([torch.full_like(batch.target[:, :1], self.end_id), batch.target[:, :-1]], dim=1)
        features = []
        for x in self.embedding(before).unbind(1):
            context = self.attend(h[-1], keys, values, outside)
            x = torch.cat([x, context], dim=-1)
            for layer, cell in enumerate(self.cells):
                if self.state_parts == 2:
                    h[layer], c[layer] = cell(x, (h[layer], c[layer]))
                else:
                    h[layer] = cell(x, h[layer])
                x = h[layer]
            features.append(torch.cat([x, context], dim=-1))
        # Outside the loop, where one product serves all steps.
        return self.output(torch.tanh(self.combine(torch.stack(features, dim=1))))

    def first_state(self, state: Tensor | tuple[Tensor, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """h of each layer, (B, H), and c, which a GRU does not have."""
        last = torch.cat(state) if isinstance(state, tuple) else state
        parts = torch.tanh(self.bridge(last.transpose(0, 1).flatten(1))).chunk(self.state_parts * len(self.cells), 1)
        return list(parts[: len(self.cells)]), list(parts[len(self.cells) :])

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, outside: Tensor) -> Tensor:
        """Query (B, H), keys and values (B, N, S, H / N), padding (B, 1, S) -> (B, H)."""
        query = self.queries(query).unflatten(1, (self.heads, -1))
        if self.energy is None:
            scores = (keys @ query[..., None]).squeeze(-1)
        else:
            scores = self.energy(torch.tanh(query[:, :, None] + keys)).squeeze(-1)
        weights = scores.masked_fill(outside, -torch.inf).softmax(dim=-1)
        return (weights[:, :, None] @ values).flatten(1)

    def split(self, x: Tensor) -> Tensor:
        """(B, S, H) -> (B, N, S, H / N), a part for each head."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2).contiguous()


def padding(rows: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(rows.shape[1], device=rows.device) >= lengths[:, None]


def pair_lengths(options: TranslatorSpeedOptions) -> list[tuple[int, int]]:
    """Tokens of the source and of the target of each pair, with their ends."""
    if options.data is None:
        sources = torch.exp(math.log(MEDIAN_LENGTH) + SPREAD * torch.randn(DRAWN_PAIRS))
        targets = sources * torch.exp(FACTOR_SPREAD * torch.randn(DRAWN_PAIRS))
        return [(max(2, round(s)), max(2, round(t))) for s, t in zip(sources.tolist(), targets.tolist(), strict=True)]
    texts = load_parallel_texts(options.data, source=options.source, target=options.target).train
    tokenizer = TextTokenizer.train(["\n".join([*texts.sources, *texts.targets])], "word", options.vocab_size)
    rows = (tokenizer.encode_rows(side) for side in (texts.sources, texts.targets))
    return [(len(source) + 1, len(target) + 1) for source, target in zip(*rows, strict=True)]


class Batches:
    """Batch k: random tokens, pairs of like length together, the row with the longest source first."""

    def __init__(self, options: TranslatorSpeedOptions, device: torch.device) -> None:
        self.lengths = pair_lengths(options)
        self.batches = LengthBatches([sum(pair) for pair in self.lengths], options.batch_size, options.seed)
        self.end_id = options.vocab_size
        self.device = device

    def batch(self, k: int) -> TranslationBatch:
        numbers = self.batches.rows(*divmod(k, self.batches.num_batches(0)))
        pairs = sorted((self.lengths[n] for n in numbers), reverse=True)
        rows = [[self._row(length) for length in side] for side in zip(*pairs, strict=True)]
        return TranslationBatch(*(part.to(self.device) for side in rows for part in pad(side)))

    def _row(self, length: int) -> Tensor:
        return torch.cat([torch.randint(self.end_id, (length - 1,)), torch.tensor([self.end_id])])


@dataclass
class Side:
    """A model in one precision, with its optimizer, and its rounds' target tokens a second."""

    name: str
    attention: str
    model: TutorialTranslator | Translator
    bfloat16: bool
    rates: list[float]

    def __post_init__(self) -> None:
        self.parameters = list(self.model.parameters())
        # A rate of zero: the model stays the same, and does all of a step's work.
        self.optimizer = torch.optim.AdamW(self.parameters, lr=0.0, fused=True)

    def steps(self, batches: list[TranslationBatch]) -> None:
        for batch in batches:
            with torch.autocast(batch.source.device.type, torch.bfloat16, enabled=self.bfloat16):
                loss = self.model.loss(batch)
            training_step(loss, self.optimizer)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def training_step(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_((p for group in optimizer.param_groups for p in group["params"]), 1.0)
    optimizer.step()


def our_translator(cell: str, attention: str, options: TranslatorSpeedOptions) -> Translator:
    return Translator(
        vocab_size=options.vocab_size,
        embedding_size=options.embedding_size,
        hidden_size=options.hidden_size,
        num_layers=options.num_layers,
        cell=cell,
        attention=attention,
        num_heads=options.num_heads,
    )


def tutorial_and_ours(cell: str, options: TranslatorSpeedOptions, device: torch.device) -> list[Side]:
    models: list[tuple[str, str, TutorialTranslator | Translator]] = [
        (name, attention, make(cell, attention, options))
        for attention in ATTENTIONS
        for name, make in (("tutorial", TutorialTranslator), ("zoo", our_translator))
    ]
    precisions = ["float32"]
    if choose_precision("auto", device) == "bfloat16":
        precisions.append("bfloat16")
    return [
        Side(f"{name}, {precision}", attention, model.to(device), precision == "bfloat16", [])
        for name, attention, model in models
        for precision in precisions
    ]


def measure_training(cell: str, options: TranslatorSpeedOptions, device: torch.device) -> list[Side]:
    torch.manual_seed(options.seed)
    sides, batches = tutorial_and_ours(cell, options, device), Batches(options, device)
    for repeat in range(options.repeats + 1):  # the first warms up
        fresh = [batches.batch(repeat * options.steps + k) for k in range(options.steps)]
        tokens = sum(int(batch.target_lengths.sum()) for batch in fresh)
        for side in sides:
            elapsed = seconds(partial(side.steps, fresh), device)
            if repeat:
                side.rates.append(tokens / elapsed)
    return sides


def numbers_translator(options: TranslatorSpeedOptions, device: torch.device) -> tuple[Translator, list[str]]:
    """A small translator, trained just long enough that its translations end, and sentences for it."""
    data = load_parallel_texts("numbers", source="en", target="fr")
    sources, targets = data.train.sources, data.train.targets
    tokenizer = TextTokenizer.train(["\n".join([*sources, *targets])], "word")
    torch.manual_seed(options.seed)
    model = Translator(tokenizer=tokenizer, embedding_size=128, hidden_size=128).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, fused=True)
    for _ in range(options.training_steps):
        numbers = torch.randint(len(sources), (options.batch_size,)).tolist()
        batch = model.batch([sources[n] for n in numbers], [targets[n] for n in numbers])
        training_step(model.loss(TranslationBatch(*(part.to(device) for part in batch))), optimizer)
    return model.eval(), data.tests["test"].sources


def measure_decoding(options: TranslatorSpeedOptions, device: torch.device) -> list[str]:
    if options.run is None or options.file is None:
        model, texts = numbers_translator(options, device)
    else:
        model = Translator.from_pretrained(options.run).to(device)
        with options.file.open("rb") as file:
            texts = [line for _, line in read_lines(file, str(options.file)) if line.strip()]
    texts = texts[: options.sentences]

    found: dict[str, list[Translation]] = {}

    def one_by_one() -> None:
        found["one by one"] = [model.translations([text], num_beams=options.num_beams)[0][0] for text in texts]

    def in_batches() -> None:
        found["in batches"] = [several[0] for several in model.translations(texts, num_beams=options.num_beams)]

    times = medians({"one by one": one_by_one, "in batches": in_batches}, options.repeats, device)
    pairs = list(zip(*found.values(), strict=True))
    same = sum(alone.text == together.text for alone, together in pairs)
    difference = max(abs(alone.score - together.score) for alone, together in pairs)
    ended = sum(together.finished for _, together in pairs)
    print(
        f"\n{len(texts)} sentences, {options.num_beams} beams, float32; {ended} translations end; the same both ways: "
        f"{same}, largest difference of a score: {difference:.1e}"
    )
    return [
        f"| {way} | {len(texts) / value:,.1f} | {times['one by one'] / value:.2f} |" for way, value in times.items()
    ]


def main() -> int:
    (options,) = parse_options(__doc__ or "", TranslatorSpeedOptions)
    device = choose_device(options.device)
    print(describe(device))
    rows = []
    for cell in ("lstm", "gru"):
        sides = measure_training(cell, options, device)
        loop = {side.attention: side.rate for side in sides if side.name == "tutorial, float32"}
        rows += [
            f"| {cell} | {side.attention} | {side.name} | {sum(p.numel() for p in side.parameters):,} "
            f"| {side.rate:,.0f} | {side.rate / loop[side.attention]:.2f} |"
            for side in sides
        ]
    columns = ("cell", "attention", "model", "parameters", "target tokens/s", "times as fast")
    print(f"\n{markdown_head(columns, texts=3)}")
    print("\n".join(rows))
    rows = measure_decoding(options, device)
    print(f"\n{markdown_head(('translating', 'sentences/s', 'times as fast'))}")
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    run_script(main)
