"""Captions of scenes: written from the scene, and checked against it by what they mean."""

import random
import re
from collections.abc import Iterator, Sequence
from itertools import islice, permutations
from typing import NamedTuple

from zoo.data.scenes import CLEAR, COLOURS, SHAPES, SIZES, Description, Scene, SceneObject


class Form(NamedTuple):
    """A way to word a caption.

    Attributes:
        objects: the letters that stand for an object ("a small green circle") in `wording`.
        wording: in which R and S stand for relations ("to the left of").
        claims: what it says: (A, R, B) is that A stands in the relation R to B.
    """

    objects: str
    wording: str
    claims: tuple[tuple[str, str, str], ...]


# Each has one reading only. "There is A above B and C" would not: is C under A, or is it there too?
FORMS_OF_TWO = (
    Form("AB", "{A} is {R} {B}", (("A", "R", "B"),)),
    Form("AB", "there is {A} {R} {B}", (("A", "R", "B"),)),
    Form("AB", "{A} {R} {B}", (("A", "R", "B"),)),
    Form("AB", "{R} {B} is {A}", (("A", "R", "B"),)),
    Form("AB", "{R} {B} there is {A}", (("A", "R", "B"),)),
)
FORMS_OF_THREE = (
    Form("ABC", "{A} is {R} {B} and {S} {C}", (("A", "R", "B"), ("A", "S", "C"))),
    Form("ABC", "there is {A} {R} {B} and {S} {C}", (("A", "R", "B"), ("A", "S", "C"))),
    Form("ABC", "{A} {R} {B} and {S} {C}", (("A", "R", "B"), ("A", "S", "C"))),
    Form("ABC", "{A} is {R} {B} which is {S} {C}", (("A", "R", "B"), ("B", "S", "C"))),
    Form("ABC", "{A} is {R} both {B} and {C}", (("A", "R", "B"), ("A", "R", "C"))),
    Form("ABC", "there is {A} {R} both {B} and {C}", (("A", "R", "B"), ("A", "R", "C"))),
    Form("ABC", "{A} and {B} are {R} {C}", (("A", "R", "C"), ("B", "R", "C"))),
    Form("ABC", "{R} {C} are {A} and {B}", (("A", "R", "C"), ("B", "R", "C"))),
)

VERTICAL = ("above", "below")
HORIZONTAL = ("to the left of", "to the right of")
DIAGONAL = tuple(f"{down} and {across}" for down in VERTICAL for across in HORIZONTAL)

WRITTEN = {2: (5, 0), 3: (2, 3)}
"""{objects of a scene: how many of its captions speak of two objects, and how many of three}."""


class Statement(NamedTuple):
    """What a caption says: which objects there are, and (subject, relation, reference), by their indices in `objects`.

    "A small red star is above a large blue heart" has the one relation (0, "above", 1).
    """

    objects: tuple[Description, ...]
    relations: tuple[tuple[int, str, int], ...]


def write_captions(scene: Scene) -> list[str]:
    """Write five true captions, each of another form; always the same ones of the same scene.

    They are in lower case, without punctuation, of 9 to 23 words, and name size, colour and shape of every object that
    they speak of. They state a relation only where it is clear (`zoo.data.scenes.CLEAR`), and two at once ("above and
    to the left of") only in captions of two objects, lest those of three get too long. Of objects that differ in colour
    or shape, there are 361 thousand captions of two and 66 million of three.
    """
    generator = random.Random(f"captions {scene.seed}")
    of_two, of_three = WRITTEN[len(scene.objects)]
    captions = [
        *islice(_true_captions(FORMS_OF_TWO, scene, generator), of_two),
        *islice(_true_captions(FORMS_OF_THREE, scene, generator), of_three),
    ]
    generator.shuffle(captions)
    return captions


def read_caption(caption: str) -> Statement | None:
    """Understand a caption, or give None: it is of no form, as one of a single object, or one cut short."""
    for form, pattern in _PATTERNS:
        found = pattern.fullmatch(caption)
        if found:
            descriptions = tuple(Description(*found[letter].split()[1:]) for letter in form.objects)
            index = form.objects.index
            return Statement(
                descriptions,
                tuple((index(subject), found[letter], index(reference)) for subject, letter, reference in form.claims),
            )
    return None


def is_true(scene: Scene, caption: str) -> bool:
    """Say whether a caption can be understood, and all that it says is true of the scene.

    Each of its objects must be another one of the scene, and every relation must be clear.
    """
    statement = read_caption(caption)
    return statement is not None and any(
        tuple(thing.description for thing in things) == statement.objects
        and all(
            relation in clear_relations(things[subject], things[reference])
            for subject, relation, reference in statement.relations
        )
        for things in permutations(scene.objects, len(statement.objects))
    )


def clear_relations(subject: SceneObject, reference: SceneObject) -> list[str]:
    """All that can be said of where one object is, seen from another: "above", "above and to the left of", ..."""
    across, down = subject.x - reference.x, subject.y - reference.y
    relations = []
    if abs(down) >= CLEAR:
        relations.append(VERTICAL[down > 0])
    if abs(across) >= CLEAR:
        relations.append(HORIZONTAL[across > 0])
    return [*relations, " and ".join(relations)] if len(relations) == 2 else relations


def _true_captions(forms: Sequence[Form], scene: Scene, generator: random.Random) -> Iterator[str]:
    """A true caption in every form that has one, in random order."""
    for form in generator.sample(forms, len(forms)):
        orders = list(permutations(scene.objects, len(form.objects)))
        for things in generator.sample(orders, len(orders)):
            words = _words(form, dict(zip(form.objects, things, strict=True)), generator)
            if words:
                yield form.wording.format_map(words)
                break


def _words(form: Form, things: dict[str, SceneObject], generator: random.Random) -> dict[str, str] | None:
    """What each letter of a form stands for, or None if no relation holds where the form has the same one twice."""
    words = {letter: "a " + " ".join(thing.description) for letter, thing in things.items()}
    possible: dict[str, list[str]] = {}
    for subject, letter, reference in form.claims:
        relations = clear_relations(things[subject], things[reference])
        possible[letter] = [relation for relation in possible.get(letter, relations) if relation in relations]
    for letter, relations in possible.items():
        chosen = [relation for relation in relations if len(things) == 2 or relation not in DIAGONAL]
        if not chosen:
            return None
        words[letter] = generator.choice(chosen)
    return words


def _pattern(form: Form) -> re.Pattern[str]:
    thing = " ".join(f"(?:{'|'.join(words)})" for words in (["a"], SIZES, COLOURS, SHAPES))
    relation = "|".join((*VERTICAL, *HORIZONTAL, *DIAGONAL))
    groups = {letter: f"(?P<{letter}>{thing})" for letter in form.objects}
    return re.compile(form.wording.format_map(groups | {letter: f"(?P<{letter}>{relation})" for letter in "RS"}))


_PATTERNS = [(form, _pattern(form)) for form in FORMS_OF_TWO + FORMS_OF_THREE]
