"""What was said of the training images that are most like a new one, and how it helps to describe that.

People say much the same of images that are alike. So words that follow one another in the captions of similar images
are likelier (`NgramDecoder`, the network's partner in beam search), and of the hypotheses found, the one that agrees
with those captions is more often right than the likeliest (`agreeing`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from zoo.core.state import State
from zoo.decoding import Hypothesis
from zoo.decoding.agreement import mean_bleu
from zoo.errors import InputError
from zoo.files import write_atomically
from zoo.pretrained import CHECKSUM, checksum, read_weights

NEIGHBOURS_FILE = "neighbours.safetensors"
MOST_NEIGHBOURS = 100
NGRAM_WEIGHT = 0.2  # of their captions in a word's probability; the rest is the network's
PADDING = -1
LIKELINESS = 0.01  # what 1 in a hypothesis' score counts for, beside 1 in its agreement; 0 chooses nearly as well


def check_neighbours(neighbours: int) -> None:
    """Raises ValueError if that is no number of images to ask."""
    if not 0 <= neighbours <= MOST_NEIGHBOURS:
        raise ValueError(f"neighbours is {neighbours}, but must be from 0 (none) to {MOST_NEIGHBOURS}")


class NearestCaptions(nn.Module):
    """N images, each as a vector of M numbers, with up to C captions of up to T tokens.

    Images are alike whose vectors, less the mean of all N, have a similar direction. The tensors are none of the
    model's weights: they have a file of their own.

    Args:
        mean: (M,).
        directions: (N, M), float16.
        captions: (N, C, T), int32; `PADDING` follows a caption, and fills the place of one that is missing.
    """

    mean: Tensor
    directions: Tensor
    captions: Tensor

    def __init__(self, mean: Tensor, directions: Tensor, captions: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("directions", directions, persistent=False)
        self.register_buffer("captions", captions, persistent=False)

    @classmethod
    def of(cls, vectors: Tensor, captions: Sequence[Sequence[Sequence[int]]]) -> Self:
        """Vectors (N, M), and N lists of captions, lists of tokens. Raises ValueError if no caption has a token."""
        most = max(map(len, captions), default=0)
        longest = max((len(caption) for several in captions for caption in several), default=0)
        if longest == 0:
            raise ValueError("none of the captions has a token: there is nothing to look among")
        padded = torch.full((len(vectors), most, longest), PADDING, dtype=torch.int32)
        for number, several in enumerate(captions):
            for place, tokens in enumerate(several):
                padded[number, place, : len(tokens)] = torch.tensor(tokens, dtype=torch.int32)
        mean = vectors.float().mean(dim=0)
        return cls(mean, F.normalize(vectors.float() - mean, dim=1).half(), padded.to(mean.device))

    def save(self, folder: Path) -> None:
        """Write them into a folder, whole or not at all. Raises OSError if that cannot be done."""
        tensors = {"mean": self.mean.float(), "directions": self.directions.half(), "captions": self.captions}
        write_atomically(folder / NEIGHBOURS_FILE, save(tensors, {CHECKSUM: checksum(tensors)}))

    @classmethod
    def load(cls, folder: Path, size: int, vocab_size: int) -> Self:
        """Those in a folder. Raises InputError if they are damaged, or of another M or vocabulary."""
        file = folder / NEIGHBOURS_FILE
        tensors, _ = read_weights(file)
        kinds = {"mean": (torch.float32, 1), "directions": (torch.float16, 2), "captions": (torch.int32, 3)}
        if {name: (tensor.dtype, tensor.dim()) for name, tensor in tensors.items()} != kinds:
            raise InputError(f"{file} does not hold images and what was said of them: train or copy the run again")
        mean, directions, captions = (tensors[name] for name in kinds)
        if mean.shape != (size,) or directions.shape != (len(captions), size) or captions.numel() == 0:
            raise InputError(f"{file} is of another model: its tensors do not fit this one's {size:,} numbers an image")
        if captions.min() < PADDING or captions.max() >= vocab_size:
            raise InputError(f"{file} has tokens that are not among the model's {vocab_size:,}")
        return cls(mean, directions, captions)

    def forward(self, vectors: Tensor, neighbours: int) -> Tensor:
        """Vectors (B, M) -> captions (B, K·C, T) of the K = `neighbours` images most like each, or of all if there are
        fewer."""
        similarity = F.normalize(vectors.float() - self.mean, dim=1) @ self.directions.float().T
        nearest = similarity.topk(min(neighbours, len(self.directions)), dim=1).indices
        return self.captions[nearest].flatten(1, 2)


class Trigrams(NamedTuple):
    """What `NgramDecoder` knows of the captions of B images.

    Attributes:
        tokens: three that follow one another, (B, N, 3) int64; `PADDING` is the last of those not there.
        weights: (B, N, 2): 1, and one over how often the last two are among them; 0 for those not there.
        trigram_weights: the same for all three.
        unigram: (B, V), each token's probability whatever stands before it.
    """

    tokens: Tensor
    weights: Tensor
    trigram_weights: Tensor
    unigram: Tensor

    def rows(self, index: Tensor) -> "Trigrams":
        """Row n becomes row `index[n]` of these; `index` is (N,), int64."""
        return Trigrams(*(part[index] for part in self))


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
        tokens = F.pad(ended, (2, 0), value=self.end_id).unfold(2, 3, 1).flatten(1, 2)
        oldest, newest, follows = tokens.unbind(dim=-1)  # (B, N) each
        there = (follows != PADDING).float()
        counts = there.new_zeros(len(tokens), self.vocab_size).scatter_add_(1, follows.clamp(min=0), there)
        types, total = (counts > 0).sum(dim=1, keepdim=True), there.sum(dim=1, keepdim=True)
        unigram = torch.where(total > 0, counts + types / self.vocab_size, 1 / self.vocab_size)
        unigram = unigram / (total + types).clamp(min=1)

        def weights(of: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
            """Which pair of `of` and a token each is, as a number, and the weights of these pairs."""
            pairs, counts = (of * (self.vocab_size + 1) + token + 1).unique(return_inverse=True, return_counts=True)[1:]
            return pairs, torch.stack([there, there / counts[pairs]], dim=-1)

        image = torch.arange(len(tokens), device=tokens.device)[:, None]
        pairs, bigram_weights = weights(weights(image, newest)[0], follows)
        memory = Trigrams(tokens, bigram_weights, weights(pairs, oldest)[1], unigram)
        first = torch.full((len(captions),), self.end_id, device=captions.device)
        return *self.step(first, (first[None, :, None],), memory), memory

    def step(self, tokens: Tensor, state: State, memory: Trigrams) -> tuple[Tensor, State]:
        """Tokens (B·K,), the tokens before them as a state (1, B·K, 1), memory of B rows -> logits (B·K, V), state."""
        beams = len(tokens) // len(memory.tokens)
        second, first = (part.unflatten(0, (-1, beams))[..., None] for part in (state[0][0, :, 0], tokens))  # (B, K, 1)
        oldest, newest, follows = memory.tokens[:, None].unbind(dim=-1)  # (B, 1, N) each
        bigram = ((follows != PADDING) & (newest == first)).float()  # (B, K, N)
        trigram = bigram * (oldest == second)
        # Where an order's context was never met, the order below it has all of the probability.
        (own, lower), (own_3, lower_3) = (
            self._shares(bigram, memory.weights),
            self._shares(trigram, memory.trigram_weights),
        )
        p = memory.unigram[:, None] * (lower * lower_3)
        p.scatter_add_(2, follows.clamp(min=0).expand_as(bigram), bigram * (own * lower_3) + trigram * own_3)
        return p.log().flatten(0, 1), (tokens[None, :, None],)

    @staticmethod
    def _shares(chosen: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """What follows one context, chosen (B, K, N) of all -> (B, K, 1) each: the probability of each of these, and
        that of the order below."""
        total, types = (chosen @ weights).split(1, dim=-1)
        both = total + types
        return 1 / both.clamp(min=1), torch.where(total > 0, types / both.clamp(min=1), 1.0)


def agreeing(hypotheses: Sequence[Hypothesis], captions: Tensor) -> list[Hypothesis]:
    """The hypotheses, those first that agree best with captions (R, T) on average; of much the same the likeliest.

    Those that came to no end come last. This is the consensus of Devlin et al., "Exploring nearest neighbor approaches
    for image captioning", 2015, by which Mao et al., "Deep captioning with multimodal recurrent neural
    networks", 2015, rerank.
    """
    agreement = mean_bleu([one.tokens for one in hypotheses], captions).tolist()
    worth = [agrees + LIKELINESS * one.score for agrees, one in zip(agreement, hypotheses, strict=True)]
    order = sorted(range(len(worth)), key=lambda number: (not hypotheses[number].finished, -worth[number]))
    return [hypotheses[number] for number in order]
