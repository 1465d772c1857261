import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu import BLEU

from zoo.decoding import agreement
from zoo.decoding.agreement import mean_bleu

sentences = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=9), min_size=1, max_size=4)


def padded(lists: list[list[int]]) -> torch.Tensor:
    longest = max(map(len, lists))
    return torch.tensor([[*tokens, *[-1] * (longest - len(tokens))] for tokens in lists], dtype=torch.int32)


@settings(deadline=None)
@given(candidates=sentences, references=sentences)
def test_it_is_the_mean_of_sacrebleus_sentence_bleu(candidates, references):
    bleu = BLEU(tokenize="none", force=True, smooth_method="add-k", smooth_value=1)
    texts = [[" ".join(map(str, tokens)) for tokens in lists] for lists in (candidates, references)]
    scores = [[bleu.corpus_score([ours], [[theirs]]).score / 100 for theirs in texts[1]] for ours in texts[0]]
    expected = torch.tensor(scores).mean(dim=1)
    found = mean_bleu(candidates, padded(references))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "MOST_COMPARED", 1)  # one candidate after the other
        torch.testing.assert_close(mean_bleu(candidates, padded([[], *references])), found)


def test_a_candidate_that_is_every_reference_agrees_wholly_and_one_without_a_common_token_not_at_all():
    candidates = [[1, 2, 3, 4, 5], [7, 8, 9, 6, 6], []]
    assert mean_bleu(candidates, padded([[1, 2, 3, 4, 5]] * 3)).tolist() == pytest.approx([1.0, 0.0, 0.0])
    for nothing in (padded([[], []]), torch.empty(0, 3, dtype=torch.int32)):
        assert mean_bleu(candidates, nothing).tolist() == [0.0, 0.0, 0.0]
