"""Hostile contents: valid files with something changed in them, and values that nobody expects."""

import json
import struct
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

NASTY = (
    *(b"\0", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\n\n", b"\t", b'"', b'""', b",", b"\\"),
    *(b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\x1b[2J", b"\xe2\x80\xa8", b"\x85", b"\x1a", b"\\ud800"),
    *(b"null", b"NaN", b"-1", b"1e999", b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"]", b"}", b"../", b"/etc/passwd"),
    *(b"PAR1", b"\x1f\x8b\x08", b"PK\x03\x04", b"\x80\x04N.", b"a" * 70_000, b"\n" * 3000, b"," * 3000, b"#0\t"),
)
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)

DEEP: list[Any] = []
for _ in range(800):
    DEEP = [DEEP]

VALUES: SearchStrategy[Any] = st.sampled_from(
    (
        *(None, True, False, 0, 1, -1, 2, 3, 10, 0.5, -0.0, 2.5, 1e308, float("nan"), float("inf"), 2**31, 2**63),
        *(10**9, 10**12, 10**30, -(10**12), "", "x", "1", "\0", "\n", "\ud800", "\U0001f600", "e\u0301", "a" * 5000),
        *("../../x", "/etc/passwd", "~", "file:///etc/passwd", [], {}, [[]], {"": None}, [None], [1, "a"], DEEP),
        *(["a", "b"], ["a", "a"], [-1, 10**12], {"a": {"b": []}}, list(range(2000))),
    )
).map(lambda value: json.loads(json.dumps(value)))  # a new one each time, since a later change may be inside of it


@st.composite
def changed(draw: st.DrawFn, *contents: bytes, most: int = 4) -> bytes:
    """One of the contents with up to `most` changes: bytes flipped, cut, doubled, moved, or nasty ones put in."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(0, most))):
        size = len(content)
        at = draw(st.integers(0, size))
        kind = draw(st.sampled_from(("flip", "cut", "delete", "double", "nasty", "number", "splice", "bytes")))
        if kind == "flip" and at < size:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del content[at:]
        elif kind == "delete":
            del content[at : at + draw(st.integers(1, 64))]
        elif kind == "double":
            content[at:at] = content[at : at + draw(st.integers(1, 200))] * draw(st.integers(1, 3))
        elif kind == "nasty":
            content[at:at] = draw(st.sampled_from(NASTY))
        elif kind == "number":
            width, order = draw(st.sampled_from((("B", 1), ("H", 2), ("I", 4), ("Q", 8)))), draw(st.sampled_from("<>"))
            number = draw(st.sampled_from(NUMBERS)) % 256 ** width[1]
            content[at : at + width[1]] = struct.pack(order + width[0], number)
        elif kind == "splice":
            other = draw(st.sampled_from(contents))
            content[at:] = other[draw(st.integers(0, len(other))) :]
        elif kind == "bytes":
            content[at:at] = draw(st.binary(max_size=20))
    return bytes(content)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of each value in a JSON document; of long lists those of the first, and none that lie deep."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path]
    if len(path) > 8:
        return found
    for key, item in list(items)[:40]:
        found += places(item, (*path, key))
    return found


@st.composite
def changed_json(draw: st.DrawFn, document: Any, most: int = 3) -> Any:
    """The document with up to `most` values replaced, taken out, or put in where there was none."""
    value = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(0, most))):
        path = draw(st.sampled_from(places(value)))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return draw(VALUES)
            continue
        inside = value
        for key in path[:-1]:
            inside = inside[key]
        kind = draw(st.sampled_from(("replace", "replace", "replace", "remove", "add")))
        if kind == "replace":
            inside[path[-1]] = draw(VALUES)
        elif kind == "remove":
            del inside[path[-1]]
        elif isinstance(inside, dict):
            inside[draw(st.sampled_from(("new", "", "auto_map", "dtype", "tokenizer", "device", "__class__")))] = draw(
                VALUES
            )
        else:
            inside.append(draw(VALUES))
    return value


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def json_file(document: Any) -> SearchStrategy[bytes]:
    """A file of the document, with values changed or bytes."""
    return changed_json(document).map(as_json) | changed(as_json(document))
