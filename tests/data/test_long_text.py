"""Text that is read from its files again and again: the same as in memory, whatever the blocks, and never stale."""

import itertools
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data import load_text, text_files
from zoo.data.long_text import FileText, LongText
from zoo.data.text_files import read_blocks, read_text_file
from zoo.errors import InputError

texts = st.text(st.sampled_from("ab é中😀\n\r\ufeff\t."), max_size=60)


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@given(texts, st.integers(4, 12))
def test_a_file_in_blocks_is_the_whole(tmp_path_factory: pytest.TempPathFactory, text: str, block_bytes: int) -> None:
    path = write(tmp_path_factory.mktemp("data") / "a.txt", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "BLOCK_BYTES", block_bytes)
        blocks = list(read_blocks(path))
    assert "".join(blocks) == text.removeprefix("\ufeff").replace("\r\n", "\n")
    assert max(map(len, blocks)) <= block_bytes + 1


@pytest.mark.parametrize("block_bytes", [4, 5, 6, 7, 1000])
@pytest.mark.parametrize(
    ("content", "offset"),
    [
        (b"a few letters \xff and more", 14),
        ("中中中".encode() + b"\xe4\xb8", 9),
        ("\ufeff中".encode() + b"\xe4a", 6),
        (b"some text\0", 9),
    ],
)
def test_where_a_file_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, offset: int, block_bytes: int
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    monkeypatch.setattr(text_files, "BLOCK_BYTES", block_bytes)
    with pytest.raises(InputError, match=f"offset {offset}\\)"):
        list(read_blocks(tmp_path / "a.txt"))
    with pytest.raises(InputError, match=f"offset {offset}\\)"):
        load_text(str(tmp_path))


@given(texts.filter(str.strip), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_a_slice_is_that_of_the_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, start: int, stop: int, inner: int
) -> None:
    path = write(tmp_path_factory.mktemp("data") / "a.txt", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "BLOCK_BYTES", 7)
        whole, read = FileText.whole(path), read_text_file(path)
        if whole is None:
            assert not read.strip()
            return
        assert len(whole) == len(read)
        for part, expected in ((whole[start:stop], read[start:stop]), (whole[start:][:inner], read[start:][:inner])):
            assert "".join(part.blocks()) == expected
            assert len(part) == len(expected)


@given(st.lists(texts), st.booleans())
def test_parts_are_joined(tmp_path_factory: pytest.TempPathFactory, parts: list[str], as_files: bool) -> None:
    read = [part.removeprefix("\ufeff").replace("\r\n", "\n") for part in parts]
    expected = "".join([text if text.endswith("\n") else text + "\n" for text in read[:-1]] + read[-1:])
    folder = tmp_path_factory.mktemp("data")
    files = [FileText.whole(write(folder / f"{number}.txt", part)) for number, part in enumerate(parts)]
    text = LongText([file or part for file, part in zip(files, read, strict=True)] if as_files else read)
    assert text.read() == expected
    assert text.characters == len(expected)
    assert text.blank == (not expected.strip())
    assert text.digest == LongText([expected]).digest


def test_the_digest_tells_texts_apart() -> None:
    digests = {LongText(parts).digest for parts in (["ab"], ["a", "b"], ["abc"], ["ab\n"], ["\ud800"], [])}
    assert len(digests) == 6


def test_a_sample_is_spread_evenly() -> None:
    lines = [f"{number} " * 800 + "\n" for number in range(200)]
    text = LongText(lines)
    assert "".join(text.sample(text.characters)) == text.read() == "".join(text.sample(10**9))
    some = list(text.sample(text.characters // 10))
    numbers = [int(piece.split()[-1]) for piece in some]
    assert text.characters / 10 <= sum(map(len, some)) <= text.characters / 10 + 2100
    assert max(after - before for before, after in itertools.pairwise(numbers)) < 25
    assert min(numbers) < 25 and max(numbers) > 175
    assert not list(LongText([]).sample(5))


@pytest.mark.parametrize("change", [lambda path: path.write_text("b" * 1000), Path.unlink, lambda path: os.utime(path)])
def test_a_file_that_changes_is_noticed(tmp_path: Path, change: object) -> None:
    path = write(tmp_path / "a.txt", "a" * 1000)
    corpus = load_text(str(path))
    assert corpus.train.read() == "a" * 900
    blocks = corpus.train.blocks()
    next(blocks)
    change(path)  # type: ignore[operator]
    for text in (blocks, corpus.train.blocks(), corpus.validation.blocks()):
        with pytest.raises(InputError, match=r"a\.txt (was changed while it was read|cannot be read)") as caught:
            list(text)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    if os.fork() == 0:
        (tmp_path / "pipe").write_text("0123456789")
        os._exit(0)
    corpus = load_text(str(tmp_path / "pipe"))
    os.wait()
    assert (corpus.train.read(), corpus.validation.read(), corpus.train.read()) == ("012345678", "9", "012345678")


def test_memory_is_that_of_a_few_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 1 << 14)
    path = write(tmp_path / "a.txt", "All work and no play.\n" * 200_000)
    tracemalloc.start()
    try:
        text = load_text(str(path)).train
        assert text.characters == 3_960_000
        assert sum(map(len, text.sample(100_000))) <= 103_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 500_000
