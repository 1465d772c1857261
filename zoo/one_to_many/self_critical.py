"""Self-critical training of a captioner: it draws captions of its own, and learns from how well each is judged.

Rennie et al., "Self-critical sequence training for image captioning", 2017. What a caption's score is compared with is
the mean of the others drawn of the same image (Luo, "A better variant of self-critical sequence training", 2020), so
that no caption has to be decoded for the comparison.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from zoo.core.padding import padding_mask
from zoo.one_to_many.image_captioner import CaptionBatch, ImageCaptioner
from zoo.pretrained import evaluating

Tokens = list[int]

Reward = Callable[[Sequence[Tokens], Sequence[Sequence[Tokens]]], Sequence[float]]
"""N captions and the references of the image of each, all with their end tokens -> N scores, the higher the better."""


def self_critical_loss(model: ImageCaptioner, batch: CaptionBatch, samples: int, reward: Reward) -> Tensor:
    """A scalar whose gradient raises the reward that is expected of a caption, by REINFORCE.

    -1/N · Σ (reward - mean reward of the image's other samples) · log p, over all N tokens of all samples.

    Args:
        model: it draws in evaluation mode, and learns as it is.
        batch: B images, each with its references as captions.
        samples: captions to draw of each image, 2 or more.
        reward: what judges them.
    """
    drawn = draw_captions(model, batch.images, samples)
    references = _rows(batch, len(batch.captions) // len(batch.images))
    found = _rows(drawn, samples)
    judged = [reward(several, [references[image]] * samples) for image, several in enumerate(found)]
    rewards = torch.tensor(judged, device=drawn.captions.device)
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (samples - 1)
    inside = ~padding_mask(drawn.lengths, drawn.captions.shape[1])
    scores = model.decoder.scores(model.features(drawn)[inside]).float()
    _ban(model, scores)
    wanted = drawn.captions[inside]
    # Since every row of `inside` is one token, a caption's advantage counts once a token.
    advantages = (rewards - others).flatten().repeat_interleave(drawn.lengths)
    log_probabilities = torch.log_softmax(scores, dim=-1).gather(1, wanted[:, None]).squeeze(1)
    return -(advantages * log_probabilities).sum() / len(wanted)


@torch.no_grad()
def draw_captions(model: ImageCaptioner, images: Tensor, samples: int) -> CaptionBatch:
    """Captions drawn word by word from what the model holds likely, by the global random numbers.

    Args:
        model: a captioner.
        images: (B, 3, height, width), or their features (B, S, M).
        samples: captions of each.

    Returns:
        The images with their B·samples captions, which end with the end token unless `max_length` cut them.
    """
    with evaluating(model):
        state, memory = model.encode(images)
        state = tuple(part.repeat_interleave(samples, dim=1) for part in state)
        token = torch.full((len(images) * samples,), model.end_id, device=images.device)
        lengths = torch.zeros_like(token)
        ended = torch.zeros_like(token, dtype=torch.bool)
        columns: list[Tensor] = []
        while len(columns) < model.max_length and not ended.all():
            scores, state = model.decoder.step(token, state, memory)
            scores = scores.float()
            _ban(model, scores)
            # The largest of the scores with Gumbel noise is a draw from their softmax (Gumbel, 1954), without one.
            noise = torch.empty_like(scores).exponential_().log_()
            token = scores.sub_(noise).argmax(dim=-1).masked_fill(ended, model.end_id)
            columns.append(token)
            lengths += ~ended
            ended = ended | (token == model.end_id)
    return CaptionBatch(images, torch.stack(columns, dim=1), lengths)


def _ban(model: ImageCaptioner, scores: Tensor) -> None:
    """What decoding never writes is never drawn either."""
    scores[:, model.require_tokenizer().never_generated] = -torch.inf


def _rows(batch: CaptionBatch, several: int) -> list[list[Tokens]]:
    """The captions of each image, without padding."""
    lengths = batch.lengths.tolist()
    rows = [row[:length] for row, length in zip(batch.captions.tolist(), lengths, strict=True)]
    return [rows[start : start + several] for start in range(0, len(rows), several)]
