import pytest
import torch
from torch import nn

from zoo.core import CELLS, RecurrentDecoder, detach, reorder
from zoo.core.dropout import embed_with_word_dropout

VOCABULARY = 11
KINDS = {
    "plain": {},
    "two_layers_residual": {"num_layers": 2, "residual": True},
    "tied": {"tied": True},
    "tied_projected": {"tied": True, "embedding_size": 5},
    "ngrams": {"ngram_order": 3, "ngram_buckets": 50, "num_layers": 2},
}
every_cell = pytest.mark.parametrize("cell", CELLS)
every_kind = pytest.mark.parametrize("kind", KINDS)


def make_decoder(cell="gru", kind="plain", **options):
    torch.manual_seed(0)
    options = {
        "vocab_size": VOCABULARY,
        "embedding_size": 6,
        "hidden_size": 6,
        "cell": cell,
        **KINDS[kind],
        **options,
    }
    return RecurrentDecoder(**options).eval()


def make_tokens(batch=4, steps=9):
    return torch.randint(VOCABULARY, (batch, steps), generator=torch.Generator().manual_seed(1))


def assert_states_close(got, expected):
    for part, want in zip(got, expected, strict=True):
        torch.testing.assert_close(part, want, rtol=1e-5, atol=1e-5)


@every_cell
@every_kind
def test_steps_and_chunks_equal_the_whole_sequence(cell, kind):
    decoder, tokens = make_decoder(cell, kind), make_tokens()
    logits, final = decoder(tokens)
    assert logits.shape == (4, 9, VOCABULARY)
    state, stepped = decoder.initial_state(4), []
    for t in range(9):
        output, state = decoder.step(tokens[:, t], state)
        stepped.append(output)
    torch.testing.assert_close(torch.stack(stepped, dim=1), logits, rtol=1e-5, atol=1e-5)
    assert_states_close(state, final)
    state, pieces = None, []
    for chunk in tokens.split([1, 2, 1, 5], dim=1):
        output, state = decoder(chunk, state)
        state = detach(state)
        pieces.append(output)
    torch.testing.assert_close(torch.cat(pieces, dim=1), logits, rtol=1e-5, atol=1e-5)
    assert_states_close(state, final)


@every_cell
@every_kind
def test_prefill_of_ragged_prompts_equals_each_prompt_alone(cell, kind):
    decoder, tokens = make_decoder(cell, kind), make_tokens()
    lengths = [4, 1, 9, 2]
    logits, state = decoder.prefill(tokens, torch.tensor(lengths))
    next_logits, _ = decoder.step(tokens[:, 0], state)
    for row, length in enumerate(lengths):
        alone, alone_state = decoder(tokens[row : row + 1, :length])
        torch.testing.assert_close(logits[row], alone[0, -1], rtol=1e-5, atol=1e-5)
        expected, _ = decoder.step(tokens[row : row + 1, 0], alone_state)
        torch.testing.assert_close(next_logits[row], expected[0], rtol=1e-5, atol=1e-5)


@every_kind
def test_padding_tokens_do_not_matter(kind):
    decoder, tokens = make_decoder(kind=kind), make_tokens()
    lengths = torch.tensor([4, 1, 9, 2])
    other = torch.where(torch.arange(9) < lengths[:, None], tokens, (tokens + 3) % VOCABULARY)
    for one, two in zip(decoder.prefill(tokens, lengths), decoder.prefill(other, lengths), strict=True):
        for part, want in zip(one, two, strict=True):
            assert torch.equal(part, want)


@every_kind
def test_reordered_state_continues_the_reordered_rows(kind):
    decoder, tokens = make_decoder(kind=kind), make_tokens()
    index = torch.tensor([3, 3, 0])
    _, state = decoder(tokens)
    logits, _ = decoder.step(tokens[index, 0], reorder(state, index))
    _, expected_state = decoder(tokens[index])
    expected, _ = decoder.step(tokens[index, 0], expected_state)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@every_kind
def test_logits_depend_on_the_past_alone(kind):
    decoder, tokens = make_decoder(kind=kind), make_tokens()
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % VOCABULARY
    before, after = decoder(tokens)[0], decoder(changed)[0]
    assert torch.equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any(dim=-1).all()


@every_kind
def test_loss_is_the_cross_entropy_of_the_scores(kind):
    decoder, tokens = make_decoder(kind=kind), make_tokens()
    features, _ = decoder.features(tokens)
    logits, lengths = decoder.scores(features), torch.tensor([4, 1, 9, 2])
    own = torch.cat([logits[row, :length] for row, length in enumerate(lengths)])
    wanted = torch.cat([tokens[row, :length] for row, length in enumerate(lengths)])
    cross_entropy = nn.functional.cross_entropy
    torch.testing.assert_close(decoder.loss(features, tokens), cross_entropy(logits.flatten(0, 1), tokens.flatten()))
    torch.testing.assert_close(decoder.loss(features, tokens, lengths), cross_entropy(own, wanted))
    smooth = cross_entropy(own, wanted, label_smoothing=0.3)
    torch.testing.assert_close(decoder.loss(features, tokens, lengths, 0.3), smooth)


def test_tied_weights_are_one_tensor():
    decoder = make_decoder(kind="tied")
    assert decoder.output.weight is decoder.embedding.tokens.weight
    assert decoder.projection is None
    names = [name for name, _ in decoder.named_parameters()]
    assert "output.weight" not in names
    assert "embedding.tokens.weight" in names
    with torch.no_grad():
        decoder.embedding.tokens.weight.zero_()
    assert (decoder(make_tokens())[0] == 0).all()


def test_tied_weights_of_another_width_are_projected():
    decoder = make_decoder(kind="tied_projected")
    assert decoder.output.weight is decoder.embedding.tokens.weight
    assert decoder.projection.weight.shape == (5, 6)


def test_untied_weights_are_two_tensors():
    decoder = make_decoder()
    assert decoder.output.weight.data_ptr() != decoder.embedding.tokens.weight.data_ptr()


def test_tied_scores_start_near_zero():
    decoder = make_decoder(kind="tied", vocab_size=500, embedding_size=64, hidden_size=64)
    tokens = torch.randint(500, (8, 20))
    loss = nn.functional.cross_entropy(decoder(tokens)[0].flatten(0, 1), tokens.roll(-1, 1).flatten())
    assert abs(float(loss.detach()) - float(torch.tensor(500.0).log())) < 0.2


def test_word_dropout_drops_whole_words_of_the_batch():
    torch.manual_seed(0)
    weight = torch.rand(30, 4) + 1
    tokens = torch.randint(30, (8, 50))
    embedded = embed_with_word_dropout(tokens, weight, 0.5)
    scale = embedded / weight[tokens]
    dropped = {}
    for token, factors in zip(tokens.flatten().tolist(), scale.flatten(0, 1).tolist(), strict=True):
        dropped.setdefault(token, factors[0])
        assert factors == pytest.approx([dropped[token]] * 4)
    assert {round(factor, 4) for factor in dropped.values()} == {0.0, 2.0}


def test_word_dropout_of_zero_is_the_plain_look_up():
    weight, tokens = torch.randn(30, 4), torch.randint(30, (2, 5))
    assert torch.equal(embed_with_word_dropout(tokens, weight, 0.0), weight[tokens])


def test_embedding_dropout_acts_in_training_alone():
    decoder = make_decoder(embedding_dropout=0.5)
    tokens = make_tokens()
    seen = []
    decoder.embedding.dropout.register_forward_hook(lambda _module, _inputs, output: seen.append(output.detach()))
    decoder(tokens)
    assert torch.equal(seen[0], decoder.embedding.tokens.weight[tokens])
    decoder.train()
    decoder(tokens)
    whole = (seen[1] == 0).all(dim=-1)
    assert whole.any()
    assert not whole.all()
    for token in range(VOCABULARY):
        assert whole[tokens == token].unique().numel() <= 1


@pytest.mark.parametrize("option", ["dropout", "input_dropout", "embedding_dropout", "weight_dropout"])
def test_each_dropout_acts_in_training_and_not_in_evaluation(option):
    decoder, tokens = make_decoder(num_layers=2, **{option: 0.5}), make_tokens()
    assert torch.equal(decoder(tokens)[0], decoder(tokens)[0])
    plain = make_decoder(num_layers=2)
    assert torch.equal(decoder(tokens)[0], plain(tokens)[0])
    decoder.train()
    assert not torch.equal(decoder(tokens)[0], decoder(tokens)[0])


@every_cell
@every_kind
def test_every_parameter_gets_a_gradient(cell, kind):
    decoder = make_decoder(cell, kind)
    logits, _ = decoder(torch.arange(VOCABULARY).repeat(2)[None])
    logits.logsumexp(-1).sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).any(), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 0}, "vocab_size is 0, but must be at least 1"),
        ({"embedding_size": 0}, "embedding_size is 0, but must be at least 1"),
        ({"embedding_size": 0, "tied": True}, "embedding_size is 0, but must be at least 1"),
        ({"hidden_size": 0}, "hidden_size is 0, but must be at least 1"),
        ({"num_layers": 0}, "num_layers is 0, but must be at least 1"),
        ({"cell": "x"}, "cell is 'x', but must be one of"),
        ({"embedding_dropout": 1}, "embedding_dropout is 1, but must be"),
        ({"input_dropout": -1}, "dropout is -1, but must be"),
        ({"dropout": 2}, "dropout is 2, but must be"),
        ({"weight_dropout": 1}, "weight_dropout is 1, but must be"),
        ({"ngram_order": 0}, "ngram_order is 0, but must be from 2 to 8"),
        ({"ngram_order": 9}, "ngram_order is 9, but must be from 2 to 8"),
        ({"ngram_order": 2, "ngram_buckets": 0}, "ngram_buckets is 0, but must be at least 1"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RecurrentDecoder(**{"vocab_size": 5, "embedding_size": 6, "hidden_size": 7, **options})


@pytest.mark.parametrize("rows", [0, 4, 5, 12])
def test_a_memory_whose_rows_do_not_divide_those_of_the_tokens_is_refused(rows):
    decoder = make_decoder(num_layers=2, attention="general", memory_size=3)
    memory = decoder.memory(torch.zeros(rows, 5, 3), torch.full((rows,), 5))
    message = f"there are 6 rows and a memory of {rows} rows, which must divide them"
    with pytest.raises(ValueError, match=message):
        decoder(make_tokens(6, 4), memory=memory)
    with pytest.raises(ValueError, match=message):
        decoder.step(make_tokens(6, 1)[:, 0], decoder.initial_state(6), memory)
