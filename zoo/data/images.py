"""Reading images of every kind that people have: upright, RGB, or one line that says what is wrong."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image
from torch import Tensor

from zoo.errors import InputError

ImageLike = str | Path | bytes | Image.Image | np.ndarray | Tensor
"""A path, a file's bytes, a Pillow image, or an array or tensor; see `read_image`."""

MAX_PIXELS = 2**30 // 12
"""An image of more pixels (89,478,485) is refused before it is decoded: a file of 100 kB can hold a hundred times more.

It is Pillow's own default, a quarter of a gigabyte in RGB, but holds whatever Pillow's setting is.
"""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF", "TIFF", "JPEG2000", "PPM")
"""The formats that are read: rasters that Pillow itself decodes. (For PostScript it would run another program.)"""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


Resize = Literal["squash", "crop"]
"""How an image is brought to a square: all of it, or the square in its middle."""


def check_resize(resize: str) -> None:
    """Raise ValueError unless `resize` is one of `Resize`."""
    if resize not in get_args(Resize):
        raise ValueError(f"resize is {resize!r}, but must be one of {', '.join(get_args(Resize))}")


def read_image(image: ImageLike, place: str | None = None) -> Image.Image:
    """Read an image: upright by its EXIF orientation, in RGB, the first frame of several, what is transparent in white.

    Grey of 16 bits is scaled to 8. Grey of 32 bits, whose range no format tells, is read as 16 bits if all values are
    between 0 and 65,535; floats as 0 to 1 if all are, else as 0 to 255 if all are; all others are spread so that the
    lowest is black and the highest white.

    Args:
        image: the path of a file in one of `FORMATS`, or its bytes; a Pillow image; an array (height, width),
            (height, width, 1), (height, width, 3) or (height, width, 4), the fourth being opacity, or a tensor
            (1, height, width) or (3, height, width), of uint8 or of floats from 0 to 1.
        place: what a message calls it; default: its path.

    Raises:
        InputError: there is no such file, it is no image, damaged, truncated or has more than MAX_PIXELS; or the array
            or tensor has another shape, type or range.
    """
    if isinstance(image, str | Path):
        return _read_file(image, place or str(image))
    if isinstance(image, bytes):
        return _decoded(BytesIO(image), place or "the image given as bytes")
    if isinstance(image, Image.Image):
        return _rgb_upright(image, place or getattr(image, "filename", "") or "the image given")
    if isinstance(image, np.ndarray):
        return _of_array(image, place or "the array given")
    if isinstance(image, Tensor):
        return _of_tensor(image, place or "the tensor given")
    raise InputError(
        f"{place or 'an image'} is of type {type(image).__name__}: expected a path, a file's bytes, a Pillow image, an "
        "array or a tensor"
    )


def image_tensor(image: Image.Image, size: int, resize: Resize = "squash") -> Tensor:
    """An RGB image as a tensor (3, size, size) of uint8.

    Both sides are scaled to `size` ("squash"), or those of the square in its middle ("crop"), bilinearly, with a filter
    as wide as the scale asks for. It takes a third of the time of Pillow's own `resize`, whose results it gives but for
    1 in 255; sides of more than six times the size are averaged down to three times first, as Pillow's `reducing_gap`
    does.
    """
    if resize == "crop":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
    else:
        box = (0, 0, image.width, image.height)
    factors = [max(1, (high - low) // (3 * size)) for low, high in ((box[0], box[2]), (box[1], box[3]))]
    if max(factors) > 1:
        pixels = np.array(image.reduce((factors[0], factors[1]), box))
    else:
        pixels = np.array(image)[box[1] : box[3], box[0] : box[2]]
    inputs = torch.from_numpy(pixels).permute(2, 0, 1)
    if inputs.shape[1:] == (size, size):
        return inputs.contiguous()
    scaled = F.interpolate(inputs[None], (size, size), mode="bilinear", antialias=True)
    return scaled[0].contiguous()


# Files


def _read_file(name: str | Path, place: str) -> Image.Image:
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            raise InputError(f"{place} is a folder: expected an image file")
        if not path.exists():
            raise InputError(f"{place}: no such file; give one that exists")
        if not path.is_file():
            raise InputError(f"{place} is a device or a pipe: expected an image file")
        file = path.open("rb")
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # a name with a NUL; the home of an unknown user
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{place} cannot be read ({reason}): expected an image file") from error
    with file:
        return _decoded(file, place)


def _decoded(file: BinaryIO, place: str) -> Image.Image:
    with _damage_as_input_error(place):
        start = file.read(16)
    if not start:
        raise InputError(f"{place} is empty: expected an image")
    # As Image.open does, but for its check of the size, which warns and depends on a setting of the whole process.
    Image.init()
    for name in FORMATS:
        if name not in Image.OPEN:  # an older Pillow
            continue
        factory, accept = Image.OPEN[name]
        accepted = accept is None or accept(start)
        if isinstance(accepted, str):
            raise InputError(f"{place} cannot be read by this Pillow ({accepted}): convert it to PNG or JPEG")
        if accepted:
            file.seek(0)
            with _damage_as_input_error(place):
                opened = factory(file, "")
            return _rgb_upright(opened, place)
    raise InputError(f"{place} is no image, or of a kind that is not read: expected one of {', '.join(FORMATS)}")


@contextmanager
def _damage_as_input_error(place: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError as error:  # some formats check their size themselves, by Pillow's limit
        raise InputError(f"{place} has too many pixels, expected at most {MAX_PIXELS:,}: make it smaller") from error
    except Exception as error:  # damaged files make Pillow raise nearly every type there is
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise InputError(f"{place} is damaged, truncated or no image ({reason}): get it again or remove it") from error


# Pixels


def _rgb_upright(image: Image.Image, place: str) -> Image.Image:
    _check_size(image.width, image.height, place)
    with _damage_as_input_error(place):
        image.load()
        turn = _turn(image)
        if image.mode.startswith("I") or image.mode == "F":
            rgb = _of_levels(np.asarray(image))
        elif image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            rgb = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
        else:
            rgb = image if image.mode == "RGB" else image.convert("RGB")
        return rgb if turn is None else rgb.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data, of which Pillow raises many types; the pixels are whole
        return None


def _of_levels(levels: np.ndarray) -> Image.Image:
    """RGB of grey levels (height, width) in more than 8 bits."""
    low, high = float(levels.min()), float(levels.max())
    if not math.isfinite(high - low):
        raise ValueError("values that are not finite")
    tops = (1.0, 255.0) if levels.dtype.kind == "f" else (65535.0,)
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is None:
        levels, top = levels - low, high - low
    return Image.fromarray(np.rint(levels * np.float64(255 / (top or 1))).astype(np.uint8)).convert("RGB")


def _of_array(array: np.ndarray, place: str) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise InputError(
            f"{place} has the shape {array.shape}: expected (height, width), or (height, width, channels) with 1, 3 or "
            "4 channels"
        )
    _check_size(array.shape[1], array.shape[0], place)
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise InputError(f"{place} is of {array.dtype}: expected uint8, or floats from 0 to 1")
    if array.dtype.kind == "f":
        low, high = array.min(), array.max()
        if not (low >= 0 and high <= 1):  # NaN is neither
            raise InputError(f"{place} has values from {low:g} to {high:g}: expected 0 to 1, or uint8 from 0 to 255")
        array = np.rint(array.astype(np.float32) * 255).astype(np.uint8)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return _rgb_upright(Image.fromarray(np.ascontiguousarray(array)), place)


def _of_tensor(tensor: Tensor, place: str) -> Image.Image:
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
        raise InputError(
            f"{place} has the shape {tuple(tensor.shape)}: expected (3, height, width) or (1, height, width)"
        )
    if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
        raise InputError(f"{place} is of {tensor.dtype}: expected uint8, or floats from 0 to 1")
    values = tensor.detach().cpu()
    array = (values.float() if values.is_floating_point() else values).numpy()
    return _of_array(array.transpose(1, 2, 0), place)


def _check_size(width: int, height: int, place: str) -> None:
    if width == 0 or height == 0:
        raise InputError(f"{place} has {width} × {height} pixels: expected one or more")
    if width * height > MAX_PIXELS:
        raise InputError(f"{place} has {width:,} × {height:,} pixels, expected at most {MAX_PIXELS:,}: make it smaller")
