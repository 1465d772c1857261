import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.core import reorder
from zoo.core.ngrams import NgramEmbedding

VOCABULARY = 7


def make_embedding(order=3, buckets=10_000):
    torch.manual_seed(0)
    return NgramEmbedding(VOCABULARY, 5, order, buckets)


def embed(embedding, tokens, recent=None, lengths=None):
    tokens = torch.tensor(tokens)
    recent = embedding.initial_recent(len(tokens), tokens.device) if recent is None else recent
    return embedding(tokens, recent, lengths)


def same(one, other):
    return torch.allclose(one, other, rtol=0, atol=1e-7)


token_lists = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=12)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.lists(token_lists, min_size=1, max_size=4), st.data())
def test_ragged_rows_and_carried_state_equal_each_whole_row(order, rows, data):
    embedding = make_embedding(order, buckets=97)
    longest = max(map(len, rows))
    padded = [row + [0] * (longest - len(row)) for row in rows]
    embedded, recent = embed(embedding, padded, lengths=torch.tensor([len(row) for row in rows]))
    assert recent.shape == (order - 1, len(rows))
    for number, row in enumerate(rows):
        cut = data.draw(st.integers(0, len(row) - 1)) if len(row) > 1 else 0
        whole, whole_recent = embed(embedding, [row])
        assert same(embedded[number, : len(row)], whole[0])
        assert torch.equal(recent[:, number], whole_recent[:, 0])
        expected = ([-1] * (order - 1) + row)[-(order - 1) :]
        assert whole_recent[:, 0].tolist() == expected
        if cut:
            first, carried = embed(embedding, [row[:cut]])
            second, carried = embed(embedding, [row[cut:]], carried)
            assert same(torch.cat([first, second], dim=1), whole)
            assert torch.equal(carried, whole_recent)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_an_embedding_depends_on_the_last_tokens_of_its_order_alone(order):
    embedding = make_embedding(order)
    row = [1, 2, 3, 4, 5, 6, 0, 1, 3]
    before, _ = embed(embedding, [row])
    for changed in range(len(row)):
        other = list(row)
        other[changed] = (other[changed] + 1) % VOCABULARY
        after, _ = embed(embedding, [other])
        for position in range(len(row)):
            inside = changed <= position < changed + order
            assert same(before[0, position], after[0, position]) != inside, (changed, position)


def test_the_same_tokens_mean_the_same_wherever_they_stand():
    embedding = make_embedding(3)
    embedded, _ = embed(embedding, [[4, 1, 2, 3, 0, 5, 1, 2, 3]])
    assert same(embedded[0, 3], embedded[0, 8])


def test_a_token_at_the_start_differs_from_one_after_token_zero():
    embedding = make_embedding(2)
    alone, _ = embed(embedding, [[3]])
    after_zero, _ = embed(embedding, [[0, 3]])
    assert not same(alone[0, 0], after_zero[0, 1])


def test_the_order_of_tokens_counts():
    embedding = make_embedding(2)
    embedded, _ = embed(embedding, [[1, 2], [2, 1]])
    assert not same(embedded[0, 1], embedded[1, 1])


def test_it_is_the_sum_of_one_row_of_each_table():
    embedding = make_embedding(4, buckets=30)
    embedded, _ = embed(embedding, [[1, 2, 3, 4]])
    pairs, triples, quads = embedding.parameters()
    sums = pairs[:, None, None] + triples[None, :, None] + quads[None, None, :]
    distances = (sums - embedded[0, 3]).abs().amax(dim=-1)
    assert (distances < 1e-7).sum() == 1


def test_known_ngrams_keep_their_rows():
    # Saved weights mean something only as long as each n-gram is looked up in the row it was trained in.
    embedding = NgramEmbedding(1000, 1, 8, 1009)
    rows = []
    for table in embedding.tables:
        for other in embedding.tables:
            other.data.zero_()
        table.data[:, 0] = torch.arange(1009)
        rows.append(embed(embedding, [[5, 900, 0, 77, 31, 4, 12, 999]])[0][0, :, 0].int().tolist())
    assert rows == [
        [830, 838, 582, 587, 38, 47, 111, 902],
        [369, 212, 521, 502, 905, 692, 203, 214],
        [834, 351, 308, 939, 595, 662, 998, 332],
        [183, 822, 43, 604, 226, 898, 77, 408],
        [395, 473, 507, 820, 630, 265, 960, 125],
        [86, 225, 654, 794, 387, 1005, 880, 400],
        [49, 146, 156, 113, 741, 598, 951, 645],
    ]


def test_hash_spreads_ngrams_over_the_tables():
    vocabulary = 60
    torch.manual_seed(0)
    embedding = NgramEmbedding(vocabulary, 3, 2, 2000)
    first, second = torch.meshgrid(torch.arange(vocabulary), torch.arange(vocabulary), indexing="ij")
    bigrams = torch.stack([first.flatten(), second.flatten()], dim=1)
    embedded, _ = embed(embedding, bigrams.tolist())
    used = torch.unique(embedded[:, 1], dim=0)
    # 3,600 bigrams drawn at random into 2,000 rows would fill 83.5 percent of them.
    assert len(used) > 0.78 * 2000


def test_tables_are_no_larger_than_the_number_of_ngrams():
    embedding = make_embedding(4, buckets=100)
    assert [table.shape for table in embedding.parameters()] == [(49, 5), (100, 5), (100, 5)]


def test_large_vocabularies_do_not_overflow():
    torch.manual_seed(0)
    embedding = NgramEmbedding(2_000_000, 2, 8, 1000)
    embedded, _ = embed(embedding, [[1_999_999] * 12])
    assert embedded.isfinite().all()


def test_dropout_takes_whole_look_ups_in_training_alone():
    torch.manual_seed(0)
    embedding = NgramEmbedding(VOCABULARY, 5, 2, 49, dropout=0.5)
    tokens = torch.randint(VOCABULARY, (20, 30)).tolist()
    dropped, _ = embed(embedding, tokens)
    kept, _ = embed(embedding.eval(), tokens)
    share = dropped / kept
    assert torch.allclose(share, share[..., :1].expand_as(share), atol=1e-4)
    assert set(share.round(decimals=3).unique().tolist()) == {0.0, 2.0}
    assert 0.4 < (share == 0).float().mean() < 0.6
    assert same(embed(embedding, tokens)[0], kept)


def test_recent_is_reordered_like_any_state():
    embedding = make_embedding(3)
    _, recent = embed(embedding, [[1, 2, 3], [4, 5, 6]])
    (picked,) = reorder((recent,), torch.tensor([1, 1, 0]))
    assert picked.T.tolist() == [[5, 6], [5, 6], [2, 3]]


@pytest.mark.parametrize(
    ("order", "buckets", "dropout", "name"),
    [(1, 10, 0, "order"), (9, 10, 0, "order"), (2, 0, 0, "buckets"), (2, 10, 1, "dropout")],
)
def test_bad_arguments_are_refused(order, buckets, dropout, name):
    with pytest.raises(ValueError, match=f"ngram_{name} is .*, but must be"):
        NgramEmbedding(5, 4, order, buckets, dropout)
