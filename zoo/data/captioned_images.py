"""Images with captions, to train, validate and test a captioner on."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zoo.data.caption_files import TEXT_SUFFIXES, captions_of, find_captions_file, read_captions
from zoo.data.image_folders import ImageFolder, MissingImages, split_folders
from zoo.data.image_rows import data_set_rows, data_set_splits, hold_out, is_data_set, read_splits
from zoo.data.records import RECORD_SUFFIXES
from zoo.data.splits import check_validation_fraction
from zoo.data.stored_images import CaptionData, CaptionedImages, StoredImage
from zoo.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset


def load_captioned_images(
    data: str,
    *,
    captions: str | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
    validation_data: str | None = None,
    test_data: str | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
) -> CaptionData:
    """Load images with captions. The images themselves are not read before they are needed.

    A source is, in this order:

    - `scenes` (built in, see `zoo.data.scenes`), which has its own splits;
    - a folder of Parquet files, train.parquet, validation.parquet and test.parquet or one alone, or one that
      `Dataset.save_to_disk` wrote; or a Parquet file;
    - a folder of images, with a file of captions (see `zoo.data.caption_files`) that is called captions.*, metadata.*
      or *.token.txt, or is given; or with folders train, validation and test of images, and one such file each, or
      one for all; or that file itself, beside the images;
    - a hub data set, `owner/name` or `owner/name:configuration`.

    Where the data has no validation split and there is no `validation_data`, a fraction of the training images is
    drawn; files that are equal, byte for byte, or named twice, go to the same side.

    Args:
        data: a source.
        captions: the file of captions of a folder of images.
        image_column: of a data set, the column of images, default "image" or the only one; of a file of captions, the
            column of file names, default "file_name" or "image" and others like them.
        caption_column: default "captions", "caption", "text", or all of caption_0, caption_1 and so on.
        validation_data: a source to validate on: its validation split, or all of it if it has only one split.
        test_data: a source to test on, instead of what splits the data has whose names begin with "test".
        validation_fraction: more than 0, at most 0.5.
        seed: of the draw, and of the scenes.

    Raises:
        InputError: a source is missing, empty or malformed; a column is missing; no image has captions; more than 1 %
            of the captions are of images that are not there; or `validation_fraction` is out of range.
    """
    check_validation_fraction(validation_fraction)
    if data == "scenes":
        given = (captions, image_column, caption_column, validation_data, test_data)
        if any(option is not None for option in given):
            raise InputError("scenes has captions and splits of its own: leave out the options of other data")
        from zoo.data.scene_data import caption_scenes

        return caption_scenes(seed)
    source = _Source(None if captions is None else Path(captions).expanduser(), image_column, caption_column)
    if captions is not None and (not Path(data).expanduser().is_dir() or is_data_set(Path(data).expanduser())):
        raise InputError(
            f"captions is {captions}, but {data} is no folder of images: leave it out, or give such a folder"
        )
    train, held_out = read_splits(source.splits, data, validation_data, test_data)
    notes = [*source.notes, *source.missing.notes()]
    if "validation" not in held_out:
        train, held_out["validation"] = hold_out(data, train, lambda row: set(), validation_fraction, seed)
    validation = _images(held_out.pop("validation"))
    return CaptionData(
        data, _images(train), validation, {name: _images(rows) for name, rows in held_out.items()}, notes
    )


class _Row(NamedTuple):
    """An image with captions; equal images have the same key, or paths with the same content."""

    image: StoredImage
    key: Hashable
    captions: list[str]


def _images(rows: list[_Row]) -> CaptionedImages:
    return CaptionedImages([row.image for row in rows], [row.captions for row in rows])


@dataclass(frozen=True)
class _Source:
    """How sources are read; `notes` and `missing` gather what a reader of the results should know."""

    captions: Path | None
    image_column: str | None
    caption_column: str | None
    notes: list[str] = field(default_factory=list)
    missing: MissingImages = field(default_factory=lambda: MissingImages("captions"))

    def splits(self, data: str) -> dict[str, Callable[[], list[_Row]]]:
        """{split: what reads it}."""
        if not data.strip():
            raise InputError("a data source is empty: expected scenes, a folder, a file or a hub data set")
        path = Path(data).expanduser()
        if path.is_dir() and not is_data_set(path):
            return self._of_folder(path)
        name = path.name.lower()
        if not path.is_dir() and name.endswith((*TEXT_SUFFIXES, *RECORD_SUFFIXES)):
            if not path.exists():
                raise InputError(f"{path}: no such file; give one that exists")
            if not name.endswith(".parquet"):
                return {"train": partial(self._of_files, path.parent, path.parent, path)}
        elif path.is_file():
            raise InputError(f"{path} is one file: expected a folder of images, a file of captions, or Parquet")
        splits = data_set_splits(data)
        places = {split: data if len(splits) == 1 else f"{data}, split {split}" for split in splits}
        return {split: partial(self._of_data_set, places[split], rows) for split, rows in splits.items()}

    def _of_folder(self, folder: Path) -> dict[str, Callable[[], list[_Row]]]:
        for_all = self.captions or find_captions_file(folder)
        splits: dict[str, Callable[[], list[_Row]]] = {}
        # Folders of images have no other meaning here, unlike those of labels.
        for split, part in (split_folders(folder, lambda part: True) or {"train": folder}).items():
            own = None if part == folder else find_captions_file(part)
            if own is None and for_all is None:
                ImageFolder(part)  # an empty folder needs something else
                raise InputError(
                    f"{part} has no file of captions: expected captions.txt, captions.csv, captions.json, "
                    "metadata.jsonl or the like in it; name one with --captions"
                )
            file = own or for_all
            assert file is not None
            splits[split] = partial(self._of_files, part if own is not None else folder, part, file)
        return splits

    def _of_files(self, folder: Path, part: Path, file: Path) -> list[_Row]:
        """The images in `part` of a folder; the file names them by their paths below the folder."""
        images = ImageFolder(folder)
        found: dict[Path, list[str]] = {}
        missing: dict[str, int] = {}
        count = 0
        for _, name, captions in read_captions(file, self.image_column, self.caption_column):
            count += len(captions)
            path = images.find(name)
            if path is None:
                missing[name] = missing.get(name, 0) + len(captions)
            elif path.is_relative_to(part):
                found.setdefault(path, []).extend(captions)
        if not found:
            such = f", such as {next(iter(missing))}," if missing else ""
            raise InputError(
                f"none of the images that {file} has captions of{such} is in {part}: check both, and that the file "
                "names the images as they are called there"
            )
        self.missing.add(file, folder, count, missing)
        shown = [path for path in images.images if path.is_relative_to(part)]
        rows = [_Row(StoredImage(str(path), path), path, captions) for path, captions in found.items()]
        return self._with_captions(str(part), rows, len({*shown, *found}))

    def _of_data_set(self, place: str, rows: "Dataset") -> list[_Row]:
        merged: dict[Hashable, _Row] = {}
        for row in data_set_rows(place, rows, self.image_column):
            captions = captions_of(row.record, self.caption_column)
            # Equal images that are called differently are two images, as in Flickr8k, which has some twice.
            merged.setdefault((row.name, row.key), _Row(row.image, row.key, [])).captions.extend(captions)
        return self._with_captions(place, merged.values(), len(merged))

    def _with_captions(self, place: str, rows: Iterable[_Row], images: int) -> list[_Row]:
        kept = [row for row in rows if any(row.captions)]
        if not kept:
            raise InputError(f"{place} has no image with a caption: expected images with one or more")
        if len(kept) < images:
            self.notes.append(f"{place}: {images - len(kept):,} of {images:,} images have no caption: left out")
        return [row._replace(captions=[caption for caption in row.captions if caption]) for row in kept]
