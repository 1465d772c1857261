"""tokenizer.json as plain values, checked one by one: a stranger's file decides on tokens, and on nothing else.

The library would build whatever parts a file names, and compile whatever patterns are in it.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from zoo.errors import InputError

MAX_BYTES = 2**26
"""A longer file is refused; it has room for some two million words."""

# What the library writes of a model beside its tokens: these options have no other value in files of ours.
OPTIONS: dict[str, dict[str, Any]] = {
    "WordLevel": {"unk_token": "<unk>"},
    "BPE": {
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "merges": None,
    },
}
PARTS = ("normalizer", "pre_tokenizer", "decoder")


class TokenizerFile(NamedTuple):
    """What a file has: the `kind` of its model, the id of each token, BPE's merges, and its parts, as JSON."""

    kind: str
    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]
    parts: dict[str, Any]


def read_tokenizer_file(file: Path) -> TokenizerFile:
    """Read a tokenizer.json.

    Raises:
        InputError: it is missing, too long, no JSON, or has other things in it than a tokenizer of ours.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{file} has more than {MAX_BYTES:,} bytes: expected a vocabulary of fewer tokens")
        found = json.loads(content)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): it must be a file that you may read") from error
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, brackets a thousand deep
        raise _no_tokenizer(file, str(error)) from error
    model = found.get("model") if isinstance(found, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        raise _no_tokenizer(file, "it has no vocabulary")
    kind, vocabulary = model.get("type"), model["vocab"]
    if not isinstance(kind, str) or kind not in OPTIONS:
        raise _foreign(file, f"its model is {str(kind)[:30]!r}")
    for name, value in found.items():
        if name not in (*PARTS, "model", "version") and value:
            raise _foreign(file, f"it has {name[:30]!r}")
    for name, value in model.items():
        if name not in ("type", "vocab", "merges") and OPTIONS[kind].get(name, "") != value:
            raise _foreign(file, f"its model has {name[:30]!r}")
    _check_vocabulary(file, vocabulary)
    return TokenizerFile(
        kind, vocabulary, _merges(file, model.get("merges")), {part: found.get(part) for part in PARTS}
    )


def _check_vocabulary(file: Path, vocabulary: dict[str, Any]) -> None:
    # `True` is 1 to Python.
    if not all(type(id) is int for id in vocabulary.values()):
        raise _foreign(file, "the number of a token is none")
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise _foreign(file, f"its {len(vocabulary):,} tokens are not numbered from 0 on")
    try:
        "".join(vocabulary).encode()
    except UnicodeEncodeError:
        raise _foreign(file, "a token has half a character (a lone surrogate)") from None


def _merges(file: Path, merges: Any) -> list[tuple[str, str]]:
    pairs = merges or []
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in pairs
    ):
        raise _foreign(file, "its merges are no pairs of tokens")
    return [(left, right) for left, right in pairs]


def _no_tokenizer(file: Path, reason: str) -> InputError:
    return InputError(f"{file} is truncated or no tokenizer ({reason[:200]}): copy it again, or train anew")


def _foreign(file: Path, reason: str) -> InputError:
    return InputError(
        f"{file}: this tokenizer was not made by TextTokenizer ({reason}): train one with TextTokenizer.train"
    )
