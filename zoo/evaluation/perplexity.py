"""Perplexity: between how many equally likely tokens a model is left to choose, on average."""

import math
import sys


def perplexity(nats_per_token: float) -> float:
    """e to the power of the cross-entropy in nats.

    From 710 nats on, which a far too high learning rate leads to, it is more than a float can hold. It is then the
    largest float there is: JSON has no infinity, and the run's other figures are still worth having.
    """
    try:
        return math.exp(nats_per_token)
    except OverflowError:
        return sys.float_info.max
