"""From next-step scores to sequences. Knows a decoder's step, not what it decodes."""

from zoo.decoding.filters import SamplingOptions, candidates, choose
from zoo.decoding.sampling import Sampler, Stepper

__all__ = ["Sampler", "SamplingOptions", "Stepper", "candidates", "choose"]
