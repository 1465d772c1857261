"""Perplexity, also of a model that is worse than a float can say."""

import json
import math
import sys

import pytest

from zoo.evaluation.perplexity import perplexity


def test_it_is_the_number_of_equally_likely_tokens() -> None:
    assert perplexity(0.0) == 1
    assert perplexity(math.log(27)) == pytest.approx(27)


def test_more_than_a_float_can_hold_is_the_largest() -> None:
    assert perplexity(709.0) < sys.float_info.max
    for nats in (710.0, 1e30):
        assert perplexity(nats) == sys.float_info.max
    assert json.loads(json.dumps(perplexity(1e30), allow_nan=False)) == sys.float_info.max
