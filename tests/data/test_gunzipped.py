"""Gzipped files of texts are read whole; what unpacks to far more than it is is refused while it is read."""

import gzip
import os
from pathlib import Path

import pytest

from zoo.data import gunzipped
from zoo.data.gunzipped import Gunzipped
from zoo.errors import InputError


def lines(file: Path) -> list[bytes]:
    with file.open("rb") as packed:
        return list(iter(Gunzipped(packed, "a.csv.gz").readline, b""))


@pytest.fixture
def little_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gunzipped, "FREE_BYTES", 100_000)


@pytest.mark.usefixtures("little_is_free")
def test_a_file_of_texts_comes_back(tmp_path: Path) -> None:
    wanted = [os.urandom(30).hex().encode() + b" and so on\n" for _ in range(5000)]
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"".join(wanted)))
    assert lines(tmp_path / "a.gz") == wanted


def test_a_short_file_may_be_of_one_line_over_and_over(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"a,b\n" * 50_000))
    assert lines(tmp_path / "a.gz") == [b"a,b\n"] * 50_000


@pytest.mark.usefixtures("little_is_free")
def test_a_bomb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress((b"a" * 999 + b"\n") * 5000))
    with pytest.raises(InputError, match=r"a.csv.gz has more than 100 times as many bytes in it as it has itself"):
        lines(tmp_path / "a.gz")
