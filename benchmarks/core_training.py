"""A training step of the core, forward and backward, beside `torch.nn`, and the parallel cells beside our LSTM.

The peers of `rnn`, `lstm` and `gru` are those of `torch.nn` with the same weights, on packed rows where they are
ragged, and all in bfloat16 where ours runs under autocast, which would be slower for them. `mingru` and `minlstm` have
none there: theirs is our `lstm`. Outputs and the inputs' gradients are compared before anything is timed.

The limit: three products with each weight matrix (forward, gradients of inputs and of weights), at the rate of the
large product; or, where that takes longer, the memory traffic of the inputs (read twice, their gradient written), the
gates (written and read on the way there, read on the way back, their gradient written and read twice) and the outputs
(written, and read with their gradient), each step of each row once.
"""

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.machine import DTYPES, Work
from benchmarks.session import COMPARED, Session, check_same
from benchmarks.tables import Column, Value
from zoo.core import CELLS, RecurrentCore
from zoo.device import Precision

TORCH: dict[str, type[nn.RNN | nn.LSTM | nn.GRU]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05}
# Of ragged rows' lengths, log-normal, as shares of T: IMDb's reviews cut at 200 words.
MEDIAN_LENGTH, SPREAD = 174 / 200, 0.76
Step = Callable[[], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Case:
    """What is timed; `peer_precision` is that of `torch.nn`, and None where the peer is our `lstm`."""

    cell: str
    precision: Precision
    peer_precision: Precision | None
    hidden_size: int
    steps: int
    batch_size: int
    input_size: int | None = None  # H
    num_layers: int = 1
    bidirectional: bool = False
    ragged: bool = False


COLUMNS = (
    Column("cell"),
    Column("precision"),
    Column("I", "d"),
    Column("H", "d"),
    Column("L", "d"),
    Column("D", "d"),
    Column("T", "d"),
    Column("B", "d"),
    Column("rows"),
    *COMPARED,
)


def measure(session: Session) -> None:
    table = session.table("core", "A training step of the core", COLUMNS)
    for case in cases(session):
        for row in _measured(case, session):
            table.add(
                case.cell,
                case.precision,
                case.input_size or case.hidden_size,
                case.hidden_size,
                case.num_layers,
                1 + case.bidirectional,
                case.steps,
                case.batch_size,
                "ragged" if case.ragged else "full",
                *row,
            )


def cases(session: Session) -> list[Case]:
    """The rows of the table, each grid's own."""
    if session.grid == "full":
        return _every_case(session, (128, 256, 512, 1024), (32, 128, 512), (1, 16, 64))
    if session.grid == "quick":
        return [case for case in _every_case(session, (16,), (5,), (3,)) if case.ragged == case.bidirectional]
    best = session.precisions[-1]
    long = [
        Case("lstm", precision, "float32", 256, 200, 32, input_size=100, num_layers=2, bidirectional=True, ragged=True)
        for precision in session.precisions
    ]
    classic = [
        Case(cell, precision, precision, hidden_size, 128, batch_size)
        for cell, sizes in (("gru", (256, 512, 1024)), ("lstm", (512,)), ("rnn", (512,)))
        for hidden_size, batch_size, precision in itertools.product(sizes, (16, 64), session.precisions)
    ]
    beside_lstm = [Case(cell, best, None, 512, 256, 32) for cell in CELLS]
    return long + classic + beside_lstm


def _every_case(
    session: Session, sizes: tuple[int, ...], lengths: tuple[int, ...], rows: tuple[int, ...]
) -> list[Case]:
    grid = itertools.product(CELLS, session.precisions, sizes, lengths, rows, (False, True), (False, True))
    return [
        Case(cell, precision, precision if cell in TORCH else None, size, steps, batch_size, None, 1, both, ragged)
        for cell, precision, size, steps, batch_size, both, ragged in grid
        if not ragged or batch_size > 1
    ]


def _measured(case: Case, session: Session) -> list[tuple[Value, ...]]:
    torch.manual_seed(session.seed)
    core, device = make_core(case).to(session.device), session.device
    lengths = ragged_lengths(case.batch_size, case.steps) if case.ragged else None
    inputs = torch.randn(case.batch_size, case.steps, core.input_size, device=device)
    grad = torch.randn(case.batch_size, case.steps, core.output_size, device=device)
    ours = our_step(core, inputs, grad, lengths, case.precision)
    if case.peer_precision is None:
        lstm = make_core(replace(case, cell="lstm")).to(device)
        name, peer = "zoo lstm", our_step(lstm, inputs, grad, lengths, case.precision)
    else:
        theirs = make_torch(case).to(device)
        core.load_state_dict(theirs.state_dict())
        name = f"torch.nn.{type(theirs).__name__}, {'packed, ' if case.ragged else ''}{case.peer_precision}"
        peer = torch_step(theirs, inputs, grad, lengths, case.peer_precision)
        tolerance = max(TOLERANCES[case.precision], TOLERANCES[case.peer_precision])
        for what, mine, other in zip(("outputs", "gradients of the inputs"), ours(), peer(), strict=True):
            check_same(f"{case}, {what}", mine, other, tolerance)
    tokens = case.batch_size * case.steps if lengths is None else int(lengths.sum())
    return session.compare(ours, {name: peer}, tokens, training_work(core, tokens, case.precision), case.precision)


def make_core(case: Case) -> RecurrentCore:
    size = case.input_size or case.hidden_size
    return RecurrentCore(case.cell, size, case.hidden_size, case.num_layers, bidirectional=case.bidirectional)


def make_torch(case: Case) -> nn.RNNBase:
    size = case.input_size or case.hidden_size
    return TORCH[case.cell](size, case.hidden_size, case.num_layers, batch_first=True, bidirectional=case.bidirectional)


def ragged_lengths(batch_size: int, steps: int) -> Tensor:
    """(B,), int64, at most T, which the first row has."""
    lengths = steps * torch.exp(math.log(MEDIAN_LENGTH) + SPREAD * torch.randn(batch_size))
    lengths[0] = steps
    return lengths.long().clamp(1, steps)


def our_step(core: RecurrentCore, inputs: Tensor, grad: Tensor, lengths: Tensor | None, precision: Precision) -> Step:
    """Inputs (B, T, I), the outputs' gradient (B, T, D·H) -> what returns outputs and the inputs' gradient."""
    inputs, grad = inputs.detach().requires_grad_(), grad.to(DTYPES[precision])
    lengths = None if lengths is None else lengths.to(inputs.device)
    parameters = list(core.parameters())

    def step() -> tuple[Tensor, Tensor]:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            outputs, _ = core(inputs, None, lengths)
        return outputs.detach(), torch.autograd.grad(outputs, [inputs, *parameters], grad)[0]

    return step


def torch_step(module: nn.RNNBase, inputs: Tensor, grad: Tensor, lengths: Tensor | None, precision: Precision) -> Step:
    """The same of a `torch.nn` module."""
    dtype = DTYPES[precision]
    module = copy.deepcopy(module).to(dtype)
    inputs, grad = inputs.detach().to(dtype).requires_grad_(), grad.to(dtype)
    parameters = list(module.parameters())

    def step() -> tuple[Tensor, Tensor]:
        if lengths is None:
            outputs, _ = module(inputs)
        else:
            packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
            outputs, _ = pad_packed_sequence(module(packed)[0], batch_first=True)
        return outputs.detach(), torch.autograd.grad(outputs, [inputs, *parameters], grad)[0]

    return step


def training_work(core: RecurrentCore, tokens: int, precision: Precision) -> Work:
    """What a step over so many tokens cannot do without; see above."""
    matrices = [parameter for parameter in core.parameters() if parameter.ndim == 2]
    inputs = [parameter.shape for name, parameter in core.named_parameters() if name.startswith("weight_ih")]
    each = sum(3 * size + 6 * gates + 3 * core.hidden_size for gates, size in inputs)
    bytes_each = DTYPES[precision].itemsize
    held = sum(size + gates + core.hidden_size for gates, size in inputs) * tokens * bytes_each
    return Work(6 * sum(matrix.numel() for matrix in matrices) * tokens, each * tokens * bytes_each, held)
