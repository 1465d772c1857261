"""The text classifier beside fastText on the same rows: accuracy and training time, one table.

    pip install -e '.[fasttext]'
    python benchmarks/text_classifiers.py                                   # SST-2, AG News and IMDb from the hub
    python benchmarks/text_classifiers.py --sst2 data/sst2 --ag_news data/ag --imdb data/imdb --sets sst2

A source is what scripts/train_text_classifier.py takes as --data, with the columns `text` and `label`: a folder with
train.csv and test.csv, say. Where there is no labelled test set, as for SST-2, the validation set is tested on.
fastText (Joulin et al., "Bag of tricks for efficient text classification", 2017) trains on all other rows; ours holds
a few of them out to choose its best weights by. Leave the machine alone meanwhile.
"""

import csv
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.command_line import parse_options, run_script
from zoo.data.labelled_texts import LabelledTexts, load_labelled_texts
from zoo.errors import InputError

SCRIPT = Path(__file__).parents[1] / "scripts" / "train_text_classifier.py"

# Chosen on held-out training rows.
WORDS: dict[str, Any] = {
    "level": "word",
    "ngram_order": 2,
    "embedding_size": 128,
    "hidden_size": 128,
    "learning_rate": 0.004,
    "word_dropout": 0.3,
    "markov_order": 2,
}
RECIPES: dict[str, dict[str, Any]] = {
    "sst2": WORDS
    | {
        "pretokenized": True,
        "embedding_size": 192,
        "hidden_size": 192,
        "pooling": "mean+max+attention",
        "ngram_buckets": 50_000,
        "ngram_dropout": 0.5,
        "dropout": 0.6,
        "input_dropout": 0.2,
        "validation_fraction": 0.03,
        "max_minutes": 9,
    },
    "ag_news": WORDS
    | {
        "ngram_buckets": 100_000,
        "ngram_dropout": 0.6,
        "dropout": 0.6,
        "input_dropout": 0.2,
        "embedding_dropout": 0.2,
        "validation_fraction": 0.05,
        "max_minutes": 4,
    },
    "imdb": WORDS
    | {
        "tokenizer_size": 30_000,
        "max_length": 400,
        "batch_size": 64,
        "ngram_buckets": 100_000,
        "ngram_dropout": 0.5,
        "dropout": 0.5,
        "input_dropout": 0.1,
        "embedding_dropout": 0.1,
        "validation_fraction": 0.05,
        "max_minutes": 15,
        "evaluations": 6,
    },
}
# Bigrams as in Joulin et al., 2017, table 1; rates and epochs in the range they searched.
FASTTEXT: dict[str, dict[str, Any]] = {
    "sst2": {"lr": 0.25, "epoch": 5},
    "ag_news": {"lr": 0.5, "epoch": 5},
    "imdb": {"lr": 0.5, "epoch": 5},
}


@dataclass
class TextClassifiersOptions:
    """What to compare.

    Args:
        sst2: Source of SST-2.
        ag_news: Source of AG News.
        imdb: Source of IMDb.
        sets: Which of the three, separated by commas.
        out: Folder for the runs and the table (table.md).
        threads: Of fastText.
        seed: Seed of our runs.
    """

    sst2: str = "sst2"
    ag_news: str = "ag_news"
    imdb: str = "imdb"
    sets: str = "sst2,ag_news,imdb"
    out: Path = Path("runs/text_classifiers")
    threads: int = 2
    seed: int = 0


@dataclass
class Result:
    model: str
    accuracy: float
    minutes: float
    parameters: str = field(default="")


def ours(name: str, train: LabelledTexts, test: LabelledTexts, options: TextClassifiersOptions) -> Result:
    folder, run = options.out / f"{name}_data", options.out / name
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in (("train", train), ("test", test)):
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(
                [["text", "label"], *([text, label] for text, (label,) in zip(rows.texts, rows.labels, strict=True))]
            )
    arguments = {"data": folder, "out": run, "seed": options.seed, "overwrite": "true", **RECIPES[name]}
    flags = [part for option, value in arguments.items() for part in (f"--{option}", str(value))]
    log = options.out / f"{name}.log"
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run([sys.executable, str(SCRIPT), *flags], stdout=file, stderr=subprocess.STDOUT).returncode
    if code:
        raise InputError(f"training on {name} ended with exit code {code}: see {log}")
    figures = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return Result("zoo", figures["test"]["accuracy"], figures["training_minutes"], f"{figures['parameters']:,}")


def fasttext(name: str, train: LabelledTexts, test: LabelledTexts, options: TextClassifiersOptions) -> Result:
    try:
        import fasttext as library
    except ImportError:
        raise InputError("fasttext is not installed: pip install -e '.[fasttext]'") from None

    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        for text, (label,) in zip(train.texts, train.labels, strict=True):
            file.write(f"__label__{label.replace(' ', '_')} {normalised(text)}\n")
        file.flush()
        start = time.perf_counter()
        model = library.train_supervised(
            input=file.name, wordNgrams=2, thread=options.threads, verbose=0, **FASTTEXT[name]
        )
        minutes = (time.perf_counter() - start) / 60
    right = 0
    for text, (label,) in zip(test.texts, test.labels, strict=True):
        # Not model.predict, whose wrapper fails with NumPy 2.
        (_, found), *_ = model.f.predict(normalised(text) + "\n", 1, 0.0, "strict")
        right += found == f"__label__{label.replace(' ', '_')}"
    return Result("fastText, bigrams", right / len(test), minutes)


def normalised(text: str) -> str:
    """As fastText's own scripts do: lower case, punctuation marks as words of their own, one line."""
    return " ".join(re.sub(r"([.!?,'\"()<>/;:])", r" \1 ", text.lower()).split())


def main() -> int:
    (options,) = parse_options(__doc__ or "", TextClassifiersOptions)
    names = options.sets.split(",")
    if not set(names) <= set(RECIPES):
        raise InputError(f"sets is {options.sets}, but must be of {', '.join(RECIPES)}")
    options.out.mkdir(parents=True, exist_ok=True)
    lines = ["| set | model | test accuracy | minutes of training | parameters |", "| --- | --- | ---: | ---: | ---: |"]
    for name in names:
        data = load_labelled_texts(getattr(options, name))
        train, test = data.train, data.test
        if test is None:
            test = data.validation
        else:
            train = LabelledTexts(train.texts + data.validation.texts, train.labels + data.validation.labels)
        results = [fasttext(name, train, test, options), ours(name, train, test, options)]
        for result in results:
            lines.append(
                f"| {name} | {result.model} | {result.accuracy:.2%} | {result.minutes:.2f} | {result.parameters} |"
            )
            print(lines[-1], flush=True)
    (options.out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    run_script(main)
