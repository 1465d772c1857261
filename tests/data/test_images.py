"""Images of every kind come upright and in RGB, and what is no image ends in one line, whatever its bytes are."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, features

from zoo.data import images
from zoo.data.images import image_tensor, read_image
from zoo.errors import InputError

WIDTH, HEIGHT = 24, 16


def scene() -> Image.Image:
    """Red left above, green right above, blue left below, white right below."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    for colour, left, top in (("red", 0, 0), ("lime", WIDTH // 2, 0), ("blue", 0, HEIGHT // 2)):
        picture.paste(colour, (left, top, left + WIDTH // 2, top + HEIGHT // 2))
    return picture


def file_of(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def corners(picture: Image.Image) -> list[tuple[int, ...]]:
    """The colours inside the four quarters, rounded to 0, 128 or 255."""
    across, down = picture.width // 4, picture.height // 4
    points = [(across, down), (3 * across, down), (across, 3 * down), (3 * across, 3 * down)]
    return [tuple(min((0, 128, 255), key=lambda x: abs(x - c)) for c in _pixel(picture, point)) for point in points]


def _pixel(picture: Image.Image, point: tuple[int, int]) -> tuple[int, ...]:
    pixel = picture.getpixel(point)
    assert isinstance(pixel, tuple)
    return pixel


def refused(image: Any, place: str | None = None) -> str:
    """The one-line message that reading it ends with."""
    with pytest.raises(InputError) as caught:
        read_image(image, place)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read_or_refused(image: bytes | Path, place: str) -> Image.Image | None:
    """The picture, or None if it is refused in one line that names the place; nothing else may happen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow has to say about damaged metadata
        try:
            return read_image(image, place)
        except InputError as error:
            said = str(error)
    assert said.startswith(f"{place} ") and "\n" not in said
    return None


COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
GREYS = [(128,) * 3, (255,) * 3, (0,) * 3, (255,) * 3]

FILES = {
    "jpeg": file_of(scene(), "JPEG", quality=95, subsampling=0),
    "progressive": file_of(scene(), "JPEG", quality=95, subsampling=0, progressive=True),
    "cmyk": file_of(scene().convert("CMYK"), "JPEG", quality=95, subsampling=0),
    "cmyk tiff": file_of(scene().convert("CMYK"), "TIFF"),
    "png": file_of(scene(), "PNG"),
    "palette": file_of(scene().quantize(8), "PNG"),
    "gif": file_of(scene(), "GIF"),
    "animated gif": file_of(scene(), "GIF", save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT), "black")]),
    "bmp": file_of(scene(), "BMP"),
    "webp": file_of(scene(), "WEBP", lossless=True),
    "animated webp": file_of(
        scene(), "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))]
    ),
    "tiff": file_of(scene(), "TIFF"),
    "lzw tiff": file_of(scene(), "TIFF", compression="tiff_lzw"),
    "jpeg 2000": file_of(scene(), "JPEG2000"),
    "ppm": file_of(scene(), "PPM"),
}
if features.check("avif"):
    FILES["avif"] = file_of(scene(), "AVIF", quality=100, subsampling="4:4:4")


# Kinds


@pytest.mark.parametrize("kind", FILES)
def test_colours_of_every_format(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.of.any.name"
    path.write_bytes(FILES[kind])
    for given_as in (FILES[kind], path, str(path), Image.open(path)):
        picture = read_image(given_as)
        assert (picture.mode, picture.size, corners(picture)) == ("RGB", (WIDTH, HEIGHT), COLOURS)


def test_adobe_cmyk_is_inverted_back() -> None:
    # Photoshop's JPEGs hold 255 for no ink, and say so in a marker of their own, which Pillow's writer sets as well.
    content = file_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    assert b"Adobe" in content
    assert corners(read_image(content))[0] == (255, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(orientation: int, kind: str) -> None:
    turned = {
        2: 0,
        3: 3,
        4: 1,
        5: 5,
        6: 2,
        7: 6,
        8: 4,
    }  # the turn that the camera's holder made, as Pillow numbers them
    stored = scene() if orientation == 1 else scene().transpose(Image.Transpose(turned[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read_image(file_of(stored, kind, exif=exif))
    assert (picture.size, corners(picture)) == ((WIDTH, HEIGHT), COLOURS)


def test_damaged_exif_data_costs_no_image() -> None:
    picture = read_image(file_of(scene(), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\xff\xff\xff\xff"))
    assert corners(picture) == COLOURS


def test_what_is_transparent_is_white() -> None:
    half = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    expected = [[[255, 0, 0], [255, 255, 255], [127, 127, 127]]]
    rgba = Image.fromarray(half)
    for given_as in (half, rgba, file_of(rgba, "PNG"), file_of(rgba, "WEBP", lossless=True, exact=True)):
        assert np.asarray(read_image(given_as)).tolist() == expected
    grey = Image.fromarray(np.array([[[0, 255], [0, 0], [0, 128]]], dtype=np.uint8), "LA")
    assert np.asarray(read_image(file_of(grey, "PNG"))).tolist() == [[[0] * 3, [255] * 3, [127] * 3]]
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        assert np.asarray(read_image(file_of(palette, kind, transparency=0))).tolist() == [[[255] * 3, [10, 20, 30]]]
    for mode, colour in (("RGB", (0, 0, 0)), ("L", 0)):
        content = file_of(Image.new(mode, (1, 1)), "PNG", transparency=colour)
        assert np.asarray(read_image(content)).tolist() == [[[255] * 3]]


def test_one_bit_and_grey() -> None:
    assert corners(read_image(file_of(scene().convert("1", dither=Image.Dither.NONE), "PNG")))[3] == (255,) * 3
    assert _pixel(read_image(file_of(Image.new("L", (2, 2), 77), "JPEG", quality=100)), (0, 0)) == (77,) * 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bits_are_scaled(kind: str) -> None:
    levels = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    picture = read_image(file_of(Image.fromarray(levels), kind))
    assert np.asarray(picture)[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (np.array([[0, 65535]], dtype=np.int32), [0, 255]),
        (np.array([[-100, 0, 300]], dtype=np.int32), [0, 64, 255]),
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[0.0, 77.0]], dtype=np.float32), [0, 77]),
        (np.array([[1000.0, 2000.0, 3000.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[-5.0, -5.0]], dtype=np.float32), [0, 0]),
    ],
)
def test_ranges_of_32_bits(levels: np.ndarray, expected: list[int]) -> None:
    assert np.asarray(read_image(file_of(Image.fromarray(levels), "TIFF")))[0, :, 0].tolist() == expected


def test_floats_that_are_not_finite() -> None:
    levels = np.array([[0.0, np.nan]], dtype=np.float32)
    assert "not finite" in refused(file_of(Image.fromarray(levels), "TIFF"), "depth.tif")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"])
@pytest.mark.parametrize("size", [(1, 1), (3, 200)])
def test_every_mode_of_pillow(mode: str, size: tuple[int, int]) -> None:
    picture = read_image(Image.new(mode, size))
    assert (picture.mode, picture.size) == ("RGB", size)


def test_lab_and_hsv() -> None:
    assert read_image(Image.new("LAB", (2, 2))).mode == read_image(Image.new("HSV", (2, 2))).mode == "RGB"


def test_the_given_picture_stays_as_it_was() -> None:
    given_as = Image.new("RGBA", (2, 2), (1, 2, 3, 4))
    before = given_as.tobytes()
    read_image(given_as)
    assert (given_as.mode, given_as.tobytes()) == ("RGBA", before)


# Arrays and tensors


@pytest.mark.parametrize("as_float", [False, True])
def test_arrays_and_tensors(as_float: bool) -> None:
    pixels = np.asarray(scene())
    array = pixels / 255 if as_float else pixels
    opaque = np.concatenate([array, np.ones_like(array[..., :1]) * (1 if as_float else 255)], axis=2)
    tensor = torch.tensor(array).permute(2, 0, 1)
    for given_as in (array, opaque, tensor, array[::-1][::-1]):
        assert np.array_equal(np.asarray(read_image(given_as)), pixels)
    red = pixels[..., :1].repeat(3, axis=2)
    for given_as in (array[..., 0], array[..., :1], tensor[:1]):
        assert np.array_equal(np.asarray(read_image(given_as)), red)


def test_tensors_of_other_floats() -> None:
    grey = torch.full((1, 2, 2), 0.5, requires_grad=True)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert _pixel(read_image(grey.to(dtype)), (0, 0)) == (128,) * 3


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((2, 2, 2), np.uint8), "shape (2, 2, 2): expected (height, width)"),
        (np.zeros(4, np.uint8), "shape (4,)"),
        (np.zeros((1, 2, 2, 3), np.uint8), "shape (1, 2, 2, 3)"),
        (np.zeros((0, 2), np.uint8), "2 × 0 pixels"),
        (np.zeros((2, 2), np.int64), "int64: expected uint8, or floats from 0 to 1"),
        (np.zeros((2, 2), bool), "bool"),
        (np.array([["a"]]), "expected uint8"),
        (np.full((2, 2), 255.0), "values from 255 to 255: expected 0 to 1"),
        (np.full((2, 2), -0.1), "expected 0 to 1"),
        (np.full((2, 2), np.nan), "expected 0 to 1"),
        (torch.zeros(2, 2), "shape (2, 2): expected (3, height, width)"),
        (torch.zeros(2, 2, 3), "shape (2, 2, 3)"),
        (torch.zeros(4, 2, 2), "shape (4, 2, 2)"),
        (torch.zeros(3, 0, 2), "2 × 0 pixels"),
        (torch.zeros(3, 2, 2, dtype=torch.int64), "torch.int64"),
        (torch.full((3, 2, 2), 2.0), "values from 2 to 2"),
        (None, "type NoneType: expected a path"),
        ([1], "type list"),
        (Image.new("RGB", (0, 5)), "0 × 5 pixels"),
    ],
)
def test_what_is_no_image_in_memory(image: Any, said: str) -> None:
    assert said in refused(image)
    assert refused(image, "picture 7").startswith("picture 7 ")


# Files that are no images


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(tmp_path / "none.jpg") == f"{tmp_path}/none.jpg: no such file; give one that exists"
    assert refused(str(tmp_path)) == f"{tmp_path} is a folder: expected an image file"
    assert "device" in refused("/dev/null")
    assert "cannot be read" in refused("a" * 5000)
    assert "cannot be read" in refused("nul\0.jpg") or "no such file" in refused("nul\0.jpg")
    assert "~nobody-of-this-name" in refused("~nobody-of-this-name/a.jpg")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    assert refused(empty) == f"{empty} is empty: expected an image"
    assert refused(empty, "photo 3") == "photo 3 is empty: expected an image"
    text = tmp_path / "text.jpg"
    text.write_text("this is no picture")
    assert refused(text).startswith(f"{text} is no image, or of a kind that is not read: expected one of JPEG")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.png").write_bytes(FILES["png"])
    assert corners(read_image("~/a.png")) == COLOURS


def test_postscript_is_not_run() -> None:
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    Image.init()
    assert Image.open(io.BytesIO(content)).format == "EPS"  # Pillow would call Ghostscript for it
    assert "is no image, or of a kind that is not read" in refused(content)


@pytest.mark.parametrize("kind", sorted(FILES))
def test_truncated(kind: str, tmp_path: Path) -> None:
    content = FILES[kind]
    whole = read_image(content)
    path = tmp_path / "cut.jpg"
    for end in range(1, len(content), max(1, len(content) // 40)):
        path.write_bytes(content[:end])
        picture = read_or_refused(path, str(path))
        # If it is read, nothing of the picture itself was cut off, or, in a JPEG 2000, the finest detail.
        assert picture is None or picture.tobytes() == whole.tobytes() or kind == "jpeg 2000"
    path.write_bytes(content[: len(content) // 2])
    if kind not in ("animated gif", "animated webp", "jpeg 2000"):
        assert "damaged, truncated or no image" in refused(path)


def _png_of_size(width: int, height: int) -> bytes:
    content = FILES["png"]
    header = struct.pack(">II", width, height) + content[24:29]
    return content[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + content[33:]


@pytest.mark.parametrize("limit", [None, 10, 10**12])
def test_decompression_bomb(limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)  # Pillow's own limit counts for nothing
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = refused(_png_of_size(100_000, 100_000), "bomb.png")
        assert said == "bomb.png has 100,000 × 100,000 pixels, expected at most 89,478,485: make it smaller"
        assert "pixels" in refused(_png_of_size(9_460, 9_460))
        assert "pixels" not in refused(_png_of_size(9_459, 9_459))  # truncated, but not too large
        assert "pixels" in refused(b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + FILES["gif"][10:])
        for kind in ("png", "jpeg", "gif", "bmp"):
            assert corners(read_image(FILES[kind])) == COLOURS
    assert limit == Image.MAX_IMAGE_PIXELS
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_size_limit_of_what_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", WIDTH * HEIGHT - 1)
    for image in (scene(), np.asarray(scene()), torch.zeros(1, HEIGHT, WIDTH), FILES["webp"]):
        assert f"{WIDTH} × {HEIGHT} pixels, expected at most {WIDTH * HEIGHT - 1}" in refused(image)
    monkeypatch.setattr(images, "MAX_PIXELS", WIDTH * HEIGHT)
    assert corners(read_image(scene())) == COLOURS


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=200), st.sampled_from([b"", *[content[:12] for content in FILES.values()]]))
def test_any_bytes(content: bytes, start: bytes) -> None:
    picture = read_or_refused(start + content, "a.jpg")
    assert picture is None or (picture.mode == "RGB" and min(picture.size) > 0)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    st.floats(0, 1),
)
def test_any_damage(kind: str, changes: list[tuple[float, int]], end: float) -> None:
    content = bytearray(FILES[kind])
    for place, value in changes:
        content[int(place * len(content))] = value
    picture = read_or_refused(bytes(content[: int(end * len(content)) if end < 0.5 else None]), "a.jpg")
    assert picture is None or (picture.mode == "RGB" and min(picture.size) > 0)


# As tensors


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.sampled_from(["squash", "crop"]))
def test_image_tensor_is_what_pillow_gives(width: int, height: int, size: int, resize: Any) -> None:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    tensor = image_tensor(picture, size, resize)
    assert (tensor.shape, tensor.dtype, tensor.is_contiguous()) == ((3, size, size), torch.uint8, True)
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    cut = picture.crop((left, top, left + side, top + side)) if resize == "crop" else picture
    if max(cut.size) < 6 * size:
        expected = np.asarray(cut.resize((size, size), Image.Resampling.BILINEAR)).astype(int)
        off = np.abs(tensor.permute(1, 2, 0).numpy() - expected)
        assert off.max() <= 2  # both round twice, not on all processors alike


def test_image_tensor_of_extreme_sizes() -> None:
    strip = Image.fromarray(np.linspace(0, 255, 20_000).astype(np.uint8)[None].repeat(3, axis=0)).convert("RGB")
    squashed = image_tensor(strip, 32)
    assert squashed.shape == (3, 32, 32)
    assert (squashed[0, 0].int() - torch.linspace(4, 251, 32)).abs().max() < 4
    cropped = image_tensor(strip, 32, "crop")
    assert cropped.shape == (3, 32, 32) and (cropped.int() - 127).abs().max() <= 1
    assert image_tensor(Image.new("RGB", (1, 1), "red"), 4)[:, 3, 3].tolist() == [255, 0, 0]


def test_large_images_are_averaged() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1300, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    for resize, box in (("squash", None), ("crop", (200, 0, 1100, 900))):
        exact = np.asarray(picture.resize((50, 50), Image.Resampling.BILINEAR, box)).astype(int)
        tensor = image_tensor(picture, 50, resize)  # type: ignore[arg-type]
        assert np.abs(tensor.permute(1, 2, 0).numpy() - exact).mean() < 2  # of a spread of 256


def test_an_image_of_the_size_is_as_it_was() -> None:
    given_as = np.asarray(scene().resize((20, 20)))
    assert np.array_equal(image_tensor(read_image(given_as), 20).permute(1, 2, 0).numpy(), given_as)
