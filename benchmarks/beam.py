"""Beam search: all sentences at once beside a loop over sentences, a two-layer LSTM in float32.

The peers are our own `beam_search` called with one sentence at a time, and the beam search of tutorials over
`torch.nn.LSTM`, which takes one sentence. Sentences go on for different numbers of tokens and nothing ends them before.
All must find continuations of the same probability, which is checked.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import plain_language_model
from benchmarks.generation import PROMPT_LENGTH, generation_work, make_decoder
from benchmarks.machine import Work
from benchmarks.plain_language_model import PlainLanguageModel
from benchmarks.session import COMPARED, Session, check_same
from benchmarks.tables import Column
from zoo.core import RecurrentDecoder
from zoo.decoding import BeamOptions, beam_search

NUM_BEAMS = 5
ONE_BY_ONE, TEXTBOOK = "zoo, one by one", "textbook, one by one"
Search = Callable[[], Tensor]


def measure(session: Session) -> None:
    columns = (Column("sentences", "d"), Column("beams", "d"), Column("V", ",d"), *COMPARED)
    table = session.table("beam", "Beam search, float32", columns)
    quick = session.grid == "quick"
    vocab_size, hidden_size = (30, 8) if quick else (8_000, 512)
    for sentences in (1, 3) if quick else (1, 64):
        torch.manual_seed(session.seed)
        decoder = make_decoder(vocab_size, hidden_size).to(session.device)
        plain = PlainLanguageModel(decoder).to(session.device).eval()
        prompts = torch.randint(vocab_size, (sentences, PROMPT_LENGTH), device=session.device)
        lengths = torch.randint(2, 6, (sentences,)) if quick else torch.randint(8, 33, (sentences,))
        ours = search_together(decoder, prompts, lengths)
        peers = {TEXTBOOK: search_textbook(plain, prompts, lengths)}
        if sentences > 1:
            peers[ONE_BY_ONE] = search_one_by_one(decoder, prompts, lengths)
        for name, peer in peers.items():
            check_same(f"log P of {sentences} sentences, {name}", ours(), peer(), 1e-4)
        work = beam_work(decoder, lengths)
        for row in session.compare(ours, peers, int(lengths.sum()), work, "float32"):
            table.add(sentences, NUM_BEAMS, vocab_size, *row)


def search_together(decoder: RecurrentDecoder, prompts: Tensor, lengths: Tensor) -> Search:
    """Prompts (B, T), as many new tokens as `lengths` (B,) say -> what returns the best ones' log P, (B,)."""

    @torch.inference_mode()
    def search() -> Tensor:
        whole = torch.full((len(prompts),), prompts.shape[1], device=prompts.device)
        found = beam_search(
            decoder,
            *decoder.prefill(prompts, whole),
            end_id=None,
            max_new_tokens=lengths.tolist(),
            options=BeamOptions(num_beams=NUM_BEAMS),
        )
        return torch.tensor([best.log_probability for best, *_ in found])

    return search


def search_one_by_one(decoder: RecurrentDecoder, prompts: Tensor, lengths: Tensor) -> Search:
    alone = [search_together(decoder, *one) for one in zip(prompts.split(1), lengths.split(1), strict=True)]
    return lambda: torch.cat([search() for search in alone])


def search_textbook(model: PlainLanguageModel, prompts: Tensor, lengths: Tensor) -> Search:
    rows = list(zip(prompts.split(1), lengths.tolist(), strict=True))
    return lambda: torch.tensor(
        [plain_language_model.beam_search(model, prompt, length, NUM_BEAMS)[1] for prompt, length in rows]
    )


def beam_work(decoder: RecurrentDecoder, lengths: Tensor) -> Work:
    """As many steps as the longest sentence has, each with the beams of all that go on."""
    works = [generation_work(decoder, NUM_BEAMS, length, "float32") for length in lengths.tolist()]
    longest = max(works, key=lambda work: work.traffic)
    return Work(sum(work.flops for work in works), longest.traffic, longest.held)
