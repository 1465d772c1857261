"""The built-in picture data: scenes with captions for captioners, and with labels for image classifiers."""

import random
from collections.abc import Sequence
from typing import NamedTuple

from zoo.data.scene_captions import is_true, write_captions
from zoo.data.scenes import COLOURS, SHAPES, SIZES, Description, Scene, arrange
from zoo.data.stored_images import CaptionData, CaptionedImages, ImageLabelData, LabelledImages, StoredImage
from zoo.errors import InputError


class Pair(NamedTuple):
    """A colour and a shape."""

    colour: str
    shape: str


HELD_OUT = (
    Pair("black", "star"),
    Pair("blue", "square"),
    Pair("green", "heart"),
    Pair("orange", "circle"),
    Pair("purple", "triangle"),
    Pair("red", "star"),
    Pair("white", "circle"),
    Pair("yellow", "cross"),
)
"""Pairs that no scene to train or validate on has. Each colour and each shape is also in others, which they have."""

SEEN = tuple(pair for colour in COLOURS for shape in SHAPES if (pair := Pair(colour, shape)) not in HELD_OUT)


def caption_scenes(seed: int, train: int = 12_000, validation: int = 1_000, test: int = 1_000) -> CaptionData:
    """Scenes with five captions each and a checker of captions, and two tests, of `test` scenes each.

    No two objects of a scene are alike in colour and shape. The pairs of the test "unseen" are all held out, and its
    captions can thus avoid none of them; those of all other scenes, the test "test" included, are seen ones. A scene
    depends on the seed, its split and its number alone: with fewer scenes, they are the first of the same ones.

    Raises:
        InputError: a split would have no scene.
    """
    _check_counts(1, train=train, validation=validation, test=test)
    held_out = ", ".join(" ".join(pair) for pair in HELD_OUT)
    return CaptionData(
        "scenes",
        _captioned(seed, "train", train, SEEN),
        _captioned(seed, "validation", validation, SEEN),
        {"test": _captioned(seed, "test", test, SEEN), "unseen": _captioned(seed, "unseen", test, HELD_OUT)},
        [f"unseen: every object is of a colour and shape that no other split has together: {held_out}"],
    )


def labelled_scenes(seed: int, train: int = 12_000, validation: int = 1_000, test: int = 1_000) -> ImageLabelData:
    """Scenes with one large object among one or two small ones; the label is the large one's "colour shape".

    No object is of a held-out pair (`HELD_OUT`): an encoder trained on these scenes has seen none of them. The 40
    labels take turns, so that a split has about as many scenes of each. For the seed, see `caption_scenes`.

    Raises:
        InputError: `train` is less than 40, so that a label would be missing, or another split would have no scene.
    """
    _check_counts(len(SEEN), train=train)
    _check_counts(1, validation=validation, test=test)
    return ImageLabelData(
        "scenes",
        _labelled(seed, "train", train),
        _labelled(seed, "validation", validation),
        {"test": _labelled(seed, "test", test)},
        sorted(map(" ".join, SEEN)),
    )


def _check_counts(fewest: int, **counts: int) -> None:
    for split, count in counts.items():
        if count < fewest:
            raise InputError(f"{split} is {count}: expected {fewest} scenes or more")


def _captioned(seed: int, split: str, count: int, pairs: Sequence[Pair]) -> CaptionedImages:
    scenes = [_scene_to_caption(f"{split} {number} of seed {seed}", pairs) for number in range(count)]
    return CaptionedImages(
        _images(scenes, split),
        [write_captions(scene) for scene in scenes],
        lambda number, caption: is_true(scenes[number], caption),
    )


def _scene_to_caption(seed: str, pairs: Sequence[Pair]) -> Scene:
    generator = random.Random(f"objects {seed}")
    chosen = generator.sample(pairs, generator.choice((2, 3)))
    return arrange([Description(generator.choice(tuple(SIZES)), *pair) for pair in chosen], seed)


def _labelled(seed: int, split: str, count: int) -> LabelledImages:
    labels = [SEEN[number % len(SEEN)] for number in range(count)]
    scenes = [_scene_to_label(f"labelled {split} {number} of seed {seed}", pair) for number, pair in enumerate(labels)]
    return LabelledImages(_images(scenes, split), [" ".join(pair) for pair in labels])


def _scene_to_label(seed: str, label: Pair) -> Scene:
    generator = random.Random(f"objects {seed}")
    others = generator.sample([pair for pair in SEEN if pair != label], generator.choice((1, 2)))
    return arrange([Description("large", *label), *(Description("small", *pair) for pair in others)], seed)


def _images(scenes: Sequence[Scene], split: str) -> list[StoredImage]:
    return [StoredImage(f"scene {number} of {split}", scene.draw) for number, scene in enumerate(scenes)]
