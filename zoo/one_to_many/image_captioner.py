"""One-to-many: an image goes in, a caption comes out word by word."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from zoo.core import Bridge, Memory, PackedDecoder, RecurrentDecoder, State
from zoo.core.decoder import END, delayed
from zoo.core.dropout import LockedDropout, check_probability
from zoo.data.image_tensors import image_batches
from zoo.data.images import ImageLike, Resize, check_resize
from zoo.data.length_batches import pad
from zoo.data.tokenizer import TextTokenizer
from zoo.decoding import BeamOptions, EnsembleDecoder, Hypothesis, Start, beam_search
from zoo.one_to_many.nearest_captions import (
    NEIGHBOURS_FILE,
    NGRAM_WEIGHT,
    NearestCaptions,
    NgramDecoder,
    agreeing,
    check_neighbours,
)
from zoo.one_to_many.visual_concepts import VisualConcepts
from zoo.one_to_one.image_encoder import SMALL, FeatureExtractor, ImageEncoder
from zoo.pretrained import PretrainedModel, agreed_vocab_size, evaluating

LONGEST = 1_000
"""Tokens of a caption: a model that never ends one, as a stranger's may be, writes so many."""


class CaptionBatch(NamedTuple):
    """B images with C captions each: images (B, 3, height, width), or the features (B, S, M) that the encoder made of
    them; captions (B·C, T) int64 padded on the right, those of an image one after the other, with their end tokens;
    lengths (B·C,)."""

    images: Tensor
    captions: Tensor
    lengths: Tensor


class Caption(NamedTuple):
    """One way to describe an image.

    Attributes:
        text: the caption.
        score: log P / lp, see `zoo.decoding.BeamOptions`.
        finished: whether it came to its end before `max_length`.
    """

    text: str
    score: float
    finished: bool


class ImageCaptioner(PretrainedModel):
    """An image captioner: `ImageEncoder` → bridge → `RecurrentDecoder`, with attention or without.

    - `attention=None`, the plain pattern: the mean of the image's features becomes the decoder's first state, which
      unrolls into the caption (Vinyals et al., "Show and tell: a neural image caption generator", 2015).
    - With attention the decoder also looks at the grid of features at each word (Xu et al., "Show, attend and tell",
      2015). What it finds is not fed back into the layer that looks, so that training runs over whole captions at once.

    One token more than the vocabulary has ends every caption, and stands before its first word.

    Args:
        tokenizer: of the captions. Needed for text only.
        vocab_size: V; may be left out where a tokenizer is given.
        backbone, image_size, fixed: see `ImageEncoder`. Its weights are random, whatever the backbone: `encoder.load`
            takes others over, and fixes it.
        resize: how an image is brought to image_size: `squash`, all of it, or `crop`, the square in its middle.
        embedding_size: E.
        hidden_size: H.
        num_layers: L; with attention at least 2.
        cell: a name in `zoo.core.CELLS`.
        attention: a name in `zoo.core.ATTENTIONS`, or None.
        num_heads: of the attention `multihead`.
        tied: the embeddings score the next word too (Press and Wolf, 2017).
        max_length: longest caption in tokens.
        dropout: locked dropout between layers, on the outputs and on what attention reads.
        feature_dropout: locked dropout on the image's features.
        input_dropout, embedding_dropout: see `zoo.core.embedding.TokenEmbedding`.
        weight_dropout: share of the recurrent matrices' weights dropped.
        label_smoothing: this share of each target is spread over the vocabulary (Szegedy et al., 2016).
        length_penalty: what captions are ranked with unless it is said otherwise; see `zoo.decoding.BeamOptions`.
        mirror: whether an image is looked at mirrored too unless it is said otherwise; see `captions`.
        num_concepts: W, the vocabulary's first words, which are predicted of the image first; see
            `zoo.one_to_many.visual_concepts`. 0 for none.
        concept_weight: what their loss counts for in training, beside the captions'.
        neighbours: K, how many images of those remembered help to write captions unless it is said otherwise; see
            `captions_of`.

    Raises:
        ValueError: a size, probability or name out of range, or a vocabulary that is not the tokenizer's.
    """

    extra_files: ClassVar[tuple[str, ...]] = (NEIGHBOURS_FILE,)

    def __init__(
        self,
        *,
        tokenizer: TextTokenizer | None = None,
        vocab_size: int | None = None,
        backbone: str = SMALL,
        image_size: int = 64,
        resize: Resize = "squash",
        embedding_size: int = 256,
        hidden_size: int = 256,
        num_layers: int = 2,
        cell: str = "lstm",
        attention: str | None = "multihead",
        num_heads: int = 8,
        tied: bool = True,
        max_length: int = 50,
        dropout: float = 0.0,
        feature_dropout: float = 0.0,
        input_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        label_smoothing: float = 0.0,
        length_penalty: float = 0.0,
        mirror: bool = False,
        num_concepts: int = 0,
        concept_weight: float = 0.05,
        neighbours: int = 0,
        fixed: bool = False,
    ) -> None:
        super().__init__()
        vocab_size = agreed_vocab_size(vocab_size, tokenizer)
        if not 1 <= max_length <= LONGEST:
            raise ValueError(f"max_length is {max_length}, but must be from 1 to {LONGEST:,}")
        check_resize(resize)
        check_probability("feature_dropout", feature_dropout)
        check_probability("label_smoothing", label_smoothing)
        BeamOptions(length_penalty=length_penalty)  # checks it
        if not 0 <= num_concepts <= vocab_size:
            raise ValueError(f"num_concepts is {num_concepts}, but must be from 0 to the vocabulary's {vocab_size:,}")
        if not 0 <= concept_weight < math.inf:
            raise ValueError(f"concept_weight is {concept_weight}, but must be a number of at least 0")
        check_neighbours(neighbours)
        self.config = {
            "vocab_size": vocab_size,
            "backbone": backbone,
            "image_size": image_size,
            "resize": resize,
            "embedding_size": embedding_size,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "cell": cell,
            "attention": attention,
            "num_heads": num_heads,
            "tied": tied,
            "max_length": max_length,
            "dropout": dropout,
            "feature_dropout": feature_dropout,
            "input_dropout": input_dropout,
            "embedding_dropout": embedding_dropout,
            "weight_dropout": weight_dropout,
            "label_smoothing": label_smoothing,
            "length_penalty": length_penalty,
            "mirror": mirror,
            "num_concepts": num_concepts,
            "concept_weight": concept_weight,
            "neighbours": neighbours,
            "fixed": fixed,
        }
        self.tokenizer = tokenizer
        self.end_id = vocab_size
        self.resize = resize
        self.max_length = max_length
        self.label_smoothing = label_smoothing
        self.length_penalty = length_penalty
        self.mirror = mirror
        self.concept_weight = concept_weight
        self.neighbours = neighbours
        self.encoder = ImageEncoder(backbone, image_size, fixed)
        places, size = self.encoder.grid[0] * self.encoder.grid[1], self.encoder.feature_size
        # Backbones differ in how large their features are, and none says where in the image they were found.
        self.norm = nn.LayerNorm(size)
        # Places that begin different are told apart sooner, but new pairs of colour and shape are then named worse.
        self.position = nn.Parameter(torch.zeros(places, size))
        self.feature_dropout = LockedDropout(feature_dropout)
        self.concepts = VisualConcepts(size, num_concepts, dropout) if num_concepts else None
        self.decoder = RecurrentDecoder(
            vocab_size=vocab_size + 1,
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            cell=cell,
            attention=attention,
            memory_size=None if attention is None else size,
            num_heads=num_heads,
            tied=tied,
            residual=True,
            dropout=dropout,
            input_dropout=input_dropout,
            embedding_dropout=embedding_dropout,
            weight_dropout=weight_dropout,
        )
        self.bridge = Bridge(size, self.decoder.core, num_layers)
        self.remembered: NearestCaptions | None = None

    def save_pretrained(self, folder: str | Path) -> None:
        """As of every model; whether the encoder is fixed by now, and what is remembered, if that is anything.

        Raises OSError if it cannot be written.
        """
        self.config["fixed"] = self.encoder.fixed
        super().save_pretrained(folder)
        if self.remembered is not None:
            self.remembered.save(Path(folder))
        else:
            (Path(folder) / NEIGHBOURS_FILE).unlink(missing_ok=True)  # another model's, saved here before

    def _load_extra(self, folder: Path) -> None:
        if (folder / NEIGHBOURS_FILE).exists():
            size = self.config["num_concepts"] or self.encoder.feature_size
            self.remembered = NearestCaptions.load(folder, size, self.config["vocab_size"])

    def encode(self, images: Tensor) -> tuple[State, Memory | None]:
        """Look at images: (B, 3, height, width), or their features (B, S, M) as `encoder` makes them -> the decoder's
        first state and its memory.

        Raises ValueError for images of another size, or features of another grid.
        """
        return self._look(self.encoder.features_of(images))[:2]

    def _look(self, features: Tensor) -> tuple[State, Memory | None, Tensor | None]:
        """Features (B, S, M) -> the decoder's first state, its memory, and the logits (B, W) of concepts."""
        features = self.norm(features.to(self.position.dtype))
        seen, logits = self.feature_dropout(features + self.position), None
        if self.concepts is not None:
            logits, told = self.concepts(features)
            seen = seen + told[:, None]
        state = self.bridge(seen.mean(dim=1))
        if self.decoder.attention is None:
            return state, None, logits
        everywhere = torch.full((len(seen),), seen.shape[1], device=seen.device)
        return state, self.decoder.memory(seen, everywhere), logits

    def forward(self, batch: CaptionBatch) -> Tensor:
        """A batch -> logits (B·C, T, V + 1): at step t of the caption's t-th token, given those before it."""
        return self.decoder.scores(self._features(batch)[0])

    def _features(self, batch: CaptionBatch) -> tuple[Tensor, Tensor | None]:
        state, memory, logits = self._look(self.encoder.features_of(batch.images))
        several = len(batch.captions) // len(batch.images)
        state = tuple(part.repeat_interleave(several, dim=1) for part in state)
        inputs = delayed(batch.captions, self.end_id)
        return self.decoder.features(inputs, state, batch.lengths, memory)[0], logits

    def loss(self, batch: CaptionBatch, label_smoothing: float | None = None) -> Tensor:
        """Mean nats a token of the captions, smoothed as the model is unless said otherwise: a scalar.

        In training mode, where the model has concepts, `concept_weight` times the nats an image of these is added.
        """
        smoothing = self.label_smoothing if label_smoothing is None else label_smoothing
        features, logits = self._features(batch)
        loss = self.decoder.loss(features, batch.captions, batch.lengths, smoothing)
        if self.training and self.concepts is not None and logits is not None:
            loss = loss + self.concept_weight * self.concepts.loss(logits, batch.captions, batch.lengths)
        return loss

    @torch.no_grad()
    def remember(self, images: Iterable[Tensor], captions: Sequence[Sequence[str]]) -> NearestCaptions:
        """Keep images and what was said of them with the model, for `neighbours`; what was kept before is forgotten.

        They are compared as the model sees them now: after more training, give them again. An image takes 2 bytes for
        each concept, or where there are none each feature, and its captions 4 bytes a token of the longest.

        Args:
            images: batches (B, 3, height, width), or their features (B, S, M); N images in all.
            captions: N lists of one or more texts, in the same order.

        Raises:
            ValueError: there are not N of both, no caption has a token, or images are of another size.
        """
        with evaluating(self):
            grids = (self.encoder.features_of(batch.to(self.position.device)) for batch in images)
            vectors = [_gist(features, self._look(features)[2]).cpu() for features in grids]
        if sum(map(len, vectors)) != len(captions) or not captions:
            raise ValueError(f"there are {sum(map(len, vectors)):,} images and captions of {len(captions):,}")
        tokens = [[row[:-1].tolist() for row in self.caption_rows(several)] for several in captions]
        self.remembered = NearestCaptions.of(torch.cat(vectors), tokens).to(self.position.device)
        return self.remembered

    def caption(self, image: ImageLike | Sequence[ImageLike], **options: Any) -> Any:
        """Describe an image or a list of images; see `captions`. A text, or a list of texts."""
        several = isinstance(image, (list, tuple))
        images: Any = image if several else [image]
        best = [found[0].text for found in self.captions(images, **options)]
        return best if several else best[0]

    def captions(
        self, images: Iterable[ImageLike], mirror: bool | None = None, **options: Any
    ) -> Iterator[list[Caption]]:
        """Describe images, some at a time, in their order.

        Args:
            images: paths, PIL images, arrays or tensors; see `zoo.data.images.read_image`.
            mirror: each word's probability is the mean of what it is for the image and for its mirror image: better
                captions for twice the work, where they name no sides. None for the model's own.
            options: those of `captions_of`, but for `mirrored`.

        Raises:
            InputError: something is no image.
            ValueError: an option outside its range.
        """
        mirror = self.mirror if mirror is None else mirror
        features = FeatureExtractor(self.encoder)
        for batch in image_batches(images, self.encoder.image_size, self.resize):
            mirrored = features(batch.flip(3)) if mirror else None
            yield from self.captions_of(features(batch), mirrored=mirrored, **options)

    @torch.inference_mode()
    def captions_of(
        self,
        images: Tensor,
        *,
        mirrored: Tensor | None = None,
        num_beams: int = 5,
        n_best: int = 1,
        length_penalty: float | None = None,
        no_repeat_ngram_size: int | None = None,
        neighbours: int | None = None,
    ) -> list[list[Caption]]:
        """Describe a batch of images.

        Args:
            images: (B, 3, height, width), or their features (B, S, M).
            mirrored: the same of their mirror images, to look at too; see `captions`.
            num_beams, n_best, no_repeat_ngram_size: see `zoo.decoding.BeamOptions`.
            length_penalty: the same; None for the model's own.
            neighbours: this many of the images given to `remember`, the most similar ones, help with their captions:
                words that follow one another there are likelier, and of all `num_beams` hypotheses those come first
                that agree best with them; see `zoo.one_to_many.nearest_captions`. 0 for none: the likeliest come
                first. None for the model's own.

        Returns:
            B lists of up to `n_best` captions, the best first.

        Raises:
            ValueError: an option outside its range, images of another size, or not as many mirrored ones; neighbours
                are wanted of a model that remembers none.
        """
        if mirrored is not None and len(mirrored) != len(images):
            raise ValueError(f"there are {len(images)} images and {len(mirrored)} mirrored ones: give one for each")
        penalty = self.length_penalty if length_penalty is None else length_penalty
        beams = BeamOptions(num_beams, n_best, penalty, no_repeat_ngram_size)
        neighbours = self.checked_neighbours(neighbours)
        if neighbours:
            beams = replace(beams, n_best=num_beams)
        tokenizer = self.require_tokenizer()
        with evaluating(self):
            # For one image that takes as long as it saves.
            decoder = PackedDecoder(self.decoder) if len(images) > 1 else self.decoder
            first = torch.full((len(images),), self.end_id, device=self.position.device)
            grids = [
                self.encoder.features_of(view.to(self.position.device))
                for view in (images, mirrored)
                if view is not None
            ]
            looks = [self._look(features) for features in grids]
            members = [Start(decoder, *decoder.step(first, state, memory), memory) for state, memory, _ in looks]
            weights, said = [1 / len(members)] * len(members), None
            if neighbours and self.remembered is not None:
                said = self.remembered(_gist(grids[0], looks[0][2]), neighbours)
                ngrams = NgramDecoder(self.end_id + 1, self.end_id)
                members.append(Start(ngrams, *ngrams.start(said)))
                weights = [(1 - NGRAM_WEIGHT) * weight for weight in weights] + [NGRAM_WEIGHT]
            together = EnsembleDecoder(members, weights)
            found = beam_search(
                together,
                together.logits,
                together.state,
                end_id=self.end_id,
                min_new_tokens=1,
                max_new_tokens=self.max_length,
                options=beams,
                memory=together.memory,
                banned=tokenizer.never_generated,
            )
            if said is not None:
                found = [agreeing(several, captions)[:n_best] for several, captions in zip(found, said, strict=True)]

        def caption(one: Hypothesis) -> Caption:
            return Caption(tokenizer.decode(one.tokens).strip(), one.score, one.finished)

        return [[caption(one) for one in several] for several in found]

    def checked_neighbours(self, neighbours: int | None) -> int:
        """How many images help to write captions where `neighbours` are asked for, None for the model's own number.

        Raises ValueError for a number out of range, or if some are asked for and there are none.
        """
        if neighbours is None:
            return 0 if self.remembered is None else self.neighbours
        check_neighbours(neighbours)
        if neighbours and self.remembered is None:
            raise ValueError(f"neighbours is {neighbours}, but this captioner was given no images to remember")
        return neighbours

    def attend(self, image: ImageLike, caption: str) -> tuple[list[str], Tensor]:
        """Where the decoder looks as it writes `caption`: (its words, weights (T, rows, columns) of the grid).

        The last word is `</s>`, the end. Raises ValueError for a captioner without attention.
        """
        (batch,) = image_batches([image], self.encoder.image_size, self.resize)
        captions, _ = pad(self.caption_rows([caption]))
        with evaluating(self), torch.inference_mode():
            state, memory = self.encode(batch.to(self.position.device))
            if memory is None:
                raise ValueError("this captioner has no attention: it looks at nothing but its state")
            inputs = delayed(captions.to(self.position.device), self.end_id)
            weights = self.decoder.attention_weights(inputs, memory, state)[0]
        pieces = self.require_tokenizer().pieces(caption)
        return [*pieces, END], weights.unflatten(1, self.encoder.grid).float().cpu()

    def caption_rows(self, captions: Sequence[str]) -> list[Tensor]:
        """Each caption's tokens and the end token: N rows (T,) int32."""
        return self.require_tokenizer().sentence_rows(captions)


def _gist(features: Tensor, concepts: Tensor | None) -> Tensor:
    """What images are alike by: the probabilities (B, W) of concepts, from their logits, or else the mean of features
    (B, S, M).

    Concepts are what captions tell of; features also tell what nobody would say.
    """
    return features.float().mean(dim=1) if concepts is None else concepts.float().sigmoid()
