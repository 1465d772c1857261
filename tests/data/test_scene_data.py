"""The built-in scenes as data: splits apart, held-out pairs held out, labels and captions those of the pictures."""

from collections import Counter

import pytest
from PIL import Image

from zoo.data.scene_captions import read_caption
from zoo.data.scene_data import HELD_OUT, SEEN, caption_scenes, labelled_scenes
from zoo.data.scenes import COLOURS, SHAPES
from zoo.data.stored_images import CaptionedImages, LabelledImages, StoredImage
from zoo.errors import InputError


def drawn(image: StoredImage) -> Image.Image:
    assert callable(image.content)
    picture = image.content()
    assert isinstance(picture, Image.Image)
    return picture


def pairs_named(images: CaptionedImages) -> list[tuple[str, str]]:
    pairs = []
    for captions in images.captions:
        for caption in captions:
            statement = read_caption(caption)
            assert statement is not None
            pairs += [(description.colour, description.shape) for description in statement.objects]
    return pairs


def same(one: CaptionedImages | LabelledImages, other: CaptionedImages | LabelledImages) -> bool:
    """Whether the images of the shorter one are the first of the longer one, in name and in every pixel."""
    return all(
        first.place == second.place and drawn(first).tobytes() == drawn(second).tobytes()
        for first, second in zip(one.images, other.images, strict=False)
    )


def test_eight_pairs_are_held_out_evenly() -> None:
    assert len(HELD_OUT) == 8
    assert set(Counter(pair.colour for pair in HELD_OUT).values()) == {1}
    assert set(Counter(pair.shape for pair in HELD_OUT).values()) <= {1, 2}
    assert {pair.shape for pair in HELD_OUT} == set(SHAPES)
    assert len(set(SEEN) | set(HELD_OUT)) == len(SEEN) + len(HELD_OUT) == len(COLOURS) * len(SHAPES)


def test_captions_name_held_out_pairs_in_unseen_only() -> None:
    data = caption_scenes(1, 300, 100, 100)
    assert data.name == "scenes"
    assert set(pairs_named(data.train)) == set(SEEN)
    assert set(pairs_named(data.validation)) <= set(SEEN)
    assert set(pairs_named(data.tests["test"])) <= set(SEEN)
    assert set(pairs_named(data.tests["unseen"])) == set(HELD_OUT)
    (note,) = data.notes
    assert "\n" not in note and all(" ".join(pair) in note for pair in HELD_OUT)


def test_captioned_scenes_are_as_many_as_asked_for_and_all_different() -> None:
    data = caption_scenes(1, 30, 20, 10)
    splits = {"train": data.train, "validation": data.validation, **data.tests}
    assert {split: len(images) for split, images in splits.items()} == {
        "train": 30,
        "validation": 20,
        "test": 10,
        "unseen": 10,
    }
    for split, images in splits.items():
        assert [image.place for image in images.images] == [f"scene {n} of {split}" for n in range(len(images))]
        assert all(len(set(captions)) == 5 for captions in images.captions)
    pictures = [drawn(image) for images in splits.values() for image in images.images]
    assert {(picture.mode, picture.size) for picture in pictures} == {("RGB", (64, 64))}
    assert len({picture.tobytes() for picture in pictures}) == 70


def test_a_scene_depends_on_seed_split_and_number_only() -> None:
    few, many = caption_scenes(5, 3, 3, 3), caption_scenes(5, 6, 4, 5)
    assert same(few.train, many.train) and few.train.captions == many.train.captions[:3]
    assert same(few.tests["unseen"], many.tests["unseen"])
    assert not same(few.train, caption_scenes(6, 3, 3, 3).train)
    assert same(labelled_scenes(5, 40, 3, 3).train, labelled_scenes(5, 44, 1, 1).train)
    assert not same(labelled_scenes(5, 40, 3, 3).train, few.train)


def test_the_scenes_stay_what_they_were() -> None:
    """Figures are reported of these scenes: another Python or a change of the code must not move them unnoticed."""
    assert caption_scenes(0, 1, 1, 1).train.captions[0] == [
        "there is a large blue star below a large yellow circle",
        "a large yellow circle is to the right of a large blue star",
        "a large blue star below and to the left of a large yellow circle",
        "below a large yellow circle is a large blue star",
        "above a large blue star there is a large yellow circle",
    ]


def test_captions_are_checked_against_their_own_scene() -> None:
    images = caption_scenes(2, 20, 1, 1).train
    assert images.is_true is not None
    for number, captions in enumerate(images.captions):
        assert all(images.is_true(number, caption) for caption in captions)
        assert not any(images.is_true((number + 1) % 20, caption) for caption in captions)


def test_the_label_is_the_one_large_object() -> None:
    data = labelled_scenes(3, 200, 40, 40)
    assert data.labels == sorted(" ".join(pair) for pair in SEEN)
    assert set(data.train.labels) == set(data.labels)
    assert len(data.train) == 200 and len(data.validation) == len(data.tests["test"]) == 40
    counts = set()
    for images in (data.train, data.validation, data.tests["test"]):
        for image, label in zip(images.images, images.labels, strict=True):
            objects = image.content.__self__.objects  # type: ignore[union-attr]
            descriptions = [thing.description for thing in objects]
            assert [f"{words.colour} {words.shape}" for words in descriptions if words.size == "large"] == [label]
            pairs = {words[1:] for words in descriptions}
            assert len(pairs) == len(objects) and not pairs & set(HELD_OUT)
            counts.add(len(objects))
    assert counts == {2, 3}


def test_labels_are_even() -> None:
    assert set(Counter(labelled_scenes(3, 120, 40, 40).train.labels).values()) == {3}


def test_too_few_scenes() -> None:
    with pytest.raises(InputError, match="validation is 0: expected 1 scenes or more"):
        caption_scenes(0, 1, 0, 1)
    with pytest.raises(InputError, match="train is 39: expected 40 scenes or more"):
        labelled_scenes(0, 39, 1, 1)
