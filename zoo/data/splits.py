"""Rules for splits that all sources share."""

from zoo.errors import InputError


def check_validation_fraction(fraction: float) -> None:
    """Raise InputError unless a share of the training examples can be held out: more than 0, at most a half."""
    if not 0.0 < fraction <= 0.5:
        raise InputError(f"validation_fraction is {fraction}: expected more than 0 and at most 0.5")
