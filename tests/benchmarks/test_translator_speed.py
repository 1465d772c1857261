"""The tutorial's translator is as large as ours, and learns: only so is the benchmark one."""

import sys

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from benchmarks import translator_speed as benchmark
from zoo.command_line import run_script
from zoo.core import ATTENTIONS
from zoo.seq2seq import TranslationBatch

TINY = {"batch_size": 6, "vocab_size": 20, "embedding_size": 8, "hidden_size": 16, "num_heads": 4}
every_model = pytest.mark.parametrize("cell", ["lstm", "gru"])
every_attention = pytest.mark.parametrize("attention", ATTENTIONS)


@pytest.fixture
def tutorial():
    def make(cell, attention):
        torch.manual_seed(0)
        return benchmark.TutorialTranslator(cell, attention, benchmark.TranslatorSpeedOptions(**TINY))

    return make


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return benchmark.Batches(benchmark.TranslatorSpeedOptions(**TINY), torch.device("cpu")).batch(0)


@every_model
@every_attention
def test_both_sides_have_as_many_parameters(cell, attention):
    options = benchmark.TranslatorSpeedOptions()
    sides = (benchmark.TutorialTranslator, benchmark.our_translator)
    theirs, ours = (sum(p.numel() for p in make(cell, attention, options).parameters()) for make in sides)
    assert abs(theirs / ours - 1) < 0.03


@every_model
@every_attention
def test_the_tutorials_loss_is_the_cross_entropy_of_each_pair_alone(tutorial, batch, cell, attention):
    """So padding counts for nothing, neither in the sum nor in what is attended to."""
    model = tutorial(cell, attention)
    nats = []
    for source, s, target, t in zip(*batch, strict=True):
        alone = TranslationBatch(source[None, :s], s[None], target[None, :t], t[None])
        nats.append(F.cross_entropy(model(alone)[0], target[:t], reduction="sum"))
    torch.testing.assert_close(model.loss(batch), torch.stack(nats).sum() / batch.target_lengths.sum())


@every_model
@every_attention
def test_the_tutorial_reads_the_source_and_what_it_wrote_but_nothing_ahead(tutorial, batch, cell, attention):
    model = tutorial(cell, attention)
    changed = batch.target.clone()
    changed[:, 2] = (changed[:, 2] + 1) % 20
    before, after = model(batch), model(batch._replace(target=changed))
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])
    source = (batch.source + 1) % 20
    assert not torch.allclose(before[:, 0], model(batch._replace(source=source))[:, 0])


@every_model
@every_attention
def test_the_tutorial_learns_to_copy(tutorial, cell, attention):
    model = tutorial(cell, attention)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    rows = [torch.tensor([1 + (n * k) % 19 for k in range(5 - n // 3)] + [20]) for n in range(9)]
    tokens, lengths = pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])
    copying = TranslationBatch(tokens, lengths, tokens, lengths)
    for _ in range(120):
        benchmark.training_step(model.loss(copying), optimizer)
    assert float(model.loss(copying).detach()) < 0.3


def test_batches_are_cut_by_length_and_sorted_by_source():
    torch.manual_seed(0)
    batches = benchmark.Batches(benchmark.TranslatorSpeedOptions(batch_size=32), torch.device("cpu"))
    for k in (0, 1):
        batch = batches.batch(k)
        assert batch.source_lengths.tolist() == sorted(batch.source_lengths.tolist(), reverse=True)
        assert batch.target.shape == (32, int(batch.target_lengths.max()))
        assert (batch.target.gather(1, batch.target_lengths[:, None] - 1) == 5_000).all()
        assert batch.target_lengths.sum() > 0.6 * batch.target.numel()
    assert batches.batch(0).source.shape != batches.batch(1).source.shape


def test_lengths_are_those_of_the_files(tmp_path):
    (tmp_path / "pairs.en").write_text("One dog .\nTwo\n" * 20, encoding="utf-8")
    (tmp_path / "pairs.de").write_text("Hunde sind da .\nZwei .\n" * 20, encoding="utf-8")
    options = benchmark.TranslatorSpeedOptions(data=str(tmp_path / "pairs"))
    assert set(benchmark.pair_lengths(options)) <= {(4, 5), (2, 3)}


def test_it_prints_two_tables(monkeypatch, capsys):
    steps = {"steps": 1, "repeats": 1, "training_steps": 2, "sentences": 3, "num_beams": 2, "device": "cpu"}
    flags = [part for name, value in (TINY | steps).items() for part in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["translator_speed", *flags])
    with pytest.raises(SystemExit) as ended:
        run_script(benchmark.main)
    assert ended.value.code == 0
    out = capsys.readouterr().out
    for attention in ATTENTIONS:
        for model in ("tutorial", "zoo"):
            assert out.count(f"| {attention} | {model}, float32 |") == 2
    assert "\n3 sentences, 2 beams, float32; " in out
    assert "the same both ways: 3, " in out
    assert "| one by one | " in out and "| in batches | " in out


def test_a_run_needs_a_file():
    with pytest.raises(ValueError, match="run and file go together"):
        benchmark.TranslatorSpeedOptions(run="runs/en-de")
