"""Built-in labelled texts: surnames and the language of the locale that lists them, from `faker` (MIT licence)."""

import hashlib
import unicodedata
from collections import Counter
from functools import cache
from importlib import import_module
from typing import NamedTuple

from zoo.errors import InputError

# Every language in Latin script of which a locale lists 380 surnames or more; one locale a language. The German list is
# Austria's, the longest. The English one is Great Britain's: a quarter of the United States' is in the others below as
# well. Estonian leaves out the Russian names that its locale lists apart. Feminine forms are in where they are listed.
LISTS = {
    "Croatian": ("hr_HR", ("last_names",)),
    "Dutch": ("nl_NL", ("last_names",)),
    "English": ("en_GB", ("last_names",)),
    "Estonian": ("et_EE", ("last_names_est",)),
    "Finnish": ("fi_FI", ("last_names",)),
    "French": ("fr_FR", ("last_names",)),
    "German": ("de_AT", ("last_names",)),
    "Irish": ("ga_IE", ("last_names",)),
    "Italian": ("it_IT", ("last_names",)),
    "Polish": ("pl_PL", ("unisex_last_names", "male_last_names")),
    "Slovak": ("sk_SK", ("last_names_male", "last_names_female")),
    "Spanish": ("es_ES", ("last_names",)),
    "Swedish": ("sv_SE", ("last_names",)),
    "Zulu": ("zu_ZA", ("last_names_male",)),
}


class Surname(NamedTuple):
    """A name and the language of a locale that lists it, which says nothing of the people who bear it."""

    name: str
    language: str


@cache
def surnames() -> dict[str, tuple[Surname, ...]]:
    """{split: names with languages} for train, validation and test, about 80 %, 10 % and 10 % of the names.

    A name that several languages list is a row for each. Which split a name is in depends on a hash of the name alone
    (without regard to case), so no name is in two splits, and another faker with more names moves none.

    faker 40.54 gives 16,056 rows of 15,758 names, 12,911 / 1,593 / 1,552 in the three splits: 3,890 Polish (24 %),
    2,375 Irish, 1,771 Slovak, 1,164 Italian, 1,085 Spanish, 1,072 Dutch, 933 German, 799 Croatian, 787 Zulu, 500
    English, 500 Swedish, 400 Finnish, 400 French and 380 Estonian. Most Irish names begin with Ó or Mac.

    Raises:
        InputError: faker is not installed, or has no such lists any more.
    """
    splits: dict[str, list[Surname]] = {"train": [], "validation": [], "test": []}
    for language in LISTS:
        for key, name in _listed(language).items():
            splits[_split(key)].append(Surname(name, language))
    return {split: tuple(rows) for split, rows in splits.items()}


def surname_notes() -> list[str]:
    """A line for validation and for test: how many names are of several languages, and the best anyone can do."""
    notes = []
    for split in ("validation", "test"):
        rows = surnames()[split]
        times = Counter(_key(row.name) for row in rows)
        shared = [count for count in times.values() if count > 1]
        # Of the rows of one name, which no text can tell apart, one answer is right for one.
        notes.append(
            f"{split}: {sum(shared)} of {len(rows):,} rows are names that several languages share; at best "
            f"{len(shared)} of them can be right, {len(times) / len(rows):.1%} of all rows"
        )
    return notes


def _listed(language: str) -> dict[str, str]:
    """{name without regard to case: name as listed}."""
    locale, lists = LISTS[language]
    try:
        provider = import_module(f"faker.providers.person.{locale}").Provider
        names = [name for attribute in lists for name in getattr(provider, attribute)]
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the built-in data surnames cannot be read from faker ({error}): `pip install faker`, or give a file"
        ) from error
    return {_key(name): unicodedata.normalize("NFC", name) for name in reversed(names)}


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def _split(key: str) -> str:
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64
    return "train" if share < 0.8 else "validation" if share < 0.9 else "test"
