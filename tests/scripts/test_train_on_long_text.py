"""A text whose tokens are on the disk: the run is that from memory, and goes on with the same tokens."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from zoo.data import TextTokenizer, load_text, token_cache
from zoo.evaluation import carried_nats
from zoo.one_to_many import TextGenerator

Run = Callable[..., Any]
TIMES = ("training_minutes", "evaluation_minutes", "tokens_per_second")
STOPPED_AT = 3


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "IN_MEMORY", 0)


def results(folder: Path) -> dict[str, Any]:
    """Everything that a run computed but for times."""
    files = {name: (folder / name).read_bytes() for name in ("model.safetensors", "tokenizer.json", "samples.txt")}
    lines = [*(folder / "metrics.jsonl").read_text().splitlines(), (folder / "metrics.json").read_text()]
    return files | {
        str(number): {name: value for name, value in json.loads(line).items() if name not in TIMES}
        for number, line in enumerate(lines)
    }


@pytest.mark.parametrize("options", [{}, {"level": "bpe", "tokenizer_size": 280}])
def test_it_is_the_run_from_memory_and_a_second_one_finds_the_tokens(
    train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    cache = tmp_path / "cache"
    assert train(tmp_path / "memory", cache=cache, **options).code == 0
    assert not cache.exists()
    monkeypatch.setattr(token_cache, "IN_MEMORY", 0)
    first = train(tmp_path / "disk", cache=cache, **options)
    assert (first.code, first.err) == (0, "")
    assert sorted(path.suffix for path in cache.iterdir()) == [".bin", ".bin", ".json", ".json", ".json"]
    monkeypatch.setattr(TextTokenizer, "train", None)
    monkeypatch.setattr(TextTokenizer, "encode_blocks", None)
    assert train(tmp_path / "again", cache=cache, **options).code == 0
    assert results(tmp_path / "memory") == results(tmp_path / "disk") == results(tmp_path / "again")


@pytest.mark.usefixtures("on_disk")
def test_the_users_cache_folder_is_used_if_none_is_named(
    train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert train(tmp_path / "run", max_steps=1).code == 0
    assert list((tmp_path / "mine" / "sequence-zoo").glob("tokens-*.bin"))


@pytest.mark.parametrize("change", ["cache lost", "cache elsewhere and another text here"])
@pytest.mark.usefixtures("on_disk")
def test_a_run_that_was_cut_off_goes_on_with_the_same_tokens(
    train: Run,
    train_script: ModuleType,
    tmp_path: Path,
    text_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    file, cache = tmp_path / "text.txt", tmp_path / "cache"
    shutil.copy(text_file, file)
    options = {"data": file, "cache": cache, "max_steps": 6, "evaluations": 3, "save_minutes": 1e-9}
    assert train(tmp_path / "unbroken", **options).code == 0

    loss, seen = train_script.LanguageModelling.loss, []

    def dying(*arguments: Any) -> Any:
        seen.append(None)
        if len(seen) > STOPPED_AT:
            raise KeyboardInterrupt
        return loss(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train_script.LanguageModelling, "loss", dying)
        assert train(tmp_path / "broken", **options).code == 130
    if change == "cache lost":
        shutil.rmtree(cache)
    else:
        options["cache"] = tmp_path / "another cache"
        status = file.stat()
        file.write_bytes(text_file.read_bytes().replace(b"green", b"brown"))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # of the same size and time
        refused = train(tmp_path / "broken", "--resume", **options)
        assert refused.code == 2 and "was trained on other data" in refused.err
        shutil.copy(text_file, file)
    resumed = train(tmp_path / "broken", "--resume", **options)
    assert (resumed.code, resumed.err) == (0, "")
    assert results(tmp_path / "broken") == results(tmp_path / "unbroken")


def test_validation_and_baseline_on_a_share(train: Run, tmp_path: Path, text_file: Path) -> None:
    result = train(
        tmp_path / "run",
        level="bpe",
        tokenizer_size=280,
        validation_tokens=50,
        markov_tokens=300,
        tokenizer_characters=900,
    )
    assert (result.code, result.err) == (0, "")
    model = TextGenerator.from_pretrained(tmp_path / "run")
    assert model.tokenizer is not None
    corpus = load_text(str(text_file))
    trained_on, held_out = (
        model.tokenizer.encode_long(text.read()).long() for text in (corpus.train, corpus.validation)
    )
    assert f"the vocabulary is that of 900 of {corpus.train.characters:,} characters" in result.out
    assert f"validated on 50 of these {len(held_out):,} tokens" in result.out
    assert f"n-grams are counted in 300 of these {len(trained_on):,} tokens" in result.out
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    nats = carried_nats(model, held_out[:50])
    characters = (corpus.validation.characters - 1) / (len(held_out) - 1)
    assert figures["validation"]["nats_per_token"] == pytest.approx(nats, rel=1e-5)
    assert figures["validation"]["bits_per_character"] == pytest.approx(nats / characters / math.log(2), rel=1e-5)
    whole = train(tmp_path / "whole", level="bpe", tokenizer_size=280)
    assert "of these" not in whole.out
    whole_figures = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert figures["markov_validation"] != whole_figures["markov_validation"]


@pytest.mark.usefixtures("on_disk")
def test_a_cache_that_cannot_be_written(train: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = train(tmp_path / "run", cache=tmp_path / "file")
    assert result.is_an_error("the tokenizer cannot be kept in"), result
    assert not (tmp_path / "run").exists()
