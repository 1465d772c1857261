"""What was said of the training images that are most like a new one, and how it helps to describe that.

People say much the same of images that are alike. So words that follow one another in the captions of similar images
are likelier (`NgramDecoder`, the network's partner in beam search), and of the hypotheses found, the one that agrees
with those captions is more often right than the likeliest (`agreeing`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core.state import State
from zoo.decoding import Hypothesis
from zoo.decoding.agreement import mean_bleu

PADDING = -1
LIKELINESS = 0.01  # of 1 in a hypothesis' score, beside 1 in its agreement with captions; 0 chooses nearly as well


class NearestCaptions(nn.Module):
    """N images, each as a vector of M numbers, with up to C captions of up to T tokens.

    Images are alike whose vectors, less the mean of all N, have a similar direction.

    Args:
        images, captions, tokens: N, C and T.
        size: M.

    Raises:
        ValueError: there are no images, captions or tokens.
    """

    mean: Tensor
    directions: Tensor
    captions: Tensor

    def __init__(self, images: int, captions: int, tokens: int, size: int) -> None:
        super().__init__()
        if min(images, captions, tokens) < 1:
            raise ValueError(f"{images} images with {captions} captions of {tokens} tokens are nothing to look among")
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("directions", torch.zeros(images, size, dtype=torch.float16))
        self.register_buffer("captions", torch.full((images, captions, tokens), PADDING, dtype=torch.int32))

    @classmethod
    def of(cls, vectors: Tensor, captions: Sequence[Sequence[Sequence[int]]]) -> "NearestCaptions":
        """Vectors (N, M), and N lists of captions, lists of tokens. Raises ValueError if no caption has a token."""
        most = max(map(len, captions), default=0)
        longest = max((len(caption) for several in captions for caption in several), default=0)
        made = cls(len(vectors), most, longest, vectors.shape[1])
        made.mean.copy_(vectors.float().mean(dim=0))
        made.directions.copy_(made._directions(vectors))
        for number, several in enumerate(captions):
            for place, tokens in enumerate(several):
                made.captions[number, place, : len(tokens)] = torch.tensor(tokens, dtype=torch.int32)
        return made

    def _directions(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors.to(self.mean.device).float() - self.mean, dim=1)

    def forward(self, vectors: Tensor, neighbours: int) -> Tensor:
        """Vectors (B, M) -> captions (B, K·C, T) int32 of the K = `neighbours` images most like each, or of all if
        there are fewer. `PADDING` follows a caption, and fills the place of one that is missing."""
        similarity = self._directions(vectors) @ self.directions.float().T
        nearest = similarity.topk(min(neighbours, len(self.directions)), dim=1).indices
        return self.captions[nearest].flatten(1, 2)


class Trigrams(NamedTuple):
    """Three tokens that follow one another in captions, (B, N, 3) int64; `PADDING` is the last of those not there."""

    tokens: Tensor

    def rows(self, index: Tensor) -> "Trigrams":
        """Row n becomes row `index[n]` of these; `index` is (N,), int64."""
        return Trigrams(self.tokens[index])


class NgramDecoder:
    """A trigram model of some captions, a source of its own for each row, as a decoder for `zoo.decoding`.

    Interpolated with the bigram and the unigram model by Witten and Bell's method ("The zero-frequency problem", 1991).
    Mixed with a network's probabilities it does what the nearest neighbours of states do in Khandelwal et al.,
    "Generalization through memorization: nearest neighbor language models", 2020.

    Args:
        vocab_size: V, with the end token.
        end_id: that, which stands before a caption too.
    """

    def __init__(self, vocab_size: int, end_id: int) -> None:
        self.vocab_size, self.end_id = vocab_size, end_id

    def start(self, captions: Tensor) -> tuple[Tensor, State, Trigrams]:
        """Captions (B, R, T), as `NearestCaptions` gives them -> logits (B, V) of the first token, state, memory."""
        ended = F.pad(captions.long(), (0, 1), value=PADDING)
        lengths = (captions != PADDING).sum(dim=2, keepdim=True)
        ended = ended.scatter(2, lengths, torch.where(lengths > 0, self.end_id, PADDING))
        memory = Trigrams(F.pad(ended, (2, 0), value=self.end_id).unfold(2, 3, 1).flatten(1, 2))
        first = torch.full((len(captions),), self.end_id, device=captions.device)
        return *self.step(first, (first[None, :, None],), memory), memory

    def step(self, tokens: Tensor, state: State, memory: Trigrams) -> tuple[Tensor, State]:
        """Tokens (N,), the tokens before them as a state, memory of B rows -> logits (N, V), state."""
        before = torch.stack([state[0][0, :, 0], tokens], dim=1)
        trigrams = memory.tokens.repeat_interleave(len(tokens) // len(memory.tokens), dim=0)
        follows = trigrams[..., 2]
        there = follows != PADDING
        bigram = there & (trigrams[..., 1] == before[:, 1:])
        trigram = bigram & (trigrams[..., 0] == before[:, :1])
        p = torch.full((len(tokens), self.vocab_size), 1 / self.vocab_size, device=tokens.device)
        for chosen in (there, bigram, trigram):
            counts = torch.zeros_like(p).scatter_add_(1, follows.clamp(min=0), chosen.to(p.dtype))
            types = (counts > 0).sum(dim=1, keepdim=True)
            mixed = (counts + types * p) / (chosen.sum(dim=1, keepdim=True) + types).clamp(min=1)
            p = torch.where(types > 0, mixed, p)
        return p.log(), (tokens[None, :, None],)


def agreeing(hypotheses: Sequence[Hypothesis], captions: Tensor) -> list[Hypothesis]:
    """The hypotheses, those first that agree best with captions (R, T) on average; of much the same the likeliest.

    Mao et al., "Deep captioning with multimodal recurrent neural networks", 2015, and Devlin et al., "Exploring nearest
    neighbor approaches for image captioning", 2015, choose so.
    """
    said = [[token for token in caption if token != PADDING] for caption in captions.tolist()]
    agreement = mean_bleu([one.tokens for one in hypotheses], [caption for caption in said if caption] or [[]]).tolist()
    worth = [agrees + LIKELINESS * one.score for agrees, one in zip(agreement, hypotheses, strict=True)]
    return [hypotheses[number] for number in sorted(range(len(worth)), key=lambda number: -worth[number])]
