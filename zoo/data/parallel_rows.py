"""From the name of a source to pairs of a text and its translation: built in, local files, or a hub data set."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from zoo.data.labelled_rows import data_set_records
from zoo.data.lines import read_lines, reading
from zoo.data.number_words import number_words
from zoo.data.records import RECORD_SUFFIXES, Record, is_record_file, read_records, shortened, stem_of
from zoo.data.rows import load_splits
from zoo.data.splits import by_split, is_left_to_datasets, is_split, is_test, split_called
from zoo.data.text_files import normalise
from zoo.errors import InputError

SHORT_NAMES = {"multi30k": "bentrevett/multi30k"}


class Pair(NamedTuple):
    """A text and its translation, without blanks around them; one that is missing is ''."""

    source: str
    target: str


class Split(NamedTuple):
    """A split that has not been read yet: what messages call it, and what reads it."""

    place: str
    read: Callable[[], list[Pair]]


@dataclass(frozen=True)
class ParallelSource:
    """How sources are read: `source` and `target` are the languages that files end in and columns are called.

    What a reader of the results should know is added to `notes`.
    """

    source: str
    target: str
    notes: list[str] = field(default_factory=list)

    def splits(self, data: str) -> dict[str, Split]:
        """{train, validation, or its own name: split}; what begins with "test" is a test set.

        Raises:
            InputError: there is no such source, or it cannot be read.
        """
        if not data.strip():
            raise InputError("a data source is empty: expected numbers, a prefix, a file, a folder or a hub data set")
        if data == "numbers":
            return self._of_numbers()
        path = Path(data).expanduser()
        pair = self._pair(path)
        missing = [file for file in pair if not file.is_file()]
        if not missing:
            return {path.name: _of_files(pair)}
        if path.is_dir():
            splits = self._of_folder(path)
            pair = self._pair(path / "train")
            return splits or self._of_data_set(data, str(path), f"there are no files {pair[0]} and {pair[1]}")
        if is_record_file(path):
            return {stem_of(path): self._of_records(str(path), partial(read_records, path))}
        if path.exists():
            raise InputError(
                f"{path} is one file: expected the prefix of two, such as train of train.{self.source} and "
                f"train.{self.target}, or a file ending in {', '.join(RECORD_SUFFIXES)}"
            )
        if len(missing) == 1:
            return {path.name: _of_files(pair)}  # to read it says which is missing
        return self._of_data_set(data, SHORT_NAMES.get(data, data), f"there are no files {pair[0]} and {pair[1]}")

    def pairs(self, split: Split) -> list[Pair]:
        """All pairs of a split.

        Raises:
            InputError: there are none, or all texts in one language are empty; or the split cannot be read.
        """
        pairs = split.read()
        expected = f"expected texts in {self.source} with their translations in {self.target}"
        if not pairs:
            raise InputError(f"{split.place}: there are no pairs, {expected}")
        for language, texts in zip((self.source, self.target), zip(*pairs, strict=True), strict=True):
            if not any(texts):
                raise InputError(f"{split.place}: all texts in {language} are empty, {expected}")
        return pairs

    def _of_numbers(self) -> dict[str, Split]:
        sources, targets = number_words(self.source), number_words(self.target)
        return {
            split: Split(f"numbers, split {split}", partial(_paired, sources[split], targets[split]))
            for split in sources
        }

    def _pair(self, prefix: Path) -> tuple[Path, Path]:
        return Path(f"{prefix}.{self.source}"), Path(f"{prefix}.{self.target}")

    def _of_folder(self, folder: Path) -> dict[str, Split]:
        """The splits that files are called after; none if the `datasets` library should read the folder."""
        found: dict[str, Split] = {}

        def add(split: str, candidate: Split) -> None:
            if split in found:
                there = f"{found[split].place}; {candidate.place}"
                raise InputError(f"{folder} has two sources for {split}, expected one: {there}")
            found[split] = candidate

        names = sorted(file.name for file in folder.iterdir() if file.is_file())
        endings = (f".{self.source}", f".{self.target}")
        stems = {name.removesuffix(ending) for ending in endings for name in names if name.endswith(ending)}
        for stem in sorted(stems):
            pair = self._pair(folder / stem)
            missing = [file for file in pair if file.name not in names]
            split = split_called(stem)
            if not missing or split in ("train", "validation"):
                add(split, _of_files(pair))
            elif is_test(split):  # not all test sets of Multi30k are in all of its languages
                self.notes.append(f"{missing[0]} is missing: the test set {stem} is left out")
        any_texts = bool(found)
        others: dict[str, Split] = {}
        for file in (folder / name for name in names if is_record_file(Path(name))):
            records = self._of_records(str(file), partial(read_records, file))
            if is_split(stem_of(file)):
                add(split_called(stem_of(file)), records)
            else:
                others[stem_of(file)] = records
        if "train" in found or not others:
            return found
        # Beside train-00000-of-00002.parquet, a test-00000-of-00001.parquet is for the datasets library as well.
        if not any_texts and (not found or is_left_to_datasets(others)):
            return {}
        return found | others if any(map(is_split, found)) else found

    def _of_data_set(self, data: str, name: str, otherwise: str) -> dict[str, Split]:
        try:
            found = load_splits(name)
        except InputError as error:
            raise InputError(f"{otherwise}; {error}") from error
        splits: dict[str, Split] = {}
        for own_name, rows in found.items():
            place = f"{data}, split {own_name}"
            splits[own_name] = self._of_records(place, partial(data_set_records, place, rows))
        return by_split(data, splits)

    def _of_records(self, place: str, records: Callable[[], Iterable[Record]]) -> Split:
        return Split(place, lambda: [self._of_record(record) for record in records()])

    def _of_record(self, record: Record) -> Pair:
        there, kind = record.values, "column"
        translation = there.get("translation")
        if isinstance(translation, dict) and not {self.source, self.target} <= there.keys():
            there, kind = translation, "translation"
        texts = []
        for language in (self.source, self.target):
            if language not in there:
                raise InputError(
                    f"{record.place} has no {kind} {language!r}: it has {shortened(there) or 'none'}; expected "
                    f"{self.source} and {self.target}"
                )
            texts.append(_text(there[language], f"{record.place}: {kind} {language!r}"))
        return Pair(*texts)


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str | None):
        raise InputError(f"{place} holds {type(value).__name__}, expected text")
    return normalise(value or "").strip()


def _of_files(pair: tuple[Path, Path]) -> Split:
    return Split(f"{pair[0]} and {pair[1]}", partial(_read_files, *pair))


def _read_files(source: Path, target: Path) -> list[Pair]:
    for file, other in ((source, target), (target, source)):
        if not file.is_file():
            raise InputError(f"{file} is missing: there is {other}, expected both files of a pair")
    sources, targets = _lines(source), _lines(target)
    if len(sources) != len(targets):
        (fewer, short), (more, long) = sorted([(len(sources), source), (len(targets), target)])
        raise InputError(
            f"{short} has {fewer:,} line{'' if fewer == 1 else 's'} and {long} {more:,}: line n of one must translate "
            "line n of the other"
        )
    return _paired(sources, targets)


def _lines(path: Path) -> list[str]:
    with reading(str(path), 1):
        file = path.open("rb")
    with file:
        return [line.strip() for _, line in read_lines(file, str(path))]


def _paired(sources: list[str], targets: list[str]) -> list[Pair]:
    return list(map(Pair, sources, targets))
