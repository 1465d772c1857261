"""A file is there whole, or what stood there stays; and the lines of a JSON lines file."""

import errno
import json
import os
import resource
import stat
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from zoo.files import append, write_atomically, write_json_lines


@pytest.mark.parametrize(("content", "expected"), [(b"\x00\xff", b"\x00\xff"), ("Zoë\r\n", "Zoë\r\n".encode())])
def test_writes_bytes_and_text_as_they_are(tmp_path: Path, content: bytes | str, expected: bytes) -> None:
    write_atomically(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == expected
    assert os.listdir(tmp_path) == ["file"]


def test_replaces_a_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old and longer")
    write_atomically(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, place: str
) -> None:
    (tmp_path / "file").write_text("old")

    def fail(*_: Any) -> None:
        raise failure

    monkeypatch.setattr(*((os, "fsync") if place == "fsync" else (Path, "replace")), fail)
    with pytest.raises(type(failure)):
        write_atomically(tmp_path / "file", "new")
    monkeypatch.undo()
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_the_content_is_on_the_disk_before_it_takes_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("old")
    seen = []

    def look(descriptor: int) -> None:
        flushed = os.readlink(f"/proc/self/fd/{descriptor}")
        seen.append((Path(flushed), (tmp_path / "file").read_text()))

    monkeypatch.setattr(os, "fsync", look)
    write_atomically(tmp_path / "file", "newer")
    assert seen == [(tmp_path / ".file.partial", "old"), (tmp_path, "newer")]


def test_what_stood_there_is_kept_under_another_name(tmp_path: Path) -> None:
    names = tmp_path / "file", tmp_path / "before"
    for content, before in (("1", None), ("2", "1"), ("3", "2")):
        write_atomically(names[0], content, keep_as=names[1])
        assert names[0].read_text() == content
        assert (names[1].read_text() if names[1].exists() else None) == before


@pytest.mark.parametrize("write", [write_atomically, append])
@pytest.mark.parametrize("place", ["fsync", "write"])
def test_a_failure_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any, place: str) -> None:
    """An error of `write` or `fsync` does not by itself."""
    if place == "fsync":
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match=r"No space left on device: '.*/file'"):
            write(tmp_path / "file", "new")
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*/file'"):
            write(tmp_path / "file", "new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(("number", "is_raised"), [(errno.EINVAL, False), (errno.ENOSPC, True)])
def test_a_file_system_that_flushes_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_raised: bool
) -> None:
    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse_folders)
    with pytest.raises(OSError, match="No space left") if is_raised else nullcontext():
        write_atomically(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_appended_text_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(os.fstat(descriptor).st_size))
    append(tmp_path / "file", "Zoë\n")
    append(tmp_path / "file", "!")
    assert seen == [5, 6]
    assert (tmp_path / "file").read_text("utf-8") == "Zoë\n!"


def test_a_folder_that_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        write_atomically(tmp_path / "nowhere" / "file", "new")


def test_json_lines_are_an_object_a_line_in_letters_that_people_read(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": "Zoë\n東京", "score": 0.5}, {"text": "", "score": 1}]
    write_json_lines(tmp_path / "file.jsonl", rows)
    content = (tmp_path / "file.jsonl").read_text(encoding="utf-8")
    assert "Zoë\\n東京" in content
    assert content.endswith("}\n")
    assert [json.loads(line) for line in content.splitlines()] == rows
