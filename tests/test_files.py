"""A file is there whole, or what stood there stays; and the lines of a JSON lines file."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from zoo.files import write_atomically, write_json_lines


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
        seen.append((os.fstat(descriptor).st_size, (tmp_path / "file").read_text()))

    monkeypatch.setattr(os, "fsync", look)
    write_atomically(tmp_path / "file", "newer")
    assert seen == [(5, "old")]


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
