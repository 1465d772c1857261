"""What splits are called, and the other rules for them that all sources share."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from zoo.errors import InputError

T = TypeVar("T")

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing"),
}
"""What a file, a folder or a data set's split may be called that is for a split, in upper or lower case."""


def split_called(name: str) -> str:
    """The split that a name is for, train, validation or test; other names stay as they are."""
    return next((split for split, names in SPLIT_NAMES.items() if name.lower() in names), name)


def is_test(name: str) -> bool:
    """Whether a split of this name is one to test on, of which there may be several: test_2016, test_2017."""
    return name.lower().startswith("test")


def is_split(name: str) -> bool:
    """Whether the name is one of a split to train, validate or test on."""
    return split_called(name) in SPLIT_NAMES or is_test(name)


def by_split(source: object, found: Mapping[str, T], stem: Callable[[str], str] = str) -> dict[str, T]:
    """What a source has, {name: value}, by `split_called` of the names, or of what `stem` leaves of them.

    Raises:
        InputError: two are for the same split.
    """
    names: dict[str, str] = {}
    for name in found:
        split = split_called(stem(name))
        if split in names:
            raise InputError(f"{source} has both {names[split]} and {name} for {split}: expected one of them")
        names[split] = name
    return {split: found[name] for split, name in names.items()}


def is_left_to_datasets(stems: Iterable[str]) -> bool:
    """Whether some of these names of files are such that the `datasets` library knows there is something to train on.

    It does so of train-00000-of-00002 or reviews_train; where it does not, it would leave out what is called otherwise
    beside a test split, and the test split would be all there is.
    """
    return any("train" in stem for stem in stems)


def check_validation_fraction(fraction: float) -> None:
    """Raise InputError unless a share of the training examples can be held out: more than 0, at most a half."""
    if not 0.0 < fraction <= 0.5:
        raise InputError(f"validation_fraction is {fraction}: expected more than 0 and at most 0.5")
