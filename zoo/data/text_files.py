"""Local text files: which ones a folder has, and reading them with errors a person can act on."""

import codecs
import os
from collections.abc import Iterator
from pathlib import Path

from zoo.errors import InputError

TEXT_SUFFIXES = (".txt", ".text", ".md", ".rst", ".tex", ".tokens", ".raw")
BLOCK_BYTES = 1 << 20


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
    """The whole text of a file, as `read_blocks` reads it; that of an empty file is ''.

    Raises:
        InputError: see `read_blocks`.
    """
    return "".join(read_blocks(path))


def read_blocks(path: Path) -> Iterator[str]:
    """The text of a UTF-8 file, without a byte order mark and with `\\n` for `\\r\\n`, in blocks cut anywhere.

    Raises:
        InputError: the file cannot be read, is binary (has NUL bytes), or is not UTF-8.
    """
    if path.is_char_device() or path.is_block_device():  # /dev/zero has no end
        raise InputError(f"{path} is a device: expected a text file in UTF-8")
    decoder = codecs.getincrementaldecoder("utf-8")()
    held = ""  # a carriage return whose newline may be in the next block
    offset, at_start = 0, True
    for content in _read_bytes(path):
        if offset == 0 and content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(f"{path} is UTF-16, expected UTF-8: convert it with {_iconv('UTF-16', path)}")
        nul = content.find(b"\0")
        if nul >= 0:
            raise InputError(
                f"{path} is a binary file (NUL byte at offset {offset + nul:,}), expected UTF-8 text: give a text file"
            )
        undecoded, _ = decoder.getstate()
        try:
            text = held + decoder.decode(content, final=not content)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path} is not UTF-8 (byte 0x{error.object[error.start]:02x} at offset "
                f"{offset - len(undecoded) + error.start:,}): convert it, for instance with {_iconv('LATIN1', path)}"
            ) from error
        offset += len(content)
        if at_start and text:
            text, at_start = text.removeprefix("\ufeff"), False
        held = "\r" if content and text.endswith("\r") else ""
        yield text.removesuffix(held).replace("\r\n", "\n")


def _read_bytes(path: Path) -> Iterator[bytes]:
    """The file's bytes; at its end b'' once."""
    try:
        with path.open("rb") as file:
            while content := file.read(BLOCK_BYTES):
                yield content
            yield b""
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): expected a text file in UTF-8") from error


def normalise(text: str) -> str:
    """Without a byte order mark at the start, and with `\\n` for `\\r\\n`."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def _iconv(encoding: str, path: Path) -> str:
    return f"`iconv -f {encoding} -t UTF-8 {path.name} > utf8.txt`"
