"""The translator's training script from end to end, on tiny settings, and what it says of bad input."""

import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.image
import pytest
import yaml

from zoo.core import ATTENTIONS, CELLS
from zoo.data import number_words
from zoo.data.parallel_texts import load_parallel_texts
from zoo.evaluation.translation import signatures, translation_figures
from zoo.seq2seq import Translation, Translator

Run = Callable[..., Any]
Pairs = list[tuple[str, str]]
FILES = {
    ".lock",
    "config.yaml",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "source_tokenizer.json",
    "README.md",
    "metrics.jsonl",
    "metrics.json",
    "curves.png",
    "samples.txt",
    "resume.safetensors",
    "resume.previous.safetensors",
    "validation_translations.txt",
    "validation_worst.jsonl",
    "test_translations.txt",
    "test_worst.jsonl",
    "alignment.png",
}
FIGURES = {"bleu", "bleu_lowercased", "chrf", "exact_match", "nats_per_token", "perplexity"}
PAIRS = [(f"word {n} of {m}", f"mot {m} et {n}") for n in range(8) for m in range(5)]


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text("utf-8"))
    return found


def lines(file: Path) -> list[str]:
    return file.read_text("utf-8").split("\n")[:-1]


def write_files(prefix: Path, pairs: Pairs) -> Path:
    for side, language in enumerate(("en", "fr")):
        Path(f"{prefix}.{language}").write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
    return prefix


def write_tsv(prefix: Path, pairs: Pairs) -> Path:
    file = Path(f"{prefix}.tsv")
    file.write_text("en\tfr\n" + "".join("\t".join(pair) + "\n" for pair in pairs), encoding="utf-8")
    return file


def write_jsonl(prefix: Path, pairs: Pairs) -> Path:
    file = Path(f"{prefix}.jsonl")
    file.write_text("".join(json.dumps({"en": one, "fr": two}) + "\n" for one, two in pairs), encoding="utf-8")
    return file


# --- a run and its folder -----------------------------------------------------------------------------------------


def test_the_run_folder_explains_itself(finished_translator: Path, sentences: Path) -> None:
    folder = finished_translator
    assert {file.name for file in folder.iterdir()} == FILES
    options = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    assert (options["data"], options["hidden_size"], options["max_steps"]) == (str(sentences), 32, 140)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert (config["architecture"], config["attention"], config["max_length"]) == ("Translator", "multihead", 16)
    for picture in ("alignment.png", "curves.png"):
        assert matplotlib.image.imread(folder / picture).size > 10_000
    history = [json.loads(line) for line in lines(folder / "metrics.jsonl")]
    assert [line["step"] for line in history] == [70, 140]
    assert all(line.keys() >= FIGURES for line in history)
    samples = (folder / "samples.txt").read_text("utf-8")
    assert [line for line in samples.splitlines() if line.startswith("---")] == ["--- step 70 ---", "--- step 140 ---"]
    assert f"{lines(sentences / 'val.en')[0]} -> " in samples


def test_the_final_figures_are_those_of_the_saved_model(finished_translator: Path, sentences: Path) -> None:
    found, data = figures(finished_translator), load_parallel_texts(str(sentences), source="en", target="fr")
    model = Translator.from_pretrained(finished_translator)
    for name, texts in {"validation": data.validation, **data.tests}.items():
        translations = model.translate(texts.sources)
        assert lines(finished_translator / f"{name}_translations.txt") == translations
        expected = translation_figures(translations, texts.targets)
        assert {figure: found[name][figure] for figure in expected} == pytest.approx(expected)
        assert found[name].keys() == FIGURES
        assert found[name]["perplexity"] == pytest.approx(math.exp(found[name]["nats_per_token"]))
        nats = model.loss(model.batch(texts.sources, texts.targets), label_smoothing=0.0)
        assert found[name]["nats_per_token"] == pytest.approx(float(nats.detach()), abs=1e-5)
        worst = [json.loads(line) for line in lines(finished_translator / f"{name}_worst.jsonl")]
        assert [one["chrf"] for one in worst] == sorted(one["chrf"] for one in worst)
        shown = sorted((one["source"], one["hypothesis"], one["reference"]) for one in worst)
        assert shown == sorted(zip(texts.sources, translations, texts.targets, strict=True))  # fewer than 20
    assert found["test"]["bleu"] > 70
    assert found["signatures"] == signatures()
    assert (found["num_beams"], found["length_penalty"]) == (5, 1.0)
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert (found["steps"], found["seed"], found["precision"]) == (140, 0, "float32")


def test_a_line_for_each_translation_whatever_is_in_it(
    train_translator: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a pair of which a side is empty: pairs to test on all stay."""
    pairs = [("one\ntwo", "un\ndeux"), ("", "rien"), ("nothing", "")]
    test = write_jsonl(tmp_path / "test", pairs)
    result = train_translator(tmp_path / "run", test_data=test, level="char")
    assert result.code == 0, result
    assert len(lines(tmp_path / "run" / "test_translations.txt")) == 3
    assert lines(tmp_path / "run" / "test_translations.txt")[1] == ""

    written = Translation("a\nb\r\u2028 c\x85", 0.0, True, 1)
    monkeypatch.setattr(Translator, "translations", lambda self, texts, **options: [[written]] * len(texts))
    assert train_translator(tmp_path / "run", "--overwrite", test_data=test).code == 0
    assert lines(tmp_path / "run" / "test_translations.txt") == ["a b c"] * 3
    assert all(json.loads(line)["hypothesis"][:3] == "a\nb" for line in lines(tmp_path / "run" / "test_worst.jsonl"))


# --- data ---------------------------------------------------------------------------------------------------------


def test_the_built_in_numbers(train_translator: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {"train": range(50), "validation": range(50, 60), "test": range(60, 66), "test_longer": (1_234_567,)}
    monkeypatch.setattr(number_words, "drawn_numbers", lambda: {name: tuple(few) for name, few in drawn.items()})
    result = train_translator(tmp_path / "run", data="numbers", source="fr", target="de")
    assert result.code == 0, result
    assert "numbers, fr -> de: 50 pairs to train on, 10 validation, 6 test, 1 test_longer, vocabulary" in result.out
    assert "note: test_longer: its numbers have 7 to 9 digits" in result.out
    assert "one million" not in result.out
    assert "eine Million" in result.out
    for name, few in list(drawn.items())[1:]:
        assert figures(tmp_path / "run")[name].keys() == FIGURES
        assert len(lines(tmp_path / "run" / f"{name}_translations.txt")) == len(few)


@pytest.mark.parametrize("write", [write_files, write_tsv, write_jsonl])
def test_local_files(train_translator: Run, tmp_path: Path, write: Callable[[Path, Pairs], Path]) -> None:
    data, held_out = write(tmp_path / "pairs", PAIRS), write(tmp_path / "others", PAIRS[:5])
    result = train_translator(tmp_path / "drawn", data=data, validation_fraction=0.25)
    assert result.code == 0, result
    assert f"{data}, en -> fr: 30 pairs to train on, 10 validation, vocabulary" in result.out
    assert not (tmp_path / "drawn" / "test_translations.txt").exists()
    result = train_translator(tmp_path / "given", data=data, validation_data=held_out, source="fr", target="en")
    assert result.code == 0, result
    assert f"{data}, fr -> en: 40 pairs to train on, 5 validation, vocabulary" in result.out
    assert "note: validation: 5 of 5 pairs are training pairs too" in result.out


def test_any_script(train_translator: Run, tmp_path: Path) -> None:
    """In training, and never seen before in validation; one word for a unit or a hundred, or no blanks at all."""
    data = write_files(tmp_path / "train", [(f"नमस्ते दुनिया {n}", f"你好世界{n}") for n in range(30)])
    unseen = write_files(tmp_path / "val", [("👩‍👩‍👧 مرحبا", "שלום 🎉"), ("\u0301", "x")])
    for level in ("char", "word", "bpe"):
        result = train_translator(tmp_path / level, data=data, validation_data=unseen, level=level)
        assert result.code == 0, result
        assert len(lines(tmp_path / level / "validation_translations.txt")) == 2


def test_pairs_too_long_are_left_out(train_translator: Run, tmp_path: Path) -> None:
    data = write_files(tmp_path / "train", [*PAIRS, ("long " * 300, "longue " * 300)])
    result = train_translator(tmp_path / "run", data=data, validation_data=write_files(tmp_path / "val", PAIRS))
    assert result.code == 0, result
    assert "note: 1 training pairs have a side of more than 200 tokens: left out" in result.out
    assert Translator.from_pretrained(tmp_path / "run").max_length < 20


def test_chrf_decides_where_bleu_has_nothing_to_count(train_translator: Run, tmp_path: Path) -> None:
    short = [("one", "un"), ("two cats", "deux chats"), ("three", "trois"), ("one dog", "un chien")]
    data = write_files(tmp_path / "train", short)
    result = train_translator(tmp_path / "run", data=data, validation_data=data, max_steps=60, evaluations=3)
    assert result.code == 0, result
    history = [json.loads(line) for line in lines(tmp_path / "run" / "metrics.jsonl")]
    assert {line["bleu"] for line in history} == {0.0}
    best = max(history, key=lambda line: line["chrf"])
    assert figures(tmp_path / "run")["best_step"] == best["step"]


@pytest.mark.parametrize("joint", [False, True], ids=["apart", "joint"])
def test_init_from_takes_weights_and_tokenizers(train_translator: Run, tmp_path: Path, joint: bool) -> None:
    assert train_translator(tmp_path / "first", *(["--joint"] if joint else []), max_steps=30).code == 0
    data = write_files(tmp_path / "train", [("a bird sings", "un oiseau chante"), *PAIRS])
    slow = {"learning_rate": 1e-9, "matrix_learning_rate": 1e-9, "max_steps": 1, "evaluations": 1}
    result = train_translator(
        tmp_path / "run", data=data, validation_data=data, init_from=tmp_path / "first", dropout=0.3, **slow
    )
    assert result.code == 0, result
    assert f"starting from {tmp_path / 'first'}: its tokenizers, cells and sizes are used" in result.out
    first, second = (Translator.from_pretrained(tmp_path / name) for name in ("first", "run"))
    # Limits of length are those of the new pairs.
    limits = {"max_length": second.max_length, "max_ratio": second.max_ratio}
    assert second.config == first.config | {"dropout": 0.3} | limits
    assert second.translate(["a dog", "two cats"]) == first.translate(["a dog", "two cats"])
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["joint"] is joint
    assert (
        train_translator(
            tmp_path / "run",
            "--resume",
            data=data,
            validation_data=data,
            init_from=tmp_path / "first",
            dropout=0.3,
            **slow,
        ).code
        == 0
    )


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--hidden_size", "512"], "hidden_size is 512, but "),
        (["--encoder_cell", "gru"], "has None: leave --encoder_cell out, or start from another run"),
        (["--attention", "none"], "attention is none, but "),
        (["--joint"], "joint is True, but "),
        (["--level", "char"], "level is char, but "),
        (["--tokenizer_size", "9"], "tokenizer_size is 9, but the tokenizer is that of "),
        (["--min_frequency", "1"], "tokens: leave --min_frequency out"),
    ],
)
def test_sizes_that_the_translator_to_start_from_does_not_have(
    train_translator: Run, tmp_path: Path, finished_translator: Path, arguments: list[str], match: str
) -> None:
    options = {"hidden_size": 32, "embedding_size": 16, "init_from": finished_translator}
    result = train_translator(tmp_path / "run", *arguments, **options)
    assert result.is_an_error(match), result
    assert not (tmp_path / "run").exists()


def test_init_from_another_architecture_is_refused(
    train_translator: Run, tmp_path: Path, finished_classifier: Path
) -> None:
    result = train_translator(tmp_path / "run", init_from=finished_classifier)
    assert result.is_an_error("is of a TextClassifier, but a Translator was expected")


def test_what_did_not_end_is_said(train_translator: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = Translation("un un", 0.0, False, 2)
    monkeypatch.setattr(Translator, "translations", lambda self, texts, **options: [[cut]] * len(texts))
    result = train_translator(tmp_path / "run")
    assert "translations did not end" in result.out
    assert "texts were translated in parts" in result.out


# --- models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joint", [False, True], ids=["apart", "joint"])
@pytest.mark.parametrize("level", ["char", "word", "bpe"])
def test_levels_and_vocabularies(train_translator: Run, tmp_path: Path, level: str, joint: bool) -> None:
    size = {"tokenizer_size": 270} if level == "bpe" else {}
    result = train_translator(tmp_path / "run", *(["--joint"] if joint else []), level=level, **size)
    assert result.code == 0, result
    files = {file.name for file in (tmp_path / "run").iterdir()}
    # It was evaluated, and saved, only once.
    assert files == FILES - {"resume.previous.safetensors"} - ({"source_tokenizer.json"} if joint else set())
    model = Translator.from_pretrained(tmp_path / "run")
    assert (model.config["source_vocab_size"] is None) == joint
    assert model.require_tokenizer().level == level
    if joint:
        assert model.encoder.embedding.tokens.weight is model.decoder.embedding.tokens.weight


@pytest.mark.parametrize(
    ("attention", "cell", "encoder_cell", "options"),
    [
        ("none", "gru", None, {"num_layers": 1, "tied": "false"}),
        ("additive", "mingru", "lstm", {"num_layers": 3}),
        ("general", "rnn", "minlstm", {"optimizer": "adamw"}),
        ("multihead", "minlstm", "gru", {"num_heads": 1, "tied": "false"}),
        ("multihead", "lstm", "rnn", {"weight_dropout": 0.2, "embedding_dropout": 0.1, "input_dropout": 0.1}),
    ],
)
def test_attentions_and_cells(
    train_translator: Run,
    tmp_path: Path,
    attention: str,
    cell: str,
    encoder_cell: str | None,
    options: dict[str, object],
) -> None:
    options = options | ({} if encoder_cell is None else {"encoder_cell": encoder_cell})
    result = train_translator(tmp_path / "run", attention=attention, cell=cell, num_beams=2, **options)
    assert result.code == 0, result
    assert (tmp_path / "run" / "alignment.png").exists() == (attention != "none")
    config = Translator.from_pretrained(tmp_path / "run").config
    assert config["attention"] == (None if attention == "none" else attention)
    assert (config["cell"], config["encoder_cell"]) == (cell, encoder_cell)
    assert figures(tmp_path / "run")["num_beams"] == 2


def test_every_attention_and_cell_is_among_those() -> None:
    (mark,) = test_attentions_and_cells.pytestmark  # type: ignore[attr-defined]
    attentions, cells, encoder_cells, _ = zip(*mark.args[1], strict=True)
    assert set(attentions) == {"none", *ATTENTIONS}
    assert set(cells) == set(CELLS)
    assert len(set(encoder_cells)) == len(CELLS)


# --- what to do next ------------------------------------------------------------------------------------------------


def test_as_printed_the_example_runs(
    train_translator: Run, run: Run, translate_script: ModuleType, tmp_path: Path
) -> None:
    """Also where the folder has a blank, and the text quote marks and dashes."""
    data = write_files(tmp_path / "train", [(f'--it\'s "{n}" $HOME', f"c'est {n}") for n in range(9)])
    result = train_translator(tmp_path / "a run", data=data)
    assert result.code == 0, result
    (shown,) = (line for line in result.out.splitlines() if line.startswith("try: "))
    words = shlex.split(shown.removeprefix("try: "))
    assert words[:2] == ["python", "scripts/translate.py"]
    translated = run(translate_script, *words[2:])
    assert (translated.code, translated.out.count("\n")) == (0, 1)
