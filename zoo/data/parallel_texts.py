"""Texts with their translations for translators, to train, validate and test on."""

import random
from dataclasses import dataclass, field

from zoo.data.labelled_texts import take_split
from zoo.data.number_words import NUMBER_NOTES
from zoo.data.parallel_rows import Pair, ParallelSource, Split
from zoo.data.splits import check_validation_fraction, is_test
from zoo.errors import InputError

FREE_CHARACTERS = 20
"""By so many characters any side of a pair may be longer than the ratio of lengths allows: short texts vary more."""


MOST_DRAWN = 2_000
"""Validation pairs: more make figures little surer, and all are translated at each evaluation."""


@dataclass(frozen=True)
class ParallelTexts:
    """Texts, and the translation of each."""

    sources: list[str]
    targets: list[str]

    def __len__(self) -> int:
        return len(self.sources)


@dataclass(frozen=True)
class TranslationData:
    """Texts with translations to train, validate and test on; `name` is what the user called the data.

    `tests` are the test sets by name, in the order of the data; there may be none. `notes` are remarks of one line each
    that a reader of the results should know.
    """

    name: str
    train: ParallelTexts
    validation: ParallelTexts
    tests: dict[str, ParallelTexts]
    notes: list[str] = field(default_factory=list)


def load_parallel_texts(
    data: str,
    *,
    source: str,
    target: str,
    validation_data: str | None = None,
    test_data: str | None = None,
    validation_fraction: float = 0.05,
    max_length_ratio: float = 4.0,
    seed: int = 0,
) -> TranslationData:
    """Load texts with their translations.

    A source is, in this order:

    - `numbers`: built in, see `zoo.data.number_words`;
    - the prefix of two files that exist, `dir/train` for dir/train.en and dir/train.de: UTF-8, a text a line, line n of
      one the translation of line n of the other;
    - a file that `read_records` reads, with columns called after the languages, or with a column `translation` that has
      an object with the languages' texts;
    - a folder with files called after the splits, or one that the `datasets` library reads. Files are pairs (train.en
      and train.de) or files that `read_records` reads (train.tsv); for validation they are called `validation`,
      `valid`, `val` or `dev`, and each one whose name begins with `test` is a test set under its own name;
    - `multi30k`, or any other hub data set, `owner/name` or `owner/name:configuration`, with such columns.

    Texts are stripped of the blanks around them. Pairs of which one side is empty, or much longer than the other, are
    not trained on, and a note says how many; the built-in ones all are. Pairs to validate or test on all stay.

    Where the data has no validation split and there is no `validation_data`, a fraction of the different training pairs
    (at most 2,000) is drawn: all equal pairs go to the same side. Splits that the data has stay as they are; a note
    says how many of their pairs are training pairs too.

    Args:
        data: a source.
        source: the language to translate from, such as en: what files end in, or what a column is called.
        target: the language to translate to.
        validation_data: a source to validate on: its validation split, or all of it if it has only one split.
        test_data: a source to test on: all its splits that begin with `test`, or all of it if it has only one split.
        validation_fraction: more than 0, at most 0.5.
        max_length_ratio: 1 or more: how many times as many characters as the shorter side, plus 20, the longer side of
            a training pair has at most.
        seed: of the draw.

    Raises:
        InputError: a source is missing, empty or malformed, a file of a pair is missing or longer than the other, all
            texts of one side are empty, no training pair is left, or an option is out of range.
    """
    check_validation_fraction(validation_fraction)
    if not max_length_ratio >= 1.0:
        raise InputError(f"max_length_ratio is {max_length_ratio}: expected 1 or more")
    for option, language in (("source", source), ("target", target)):
        if not language.strip():
            raise InputError(f"{option} is empty: expected a language, such as en, that files end in or a column is of")
    if source == target:
        raise InputError(f"source and target are both {source!r}: expected two languages")
    reader = ParallelSource(source, target)
    splits = reader.splits(data)
    train = reader.pairs(take_split(data, splits, "train"))
    if data != "numbers":  # those are pairs by construction, and Chinese needs a sixth of the characters of English
        train = _cleaned(data, train, max_length_ratio, reader.notes)

    held_out: dict[str, Split] = {}
    if validation_data is not None:
        held_out["validation"] = take_split(validation_data, reader.splits(validation_data), "validation")
    elif "validation" in splits:
        held_out["validation"] = splits["validation"]
    if test_data is not None:
        splits = reader.splits(test_data)
        if not _tests_among(splits):
            splits = {"test": take_split(test_data, splits, "test")}
    held_out.update(_tests_among(splits))
    pairs = {name: reader.pairs(split) for name, split in held_out.items()}
    if "validation" not in pairs:
        train, drawn = _draw(data, train, validation_fraction, seed)
        pairs = {"validation": drawn, **pairs}

    notes = [*(NUMBER_NOTES if (test_data or data) == "numbers" else []), *reader.notes]
    trained_on = set(train)
    for name, held in pairs.items():
        repeats = sum(pair in trained_on for pair in held)
        if repeats:
            notes.append(f"{name}: {repeats:,} of {len(held):,} pairs are training pairs too")
    validation, tests = pairs.pop("validation"), pairs
    test_texts = {name: _texts(held) for name, held in tests.items()}
    # A folder that is both the data and the test data has its say twice.
    return TranslationData(data, _texts(train), _texts(validation), test_texts, list(dict.fromkeys(notes)))


def _tests_among(splits: dict[str, Split]) -> dict[str, Split]:
    return {name: split for name, split in splits.items() if is_test(name)}


def _cleaned(data: str, pairs: list[Pair], max_length_ratio: float, notes: list[str]) -> list[Pair]:
    full = [pair for pair in pairs if pair.source and pair.target]
    left = []
    for pair in full:
        shorter, longer = sorted(map(len, pair))
        if not longer > max_length_ratio * shorter + FREE_CHARACTERS:
            left.append(pair)
    if len(left) < len(pairs):
        reasons = (
            f"{len(pairs) - len(full):,} with an empty side, {len(full) - len(left):,} with one of more than "
            f"{max_length_ratio:g} times the characters of the other plus {FREE_CHARACTERS}"
        )
        if not left:
            raise InputError(f"{data} has no pair to train on: all {len(pairs):,} are left out, {reasons}")
        notes.append(f"train: {len(pairs) - len(left):,} of {len(pairs):,} pairs are left out, {reasons}")
    return left


def _draw(data: str, pairs: list[Pair], fraction: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """(train, validation): no pair in both."""
    different = list(dict.fromkeys(pairs))
    if len(different) < 2:
        raise InputError(
            f"{data} has too few pairs to draw validation pairs from: expected two or more different ones; give more, "
            "or --validation_data"
        )
    count = min(max(1, round(fraction * len(different))), len(different) - 1, MOST_DRAWN)
    drawn = set(random.Random(seed).sample(different, count))
    return [pair for pair in pairs if pair not in drawn], [pair for pair in pairs if pair in drawn]


def _texts(pairs: list[Pair]) -> ParallelTexts:
    return ParallelTexts([pair.source for pair in pairs], [pair.target for pair in pairs])
