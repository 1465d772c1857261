"""Scoring a text with bfloat16 weights beside scoring it with its own."""

import pytest
import torch
import torch.nn.functional as F

from benchmarks.packed_loss import stepped_loss
from zoo.core import PackedDecoder, RecurrentDecoder


def test_the_loss_is_that_of_whole_rows_and_changes_little():
    torch.manual_seed(0)
    decoder = RecurrentDecoder(vocab_size=11, embedding_size=8, hidden_size=8).eval()
    rows = torch.randint(11, (3, 7))
    with torch.no_grad():
        features, _ = decoder.features(rows[:, :-1])
        whole = F.cross_entropy(decoder.scores(features).flatten(0, 1), rows[:, 1:].flatten()).item()
    assert stepped_loss(decoder, rows) == pytest.approx(whole, rel=1e-5)
    packed = stepped_loss(PackedDecoder(decoder, torch.bfloat16), rows)
    assert packed != stepped_loss(decoder, rows) and packed == pytest.approx(whole, rel=0.01)
