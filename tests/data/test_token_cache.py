"""Ids on the disk: those that memory would hold, found again, and made anew after any damage."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.data import ContiguousWindows, LongText, TextTokenizer, cached_tokenizer, load_text, token_cache, tokenize
from zoo.data.tokenizer import Level
from zoo.errors import InputError

TEXT = "".join(f"{n} green bottles, hanging on the wall; {n * n} more.\n" for n in range(40))
LEVELS: list[Level] = ["char", "word", "bpe"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a cache" / "of tokens"


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "IN_MEMORY", 0)


@pytest.fixture
def not_again(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """After `not_again()` nothing may be tokenized, and no vocabulary built."""

    def forbid() -> None:
        def forbidden(*_: object, **__: object) -> None:
            raise AssertionError("it should have been found")

        monkeypatch.setattr(TextTokenizer, "encode_blocks", forbidden)
        monkeypatch.setattr(TextTokenizer, "train", forbidden)

    return forbid


def trained(level: Level) -> TextTokenizer:
    return TextTokenizer.train([TEXT], level, 300 if level == "bpe" else None)


def suffixes(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir())


TOKENIZERS = {level: trained(level) for level in LEVELS}


texts = st.text(st.sampled_from("0123 gren\nbottles,é中"), min_size=30, max_size=300)


@given(texts, st.integers(1, 4), st.integers(1, 9))
@pytest.mark.parametrize("level", LEVELS)
def test_windows_from_the_map_are_those_from_memory(
    tmp_path_factory: pytest.TempPathFactory, level: Level, text: str, batch_size: int, window: int
) -> None:
    long_text = LongText([text[:20], text[20:]])
    tokenizer = TOKENIZERS[level]
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        in_memory = tokenize(long_text, tokenizer, cache)
        assert not list(cache.iterdir())
        patch.setattr(token_cache, "IN_MEMORY", 0)
        on_disk = tokenize(long_text, tokenizer, cache)
    assert suffixes(cache) == [".bin", ".json"]
    assert in_memory.ids.tolist() == on_disk.ids.tolist() == tokenizer.encode(long_text.read())
    assert in_memory.any_unknown == on_disk.any_unknown == (tokenizer.unknown_id in in_memory.ids.tolist())
    if len(in_memory.ids) <= window:
        return
    one, two = (ContiguousWindows(tokens.ids, batch_size, window, seed=1) for tokens in (in_memory, on_disk))
    for k in range(one.num_batches(2)):
        for ours, theirs in zip(one.batch(2, k), two.batch(2, k), strict=True):
            assert torch.equal(torch.as_tensor(ours), torch.as_tensor(theirs))


@pytest.mark.parametrize(("kinds", "dtype"), [(200, torch.uint8), (300, torch.uint16), (70_000, torch.int32)])
@pytest.mark.usefixtures("on_disk")
def test_ids_take_as_few_bytes_as_the_vocabulary_allows(folder: Path, kinds: int, dtype: torch.dtype) -> None:
    text = LongText(["".join(map(chr, range(0x10000, 0x10000 + kinds)))])
    tokens = tokenize(text, TextTokenizer.train([text.read()], "char"), folder)
    assert tokens.ids.dtype == dtype
    assert tokens.ids.tolist() == list(range(1, kinds + 1))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.usefixtures("on_disk")
def test_a_second_run_finds_them(folder: Path, level: Level, not_again: Callable[[], None]) -> None:
    def run() -> tuple[TextTokenizer, token_cache.Tokens]:
        text = LongText([TEXT])
        tokenizer = cached_tokenizer(text, folder, level, sample=1000)
        return tokenizer, tokenize(text, tokenizer, folder)

    (tokenizer, first), _ = run(), not_again()
    again, second = run()
    assert again.to_json() == tokenizer.to_json()
    assert torch.equal(first.ids, second.ids)
    assert (first.any_unknown, first.fingerprint) == (second.any_unknown, second.fingerprint)


@pytest.mark.usefixtures("on_disk")
def test_they_are_told_by_text_and_tokenizer(tmp_path: Path, folder: Path, not_again: Callable[[], None]) -> None:
    def of_file(name: str, text: str, level: Level) -> token_cache.Tokens:
        (tmp_path / name).write_text(text)
        return tokenize(load_text(str(tmp_path / name)).train, TOKENIZERS[level], folder)

    first = of_file("a.txt", TEXT, "word")
    others = [of_file("a.txt", TEXT.replace("7", "8"), "word"), of_file("a.txt", TEXT, "bpe")]
    assert len({tokens.fingerprint for tokens in (first, *others)}) == 3
    not_again()
    assert of_file("another file.txt", TEXT.replace("\n", "\r\n"), "word").fingerprint == first.fingerprint


def test_a_vocabulary_of_all_characters_but_of_a_share_of_the_words(folder: Path) -> None:
    text = LongText([f"the word{n}\n" * 300 for n in range(100)] + ["é"])
    known = {level: cached_tokenizer(text, folder, level, sample=text.characters // 5) for level in LEVELS[:2]}
    assert known["char"].token_to_id("é") is not None
    words = sum(known["word"].token_to_id(f" word{n}") is not None for n in range(100))
    assert 10 < words < 60
    assert not folder.exists()
    whole = cached_tokenizer(text, folder, "word")
    assert whole.to_json() == TextTokenizer.train([text.read()], "word", min_frequency=2).to_json()


def test_a_word_that_is_there_once_is_unknown_so_that_training_has_unknown_ones(folder: Path) -> None:
    text = LongText(["a the cat and the dog\n"])
    words = cached_tokenizer(text, folder, "word")
    assert words.decode(words.encode("a the cat")) == "<unk> the<unk>"
    assert [cached_tokenizer(text, folder, "word", min_frequency=n).vocab_size for n in (1, 2, 3)] == [7, 2, 1]
    assert cached_tokenizer(text, folder, "char").to_json() == TextTokenizer.train([text.read()], "char").to_json()
    assert cached_tokenizer(text, folder, "bpe").to_json() == TextTokenizer.train([text.read()], "bpe").to_json()


@pytest.mark.parametrize("lowercase", [False, True])
def test_pretokenized_text_that_has_unknown_words_keeps_all_others(lowercase: bool, folder: Path) -> None:
    unknown = "<UNK>" if lowercase else "<unk>"
    known = {}
    for count in range(3):
        text = LongText(["the cat and the dog \n", f" {unknown} bit" * count])
        known[count] = cached_tokenizer(text, folder, "word", pretokenized=True, lowercase=lowercase)
    assert [known[count].token_to_id("cat") is None for count in range(3)] == [True, True, False]


PTB = Path("/work/shared/data/text/ptb/ptb.train.txt")


@pytest.mark.skipif(not PTB.is_file(), reason="Penn Treebank is not here")
def test_the_penn_treebank_keeps_its_ten_thousand_words(folder: Path) -> None:
    text = LongText([PTB.read_text()])
    assert cached_tokenizer(text, folder, "word", pretokenized=True).vocab_size == 10_000


@pytest.mark.usefixtures("on_disk")
def test_other_options_give_another_vocabulary(folder: Path) -> None:
    text = LongText([TEXT, TEXT.upper()])
    changes: list[dict[str, Any]] = [{}, {"vocab_size": 20}, {"lowercase": True}, {"pretokenized": True}, {"sample": 9}]
    changes.append({"min_frequency": 3})
    found = [cached_tokenizer(text, folder, "word", **change).to_json() for change in changes]
    assert len(set(found)) == len(changes) == len(list(folder.iterdir()))


# --- damage -------------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, turn_a_bit, empty, Path.unlink])
@pytest.mark.parametrize("suffix", [".bin", ".json"])
@pytest.mark.usefixtures("on_disk")
def test_what_is_damaged_is_made_anew(folder: Path, suffix: str, damage: Callable[[Path], None]) -> None:
    first = tokenize(LongText([TEXT]), TOKENIZERS["bpe"], folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    ids = first.ids.tolist()
    del first
    damage(next(path for path in before if path.suffix == suffix))
    again = tokenize(LongText([TEXT]), TOKENIZERS["bpe"], folder)
    assert again.ids.tolist() == ids
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("content", ["[]", "{}", "1", '{"fingerprint": 5}', "\0"])
@pytest.mark.usefixtures("on_disk")
def test_a_description_that_is_none(folder: Path, content: str) -> None:
    tokenize(LongText([TEXT]), TOKENIZERS["word"], folder)
    description = next(folder.glob("*.json"))
    whole = description.read_text()
    description.write_text(content)
    tokenize(LongText([TEXT]), TOKENIZERS["word"], folder)
    assert description.read_text() == whole
    assert json.loads(whole)["any_unknown"] is False


@pytest.mark.parametrize("damage", [cut, empty])
@pytest.mark.usefixtures("on_disk")
def test_a_damaged_vocabulary_is_made_anew(folder: Path, damage: Callable[[Path], None]) -> None:
    first = cached_tokenizer(LongText([TEXT]), folder, "word")
    (file,) = folder.iterdir()
    damage(file)
    assert cached_tokenizer(LongText([TEXT]), folder, "word").to_json() == first.to_json() == file.read_text()


# --- several at once, and what was left behind ----------------------------------------------------------------------


@pytest.mark.parametrize("moment", [0, 1, 2])
@pytest.mark.usefixtures("on_disk")
def test_two_runs_at_once_do_not_meet(folder: Path, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """The second begins and ends while the first is flushing its vocabulary, its description or its ids."""
    fsync, seen, results = os.fsync, [], []

    def run() -> None:
        text = LongText([TEXT])
        results.append(tokenize(text, cached_tokenizer(text, folder, "word"), folder))

    def meanwhile(descriptor: int) -> None:
        fsync(descriptor)
        seen.append(None)
        if len(seen) == moment + 1:
            run()

    monkeypatch.setattr(os, "fsync", meanwhile)
    run()
    run()
    assert len(results) == 3
    for tokens in results:
        assert torch.equal(tokens.ids, results[0].ids)
    assert suffixes(folder) == [".bin", ".json", ".json"]


@pytest.mark.usefixtures("on_disk")
def test_what_a_killed_run_left_is_removed_after_a_while(
    folder: Path, left_by_killed_runs: Callable[[Path, str], tuple[Path, Path, Path]]
) -> None:
    old, fresh, mine = left_by_killed_runs(folder, "tokens")
    tokenize(LongText([TEXT]), TOKENIZERS["word"], folder)
    assert not old.exists()
    assert fresh.exists() and mine.exists()


# --- what cannot be done --------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.usefixtures("on_disk")
def test_a_full_disk(small_disk: Path) -> None:
    with pytest.raises(InputError, match=r"tokens cannot be kept in .*No space left.*--cache") as caught:
        tokenize(LongText([TEXT * 1000]), TOKENIZERS["char"], small_disk)
    assert "\n" not in str(caught.value)
    assert not list(small_disk.iterdir())


@pytest.mark.usefixtures("on_disk")
def test_a_disk_that_is_full_at_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"tokens cannot be kept in .*No space left"):
        tokenize(LongText([TEXT]), TOKENIZERS["char"], folder)
    with pytest.raises(InputError, match=r"the tokenizer cannot be kept in .*No space left"):
        cached_tokenizer(LongText([TEXT]), folder, "char")
    assert not list(folder.iterdir())


@pytest.mark.usefixtures("on_disk")
def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"tokens cannot be kept in .*file"):
            tokenize(LongText([TEXT]), TOKENIZERS["char"], folder)
        with pytest.raises(InputError, match=r"the tokenizer cannot be kept in .*file"):
            cached_tokenizer(LongText([TEXT]), folder, "char")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.usefixtures("on_disk")
def test_a_text_that_changes_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT)
    text = load_text(str(path)).train
    path.write_text(TEXT.upper() + " ")
    with pytest.raises(InputError, match="was changed while it was read"):
        tokenize(text, TOKENIZERS["char"], folder)
    assert not list(folder.iterdir())


# --- memory ---------------------------------------------------------------------------------------------------------

PROGRAM = """
import re, sys
from pathlib import Path
from zoo.data import ContiguousWindows, cached_tokenizer, load_text, spread, token_cache, tokenize, tokenizer

def peak_after(path):
    corpus, cache = load_text(path), Path(sys.argv[3])
    characters = cached_tokenizer(corpus.train, cache, "char")
    train, validation = (tokenize(text, characters, cache) for text in (corpus.train, corpus.validation))
    ContiguousWindows(train.ids, 8, 64, 0).batch(0, 0)
    spread(validation.ids, 1000)
    # ru_maxrss would have this process's parent in it.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024

token_cache.IN_MEMORY = tokenizer.CHARACTERS_AT_ONCE = 1 << 16
small = peak_after(sys.argv[1])
print(peak_after(sys.argv[2]) - small)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    line = "It does not matter much what is written here, as long as there is much of it.\n"
    for name, megabytes in (("small", 4), ("large", 32)):
        (tmp_path / name).write_text(line * (megabytes * 1_000_000 // len(line)))
    paths = [str(tmp_path / name) for name in ("small", "large", "cache")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", PROGRAM, *paths]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 16  # MB
