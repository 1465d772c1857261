"""Captions as the words that are learned and scored."""

import re
import unicodedata

_CLITICS = ("n't", "'s", "'m", "'d", "'re", "'ve", "'ll")


class _Kept(dict[int, int]):
    """For `str.translate`: a blank for all but letters, marks, digits, and the apostrophes and hyphens inside words."""

    def __missing__(self, code: int) -> int:
        kept = unicodedata.category(chr(code))[0] in "LMN"
        self[code] = code if kept else ord(" ")
        return self[code]


_KEPT = _Kept({ord("'"): ord("'"), ord("’"): ord("'"), ord("-"): ord("-"), ord("‐"): ord("-"), ord("‑"): ord("-")})


def plain_words(caption: str) -> str:
    """The words of a caption, in lower case and without punctuation, with one blank between them.

    Words are those of COCO's caption evaluation (Chen et al., "Microsoft COCO Captions", 2015), which are the Penn
    Treebank's, as Flickr8k's captions are written: "A man's T-shirt." is "a man 's t-shirt", "isn't" is "is n't". The
    hyphen and the apostrophe inside a word stay; every other mark, also one between digits, ends a word. (Karpathy's
    split, which many papers use, has "mans" and "tshirt" instead.)
    """
    return " ".join(
        word
        for token in re.sub(r"-{2,}|'{2,}", " ", caption.lower().translate(_KEPT)).split()
        for word in _words(token)
    )


def _words(token: str) -> list[str]:
    if token in _CLITICS:
        return [token]
    token = token.strip("'-")
    for clitic in _CLITICS:
        if token.endswith(clitic):
            return [*_words(token.removesuffix(clitic)), clitic]
    return [token] if token else []
