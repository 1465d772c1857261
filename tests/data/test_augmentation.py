"""Augmentation: images moved by a little and mirrored, by nothing but the generator."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.augmentation import augmented

KINDS = ("none", "shift", "flip", "shift+flip")


def images_of(count, height, width, seed=0):
    return torch.randint(256, (count, 3, height, width), dtype=torch.uint8, generator=generator(seed))


def generator(seed):
    return torch.Generator().manual_seed(seed)


def moved(image, down, right):
    """(3, H, W) moved by so many rows and columns, its border repeated."""
    height, width = image.shape[1:]
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    return image[:, rows][:, :, columns]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 20), st.integers(1, 20), st.integers(1, 4), st.integers(0, 1000))
def test_each_is_the_image_moved_by_an_eighth_at_most(kind, height, width, count, seed):
    images = images_of(count, height, width, seed)
    before = images.clone()
    found = augmented(images, kind, generator(seed))
    assert (found.shape, found.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)
    down, right = (height // 8, width // 8) if "shift" in kind else (0, 0)
    for one, image in zip(found, images, strict=True):
        candidates = [moved(image, y, x) for y in range(-down, down + 1) for x in range(-right, right + 1)]
        if "flip" in kind:
            candidates += [candidate.flip(2) for candidate in candidates]
        assert any(torch.equal(one, candidate) for candidate in candidates)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_it_is_a_pure_function_of_the_generator(kind):
    images = images_of(30, 16, 16)
    torch.manual_seed(0)
    first = augmented(images, kind, generator(1))
    torch.manual_seed(1)
    assert torch.equal(first, augmented(images, kind, generator(1)))
    assert not torch.equal(first, augmented(images, kind, generator(2)))


def test_every_way_is_taken_and_half_are_mirrored():
    image = images_of(1, 16, 24)
    seen = {kind: augmented(image.expand(600, -1, -1, -1), kind, generator(0)) for kind in KINDS}
    assert len(seen["none"].unique(dim=0)) == 1
    assert len(seen["shift"].unique(dim=0)) == 5 * 7
    assert len(seen["shift+flip"].unique(dim=0)) == 2 * 5 * 7
    ways = {moved(image[0], y, x).numpy().tobytes() for y in range(-2, 3) for x in range(-3, 4)}
    straight = sum(one.numpy().tobytes() in ways for one in seen["shift+flip"])
    assert 250 < straight < 350


def test_each_image_has_its_own_way():
    images = images_of(1, 32, 32).expand(2, -1, -1, -1)
    pairs = [augmented(images, "shift", generator(seed)) for seed in range(5)]
    assert any(not torch.equal(first, second) for first, second in pairs)
