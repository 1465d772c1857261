import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.decoding import Sampler, SamplingOptions

VOCABULARY = 12


class HashDecoder:
    """A toy decoder without rounding: the scores are a table's row, picked by a hash of all tokens of the row."""

    def __init__(self):
        self.table = torch.randn(97, VOCABULARY, generator=torch.Generator().manual_seed(0)) * 2
        self.steps = 0

    def prefill(self, tokens, lengths):
        hashes = [self.hash(row[:length]) for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]
        state = (torch.tensor([hashes])[..., None],)
        return self.table[state[0][0, :, 0]], state

    def step(self, tokens, state):
        self.steps += 1
        state = ((state[0] * 31 + tokens[None, :, None] + 1) % 97,)
        return self.table[state[0][0, :, 0]], state

    @staticmethod
    def hash(tokens):
        value = 0
        for token in tokens:
            value = (value * 31 + token + 1) % 97
        return value


def draw(prompts, options=SamplingOptions(), seeds=None, lengths=20, decoder=None, **more):  # noqa: B008 (frozen)
    """Each prompt's tokens; a row ends after its own length."""
    seeds = list(range(len(prompts))) if seeds is None else seeds
    lengths = [lengths] * len(prompts) if isinstance(lengths, int) else lengths
    sampler = Sampler(decoder or HashDecoder(), prompts, options, seeds, **more)
    rows = [[] for _ in prompts]
    for drawn in sampler:
        for number, token in drawn:
            rows[number].append(token)
            if len(rows[number]) == lengths[number]:
                sampler.end(number)
    return rows


prompt_lists = st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6), min_size=1, max_size=6)
options_of_all_kinds = st.sampled_from(
    [
        SamplingOptions(),
        SamplingOptions(temperature=0),
        SamplingOptions(temperature=0.8, top_k=4),
        SamplingOptions(top_p=0.7),
        SamplingOptions(min_p=0.2, repetition_penalty=1.5),
        SamplingOptions(temperature=0, repetition_penalty=3.0),
    ]
)


@settings(max_examples=60, deadline=None)
@given(prompt_lists, options_of_all_kinds, st.data())
def test_a_row_alone_is_the_row_in_a_batch_whose_other_rows_end_at_any_time(prompts, options, data):
    number = len(prompts)
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=number, max_size=number))
    seeds = data.draw(st.lists(st.integers(0, 2**62), min_size=number, max_size=number))
    together = draw(prompts, options, seeds, lengths)
    for row in range(number):
        alone = draw([prompts[row]], options, [seeds[row]], lengths[row])
        assert together[row] == alone[0]
        assert len(alone[0]) == lengths[row]


def test_rows_that_ended_are_computed_no_more():
    widths = []

    class Watched(HashDecoder):
        def step(self, tokens, state):
            widths.append((len(tokens), state[0].shape[1]))
            return super().step(tokens, state)

    draw([[1], [2], [3]], lengths=[1, 4, 2], decoder=Watched())
    assert widths == [(2, 2), (1, 1), (1, 1)]


def test_no_step_is_taken_after_the_last_token():
    decoder = HashDecoder()
    draw([[1], [2]], lengths=5, decoder=decoder)
    assert decoder.steps == 4


def test_ending_a_row_twice_or_one_that_is_not_there_is_no_error():
    sampler = Sampler(HashDecoder(), [[1], [2]], SamplingOptions(), [0, 1])
    steps = iter(sampler)
    next(steps)
    for number in (0, 0, 9):
        sampler.end(number)
    assert [number for number, _ in next(steps)] == [1]
    sampler.end(1)
    assert list(steps) == []


def test_greedy_takes_the_best_of_every_step():
    decoder = HashDecoder()
    prompt = [3, 1, 4]
    expected = list(prompt)
    for _ in range(10):
        expected.append(int(decoder.table[decoder.hash(expected)].argmax()))
    assert draw([prompt], SamplingOptions(temperature=0), lengths=10)[0] == expected[3:]


@settings(max_examples=20, deadline=None)
@given(st.integers(-(2**62), 2**62))
def test_the_same_seed_draws_the_same_tokens(seed):
    assert draw([[1, 2]], seeds=[seed]) == draw([[1, 2]], seeds=[seed])


def test_different_seeds_draw_different_tokens():
    rows = draw([[1, 2]] * 50, seeds=list(range(50)))
    assert len({tuple(row) for row in rows}) == 50


def test_the_global_random_state_neither_matters_nor_changes():
    torch.manual_seed(1)
    first = draw([[1, 2]])
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert draw([[1, 2]]) == first
    assert torch.equal(torch.get_rng_state(), before)


def test_first_tokens_of_many_seeds_follow_the_distribution():
    number = 4000
    decoder = HashDecoder()
    rows = draw([[5]] * number, lengths=2, decoder=decoder)
    first = torch.tensor([row[0] for row in rows]).bincount(minlength=VOCABULARY)
    expected = torch.softmax(decoder.table[decoder.hash([5])], dim=-1) * number
    # Chi-square with 11 degrees of freedom is above 31.3 once in a thousand times; the seeds are fixed.
    assert ((first - expected) ** 2 / expected).sum() < 31.3
    # The second number of a row is a new one: given the first token, the second follows its own distribution.
    common = int(first.argmax())
    second = torch.tensor([row[1] for row in rows if row[0] == common]).bincount(minlength=VOCABULARY)
    expected = torch.softmax(decoder.table[decoder.hash([5, common])], dim=-1) * int(first[common])
    likely = expected > 3
    assert ((second - expected) ** 2 / expected)[likely].sum() < 31.3


@pytest.mark.parametrize("options", [SamplingOptions(), SamplingOptions(temperature=0), SamplingOptions(top_k=2)])
def test_banned_tokens_are_never_chosen(options):
    free = draw([[n] for n in range(12)], options, lengths=30)
    banned = [0, 3, 11]
    assert any(token in banned for row in free for token in row)
    rows = draw([[n] for n in range(12)], options, lengths=30, banned=banned)
    assert not any(token in banned for row in rows for token in row)


def test_a_huge_repetition_penalty_never_repeats_while_something_new_is_left():
    class Positive(HashDecoder):
        def __init__(self):
            super().__init__()
            self.table = self.table.abs() + 1

    prompts = [[0, 1, 2], [7], [3, 3, 3, 3, 3]]
    rows = draw(prompts, SamplingOptions(temperature=0, repetition_penalty=1e6), lengths=7, decoder=Positive())
    for prompt, row in zip(prompts, rows, strict=True):
        assert len({*prompt, *row}) == len(set(prompt)) + 7


def test_padding_is_not_taken_for_a_token_of_the_row():
    # Token 0 pads the short rows; a penalty on it would show in what follows.
    options = SamplingOptions(repetition_penalty=50.0)
    short = [[token] for token in range(1, VOCABULARY)]
    alone = [draw([prompt], options, seeds=[3], lengths=1)[0] for prompt in short]
    assert [0] in alone
    together = draw([*short, [1, 2, 3, 4, 5, 6]], options, seeds=[3] * VOCABULARY, lengths=1)
    assert together[:-1] == alone


def test_an_empty_prompt_is_refused():
    with pytest.raises(ValueError, match="a prompt has no token"):
        Sampler(HashDecoder(), [[1], []], SamplingOptions(), [0, 1])


def test_the_decoder_is_given_tensors_on_its_device():
    class Elsewhere(HashDecoder):
        def prefill(self, tokens, lengths):
            assert tokens.device.type == lengths.device.type == "meta"
            raise InterruptedError

    with pytest.raises(InterruptedError):
        Sampler(Elsewhere(), [[1]], SamplingOptions(), [0], device="meta")
