"""A script's steps in a profile: all of the time is of some kind."""

import re

import pytest

from benchmarks import profile_training as benchmark
from benchmarks.small_data import write_data
from zoo.errors import InputError


def test_a_profile_accounts_for_all_of_a_step(tmp_path, monkeypatch, capsys):
    write_data(tmp_path / "data")
    run = f"--data {tmp_path}/data/parity.csv --hidden_size 8 --embedding_size 8 --markov_order 2 --device cpu"
    command = ["--script", "train_text_classifier", "--warm_up", "1", "--steps", "3", "--options"]
    monkeypatch.setattr("sys.argv", ["profile_training", *command, run])
    assert benchmark.main() == 0
    printed = capsys.readouterr().out
    shares = [int(share) for share in re.findall(r"\| (-?\d+)% \|", printed)]
    assert len(shares) == len(benchmark.KINDS) + 1 and sum(shares) == pytest.approx(100, abs=5)
    assert min(shares) >= -1 and re.search(r"3 steps\n.*products: \d+ GFLOP/s", printed, re.DOTALL)

    monkeypatch.setattr("sys.argv", ["profile_training", *command, f"{run} --max_steps 2"])
    with pytest.raises(InputError, match="the run ended before 4 steps"):
        benchmark.main()
