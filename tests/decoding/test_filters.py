import math

import pytest
import torch
from hypothesis import assume, currently_in_test_context, given, settings
from hypothesis import strategies as st

from zoo.decoding import SamplingOptions, candidates, choose
from zoo.decoding.filters import best_first

LARGEST_UNIFORM = 1 - 2**-53  # the largest that `torch.rand` gives in float64
# Distinct, so that "the k best" is one set.
distinct_logits = st.lists(st.integers(-400, 400), min_size=1, max_size=30, unique=True).map(
    lambda numbers: [number / 50 for number in numbers]
)


def softmax(logits):
    best = max(logits)
    shares = [math.exp(logit - best) for logit in logits]
    return [share / sum(shares) for share in shares]


def clear_cut(value, edge):
    """Skip an example where float32 may round to either side of an edge."""
    if currently_in_test_context():
        assume(abs(value - edge) > 1e-5)


def plainly_kept(logits, options):
    """The tokens that the filters leave, best first, by their definitions."""
    kept = sorted(range(len(logits)), key=lambda token: -logits[token])
    kept = kept[: options.top_k]
    probabilities = softmax([logits[token] for token in kept])
    nucleus = []
    for token, probability in zip(list(kept), probabilities, strict=True):
        before = sum(probabilities[: len(nucleus)])
        clear_cut(before, options.top_p)
        if options.top_p < 1 and before >= options.top_p:
            break
        nucleus.append((token, probability))
    best = nucleus[0][1]
    for _, probability in nucleus[1:]:
        clear_cut(probability / best, options.min_p)
    return [token for token, probability in nucleus if probability / best >= options.min_p]


def kept_tokens(logits, options):
    left, tokens = candidates(torch.tensor([logits]), options)
    tokens = torch.arange(len(logits))[None] if tokens is None else tokens
    return [(int(token), float(logit)) for logit, token in zip(left[0], tokens[0], strict=True) if logit > -math.inf]


filter_options = st.builds(
    SamplingOptions,
    top_k=st.none() | st.integers(1, 40),
    top_p=st.just(1.0) | st.floats(0.01, 1),
    min_p=st.just(0.0) | st.floats(0, 1),
)


@settings(max_examples=300, deadline=None)
@given(distinct_logits, filter_options)
def test_filters_keep_what_their_definitions_keep(logits, options):
    got = kept_tokens(logits, options)
    assert {token for token, _ in got} == set(plainly_kept(logits, options))
    for token, logit in got:
        assert logit == pytest.approx(logits[token], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Probabilities 0.4, 0.3, 0.2, 0.1 of tokens 2, 0, 3, 1.
        ({}, {0, 1, 2, 3}),
        ({"top_k": 1}, {2}),
        ({"top_k": 3}, {0, 2, 3}),
        ({"top_k": 4}, {0, 1, 2, 3}),
        ({"top_k": 100}, {0, 1, 2, 3}),
        ({"top_p": 0.39}, {2}),
        ({"top_p": 0.41}, {0, 2}),
        ({"top_p": 0.69}, {0, 2}),
        ({"top_p": 0.71}, {0, 2, 3}),
        ({"top_p": 1e-9}, {2}),
        ({"min_p": 0.74}, {0, 2}),
        ({"min_p": 0.76}, {2}),
        ({"min_p": 0.26}, {0, 2, 3}),
        ({"min_p": 0.24}, {0, 1, 2, 3}),
        ({"min_p": 1}, {2}),
        # After top-k the two left have 4/7 and 3/7.
        ({"top_k": 2, "top_p": 0.56}, {2}),
        ({"top_k": 2, "top_p": 0.58}, {0, 2}),
    ],
)
def test_filters_on_four_known_probabilities(options, expected):
    logits = [math.log(p) for p in (0.3, 0.1, 0.4, 0.2)]
    assert {token for token, _ in kept_tokens(logits, SamplingOptions(**options))} == expected


@pytest.mark.parametrize(("top_p", "kept"), [(0.25, 1), (0.26, 2), (0.5, 2), (0.75, 3), (0.76, 4)])
def test_as_few_tokens_are_kept_as_reach_p_exactly_and_of_equals_the_first(top_p, kept):
    assert [token for token, _ in kept_tokens([1.0] * 4, SamplingOptions(top_p=top_p))] == list(range(kept))


def test_candidates_are_few_columns_best_first():
    logits = torch.randn(5, 100)
    left, tokens = candidates(logits, SamplingOptions(top_k=7))
    assert left.shape == tokens.shape == (5, 7)
    assert (left.diff(dim=-1).nan_to_num(-1) <= 0).all()
    assert torch.equal(tokens[:, 0], logits.argmax(dim=-1))


@settings(max_examples=100, deadline=None)
@given(st.lists(distinct_logits.filter(lambda row: len(row) >= 4).map(lambda row: row[:4]), min_size=2), filter_options)
def test_a_rows_filters_do_not_depend_on_the_other_rows(rows, options):
    left, tokens = candidates(torch.tensor(rows), options)
    for number, row in enumerate(rows):
        alone, alone_tokens = candidates(torch.tensor([row]), options)
        count = alone.shape[1]
        assert torch.equal(left[number, :count], alone[0]) and (left[number, count:] == -torch.inf).all()
        assert tokens is None or torch.equal(tokens[number, :count], alone_tokens[0])


# --- the draw -----------------------------------------------------------------------------------------------

LOGITS = [1.0, -0.5, 2.0, 0.3, -3.0, 1.2]


@pytest.mark.parametrize(
    "options",
    [
        SamplingOptions(),
        SamplingOptions(temperature=0.5),
        SamplingOptions(temperature=3.0),
        SamplingOptions(top_k=3),
        SamplingOptions(top_p=0.8),
        SamplingOptions(min_p=0.3),
        SamplingOptions(temperature=0.7, top_k=5, top_p=0.95, min_p=0.1),
    ],
    ids=str,
)
def test_draws_follow_the_distribution(options):
    # Evenly spaced numbers, so that each token's count is its probability to one draw.
    number = 20_000
    uniform = (torch.arange(number, dtype=torch.float64) + 0.5) / number
    drawn = choose(torch.tensor([LOGITS]).expand(number, -1), options, uniform)
    scaled = [logit / options.temperature for logit in LOGITS]
    kept = plainly_kept(scaled, options)
    probabilities = dict(zip(kept, softmax([scaled[token] for token in kept]), strict=True))
    for token in range(len(LOGITS)):
        assert abs(int((drawn == token).sum()) - number * probabilities.get(token, 0)) <= 2, token


@settings(max_examples=200, deadline=None)
@given(
    distinct_logits,
    filter_options,
    st.sampled_from([0.0, 5e-324, 2**-53, 0.5, LARGEST_UNIFORM]) | st.floats(0, LARGEST_UNIFORM),
    st.data(),
)
def test_a_filtered_or_banned_token_is_never_drawn(logits, options, uniform, data):
    banned = data.draw(st.sets(st.integers(0, len(logits) - 1), max_size=len(logits) - 1))
    row = [-math.inf if token in banned else logit for token, logit in enumerate(logits)]
    drawn = int(choose(torch.tensor([row]), options, torch.tensor([uniform], dtype=torch.float64)))
    assert drawn not in banned
    assert drawn in plainly_kept(row, options)


@settings(max_examples=50, deadline=None)
@given(distinct_logits)
def test_the_ends_of_the_unit_interval_draw_the_ends_of_the_row(logits):
    uniform = torch.tensor([0.0, LARGEST_UNIFORM], dtype=torch.float64)
    drawn = choose(torch.tensor([logits] * 2), SamplingOptions(), uniform)
    assert drawn.tolist() == [0, len(logits) - 1]


@settings(max_examples=100, deadline=None)
@given(distinct_logits, filter_options, st.floats(0, LARGEST_UNIFORM))
def test_greedy_takes_the_best_whatever_the_filters_and_the_draw(logits, options, uniform):
    greedy = SamplingOptions(0.0, options.top_k, options.top_p, options.min_p)
    drawn = choose(torch.tensor([logits]), greedy, torch.tensor([uniform], dtype=torch.float64))
    assert int(drawn) == logits.index(max(logits))


@pytest.mark.parametrize("temperature", [1e-3, 1e-9, 1e-38, 1e-300])
@pytest.mark.parametrize("row", [[3.0, 50.0, -20.0], [-30.0, -8.0, -math.inf], [0.0, 1.0, -math.inf]])
def test_a_tiny_temperature_is_greedy(temperature, row):
    uniform = torch.tensor([0.0, 0.3, LARGEST_UNIFORM], dtype=torch.float64)
    drawn = choose(torch.tensor([row] * 3), SamplingOptions(temperature=temperature), uniform)
    assert drawn.tolist() == [1, 1, 1]


@pytest.mark.parametrize("temperature", [1e3, 1e30, 1e300])
def test_a_huge_temperature_is_even_over_what_is_allowed(temperature):
    uniform = (torch.arange(900, dtype=torch.float64) + 0.5) / 900
    logits = torch.tensor([[3.0, -math.inf, -2.0, 0.0]]).expand(900, -1)
    drawn = choose(logits, SamplingOptions(temperature=temperature), uniform)
    counts = drawn.bincount(minlength=4).tolist()
    assert counts[1] == 0
    assert all(295 <= counts[token] <= 305 for token in (0, 2, 3))


def test_bfloat16_logits_draw_as_their_float32_values_do():
    logits = torch.randn(50, 20, generator=torch.Generator().manual_seed(0)).bfloat16()
    uniform = torch.rand(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    options = SamplingOptions(top_k=5, top_p=0.9)
    assert torch.equal(choose(logits, options, uniform), choose(logits.float(), options, uniform))


# --- repetition penalty -------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(distinct_logits, st.floats(0.2, 5), st.floats(0, LARGEST_UNIFORM), st.data())
def test_repetition_penalty_is_that_of_ctrl(logits, penalty, uniform, data):
    seen = data.draw(st.lists(st.booleans(), min_size=len(logits), max_size=len(logits)))
    expected = [
        logit if not was_seen else logit / penalty if logit > 0 else logit * penalty
        for logit, was_seen in zip(logits, seen, strict=True)
    ]
    cumulative = [sum(softmax(expected)[: n + 1]) for n in range(len(expected))]
    assume(all(abs(uniform - edge) > 1e-6 for edge in cumulative))
    drawn = choose(
        torch.tensor([logits]),
        SamplingOptions(repetition_penalty=penalty),
        torch.tensor([uniform], dtype=torch.float64),
        torch.tensor([seen]),
    )
    assert int(drawn) == sum(uniform > edge for edge in cumulative)


def test_repetition_penalty_acts_on_greedy_choices_and_not_on_the_given_logits():
    logits = torch.tensor([[2.0, 1.5, -1.0], [-2.0, -1.0, -1.5]])
    seen = torch.tensor([[True, False, False], [False, True, False]])
    kept = logits.clone()
    options = SamplingOptions(temperature=0, repetition_penalty=2.0)
    assert choose(logits, options, torch.zeros(2).double(), seen).tolist() == [1, 2]
    assert torch.equal(logits, kept)
    assert choose(logits, options, torch.zeros(2).double()).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, r"temperature is -0.1, but must be at least 0 \(0 is greedy\)"),
        ({"temperature": float("inf")}, "temperature is inf, but must be"),
        ({"temperature": float("nan")}, "temperature is nan, but must be"),
        ({"top_k": 0}, "top_k is 0, but must be at least 1"),
        ({"top_k": -5}, "top_k is -5, but must be at least 1"),
        ({"top_p": 0.0}, "top_p is 0.0, but must be above 0 and at most 1"),
        ({"top_p": 1.01}, "top_p is 1.01, but must be"),
        ({"top_p": float("nan")}, "top_p is nan, but must be"),
        ({"min_p": -0.01}, "min_p is -0.01, but must be from 0 to 1"),
        ({"min_p": 1.01}, "min_p is 1.01, but must be"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty is 0.0, but must be above 0 \(1 is none\)"),
        ({"repetition_penalty": -1.0}, "repetition_penalty is -1.0, but must be"),
        ({"repetition_penalty": float("inf")}, "repetition_penalty is inf, but must be"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SamplingOptions(**options)


@given(
    st.integers(1, 3).flatmap(
        lambda rows: st.lists(
            st.lists(
                st.one_of(st.floats(width=32, allow_nan=False), st.sampled_from([0.0, -0.0, 1.0, -float("inf")])),
                min_size=5,
                max_size=5,
            ),
            min_size=rows,
            max_size=rows,
        )
    )
)
def test_the_best_come_first_and_equals_in_their_order(rows):
    logits = torch.tensor(rows)
    expected = logits.sort(dim=-1, descending=True, stable=True).indices
    assert torch.equal(best_first(logits), expected)
    assert torch.equal(best_first(logits.double()), expected)


def test_a_nucleus_is_no_wider_than_the_widest_row_needs():
    logits = torch.tensor([[8.0, 0.0, 0.0, 0.0], [1.0, 1.0, -9.0, -9.0]])
    left, tokens = candidates(logits, SamplingOptions(top_p=0.9))
    assert left.shape == tokens.shape == (2, 2)
    assert left[0, 1] == -torch.inf and tokens.tolist() == [[0, 1], [0, 1]]
