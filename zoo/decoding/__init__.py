"""From next-step scores to sequences. Knows a decoder's step, not what it decodes."""

from zoo.decoding.beam import (
    BeamDecoder,
    BeamOptions,
    DecoderMemory,
    Hypothesis,
    beam_search,
    length_penalty,
    rows_at_once,
)
from zoo.decoding.ensemble import EnsembleDecoder, EnsembleMemory, Start
from zoo.decoding.filters import SamplingOptions, candidates, choose
from zoo.decoding.sampling import Sampler, Stepper

__all__ = [
    "BeamDecoder",
    "BeamOptions",
    "DecoderMemory",
    "EnsembleDecoder",
    "EnsembleMemory",
    "Hypothesis",
    "Sampler",
    "SamplingOptions",
    "Start",
    "Stepper",
    "beam_search",
    "candidates",
    "choose",
    "length_penalty",
    "rows_at_once",
]
