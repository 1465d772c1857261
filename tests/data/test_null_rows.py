"""JSON rows that are null, at which PyArrow ends the process: refused before it sees them."""

import gzip
import io

import pytest

from zoo.data.json_records import LONGEST_PIECE, refuse_null_rows
from zoo.data.rows import load_splits
from zoo.errors import InputError

ROW = b'{"text": "a"}\n'


@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"null\n" + ROW,
        b"\xef\xbb\xbf \n\t null\n",
        ROW + b"null\n",
        ROW + b"\n \r\n null " + ROW,
        b" " * (LONGEST_PIECE + 1) + b"null",
        ROW + b" " * (2 * LONGEST_PIECE) + b"null\n",
    ],
)
def test_refused(content):
    with pytest.raises(InputError, match=r"a\.jsonl has null for a row: expected objects"):
        refuse_null_rows(io.BytesIO(content), "a.jsonl")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        ROW + ROW,
        b'{"text":\nnull}\n',
        b"[\nnull,\n{}\n]",
        b'{"text": "}\\n null"}\n{"text": "} null"}\n',
        b'{"text": "' + b"x" * (LONGEST_PIECE - 11) + b'}null"}\n' + ROW,  # a piece may begin with null
    ],
)
def test_left_alone(content):
    refuse_null_rows(io.BytesIO(content), "a.jsonl")


def test_in_files_and_folders(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_bytes(ROW * 2)
    assert [row["text"] for row in load_splits(str(tmp_path))["train"]] == ["a", "a"]
    (tmp_path / "data" / "train.jsonl").write_bytes(b"null\n" + ROW)
    for source in (tmp_path, tmp_path / "data" / "train.jsonl"):
        with pytest.raises(InputError, match=r"train\.jsonl has null for a row"):
            load_splits(str(source))
    (tmp_path / "data" / "train.jsonl").unlink()
    (tmp_path / "data" / "train.JSONL.gz").write_bytes(gzip.compress(b"null\n"))
    with pytest.raises(InputError, match=r"train\.JSONL\.gz has null for a row"):
        load_splits(str(tmp_path))
