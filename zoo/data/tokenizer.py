"""Text to token ids and back: characters, words or byte-level BPE, on top of Hugging Face `tokenizers`."""

import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from zoo.data.text_pieces import text_groups, text_pieces, valid_unicode
from zoo.data.tokenizer_file import MAX_BYTES, PARTS, read_tokenizer_file
from zoo.errors import InputError
from zoo.files import write_atomically

Level = Literal["char", "word", "bpe"]

UNKNOWN = "<unk>"
FOREIGN = "this tokenizer was not made by TextTokenizer: train one with TextTokenizer.train"
DEFAULT_BPE_SIZE = 8000
FILE_NAME = "tokenizer.json"
CHARACTERS_AT_ONCE = 1 << 20  # bounds the memory that the library's encodings take

# Oniguruma, which tokenizers uses, spells "dot matches newline" (?m), where Python has (?s).
CHARACTER = r"(?m)."
# As GPT-2 splits, but each punctuation mark, newline and further blank is a token of its own.
WORD = (
    r"'(?:[sdmt]|ll|ve|re)(?![\p{L}\p{M}\p{N}_])"
    r"|\n"
    r"| ?[\p{L}\p{M}\p{N}_]+"
    r"| ?[^\s\p{L}\p{M}\p{N}_]"
    r"|\s"
)
BLANKS = r"[^\S\n]+"


class TextTokenizer:
    """One tokenizer for all text models; the vocabulary and the level come back from `tokenizer.json` alone.

    Levels, and what `decode(encode(text))` gives:

    - `char`: a token a code point, ids in code point order. The text itself, where every character is known.
    - `word`: a token a word with the blank before it (" the"), a punctuation mark with the blank before it, a
      newline, or a further blank; ids by falling frequency. The text itself, where every word is known.
    - `word`, pretokenized (Penn Treebank, WikiText): a token a blank-separated string, and `\\n` at each line
      end. The words with one space between two and none round newlines. The string `<unk>` in the text is the
      unknown token.
    - `bpe`: byte-level BPE; a newline is never merged with anything. The text itself, whatever it holds.

    With `lowercase` a text is lowercased first, and comes back so.

    `char` and `word` have `<unk>` as id 0; `bpe` can spell everything and has no unknown token.

    A `str` with lone surrogates is not valid Unicode: pairs are joined, and what is left becomes U+FFFD.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Wrap a `tokenizers.Tokenizer` that `train` built; InputError for one of another structure."""
        self._tokenizer = tokenizer
        self.level, self.pretokenized = _recognise(tokenizer)
        self.lowercase = tokenizer.normalizer is not None
        self.vocab_size: int = tokenizer.get_vocab_size()
        self.unknown_id = None if self.level == "bpe" else self.token_to_id(UNKNOWN)
        # Byte-level BPE writes byte 10 as the printable letter U+010A.
        self.newline_id = self.token_to_id("\u010a" if self.level == "bpe" else "\n")

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        level: Level,
        vocab_size: int | None = None,
        min_frequency: int = 1,
        pretokenized: bool = False,
        lowercase: bool = False,
    ) -> "TextTokenizer":
        """Build the vocabulary of `texts`. The same texts give the same ids, on every run.

        Args:
            texts: the training texts, each a whole document or a long piece of one.
            level: `char`, `word` or `bpe`.
            vocab_size: the most tokens there may be, `<unk>` included. None keeps every character or word;
                for BPE it means 8,000.
            min_frequency: characters and words rarer than this become `<unk>`; for BPE, pairs rarer than this
                are not merged. At equal frequency the one with the smaller code points stays.
            pretokenized: (`word` only) words are separated by blanks already.
            lowercase: take upper case for lower case.

        Raises:
            InputError: `texts` hold no text, or an argument is out of its range.
        """
        if level not in get_args(Level):
            raise InputError(f"tokenizer level is {level!r}: expected 'char', 'word' or 'bpe'")
        if pretokenized and level != "word":
            raise InputError(f"pretokenized text was asked for with level {level!r}: use level 'word'")
        smallest = 256 if level == "bpe" else 2
        if vocab_size is not None and vocab_size < smallest:
            raise InputError(f"vocab_size is {vocab_size}: level {level!r} needs {smallest} or more")
        if min_frequency < 1:
            raise InputError(f"min_frequency is {min_frequency}: expected 1 or more")

        whole = [texts] if isinstance(texts, str) else texts
        pieces: Iterator[str] = itertools.chain.from_iterable(text_pieces([text]) for text in whole)
        first = next(pieces, None)
        if first is None:
            raise InputError("the texts to build a vocabulary from are empty: expected at least one character")
        pieces = itertools.chain([first], pieces)
        if lowercase:
            pieces = map(normalizers.Lowercase().normalize_str, pieces)

        if level == "char":
            vocabulary = _character_vocabulary(pieces, vocab_size, min_frequency)
            tokenizer = Tokenizer(models.WordLevel(vocabulary, UNKNOWN))
        elif level == "word":
            vocabulary = _word_vocabulary(pieces, vocab_size, min_frequency, pretokenized)
            tokenizer = Tokenizer(models.WordLevel(vocabulary, UNKNOWN))
        else:
            tokenizer = Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = _pre_tokenizer(level, False)
            trainer = trainers.BpeTrainer(
                vocab_size=vocab_size or DEFAULT_BPE_SIZE,
                min_frequency=min_frequency,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            )
            tokenizer.train_from_iterator(pieces, trainer)
        if lowercase:
            tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = _pre_tokenizer(level, pretokenized)
        tokenizer.decoder = _decoder(level, pretokenized)
        return cls(tokenizer)

    @property
    def never_generated(self) -> list[int]:
        """What a model may read, but must never write: the unknown token."""
        return [] if self.unknown_id is None else [self.unknown_id]

    def encode(self, text: str) -> list[int]:
        """The ids of a text; [] for ''."""
        return list(self._tokenizer.encode(valid_unicode(text), add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, as from `encode`, on all cores."""
        valid = [valid_unicode(text) for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(valid, add_special_tokens=False)]

    def encode_rows(self, texts: Sequence[str]) -> list[Tensor]:
        """The ids of each of many texts: N rows (T,) int32, as from `encode`, in little more memory than those take."""
        rows: list[Tensor] = []
        start = characters = 0
        for end, text in enumerate(texts, start=1):
            characters += len(text)
            if end == len(texts) or characters > CHARACTERS_AT_ONCE:
                rows += [torch.tensor(ids, dtype=torch.int32) for ids in self.encode_batch(texts[start:end])]
                start, characters = end, 0
        return rows

    def sentence_rows(self, texts: Sequence[str]) -> list[Tensor]:
        """The rows of `encode_rows`, each with an end token behind: `vocab_size`, one more than the vocabulary has."""
        return [F.pad(row, (0, 1), value=self.vocab_size) for row in self.encode_rows(texts)]

    def encode_long(self, text: str) -> Tensor:
        """The ids of a text of many MB: (N,) int32, as from `encode`, in bounded memory."""
        return torch.cat([torch.empty(0, dtype=torch.int32), *self.encode_blocks([text])])

    def encode_blocks(self, blocks: Iterable[str]) -> Iterator[Tensor]:
        """The ids of a text in blocks that are cut anywhere: rows of int32 which joined are those of `encode`.

        It takes all cores, and memory for a few MB of text.
        """
        encode = self._character_ids() if self.level == "char" else self._piece_ids
        for group in text_groups(text_pieces(blocks), CHARACTERS_AT_ONCE):
            yield encode(group)

    def pieces(self, text: str) -> list[str]:
        """The text cut where its tokens end: a piece for each of `encode(text)`, which joined are the text.

        Blanks between two tokens go to the second. Of a character that is several byte-level tokens the first has
        all of it.
        """
        text = valid_unicode(text)
        ends = [end for _, end in self._tokenizer.encode(text, add_special_tokens=False).offsets]
        if ends:
            ends[-1] = len(text)
        starts = [0, *itertools.accumulate(ends, max)]
        return [text[start:end] for start, end in zip(starts, ends, strict=False)]

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """The text of some ids, (N,) or any iterable of int. `<unk>` stays visible as `<unk>`."""
        numbers = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        return str(self._tokenizer.decode(numbers, skip_special_tokens=False))

    def token_to_id(self, token: str) -> int | None:
        """The id of a token, or None. BPE tokens are in byte-level spelling (' a' is 'Ġa')."""
        return self._tokenizer.token_to_id(token)

    def id_to_token(self, id: int) -> str | None:
        """The token of an id, or None. BPE tokens are in byte-level spelling (' a' is 'Ġa')."""
        return self._tokenizer.id_to_token(id)

    def save(self, folder: str | Path, name: str = FILE_NAME) -> None:
        """Write `tokenizer.json`, or a file of another name, into `folder`, which is made if it does not exist.

        Raises InputError where the vocabulary is larger than `load` reads.
        """
        content = self.to_json().encode()
        if len(content) > MAX_BYTES:
            raise InputError(
                f"a vocabulary of {self.vocab_size:,} tokens is larger than a tokenizer's file may be "
                f"({MAX_BYTES:,} bytes): ask for a smaller one (vocab_size, --tokenizer_size)"
            )
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_atomically(Path(folder) / name, content)

    def to_json(self) -> str:
        """All of it, as `save` writes it."""
        return str(self._tokenizer.to_str(pretty=True))

    @classmethod
    def load(cls, path: str | Path) -> "TextTokenizer":
        """Read back what `save` wrote, from the folder or from the file.

        Of the file's own parts none is built or run: it is known which ones there can be.

        Raises:
            InputError: the file is missing, truncated, or no tokenizer of this class.
        """
        file = Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise InputError(f"{file}: no such file; expected a {FILE_NAME} or a folder that has one")
        found = read_tokenizer_file(file)
        try:
            level, pretokenized = _level_of(found.kind, found.parts)
            _check_tokens(level, found.vocabulary)
            model: models.Model = models.WordLevel(found.vocabulary, UNKNOWN)
            if level == "bpe":
                try:
                    model = models.BPE(found.vocabulary, found.merges)
                except Exception as error:  # the library has no narrower type for merges that make no token
                    raise InputError(f"its merges do not fit its tokens ({error}): train it anew") from error
            tokenizer = Tokenizer(model)
            tokenizer.pre_tokenizer = _pre_tokenizer(level, pretokenized)
            tokenizer.decoder = _decoder(level, pretokenized)
            if found.parts["normalizer"] is not None:
                tokenizer.normalizer = normalizers.Lowercase()
            return cls(tokenizer)
        except InputError as error:
            raise InputError(f"{file}: {error}") from None

    def _piece_ids(self, pieces: list[str]) -> Tensor:
        # The library encodes in threads of its own; what is left for this one is 2 % of the work.
        encodings = self._tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
        return torch.from_numpy(np.concatenate([np.array(encoding.ids, np.int32) for encoding in encodings]))

    def _character_ids(self) -> Callable[[list[str]], Tensor]:
        # The library makes an object of every character; a table over all code points is 100 times as fast.
        table = torch.zeros(sys.maxunicode + 1, dtype=torch.int32)  # 0 is <unk>
        for token, id in self._tokenizer.get_vocab().items():
            if token != UNKNOWN:
                table[ord(token)] = id
        lower = normalizers.Lowercase().normalize_str if self.lowercase else str
        return lambda pieces: table[_code_points(lower("".join(pieces)))]


def _pre_tokenizer(level: Level, pretokenized: bool) -> pre_tokenizers.PreTokenizer:
    if level == "char":
        return pre_tokenizers.Split(Regex(CHARACTER), "isolated")
    if level == "word" and not pretokenized:
        return pre_tokenizers.Split(Regex(WORD), "isolated")
    lines = pre_tokenizers.Split("\n", "isolated")
    if level == "word":
        return pre_tokenizers.Sequence([lines, pre_tokenizers.Split(Regex(BLANKS), "removed")])
    return pre_tokenizers.Sequence([lines, pre_tokenizers.ByteLevel(add_prefix_space=False)])


def _decoder(level: Level, pretokenized: bool) -> decoders.Decoder:
    if level == "bpe":
        return decoders.ByteLevel()
    if not pretokenized:
        return decoders.Fuse()
    return decoders.Sequence(
        [
            decoders.Replace(Regex("^"), " "),
            decoders.Fuse(),
            decoders.Replace(Regex(" ?\n ?"), "\n"),
            decoders.Strip(" ", 1, 0),
        ]
    )


def _recognise(tokenizer: Tokenizer) -> tuple[Level, bool]:
    """The level whose parts `tokenizer` has, and whether it is for pretokenized text."""
    parts = {name: getattr(tokenizer, name) for name in PARTS}
    found = _level_of(type(tokenizer.model).__name__, {name: _as_json(part) for name, part in parts.items()})
    if found[0] != "bpe" and tokenizer.token_to_id(UNKNOWN) != 0:
        raise InputError(FOREIGN)
    return found


def _level_of(model: str, parts: dict[str, Any]) -> tuple[Level, bool]:
    """The level that has such a model and such parts, as JSON, and whether it is for pretokenized text."""
    structures: tuple[tuple[Level, bool], ...] = (
        ("char", False),
        ("word", False),
        ("word", True),
        ("bpe", False),
    )
    for level, pretokenized in structures:
        wanted = {
            "pre_tokenizer": _as_json(_pre_tokenizer(level, pretokenized)),
            "decoder": _as_json(_decoder(level, pretokenized)),
        }
        same_model = model == ("BPE" if level == "bpe" else "WordLevel")
        same_case = parts["normalizer"] in (None, _as_json(normalizers.Lowercase()))
        if same_model and same_case and all(parts[name] == part for name, part in wanted.items()):
            return level, pretokenized
    raise InputError(FOREIGN)


def _as_json(part: Any) -> Any:
    return None if part is None else json.loads(part.__getstate__())


def _check_tokens(level: Level, vocabulary: dict[str, int]) -> None:
    """Raise InputError unless a tokenizer of this level can have these tokens."""
    if level == "bpe":
        there = all(byte in vocabulary for byte in pre_tokenizers.ByteLevel.alphabet())
    else:
        there = vocabulary.get(UNKNOWN) == 0
    if not there or (level == "char" and any(len(token) != 1 for token in vocabulary if token != UNKNOWN)):
        raise InputError(FOREIGN)


def _character_vocabulary(pieces: Iterable[str], vocab_size: int | None, min_frequency: int) -> dict[str, int]:
    counts = torch.zeros(sys.maxunicode + 1, dtype=torch.int64)
    for group in text_groups(pieces, CHARACTERS_AT_ONCE):
        found = torch.bincount(_code_points("".join(group)))
        counts[: len(found)] += found
    seen = counts.nonzero().squeeze(1)
    counted = zip(map(chr, seen.tolist()), counts[seen].tolist(), strict=True)
    ranked = sorted((-count, character) for character, count in counted if count >= min_frequency)
    kept = sorted(character for _, character in ranked[: None if vocab_size is None else vocab_size - 1])
    return {token: id for id, token in enumerate([UNKNOWN, *kept])}


def _word_vocabulary(
    pieces: Iterable[str], vocab_size: int | None, min_frequency: int, pretokenized: bool
) -> dict[str, int]:
    # Counted by the library's trainer, but in a tokenizer of its own: the trainer would make <unk> an "added"
    # token, which is cut out of any text before the pre-tokenizer sees it.
    counter = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    counter.pre_tokenizer = _pre_tokenizer("word", pretokenized)
    trainer = trainers.WordLevelTrainer(
        vocab_size=sys.maxsize, min_frequency=min_frequency, show_progress=False, special_tokens=[]
    )
    counter.train_from_iterator(pieces, trainer)
    ranking = counter.get_vocab()  # ids by falling frequency, then by code points
    ranked = sorted((word for word in ranking if word != UNKNOWN), key=ranking.__getitem__)
    kept = ranked[: None if vocab_size is None else vocab_size - 1]
    return {token: id for id, token in enumerate([UNKNOWN, *kept])}


def _code_points(text: str) -> Tensor:
    order = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"
    return torch.frombuffer(bytearray(text.encode(order)), dtype=torch.int32)
