"""Decoders with packed weights: near the decoder itself, whatever its cell, and alike for a row alone or in a batch."""

import pytest
import torch

from zoo.core import ATTENTIONS, CELLS, PackedDecoder, RecurrentDecoder
from zoo.core.packed import PackedLinear

# Of the largest score; a weight is rounded to 1 part in 256 or 2,048.
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 0.02, torch.float16: 0.0025}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


def make(**options):
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "embedding_size": 24, "hidden_size": 32, "num_layers": 2}
    return RecurrentDecoder(**sizes | options).eval()


@pytest.mark.parametrize("packable", [True, False])
@DTYPES
def test_products_are_near_those_of_the_weights(monkeypatch, dtype, packable):
    if not packable:
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.quantized, "engine", "qnnpack")  # not FBGEMM
    torch.manual_seed(1)
    weight, bias, x = torch.randn(30, 20), torch.randn(30), torch.randn(7, 20)
    expected, product = x @ weight.T + bias, PackedLinear(weight, bias, dtype)
    found = product(x)
    assert found.dtype == torch.float32 and product(x.bfloat16()).dtype == torch.bfloat16
    assert (found - expected).abs().max() < TOLERANCES[dtype] * expected.abs().max()
    assert dtype == torch.float32 or not torch.equal(found, expected)
    assert packable or not product.is_packed


def test_what_float16_cannot_hold_stays_no_number():
    weight = torch.tensor([[70_000.0, 1.0], [torch.nan, 1.0], [2.0, 1.0]])
    found = PackedLinear(weight, None, torch.float16)(torch.ones(1, 2))[0]
    assert found[0].isinf() and found[1].isnan() and found[2] == 3


def test_the_type_is_that_of_autocast_or_else_of_the_weights():
    decoder = make()
    assert PackedDecoder(decoder).output.bias.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert PackedDecoder(decoder).output.bias.dtype == torch.bfloat16
    assert PackedDecoder(decoder.double()).output.bias.dtype == torch.float64


@pytest.mark.parametrize("options", [{}, {"residual": True, "tied": True}, {"ngram_order": 3}, {"weight_dropout": 0.5}])
@pytest.mark.parametrize("cell", CELLS)
@DTYPES
def test_steps_are_near_the_decoders(cell, options, dtype):
    if "weight_dropout" in options and not CELLS[cell].recurrent_weights:
        pytest.skip("no recurrent matrices to drop from")
    decoder = make(cell=cell, **options)
    packed = PackedDecoder(decoder, dtype)
    tokens = torch.randint(40, (12, 3), generator=torch.Generator().manual_seed(2))
    state = other = decoder.initial_state(3)
    for column in tokens:
        expected, state = decoder.step(column, state)
        found, other = packed.step(column, other)
    assert (found - expected).abs().max() < TOLERANCES[dtype] * expected.abs().max()
    assert dtype == torch.float32 or not torch.equal(found, expected)
    assert [part.dtype for part in other] == [part.dtype for part in state]


@pytest.mark.parametrize("attention", ATTENTIONS)
@DTYPES
def test_a_memory_is_looked_at(attention, dtype):
    decoder = make(attention=attention, memory_size=10, num_layers=3)
    packed = PackedDecoder(decoder, dtype)
    memory = decoder.memory(torch.randn(2, 5, 10), torch.tensor([5, 3]))
    tokens = torch.tensor([1, 2, 3, 4])
    expected, _ = decoder.step(tokens, decoder.initial_state(4), memory)
    found, _ = packed.step(tokens, decoder.initial_state(4), memory)
    assert (found - expected).abs().max() < TOLERANCES[dtype] * expected.abs().max()


@pytest.mark.parametrize("options", [{}, {"attention": "general", "memory_size": 10}])
def test_a_step_reads_no_weights_of_the_decoders_layers_and_output(options):
    decoder = make(num_layers=3, **options)
    packed = PackedDecoder(decoder, torch.bfloat16)
    memory = decoder.memory(torch.randn(4, 5, 10), torch.tensor([5, 3, 1, 2])) if options else None
    tokens, state = torch.tensor([1, 2, 3, 4]), decoder.initial_state(4)
    expected, _ = packed.step(tokens, state, memory)
    with torch.no_grad():
        for module in (decoder.core, decoder.output, *([decoder.upper_core] if options else [])):
            for parameter in module.parameters():
                parameter.zero_()
    assert torch.equal(packed.step(tokens, state, memory)[0], expected)


@DTYPES
def test_prompts_are_read_in_the_precision_of_the_weights(dtype):
    decoder = make()
    tokens, lengths = torch.randint(40, (2, 5)), torch.tensor([5, 3])
    expected, found = (
        (scores, *state)
        for scores, state in (one.prefill(tokens, lengths) for one in (decoder, PackedDecoder(decoder, dtype)))
    )
    for part, other in zip(found, expected, strict=True):
        assert (part - other).abs().max() <= (dtype == torch.bfloat16) * TOLERANCES[dtype] * other.abs().max()
        assert (part.dtype == torch.bfloat16) == (dtype == torch.bfloat16)


def test_the_decoder_stays_as_it_is():
    decoder = make().train()
    before = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    PackedDecoder(decoder)
    assert decoder.core.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in decoder.state_dict().items())


@DTYPES
def test_a_row_alone_is_as_in_a_batch(dtype):
    packed = PackedDecoder(make(), dtype)
    tokens, state = torch.arange(6), tuple(torch.randn(2, 6, 32) for _ in range(2))
    together, _ = packed.step(tokens, state)
    for row in range(6):
        alone, _ = packed.step(tokens[row : row + 1], tuple(part[:, row : row + 1] for part in state))
        torch.testing.assert_close(alone[0], together[row], atol=TOLERANCES[dtype] / 4, rtol=0)
