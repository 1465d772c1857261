"""Scenes: nothing in doubt about where objects stand, and every object to be told from background and other shapes."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.scenes import COLOURS, SHAPES, SIZES, Description, Scene, SceneObject, arrange

DESCRIPTIONS = [Description(*words) for words in product(SIZES, COLOURS, SHAPES)]
scenes = st.builds(
    arrange, st.lists(st.sampled_from(DESCRIPTIONS), min_size=2, max_size=3), st.integers(0, 10**6).map(str)
)


def pixels(scene: Scene, size: int = 64) -> np.ndarray:
    return np.asarray(scene.draw(size)).astype(float)


def distances(scene: Scene, size: int) -> list[np.ndarray]:
    """How far each pixel's centre is from each object's, as shares of the width."""
    across = (np.arange(size) + 0.5) / size
    return [np.hypot(across[None, :] - thing.x, across[:, None] - thing.y) for thing in scene.objects]


def from_colours(picture: np.ndarray) -> np.ndarray:
    """(colours, size, size): how far each pixel is from each colour."""
    return np.stack([np.linalg.norm(picture - np.array(colour), axis=-1) for colour in COLOURS.values()])


def silhouette(shape: str, size: str, tilt: float) -> np.ndarray:
    """Where a black object of that shape is, in the middle of 64 × 64 pixels."""
    thing = SceneObject(Description(size, "black", shape), 0.5, 0.5, sum(SIZES[size]) / 2, tilt)
    return pixels(Scene((thing,), "silhouette")).mean(-1) < 62


@settings(deadline=None, max_examples=50)
@given(scenes)
def test_places_leave_no_doubt(scene: Scene) -> None:
    for thing in scene.objects:
        low, high = SIZES[thing.description.size]
        assert low <= thing.radius <= high
        for middle in (thing.x, thing.y):
            assert middle - thing.radius > 1.5 / 64 and middle + thing.radius < 1 - 1.5 / 64
    for one, other in combinations(scene.objects, 2):
        across, down = abs(one.x - other.x), abs(one.y - other.y)
        assert across <= 0.06 or across >= 0.18
        assert down <= 0.06 or down >= 0.18
        assert max(across, down) >= 0.18
        assert np.hypot(across, down) > one.radius + other.radius + 1.5 / 64


def test_large_is_much_larger_than_small() -> None:
    assert SIZES["large"][0] > 1.5 * SIZES["small"][1]
    for shape in SHAPES:
        assert silhouette(shape, "large", 0).sum() > 2 * silhouette(shape, "small", 0).sum()


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_or_too_many_objects(count: int) -> None:
    with pytest.raises(ValueError, match=f"there are {count} descriptions: expected two or three"):
        arrange(DESCRIPTIONS[:count], "0")


@settings(deadline=None, max_examples=50)
@given(scenes, st.sampled_from([48, 64, 100]))
def test_objects_have_their_colours_and_nothing_else_is_like_any(scene: Scene, size: int) -> None:
    picture = pixels(scene, size)
    assert picture.shape == (size, size, 3)
    away = from_colours(picture)
    outside = np.ones((size, size), dtype=bool)
    for thing, distance in zip(scene.objects, distances(scene, size), strict=True):
        # Every shape has its middle, out to a quarter of its radius.
        middle = away[:, distance < thing.radius / 4]
        assert middle.shape[1] > 0
        assert (middle.argmin(0) == list(COLOURS).index(thing.description.colour)).all()
        assert (middle.min(0) < 45).all()
        outside &= distance > thing.radius + 1 / size
    assert away[:, outside].min() > 75


@settings(deadline=None, max_examples=50)
@given(scenes)
def test_an_object_takes_up_room_on_all_its_sides(scene: Scene) -> None:
    away = from_colours(pixels(scene))
    for thing, distance in zip(scene.objects, distances(scene, 64), strict=True):
        painted = (away[list(COLOURS).index(thing.description.colour)] < 45) & (distance < thing.radius + 1 / 64)
        down, across = np.nonzero(painted)
        for places, middle in ((across, thing.x), (down, thing.y)):
            # The nearest side of any shape is a triangle's, half a radius away; its last pixels are covered in part.
            assert (places.min() + 0.5) / 64 < middle - 0.5 * thing.radius + 2 / 64
            assert (places.max() + 0.5) / 64 > middle + 0.5 * thing.radius - 2 / 64


@pytest.mark.parametrize("size", SIZES)
def test_no_shape_looks_like_another(size: str) -> None:
    for one, other in combinations(SHAPES, 2):
        for tilts in product((-0.25, 0.0, 0.25), repeat=2):
            first, second = silhouette(one, size, tilts[0]), silhouette(other, size, tilts[1])
            # A circle and a square of the same area have 0.83 in common, and small ones are of few pixels.
            assert (first & second).sum() < 0.88 * (first | second).sum(), (one, other, tilts)


@settings(deadline=None, max_examples=50)
@given(scenes)
def test_a_scene_is_drawn_the_same_every_time_and_another_differs(scene: Scene) -> None:
    assert scene.draw().tobytes() == scene.draw().tobytes()
    assert arrange([thing.description for thing in scene.objects], scene.seed) == scene
    assert Scene(scene.objects, scene.seed + "1").draw().tobytes() != scene.draw().tobytes()


def test_backgrounds_are_many_and_like_no_object() -> None:
    far = SceneObject(Description("small", "red", "circle"), 0.8, 0.8, 0.1, 0.0)
    tops = [pixels(Scene((far,), str(number)))[:32] for number in range(100)]
    uneven = [top.reshape(-1, 3).std(0).mean() for top in tops]
    assert min(uneven) < 4 and max(uneven) > 6  # plain but for the noise, and patterned
    means = np.stack([top.mean((0, 1)) for top in tops])
    assert (means.max(0) - means.min(0) > 40).all()
    assert from_colours(np.stack(tops)).min() > 75
