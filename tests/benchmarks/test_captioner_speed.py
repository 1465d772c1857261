"""The captioner's benchmark runs, on few scenes and an untrained model."""

import sys

import pytest
import torch

from benchmarks import captioner_speed as benchmark
from zoo.data import TextTokenizer, scene_data
from zoo.one_to_many import ImageCaptioner


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch):
    make = scene_data.caption_scenes
    monkeypatch.setattr(scene_data, "caption_scenes", lambda seed: make(seed, train=12, validation=5, test=1))


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    captions = ["a small red circle is above a large blue square"]
    tokenizer = TextTokenizer.train(captions, "word", pretokenized=True)
    model = ImageCaptioner(tokenizer=tokenizer, embedding_size=8, hidden_size=16, max_length=4)
    model.save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def test_both_tables_are_printed(run, monkeypatch, capsys):
    arguments = ["--run", run, "--images", 5, "--num_beams", 2, "--repeats", 1, "--steps", 1, "--batch_size", 6]
    monkeypatch.setattr(sys, "argv", ["captioner_speed.py", *map(str, arguments)])
    assert benchmark.main() == 0
    shown = capsys.readouterr().out
    assert "5 images, 2 beams, float32; the same captions both ways: 5" in shown
    assert "an epoch of 12 images" in shown
    ways = [line.split("|")[1].strip() for line in shown.splitlines() if line.startswith("| ")]
    assert [way for way in ways if way not in ("captions", "features", "---")] == [
        "one by one",
        "in batches",
        "without",
        "with the cache",
    ]
