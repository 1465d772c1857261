"""A text generator and its n-gram baseline in one model: what one has not learned, the other may have counted."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core import PackedDecoder, State
from zoo.core.dropout import check_probability
from zoo.core.output import CHUNK_SCORES
from zoo.device import StepPrecision
from zoo.ngram_model import NgramModel
from zoo.one_to_many.generation import generate_text, pieces_of, stream_text
from zoo.one_to_many.markov_generator import MARKOV_FILE, MarkovGenerator
from zoo.one_to_many.text_generator import TextGenerator
from zoo.pretrained import evaluating, local_folder


class InterpolatedGenerator(nn.Module):
    """The mixture of a recurrent network and an n-gram model, each of which has a state of its own:

        p(w | h) = (1 - weight) * p_network(w | h) + weight * p_ngram(w | h)

    Source: Jelinek & Mercer, "Interpolated estimation of Markov source parameters from sparse data" (1980); of
    recurrent networks Mikolov et al., "Recurrent neural network based language model" (2010).

    Args:
        network: a trained text generator.
        markov: an n-gram model of the same tokens, fitted to the text that the network was trained on.
        weight: the n-gram model's share, 0 to below 1. On Tiny Shakespeare 0.2 to 0.3 is best.

    Raises:
        ValueError: the weight is out of its range, or the vocabularies differ.
    """

    def __init__(self, network: TextGenerator, markov: MarkovGenerator, weight: float = 0.25) -> None:
        super().__init__()
        check_probability("weight", weight)
        if network.config["vocab_size"] != markov.vocab_size:
            sizes = f"{network.config['vocab_size']} tokens and the n-gram model {markov.vocab_size}"
            raise ValueError(f"the network knows {sizes}: both must be of the same tokenizer")
        self.network, self.markov, self.weight = network, markov, weight
        self.tokenizer = network.tokenizer

    @classmethod
    def from_pretrained(cls, name: str | Path, weight: float = 0.25, **hub_options: Any) -> Self:
        """Load what a run of scripts/train_text_generator.py left; the n-grams are counted again, which takes seconds.

        Args:
            name, hub_options: as of `TextGenerator.from_pretrained`.
            weight: the n-gram model's share.

        Raises:
            InputError: as of `TextGenerator.from_pretrained`; or there is no tokenizer, or no n-gram model beside
                it, or that is damaged or of another tokenizer.
            ValueError: the weight is out of its range.
        """
        check_probability("weight", weight)
        network, tokenizer = TextGenerator.to_start_from(name, **hub_options)
        folder = local_folder(name, [MARKOV_FILE], hub_options)
        return cls(network, MarkovGenerator.load(folder, tokenizer), weight)

    @torch.inference_mode()
    def loss_and_state(self, batch: tuple[Tensor, Tensor], state: State | None) -> tuple[Tensor, State]:
        """Mean nats a token of (inputs (B, T), targets (B, T)) and the state after them, to measure a text with.

        The state is the network's and, last and on the CPU, the n-gram model's (n - 1, B). The mean is in float64 on
        the CPU, and has no gradient: the network is trained by itself.
        """
        inputs, targets = batch
        network_state, markov_state = (None, None) if state is None else (state[:-1], state[-1:])
        decoder = self.network.decoder
        features, network_state = decoder.features(inputs, network_state)
        rows = max(1, CHUNK_SCORES // self.markov.vocab_size)
        parts = zip(features.flatten(0, 1).split(rows), targets.flatten().split(rows), strict=True)
        nats = [F.cross_entropy(decoder.scores(some).float(), wanted, reduction="none") for some, wanted in parts]
        counted, markov_state = self.markov.window_log_probabilities(inputs, targets, markov_state)
        # In float64, and so on the CPU, since not every accelerator has it.
        mixed = torch.lerp((-torch.cat(nats).to("cpu", torch.float64)).exp(), counted.flatten().exp(), self.weight)
        return -mixed.log().mean(), network_state + markov_state

    def generate(
        self, prompt: str | Sequence[str] = "", *, precision: StepPrecision = "float32", **options: Any
    ) -> Any:
        """Continue a prompt or a list of prompts, as `TextGenerator.generate` does."""
        with evaluating(self.network):
            return generate_text(self._stepper(precision), self.network.require_tokenizer(), prompt, **options)

    def stream(self, prompt: str = "", *, precision: StepPrecision = "float32", **options: Any) -> Iterator[str]:
        """Continue a prompt piece by piece as the text is made; the options are those of `generate`."""
        pieces = stream_text(self._stepper(precision), self.network.require_tokenizer(), prompt, **options)
        yield from pieces_of(self.network, pieces)

    def _stepper(self, precision: StepPrecision) -> "_MixedDecoder":
        return _MixedDecoder(self.network.stepper(precision), self.markov, self.weight)


class _MixedDecoder(nn.Module):
    """Steps a decoder and an n-gram model side by side; see `zoo.decoding.Stepper`."""

    def __init__(self, decoder: PackedDecoder, markov: NgramModel, weight: float) -> None:
        super().__init__()
        self.decoder, self.markov, self.weight = decoder, markov, weight

    def prefill(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        logits, state = self.decoder.prefill(tokens, lengths)
        counted, markov_state = self.markov.prefill(tokens, lengths)
        return self._mixed(logits, counted), state + markov_state

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        logits, decoder_state = self.decoder.step(tokens, state[:-1])
        counted, markov_state = self.markov.step(tokens, state[-1:])
        return self._mixed(logits, counted), decoder_state + markov_state

    def _mixed(self, logits: Tensor, counted: Tensor) -> Tensor:
        """Logits (B, V) of one model and log-probabilities (B, V) of the other -> logits of both.

        They are on the scale of the first, on which a repetition penalty depends.
        """
        logits = logits.float()
        mixed = torch.lerp(logits.softmax(-1), counted.exp(), self.weight).log()
        return mixed + logits.logsumexp(-1, keepdim=True)
