"""Images from arguments, folders and standard input: in order, few at a time, and the good among bad ones."""

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zoo.data import given_images
from zoo.data.given_images import MAX_NAME, GivenImages, json_line, read_given, table_line
from zoo.data.image_tensors import BATCH
from zoo.errors import InputError

SIZE = 4


def picture(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (SIZE, SIZE), level).save(path, "PNG")
    return path


def levels(images: GivenImages) -> list[tuple[str, int]]:
    """The name of each image that was read, and how bright it is."""
    return [
        (name, int(image[0, 0, 0]))
        for names, batch in images.batches(SIZE, "squash")
        for name, image in zip(names, batch, strict=True)
    ]


def standard_input(content: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images with levels of grey from 0 in the order expected, and files that are none of them."""
    names = ["B.PNG", "a.png", "b.jpeg", "a/z.webp", "a/c/a.png", "b b/a.gif"]
    for level, name in enumerate(names):
        picture(tmp_path / "some photos" / name, level)
    for name in (".hidden.png", ".hidden/a.png", "__MACOSX/a.png", "a/.c/a.png"):
        picture(tmp_path / "some photos" / name, 99)
    (tmp_path / "some photos" / "notes.txt").write_text("none")
    return tmp_path / "some photos"


EXPECTED = ["B.PNG", "a.png", "b.jpeg", "a/z.webp", "a/c/a.png", "b b/a.gif"]


def test_a_folder_is_all_images_below_it_in_sorted_order(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, start in ((str(folder), f"{folder}/"), (f"{folder}/", f"{folder}/")):
        assert levels(GivenImages([name])) == [(start + file, n) for n, file in enumerate(EXPECTED)]
    monkeypatch.chdir(folder)
    assert levels(GivenImages(["."])) == [(f"./{name}", n) for n, name in enumerate(EXPECTED)]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("some photos", target_is_directory=True)
    assert [name for name, _ in levels(GivenImages(["link"]))] == [f"link/{name}" for name in EXPECTED]


def test_a_folder_with_a_way_back_to_itself_ends(folder: Path) -> None:
    (folder / "a" / "loop").symlink_to(folder, target_is_directory=True)
    assert [name for name, _ in levels(GivenImages([str(folder)]))] == [f"{folder}/{name}" for name in EXPECTED]


def test_arguments_and_lines_of_standard_input_are_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names = ["b.jpeg", "./a.png", "a", "b.jpeg", ".hidden.png"]
    expected = [("b.jpeg", 2), ("./a.png", 1), ("a/z.webp", 3), ("a/c/a.png", 4), ("b.jpeg", 2), (".hidden.png", 99)]
    images = GivenImages(names)
    assert levels(images) == expected
    assert (images.count, images.broken, images.exit_code()) == (6, 0, 0)
    for content in ("\n".join(names), "\ufeff" + "\r\n".join(names) + "\r\n", "\n\n" + "\n \n".join(names) + "\n\n"):
        monkeypatch.setattr(sys, "stdin", standard_input(content.encode()))
        assert levels(GivenImages([])) == expected


def test_a_name_may_begin_with_a_tilde(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(picture(tmp_path / "here" / "~nobody.png", 7).parent)
    monkeypatch.setenv("HOME", str(folder))
    assert levels(GivenImages(["~nobody.png", "./~nobody.png", "~/a.png"])) == [
        ("~nobody.png", 7),
        ("./~nobody.png", 7),
        ("~/a.png", 1),
    ]
    assert levels(GivenImages(["."])) == [("./~nobody.png", 7)]
    assert levels(GivenImages(["~/a"])) == [(f"{folder}/a/z.webp", 3), (f"{folder}/a/c/a.png", 4)]


def test_names_of_any_bytes_come_from_folders_arguments_and_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [os.fsdecode(b"Zo\xeb.png"), "日本語 🎉.png", " leading.png", "two\ttabs.png"]
    for level, name in enumerate(names):
        picture(Path(name), level)
    expected = [(name, level) for level, name in enumerate(names)]
    assert levels(GivenImages(names)) == expected
    assert sorted(levels(GivenImages(["."]))) == sorted((f"./{name}", level) for name, level in expected)
    monkeypatch.setattr(sys, "stdin", standard_input(b"\n".join(map(os.fsencode, names))))
    assert levels(GivenImages([])) == expected


# --- what is wrong ------------------------------------------------------------------------------------------------


def test_the_others_are_read_where_some_are_broken(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    (folder / "bad.png").write_bytes(b"")
    (folder / "half.png").write_bytes((folder / "a.png").read_bytes()[:40])
    (tmp_path / "nothing here").mkdir()
    names = ["no.png", "a.png", "bad.png", "", "../nothing here", "b.jpeg", "half.png", "notes.txt", "x" * 300, "a\0b"]
    images = GivenImages(names)
    assert levels(images) == [("a.png", 1), ("b.jpeg", 2)]
    assert (images.count, images.broken, images.exit_code()) == (10, 8, 2)
    said = [
        "no.png: no such file",
        "bad.png is empty: expected an image",
        "the name of an image is empty",
        "../nothing here has no images: expected files that end in .jpg, ",
        "half.png is damaged, truncated",
        "notes.txt is no image",
        "x" * 300 + " cannot be read (File name too long)",
        "a\ufffdb",
        "8 of 10 images could not be read",
    ]
    lines = capsys.readouterr().err.splitlines()
    for line, start in zip(lines, said, strict=True):
        assert line.startswith(f"error: {start}"), line


def test_one_broken_image_needs_no_count(capsys: pytest.CaptureFixture[str]) -> None:
    images = GivenImages(["no/such.png"])
    assert levels(images) == []
    assert images.exit_code() == 2
    assert capsys.readouterr().err == "error: no/such.png: no such file; give one that exists\n"


def test_a_message_is_one_line_that_a_terminal_only_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "an\x1b[31m\nempty\udce9").mkdir()
    images = GivenImages(["a\nb\x1b[31m\udce9.png", "an\x1b[31m\nempty\udce9"])
    assert levels(images) == []
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: a\ufffdb\ufffd[31m\ufffd.png: no such file")
    assert second.startswith("error: an\ufffd[31m\ufffdempty\ufffd has no images")


def test_a_folder_that_cannot_be_looked_into_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    look = os.scandir

    def scandir(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path) in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", scandir)
    closed = {str(folder / "a")}
    images = GivenImages([str(folder)])
    assert [level for _, level in levels(images)] == [0, 1, 2, 5]
    assert (images.count, images.broken) == (5, 1)
    message = f"error: {folder}/a cannot be read (Permission denied): expected a folder that you may read\n"
    assert capsys.readouterr().err == message
    closed = {str(folder)}
    assert levels(GivenImages([str(folder)])) == []
    assert capsys.readouterr().err == message.replace("/a cannot", " cannot")


@pytest.mark.parametrize("fault", [b"a\0b\0", b"\x89PNG\r\n\x1a\0", b"a.png\n".decode().encode("utf-16")])
def test_what_is_no_list_of_paths_is_refused_after_the_images_before_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fault: bytes
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdin", standard_input(b"a.png\nb.jpeg\n" + fault))
    batches = GivenImages([]).batches(SIZE, "squash")
    assert next(batches)[0] == ["a.png", "b.jpeg"]
    with pytest.raises(InputError, match=r"^standard input, line [34] is no path: expected paths of images"):
        list(batches)


def test_a_line_longer_than_any_path_is_not_taken_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = standard_input(b"x" * 10_000_000)
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(InputError, match="line 1 is no path"):
        levels(GivenImages([]))
    assert stdin.buffer.tell() == MAX_NAME


def test_standard_input_that_is_closed_matters_without_arguments_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert len(levels(GivenImages([str(folder)]))) == 6
    with pytest.raises(InputError, match="standard input is closed: give images"):
        GivenImages([])


# --- few at a time ------------------------------------------------------------------------------------------------


def test_no_more_images_are_in_memory_than_a_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0

    def counting(file: str) -> Image.Image:
        nonlocal read
        read += 1
        return read_given(file)

    monkeypatch.setattr(given_images, "read_given", counting)
    names = [str(folder / "a.png")] * (2 * BATCH + 3)
    sizes = []
    for batch_names, batch in GivenImages(names).batches(SIZE, "squash"):
        sizes.append(len(batch))
        assert (len(batch_names), read) == (len(batch), sum(sizes))
        assert batch.shape[1:] == (3, SIZE, SIZE)
    assert sizes == [BATCH, BATCH, 3]


def test_what_is_typed_is_answered_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = b"".join(f"{folder}/{name}\n".encode() for name in ("a.png", "b.jpeg"))
    stdin = standard_input(lines)
    monkeypatch.setattr(stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", stdin)
    images = GivenImages([])
    assert capsys.readouterr().err == "the path of an image or a folder a line; Ctrl-D ends\n"
    batches = images.batches(SIZE, "squash")
    assert len(next(batches)[0]) == 1
    assert stdin.buffer.tell() == lines.index(b"\n") + 1
    assert len(list(batches)) == 1


def test_progress_is_drawn_on_standard_error_of_a_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    (folder / "zero.png").write_bytes(b"")
    levels(GivenImages([str(folder)]))
    shown = capsys.readouterr().err
    assert "7 images" in shown.replace("7.00 images", "7 images")
    assert f"error: {folder}/zero.png is empty" in shown
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)  # there the answers are
    levels(GivenImages([str(folder / "a")]))
    assert capsys.readouterr().err == ""


# --- lines --------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(st.characters(exclude_categories=())), min_size=1))
def test_a_line_of_a_table_is_one_line_with_as_many_cells(cells: list[str]) -> None:
    line = table_line(*cells)
    assert line.encode().decode() == line
    assert [len(cell) for cell in line.split("\t")] == [len(cell) for cell in cells]
    assert len(f".{line}".splitlines()) == 1


def test_what_can_stand_in_a_table_stays() -> None:
    assert table_line("Ünï\u202fcode 🎉  two.png", "a dog") == "Ünï\u202fcode 🎉  two.png\ta dog"
    assert table_line("a\tb\nc\x1b[31m\u2028\udce9.png", "") == "a\ufffdb\ufffdc\ufffd[31m\ufffd\ufffd.png\t"


@given(st.text(st.characters(exclude_categories=())))
def test_a_json_line_is_one_that_any_reader_takes(name: str) -> None:
    line = json_line({"file": name})
    assert "\n" not in line
    expected = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in name)
    assert json.loads(line.encode()) == {"file": expected}
