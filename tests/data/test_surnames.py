"""The built-in surnames: sizes as documented, no name on two sides, honest notes."""

import os
import re
import subprocess
import sys
import unicodedata
import zlib
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest

from zoo.data.labelled_texts import load_labelled_texts
from zoo.data.surnames import LISTS, surname_notes, surnames
from zoo.errors import InputError


def key(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def test_no_name_is_in_two_splits_and_no_row_twice() -> None:
    splits = surnames()
    keys = {split: {key(row.name) for row in rows} for split, rows in splits.items()}
    assert not keys["train"] & keys["validation"]
    assert not keys["train"] & keys["test"]
    assert not keys["validation"] & keys["test"]
    rows = [(key(row.name), row.language) for split in splits.values() for row in split]
    assert len(rows) == len(set(rows))
    total = sum(map(len, keys.values()))
    assert 0.78 < len(keys["train"]) / total < 0.82
    assert 0.09 < len(keys["validation"]) / total < 0.11


def test_names_are_latin_and_no_language_prevails() -> None:
    rows = [row for split in surnames().values() for row in split]
    for row in rows:
        letters = [letter for letter in row.name if letter.isalpha()]
        assert letters and all("LATIN" in unicodedata.name(letter) for letter in letters), row
        assert row.name == row.name.strip()
    counts = Counter(row.language for row in rows)
    assert set(counts) == set(LISTS)
    assert min(counts.values()) >= 380
    assert 0.2 < max(counts.values()) / len(rows) < 0.25
    for split in surnames().values():
        assert {row.language for row in split} == set(LISTS)


@pytest.mark.skipif(not version("faker").startswith("40.54."), reason="the docstring's figures are of faker 40.54")
def test_names_are_as_many_as_the_docstring_says() -> None:
    text = " ".join((surnames.__doc__ or "").split())
    splits = surnames()
    rows = [row for split in splits.values() for row in split]
    for language, count in Counter(row.language for row in rows).items():
        assert f"{count:,} {language}" in text
    assert f"{len(rows):,} rows of {len({key(row.name) for row in rows}):,} names" in text
    assert " / ".join(f"{len(splits[split]):,}" for split in ("train", "validation", "test")) in text


def test_some_names() -> None:
    language_of: dict[str, list[str]] = {}
    for split in surnames().values():
        for row in split:
            language_of.setdefault(row.name, []).append(row.language)
    assert language_of["Kowalski"] == ["Polish"]
    assert language_of["van Dijk"] == ["Dutch"]
    assert language_of["Ondrušková"] == ["Slovak"]
    assert len(language_of["Martin"]) > 1


def test_notes_say_what_is_the_best_that_anyone_can_do() -> None:
    for split, note in zip(("validation", "test"), surname_notes(), strict=True):
        rows = surnames()[split]
        languages: dict[str, list[str]] = {}
        for row in rows:
            languages.setdefault(key(row.name), []).append(row.language)
        # The best guess knows all and still can say only one language a name.
        right = sum(row.language == languages[key(row.name)][0] for row in rows)
        shared = sum(len(languages[key(row.name)]) > 1 for row in rows)
        assert 0 < shared < 0.1 * len(rows)
        assert note.startswith(f"{split}: {shared} of {len(rows):,} rows")
        assert f"{right / len(rows):.1%} of all rows" in note
        found = re.search(r"at best (\d+) of them", note)
        assert found and int(found[1]) == shared - (len(rows) - right)


def test_as_classification_data() -> None:
    data = load_labelled_texts("surnames")
    assert data.name == "surnames"
    assert data.labels == sorted(LISTS)
    assert data.notes == surname_notes()
    assert data.test is not None
    for split, texts in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        rows = surnames()[split]
        assert texts.texts == [row.name for row in rows]
        assert texts.labels == [(row.language,) for row in rows]


def test_another_process_has_the_same_names_in_the_same_order() -> None:
    program = (
        "import sys, zlib, zoo.data.labelled_texts\n"
        "print(sorted({'faker', 'datasets', 'pyarrow'} & set(sys.modules)))\n"
        "from zoo.data.surnames import surnames\n"
        "print(zlib.crc32(repr(surnames()).encode()))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert ran.stdout.decode().splitlines() == ["[]", str(zlib.crc32(repr(surnames()).encode()))]


def test_without_faker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faker.providers.person.hr_HR", None)
    surnames.cache_clear()
    with pytest.raises(InputError, match="pip install faker"):
        surnames()
    monkeypatch.undo()
    assert surnames()
