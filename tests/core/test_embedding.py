"""Token embeddings: what is looked up, what is dropped, and the tokens that are handed on."""

import pytest
import torch

from zoo.core import RecurrentDecoder
from zoo.core.embedding import TokenEmbedding

TOKENS = torch.randint(9, (3, 8), generator=torch.Generator().manual_seed(1))


def make(**options):
    torch.manual_seed(0)
    return TokenEmbedding(9, 5, **({"ngram_order": 3, "ngram_buckets": 20} | options))


def test_it_is_the_sum_of_the_tokens_and_their_ngrams():
    embedding = make()
    embedded, state = embedding(TOKENS)
    ngrams, recent = embedding.ngrams(TOKENS, embedding.initial_state(3)[0])
    assert torch.equal(embedded, embedding.tokens.weight[TOKENS] + ngrams)
    assert torch.equal(state[0], recent)


def test_without_ngrams_it_is_a_plain_look_up_and_has_no_state():
    embedding = make(ngram_order=1)
    embedded, state = embedding(TOKENS)
    assert torch.equal(embedded, embedding.tokens.weight[TOKENS])
    assert state == ()
    assert embedding.initial_state(3) == ()


def test_chunks_with_the_state_handed_on_are_the_whole():
    embedding = make()
    whole, last = embedding(TOKENS)
    state, parts = None, []
    for chunk in TOKENS.split([1, 4, 3], dim=1):
        embedded, state = embedding(chunk, state)
        parts.append(embedded)
    assert torch.equal(torch.cat(parts, dim=1), whole)
    assert torch.equal(state[0], last[0])


def test_rows_of_unequal_length_end_at_their_own_last_tokens():
    _, state = make()(TOKENS, None, torch.tensor([8, 1, 4]))
    assert state[0].T.tolist() == [
        TOKENS[0, 6:8].tolist(),
        [-1, int(TOKENS[1, 0])],
        TOKENS[2, 2:4].tolist(),
    ]


@pytest.mark.parametrize("option", ["embedding_dropout", "ngram_dropout", "input_dropout"])
def test_each_dropout_acts_in_training_alone(option):
    embedding = make(**{option: 0.5})
    embedding.eval()
    assert torch.equal(embedding(TOKENS)[0], embedding(TOKENS)[0])
    embedding.train()
    assert not torch.equal(embedding(TOKENS)[0], embedding(TOKENS)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding_dropout": 1.0}, "embedding_dropout is 1.0"),
        ({"input_dropout": -0.1}, "input_dropout is -0.1"),
        ({"ngram_order": 9}, "ngram_order is 9"),
    ],
)
def test_what_is_wrong_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
    with pytest.raises(ValueError, match="vocab_size is 0"):
        TokenEmbedding(0, 5)
    with pytest.raises(ValueError, match="embedding_size is 0"):
        TokenEmbedding(9, 0, std=None)


def test_embeddings_that_do_not_score_start_at_one_half_whatever_their_width():
    torch.manual_seed(0)
    decoder = RecurrentDecoder(vocab_size=1000, embedding_size=64, hidden_size=8)
    for embedding in (TokenEmbedding(1000, 16), decoder.embedding):
        torch.testing.assert_close(embedding.tokens.weight.std(), torch.tensor(0.5), rtol=0.03, atol=0)


def test_embeddings_that_also_score_start_smaller_the_wider_they_are():
    torch.manual_seed(0)
    for size in (16, 64):
        embedding = TokenEmbedding(1000, size, std=None)
        torch.testing.assert_close(embedding.tokens.weight.std() * size**0.5, torch.tensor(1.0), rtol=0.03, atol=0)
