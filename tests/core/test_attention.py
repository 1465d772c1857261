import pytest
import torch

from zoo.core import ATTENTIONS, Attention, Memory, RecurrentDecoder, reorder
from zoo.core.padding import padding_mask

B, T, S, H, M, V = 3, 5, 7, 8, 6, 11
LENGTHS = torch.tensor([7, 1, 4])
every_kind = pytest.mark.parametrize("kind", ATTENTIONS)
every_cell = pytest.mark.parametrize("cell", ["lstm", "gru", "mingru"])


def make(kind):
    torch.manual_seed(0)
    attention = Attention(kind, H, M, num_heads=4).double()
    memory = attention.memory(torch.randn(B, S, M, dtype=torch.double), padding_mask(LENGTHS, S))
    return attention, memory, torch.randn(B, T, H, dtype=torch.double)


def plain(attention, places, query):
    """One query (H,) and the places (S, M) that are there: what is read (H,), and the weights (S,), by the papers."""
    a = attention
    keys = [a.keys.weight @ place for place in places]
    if a.kind == "additive":
        q = a.queries.weight @ query + a.queries.bias
        weights = torch.softmax(torch.stack([a.energy.weight[0] @ torch.tanh(q + key) for key in keys]), 0)
        return a.output(sum(w * place for w, place in zip(weights, places, strict=True))), weights
    if a.kind == "general":
        weights = torch.softmax(torch.stack([query @ key for key in keys]), 0)
        return a.output(sum(w * place for w, place in zip(weights, places, strict=True))), weights
    q, size = a.queries(query), H // a.num_heads
    read, means = [], []
    for head in range(a.num_heads):
        part = slice(head * size, (head + 1) * size)
        weights = torch.softmax(torch.stack([q[part] @ key[part] for key in keys]) / size**0.5, 0)
        read.append(sum(w * a.values(place)[part] for w, place in zip(weights, places, strict=True)))
        means.append(weights)
    return a.output(torch.cat(read)), torch.stack(means).mean(0)


@every_kind
def test_attention_equals_its_papers_equations_over_each_rows_own_places(kind):
    attention, _, queries = make(kind)
    places = torch.randn(B, S, M, dtype=torch.double)
    memory = attention.memory(places, padding_mask(LENGTHS, S))
    read, weights = attention(queries, memory), attention.weights(queries, memory)
    for row, length in enumerate(LENGTHS.tolist()):
        for t in range(T):
            want, shares = plain(attention, places[row, :length], queries[row, t])
            torch.testing.assert_close(read[row, t], want)
            torch.testing.assert_close(weights[row, t, :length].double(), shares)
            assert (weights[row, t, length:] == 0).all()


@pytest.mark.parametrize(
    ("kind", "heads", "parameters"),
    [
        ("additive", 1, {"queries.weight", "queries.bias", "energy.weight"}),
        ("general", 1, set()),
        ("multihead", 4, {"queries.weight", "queries.bias", "values.weight", "values.bias"}),
    ],
)
def test_each_kind_has_the_heads_and_parameters_of_its_equation(kind, heads, parameters):
    attention, _, _ = make(kind)
    assert attention.num_heads == heads
    assert set(attention.state_dict()) == parameters | {"keys.weight", "output.weight", "output.bias"}


@every_kind
def test_what_stands_in_the_padding_does_not_matter(kind):
    attention, _, queries = make(kind)
    places, padding = torch.randn(B, S, M, dtype=torch.double), padding_mask(LENGTHS, S)
    one = attention(queries, attention.memory(places, padding))
    places[padding] = 1e6
    assert torch.equal(attention(queries, attention.memory(places, padding)), one)


@every_kind
def test_gradients(kind):
    attention, _, queries = make(kind)
    places = torch.randn(B, S, M, dtype=torch.double, requires_grad=True)
    padding = padding_mask(LENGTHS, S)

    def run(q, m):
        return attention(q, attention.memory(m, padding))

    assert torch.autograd.gradcheck(run, (queries[:, :2].clone().requires_grad_(), places))


@every_kind
def test_rows_of_a_memory(kind):
    attention, memory, queries = make(kind)
    index = torch.tensor([2, 0])
    torch.testing.assert_close(attention(queries[index], memory.rows(index)), attention(queries, memory)[index])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "dot"}, "attention is 'dot', but must be one of additive, general, multihead"),
        ({"num_heads": 3}, "num_heads is 3, but must divide the width of the queries, 8"),
        ({"num_heads": 0}, "num_heads is 0, but must divide"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Attention(**{"kind": "multihead", "query_size": H, "memory_size": M, **options})


# In the decoder


def make_decoder(kind="general", cell="gru", **options):
    torch.manual_seed(0)
    options = {"num_layers": 3, "residual": True, **options}
    decoder = RecurrentDecoder(
        vocab_size=V, embedding_size=6, hidden_size=H, cell=cell, attention=kind, memory_size=M, **options
    ).eval()
    return decoder, decoder.memory(torch.randn(B, S, M), LENGTHS), torch.randint(V, (B, T))


@every_kind
@every_cell
def test_steps_and_chunks_equal_the_whole_target(kind, cell):
    decoder, memory, tokens = make_decoder(kind, cell, ngram_order=2)
    logits, final = decoder(tokens, memory=memory)
    state = decoder.initial_state(B)
    for t in range(T):
        stepped, state = decoder.step(tokens[:, t], state, memory)
        torch.testing.assert_close(stepped, logits[:, t], rtol=1e-5, atol=1e-5)
    for part, want in zip(state, final, strict=True):
        torch.testing.assert_close(part, want, rtol=1e-5, atol=1e-5)
    first, state = decoder(tokens[:, :2], memory=memory)
    second, _ = decoder(tokens[:, 2:], state, memory=memory)
    torch.testing.assert_close(torch.cat([first, second], 1), logits, rtol=1e-5, atol=1e-5)


def test_all_layers_but_the_lowest_lie_above_the_attention():
    decoder, _, _ = make_decoder("multihead", num_heads=2, num_layers=4)
    assert (decoder.core.num_layers, decoder.upper_core.num_layers) == (1, 3)
    assert decoder.attention.num_heads == 2
    assert [part.shape for part in decoder.initial_state(5)] == [(4, 5, H)]


@every_kind
def test_each_row_alone_with_its_own_memory_and_length(kind):
    decoder, memory, tokens = make_decoder(kind)
    lengths = torch.tensor([2, 5, 3])
    logits, state = decoder.prefill(tokens, lengths, memory=memory)
    for row, length in enumerate(lengths.tolist()):
        own = Memory(*(part[row : row + 1, : LENGTHS[row]] for part in memory))
        alone, alone_state = decoder(tokens[row : row + 1, :length], memory=own)
        torch.testing.assert_close(logits[row], alone[0, -1], rtol=1e-5, atol=1e-5)
        for part, want in zip(state, alone_state, strict=True):
            torch.testing.assert_close(part[:, row], want[:, 0], rtol=1e-5, atol=1e-5)


def test_beams_share_their_sentences_memory():
    decoder, memory, _ = make_decoder()
    tokens = torch.randint(V, (B * 2,))
    twice = torch.arange(B).repeat_interleave(2)
    state = reorder(decoder.initial_state(B), twice)
    shared, _ = decoder.step(tokens, state, memory)
    copied, _ = decoder.step(tokens, state, memory.rows(twice))
    torch.testing.assert_close(shared, copied)


def test_every_parameter_gets_a_gradient_and_the_memory_too():
    for kind in ATTENTIONS:
        decoder, _, _ = make_decoder(kind, tied=True)
        places = torch.randn(1, S, M, requires_grad=True)
        memory = decoder.memory(places, torch.tensor([S]))
        logits, _ = decoder(torch.arange(V)[None], memory=memory)
        logits.logsumexp(-1).sum().backward()
        assert (places.grad != 0).any()
        for name, parameter in decoder.named_parameters():
            assert parameter.grad is not None and (parameter.grad != 0).any(), name


def test_weights_are_those_the_decoder_reads_with():
    decoder, memory, tokens = make_decoder("multihead")
    weights = decoder.attention_weights(tokens, memory)
    assert weights.shape == (B, T, S)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, T))
    assert (weights[1, :, 1:] == 0).all()


def test_a_decoder_and_its_memory_must_fit():
    decoder, memory, tokens = make_decoder()
    with pytest.raises(ValueError, match="give it a memory to look at"):
        decoder(tokens)
    plain_decoder = RecurrentDecoder(vocab_size=V, embedding_size=6, hidden_size=H)
    with pytest.raises(ValueError, match="has no attention"):
        plain_decoder.memory(torch.randn(B, S, M), LENGTHS)
    with pytest.raises(ValueError, match="has no attention"):
        plain_decoder.attention_weights(tokens, memory)
    for options, message in (
        ({"num_layers": 1}, "num_layers is 1, but must be at least 2 with attention 'general'"),
        ({"memory_size": None}, "attention is 'general', but there is no memory_size"),
    ):
        with pytest.raises(ValueError, match=message):
            RecurrentDecoder(
                **{
                    "vocab_size": V,
                    "embedding_size": 6,
                    "hidden_size": H,
                    "num_layers": 2,
                    "attention": "general",
                    "memory_size": M,
                    **options,
                }
            )
