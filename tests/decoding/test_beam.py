import math
from itertools import pairwise
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from zoo.core import CELLS, RecurrentDecoder
from zoo.decoding import BeamOptions, beam_search
from zoo.one_to_many import MarkovGenerator, TextGenerator

VOCABULARY = 4
END = 2
ALL = 400  # more beams than there are candidates: 3 tokens that do not end, 4 times, and one of 4 after those


class HashDecoder:
    """A toy decoder: the scores are a table's row, picked by a hash of all tokens of the row."""

    def __init__(self, vocabulary=VOCABULARY, scale=2.0):
        self.table = torch.randn(97, vocabulary, generator=torch.Generator().manual_seed(0)) * scale
        self.widths = []

    def prefill(self, tokens, lengths):
        hashes = torch.zeros(len(tokens), dtype=torch.long)
        for row, length in enumerate(lengths.tolist()):
            for token in tokens[row, :length].tolist():
                hashes[row] = (hashes[row] * 31 + token + 1) % 97
        return self.table[hashes], (hashes[None, :, None],)

    def step(self, tokens, state):
        self.widths.append(len(tokens))
        state = ((state[0] * 31 + tokens[None, :, None] + 1) % 97,)
        return self.table[state[0][0, :, 0]], state


def prefill(decoder, prompts):
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    tokens = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = torch.tensor(prompt)
    return decoder.prefill(tokens, lengths)


def search(decoder, prompts, *, end_id=END, max_new_tokens=4, min_new_tokens=0, memory=None, banned=(), **options):
    logits, state = prefill(decoder, prompts)
    return beam_search(
        decoder,
        logits,
        state,
        end_id=end_id,
        max_new_tokens=max_new_tokens,
        min_new_tokens=min_new_tokens,
        options=BeamOptions(**options),
        memory=memory,
        banned=banned,
    )


@torch.no_grad()
def next_log_probabilities(decoder, tokens):
    return torch.log_softmax(prefill(decoder, [tokens])[0][0].double(), dim=-1).tolist()


def penalty(length, alpha):
    return ((5 + length) / 6) ** alpha


def repeats(tokens, size):
    ngrams = [tuple(tokens[n : n + size]) for n in range(len(tokens) - size + 1)] if size else []
    return len(ngrams) > len(set(ngrams))


def best_of_all(decoder, prompt, longest, shortest=0, banned=(), n_best=1, alpha=1.0, size=None, end=END):
    """By looking at every sequence: (score, tokens, finished) of the n best, and what each sequence's log P is."""
    log_p = {(): 0.0}
    finished = {}
    for length in range(longest + 1):
        for tokens in [tokens for tokens in log_p if len(tokens) == length]:
            following = next_log_probabilities(decoder, [*prompt, *tokens])
            for token, log_probability in enumerate(following):
                if token in banned:
                    continue
                if token == end:
                    if length >= shortest and longest > 0:
                        finished[tokens] = log_p[tokens] + log_probability
                elif length < longest and not repeats([*tokens, token], size):
                    log_p[*tokens, token] = log_p[tokens] + log_probability
    reached = max(map(len, log_p))
    unfinished = {tokens: p for tokens, p in log_p.items() if len(tokens) == reached and tokens not in finished}
    ranked = sorted(((p / penalty(len(tokens) + 1, alpha), tokens, True) for tokens, p in finished.items()), reverse=1)
    ranked += sorted(((p / penalty(reached, alpha), tokens, False) for tokens, p in unfinished.items()), reverse=1)
    return ranked[:n_best], finished | {tokens: p for tokens, p in log_p.items() if tokens not in finished}


class TieError(Exception):
    """Rounding decides which of two hypotheses comes first: the same rows of a table in another order, say."""


def best_first(hypotheses):
    ranked = sorted(hypotheses, reverse=True)
    if any(better[0] - worse[0] < 1e-5 for better, worse in pairwise(ranked)):
        raise TieError
    return ranked


def plain_beam_search(decoder, prompt, width, longest, shortest=0, banned=(), n_best=1, alpha=1.0, size=None, end=END):
    """The plain twin: one source, lists of (log P, tokens), one candidate at a time."""
    live, finished = [(0.0, ())], []
    while True:
        length = len(live[0][1])
        candidates = []
        for log_p, tokens in live:
            following = next_log_probabilities(decoder, [*prompt, *tokens])
            for token, log_probability in enumerate(following):
                may_end = longest > 0 and length >= shortest
                if token in banned or (token == end and not may_end) or repeats([*tokens, token], size):
                    continue
                candidates.append((log_p + log_probability, (*tokens, token)))
        candidates = best_first(candidates)
        ended = [(log_p, tokens[:-1]) for log_p, tokens in candidates[:width] if tokens[-1] == end]
        finished += [(log_p / penalty(length + 1, alpha), tokens, True) for log_p, tokens in ended]
        finished = best_first(finished)
        going_on = [one for one in candidates if one[1][-1] != end][:width]
        enough = len(finished) >= n_best
        if enough and going_on and going_on[0][0] / penalty(longest + 1, alpha) > finished[n_best - 1][0]:
            enough = False
        if enough or length == longest or not going_on or (width == 1 and ended):
            cut = [one for one in live if one[1] not in [tokens for _, tokens in ended]]
            cut = [(log_p / penalty(length, alpha), tokens, False) for log_p, tokens in cut]
            return (finished + cut)[:n_best]
        live = going_on


def assert_same(got, expected):
    assert [(one.tokens, one.finished) for one in got] == [(tokens, finished) for _, tokens, finished in expected]
    assert [one.score for one in got] == pytest.approx([score for score, _, _ in expected], abs=1e-4)


prompts_of_any_number = st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=4), min_size=1)
alphas = st.sampled_from([0.0, 0.6, 1.0, 2.0])
any_ban = st.lists(st.integers(0, VOCABULARY - 1), max_size=2)
any_size = st.sampled_from([None, None, 1, 2, 3])


# --- what is found ------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(prompts_of_any_number.map(lambda prompts: prompts[:3]), alphas, any_size, any_ban, st.integers(1, 8), st.data())
def test_with_all_beams_the_best_of_all_sequences_are_found(prompts, alpha, size, banned, n_best, data):
    decoder = HashDecoder()
    longest = data.draw(st.lists(st.integers(0, 4), min_size=len(prompts), max_size=len(prompts)))
    shortest = data.draw(st.lists(st.integers(0, 5), min_size=len(prompts), max_size=len(prompts)))
    found = search(
        decoder,
        prompts,
        max_new_tokens=longest,
        min_new_tokens=shortest,
        banned=banned,
        num_beams=ALL,
        n_best=n_best,
        length_penalty=alpha,
        no_repeat_ngram_size=size,
    )
    for prompt, most, least, got in zip(prompts, longest, shortest, found, strict=True):
        expected, log_p = best_of_all(decoder, prompt, most, least, banned, n_best, alpha, size)
        # By score, since two sequences can have the same.
        assert [one.score for one in got] == pytest.approx([score for score, _, _ in expected], abs=1e-4)
        assert [one.finished for one in got] == [finished for _, _, finished in expected]
        assert len({one.tokens for one in got}) == len(got) >= 1
        for one in got:
            assert one.log_probability == pytest.approx(log_p[one.tokens], abs=1e-4)
            length = len(one.tokens) + one.finished
            assert one.score == pytest.approx(one.log_probability / penalty(length, alpha), abs=1e-4)


@settings(max_examples=150, deadline=None)
@given(prompts_of_any_number, st.integers(1, 6), st.sampled_from([1.0, 4.0]), alphas, any_size, any_ban, st.data())
def test_few_beams_find_what_the_plain_twin_finds(prompts, width, scale, alpha, size, banned, data):
    decoder = HashDecoder(scale=scale)
    n_best = data.draw(st.integers(1, width))
    longest = data.draw(st.lists(st.integers(0, 9), min_size=len(prompts), max_size=len(prompts)))
    shortest = data.draw(st.lists(st.integers(0, 3), min_size=len(prompts), max_size=len(prompts)))
    end_id = data.draw(st.sampled_from([END, END, None]))
    found = search(
        decoder,
        prompts,
        end_id=end_id,
        max_new_tokens=longest,
        min_new_tokens=shortest,
        banned=banned,
        num_beams=width,
        n_best=n_best,
        length_penalty=alpha,
        no_repeat_ngram_size=size,
    )
    for prompt, most, least, got in zip(prompts, longest, shortest, found, strict=True):
        try:
            expected = plain_beam_search(decoder, prompt, width, most, least, banned, n_best, alpha, size, end_id)
        except TieError:
            reject()
        assert_same(got, expected)


@settings(max_examples=40, deadline=None)
@given(prompts_of_any_number, alphas, st.integers(1, 20))
def test_more_beams_up_to_all_are_never_worse_than_few(prompts, alpha, width):
    few = search(HashDecoder(), prompts, num_beams=width, length_penalty=alpha)
    everything = search(HashDecoder(), prompts, num_beams=ALL, length_penalty=alpha)
    for (one,), (best,) in zip(few, everything, strict=True):
        assert best.finished
        assert not one.finished or best.score >= one.score - 1e-5


def test_a_higher_length_penalty_finds_longer_ones():
    prompts = [[token] for token in range(VOCABULARY)] * 5
    lengths = [
        sum(len(one.tokens) for (one,) in search(HashDecoder(), prompts, num_beams=ALL, length_penalty=alpha))
        for alpha in (0.0, 1.0, 3.0)
    ]
    assert lengths[0] < lengths[1] < lengths[2]


def test_the_end_may_come_first_unless_it_is_told_not_to():
    decoder = HashDecoder()
    decoder.table[:, END] = 50.0
    logits, state = prefill(decoder, [[1]])
    ((one,),) = beam_search(decoder, logits, state, end_id=END, max_new_tokens=4, options=BeamOptions())
    assert one.tokens == () and one.finished
    ((one,),) = search(decoder, [[1]], min_new_tokens=1)
    assert len(one.tokens) == 1 and one.finished


def test_a_long_hypothesis_that_wins_by_its_length_only_is_waited_for():
    class Chain:
        """Ends at once with probability 0.6, else, for sure, after six tokens."""

        def prefill(self, tokens, lengths):
            return torch.tensor([[0.4, 0.6]]).log(), (torch.zeros(1, 1, 1),)

        def step(self, tokens, state):
            ends = state[0][0] == 5
            return torch.where(ends, torch.tensor([-50.0, 0.0]), torch.tensor([0.0, -50.0])), (state[0] + 1,)

    for alpha, tokens in ((0.7, ()), (1.0, (0,) * 6)):
        ((one,),) = search(Chain(), [[0]], end_id=1, max_new_tokens=6, num_beams=2, length_penalty=alpha)
        assert one.tokens == tokens


def test_a_vocabulary_smaller_than_the_beams_and_one_that_is_only_the_end():
    (one,) = search(HashDecoder(vocabulary=1), [[0]], end_id=0, num_beams=5, n_best=3)
    assert [(hypothesis.tokens, hypothesis.score, hypothesis.finished) for hypothesis in one] == [((), 0.0, True)]
    (one,) = search(HashDecoder(vocabulary=1), [[0]], end_id=None, num_beams=5, n_best=3)
    assert [(hypothesis.tokens, hypothesis.score, hypothesis.finished) for hypothesis in one] == [
        ((0,) * 4, 0.0, False)
    ]


@pytest.mark.parametrize("ending", [{"end_id": None}, {"banned": [END]}, {"min_new_tokens": 7}])
def test_where_nothing_ends_the_best_unfinished_are_returned(ending):
    decoder = HashDecoder()
    (got,) = search(decoder, [[1]], max_new_tokens=6, num_beams=3, n_best=3, **ending)
    assert len(got) == 3
    assert all(len(one.tokens) == 6 and not one.finished for one in got)
    assert [one.score for one in got] == sorted((one.score for one in got), reverse=True)


def test_where_nothing_can_follow_the_beams_are_cut():
    # Two tokens are left, each may come once, and no end before the third.
    (got,) = search(HashDecoder(), [[1]], banned=[0], min_new_tokens=3, num_beams=4, n_best=4, no_repeat_ngram_size=1)
    assert {one.tokens for one in got} == {(1, 3), (3, 1)}
    assert not any(one.finished for one in got)


@pytest.mark.parametrize("end_id", [None, END])
def test_no_new_tokens_give_an_empty_unfinished_hypothesis_of_score_zero(end_id):
    decoder = HashDecoder()
    found = search(decoder, [[1], [3]], end_id=end_id, max_new_tokens=0)
    assert found == [[((), 0.0, 0.0, False)]] * 2
    assert decoder.widths == []


def test_no_sources_give_none():
    decoder = HashDecoder()
    state = (torch.zeros(1, 0, 1, dtype=torch.long),)
    options = BeamOptions()
    assert beam_search(decoder, torch.zeros(0, 4), state, end_id=END, max_new_tokens=3, options=options) == []


def test_log_probabilities_are_float32_whatever_the_logits_are():
    decoder = HashDecoder()
    decoder.table = decoder.table.bfloat16()
    assert_same(search(decoder, [[3, 1]], max_new_tokens=9)[0], plain_beam_search(decoder, [3, 1], 5, 9))


# --- on real decoders ---------------------------------------------------------------------------------------


def make_decoder(cell="lstm", vocabulary=11):
    torch.manual_seed(0)
    decoder = RecurrentDecoder(vocab_size=vocabulary, embedding_size=8, hidden_size=8, cell=cell).eval()
    # Scores far enough apart that rounding, which differs from batch to batch, does not decide.
    torch.nn.init.normal_(decoder.output.weight, std=1.0)
    torch.nn.init.normal_(decoder.embedding.tokens.weight, std=2.0)
    torch.nn.init.constant_(decoder.output.bias[END], 0.5)  # with every cell some end and some do not
    return decoder


def make_prompts(number, vocabulary=11):
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 6, (number,), generator=generator).tolist()
    return [torch.randint(vocabulary, (length,), generator=generator).tolist() for length in lengths]


def greedy(decoder, prompt, longest, shortest):
    tokens = []
    while True:
        following = next_log_probabilities(decoder, [*prompt, *tokens])
        if len(tokens) < shortest:
            following[END] = -math.inf
        best = following.index(max(following))
        if best == END or len(tokens) == longest:
            return tuple(tokens), best == END
        tokens.append(best)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("cell", CELLS)
def test_one_beam_is_greedy(cell, alpha):
    decoder, prompts = make_decoder(cell), make_prompts(30)
    longest = [1 + row % 12 for row in range(30)]
    found = search(decoder, prompts, max_new_tokens=longest, min_new_tokens=1, num_beams=1, length_penalty=alpha)
    got = [(one.tokens, one.finished) for (one,) in found]
    assert got == [greedy(decoder, prompt, most, 1) for prompt, most in zip(prompts, longest, strict=True)]
    assert {finished for _, finished in got} == {True, False}


@pytest.mark.parametrize("cell", CELLS)
def test_log_probabilities_are_those_of_stepping_through_the_tokens(cell):
    decoder, prompts = make_decoder(cell), make_prompts(12)
    longest = [row % 12 for row in range(12)]
    found = search(decoder, prompts, max_new_tokens=longest, num_beams=4, n_best=4, length_penalty=0.7)
    assert {one.finished for few in found for one in few} == {True, False}
    for prompt, few in zip(prompts, found, strict=True):
        assert [one.finished for one in few] == sorted((one.finished for one in few), reverse=True)
        finished = [one.score for one in few if one.finished]
        assert finished == sorted(finished, reverse=True)
        for one in few:
            logits, state = prefill(decoder, [prompt])
            log_p = 0.0
            for token in one.tokens + (END,) * one.finished:
                log_p += float(torch.log_softmax(logits[0].detach(), dim=-1)[token])
                logits, state = decoder.step(torch.tensor([token]), state)
            assert one.log_probability == pytest.approx(log_p, abs=1e-4)
            assert one.score == pytest.approx(log_p / penalty(len(one.tokens) + one.finished, 0.7), abs=1e-4)


@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("more", [{}, {"end_id": None}, {"no_repeat_ngram_size": 2, "min_new_tokens": 3, "n_best": 3}])
def test_a_source_alone_is_the_source_in_a_batch(batch, more):
    decoder, prompts = make_decoder(), make_prompts(batch)
    longest = [(7 * row) % 13 for row in range(batch)]
    together = search(decoder, prompts, max_new_tokens=longest, num_beams=4, **more)
    for prompt, most, few in zip(prompts, longest, together, strict=True):
        (alone,) = search(decoder, [prompt], max_new_tokens=most, num_beams=4, **more)
        assert_same(few, [(one.score, one.tokens, one.finished) for one in alone])


@pytest.mark.parametrize("end_id", [None, END])
def test_it_works_on_the_text_generators(end_id):
    markov = MarkovGenerator(tokenizer=SimpleNamespace(vocab_size=VOCABULARY), order=3)
    markov.fit(torch.randint(VOCABULARY, (200,), generator=torch.Generator().manual_seed(0)))
    torch.manual_seed(0)
    generator = TextGenerator(vocab_size=VOCABULARY, hidden_size=8, ngram_order=3).eval()
    torch.nn.init.normal_(generator.decoder.output.weight, std=1.0)
    prompts = [[1], [3, 0, 1, 1], [0, 2]]
    for decoder in (markov, generator.decoder):
        found = search(decoder, prompts, end_id=end_id, num_beams=ALL, n_best=9)
        for prompt, got in zip(prompts, found, strict=True):
            expected, log_p = best_of_all(decoder, prompt, 4, n_best=9, end=end_id)
            # Counts are often equal: which of two sequences of one score comes first is not said.
            assert [one.score for one in got] == pytest.approx([score for score, _, _ in expected], abs=1e-4)
            assert [one.log_probability for one in got] == pytest.approx([log_p[one.tokens] for one in got], abs=1e-4)


# --- what the decoder is asked ------------------------------------------------------------------------------


class Sources(NamedTuple):
    """A memory that knows which source each row is, and remembers which rows were asked for."""

    numbers: torch.Tensor
    asked: list

    def rows(self, index):
        self.asked.append(index.tolist())
        return Sources(self.numbers[index], self.asked)


class AttendingDecoder(HashDecoder):
    """Its state carries each row's source, which must be that of its memory; what it scores depends on both."""

    def prefill(self, tokens, lengths):
        logits, state = super().prefill(tokens, lengths)
        return logits, (*state, torch.arange(len(tokens))[None, :, None])

    def step(self, tokens, state, memory):
        hashes, source = state
        assert torch.equal(source.view(len(memory.numbers), -1), memory.numbers[:, None].expand(-1, self.width))
        logits, hashes = super().step(tokens, (hashes,))
        return logits + self.table[memory.numbers.repeat_interleave(self.width)], (*hashes, source)


@pytest.mark.parametrize("width", [1, 3])
def test_a_memory_has_one_row_a_source_that_is_not_done(width):
    decoder, asked = AttendingDecoder(), []
    decoder.width = width
    search(
        decoder,
        [[1], [1], [3], [0], [1]],
        end_id=None,
        max_new_tokens=[4, 0, 2, 6, 2],
        num_beams=width,
        memory=Sources(torch.arange(5), asked),
    )
    # Source 1 leaves at once; 2 and 4, then the second and fourth, after two tokens; 0 after four; 3 with the search.
    assert asked == [[0, 2, 3, 4], [0, 2], [1]]
    assert [rows // width for rows in decoder.widths] == [4, 2, 2, 1, 1]


@settings(max_examples=30, deadline=None)
@given(prompts_of_any_number, st.integers(1, 4), st.data())
def test_a_memory_follows_sources_that_end_at_any_time(prompts, width, data):
    longest = data.draw(st.lists(st.integers(0, 9), min_size=len(prompts), max_size=len(prompts)))
    decoder = AttendingDecoder()
    decoder.width = width
    asked = []
    search(decoder, prompts, max_new_tokens=longest, num_beams=width, memory=Sources(torch.arange(len(prompts)), asked))
    left = list(range(len(prompts)))
    for index in asked:
        assert 0 < len(index) < len(left)
        left = [left[n] for n in index]


def test_no_step_is_taken_that_is_not_needed():
    for end_id, steps in ((None, 5), (END, 6)):  # the end may come after the sixth token
        decoder = HashDecoder()
        search(decoder, [[1]], end_id=end_id, max_new_tokens=6, num_beams=2, length_penalty=10.0, n_best=2)
        assert decoder.widths == [2] * steps
    # With one beam, the end at once is the end.
    decoder = HashDecoder()
    decoder.table[:, END] = 50.0
    assert search(decoder, [[1], [3]], num_beams=1)[0][0].tokens == ()
    assert decoder.widths == []


def test_nothing_of_what_was_given_is_changed():
    decoder = HashDecoder()
    logits, state = prefill(decoder, [[1], [3]])
    kept = logits.clone(), state[0].clone()
    options = BeamOptions(num_beams=3, no_repeat_ngram_size=1)
    results = [
        beam_search(decoder, logits, state, end_id=END, max_new_tokens=4, options=options, banned=[0]) for _ in range(2)
    ]
    assert results[0] == results[1]
    assert torch.equal(logits, kept[0]) and torch.equal(state[0], kept[1])


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, r"num_beams is 0, but must be from 1 \(greedy\) to 10,000"),
        ({"n_best": 0}, "n_best is 0, but must be from 1 to num_beams, 5"),
        ({"num_beams": 3, "n_best": 4}, "n_best is 4, but must be from 1 to num_beams, 3"),
        ({"length_penalty": -0.1}, r"length_penalty is -0.1, but must be from 0 \(none\) to 10"),
        ({"length_penalty": 10.5}, "length_penalty is 10.5, but must be"),
        ({"length_penalty": float("inf")}, "length_penalty is inf, but must be"),
        ({"length_penalty": float("nan")}, "length_penalty is nan, but must be"),
        ({"no_repeat_ngram_size": 0}, "no_repeat_ngram_size is 0, but must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BeamOptions(**options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens is -1, but must be at least 0"),
        ({"max_new_tokens": [3, -2]}, "max_new_tokens is -2, but must be at least 0"),
        ({"max_new_tokens": [3, 3, 3]}, "max_new_tokens has 3 numbers for 2 rows: give one for all or one for each"),
        ({"min_new_tokens": [3]}, "min_new_tokens has 1 numbers for 2 rows"),
        ({"end_id": 4}, "end_id is 4, but the vocabulary has ids 0 to 3"),
        ({"end_id": -1}, "end_id is -1, but"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        search(HashDecoder(), [[1], [3]], **arguments)
