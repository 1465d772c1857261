"""Local text files: which ones a folder has, and reading one with errors a person can act on."""

import codecs
import os
from pathlib import Path

from zoo.errors import InputError

TEXT_SUFFIXES = (".txt", ".text", ".md", ".rst", ".tex", ".tokens", ".raw")


def text_files_below(folder: Path) -> list[Path]:
    """Every text file below `folder`, by its suffix, in sorted order; hidden ones are left out."""
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name) for name in files if name.lower().endswith(TEXT_SUFFIXES) and not name.startswith(".")
        ]
    return sorted(found)


def read_text_file(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark and with `\\n` for `\\r\\n`.

    Raises:
        InputError: the file cannot be read, is binary (has NUL bytes), or is not UTF-8. An empty file is ''.
    """
    if path.is_char_device() or path.is_block_device():  # /dev/zero has no end
        raise InputError(f"{path} is a device: expected a text file in UTF-8")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): expected a text file in UTF-8") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{path} is UTF-16, expected UTF-8: convert it with {_iconv('UTF-16', path)}")
    nul = content.find(b"\0")
    if nul >= 0:
        raise InputError(f"{path} is a binary file (NUL byte at offset {nul:,}), expected UTF-8 text: give a text file")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 (byte 0x{content[error.start]:02x} at offset {error.start:,}): convert it, "
            f"for instance with {_iconv('LATIN1', path)}"
        ) from error
    return normalise(text)


def normalise(text: str) -> str:
    """Without a byte order mark at the start, and with `\\n` for `\\r\\n`."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def _iconv(encoding: str, path: Path) -> str:
    return f"`iconv -f {encoding} -t UTF-8 {path.name} > utf8.txt`"
