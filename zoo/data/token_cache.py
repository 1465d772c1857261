"""The vocabulary and the ids of a long text: made once, kept on the disk, and found again by what the text is.

N tokens.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import tokenizers
import torch
from torch import Tensor
from tqdm import tqdm

from zoo.data.cache_folder import mapped, written
from zoo.data.long_text import LongText
from zoo.data.text_pieces import text_pieces
from zoo.data.tokenizer import UNKNOWN, Level, TextTokenizer
from zoo.errors import InputError

IN_MEMORY = 1 << 24  # characters; a longer text's ids are on the disk
DTYPES = (torch.uint8, torch.uint16, torch.int32)
USUAL_MIN_FREQUENCY = 2  # of words


@dataclass(frozen=True)
class Tokens:
    """The ids of a text.

    Attributes:
        ids: (N,) of some integer type, in memory or memory-mapped.
        any_unknown: whether any of them is the tokenizer's unknown token.
        fingerprint: tells them from others.
    """

    ids: Tensor
    any_unknown: bool
    fingerprint: str


def tokenize(text: LongText, tokenizer: TextTokenizer, folder: Path) -> Tokens:
    """The ids of a text, on all cores.

    Of more than IN_MEMORY characters they are memory-mapped: from a file in `folder` that is found again for the same
    text and tokenizer, wherever the text lies, and made anew if a byte of it is not what was written.

    Raises:
        InputError: the text cannot be read, or the file not be written.
    """
    if text.characters <= IN_MEMORY:
        ids = torch.cat([torch.empty(0, dtype=torch.int32), *tokenizer.encode_blocks(text.blocks())])
        # Of 64 bits each, for the sake of runs that are to be resumed.
        return Tokens(ids, _any_unknown(ids, tokenizer), hashlib.sha256(ids.long().numpy().tobytes()).hexdigest())
    file = folder / f"tokens-{_key(text.digest, tokenizer.to_json())}.bin"
    dtype = next(kind for kind in DTYPES if tokenizer.vocab_size <= torch.iinfo(kind).max)
    any_unknown, fingerprint = _found(file) or _write(file, dtype, text, tokenizer)
    return Tokens(mapped(file, dtype), any_unknown, fingerprint)


def cached_tokenizer(
    text: LongText,
    folder: Path,
    level: Level,
    vocab_size: int | None = None,
    pretokenized: bool = False,
    lowercase: bool = False,
    sample: int = 50_000_000,
    min_frequency: int | None = None,
) -> TextTokenizer:
    """A tokenizer for a text; that of one with more than IN_MEMORY characters is kept in `folder` and found again.

    Args:
        text: what its vocabulary is of.
        folder: where it is kept.
        level, vocab_size, pretokenized, lowercase: see `TextTokenizer.train`.
        sample: the most characters, spread evenly, that words or byte pairs are counted in. Single characters, which
            is quick, always are in all of the text.
        min_frequency: see `TextTokenizer.train`. None is 2 for words, so that there are unknown ones to learn from; 1
            for those of pretokenized text that has such ones already, for characters and for byte pairs.

    Raises:
        InputError: an argument is out of its range, the text cannot be read, or the file not be written.
    """
    key = _key(text.digest, level, vocab_size, pretokenized, lowercase, sample, min_frequency, tokenizers.__version__)
    file = folder / f"tokenizer-{key}.json"
    long = text.characters > IN_MEMORY
    if long:
        with suppress(InputError):
            return TextTokenizer.load(file)
    if min_frequency is None:
        has_unknown = pretokenized and _unknown_words(text.sample(sample), lowercase) >= USUAL_MIN_FREQUENCY
        min_frequency = USUAL_MIN_FREQUENCY if level == "word" and not has_unknown else 1
    tokenizer = TextTokenizer.train(
        text_pieces(text.blocks()) if level == "char" else text.sample(sample),
        level,
        vocab_size,
        min_frequency,
        pretokenized=pretokenized,
        lowercase=lowercase,
    )
    if long:
        with written(file, "the tokenizer") as output:
            output.write(tokenizer.to_json().encode())
    return tokenizer


def _unknown_words(pieces: Iterator[str], lowercase: bool) -> int:
    """How many words of pretokenized text somebody has made unknown before."""
    written = (UNKNOWN, UNKNOWN.upper()) if lowercase else (UNKNOWN,)
    return sum(piece.split().count(word) for piece in pieces for word in written)


def _found(file: Path) -> tuple[bool, str] | None:
    """What `_write` said of a file, if that is still what it wrote."""
    try:
        said = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        with file.open("rb") as content:
            whole = hashlib.file_digest(content, "sha256").hexdigest() == said["fingerprint"]
        return (said["any_unknown"], said["fingerprint"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, dtype: torch.dtype, text: LongText, tokenizer: TextTokenizer) -> tuple[bool, str]:
    """Write a text's ids; whether any is unknown, and their fingerprint."""
    digest, any_unknown = hashlib.sha256(), False
    with written(file, "tokens") as output:
        for ids in tokenizer.encode_blocks(_shown(text)):
            any_unknown = any_unknown or _any_unknown(ids, tokenizer)
            content = ids.to(dtype).numpy().tobytes()
            digest.update(content)
            output.write(content)
        # Before the ids, which are whole once they have their name.
        with written(file.with_suffix(".json"), "tokens") as description:
            said = {"any_unknown": any_unknown, "fingerprint": digest.hexdigest()}
            description.write(json.dumps(said).encode())
    return any_unknown, digest.hexdigest()


def _shown(text: LongText) -> Iterator[str]:
    with tqdm(total=text.characters, desc="tokenizing", unit="", unit_scale=True, disable=None, leave=False) as bar:
        for block in text.blocks():
            yield block
            bar.update(len(block))


def _any_unknown(ids: Tensor, tokenizer: TextTokenizer) -> bool:
    return tokenizer.unknown_id is not None and bool((ids == tokenizer.unknown_id).any())


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
