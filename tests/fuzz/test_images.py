"""Images of every format that is read, damaged; images of absurd sizes; and folders and lists of images."""

import io
import struct
import zlib
from typing import Any

import pyarrow
import pyarrow.parquet
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from PIL import Image, features

from tests.fuzz.conftest import Attack
from tests.fuzz.hostile import as_json, changed, changed_json
from tests.fuzz.reading_process import Case

SIZES = (0, 1, 2, 16, 255, 30_000, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def picture(mode: str) -> Image.Image:
    return Image.linear_gradient("L").resize((13, 9)).convert(mode if mode != "I;16" else "I").convert(mode)


def encoded(kind: str, mode: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture(mode).save(file, kind, **options)
    return file.getvalue()


FILES = tuple(
    [encoded("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    + [encoded("JPEG", mode) for mode in ("L", "RGB", "CMYK")]
    + [encoded("JPEG", "RGB", progressive=True), encoded("GIF", "P"), encoded("BMP", "RGB"), encoded("PPM", "L")]
    + [encoded("GIF", "P", save_all=True, append_images=[picture("P")])]
    + [encoded("TIFF", mode) for mode in ("1", "L", "RGB", "F", "I", "CMYK")]
    + [encoded("TIFF", "RGB", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")]
    + [encoded("JPEG2000", "RGB")] * features.check("jpg_2000")
    + [encoded("WEBP", "RGBA"), encoded("WEBP", "RGB", lossless=True)] * features.check("webp")
    + [encoded("AVIF", "RGB")] * features.check("avif")
)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@st.composite
def pngs(draw: st.DrawFn) -> bytes:
    """Chunks with right checksums, and anything in them."""
    width, height = draw(st.sampled_from(SIZES)), draw(st.sampled_from(SIZES))
    depth, colour = draw(st.sampled_from((1, 2, 4, 8, 16, 3))), draw(st.sampled_from((0, 2, 3, 4, 6, 1)))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, draw(st.integers(0, 1)))
    packed = zlib.compress(draw(st.binary(max_size=100)) + bytes(draw(st.sampled_from((0, 1000, 100_000)))))
    kinds = (b"PLTE", b"tRNS", b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"gAMA", b"acTL", b"fcTL", b"fdAT", b"IDAT")
    bodies = (
        st.binary(max_size=60)
        | st.just(b"a\0\0" + packed)
        | st.just(b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\7\0\0")
    )
    others = draw(st.lists(st.tuples(st.sampled_from(kinds), bodies), max_size=3))
    chunks = [(b"IHDR", header), *others, (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def any_image() -> SearchStrategy[bytes]:
    return changed(*FILES) | changed(*FILES, most=1) | pngs()


def test_images(attack: Attack) -> None:
    attack("image", any_image().map(lambda content: Case({"a.png": content})), share=2)


NAMES = st.sampled_from(
    ("a.png", "b/a.png", "../outside.png", "/etc/passwd", "b/../a.png", "", ".", "~/a.png", "a.png\0", "a\n.png", "b")
) | st.text(max_size=8)


def test_given_images(attack: Attack) -> None:
    files = {"a.png": FILES[4], "b/c.png": FILES[0]}
    listed = changed(b"a.png\nb\nnone.png\n", "\ufeffa.png\r\n\r\n".encode(), most=2)
    attack(
        "given_images",
        st.builds(
            lambda content, names, stdin: Case({**files, "d.gif": content}, names, stdin),
            any_image(),
            st.lists(NAMES.filter(lambda name: "\0" not in name), max_size=3),
            listed,
        ),
    )


@st.composite
def folders(draw: st.DrawFn, list_name: str, column: str) -> Case:
    """Images, one of them damaged, and a list that names them, some otherwise than they are called."""
    files = {"a.png": FILES[4], "b/a.png": FILES[0], "b/d.gif": draw(any_image()), "e.png": FILES[1], "f.png": FILES[2]}
    rows: Any = [{"file_name": name, column: "xy"[number % 2]} for number, name in enumerate(files)]
    for _ in range(draw(st.integers(0, 2))):
        rows[draw(st.integers(0, 4))]["file_name"] = draw(NAMES)
    rows = draw(st.just(rows) | changed_json(rows))
    content = b"\n".join(map(as_json, rows)) if isinstance(rows, list) else as_json(rows)
    return Case({**files, f"{list_name}.jsonl": content}, [""])


@st.composite
def tables(draw: st.DrawFn, column: str) -> Case:
    """Parquet files with a column of images."""
    images = [{"bytes": draw(any_image()), "path": draw(NAMES)} for _ in range(2)]
    images += [{"bytes": FILES[4], "path": None}, {"bytes": FILES[0], "path": "x.png"}]
    texts = [draw(st.sampled_from(("x", "y", None))) for _ in range(2)] + ["x", "y"]
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"image": images, column: texts}), file)
    return Case({"train.parquet": draw(st.just(file.getvalue()) | changed(file.getvalue(), most=2))}, ["train.parquet"])


def test_labelled_images(attack: Attack) -> None:
    labels = st.sampled_from(("x", "y", "train", "..a", "\u2028"))
    classes = st.lists(st.tuples(labels, any_image()), min_size=1, max_size=4).map(
        lambda some: Case({f"{label}/{number}.png": image for number, (label, image) in enumerate(some)}, [""])
    )
    attack("labelled_images", folders("metadata", "label") | classes)


def test_captioned_images(attack: Attack) -> None:
    attack("captioned_images", folders("captions", "caption"))


def test_images_in_parquet(attack: Attack) -> None:
    # The datasets library takes a tenth of a second for each.
    attack("labelled_images", tables("label"), share=0.1)
    attack("captioned_images", tables("caption"), share=0.1)
