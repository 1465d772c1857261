"""The shared recurrent core: layers of any cell, in one direction or both, with ragged lengths and state as a value."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core.autocast import compute_dtype
from zoo.core.cells import get_cell
from zoo.core.dropout import LockedDropout, check_probability
from zoo.core.packed import PackedWeights
from zoo.core.padding import padding_mask
from zoo.core.rows import permute, reverse
from zoo.core.state import State, reorder
from zoo.core.stretches import Stretch, plan_stretches, run_in_stretches
from zoo.core.weights import CellWeights, Products

MAX_LAYERS = 256
"""More is a slip, or a configuration that was made to take for ever."""


class RecurrentCore(nn.Module):
    """Stacked recurrent layers.

    For `rnn`, `lstm` and `gru` the parameters are named, laid out and computed with as in `torch.nn.RNN`, `LSTM`
    and `GRU`, so a `state_dict` of one loads into the other (without `residual`, which adds norms).

    Args:
        cell: a name in `zoo.core.CELLS`.
        input_size: I.
        hidden_size: H, of one direction.
        num_layers: L.
        bidirectional: read each row from both ends and join the two outputs.
        dropout: share dropped between layers.
        locked_dropout: draw that dropout once a row instead of at each step (Gal and Ghahramani, 2016).
        weight_dropout: share of the recurrent matrices' weights dropped at each call (AWD-LSTM, Merity et al., 2018).
        residual: normalise each layer's input (pre-norm) and add its input to its output wherever the two are
            equally wide; normalise once more at the end.
        forget_bias: initial bias of the forget gate, where the cell has one (Jozefowicz et al., 2015: 1).

    Raises:
        ValueError: an unknown cell, a size below 1, more than MAX_LAYERS layers, a probability outside [0, 1), or
            `weight_dropout` on a cell without recurrent matrices.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        locked_dropout: bool = False,
        weight_dropout: float = 0.0,
        residual: bool = False,
        forget_bias: float = 1.0,
    ) -> None:
        super().__init__()
        for name, size in (
            ("input_size", input_size),
            ("hidden_size", hidden_size),
            ("num_layers", num_layers),
        ):
            if size < 1:
                raise ValueError(f"{name} is {size}, but must be at least 1")
        check_probability("dropout", dropout)
        check_probability("weight_dropout", weight_dropout)
        if num_layers > MAX_LAYERS:
            raise ValueError(f"num_layers is {num_layers}, but must be at most {MAX_LAYERS}")
        self.cell = get_cell(cell)
        if weight_dropout and not self.cell.recurrent_weights:
            raise ValueError(f"weight_dropout is {weight_dropout}, but {cell} has no recurrent matrices to drop from")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.num_directions = 2 if bidirectional else 1
        self.output_size = hidden_size * self.num_directions
        self.weight_dropout = weight_dropout
        self.residual = residual
        self.dropout: nn.Module = LockedDropout(dropout) if locked_dropout else nn.Dropout(dropout)
        sizes = [input_size] + [self.output_size] * (num_layers - 1)
        for layer, size in enumerate(sizes):
            for direction in range(self.num_directions):
                self._add_parameters(layer, direction, size)
        # Beside the flat parameters and not inside a layer module, to keep their names those of torch.nn.
        self.norms = nn.ModuleList([nn.LayerNorm(size) for size in [*sizes, self.output_size]] if residual else [])
        self.reset_parameters(forget_bias)

    def _add_parameters(self, layer: int, direction: int, input_size: int) -> None:
        rows = self.cell.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, input_size)}
        if self.cell.recurrent_weights:
            shapes["weight_hh"] = (rows, self.hidden_size)
        shapes["bias_ih"] = (rows,)
        if self.cell.recurrent_weights:
            shapes["bias_hh"] = (rows,)
        for name, shape in shapes.items():
            self.register_parameter(f"{name}_{_suffix(layer, direction)}", nn.Parameter(torch.empty(shape)))

    @torch.no_grad()
    def reset_parameters(self, forget_bias: float = 1.0) -> None:
        """Input blocks Xavier-uniform, recurrent ones orthogonal (Saxe et al., 2014), biases 0 but `forget_bias`."""
        for name, parameter in self.named_parameters(recurse=False):
            if name.startswith("bias"):
                parameter.zero_()
            else:
                for block in parameter.chunk(self.cell.gates):
                    if name.startswith("weight_hh"):
                        nn.init.orthogonal_(block)
                    else:
                        nn.init.xavier_uniform_(block)
            if name.startswith("bias_ih") and self.cell.forget_gate is not None:
                parameter.chunk(self.cell.gates)[self.cell.forget_gate].fill_(forget_bias)

    def initial_state(self, batch_size: int) -> State:
        """Zeros: as many tensors as the cell's state has, each (L·D, B, H)."""
        shape = (self.num_layers * self.num_directions, batch_size, self.hidden_size)
        like = next(self.parameters())
        return tuple(like.new_zeros(shape) for _ in range(self.cell.state_parts))

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Run over whole sequences.

        Args:
            inputs: (B, T, I), floats, rows padded on the right.
            state: what an earlier call returned, or None for zeros; tensors (L·D, B, H).
            lengths: (B,), int64, each row's own steps, 1 to T; None where every row has T. What stands in the
                padding has no effect on any result.

        Returns:
            outputs (B, T, D·H) of the last layer, zero in the padding, and the state after each row's last step.
            Under autocast both are in its precision (the state of `mingru` and `minlstm` stays float32).
        """
        state = self._check(inputs, state, lengths)
        if lengths is None:
            return self._layers(inputs, state)
        lengths = lengths.to(inputs.device)
        # On a GPU a step of few rows takes as long as one of many, and torch.compile would break its graph here.
        if not self.cell.by_rows or inputs.device.type != "cpu" or torch.compiler.is_compiling():
            return self._layers(inputs, state, lengths)
        longest_first, order = lengths.sort(descending=True, stable=True)
        stretches = plan_stretches(longest_first.tolist(), inputs.shape[1])
        if len(stretches) == 1:
            return self._layers(inputs, state, lengths)
        back = order.argsort()
        sorted_rows = permute(inputs, order, back)
        outputs, state = self._layers(sorted_rows, reorder(state, order), longest_first, stretches)
        return permute(outputs, back, order), reorder(state, back)

    def _layers(
        self, inputs: Tensor, state: State, lengths: Tensor | None = None, stretches: Sequence[Stretch] = ()
    ) -> tuple[Tensor, State]:
        """`forward` of what has been checked; rows are sorted, longest first, if there are stretches."""
        dtype = compute_dtype(inputs)
        padding = None
        if lengths is not None:
            padding = padding_mask(lengths, inputs.shape[1])[..., None]
            inputs = inputs.masked_fill(padding, 0)
        finals: list[State] = []
        outputs = inputs
        for layer in range(self.num_layers):
            x = self._layer_input(outputs, layer).to(dtype)
            directions = []
            for direction in range(self.num_directions):
                index = layer * self.num_directions + direction
                start = tuple(part[index] for part in state)
                weights = self.layer_weights(layer, direction, dtype)
                ahead = reverse(x, lengths) if direction else x
                if lengths is not None and stretches:
                    y, final = run_in_stretches(self.cell.sequence, ahead, start, weights, lengths, stretches)
                else:
                    y, final = self.cell.sequence(ahead, start, weights, lengths)
                directions.append(reverse(y, lengths) if direction else y)
                finals.append(final)
            outputs = self._join(outputs, torch.cat(directions, dim=-1) if self.num_directions == 2 else directions[0])
        if self.residual:
            outputs = self.norms[-1](outputs).to(dtype)
        if padding is not None:
            outputs = outputs.masked_fill(padding, 0)
        return outputs, tuple(torch.stack(parts) for parts in zip(*finals, strict=True))

    def step(self, input: Tensor, state: State, weights: Sequence[Products] | None = None) -> tuple[Tensor, State]:
        """One step by the cell's plain equations: input (B, I), state -> output (B, H), state.

        `weights`, one a layer, stand in for the core's own: the same in another form, such as `packed_layers` makes.

        Raises ValueError on a bidirectional core, whose backward direction needs the whole row, and for integers.
        """
        if self.num_directions == 2:
            raise ValueError("a bidirectional core cannot step: its backward direction starts at the row's end")
        _check_floating(input)
        self._check_state(state, len(input))
        dtype = compute_dtype(input)
        finals: list[State] = []
        output = input
        for layer in range(self.num_layers):
            x = self._layer_input(output[:, None], layer)[:, 0].to(dtype)
            start = tuple(part[layer] for part in state)
            own = self.layer_weights(layer, 0, dtype) if weights is None else weights[layer]
            final = self.cell.step(x, start, own)
            finals.append(final)
            output = self._join(output, final[0].to(dtype))
        if self.residual:
            output = self.norms[-1](output).to(dtype)
        return output, tuple(torch.stack(parts) for parts in zip(*finals, strict=True))

    def packed_layers(self, dtype: torch.dtype) -> list[PackedWeights]:
        """The weights of each layer, as they are in evaluation mode, for `step`."""
        training = self.training
        self.eval()  # or weight dropout would drop some for good
        layers = [PackedWeights(self.layer_weights(layer, 0, dtype), dtype) for layer in range(self.num_layers)]
        self.train(training)
        return layers

    def _layer_input(self, x: Tensor, layer: int) -> Tensor:
        if self.residual:
            x = self.norms[layer](x)
        return self.dropout(x) if layer else x

    def _join(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y if self.residual and x.shape[-1] == y.shape[-1] else y

    def layer_weights(self, layer: int, direction: int, dtype: torch.dtype) -> CellWeights:
        """Those of one layer in one direction, 0 or 1, in the type to compute in."""
        suffix = _suffix(layer, direction)
        ih, bias_ih = (getattr(self, f"{name}_{suffix}").to(dtype) for name in ("weight_ih", "bias_ih"))
        if not self.cell.recurrent_weights:
            return CellWeights(ih, bias_ih)
        hh, bias_hh = (getattr(self, f"{name}_{suffix}").to(dtype) for name in ("weight_hh", "bias_hh"))
        return CellWeights(ih, bias_ih, F.dropout(hh, self.weight_dropout, self.training), bias_hh)

    def _check(self, inputs: Tensor, state: State | None, lengths: Tensor | None) -> State:
        if inputs.ndim != 3 or inputs.shape[2] != self.input_size or inputs.shape[1] < 1:
            raise ValueError(f"inputs are {tuple(inputs.shape)}, but must be (B, T, I) with T ≥ 1, I {self.input_size}")
        _check_floating(inputs)
        if lengths is not None:
            if lengths.shape != inputs.shape[:1]:
                raise ValueError(f"lengths are {tuple(lengths.shape)}, but must be (B,), B {inputs.shape[0]}")
            # On a GPU the check would wait for the device; torch.compile would break its graph there.
            seen = lengths.device.type == "cpu" and not torch.compiler.is_compiling()
            if seen and not 1 <= int(lengths.min()) <= int(lengths.max()) <= inputs.shape[1]:
                raise ValueError(
                    f"lengths go from {lengths.min()} to {lengths.max()}, but must be 1 to T {inputs.shape[1]}"
                )
        if state is None:
            return self.initial_state(inputs.shape[0])
        self._check_state(state, inputs.shape[0])
        return state

    def _check_state(self, state: State, batch_size: int) -> None:
        # The kernels do not look: given another shape, oneDNN's LSTM ends the whole process.
        shape = (self.num_layers * self.num_directions, batch_size, self.hidden_size)
        given = [tuple(part.shape) for part in state]
        if given != [shape] * self.cell.state_parts:
            raise ValueError(f"state is {given}, but must be {self.cell.state_parts} tensors (L·D, B, H), each {shape}")


def _check_floating(inputs: Tensor) -> None:
    # The weights would be rounded to integers, mostly to zeros.
    if not inputs.is_floating_point():
        raise ValueError(f"inputs are {inputs.dtype}, but must be floats: convert them with .float()")


def _suffix(layer: int, direction: int) -> str:
    return f"l{layer}_reverse" if direction else f"l{layer}"
