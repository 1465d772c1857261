"""The tutorial's classifier and ours are the same model: only so is the benchmark one."""

import sys

import pytest
import torch

from benchmarks import classifier_speed as benchmark
from zoo.command_line import run_script


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_both_sides_have_the_same_loss_and_gradients(cell):
    options = benchmark.ClassifierSpeedOptions(
        batch_size=5, max_length=12, vocab_size=30, embedding_size=7, hidden_size=6
    )
    torch.manual_seed(0)
    tutorial = benchmark.TutorialClassifier(cell, options)
    ours = benchmark.TextClassifier(
        labels=["a", "b"], vocab_size=30, embedding_size=7, hidden_size=6, num_layers=2, cell=cell, pooling="last"
    )
    tutorial.copy_into(ours)
    batch = benchmark.make_batch(options, torch.device("cpu"))
    for model in (tutorial, ours):
        model.loss(batch).backward()
    torch.testing.assert_close(ours.loss(batch), tutorial.loss(batch))
    torch.testing.assert_close(ours.embedding.tokens.weight.grad, tutorial.embedding.weight.grad)
    for name, parameter in tutorial.rnn.named_parameters():
        torch.testing.assert_close(ours.core.get_parameter(name).grad, parameter.grad)


def test_it_prints_a_table(monkeypatch, capsys):
    sizes = ["--batch_size", "3", "--max_length", "9", "--vocab_size", "30", "--hidden_size", "8", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["classifier_speed", "--device", "cpu", *sizes])
    with pytest.raises(SystemExit) as ended:
        run_script(benchmark.main)
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.count("| torch.nn, packed, float32 |") == 3
    assert out.count("| zoo, float32 |") == 3
