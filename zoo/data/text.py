"""Running text for language models: built in, local files and folders, or a hub data set."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.data.long_text import FileText, LongText
from zoo.data.python_docs import python_docs
from zoo.data.rows import HUB_NAME, ROW_FORMATS, column, load_splits
from zoo.data.splits import by_split, check_validation_fraction
from zoo.data.text_files import TEXT_SUFFIXES, normalise, read_text_file, text_files_below
from zoo.errors import InputError

Part = str | FileText


@dataclass(frozen=True)
class TextCorpus:
    """Text to train on and text to validate on; `name` is what the user called it."""

    name: str
    train: LongText
    validation: LongText


def load_text(
    data: str | Sequence[str],
    text_column: str = "text",
    validation_data: str | Sequence[str] | None = None,
    validation_fraction: float = 0.1,
) -> TextCorpus:
    """Load running text from one or more sources.

    A source is, in this order: `python_docs` (built in); a file or folder that exists; a hub data set,
    `owner/name` or `owner/name:configuration`. A folder gives every text file below it (.txt, .md, ...), or,
    where it has none besides a README, its rows. Files ending in .parquet, .jsonl, .json or .csv are rows.

    What is held out for validation, unless `validation_data` says:

    - `python_docs`: whole topics, see `zoo.data.python_docs`;
    - text files: the last `validation_fraction` of each, cut at exactly int((1 - fraction) * characters);
    - rows: the split `validation`, else `test`, else the last fraction of the rows.

    Files and rows are joined with a newline where one does not end in one. The text of files is not kept in memory;
    they must stay as they are while it is in use. Rows are.

    Args:
        data: a source or several.
        text_column: the column of rows that has the text.
        validation_data: a source or several to validate on; then all text (the train split, for rows) of
            `data` is trained on. Rows give their `validation` or `test` split, or all of them.
        validation_fraction: more than 0, at most 0.5.

    Raises:
        InputError: a source is missing, empty, binary, not UTF-8 or just being changed; a set has no such column or
            the hub no such set; or `validation_fraction` is out of range.
    """
    check_validation_fraction(validation_fraction)
    fraction = validation_fraction if validation_data is None else None
    read = [_read_source(source, text_column, fraction) for source in _sources(data)]
    train = [part for parts, _ in read for part in parts]
    if validation_data is None:
        validation = [part for _, parts in read for part in parts]
    else:
        read = [_read_source(source, text_column, None) for source in _sources(validation_data)]
        validation = [part for parts, held_out in read for part in held_out or parts]
    corpus = TextCorpus("+".join(_sources(data)), LongText(train), LongText(validation))
    for split, text in (("training", corpus.train), ("validation", corpus.validation)):
        if text.blank:
            raise InputError(f"{corpus.name} leaves no {split} text: give more text")
    return corpus


def _sources(data: str | Sequence[str]) -> list[str]:
    sources = [data] if isinstance(data, str) else list(data)
    if not sources or not all(sources):
        raise InputError("a data source is empty: expected python_docs, a file, a folder or a hub data set")
    return sources


def _read_source(source: str, text_column: str, fraction: float | None) -> tuple[list[Part], list[Part]]:
    """Parts to train on and, if not empty, to validate on, of one source.

    With no fraction, only a set's own validation split is held out.
    """
    if source == "python_docs":
        return (list(python_docs()), []) if fraction is None else _as_parts(*python_docs(fraction))
    path = Path(source).expanduser()
    if path.is_dir():
        files = text_files_below(path)
        if _is_folder_of_rows(path, files):
            return _as_parts(*_read_rows(source, text_column, fraction))
        if not files:
            raise InputError(
                f"{source} has no text file: expected files ending in {', '.join(TEXT_SUFFIXES)} (or "
                f"{', '.join(ROW_FORMATS)}) below it"
            )
        return _read_files(source, files, fraction)
    if path.exists():
        if path.suffix.lower() in ROW_FORMATS:
            return _as_parts(*_read_rows(source, text_column, fraction))
        return _read_files(source, [path], fraction)
    if _looks_like_a_path(source):
        raise InputError(f"{source}: no such file or folder; give one that exists, python_docs or a hub data set")
    return _as_parts(*_read_rows(source, text_column, fraction))


def _as_parts(train: str, validation: str) -> tuple[list[Part], list[Part]]:
    return [train], [validation] if validation else []


def _is_folder_of_rows(folder: Path, text_files: list[Path]) -> bool:
    # A data set's folder has a README as its card, which is not its text.
    if any(file.stem.lower() != "readme" for file in text_files):
        return False
    return any(file.suffix.lower() in {*ROW_FORMATS, ".arrow"} for file in folder.rglob("*"))


def _looks_like_a_path(source: str) -> bool:
    return (
        source.lower().endswith((*TEXT_SUFFIXES, *ROW_FORMATS))
        or source.startswith((".", "~"))
        or (os.sep in source and HUB_NAME.fullmatch(source) is None)
    )


def _read_files(source: str, files: list[Path], fraction: float | None) -> tuple[list[Part], list[Part]]:
    texts = [text for text in map(_open_text, files) if text is not None]
    if not texts:
        raise InputError(f"{source} is empty: expected text")
    cuts = [_place_of_cut(text, fraction) for text in texts]
    held_out = [text[cut:] for text, cut in zip(texts, cuts, strict=True)]
    return [text[:cut] for text, cut in zip(texts, cuts, strict=True)], [text for text in held_out if text]


def _open_text(path: Path) -> Part | None:
    """The text of a file, or None if it has nothing but blanks."""
    if path.is_file():
        return FileText.whole(path)
    text = read_text_file(path)  # a pipe, which can be read only once
    return text if text.strip() else None


def _read_rows(source: str, text_column: str, fraction: float | None) -> tuple[str, str]:
    splits = by_split(source, load_splits(source))
    train_split = "train" if "train" in splits else next(iter(splits), None)
    if train_split is None or (train_split != "train" and len(splits) > 1):
        raise InputError(f"{source} has the splits {', '.join(splits) or '(none)'}: expected one named train")
    texts = [normalise(text) for text in column(source, splits[train_split], text_column)]
    if not any(text.strip() for text in texts):
        raise InputError(f"column {text_column!r} of {source} is empty: expected text")
    for split in ("validation", "test"):
        if split in splits and split != train_split:
            held_out = [normalise(text) for text in column(source, splits[split], text_column)]
            return _join(texts), _join(held_out)
    if fraction is None:
        return _join(texts), ""
    if len(texts) == 1:
        cut = _place_of_cut(texts[0], fraction)
        return texts[0][:cut], texts[0][cut:]
    cut = min(int((1 - fraction) * len(texts)), len(texts) - 1)
    return _join(texts[:cut]), _join(texts[cut:])


def _place_of_cut(text: Part, fraction: float | None) -> int:
    return len(text) if fraction is None else int((1 - fraction) * len(text))


def _join(texts: list[str]) -> str:
    lines = [text if text.endswith("\n") else text + "\n" for text in texts[:-1]]
    return "".join(lines + texts[-1:])
