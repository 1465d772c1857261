"""What splits are called, whatever has them."""

import pytest

from zoo.data.splits import by_split, is_split, split_called
from zoo.errors import InputError


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((name, "train") for name in ("train", "Train", "TRAINING")),
        *((name, "validation") for name in ("validation", "Valid", "VAL", "dev", "Development")),
        *((name, "test") for name in ("test", "Test", "testing")),
        *((name, name) for name in ("Test_2016", "test2017", "more", "trains", "unsupervised")),
    ],
)
def test_the_split_that_a_name_is_for(name: str, split: str) -> None:
    assert split_called(name) == split
    assert is_split(name) == (name not in ("more", "trains", "unsupervised"))


def test_two_names_for_one_split() -> None:
    assert by_split("a set", {"Train": 1, "val": 2, "test": 3, "test_hard": 4}) == {
        "train": 1,
        "validation": 2,
        "test": 3,
        "test_hard": 4,
    }
    with pytest.raises(InputError, match=r"a set has both val and Valid for validation: expected one of them"):
        by_split("a set", {"val": 1, "train": 2, "Valid": 3})
