"""The message of an InputError is one printable line, whatever it quotes."""

import pytest

from zoo.errors import InputError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a  b: c, d é 😀 \u00a0", "a  b: c, d é 😀 \u00a0"),
        ("a\nb\r\n\r\n c\td\u2028e\x85f", "a b c d e f"),
        ("\x1b[2J\0\x9b", r"\x1b[2J\x00\x9b"),
        ("photo\udcff.png", r"photo\udcff.png"),
    ],
)
def test_one_printable_line(given: str, expected: str) -> None:
    error = InputError(given)
    assert str(error) == expected
    assert error.args == (expected,)
