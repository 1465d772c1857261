"""The classifier's training script from end to end, on tiny settings, and what it says of bad input."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import docstring_parser
import matplotlib.image
import pytest
import torch
import yaml
from safetensors.torch import load_file

from zoo.core import CELLS
from zoo.data.labelled_texts import load_labelled_texts
from zoo.many_to_one import TextClassifier
from zoo.many_to_one.bag_of_ngrams import BagOfNgrams
from zoo.one_to_many import TextGenerator

Run = Callable[..., Any]
FILES = {
    ".lock",
    "config.yaml",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "README.md",
    "metrics.jsonl",
    "metrics.json",
    "curves.png",
    "samples.txt",
    "resume.safetensors",
    "resume.previous.safetensors",
    "validation_labels.txt",
    "validation_confusions.png",
    "validation_mistakes.jsonl",
    "test_labels.txt",
    "test_confusions.png",
    "test_mistakes.jsonl",
}


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text("utf-8"))
    return found


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The run dies in its `step`-th loss."""
    calls = []
    loss = TextClassifier.loss

    def stopping(self: TextClassifier, batch: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == step:
            raise KeyboardInterrupt
        return loss(self, batch)

    monkeypatch.setattr(TextClassifier, "loss", stopping)


def assert_same_end(whole: Path, cut: Path) -> None:
    ends = [load_file(folder / "resume.safetensors") for folder in (whole, cut)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_run_folder_explains_itself(finished_classifier: Path, reviews: Path) -> None:
    assert {file.name for file in finished_classifier.iterdir()} == FILES
    options = yaml.safe_load((finished_classifier / "config.yaml").read_text("utf-8"))
    assert (options["data"], options["hidden_size"], options["max_steps"]) == (str(reviews), 12, 40)
    config = json.loads((finished_classifier / "config.json").read_text("utf-8"))
    assert (config["architecture"], config["labels"]) == ("TextClassifier", ["bad", "good"])
    for picture in ("validation_confusions.png", "test_confusions.png", "curves.png"):
        assert matplotlib.image.imread(finished_classifier / picture).size > 10_000
    assert "good" in (finished_classifier / "test_labels.txt").read_text("utf-8")


def test_the_final_figures_are_those_of_the_saved_model(finished_classifier: Path, reviews: Path) -> None:
    found, data = figures(finished_classifier), load_labelled_texts(str(reviews))
    model = TextClassifier.from_pretrained(finished_classifier)
    for name, split in (("validation", data.validation), ("test", data.test)):
        assert split is not None
        right = [one.label == label for one, (label,) in zip(model.classify(split.texts), split.labels, strict=True)]
        assert found[name]["accuracy"] == pytest.approx(sum(right) / len(right))
        assert {"macro_f1", "expected_calibration_error"} <= found[name].keys()
        assert found[f"majority_{name}"]["accuracy"] == pytest.approx(0.5, abs=0.35)
        mistakes = (finished_classifier / f"{name}_mistakes.jsonl").read_text("utf-8").splitlines()
        assert len(mistakes) == right.count(False)
    assert found["test"]["accuracy"] > 0.8  # six words tell all
    assert "accuracy" in found["markov_test"]
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert (found["steps"], found["seed"], found["precision"]) == (40, 0, "float32")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "options",
    [
        {"level": "word", "pooling": "attention", "num_layers": 2, "residual": "true"},
        {"level": "bpe", "tokenizer_size": 280, "pooling": "last+max", "bidirectional": "false", "balanced": "true"},
    ],
    ids=["word", "bpe"],
)
def test_every_cell_trains(train_classifier: Run, tmp_path: Path, cell: str, options: dict[str, Any]) -> None:
    result = train_classifier(tmp_path / "run", cell=cell, max_steps=4, max_length=5, **options)
    assert result.code == 0, result
    assert "texts are longer than 5 tokens: the middle is cut out of them" in result.out
    assert TextClassifier.from_pretrained(tmp_path / "run").config["cell"] == cell


@pytest.mark.parametrize(("longest", "kept"), [(9, 4), (3, 3)])
def test_training_texts_can_be_cut_shorter_than_others(
    train_classifier: Run, tmp_path: Path, longest: int, kept: int
) -> None:
    result = train_classifier(tmp_path / "run", max_length=longest, train_length=4, max_steps=1)
    assert result.code == 0, result
    assert f"training texts are longer than {kept} tokens" in result.out
    assert f"validation texts are longer than {longest} tokens" in result.out
    assert TextClassifier.from_pretrained(tmp_path / "run").max_length == longest


def test_resumed_it_ends_bit_for_bit_as_if_never_stopped(
    train_classifier: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"max_steps": 12, "evaluations": 4, "word_dropout": 0.2, "bag_order": 2, "bag_size": 500}
    assert train_classifier(tmp_path / "whole", **options).code == 0

    stop_at(monkeypatch, 8)
    assert train_classifier(tmp_path / "cut", **options).code != 0
    monkeypatch.undo()
    result = train_classifier(tmp_path / "cut", "--resume", **options)
    assert result.code == 0, result
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_bag_of_ngrams_is_fitted_to_the_training_texts(train_classifier: Run, tmp_path: Path, reviews: Path) -> None:
    options = {"bag_order": 2, "bag_size": 500, "bag_variance": 3, "max_steps": 3, "max_length": 5}
    result = train_classifier(tmp_path / "run", **options)
    assert result.code == 0, result
    model = TextClassifier.from_pretrained(tmp_path / "run")
    assert model.bag is not None
    data = load_labelled_texts(str(reviews)).train
    rows, targets = model.encode(data.texts), torch.tensor([model.labels.index(label) for (label,) in data.labels])
    fresh = BagOfNgrams(2, 2, 500)
    fresh.fit(rows, targets, torch.nn.functional.cross_entropy, 3)
    torch.testing.assert_close(model.bag(rows), fresh(rows))
    assert fresh(rows).abs().max() > 0.1
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for part in ("validation", "network_validation", "bag_validation"):
        assert 0 <= figures[part]["accuracy"] <= 1
    assert model.pool is not None and list(figures["pool"].values()) == model.pool.tolist() != [1, 1]
    assert "the bag of n-grams is fitted" in result.out and "network and bag of n-grams: accuracy" in result.out


def test_with_a_bag_those_weights_are_the_best_whose_labels_are_most_probable(
    train_classifier: Run, tmp_path: Path
) -> None:
    options = {"bag_order": 1, "bag_size": 3, "learning_rate": 1.0, "max_steps": 15, "evaluations": 5}
    assert train_classifier(tmp_path / "run", **options).code == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    found = [line["cross_entropy"] for line in lines]
    assert figures(tmp_path / "run")["validation"]["cross_entropy"] == pytest.approx(min(found))
    assert min(found) < found[-1]  # the last ones are not the best ones


def test_a_mistake_that_seems_certain_counts_what_it_costs(train_classifier_script: ModuleType) -> None:
    """In 32 bits the sigmoid of 20 is 1, and the other label's probability would be 0."""
    model = TextClassifier(vocab_size=5, labels=["a", "b"], multi_label=True)
    split = SimpleNamespace(targets=torch.tensor([[0.0, 1.0]]))
    found = train_classifier_script._figures(model, torch.tensor([[20.0, 20.0]]), split)
    assert found["cross_entropy"] == pytest.approx(10, abs=1e-6)


def test_the_seed_decides(train_classifier: Run, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert train_classifier(tmp_path / name, seed=seed, max_steps=4).code == 0
    assert_same_end(tmp_path / "a", tmp_path / "b")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]


def test_multi_label(train_classifier: Run, run: Run, classify_script: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    rows = [
        {
            "text": f"{'red ' * (n % 2)}{'big ' * (n % 3 == 0)}ball {n}",
            "label": ["red"] * (n % 2) + ["big"] * (n % 3 == 0),
        }
        for n in range(60)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    result = train_classifier(tmp_path / "run", "--multi_label", data=file, level="word", bag_order=2, max_steps=120)
    assert result.code == 0, result
    assert figures(tmp_path / "run")["validation"]["micro_f1"] > 0.9
    found = run(classify_script, tmp_path / "run", "red big ball 3", "ball 4", "--format", "jsonl", "--explain")
    lines = [json.loads(line) for line in found.out.splitlines()]
    assert [set(line["labels"]) for line in lines] == [{"big", "red"}, set()]
    assert "".join(lines[0]["explanation"]["tokens"]) == "red big ball 3"


# --- starting from a language model ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pretrain(
    finish: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, reviews: Path
) -> Callable[[str], Path]:
    text = tmp_path_factory.mktemp("data") / "reviews.txt"
    text.write_text((reviews / "train.csv").read_text("utf-8") * 2, encoding="utf-8")
    options = {"level": "word", "hidden_size": 12, "num_layers": 2, "residual": "true", "tied": "true"}
    return lambda cell: finish("train_text_generator", data=text, cell=cell, max_steps=2, ngram_order=2, **options)


@pytest.fixture(scope="module")
def language_model(pretrain: Callable[[str], Path]) -> Path:
    return pretrain("gru")


@pytest.mark.parametrize("cell", CELLS)
def test_it_starts_from_a_language_model(
    train_classifier: Run, tmp_path: Path, pretrain: Callable[[str], Path], cell: str
) -> None:
    language_model = pretrain(cell)
    source = TextGenerator.from_pretrained(language_model)
    rates = {"learning_rate": 1e-12, "matrix_learning_rate": 1e-12}
    result = train_classifier(tmp_path / "run", "--init_from", language_model, max_steps=1, **rates)
    assert result.code == 0, result
    model = TextClassifier.from_pretrained(tmp_path / "run")
    for mine, theirs in (
        (model.core.state_dict(), source.decoder.core.state_dict()),
        (model.embedding.state_dict(), source.decoder.embedding.state_dict()),
    ):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert model.config["bidirectional"] is False
    tokens, lengths = torch.tensor([[3, 5, 7, 2]]), torch.tensor([4])
    outputs, _ = model.core(model.embedding(tokens, None, lengths)[0], None, lengths)
    expected, _ = source.decoder.features(tokens, None, lengths)
    assert torch.equal(outputs, expected)


def test_lower_layers_thaw_later(train_classifier: Run, tmp_path: Path, language_model: Path) -> None:
    """With thaw 0.6 the layers begin at 0.2, 0.4 and 0.6 of the run; its n steps are at 0, 1/n, 2/n, ..."""
    source = TextGenerator.from_pretrained(language_model)
    parts = ("core.weight_hh_l1", "core.norms.2.weight", "core.weight_hh_l0", "embedding.tokens.weight")
    moved = {}
    for steps in (2, 3, 6):
        out = tmp_path / f"run {steps}"
        options = {"max_steps": steps, "evaluations": 1, "thaw": 0.6, "warmup": 0.0, "weight_decay": 0.0}
        result = train_classifier(out, "--init_from", language_model, **options)
        assert result.code == 0, result
        last = load_file(out / "resume.safetensors")
        moved[steps] = {
            name for name in parts if not torch.equal(last[f"model.{name}"], source.get_parameter(f"decoder.{name}"))
        }
    assert moved[2] == set(parts[:3])  # the last step is at 0.5
    assert moved[3] == set(parts)  # 0.67
    assert moved[6] == set(parts)
    options = {"max_steps": 6, "evaluations": 1, "thaw": 0.99, "warmup": 0.0}
    assert train_classifier(tmp_path / "late", "--init_from", language_model, **options).code == 0
    last = load_file(tmp_path / "late" / "resume.safetensors")
    late = {name for name in parts if not torch.equal(last[f"model.{name}"], source.get_parameter(f"decoder.{name}"))}
    assert late == set(parts[:3])  # 0.33 and 0.66 are past, 0.99 is not


def test_a_run_that_thaws_is_resumed_bit_for_bit(
    train_classifier: Run, tmp_path: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"max_steps": 12, "evaluations": 6, "thaw": 0.6, "adversarial": 0.05}
    arguments = ("--init_from", language_model)
    assert train_classifier(tmp_path / "whole", *arguments, **options).code == 0
    stop_at(monkeypatch, 5)
    assert train_classifier(tmp_path / "cut", *arguments, **options).code != 0
    monkeypatch.undo()
    result = train_classifier(tmp_path / "cut", *arguments, "--resume", **options)
    assert result.code == 0, result
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--hidden_size", "16"], "hidden_size is 16, but"),
        (["--cell", "rnn"], "cell is rnn, but"),
        (["--level", "bpe"], "level is bpe, but"),
        (["--tokenizer_size", "17"], "tokenizer_size is 17, but the tokenizer is that of"),
        (["--min_frequency", "3"], "min_frequency is 3, but the tokenizer is that of"),
    ],
)
def test_sizes_that_the_source_does_not_have(
    train_classifier: Run, tmp_path: Path, language_model: Path, arguments: list[str], match: str
) -> None:
    result = train_classifier(tmp_path / "run", "--init_from", language_model, *arguments)
    assert result.code == 2
    assert match in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_classifier_is_no_language_model(
    train_classifier: Run, tmp_path: Path, finished_classifier: Path, language_model: Path
) -> None:
    result = train_classifier(tmp_path / "run", "--init_from", finished_classifier)
    assert result.is_an_error("is of a TextClassifier, but a TextGenerator was expected"), result
    without_tokenizer = shutil.copytree(language_model, tmp_path / "language model")
    (without_tokenizer / "tokenizer.json").unlink()
    result = train_classifier(tmp_path / "run", "--init_from", without_tokenizer)
    assert result.is_an_error("has no tokenizer.json"), result
    assert not (tmp_path / "run").exists()


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("none.csv", None, "none.csv"),
        ("empty.csv", "", "empty.csv is empty"),
        ("header.csv", "text,label\n", "header.csv"),
        ("columns.csv", "review,stars\nfine,5\n", "review, stars"),
        ("one.csv", "text,label\na b,x\nb c,x\nc,x\n", "only the label 'x'"),
        ("blank.csv", "text,label\na,x\n  ,y\nb,y\n", "line 3"),
        ("ragged.csv", "text,label\na,x\nb,y,z\n", "line 3"),
        ("quotes.csv", 'text,label\na,x\n"b"c,y\n', "line 3"),
        ("broken.jsonl", '{"text": "a", "label": "x"}\n{"text": "b", \n', "line 2"),
        ("long.csv", "text,label\na,x\n" + "b" * 10_000_000 + ",y\n", "line 3"),
        ("long.jsonl", '{"text": "a", "label": "x"}\n{"text": "' + "b" * 10_000_000 + '", "label": "y"}\n', "line 2"),
        ("latin.csv", b"text,label\nZo\xeb,x\n", "line 2"),
        ("binary.csv", b"text,label\n\x00\x01,x\n", "line 2"),
        ("text.txt", "just text\n", "text.txt"),
        ("lists.jsonl", '{"text": "a", "label": ["x", "y"]}\n', "multi_label"),
    ],
)
def test_data(
    train_classifier: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: Any, match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    result = train_classifier(Path("run"), data=name)
    assert result.is_an_error(match), result
    assert not Path("run").exists()


def test_a_label_that_training_has_never_seen(train_classifier: Run, tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "other.csv"
    train.write_text("text,label\n" + "".join(f"word{n},{'xy'[n % 2]}\n" for n in range(20)), encoding="utf-8")
    test.write_text("text,label\nfoo,x\nbar,z\n", encoding="utf-8")
    for option in ("--validation_data", "--test_data"):
        result = train_classifier(tmp_path / "run", option, test, data=train)
        assert result.is_an_error("line 3"), result
        assert "'z'" in result.err


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--pooling", "median"], "pooling is 'median'"),
        (["--max_length", "1"], "max_length is 1"),
        (["--train_length", "1"], "train_length is 1"),
        (["--label_smoothing", "1"], "label_smoothing is 1.0"),
        (["--word_dropout", "-0.5"], "word_dropout is -0.5"),
        (["--adversarial", "-1"], "adversarial is -1.0"),
        (["--thaw", "1"], "thaw is 1.0"),
        (["--layer_decay", "0.5"], "layer_decay is 0.5"),
        (["--markov_order", "0"], "order is 0"),
        (["--min_frequency", "0"], "min_frequency is 0"),
        (["--cell", "transformer"], "cell is 'transformer'"),
        (["--validation_fraction", "2"], "validation_fraction is 2.0"),
        (["--text_column", "review"], "label, text"),
        (["--batch_size", "0"], "batch_size is 0"),
        (["--batch_tokens", "0"], "batch_tokens is 0"),
        (["--label_separator", "|"], "multi_label"),
    ],
)
def test_options(train_classifier: Run, tmp_path: Path, arguments: list[str], match: str) -> None:
    result = train_classifier(tmp_path / "run", *arguments)
    assert result.is_an_error(match), result
    assert not (tmp_path / "run").exists()


def test_every_option_is_described(train_classifier_script: ModuleType) -> None:
    for options in (train_classifier_script.TextClassifierOptions, train_classifier_script.TextClassifierTraining):
        described = {parameter.arg_name for parameter in docstring_parser.parse(options.__doc__).params}
        assert set(options.__dataclass_fields__) <= described
