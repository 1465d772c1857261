"""The training script from end to end, on tiny settings."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import docstring_parser
import matplotlib.image
import pytest
import torch
import yaml
from safetensors.torch import load_file

from zoo.core import CELLS
from zoo.data import load_text
from zoo.evaluation import carried_nats
from zoo.one_to_many import InterpolatedGenerator, TextGenerator

Run = Callable[..., Any]
FILES = {
    ".lock",
    "config.yaml",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "markov.safetensors",
    "README.md",
    "metrics.jsonl",
    "metrics.json",
    "curves.png",
    "samples.txt",
    "resume.safetensors",
    "resume.previous.safetensors",
}
TIMES = ("training_minutes", "tokens_per_second")


def timeless(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text("utf-8"))
    return found


def test_the_run_folder_explains_itself(finished_run: Path, text_file: Path) -> None:
    assert {file.name for file in finished_run.iterdir()} == FILES
    options = yaml.safe_load((finished_run / "config.yaml").read_text("utf-8"))
    assert (options["data"], options["hidden_size"], options["max_steps"]) == (str(text_file), 16, 6)
    assert not {"overwrite", "resume"} & options.keys()
    assert json.loads((finished_run / "config.json").read_text())["architecture"] == "TextGenerator"
    assert [line["step"] for line in timeless(finished_run)] == [3, 6]
    assert matplotlib.image.imread(finished_run / "curves.png").shape[:2] == (480, 840)
    samples = (finished_run / "samples.txt").read_text("utf-8")
    for heading in ("step 3", "step 6", "network, temperature 0.5", "n-gram baseline, temperature 0.8"):
        assert f"--- {heading} ---" in samples


def test_the_final_figures(finished_run: Path, text_file: Path) -> None:
    found = figures(finished_run)
    names = {"nats_per_token", "perplexity", "bits_per_character"}
    assert set(found["markov_validation"]) == names
    validation = load_text(str(text_file)).validation.read()
    assert len(validation) <= 257  # too short for a window of 256
    assert set(found["validation"]) == names
    model = TextGenerator.from_pretrained(finished_run)
    tokens = torch.tensor(model.tokenizer.encode(validation))  # type: ignore[union-attr]
    nats = carried_nats(model, tokens)
    assert found["validation"]["nats_per_token"] == pytest.approx(nats, rel=1e-5)
    assert found["validation"]["perplexity"] == pytest.approx(torch.tensor(nats).exp().item(), rel=1e-5)
    bits = nats / torch.tensor(2.0).log().item()
    assert found["validation"]["bits_per_character"] == pytest.approx(bits, rel=1e-5)
    assert found["markov_validation"]["nats_per_token"] < nats  # counting wins against six steps
    mixture = InterpolatedGenerator.from_pretrained(finished_run, 0.25)
    mixed = found["interpolated_validation"]
    assert set(mixed) == names
    assert mixed["nats_per_token"] == pytest.approx(carried_nats(mixture, tokens), rel=1e-5)
    assert mixed["nats_per_token"] < nats
    assert found["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert found["steps"] == found["best_step"] == 6
    assert found["training_minutes"] >= 0
    assert found["tokens_per_second"] > 0
    assert (found["device"], found["precision"], found["seed"]) == ("cpu", "float32", 0)
    assert set(found["versions"]) == {"python", "torch", "zoo"}


def test_built_in_data_with_the_figure_for_fresh_windows(train: Run, tmp_path: Path) -> None:
    result = train(tmp_path / "run", data="python_docs", max_steps=2, evaluations=1, window=64)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("python_docs: ")
    for found in (figures(tmp_path / "run")[name] for name in ("validation", "interpolated_validation")):
        assert found["nats_per_character_window_256"] == pytest.approx(found["nats_per_token"], rel=0.05)
        assert found["nats_per_character_window_256"] != found["nats_per_token"]


@pytest.mark.parametrize(
    ("level", "changes", "names"),
    [
        ("char", {}, {"nats_per_token", "perplexity", "bits_per_character"}),
        ("word", {}, {"nats_per_token", "perplexity"}),
        ("word", {"pretokenized": True}, {"nats_per_token", "perplexity"}),
        ("bpe", {"tokenizer_size": 280}, {"nats_per_token", "perplexity", "bits_per_character"}),
    ],
)
def test_levels(train: Run, tmp_path: Path, level: str, changes: dict[str, Any], names: set[str]) -> None:
    result = train(tmp_path / "run", level=level, **changes)
    assert (result.code, result.err) == (0, "")
    model = TextGenerator.from_pretrained(tmp_path / "run")
    assert model.tokenizer is not None
    assert (model.tokenizer.level, model.tokenizer.pretokenized) == (level, changes.get("pretokenized", False))
    assert model.tokenizer.vocab_size <= changes.get("tokenizer_size", 10**6)
    assert set(figures(tmp_path / "run")["validation"]) == names


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_cells(train: Run, tmp_path: Path, cell: str) -> None:
    result = train(tmp_path / "run", cell=cell, max_steps=2, evaluations=1, dropout=0.1, num_layers=2)
    assert (result.code, result.err) == (0, "")
    assert TextGenerator.from_pretrained(tmp_path / "run").config["cell"] == cell


def test_every_part_of_the_architecture_is_an_option(train: Run, tmp_path: Path) -> None:
    changes = {
        "num_layers": 3,
        "hidden_size": 8,
        "tied": True,
        "residual": True,
        "ngram_order": 1,
        "dropout": 0.1,
        "input_dropout": 0.2,
        "embedding_dropout": 0.3,
        "ngram_dropout": 0.15,
        "weight_dropout": 0.25,
    }
    assert train(tmp_path / "run", max_steps=2, evaluations=1, **changes).code == 0
    config = TextGenerator.from_pretrained(tmp_path / "run").config
    assert changes.items() <= config.items()


def test_several_sources_and_a_text_of_its_own_to_validate_on(train: Run, tmp_path: Path) -> None:
    for name, text in (("a", "aaab\n"), ("b", "bbba\n"), ("c", "abab\n")):
        (tmp_path / f"{name}.txt").write_text(text * 30)
    data = f"{tmp_path / 'a.txt'},{tmp_path / 'b.txt'}"
    assert train(tmp_path / "run", data=data, validation_data=tmp_path / "c.txt", max_steps=1).code == 0
    text = (tmp_path / "run" / "tokenizer.json").read_text()
    assert '"a"' in text
    assert '"b"' in text
    assert figures(tmp_path / "run")["validation"]["nats_per_token"] > 0


def test_the_same_options_give_the_same_run(train: Run, run: Run, train_script: ModuleType, tmp_path: Path) -> None:
    """From the command line, and from the config.yaml that it left."""
    changes = {"dropout": 0.2, "embedding_dropout": 0.1, "seed": 3}
    assert train(tmp_path / "a", **changes).code == 0
    assert run(train_script, "--config", tmp_path / "a" / "config.yaml", "--out", tmp_path / "b").code == 0
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    assert (tmp_path / "a" / "samples.txt").read_text() == (tmp_path / "b" / "samples.txt").read_text()
    assert timeless(tmp_path / "a") == timeless(tmp_path / "b")
    first, second = (yaml.safe_load((tmp_path / name / "config.yaml").read_text()) for name in "ab")
    assert second == first | {"out": str(tmp_path / "b")}
    assert train(tmp_path / "c", **(changes | {"seed": 4})).code == 0
    assert timeless(tmp_path / "c") != timeless(tmp_path / "a")


def test_a_finished_run_is_measured_with_another_weight_of_its_n_grams(train: Run, tmp_path: Path) -> None:
    assert train(tmp_path / "run", markov_weight=0).code == 0
    before = figures(tmp_path / "run")
    assert before["interpolated_validation"] == pytest.approx(before["validation"], rel=1e-6)
    result = train(tmp_path / "run", "--resume", markov_weight=0.5)
    assert (result.code, result.err) == (0, "")
    after = figures(tmp_path / "run")
    assert after["validation"] == before["validation"]
    mixed = after["interpolated_validation"]["nats_per_token"]
    assert mixed < after["validation"]["nats_per_token"]
    assert f"network and n-grams mixed (0.5 of n-grams): nats_per_token {mixed:.4f}" in result.out


def test_a_validation_text_of_one_character_that_is_several_tokens(train: Run, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("\U0001f642", encoding="utf-8")
    result = train(tmp_path / "run", level="bpe", tokenizer_size=280, validation_data=tmp_path / "one.txt")
    assert (result.code, result.err) == (0, "")
    assert set(figures(tmp_path / "run")["validation"]) == {"nats_per_token", "perplexity"}


def test_overwrite(train: Run, tmp_path: Path) -> None:
    assert train(tmp_path / "run").code == 0
    (tmp_path / "run" / "old").write_text("")
    assert train(tmp_path / "run", "--overwrite", cell="gru").code == 0
    assert {file.name for file in (tmp_path / "run").iterdir()} == FILES
    assert TextGenerator.from_pretrained(tmp_path / "run").config["cell"] == "gru"


def test_init_from_takes_weights_and_tokenizer(train: Run, tmp_path: Path, finished_run: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("more green walls; 12 bottles.\n" * 20)
    slow = {"learning_rate": 1e-12, "matrix_learning_rate": 1e-12, "weight_decay": 0}
    assert train(tmp_path / "run", data=other, init_from=finished_run, dropout=0.3, **slow).code == 0
    assert (tmp_path / "run" / "tokenizer.json").read_bytes() == (finished_run / "tokenizer.json").read_bytes()
    weights, before = (load_file(folder / "model.safetensors") for folder in (tmp_path / "run", finished_run))
    for name, value in before.items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-8)
    assert TextGenerator.from_pretrained(tmp_path / "run").config["dropout"] == 0.3


def test_init_from_has_decided_on_the_sizes(
    run: Run, train: Run, train_script: ModuleType, tmp_path: Path, text_file: Path
) -> None:
    sizes = {"hidden_size": 12, "cell": "gru", "level": "word", "num_layers": 2, "ngram_order": 1, "tied": True}
    assert train(tmp_path / "first", "--lowercase", max_steps=1, **sizes).code == 0
    rest = ("--data", text_file, "--init_from", tmp_path / "first", "--batch_size", 4, "--max_steps")
    assert run(train_script, "--out", tmp_path / "run", *rest, 1).code == 0
    options = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert {"lowercase": True, "embedding_size": 8, **sizes}.items() <= options.items()
    for how in (("--out", tmp_path / "run", *rest), ("--config", tmp_path / "run" / "config.yaml", "--max_steps")):
        result = run(train_script, *how, 2, "--resume")
        assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--hidden_size", "512"], "hidden_size is 512, but "),
        (["--cell", "gru"], "has lstm: leave --cell out, or start from another run"),
        (["--level", "word"], "level is word, but "),
        (["--ngram_order", "1"], "ngram_order is 1, but "),
        (["--tied"], "tied is True, but "),
        (["--tokenizer_size", "9"], "tokenizer_size is 9, but the tokenizer is that of "),
        (["--tokenizer_characters", "9"], "tokens: leave --tokenizer_characters out"),
    ],
)
def test_sizes_that_the_source_does_not_have(
    train: Run, tmp_path: Path, finished_run: Path, arguments: list[str], match: str
) -> None:
    result = train(tmp_path / "run", "--init_from", finished_run, *arguments)
    assert result.is_an_error(match), result
    assert not (tmp_path / "run").exists()


def test_a_finished_run_can_be_resumed_without_harm(train: Run, tmp_path: Path) -> None:
    assert train(tmp_path / "run").code == 0
    files = {name: (tmp_path / "run" / name).read_bytes() for name in FILES - {"metrics.json", "curves.png"}}
    before = figures(tmp_path / "run")
    result = train(tmp_path / "run", "--resume")
    assert (result.code, result.err) == (0, "")
    assert {name: (tmp_path / "run" / name).read_bytes() for name in files} == files
    assert figures(tmp_path / "run") == before


def test_resume_takes_the_command_line_or_the_config(
    train: Run, run: Run, train_script: ModuleType, tmp_path: Path
) -> None:
    assert train(tmp_path / "run").code == 0
    folder = tmp_path / "run"
    assert run(train_script, "--config", folder / "config.yaml", "--resume", "--max_steps", 6).code == 0
    assert [line["step"] for line in timeless(folder)] == [2, 4, 6]
    assert figures(folder)["steps"] == 6


def test_a_damaged_save_and_the_one_before_it(train: Run, run: Run, train_script: ModuleType, tmp_path: Path) -> None:
    assert train(tmp_path / "run", max_steps=6, dropout=0.2).code == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    (tmp_path / "run" / "resume.safetensors").write_bytes(before["resume.safetensors"][:-1])
    config = tmp_path / "run" / "config.yaml"
    refused = run(train_script, "--config", config, "--resume")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "resume.safetensors is not a whole safetensors file" in refused.err
    assert refused.err.endswith(": --resume_previous goes on from the save before it\n")
    again = run(train_script, "--config", config, "--resume_previous")
    assert (again.code, again.err) == (0, "")
    for name in ("model.safetensors", "samples.txt", "config.yaml"):
        assert (tmp_path / "run" / name).read_bytes() == before[name], name
    both = run(train_script, "--config", config, "--resume_previous", "--overwrite")
    assert both.is_an_error("overwrite and resume were both given")


def test_tensorboard(train: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    assert train(tmp_path / "run", "--tensorboard", max_steps=1).code == 0
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert b"nats_per_token" in events.read_bytes()


@pytest.mark.parametrize(
    ("script", "classes"),
    [
        ("train_script", ("TextGeneratorOptions", "TextGeneratorTraining")),
        ("generate_script", ("GenerationOptions",)),
    ],
)
def test_help_describes_every_option(
    run: Run, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, script: str, classes: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    module = request.getfixturevalue(script)
    result = run(module, "--help")
    assert (result.code, result.err) == (0, "")
    shown = " ".join(result.out.split())
    assert f"python scripts/{Path(module.__file__).name}" in shown  # an example
    for name in classes:
        options = getattr(module, name)
        described = {part.arg_name: part.description for part in docstring_parser.parse(options.__doc__).params}
        assert described.keys() == options.__dataclass_fields__.keys()
        for option, description in described.items():
            assert f"--{option} " in shown
            assert " ".join(description.split()) in shown, option
