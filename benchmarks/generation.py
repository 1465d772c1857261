"""Generation: `Sampler` on a two-layer LSTM beside the plain loop over `torch.nn.LSTM` with the same weights, float32.

What the two draw follows from other random numbers, but greedy they must write the same, which is checked. Ours
steps by `PackedDecoder`; its bfloat16 and float16 (on a CPU of the weights alone: products are in float32) are options,
and what that rounding costs in loss, `python -m benchmarks.packed_loss` says.

The limit of a step: every weight is read once (embeddings but for the rows looked up), or, with many prompts, products
of all rows with it.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.machine import Work
from benchmarks.plain_language_model import PlainLanguageModel, generate
from benchmarks.session import COMPARED, Session
from benchmarks.tables import Column
from zoo.core import PackedDecoder, RecurrentDecoder
from zoo.core.packed import PackedLinear
from zoo.decoding import Sampler, SamplingOptions
from zoo.device import Precision, StepPrecision

WAYS = {
    "greedy": SamplingOptions(temperature=0.0),
    "temperature 0.8": SamplingOptions(temperature=0.8),
    "temperature 0.8, top-k 50": SamplingOptions(temperature=0.8, top_k=50),
    "top-p 0.9": SamplingOptions(top_p=0.9),
}
PROMPT_LENGTH = 16
PEER = "loop over torch.nn.LSTM"


def measure(session: Session) -> None:
    columns = (Column("prompts", "d"), Column("V", ",d"), Column("how"), Column("our weights"), *COMPARED)
    table = session.table("generation", "Generation", columns)
    vocab_sizes, hidden_size = ((30, 70), 8) if session.grid == "quick" else ((100, 8_000, 50_000), 512)
    prompt_counts, count = ((1, 3), 5) if session.grid == "quick" else ((1, 64), 64)
    for prompts, vocab_size in itertools.product(prompt_counts, vocab_sizes):
        torch.manual_seed(session.seed)
        decoder = make_decoder(vocab_size, hidden_size).to(session.device)
        plain = PlainLanguageModel(decoder).to(session.device).eval()
        given = torch.randint(vocab_size, (prompts, PROMPT_LENGTH))
        for how, options in WAYS.items():
            theirs = plain_generation(plain, given, count, options)
            for precision, of_products in precisions(session).items():
                ours = our_generation(PackedDecoder(decoder, getattr(torch, precision)), given, count, options)
                if options.temperature == 0 and precision == "float32":
                    check_equal(ours(), theirs())
                work = generation_work(decoder, prompts, count, precision)
                for row in session.compare(ours, {PEER: theirs}, prompts * count, work, of_products):
                    table.add(prompts, vocab_size, how, precision, *row)


def precisions(session: Session) -> dict[StepPrecision, Precision]:
    """Those of the weights that are quick here, and of the products with them."""
    found: dict[StepPrecision, Precision] = {precision: precision for precision in session.precisions}
    if PackedLinear(torch.zeros(1, 1, device=session.device), None, torch.float16).is_packed:
        found["float16"] = "float32"
    return found


def make_decoder(vocab_size: int, hidden_size: int) -> RecurrentDecoder:
    return RecurrentDecoder(
        vocab_size=vocab_size, embedding_size=hidden_size, hidden_size=hidden_size, num_layers=2
    ).eval()


def our_generation(
    decoder: RecurrentDecoder | PackedDecoder, prompts: Tensor, count: int, options: SamplingOptions
) -> Callable[[], Tensor]:
    rows, device = prompts.tolist(), next(decoder.parameters()).device

    @torch.inference_mode()
    def generation() -> Tensor:
        sampler = Sampler(decoder, rows, options, list(range(len(rows))), device=device)
        steps = [[token for _, token in drawn] for drawn in itertools.islice(sampler, count)]
        return torch.tensor(steps).T

    return generation


def plain_generation(
    model: PlainLanguageModel, prompts: Tensor, count: int, options: SamplingOptions
) -> Callable[[], Tensor]:
    prompts = prompts.to(model.output.weight.device)
    return lambda: generate(model, prompts, count, options).cpu()


def check_equal(ours: Tensor, peers: Tensor) -> None:
    """Raise RuntimeError unless the same tokens were written, (B, count)."""
    wrong = (ours != peers).any(dim=1).nonzero().flatten().tolist()
    if wrong:
        raise RuntimeError(f"greedy, {len(wrong)} of {len(ours)} rows differ from the peer's, the first row {wrong[0]}")


def generation_work(decoder: RecurrentDecoder, rows: int, count: int, precision: StepPrecision) -> Work:
    """`rows` rows of a prompt, and then so many steps that each score the vocabulary."""
    size = getattr(torch, precision).itemsize
    core = sum(parameter.numel() for parameter in decoder.core.parameters())
    output = decoder.output.weight.numel()
    steps = PROMPT_LENGTH + count - 1
    # A prompt's core steps have their input products at once, but must read the recurrent weights each.
    traffic = float(size) * (core * (count - 1) + core + output * count)
    return Work(2.0 * rows * (core * steps + output * count), traffic, float(size) * (core + output))
