"""Built-in parallel texts: numbers in words of some 80 languages, by CLDR's rules and `unicode-rbnf` (MIT licence)."""

import hashlib
import random
import unicodedata
from functools import cache

from zoo.errors import InputError

SMALL = 100
"""All numbers below are trained on: many languages have a word of its own for each, which nothing else could teach."""

SMALL_TIMES = 10
"""So many times each, or among thirty thousand longer ones a network would take no notice of them."""

DRAWN = {3: 900, 4: 9000, 5: 9000, 6: 9000, 7: 1800, 8: 1800, 9: 1800}
"""{digits: how many numbers of that length are drawn}: all of up to four."""

SPARSE_DIGITS = 3
"""Above a million, at most so many digits of a number trained on are not 0: its words are known, but it is short."""

HELD_OUT = {3: 25, 4: 250, 5: 250, 6: 250, 7: 75, 8: 75, 9: 75}
"""{digits: how many numbers of that length there are to validate on, and as many to test on}."""

LONGER = {7: 167, 8: 167, 9: 166}
"""{digits: how many numbers of that length, none of whose digits is 0, there are to test on}."""

NUMBER_NOTES = [
    f"test_longer: its numbers have {min(LONGER)} to {max(LONGER)} digits that are not 0, those trained on at most 6"
]


@cache
def drawn_numbers() -> dict[str, tuple[int, ...]]:
    """{split: numbers} for train, validation, test and test_longer, each in random order.

    Which split a number is in depends on a hash of the number alone, so none is in two. Of four, five and six digits
    there are any numbers, of seven to nine such as 40,000,070: 30,937 to train, 1,000 to validate and 1,000 to test
    on. The 500 of test_longer have seven to nine digits too, but none of these is 0: they take no other words, but
    more of them than any number trained on.
    """
    generator = random.Random(0)
    splits: dict[str, list[int]] = {
        "train": list(range(SMALL)) * SMALL_TIMES,
        "validation": [],
        "test": [],
        "test_longer": [],
    }
    for digits, count in DRAWN.items():
        drawn: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
        for number in _any(generator, digits, count) if digits <= 6 else _sparse(generator, digits, count):
            drawn[_split(number)].append(number)
        splits["train"] += drawn["train"]
        splits["validation"] += drawn["validation"][: HELD_OUT[digits]]
        splits["test"] += drawn["test"][: HELD_OUT[digits]]
    for digits, count in LONGER.items():
        splits["test_longer"] += _dense(generator, digits, count)
    for numbers in splits.values():
        generator.shuffle(numbers)
    return {split: tuple(numbers) for split, numbers in splits.items()}


def number_words(language: str) -> dict[str, list[str]]:
    """{split: its numbers spelled out}, in the order of `drawn_numbers`, so that two languages' texts are parallel.

    Texts are as the library spells cardinal numbers when counting ("vingt-et-un", not "vingt-et-une"), in NFC and
    without soft hyphens.

    Args:
        language: as CLDR names it, such as en, fr, de_CH or zh_Hant.

    Raises:
        InputError: unicode-rbnf is not installed, does not know the language, or spells two of the numbers alike (as
            2.4 does 2,000 and 3,000 in Slovenian), so that no text would tell which is meant.
    """
    try:
        from unicode_rbnf import RbnfEngine
    except ImportError as error:
        raise InputError(
            f"the built-in data numbers needs unicode-rbnf ({error}): `pip install unicode-rbnf`, or give files"
        ) from error
    languages = RbnfEngine.get_supported_languages()
    if language not in languages:
        raise InputError(
            f"the built-in data numbers has no language {language!r}: expected one of {', '.join(languages)}"
        )
    engine = RbnfEngine.for_language(language)
    number_of: dict[str, int] = {}
    splits: dict[str, list[str]] = {}
    for split, numbers in drawn_numbers().items():
        splits[split] = []
        for number in numbers:
            # By default the library spells every gender and case as well, which takes 15 times as long in Russian.
            spelled = engine.format_number(number, ruleset_names=["spellout-numbering"]).text
            text = unicodedata.normalize("NFC", spelled.replace("\u00ad", "")).strip()
            if number_of.setdefault(text, number) != number:
                one, other = sorted((number_of[text], number))
                raise InputError(
                    f"unicode-rbnf spells {one:,} and {other:,} alike in {language} ({text!r}): choose another language"
                )
            splits[split].append(text)
    return splits


def _any(generator: random.Random, digits: int, count: int) -> list[int]:
    return generator.sample(range(10 ** (digits - 1), 10**digits), count)


def _sparse(generator: random.Random, digits: int, count: int) -> list[int]:
    """Different numbers of that length of which at most SPARSE_DIGITS digits are not 0."""
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        places = [digits - 1, *generator.sample(range(digits - 1), generator.randrange(SPARSE_DIGITS))]
        drawn[sum(generator.randint(1, 9) * 10**place for place in places)] = None
    return list(drawn)


def _dense(generator: random.Random, digits: int, count: int) -> list[int]:
    """Different numbers of that length without a 0."""
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        drawn[int("".join(generator.choice("123456789") for _ in range(digits)))] = None
    return list(drawn)


def _split(number: int) -> str:
    share = int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:8]) / 2**64
    return "train" if share < 0.9 else "validation" if share < 0.95 else "test"
