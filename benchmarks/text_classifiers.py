"""The text classifier beside fastText on the same rows: accuracy and training time, one table.

    pip install -e '.[fasttext]'
    python -m benchmarks.text_classifiers                                   # SST-2, AG News and IMDb from the hub
    python -m benchmarks.text_classifiers --sst2 data/sst2 --ag_news data/ag --imdb data/imdb --sets sst2

A source is what scripts/train_text_classifier.py takes as --data, with the columns `text` and `label`: a folder with
train.csv and test.csv, say. Where there is no labelled test set, as for SST-2, the validation set is tested on.
fastText (Joulin et al., "Bag of tricks for efficient text classification", 2017) trains on all other rows; ours holds
a few of them out to choose its best weights by, of SST-2 whole sentences with their phrases. Leave the machine alone
meanwhile.
"""

import csv
import random
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tables import Column, Table, Value
from benchmarks.training_runs import train
from zoo.command_line import parse_options, run_script
from zoo.data.labelled_texts import LabelledTexts, load_labelled_texts
from zoo.errors import InputError

COLUMNS = (
    Column("set"),
    Column("model"),
    Column("test accuracy", ".2%"),
    Column("minutes of training", ".2f"),
    Column("parameters", ",d"),
)

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
        "bag_order": 3,
        "adversarial": 0.02,
        "batch_size": 256,  # of phrases, most of a few words
        "learning_rate": 0.0055,
        "max_minutes": 9.4,
    },
    "ag_news": WORDS
    | {
        "ngram_buckets": 100_000,
        "ngram_dropout": 0.6,
        "dropout": 0.6,
        "input_dropout": 0.2,
        "embedding_dropout": 0.2,
        "bag_order": 3,
        "adversarial": 0.02,
        "validation_fraction": 0.05,
        "max_minutes": 14,
        "evaluations": 4,
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
        "bag_order": 3,
        "bag_variance": 50,
        "adversarial": 0.02,
        "validation_fraction": 0.05,
        "max_minutes": 25,
        "evaluations": 6,
    },
}
HELD_OUT_SENTENCES = 500  # of SST-2
SENTENCE_WORDS, PHRASE_WORDS = 8, 4  # the fewest; what is shorter may be in any sentence
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
        out: Folder for the runs and the table (table.md, table.csv).
        threads: Of fastText.
        seed: Seed of our runs, and of the order of fastText's rows.
    """

    sst2: str = "sst2"
    ag_news: str = "ag_news"
    imdb: str = "imdb"
    sets: str = "sst2,ag_news,imdb"
    out: Path = Path("runs/text_classifiers")
    threads: int = 2
    seed: int = 0


def ours(name: str, known: LabelledTexts, test: LabelledTexts, options: TextClassifiersOptions) -> tuple[Value, ...]:
    """The table's row."""
    folder = options.out / f"{name}_data"
    folder.mkdir(parents=True, exist_ok=True)
    splits = {"train": known, "test": test}
    if name == "sst2":
        splits["train"], splits["validation"] = hold_out_sentences(known, HELD_OUT_SENTENCES, options.seed)
    for split, rows in splits.items():
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(
                [["text", "label"], *([text, label] for text, (label,) in zip(rows.texts, rows.labels, strict=True))]
            )
    recipe = {"data": folder, "seed": options.seed, **RECIPES[name]}
    figures = train("train_text_classifier.py", recipe, options.out / name)
    minutes = figures["training_minutes"] + figures["bag_minutes"]
    return name, "zoo", figures["test"]["accuracy"], minutes, figures["parameters"]


def hold_out_sentences(known: LabelledTexts, count: int, seed: int) -> tuple[LabelledTexts, LabelledTexts]:
    """`count` sentences are held out, and what is left without the phrases of theirs.

    Most rows of SST-2's training set are phrases of other rows, so that one held out at random is known all the same.
    """

    def bounded(text: str) -> str:
        return f" {' '.join(text.split())} "

    def pieces(text: str) -> list[str]:
        words = text.split()
        return [" ".join(words[n : n + PHRASE_WORDS]) for n in range(len(words) - PHRASE_WORDS + 1)]

    with_piece: dict[str, list[str]] = defaultdict(list)  # the sentences that a piece is in
    sentences = []
    for text in sorted(set(known.texts), key=lambda text: (-len(text.split()), text)):
        if len(text.split()) < SENTENCE_WORDS:
            break
        if any(bounded(text) in bounded(longer) for longer in with_piece[pieces(text)[0]]):
            continue
        sentences.append(text)
        for piece in set(pieces(text)):
            with_piece[piece].append(text)
    if len(sentences) < count:
        found = f"{len(sentences)} sentences of {SENTENCE_WORDS} words or more"
        raise InputError(f"sst2 has {found}, but {count} are to be held out")
    held_out = set(random.Random(seed).sample(sentences, count))
    theirs = "".join(map(bounded, sorted(held_out)))

    def rows(numbers: Iterable[int]) -> LabelledTexts:
        numbers = list(numbers)
        return LabelledTexts([known.texts[n] for n in numbers], [known.labels[n] for n in numbers])

    return (
        rows(n for n, text in enumerate(known.texts) if not pieces(text) or bounded(text) not in theirs),
        rows(n for n, text in enumerate(known.texts) if text in held_out),
    )


def fasttext(
    name: str, known: LabelledTexts, test: LabelledTexts, options: TextClassifiersOptions
) -> tuple[Value, ...]:
    """The table's row."""
    try:
        import fasttext as library
    except ImportError:
        raise InputError("fasttext is not installed: pip install -e '.[fasttext]'") from None

    lines = [
        f"__label__{label.replace(' ', '_')} {normalised(text)}\n"
        for text, (label,) in zip(known.texts, known.labels, strict=True)
    ]
    random.Random(options.seed).shuffle(lines)  # it reads them in the file's order, which in IMDb's is by label
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.writelines(lines)
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
    return name, "fastText, bigrams", right / len(test), minutes, None


def normalised(text: str) -> str:
    """As fastText's own scripts do: lower case, punctuation marks as words of their own, one line."""
    return " ".join(re.sub(r"([.!?,'\"()<>/;:])", r" \1 ", text.lower()).split())


def main() -> int:
    (options,) = parse_options(__doc__ or "", TextClassifiersOptions)
    names = options.sets.split(",")
    if not set(names) <= set(RECIPES):
        raise InputError(f"sets is {options.sets}, but must be of {', '.join(RECIPES)}")
    options.out.mkdir(parents=True, exist_ok=True)
    table = Table(options.out, "table", "Text classifiers", [], COLUMNS)
    for name in names:
        data = load_labelled_texts(getattr(options, name))
        known, test = data.train, data.test
        if test is None:
            test = data.validation
        else:
            known = LabelledTexts(known.texts + data.validation.texts, known.labels + data.validation.labels)
        for measure in (fasttext, ours):
            table.add(*measure(name, known, test, options))
    return 0


if __name__ == "__main__":
    run_script(main)
