"""Features on the disk: computed once, found again only if they are whole and of the same images and encoder."""

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.data.cache_folder import default_cache
from zoo.data.feature_cache import CachedFeatures
from zoo.data.image_tensors import BATCH, ImageTensors, load_image
from zoo.data.stored_images import StoredImage
from zoo.errors import InputError

SIZE = 4


def picture(number):
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (6, 5, 3), dtype=np.uint8))


def stored(folder, count=5, broken=()):
    folder.mkdir(exist_ok=True)
    images = []
    for number in range(count):
        path = folder / f"{number}.png"
        picture(number).save(path)
        if number in broken:
            path.write_bytes(b"no image")
        images.append(StoredImage(str(path), path))
    return images


class Extract:
    """Pixels as features, (B, S, 3); counts the images that it was given."""

    def __init__(self, dtype=torch.float32):
        self.dtype, self.count = dtype, 0

    def __call__(self, batch):
        self.count += len(batch)
        return (batch.flatten(2).transpose(1, 2).float() / 255).to(self.dtype)


def cached(images, folder, extract=None, encoder="an encoder", size=SIZE, resize="squash"):
    return CachedFeatures(images, extract or Extract(), encoder, size, resize, "training images", folder)


def expected(images, numbers, dtype=torch.float32):
    return Extract(dtype)(torch.stack([load_image(images[n], SIZE, "squash") for n in numbers]))


def forbidden(batch):
    raise AssertionError("they should have been found")


@pytest.fixture
def images(tmp_path):
    return stored(tmp_path / "images")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "a cache" / "of features"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_they_are_computed_once_and_bit_for_bit(tmp_path, folder, dtype):
    images = stored(tmp_path / "images", BATCH + 3)
    first = cached(images, folder, extract := Extract(dtype))
    assert (first.computed, extract.count) == (True, BATCH + 3)
    again = cached(images, folder, forbidden)
    assert not again.computed
    for features in (first, again):
        assert (features.kept, features.broken) == (list(range(BATCH + 3)), [])
        numbers = [BATCH + 2, 0, BATCH, 0]
        assert features(numbers).dtype == dtype
        assert torch.equal(features(numbers), expected(images, numbers, dtype))
    assert first.fingerprint == again.fingerprint
    assert sorted(path.suffix for path in folder.iterdir()) == [".bin", ".json"]


def test_they_may_be_written_to_without_harm(images, folder):
    first = cached(images, folder)
    first._features.zero_()
    assert torch.equal(cached(images, folder, forbidden)([1]), expected(images, [1]))


@pytest.mark.parametrize(
    "change", [{"encoder": "another"}, {"size": SIZE + 1}, {"resize": "crop"}], ids=lambda change: next(iter(change))
)
def test_another_encoder_or_size_is_computed_anew(images, folder, change):
    first = cached(images, folder)
    other = cached(images, folder, **change)
    assert other.computed
    assert other.file != first.file
    assert not cached(images, folder, forbidden).computed  # both are kept
    assert not cached(images, folder, forbidden, **change).computed


def test_other_images_are_computed_anew(images, folder):
    cached(images, folder)
    assert cached(images[:4], folder).computed
    assert cached(images[::-1], folder).computed
    assert cached([*images, images[0]], folder).computed
    picture(99).save(images[2].content)
    changed = cached(images, folder)
    assert changed.computed
    assert torch.equal(changed([2]), expected(images, [2]))


def test_a_file_changed_to_one_as_long_is_computed_anew(tmp_path, folder):
    path = tmp_path / "image.bmp"
    picture(0).save(path)
    length = path.stat().st_size
    cached(images := [StoredImage("image", path)], folder)
    picture(1).save(path)
    assert path.stat().st_size == length
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    changed = cached(images, folder)
    assert changed.computed
    assert torch.equal(changed([0]), expected(images, [0]))


def test_content_in_memory_is_told_by_itself(images, folder):
    kinds = [
        lambda n: images[n].content.read_bytes(),
        lambda n: lambda: images[n].content.read_bytes(),
        lambda n: picture(n),
        lambda n: lambda: picture(n),
    ]
    for number, kind in enumerate(kinds):
        folder = folder.with_name(f"cache {number}")
        several = [StoredImage(f"row {n}", kind(n)) for n in range(5)]
        cached(several, folder)
        several = [StoredImage(f"another row {n}", kind(n)) for n in range(5)]
        assert not cached(several, folder, forbidden).computed
        several[3] = StoredImage("row 3", kind(4))
        assert cached(several, folder).computed


def test_a_run_on_a_copy_of_the_images_or_without_a_cache_has_the_same_fingerprint(images, folder, tmp_path):
    copies = [
        StoredImage("copy", shutil.copy(image.content, tmp_path / f"copy {n}.png")) for n, image in enumerate(images)
    ]
    first, copied = cached(images, folder), cached(copies, folder, encoder="on another device")
    read = ImageTensors(images, SIZE, "squash", "images")
    assert first.fingerprint == copied.fingerprint == read.fingerprint
    assert cached(images[:-1], folder).fingerprint != first.fingerprint


def test_pictures_of_the_same_bytes_are_told_apart(folder):
    data = bytes(range(6))
    palettes = [Image.frombytes("P", (2, 3), data), Image.frombytes("P", (2, 3), data)]
    palettes[0].putpalette(list(range(30)))
    palettes[1].putpalette(list(range(30, 60)))
    others = [Image.frombytes("L", (2, 3), data), Image.frombytes("L", (3, 2), data), *palettes]
    found = [cached([StoredImage("image", other)], folder) for other in others]
    assert len({features.file for features in found}) == 4


def test_relative_paths_are_told_by_where_they_lead(tmp_path, folder, monkeypatch):
    for name in ("a", "b"):
        stored(tmp_path / name, 1)
    monkeypatch.chdir(tmp_path)
    cached([StoredImage("0.png", tmp_path / "a" / "0.png")], folder)
    relative = [StoredImage("0.png", type(tmp_path)("a") / "0.png")]
    assert not cached(relative, folder, forbidden).computed


def test_a_name_that_is_not_utf8(tmp_path, folder):
    path = tmp_path / os.fsdecode(b"Zo\xeb.png")
    try:
        picture(0).save(path)
    except OSError:
        pytest.skip("this file system has no such names")
    images = [StoredImage("image", path)]
    assert torch.equal(cached(images, folder)([0]), expected(images, [0]))


# --- what is not whole --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda binary, text: binary.write_bytes(binary.read_bytes()[:-1]),
        lambda binary, text: binary.write_bytes(binary.read_bytes() + b"\0"),
        lambda binary, text: binary.write_bytes(b""),
        lambda binary, text: binary.unlink(),
        lambda binary, text: text.unlink(),
        lambda binary, text: text.write_text(text.read_text()[:-9]),
        lambda binary, text: text.write_text(""),
        lambda binary, text: text.write_text("[]"),
        lambda binary, text: text.write_text("{}"),
        lambda binary, text: text.write_bytes(b"\xff\x00"),
        lambda binary, text: text.write_text(json.dumps(json.loads(text.read_text()) | {"dtype": "int8"})),
    ],
)
def test_what_is_damaged_is_computed_anew(images, folder, damage):
    before = cached(images, folder)([0, 4]).clone()
    (binary,), (text,) = folder.glob("*.bin"), folder.glob("*.json")
    damage(binary, text)
    mended = cached(images, folder, extract := Extract())
    assert (mended.computed, extract.count) == (True, 5)
    assert torch.equal(mended([0, 4]), before)
    assert not cached(images, folder, forbidden).computed


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("out of memory"), Stop])
def test_stopped_half_way_nothing_is_there(tmp_path, folder, error):
    images = stored(tmp_path / "images", BATCH + 1)
    extract = Extract()

    def stopping(batch):
        if extract.count:
            raise error
        return extract(batch)

    with pytest.raises(error if isinstance(error, type) else RuntimeError):
        cached(images, folder, stopping)
    assert list(folder.iterdir()) == []
    assert cached(images, folder).computed


def test_killed_half_way_nothing_is_found(tmp_path, folder, monkeypatch):
    """No `finally` runs where a process is killed."""
    images = stored(tmp_path / "images", BATCH + 1)
    extract = Extract()

    def dying(batch):
        if extract.count:
            monkeypatch.setattr(type(tmp_path), "unlink", lambda *_, **__: None)
            raise Stop
        return extract(batch)

    with pytest.raises(Stop):
        cached(images, folder, dying)
    monkeypatch.undo()
    assert [path.suffix for path in folder.iterdir()] == [".partial"]
    found = cached(images, folder)
    assert found.computed
    assert torch.equal(found([BATCH]), expected(images, [BATCH]))


def test_what_a_killed_run_left_is_removed_after_a_while(images, folder, left_by_killed_runs):
    old, fresh, mine = left_by_killed_runs(folder, "features")
    cached(images, folder)
    assert not old.exists()
    assert fresh.exists() and mine.exists()


def test_what_cannot_be_removed_is_left(images, folder, left_by_killed_runs, monkeypatch):
    old, _, _ = left_by_killed_runs(folder, "features")  # another user's
    unlink = Path.unlink

    def refusing(path, *arguments, **options):
        if path == old:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        unlink(path, *arguments, **options)

    monkeypatch.setattr(Path, "unlink", refusing)
    assert cached(images, folder).computed


def test_two_that_compute_the_same_at_once_do_not_meet(tmp_path, folder):
    images = stored(tmp_path / "images", BATCH + 1)
    extract, others = Extract(), []

    def meanwhile(batch):
        if extract.count and not others:
            others.append(cached(images, folder))
        return extract(batch)

    one = cached(images, folder, meanwhile)
    for features in (one, others[0], cached(images, folder, forbidden)):
        numbers = [*range(BATCH + 1)]
        assert torch.equal(features(numbers), expected(images, numbers))
    assert sorted(path.suffix for path in folder.iterdir()) == [".bin", ".json"]


def test_two_that_end_at_once_do_not_meet(images, folder, monkeypatch):
    others = []
    fsync = os.fsync

    def meanwhile(descriptor):
        fsync(descriptor)
        if not others:
            others.append(None)
            others[0] = cached(images, folder)

    monkeypatch.setattr(os, "fsync", meanwhile)
    one = cached(images, folder)
    for features in (one, others[0], cached(images, folder, forbidden)):
        assert torch.equal(features([0, 4]), expected(images, [0, 4]))
    assert sorted(path.suffix for path in folder.iterdir()) == [".bin", ".json"]


# --- what cannot be done ------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(images, small_disk):
    with pytest.raises(InputError, match=r"features cannot be kept in .*No space left.*--cache") as caught:
        cached(images, small_disk, size=200)
    assert "\n" not in str(caught.value)
    assert list(small_disk.iterdir()) == []
    assert cached(images, small_disk).computed


@pytest.mark.parametrize("place", [(os, "fsync"), (Path, "replace")])
def test_a_disk_that_is_full_at_the_end(images, folder, monkeypatch, place):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*place, full)
    with pytest.raises(InputError, match=r"features cannot be kept in .*No space left"):
        cached(images, folder)
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_none(images, tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"features cannot be kept in .*file"):
            cached(images, folder)
    assert (tmp_path / "file").read_text() == "mine"


def test_an_error_of_the_encoder_is_its_own(images, folder):
    def failing(batch):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        cached(images, folder, failing)


def test_broken_images_are_left_out_and_told_of(tmp_path, folder):
    images = stored(tmp_path / "images", 100, broken=[70])
    images.append(StoredImage("row 101", lambda: picture(1)))
    first = cached(images, folder)
    again = cached(images, folder, forbidden)
    for features in (first, again):
        assert features.kept == [n for n in range(101) if n != 70]
        assert len(features.broken) == 1 and "70.png" in features.broken[0]
        assert torch.equal(features([69, 71]), expected(images, [69, 71]))
    picture(70).save(images[70].content)
    assert cached(images, folder).kept == list(range(101))


def test_content_that_cannot_be_fetched_is_a_broken_image(tmp_path, folder):
    def missing():
        raise InputError("photos.parquet, row 7 has no image")

    images = [*stored(tmp_path / "images", 100), StoredImage("row 7", missing)]
    images.append(StoredImage("gone", tmp_path / "images" / "0.png"))
    features = cached(images, folder)
    assert features.broken == ["photos.parquet, row 7 has no image"]
    assert 100 not in features.kept


def test_more_than_one_in_a_hundred_is_too_many(tmp_path, folder):
    images = stored(tmp_path / "images", 150, broken=[0, 90])
    with pytest.raises(InputError, match=r"more than 1% of the 150 training images cannot be read \(.*0\.png"):
        cached(images, folder)
    assert list(folder.iterdir()) == []


def test_there_must_be_some(folder):
    with pytest.raises(InputError, match="there are no training images"):
        cached([], folder)
    assert list(folder.iterdir()) == []


def test_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "sequence-zoo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "sequence-zoo"


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [5, -16, -3]},
        {"shape": [5.0, 16, 3]},
        {"shape": [10, 8, 3]},
        {"shape": [240]},
        {"shape": "x"},
        {"shape": [2**40, "x", 3]},  # a text so often would fill the memory
        {"kept": [0, 7]},
        {"kept": [1, 0]},
        {"kept": [True]},
        {"kept": None},
        {"broken": [3]},
        {"broken": "a"},
        {"fingerprint": 3},
        {"dtype": ["float32"]},
    ],
    ids=str,
)
def test_a_description_that_something_else_wrote_is_not_believed(images, folder, change):
    (description,) = [cached(images, folder).file.with_suffix(".json")]
    described = json.loads(description.read_text())
    description.write_text(json.dumps(described | change))
    again = cached(images, folder)
    assert again.computed
    assert torch.equal(again([1]), expected(images, [1]))
