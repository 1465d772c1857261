"""Which words an image's captions will have, predicted before one is written, and told to the decoder."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core.padding import padding_mask


class VisualConcepts(nn.Module):
    """The vocabulary's first words, each with a probability that a caption of the image has it.

    A word is seen in the whole of an image or at one place of it: its score is one of the mean of the features and the
    log of the mean exponential of one at each place, a soft maximum (Fang et al., "From captions to visual concepts and
    back", 2015, have a noisy OR over places). The decoder is told of all words at once, as a vector that is added to
    the features (Wu et al., "What value do explicit high level concepts have in vision to language problems?", 2016,
    begin the decoder's state with it). All captions of an image teach the words together, where the decoder learns them
    one by one.

    Args:
        feature_size: M.
        num_concepts: W, words with token ids below it: a tokenizer of words gives the lowest to the commonest.
        dropout: on the mean of the features.
    """

    def __init__(self, feature_size: int, num_concepts: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.whole = nn.Linear(feature_size, num_concepts)
        self.place = nn.Linear(feature_size, num_concepts, bias=False)
        self.told = nn.Linear(num_concepts, feature_size)
        for layer, std in ((self.whole, 0.01), (self.place, 0.01), (self.told, 0.06)):
            nn.init.normal_(layer.weight, std=std)

    def expect(self, captions: Sequence[Tensor]) -> None:
        """Start from how often each word is in `captions`, rows of tokens (T,): else the biases must learn it first."""
        size = len(self.whole.bias)
        counts = torch.zeros(size)
        for tokens in captions:
            present = tokens.long().unique()
            counts[present[present < size]] += 1
        with torch.no_grad():
            self.whole.bias.copy_(((counts + 0.5) / (len(captions) + 1)).logit())

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, M) -> logits (B, W), and what the decoder is told (B, M)."""
        anywhere = self.place(features).float().logsumexp(1) - math.log(features.shape[1])
        logits = self.whole(self.dropout(features.mean(dim=1))) + anywhere
        return logits, self.told(logits.sigmoid().to(features.dtype))

    def loss(self, logits: Tensor, captions: Tensor, lengths: Tensor) -> Tensor:
        """Nats an image of all W words: logits (B, W), captions (B·C, T) and lengths (B·C,) -> scalar.

        A word's target is the share of the image's C captions that have it. Images count in the mean as many times as
        their captions have tokens, as in the captions' own loss, so that parts of a batch add up to the whole.
        """
        size = logits.shape[1]
        counted = captions.long().masked_fill(padding_mask(lengths.to(captions.device), captions.shape[1]), size)
        present = logits.new_zeros(len(captions), size + 1, dtype=torch.float32).scatter_(1, counted.clamp(max=size), 1)
        targets = present[:, :size].unflatten(0, (len(logits), -1)).mean(dim=1)
        nats = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none").sum(dim=1)
        tokens = lengths.to(nats.device).unflatten(0, (len(logits), -1)).sum(dim=1)
        return (nats * tokens).sum() / tokens.sum()
