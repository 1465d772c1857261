"""The peer's language model and its loops are right: only so is it a peer."""

import itertools

import pytest
import torch

from benchmarks.generation import make_decoder
from benchmarks.plain_language_model import PlainLanguageModel, beam_search, draw, generate
from zoo.decoding import SamplingOptions, candidates


@pytest.fixture
def model():
    torch.manual_seed(0)
    return PlainLanguageModel(make_decoder(5, 6)).eval()


def log_probability(model, prompt, tokens):
    with torch.no_grad():
        rows = torch.cat([prompt, torch.tensor([tokens])], dim=1)
        steps = [model(rows[:, :length])[0].log_softmax(dim=-1)[0] for length in range(prompt.shape[1], rows.shape[1])]
    return sum(float(step[token]) for step, token in zip(steps, tokens, strict=True))


def test_the_beams_find_the_best_of_all_where_they_hold_them_all(model):
    prompt = torch.tensor([[1, 4, 2]])
    found, log_p = beam_search(model, prompt, 2, 5)
    best = max(itertools.product(range(5), repeat=2), key=lambda tokens: log_probability(model, prompt, tokens))
    assert found.tolist() == list(best)
    assert log_p == pytest.approx(log_probability(model, prompt, best), abs=1e-5)


def test_greedy_takes_the_best_token_after_all_before_it(model):
    prompts = torch.tensor([[1, 4, 2], [0, 0, 3]])
    found = generate(model, prompts, 4, SamplingOptions(temperature=0))
    with torch.no_grad():
        for row, prompt in zip(found, prompts, strict=True):
            for length in range(4):
                logits, _ = model(torch.cat([prompt, row[:length]])[None])
                assert row[length] == logits.argmax()


@pytest.mark.parametrize("options", [SamplingOptions(top_k=2), SamplingOptions(top_p=0.6), SamplingOptions(0.5, 3)])
def test_draws_follow_the_distribution_that_the_options_leave(options):
    torch.manual_seed(0)
    logits = torch.tensor([[0.3, 1.2, -0.5, 0.9, 0.0]])
    left, tokens = candidates(logits, options)
    wanted = torch.zeros(5).scatter(0, tokens[0], left[0].softmax(dim=-1))
    drawn = draw(logits.expand(5_000, -1), options).flatten().bincount(minlength=5) / 5_000
    torch.testing.assert_close(drawn, wanted, atol=0.03, rtol=0)
    assert ((drawn > 0) == (wanted > 0)).all()
