"""Built-in pictures: scenes of two or three coloured shapes, drawn by Pillow from a seed."""

import cmath
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, ImageDraw

COLOURS = {
    "black": (16, 16, 20),
    "blue": (20, 60, 235),
    "green": (10, 165, 35),
    "orange": (255, 130, 0),
    "purple": (150, 20, 200),
    "red": (220, 15, 25),
    "white": (250, 250, 250),
    "yellow": (255, 235, 20),
}

SIZES = {"small": (0.095, 0.11), "large": (0.17, 0.2)}
"""{size: from which to which radius}; like all lengths, as a share of the picture's width."""

CLEAR = 0.18
"""From this distance on, across or down, one object's centre is clearly to one side of another's."""

LEVEL = 0.06
"""Up to this distance, neither is; between the two, people might disagree, so no scene has such a distance."""

GAP = 0.03  # between two objects, and from an object to the edge
TILT = math.radians(14)  # either way; a square stays far from standing on a corner
OVERSAMPLING = 4
NOISE = 0.04

# Backgrounds are greyish and of middling lightness: far from every colour of an object, black and white included.
LIGHTNESS = (105, 160)
TINGE = 12  # of a channel
PATTERN = 14  # and so much more of a channel where the background is uneven
SHADE = 10  # of a channel of an object's colour


def _ring(count: int, radii: Sequence[float], start: float = 0.0) -> list[complex]:
    """Corners in even steps round the origin, at these distances in turn, the first one up or `start` turns on."""
    turns = (start + corner / count - 0.25 for corner in range(count))
    return [cmath.rect(radii[corner % len(radii)], 2 * math.pi * turn) for corner, turn in enumerate(turns)]


def _heart(count: int) -> list[complex]:
    turns = [2 * math.pi * corner / count for corner in range(count)]
    return [
        complex(
            16 * math.sin(turn) ** 3,
            -13 * math.cos(turn) + 5 * math.cos(2 * turn) + 2 * math.cos(3 * turn) + math.cos(4 * turn) - 0.5,
        )
        / 17.5
        for turn in turns
    ]


def _cross(arm: float) -> list[complex]:
    """An upright cross whose arms are twice `arm` wide and end on the unit circle."""
    reach = math.sqrt(1 - arm * arm)
    quarter = [complex(arm, -reach), complex(arm, -arm), complex(reach, -arm)]
    return [corner * 1j**turn for turn in range(4) for corner in quarter]


# Corners in the unit circle, x to the right and y down. Circles are smaller, or they would look larger than the others.
SHAPES = {
    "circle": _ring(40, (0.88,)),
    "cross": _cross(0.3),
    "heart": _heart(32),
    "square": _ring(4, (1.0,), start=1 / 8),
    "star": _ring(10, (1.0, 0.42)),
    "triangle": _ring(3, (1.0,)),
}


class Description(NamedTuple):
    """What is said of an object: a key of SIZES, one of COLOURS, and one of SHAPES."""

    size: str
    colour: str
    shape: str


class SceneObject(NamedTuple):
    """An object in its place: its centre (from the left, from the top), its radius, and its tilt in radians."""

    description: Description
    x: float
    y: float
    radius: float
    tilt: float


@dataclass(frozen=True)
class Scene:
    """Two or three objects that neither overlap nor touch, whole in the picture.

    Any two are clearly apart (CLEAR) across or down or both; where they are not, they are level (LEVEL).
    `seed` decides the background and the noise.
    """

    objects: tuple[SceneObject, ...]
    seed: str

    def draw(self, size: int = 64) -> Image.Image:
        """Draw the scene as an RGB picture of size × size pixels, the same at every call. 64 pixels take 0.4 ms."""
        generator = random.Random(f"picture {self.seed}")
        picture = _background(generator, size)
        for thing in self.objects:
            shade = generator.randint(-SHADE, SHADE)
            _paint(picture, thing, shade)
        noise = Image.frombytes("RGB", picture.size, generator.randbytes(3 * size * size))
        return Image.blend(picture, noise, NOISE)


def arrange(descriptions: Sequence[Description], seed: str) -> Scene:
    """Put the objects described into random places, with random radii of their sizes and random tilts.

    Args:
        descriptions: two or three.
        seed: of the places and of the picture: equal descriptions and seed, equal scene.

    Raises:
        ValueError: there are fewer, or more than there is room for.
    """
    if len(descriptions) not in (2, 3):
        raise ValueError(f"there are {len(descriptions)} descriptions: expected two or three")
    generator = random.Random(f"places {seed}")
    radii = [generator.uniform(*SIZES[description.size]) for description in descriptions]
    places: list[complex] | None = None
    while places is None:
        places = _places(radii, generator)
    return Scene(
        tuple(
            SceneObject(description, place.real, place.imag, radius, generator.uniform(-TILT, TILT))
            for description, place, radius in zip(descriptions, places, radii, strict=True)
        ),
        seed,
    )


def _places(radii: Sequence[float], generator: random.Random) -> list[complex] | None:
    """One place after the other, or None if one finds none: where the first two are in the way of the third."""
    places: list[complex] = []
    for radius in radii:
        edge = radius + GAP
        span = 1 - 2 * edge
        for _ in range(30):
            place = complex(edge + span * generator.random(), edge + span * generator.random())
            if all(_apart(place - other, radius + taken) for other, taken in zip(places, radii, strict=False)):
                places.append(place)
                break
        else:
            return None
    return places


def _apart(way: complex, radii: float) -> bool:
    across, down = abs(way.real), abs(way.imag)
    return (
        (across >= CLEAR or down >= CLEAR)
        and not LEVEL < across < CLEAR
        and not LEVEL < down < CLEAR
        and abs(way) >= radii + GAP
    )


def _background(generator: random.Random, size: int) -> Image.Image:
    """A few tints in a coarse grid, enlarged: plain, from one side or corner to the other, stripes, or blobs."""
    columns, rows = generator.choice(((1, 1), (2, 1), (1, 2), (2, 2), (9, 1), (1, 9), (5, 5), (7, 7)))
    lightness = generator.uniform(*LIGHTNESS)
    tint = [lightness + generator.uniform(-TINGE, TINGE) for _ in range(3)]
    grid = bytes(
        round(channel + generator.uniform(-PATTERN, PATTERN)) for _ in range(columns * rows) for channel in tint
    )
    return Image.frombytes("RGB", (columns, rows), grid).resize((size, size), Image.Resampling.BICUBIC)


def _paint(picture: Image.Image, thing: SceneObject, shade: int) -> None:
    """Paint an object, through a mask of its surroundings only: a mask of the whole picture takes much longer."""
    size = picture.width
    left, top = math.floor(size * (thing.x - thing.radius)), math.floor(size * (thing.y - thing.radius))
    side = math.ceil(2 * size * thing.radius) + 1
    centre = size * complex(thing.x, thing.y) - complex(left, top)
    scale = cmath.rect(OVERSAMPLING * size * thing.radius, thing.tilt)
    corners = [scale * corner + OVERSAMPLING * centre for corner in SHAPES[thing.description.shape]]
    mask = Image.new("L", (OVERSAMPLING * side, OVERSAMPLING * side))
    ImageDraw.Draw(mask).polygon([(corner.real, corner.imag) for corner in corners], fill=255)
    red, green, blue = (min(max(channel + shade, 0), 255) for channel in COLOURS[thing.description.colour])
    picture.paste((red, green, blue), (left, top), mask.reduce(OVERSAMPLING))
