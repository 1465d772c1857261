"""Numbers spelled out: sizes as documented, no number on two sides, texts as CLDR has them."""

import functools
import os
import re
import subprocess
import sys
import unicodedata
import zlib
from collections import Counter
from pathlib import Path

import pytest
from unicode_rbnf import RbnfEngine

from zoo.data.number_words import NUMBER_NOTES, drawn_numbers, number_words
from zoo.data.parallel_texts import load_parallel_texts
from zoo.errors import InputError

# The same every time, and seconds of work.
words_of = functools.cache(number_words)


def spelled(language: str) -> dict[int, str]:
    """{number: its text} of all splits."""
    texts = words_of(language)
    return {
        number: text
        for split, numbers in drawn_numbers().items()
        for number, text in zip(numbers, texts[split], strict=True)
    }


def test_no_number_is_in_two_splits_and_none_twice() -> None:
    splits = drawn_numbers()
    assert list(splits) == ["train", "validation", "test", "test_longer"]
    every = [number for numbers in splits.values() for number in numbers if number >= 100]
    assert len(every) == len(set(every))
    assert Counter(number for number in splits["train"] if number < 100) == dict.fromkeys(range(100), 10)


def test_numbers_are_as_many_as_the_docstring_says() -> None:
    splits = drawn_numbers()
    assert (len(splits["validation"]), len(splits["test"]), len(splits["test_longer"])) == (1000, 1000, 500)
    text = " ".join((drawn_numbers.__doc__ or "").split())
    assert f"{len(splits['train']):,} to train, 1,000 to validate and 1,000 to test on. The 500 of test_longer" in text


def digits_not_zero(number: int) -> int:
    return len(str(number).replace("0", ""))


def test_every_length_is_trained_on_and_the_longer_ones_are_longer() -> None:
    splits = drawn_numbers()
    digits = {split: Counter(len(str(n)) for n in numbers) for split, numbers in splits.items()}
    assert set(range(100)) <= set(splits["train"])
    assert digits["train"][3] > 800
    assert all(8000 < digits["train"][length] < 8300 for length in (4, 5, 6))
    assert all(1550 < digits["train"][length] < 1700 for length in (7, 8, 9))
    for split in ("validation", "test"):
        assert digits[split] == {3: 25, 4: 250, 5: 250, 6: 250, 7: 75, 8: 75, 9: 75}
    assert digits["test_longer"] == {7: 167, 8: 167, 9: 166}
    for split in ("train", "validation", "test"):
        assert all(digits_not_zero(number) <= (6 if number < 10**6 else 3) for number in splits[split])
    assert all(digits_not_zero(number) == len(str(number)) >= 7 for number in splits["test_longer"])


@pytest.mark.parametrize("language", ["en", "fr", "es", "tr"])
def test_the_longer_ones_are_made_of_words_that_are_trained_on(language: str) -> None:
    texts = words_of(language)
    known = {word for text in texts["train"] for word in re.findall(r"\w+", text)}
    for split in ("validation", "test", "test_longer"):
        assert {word for text in texts[split] for word in re.findall(r"\w+", text)} <= known
    lengths = {split: [len(re.findall(r"\w+", text)) for text in texts[split]] for split in texts}
    assert sorted(lengths["test_longer"])[250] >= max(lengths["train"])


def test_the_first_numbers_of_a_split_are_of_several_lengths() -> None:
    for numbers in drawn_numbers().values():
        assert len({len(str(number)) for number in numbers[:20]}) >= 3


def test_some_texts() -> None:
    english, french, german = spelled("en"), spelled("fr"), spelled("de")
    assert (english[0], french[0], german[0]) == ("zero", "zéro", "null")
    assert (english[71], french[71], german[71]) == ("seventy-one", "soixante-et-onze", "einundsiebzig")
    assert french[80] == "quatre-vingts"
    number = next(number for number in drawn_numbers()["test"] if 10**5 < number < 10**6)
    assert "thousand" in english[number] and "mille" in french[number] and "tausend" in german[number]
    assert all("million" in text for text in words_of("en")["test_longer"])


@pytest.mark.parametrize("language", ["ar", "de", "fr", "hi", "ja", "ko", "th", "zh_Hant"])
def test_texts_are_clean_and_each_is_of_one_number(language: str) -> None:
    texts = [text for split in words_of(language).values() for text in split]
    assert len(texts) - 900 == len(set(texts))  # numbers below 100 stand ten times
    for text in texts:
        assert text and text == text.strip() == unicodedata.normalize("NFC", text)
        assert not re.search(r"[0-9\u00ad%=<>;]|  ", text)


def test_the_library_spells_in_every_language() -> None:
    for language in RbnfEngine.get_supported_languages():
        engine = RbnfEngine.for_language(language)
        assert all(engine.format_number(n, ruleset_names=["spellout-numbering"]).text for n in (0, 21, 456_789))


@pytest.mark.parametrize("language", ["xx", "", "../en", "EN", "root", "zh-Hant"])
def test_unknown_language(language: str) -> None:
    with pytest.raises(InputError) as caught:
        number_words(language)
    assert str(caught.value).startswith(
        f"the built-in data numbers has no language {language!r}: expected one of af, ak"
    )
    assert " en, en_IN, eo, " in str(caught.value) and "\n" not in str(caught.value)


def test_two_numbers_with_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def alike(self: RbnfEngine, number: int, **options: object) -> object:
        return type("Result", (), {"text": f"text {number // 2 if number > 999_999 else number}"})

    monkeypatch.setattr(RbnfEngine, "format_number", alike)
    number = drawn_numbers()["test_longer"][0]
    monkeypatch.setattr("zoo.data.number_words.drawn_numbers", lambda: {"train": (5,), "test": (number ^ 1, number)})
    expected = rf"unicode-rbnf spells {number - number % 2:,} and {number | 1:,} alike in en \('text \d+'\): choose"
    with pytest.raises(InputError, match=expected):
        number_words("en")


def test_as_translation_data() -> None:
    data = load_parallel_texts("numbers", source="en", target="zh", max_length_ratio=1)
    assert data.name == "numbers"
    assert data.notes == NUMBER_NOTES
    assert list(data.tests) == ["test", "test_longer"]
    english, chinese = words_of("en"), words_of("zh")
    for split, texts in {"train": data.train, "validation": data.validation, **data.tests}.items():
        assert (texts.sources, texts.targets) == (english[split], chinese[split])


def test_another_process_has_the_same_texts_in_the_same_order() -> None:
    program = (
        "import sys, zlib, zoo.data.parallel_texts\n"
        "print(sorted({'unicode_rbnf', 'faker', 'datasets', 'pyarrow'} & set(sys.modules)))\n"
        "from zoo.data.number_words import number_words\n"
        "print(zlib.crc32(repr(number_words('nl')).encode()))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert ran.stdout.decode().splitlines() == ["[]", str(zlib.crc32(repr(words_of("nl")).encode()))]


def test_without_unicode_rbnf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "unicode_rbnf", None)
    with pytest.raises(InputError, match="pip install unicode-rbnf"):
        number_words("en")
