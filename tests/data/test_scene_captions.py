"""Captions of scenes: true and well formed as written; the checker knows a false one."""

import random
import re
from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.scene_captions import (
    DIAGONAL,
    FORMS_OF_THREE,
    FORMS_OF_TWO,
    HORIZONTAL,
    VERTICAL,
    Form,
    is_true,
    read_caption,
    write_captions,
)
from zoo.data.scenes import COLOURS, SHAPES, SIZES, Description, Scene, SceneObject, arrange

DESCRIPTIONS = [Description(*words) for words in product(SIZES, COLOURS, SHAPES)]
OPPOSITE = {"above": "below", "below": "above", "left": "right", "right": "left"}
CLEARLY = {
    "above": lambda one, other: one.y <= other.y - 0.18,
    "below": lambda one, other: one.y >= other.y + 0.18,
    "to the left of": lambda one, other: one.x <= other.x - 0.18,
    "to the right of": lambda one, other: one.x >= other.x + 0.18,
}
RELATIONS = (*VERTICAL, *HORIZONTAL, *DIAGONAL)
scenes = st.builds(
    arrange,
    st.lists(st.sampled_from(DESCRIPTIONS), min_size=2, max_size=3, unique_by=lambda words: words[1:]),
    st.integers(0, 10**6).map(str),
)


def scene_of(*objects: tuple[str, float, float]) -> Scene:
    """A scene of objects such as ("small red star", 0.2, 0.3)."""
    return Scene(tuple(SceneObject(Description(*words.split()), x, y, 0.1, 0.0) for words, x, y in objects), "0")


# The circle is above the triangle, straight; the cross is to the right of both, level with the triangle.
SCENE = scene_of(("small green circle", 0.3, 0.2), ("large red triangle", 0.3, 0.7), ("small blue cross", 0.75, 0.7))

TRUE = """\
a small green circle is above a large red triangle
there is a large red triangle below a small green circle
a small blue cross to the right of a large red triangle
to the left of a small blue cross is a small green circle
below a small green circle there is a small blue cross
a small green circle is above and to the left of a small blue cross
below and to the right of a small green circle is a small blue cross
a small green circle is above a large red triangle and to the left of a small blue cross
there is a large red triangle to the left of a small blue cross and below a small green circle
a small blue cross to the right of a large red triangle and below a small green circle
a small green circle is above a large red triangle which is to the left of a small blue cross
a small green circle is above both a large red triangle and a small blue cross
there is a small blue cross to the right of both a small green circle and a large red triangle
a small green circle and a large red triangle are to the left of a small blue cross
below a small green circle are a small blue cross and a large red triangle"""

FALSE = """\
a small green circle is below a large red triangle
a small green circle is to the left of a large red triangle
a large green circle is above a large red triangle
a small green cross is above a large red triangle
a small blue circle is above a large red triangle
a small green circle is above and to the left of a large red triangle
a small blue cross is below a large red triangle
above a small green circle is a large red triangle
a small green circle is above a small green circle
a small green circle is above a large red triangle and to the right of a small blue cross
a small blue cross is to the right of a large red triangle and above a small green circle
a small green circle is above a large red triangle and above a large red triangle
a small green circle is above a large red triangle which is above a small blue cross
a small green circle is to the left of both a large red triangle and a small blue cross
a small green circle and a large red triangle are above a small blue cross
below a large red triangle are a small blue cross and a small green circle"""

SENSELESS = """\

a small green circle
there is a small green circle
a small green circle and a large red triangle
a small green circle is above
a small green circle is above a large red
small green circle is above large red triangle
a green circle is above a red triangle
a green small circle is above a large red triangle
a small green circle is on a large red triangle
a small green circle are above a large red triangle
a small green circle is to the left a small blue cross
a small green circle is to the left and above a small blue cross
a small green circle is above a large red triangle and a small blue cross
there is a small green circle above a large red triangle and a small blue cross
a small green circle is above a large red triangle a small blue cross
a small green circle is above a large red triangle.
A small green circle is above a large red triangle
a small green circle is above a large red triangle a small green circle is above a large red triangle"""


@pytest.mark.parametrize("caption", TRUE.splitlines())
def test_true(caption: str) -> None:
    assert is_true(SCENE, caption)


@pytest.mark.parametrize("caption", FALSE.splitlines())
def test_false(caption: str) -> None:
    assert read_caption(caption) is not None
    assert not is_true(SCENE, caption)


@pytest.mark.parametrize("caption", SENSELESS.splitlines())
def test_senseless(caption: str) -> None:
    assert read_caption(caption) is None
    assert not is_true(SCENE, caption)


@settings(deadline=None, max_examples=50)
@given(st.data(), st.sampled_from(FORMS_OF_TWO + FORMS_OF_THREE))
def test_whatever_the_forms_can_say_is_understood(data: st.DataObject, form: Form) -> None:
    objects = {letter: data.draw(st.sampled_from(DESCRIPTIONS), letter) for letter in form.objects}
    relations = {letter: data.draw(st.sampled_from(RELATIONS), letter) for letter in "RS"}
    words = {letter: "a " + " ".join(description) for letter, description in objects.items()}
    statement = read_caption(form.wording.format_map(words | relations))
    assert statement is not None
    assert statement.objects == tuple(objects.values())
    assert statement.relations == tuple(
        (form.objects.index(one), relations[letter], form.objects.index(other)) for one, letter, other in form.claims
    )


@settings(deadline=None, max_examples=50)
@given(scenes)
def test_captions_are_true_and_worded_differently(scene: Scene) -> None:
    captions = write_captions(scene)
    assert write_captions(scene) == captions
    assert len(set(captions)) == 5
    for caption in captions:
        assert is_true(scene, caption), caption
        assert 9 <= len(caption.split()) <= 23
    words = [re.sub("small|large|" + "|".join((*COLOURS, *SHAPES, *RELATIONS)), "", caption) for caption in captions]
    assert len(set(words)) == 5
    mentioned = sorted(len(re.findall("|".join(SHAPES), caption)) for caption in captions)
    assert mentioned == ([2, 2, 2, 2, 2] if len(scene.objects) == 2 else [2, 2, 3, 3, 3])


@settings(deadline=None, max_examples=50)
@given(scenes)
def test_another_size_colour_or_shape_is_false(scene: Scene) -> None:
    there = {thing.description for thing in scene.objects}
    for caption in write_captions(scene):
        words = caption.split()
        for place, word in enumerate(words):
            for kind in (SIZES, COLOURS, SHAPES):
                for other in kind if word in kind else ():
                    changed = " ".join([*words[:place], other, *words[place + 1 :]])
                    statement = read_caption(changed)
                    assert statement is not None
                    if other != word and (not set(statement.objects) <= there or len(set(statement.objects)) < 2):
                        assert not is_true(scene, changed), changed


@settings(deadline=None, max_examples=50)
@given(scenes)
def test_the_opposite_relation_is_false(scene: Scene) -> None:
    for caption in write_captions(scene):
        words = caption.split()
        for place, word in enumerate(words):
            if word in OPPOSITE:
                changed = " ".join([*words[:place], OPPOSITE[word], *words[place + 1 :]])
                assert read_caption(changed) is not None
                assert not is_true(scene, changed), changed


@settings(deadline=None, max_examples=50)
@given(scenes, st.sampled_from(FORMS_OF_TWO), st.sampled_from(sorted(CLEARLY)))
def test_a_relation_is_true_where_it_is_clear(scene: Scene, form: Form, relation: str) -> None:
    for one, other in permutations(scene.objects, 2):
        words = {"A": "a " + " ".join(one.description), "B": "a " + " ".join(other.description), "R": relation}
        assert is_true(scene, form.wording.format_map(words)) == CLEARLY[relation](one, other)


@pytest.mark.parametrize(("distance", "clear"), [(0.02, False), (0.17, False), (0.19, True)])
def test_a_relation_in_doubt_is_not_true(distance: float, clear: bool) -> None:
    beside = scene_of(("small green circle", 0.2, 0.4), ("large red triangle", 0.7, 0.4 + distance))
    over = scene_of(("small green circle", 0.4, 0.2), ("large red triangle", 0.4 + distance, 0.7))
    assert is_true(beside, "a small green circle is to the left of a large red triangle")
    assert is_true(beside, "a small green circle is above a large red triangle") == clear
    assert is_true(over, "a small green circle is above a large red triangle")
    assert is_true(over, "a small green circle is to the left of a large red triangle") == clear
    for scene in (beside, over):
        assert is_true(scene, "a small green circle is above and to the left of a large red triangle") == clear


def test_two_objects_that_are_alike_are_still_two() -> None:
    scene = scene_of(("small red star", 0.2, 0.2), ("small red star", 0.2, 0.7))
    assert is_true(scene, "a small red star is below a small red star")
    assert not is_true(scene, "a small red star is to the left of a small red star")
    assert not is_true(scene, "a small red star is above both a small red star and a small red star")


@settings(deadline=None, max_examples=50)
@given(scenes)
def test_a_caption_cut_short_is_false_unless_a_shorter_one_remains(scene: Scene) -> None:
    for caption in write_captions(scene):
        words = caption.split()
        left = [" ".join(words[:count]) for count in range(len(words))]
        true = [start for start in left if is_true(scene, start)]
        # "A is above B" remains of "A is above B and to the left of C" and of "A is above B which is above C".
        assert true == [start for start in left if caption.startswith((f"{start} and ", f"{start} which ")) and true]
        assert len(true) <= 1


def test_captions_of_other_scenes_are_false() -> None:
    generator = random.Random(0)
    drawn = [arrange(generator.sample(DESCRIPTIONS, generator.choice((2, 3))), str(number)) for number in range(200)]
    checks = [
        is_true(scene, caption)
        for other in drawn[:50]
        for caption in write_captions(other)[:2]
        for scene in drawn
        if scene is not other
    ]
    assert sum(checks) < 0.001 * len(checks)
