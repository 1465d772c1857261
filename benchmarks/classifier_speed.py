"""A training step of the text classifier against the same model as tutorials write it, timed in turn, medians.

    python -m benchmarks.classifier_speed                  # 2 layers, both directions, batch 32, up to 200 tokens

The peer is `torch.nn.LSTM` (or GRU) on `pack_padded_sequence`, in float32, with the same weights and the same batches:
texts of a spread of lengths, as IMDb's reviews have (log-normal, median 174 words, mean 233), cut at 200.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from benchmarks.machine import describe
from benchmarks.tables import markdown_head
from benchmarks.timing import medians
from zoo.command_line import parse_options, run_script
from zoo.device import choose_device, choose_precision
from zoo.errors import InputError
from zoo.many_to_one import TextBatch, TextClassifier

MEDIAN_LENGTH, MEAN_LENGTH = 174, 233
LARGEST_DIFFERENCE = 1e-4


@dataclass
class ClassifierSpeedOptions:
    """What to time.

    Args:
        batch_size: Rows.
        max_length: Longest row.
        vocab_size: Words.
        embedding_size: Width of the embeddings.
        hidden_size: Width of each layer, of one direction.
        num_layers: Layers.
        repeats: Timings of each; the median counts.
        device: auto, cpu, cuda, ...
        seed: Seed of weights and batches.
    """

    batch_size: int = 32
    max_length: int = 200
    vocab_size: int = 20_000
    embedding_size: int = 100
    hidden_size: int = 256
    num_layers: int = 2
    repeats: int = 7
    device: str = "auto"
    seed: int = 0


class TutorialClassifier(nn.Module):
    """Embedding → packed rows → both directions' last states → scores."""

    def __init__(self, cell: str, options: ClassifierSpeedOptions) -> None:
        super().__init__()
        self.embedding = nn.Embedding(options.vocab_size, options.embedding_size)
        recurrent = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[cell]
        self.rnn = recurrent(
            options.embedding_size, options.hidden_size, options.num_layers, batch_first=True, bidirectional=True
        )
        self.output = nn.Linear(2 * options.hidden_size, 2)

    def loss(self, batch: TextBatch) -> Tensor:
        embedded = self.embedding(batch.tokens)
        packed = pack_padded_sequence(embedded, batch.lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, state = self.rnn(packed)
        h = state[0] if isinstance(state, tuple) else state
        return F.cross_entropy(self.output(torch.cat([h[-2], h[-1]], dim=-1)), batch.targets)

    def copy_into(self, ours: TextClassifier) -> None:
        ours.embedding.tokens.load_state_dict(self.embedding.state_dict())
        ours.core.load_state_dict(self.rnn.state_dict())
        ours.output.load_state_dict(self.output.state_dict())


def make_batch(options: ClassifierSpeedOptions, device: torch.device) -> TextBatch:
    spread = math.sqrt(2 * math.log(MEAN_LENGTH / MEDIAN_LENGTH))  # of a log-normal with this median and mean
    lengths = torch.exp(math.log(MEDIAN_LENGTH) + spread * torch.randn(options.batch_size)).long()
    lengths = lengths.clamp(1, options.max_length)
    tokens = torch.randint(options.vocab_size, (options.batch_size, int(lengths.max())))
    targets = torch.randint(2, (options.batch_size,))
    return TextBatch(tokens.to(device), lengths.to(device), targets.to(device))


def training_steps(
    model: TutorialClassifier | TextClassifier, batches: list[TextBatch], bfloat16: bool
) -> Callable[[], object]:
    """What takes a step, each time on the next batch."""
    # A rate of zero: the model stays the same, and does all of a step's work.
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    following = cycle(batches)

    def step() -> None:
        batch = next(following)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=bfloat16):
            loss = model.loss(batch)
        loss.backward()
        optimizer.step()

    return step


def measure(cell: str, options: ClassifierSpeedOptions, device: torch.device) -> dict[str, float]:
    torch.manual_seed(options.seed)
    tutorial = TutorialClassifier(cell, options).to(device)
    ours = TextClassifier(
        labels=["negative", "positive"],
        vocab_size=options.vocab_size,
        embedding_size=options.embedding_size,
        hidden_size=options.hidden_size,
        num_layers=options.num_layers,
        cell=cell,
        pooling="last",
    ).to(device)
    tutorial.copy_into(ours)
    batches = [make_batch(options, device) for _ in range(options.repeats + 1)]
    with torch.no_grad():
        difference = max(abs(float(tutorial.loss(batch)) - float(ours.loss(batch))) for batch in batches)
    sides = {
        "torch.nn, packed, float32": training_steps(tutorial, batches, False),
        "zoo, float32": training_steps(ours, batches, False),
    }
    if choose_precision("auto", device) == "bfloat16":
        sides["zoo, bfloat16 (the default)"] = training_steps(ours, batches, True)
    print(f"{cell}: largest difference of the loss in float32: {difference:.1e}")
    if difference > LARGEST_DIFFERENCE:
        raise InputError(f"the losses differ by more than {LARGEST_DIFFERENCE}: these are not the same models")
    return medians(sides, options.repeats, device)


def main() -> int:
    (options,) = parse_options(__doc__ or "", ClassifierSpeedOptions)
    device = choose_device(options.device)
    print(describe(device))
    rows = []
    for cell in ("lstm", "gru", "rnn"):
        times = measure(cell, options, device)
        peer = next(iter(times.values()))
        rows += [f"| {cell} | {name} | {1000 * value:,.0f} | {peer / value:.2f} |" for name, value in times.items()]
    print(f"\n{markdown_head(('cell', 'model', 'ms a step', 'times as fast'), texts=2)}")
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    run_script(main)
