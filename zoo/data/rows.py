"""Data sets of rows and columns: Parquet, JSON and CSV files, local data set folders, Hugging Face's hub."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.data.gunzipped import opened
from zoo.data.json_records import refuse_null_rows
from zoo.data.splits import SPLIT_NAMES, split_called
from zoo.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

ROW_FORMATS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}
JSON_SUFFIXES = tuple(f"{suffix}{packed}" for suffix in (".json", ".jsonl", ".ndjson") for packed in ("", ".gz"))
HUB_NAME = re.compile(r"(?P<name>[\w-][\w.-]*(?:/[\w.-]+)?)(?::(?P<configuration>[\w.-]+))?")
HUB_TIMEOUT = 5.0  # seconds


def load_splits(source: str) -> "dict[str, Dataset]":
    """Load a data set of rows and columns: {split name: rows}.

    Args:
        source: a `.parquet`, `.jsonl`, `.json` or `.csv` file; a folder of such files, or one that
            `Dataset.save_to_disk` wrote; else a hub data set, `owner/name`, or `owner/name:configuration`
            where it has several.

    Raises:
        InputError: the files cannot be read as a data set, or the hub has no such set or cannot be reached.
    """
    path = Path(source).expanduser()
    if path.exists():
        _check_json(path)
    if path.is_file():
        return _load(source, ROW_FORMATS[path.suffix.lower()], data_files=str(path))
    if path.is_dir():
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            return _load_saved(path)
        _check_spelling(path)
        return _load(source, str(path))
    return _load_from_hub(source)


def column(source: str, rows: "Dataset", name: str) -> list[str]:
    """The texts of one column; rows without a value are left out.

    Raises:
        InputError: there is no such column, or it holds something else than text.
    """
    if name not in rows.column_names:
        there = ", ".join(rows.column_names)
        raise InputError(f"{source} has no column {name!r}: its columns are {there}; name one with --text_column")
    texts: list[str] = []
    with reading_rows(source):
        values = list(rows[name])
    for value in values:
        if isinstance(value, str):
            texts.append(value)
        elif value is not None:
            raise InputError(
                f"column {name!r} of {source} holds {type(value).__name__}, expected text: name another with "
                "--text_column"
            )
    return texts


@contextmanager
def reading_rows(source: str) -> Iterator[None]:
    """What goes wrong inside the `with`, where values of a data set are read, as an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # times outside of Python's range, unknown time zones, damage: any type there is
        reason = str(error)[:200] or type(error).__name__
        raise InputError(f"{source} cannot be read ({reason}): check its columns, or get it again") from error


def _check_json(path: Path) -> None:
    """Look for what no reader would refuse but end the process."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.name.lower().endswith(JSON_SUFFIXES) and file.is_file():
            with opened(file) as content:
                refuse_null_rows(content, str(file))


def _check_spelling(folder: Path) -> None:
    """Refuse what the `datasets` library would join to the training split, or leave out, for its upper case."""
    for file in sorted(folder.rglob("*")):
        names = (*file.relative_to(folder).parent.parts, file.stem)
        if file.suffix.lower() in ROW_FORMATS and any(
            split_called(name) in SPLIT_NAMES and not name.islower() for name in names
        ):
            raise InputError(
                f"{file} is called as a split is, but in upper case, which the `datasets` library does not know: give "
                "it a name in lower case"
            )


def _load(source: str, *arguments: str | None, **options: Any) -> "dict[str, Dataset]":
    from datasets import load_dataset

    try:
        return dict(load_dataset(*arguments, **options))
    except Exception as error:  # the formats' readers raise dozens of unrelated types
        # A failed conversion's own message says only that it failed; its cause says why.
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        advice = "check the file or folder"
        if "Config name is missing" in reason:
            advice = f"add one of them after a colon, as in {source}:NAME"
        raise InputError(f"{source} cannot be loaded as a data set ({reason}): {advice}") from error


def _load_saved(folder: Path) -> "dict[str, Dataset]":
    from datasets import DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{folder} cannot be loaded as a saved data set ({reason}): save it again") from error
    return dict(loaded) if isinstance(loaded, DatasetDict) else {"train": loaded}


def _load_from_hub(source: str) -> "dict[str, Dataset]":
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    match = HUB_NAME.fullmatch(source)
    if match is None:
        raise InputError(f"{source!r} is no file, no folder and no hub data set's name: {_LOCAL_WAY}")
    # load_dataset retries for half a minute where there is no network; one request finds out at once.
    try:
        # The hub's spelling has the owner: load_dataset would take a bare "text" or "csv" for a file format.
        name = HfApi().dataset_info(match["name"], timeout=HUB_TIMEOUT).id
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{source!r} is no file or folder here, and the hub has no such data set (or asks you to log "
            f"in): check the name, or {_LOCAL_WAY}"
        ) from error
    except Exception as error:  # which type says "no network" depends on the hub library's HTTP client
        with _offline(), suppress(InputError):
            if "/" in match["name"]:
                return _load(source, match["name"], match["configuration"])  # perhaps downloaded before
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{source!r} is no file or folder here, and the Hugging Face hub could not be reached "
            f"({reason}): {_LOCAL_WAY}"
        ) from error
    return _load(source, name, match["configuration"])


_LOCAL_WAY = "pass a local file or folder to --data"


@contextmanager
def _offline() -> Iterator[None]:
    """Keep `datasets` from the network, which it decides by a variable it read when it was imported."""
    import datasets.config

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before
