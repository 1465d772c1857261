"""Texts with labels for classifiers, to train, validate and test on."""

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from zoo.data.labelled_rows import LabelledRow, LabelledSource
from zoo.data.splits import check_validation_fraction
from zoo.data.surnames import surname_notes
from zoo.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and the labels of each: exactly one, unless the data is multi-label."""

    texts: list[str]
    labels: list[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class ClassificationData:
    """Texts to train, validate and, where there are such, test on; `name` is what the user called the data.

    `labels` are all labels of the training texts, sorted (as numbers, if all are integers). `notes` are remarks of one
    line each that a reader of the results should know.
    """

    name: str
    train: LabelledTexts
    validation: LabelledTexts
    test: LabelledTexts | None
    labels: list[str]
    notes: list[str] = field(default_factory=list)


def load_labelled_texts(
    data: str,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    validation_data: str | None = None,
    test_data: str | None = None,
    validation_fraction: float = 0.1,
    columns: Sequence[str] | None = None,
    label_separator: str | None = None,
    multi_label: bool = False,
    seed: int = 0,
) -> ClassificationData:
    """Load labelled texts.

    A source is, in this order: `surnames` (built in, see `zoo.data.surnames`); a file or folder that exists; `ag_news`,
    `imdb` or `sst2`, or any other hub data set, `owner/name` or `owner/name:configuration`. A file is one that
    `read_records` reads. A folder has a file for each split, such as train.csv, dev.csv and test.csv, or is one that
    the `datasets` library reads.

    Where the data has no validation split and there is no `validation_data`, a fraction of the different training
    texts is drawn: all rows with the same text (without regard to blanks and line breaks) go to the same side, and
    every label stays in the training texts. Splits that the data has stay as they are; a note says how many of their
    texts are training texts too. A split of a hub data set whose labels are withheld (-1) is left out.

    Args:
        data: a source.
        text_column: default "text" (and "sentence" for sst2); "title+description" joins two columns with a blank.
        label_column: default "label". Values are text, integers, or true and false.
        validation_data: a source to validate on: its validation split, or all of it if it has only one split.
        test_data: a source to test on: its test split, or all of it if it has only one split.
        validation_fraction: more than 0, at most 0.5.
        columns: the names of the columns of CSV and TSV files that have no header line.
        label_separator: what stands between the labels of a text, where they are text; multi-label only.
        multi_label: a text may have several labels, or none.
        seed: of the draw.

    Raises:
        InputError: a source is missing, empty or malformed; a column, text or label is missing; there is one label
            only; a label to validate or test on is no training label; or `validation_fraction` is out of range.
    """
    check_validation_fraction(validation_fraction)
    if label_separator is not None and (not multi_label or not label_separator):
        raise InputError(f"label_separator is {label_separator!r}: it needs --multi_label and at least one character")
    source = LabelledSource(text_column, label_column or "label", columns, label_separator, multi_label)
    splits = source.splits(data)
    train = source.rows(data, take_split(data, splits, "train"))
    labels = _labels_of(data, train, fewest=1 if multi_label else 2)
    held_out: dict[str, list[LabelledRow]] = {}
    for split, other in (("validation", validation_data), ("test", test_data)):
        if other is not None:
            held_out[split] = source.rows(other, take_split(other, source.splits(other), split))
        elif split in splits:
            held_out[split] = source.rows(data, splits[split])
    if "validation" not in held_out:
        train, held_out["validation"] = _draw(data, train, validation_fraction, seed)

    as_built_in = data == "surnames" and validation_data is None and test_data is None
    notes = [*(surname_notes() if as_built_in else []), *source.notes]
    trained_on = {_key(row.text) for row in train}
    for split, rows in held_out.items():
        _check_known(rows, labels)
        repeats = sum(_key(row.text) in trained_on for row in rows)
        if repeats:
            notes.append(f"{split}: {repeats:,} of {len(rows):,} texts are training texts too")
    test = _texts(held_out["test"]) if "test" in held_out else None
    return ClassificationData(data, _texts(train), _texts(held_out["validation"]), test, labels, notes)


def take_split(source: str, splits: dict[str, T], wanted: str) -> T:
    """Take out the split that is wanted, or the only one there is, so that it does not serve twice."""
    if wanted not in splits and len(splits) != 1:
        raise InputError(f"{source} has the splits {', '.join(splits) or '(none)'}: expected one named {wanted}")
    return splits.pop(wanted if wanted in splits else next(iter(splits)))


def _labels_of(data: str, rows: list[LabelledRow], fewest: int) -> list[str]:
    labels = sorted({label for row in rows for label in row.labels})
    if len(labels) < fewest:
        only = f"only the label {labels[0]!r}" if labels else "no label"
        raise InputError(f"the training texts of {data} have {only}: expected two or more labels to tell apart")
    if all(re.fullmatch(r"-?[0-9]{1,18}", label) for label in labels):
        labels.sort(key=int)
    return labels


def _draw(
    data: str, rows: list[LabelledRow], fraction: float, seed: int
) -> tuple[list[LabelledRow], list[LabelledRow]]:
    """(train, validation): no text in both, and every label still in train."""
    labels_of: dict[str, set[str]] = {}
    for row in rows:
        labels_of.setdefault(_key(row.text), set()).update(row.labels)
    left = Counter(label for labels in labels_of.values() for label in labels)
    count = min(max(1, round(fraction * len(labels_of))), len(labels_of) - 1)
    keys = list(labels_of)
    random.Random(seed).shuffle(keys)
    drawn: set[str] = set()
    for key in keys:
        if len(drawn) < count and all(left[label] > 1 for label in labels_of[key]):
            drawn.add(key)
            left.subtract(labels_of[key])
    if not drawn:
        raise InputError(
            f"{data} has too few texts to draw validation texts from: expected two or more different texts with one "
            "label at least; give more, or --validation_data"
        )
    return [row for row in rows if _key(row.text) not in drawn], [row for row in rows if _key(row.text) in drawn]


def _check_known(rows: list[LabelledRow], labels: list[str]) -> None:
    known = set(labels)
    for row in rows:
        for label in row.labels:
            if label not in known:
                listed = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
                raise InputError(
                    f"{row.place} has the label {label!r}, which no training text has: expected one of {listed}"
                )


def _key(text: str) -> str:
    return " ".join(text.split())


def _texts(rows: list[LabelledRow]) -> LabelledTexts:
    return LabelledTexts([row.text for row in rows], [row.labels for row in rows])
