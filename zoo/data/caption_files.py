"""Files that give the captions of images by their names: Flickr8k's token format, COCO's JSON, rows with columns."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from zoo.data.image_folders import entries, file_name
from zoo.data.image_rows import choose_column
from zoo.data.json_records import MAX_ARRAY_BYTES, check_json_values
from zoo.data.lines import read_lines, reading
from zoo.data.records import RECORD_SUFFIXES, Record, read_records
from zoo.errors import InputError

CAPTION_COLUMNS = ("captions", "caption", "text", "sentences")
"""What the column of captions may be called; also caption_0, caption_1 and so on are found."""

TEXT_SUFFIXES = (".txt", ".token")

_CALLED = re.compile(
    r"((captions([._-].*)?|metadata)\.(txt|csv|tsv|jsonl|ndjson|json|parquet)(\.gz)?|.*\.token(\.txt)?)"
)
_TOKEN_LINE = re.compile(r"(?P<name>.+?)#\d+(\s+(?P<caption>.*))?")


class NamedCaptions(NamedTuple):
    """Captions of an image that is called `name`, and where they stand ("captions.csv, line 3")."""

    place: str
    name: str
    captions: list[str]


def find_captions_file(folder: Path) -> Path | None:
    """The file in a folder that is called as one of captions is: captions.txt, metadata.jsonl, Flickr8k.token.txt.

    Raises:
        InputError: there are several.
    """
    found = [path for path in entries(folder) if _CALLED.fullmatch(path.name.lower()) and path.is_file()]
    found = [
        path for path in found if ".lemma." not in path.name
    ]  # Flickr8k has its captions a second time, lemmatised
    if len(found) > 1:
        raise InputError(f"{folder} has {found[0].name} and {found[1].name}: name the file to use with --captions")
    return found[0] if found else None


def read_captions(
    path: Path, image_column: str | None = None, caption_column: str | None = None
) -> Iterator[NamedCaptions]:
    """The captions of a file, in its order; an image may come several times.

    - `.txt` and `.token`: lines `photo.jpg#0`, a tab, the caption (Flickr8k, Flickr30k), or CSV with a header;
    - `.json`: COCO's object of images and annotations, or what `read_records` reads;
    - all others that `read_records` reads: rows of a file name and a caption or, but for CSV and TSV, a list of them.

    Raises:
        InputError: there is no such file, it is malformed, or has no such column.
    """
    name = path.name.lower()
    if path.is_dir():
        raise InputError(f"{path} is a folder: expected a file of captions")
    if not path.exists():
        raise InputError(f"{path}: no such file; give one that exists")
    if not name.endswith((*TEXT_SUFFIXES, *RECORD_SUFFIXES)):
        endings = ", ".join((*TEXT_SUFFIXES, *RECORD_SUFFIXES))
        raise InputError(f"{path} has an unknown ending: expected a file of captions, ending in one of {endings}")
    if name.endswith(TEXT_SUFFIXES):
        yield from _read_text(path, image_column, caption_column)
    elif name.endswith(".json") and (coco := _coco_object(path)) is not None:
        yield from _read_coco(path, coco)
    else:
        for record in read_records(path):
            yield _of_record(record, image_column, caption_column)


def captions_of(record: Record, caption_column: str | None) -> list[str]:
    """The captions in a row, each with single blanks; those that are empty are left out.

    Raises:
        InputError: there is no such column, or it holds something else than text or a list of texts.
    """
    numbered = [name for name in record.values if re.fullmatch(r"captions?_?\d+", name)]
    if caption_column is None and numbered and not any(name in record.values for name in CAPTION_COLUMNS):
        values = [record.values[name] for name in numbered]
    else:
        name = choose_column(record.place, record.values, caption_column, CAPTION_COLUMNS, "--caption_column")
        value = record.values[name]
        values = value if isinstance(value, list) else [value]
    for value in values:
        if not isinstance(value, str | None):
            raise InputError(
                f"{record.place}: the caption is {type(value).__name__}, expected text or a list of texts: name "
                "another column with --caption_column"
            )
    captions = (" ".join((value or "").split()) for value in values)
    return [caption for caption in captions if caption]


def _of_record(record: Record, image_column: str | None, caption_column: str | None) -> NamedCaptions:
    return NamedCaptions(record.place, file_name(record, image_column), captions_of(record, caption_column))


def _read_text(path: Path, image_column: str | None, caption_column: str | None) -> Iterator[NamedCaptions]:
    name = str(path)
    header: list[str] = []
    tokens: bool | None = None
    with reading(name, 1):
        file = path.open("rb")
    with file:
        for number, line in read_lines(file, name):
            if not line.strip():
                continue
            place = f"{name}, line {number:,}"
            match = _TOKEN_LINE.fullmatch(line)
            tokens = match is not None if tokens is None else tokens
            if tokens:
                if match is None:
                    raise InputError(f"{place}: expected a file name, # and a number, a tab and a caption")
                yield NamedCaptions(place, match["name"].strip(), [" ".join((match["caption"] or "").split())])
                continue
            try:
                fields = next(csv.reader([line], strict=True))
            except csv.Error as error:
                raise InputError(f"{place}: malformed CSV ({error}): expected quotes around a whole field") from error
            if not header:
                header = [field.strip() for field in fields]
            elif len(fields) != len(header):
                raise InputError(
                    f"{place} has {len(fields)} fields and the header {len(header)}: expected as many in every row; "
                    "put quote marks around a field that holds a comma"
                )
            else:
                yield _of_record(Record(place, dict(zip(header, fields, strict=True))), image_column, caption_column)
    if tokens is None:
        raise InputError(f"{name} is empty: expected captions")


def _coco_object(path: Path) -> dict[str, Any] | None:
    """What the file holds, if it is one object with images and annotations; rows have messages of their own."""
    with reading(str(path), 1):
        if path.stat().st_size > MAX_ARRAY_BYTES:
            raise InputError(
                f"{path} has more than {MAX_ARRAY_BYTES:,} bytes: expected at most that many of COCO's JSON"
            )
        content = path.read_bytes()
    check_json_values(content, str(path))
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and {"images", "annotations"} <= value.keys() else None


def _read_coco(path: Path, coco: dict[str, Any]) -> Iterator[NamedCaptions]:
    names: dict[Any, str] = {}
    for kind in ("images", "annotations"):
        if not isinstance(coco[kind], list):
            raise InputError(f'{path}: "{kind}" is no list: expected COCO\'s captions')
        for number, item in enumerate(coco[kind], start=1):
            place = f"{path}, {kind}, object {number:,}"
            keys = ("id", "file_name") if kind == "images" else ("image_id", "caption")
            image, text = (item.get(key) if isinstance(item, dict) else None for key in keys)
            if not isinstance(image, int | str) or not isinstance(text, str):
                raise InputError(f"{place} has no {keys[0]!r} or no {keys[1]!r}: expected COCO's captions")
            if kind == "images" and not text.strip():
                raise InputError(f"{place}: the file name is empty: expected the name of an image")
            if kind == "images":
                names[image] = text.strip()
            elif image not in names:
                raise InputError(
                    f"{place} is of image {image}, which is not among the images: expected COCO's captions"
                )
            else:
                yield NamedCaptions(place, names[image], [" ".join(text.split())])
