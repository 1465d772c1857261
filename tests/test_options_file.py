"""config.yaml of others: plain values, or one line."""

from pathlib import Path

import pytest

from zoo import options_file
from zoo.errors import InputError
from zoo.options_file import read_options_file


def test_plain_values_come_back(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("out: runs/ä\nseed: 3\nstop: [a, b]\nepochs: null\n", encoding="utf-8")
    assert read_options_file(tmp_path / "a.yaml") == {"out": "runs/ä", "seed": 3, "stop": ["a", "b"], "epochs": None}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"a: [", "no file of options"),
        (b"a: &a [x]\nb: *a\n", "it has an alias"),
        (b"a: &a [*a]\n", "it has an alias"),
        (b"!!python/object/apply:os.system ['true']", "no file of options"),
        (b"!!python/name:os.system", "no file of options"),
        (b"day: 2024-13-45\n", "month must be in 1..12"),
        (b"[" * 5000, "no file of options"),
        (b"a: \xff\n", "no file of options"),
        (b"a: " + b"x" * 2**20, "more than 1,048,576 bytes"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(InputError, match=match) as caught:
        read_options_file(tmp_path / "a.yaml")
    assert str(tmp_path / "a.yaml") in str(caught.value)


def test_a_file_that_is_not_there_or_has_no_end(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_options_file(tmp_path / "none.yaml")
    assert options_file.MAX_BYTES < 2**24
    with pytest.raises(InputError, match="more than"):
        read_options_file(Path("/dev/zero"))
