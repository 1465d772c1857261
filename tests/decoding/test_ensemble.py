import itertools

import pytest
import torch

from zoo.core import RecurrentDecoder
from zoo.decoding import BeamOptions, EnsembleDecoder, Start, beam_search

VOCABULARY, END, SOURCES, LONGEST = 5, 4, 3, 3


def members():
    """Decoders that differ in cell, layers and what they attend to; each with a state and a memory of its own."""
    generator = torch.Generator().manual_seed(3)
    found = []
    kinds = (("lstm", 2, "multihead", 4), ("gru", 3, "additive", 2), ("rnn", 1, None, 0))
    for cell, layers, attention, places in kinds:
        torch.manual_seed(layers)
        decoder = RecurrentDecoder(
            vocab_size=VOCABULARY,
            embedding_size=6,
            hidden_size=6,
            num_layers=layers,
            cell=cell,
            attention=attention,
            memory_size=6,
            num_heads=2,
        ).eval()
        with torch.no_grad():
            decoder.output.weight *= 4
        memory = None
        if attention is not None:
            seen = 3 * torch.randn(SOURCES, places, 6, generator=generator)
            memory = decoder.memory(seen, torch.full((SOURCES,), places))
        state = decoder.initial_state(SOURCES)
        state = tuple(torch.randn(part.shape, generator=generator) for part in state)
        found.append(Start(decoder, *decoder.step(torch.full((SOURCES,), END), state, memory), memory))
    return found


def of_source(member, number):
    row = torch.tensor([number])
    memory = None if member.memory is None else member.memory.rows(row)
    return Start(member.decoder, member.logits[row], tuple(part.index_select(1, row) for part in member.state), memory)


def search(members, **options):
    together = EnsembleDecoder(members)
    return beam_search(
        together,
        together.logits,
        together.state,
        end_id=END,
        max_new_tokens=LONGEST,
        options=BeamOptions(**options),
        memory=together.memory,
    )


def log_probability(members, tokens):
    """By stepping through each of the members alone."""
    total, now = 0.0, list(members)
    for token in tokens:
        each = torch.stack([torch.softmax(one.logits.double(), dim=-1)[0] for one in now])
        total += float(each.mean(dim=0)[token].log())
        now = [
            Start(one.decoder, *one.decoder.step(torch.tensor([token]), one.state, one.memory), one.memory)
            for one in now
        ]
    return total


@torch.no_grad()
def test_it_finds_the_sequences_of_the_highest_mean_probability():
    """All sequences of a wide beam, their order and scores; sources leave the batch at different lengths."""
    written = [row for n in range(LONGEST + 1) for row in itertools.product(range(VOCABULARY - 1), repeat=n)]
    for number, found in enumerate(search(members(), num_beams=400, n_best=30, length_penalty=0.0)):
        alone = [of_source(one, number) for one in members()]
        expected = sorted(((log_probability(alone, [*row, END]), row) for row in written), reverse=True)[:30]
        assert [one.score for one in found] == pytest.approx([score for score, _ in expected], abs=1e-4)
        assert {one.tokens for one in found[:10]} == {tokens for _, tokens in expected[:10]}
        assert all(one.finished for one in found)


@torch.no_grad()
@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_source_in_a_batch_is_as_alone(num_beams):
    options = {"num_beams": num_beams, "length_penalty": 5.0}  # or all that is found is short
    together = search(members(), **options)
    assert len({found[0].tokens for found in together}) > 1
    for number, found in enumerate(together):
        (alone,) = search([of_source(one, number) for one in members()], **options)
        assert [one.tokens for one in found] == [one.tokens for one in alone]
        assert [one.score for one in found] == pytest.approx([one.score for one in alone], abs=1e-5)


@torch.no_grad()
def test_one_member_or_the_same_twice_is_that_decoder():
    for member in members():
        alone = beam_search(
            member.decoder,
            member.logits,
            member.state,
            end_id=END,
            max_new_tokens=LONGEST,
            options=BeamOptions(num_beams=3, n_best=3),
            memory=member.memory,
        )
        assert search([member], num_beams=3, n_best=3) == alone
        for found, expected in zip(search([member, member], num_beams=3, n_best=3), alone, strict=True):
            assert [one.tokens for one in found] == [one.tokens for one in expected]
            assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-5)
