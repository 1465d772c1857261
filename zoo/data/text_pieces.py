"""A long text in short pieces, cut where no token of any tokenizer of ours spans the cut."""

import re
from collections.abc import Iterable, Iterator

PIECE_CHARACTERS = 2048  # the library splits shorter texts faster; there is no more to gain below

# After a newline, or between a letter or digit and a blank: tokens begin with their blank, or have none.
CUT = re.compile(r"\n|(?<=[^\W_])(?= )")


def text_pieces(blocks: Iterable[str]) -> Iterator[str]:
    """Pieces which joined are the text that `blocks`, cut anywhere, are; each as short as PIECE_CHARACTERS allow.

    No more than a block and a piece are in memory. Only a text that has neither a newline nor a blank behind a letter
    for very long gives a piece of that length.
    """
    parts: list[str] = []
    length = 0
    for block in blocks:
        start = 0
        while found := CUT.search(block, start + max(0, PIECE_CHARACTERS - 1 - length)):
            yield valid_unicode("".join([*parts, block[start : found.end()]]))
            start, length = found.end(), 0
            parts.clear()
        parts.append(block[start:])
        length += len(parts[-1])
    if length:
        yield valid_unicode("".join(parts))


def text_groups(pieces: Iterable[str], characters: int) -> Iterator[list[str]]:
    """Pieces, in order, in groups of at least so many characters, but for the last."""
    group: list[str] = []
    length = 0
    for piece in pieces:
        group.append(piece)
        length += len(piece)
        if length >= characters:
            yield group
            group, length = [], 0
    if group:
        yield group


def valid_unicode(text: str) -> str:
    """The text with pairs of surrogates joined, and with U+FFFD for each that is alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
