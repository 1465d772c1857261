"""Cutting a text that is too long for a model into parts, where that does least harm."""

import re
from collections.abc import Sequence
from itertools import accumulate

CLOSING = r"[\"'»”’)\]]*$"

# After the end of a sentence, else of a clause, else of a word: what stands before the cut, and whether a blank must
# follow it (in 3.14 and 1,000 none does; Chinese and Japanese write none).
CUTS = (
    (re.compile(rf"[.!?…]{CLOSING}"), True),
    (re.compile(r"[。！？\n]$"), False),
    (re.compile(rf"[,;:–—]{CLOSING}"), True),
    (re.compile(r"[，、；：]$"), False),
    (re.compile(r"\S$"), True),
)
CONTEXT = 8  # characters before a cut that are looked at


def cut_text(pieces: Sequence[str], longest: int) -> list[str]:
    """The text that `pieces` are, joined, in as few parts of at most `longest` pieces as the best places to cut allow.

    A part ends where a sentence does, else a clause, else a word, if one does in its second half. Parts have no blanks
    around them, and none is empty.

    Raises:
        ValueError: `longest` is below 1.
    """
    if longest < 1:
        raise ValueError(f"longest is {longest}, but must be at least 1")
    text = "".join(pieces)
    starts = [0, *accumulate(map(len, pieces))]
    parts, begin = [], 0
    while begin < len(pieces):
        end = begin + longest
        if end < len(pieces):
            end = _best_cut(text, starts, range(end, begin + max(0, longest // 2 - 1), -1))
        parts.append(text[starts[begin] : starts[min(end, len(pieces))]].strip())
        begin = end
    return [part for part in parts if part]


def _best_cut(text: str, starts: Sequence[int], places: range) -> int:
    """The first of the places that is the best to cut at; the first of all if none is good."""
    for before, blank in CUTS:
        for place in places:
            at = starts[place]
            if before.search(text[max(0, at - CONTEXT) : at]) and (not blank or text[at : at + 1].isspace()):
                return place
    return places[0]
