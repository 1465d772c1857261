"""Images as tensors: in memory or read again, the same; broken ones counted, and few enough."""

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.data import image_tensors
from zoo.data.image_tensors import BATCH, ImageTensors, image_batches, load_image
from zoo.data.images import image_tensor
from zoo.data.stored_images import StoredImage
from zoo.errors import InputError


def picture(number, size=(9, 7)):
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def stored(tmp_path, count=6, broken=()):
    images = []
    for number in range(count):
        path = tmp_path / f"{number}.png"
        picture(number).save(path)
        if number in broken:
            path.write_bytes(path.read_bytes()[:60])
        images.append(StoredImage(str(path), path))
    return images


def expected(number, size=8, resize="squash"):
    return image_tensor(picture(number), size, resize)


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["kept", "read again"])
def test_they_are_the_images_whether_kept_or_read_again(tmp_path, memory, resize):
    found = ImageTensors(stored(tmp_path), 8, resize, "images", memory)
    assert (found.kept, found.broken) == (list(range(6)), [])
    batch = found([4, 0, 4])
    assert batch.dtype == torch.uint8
    assert torch.equal(batch, torch.stack([expected(n, 8, resize) for n in (4, 0, 4)]))
    for path in tmp_path.iterdir():
        path.unlink()
    if memory:
        assert torch.equal(found([4, 0, 4]), batch)
    else:
        with pytest.raises(InputError, match=r"4\.png: no such file"):
            found([4])


def test_memory_is_told_in_bytes(tmp_path, monkeypatch):
    images = stored(tmp_path)
    for memory, is_kept in ((6 * 3 * 8 * 8, True), (6 * 3 * 8 * 8 - 1, False)):
        tensors = ImageTensors(images, 8, "squash", "images", memory)
        monkeypatch.setattr(image_tensors, "load_image", None)
        if is_kept:
            tensors([0])
        else:
            with pytest.raises(TypeError):
                tensors([0])
        monkeypatch.undo()


@pytest.mark.parametrize("memory", [1 << 30, 0])
def test_broken_images_are_left_out_and_told_of(tmp_path, memory):
    found = ImageTensors(stored(tmp_path, 100, broken=[3]), 4, "squash", "training images", memory)
    assert found.kept == [n for n in range(100) if n != 3]
    assert len(found.broken) == 1
    assert str(tmp_path / "3.png") in found.broken[0] and "\n" not in found.broken[0]
    assert torch.equal(found([2, 4])[1], expected(4, 4))


def test_more_than_one_in_a_hundred_is_too_many(tmp_path):
    images = stored(tmp_path, 199, broken=[3, 150])
    with pytest.raises(InputError, match=r"more than 1% of the 199 training images cannot be read \(.*3\.png"):
        ImageTensors(images, 4, "squash", "training images")
    ImageTensors([*images, images[0]], 4, "squash", "training images")
    with pytest.raises(InputError, match=r"more than 1%.*0\.png: no such file"):
        ImageTensors([StoredImage("0.png", tmp_path / "none" / "0.png")], 4, "squash", "images")


def test_there_must_be_some():
    with pytest.raises(InputError, match="there are no test images"):
        ImageTensors([], 4, "squash", "test images")


@pytest.mark.parametrize("memory", [1 << 30, 0])
def test_the_fingerprint_tells_images_and_sizes_from_others(tmp_path, memory):
    images = stored(tmp_path)
    reference = ImageTensors(images, 8, "squash", "images").fingerprint
    assert ImageTensors(images, 8, "squash", "others", memory).fingerprint == reference
    others = {
        ImageTensors(images, 9, "squash", "images", memory).fingerprint,
        ImageTensors(images, 8, "crop", "images", memory).fingerprint,
        ImageTensors(images[::-1], 8, "squash", "images", memory).fingerprint,
        ImageTensors(images[:5], 8, "squash", "images", memory).fingerprint,
    }
    picture(77).save(tmp_path / "5.png")
    others.add(ImageTensors(images, 8, "squash", "images", memory).fingerprint)
    assert len(others | {reference}) == 6


def test_content_of_every_kind(tmp_path):
    (path := tmp_path / "0.png").write_bytes(b"")
    picture(0).save(path)
    for content in (path, path.read_bytes(), picture(0), lambda: path, lambda: path.read_bytes(), lambda: picture(0)):
        assert torch.equal(load_image(StoredImage("here", content), 8, "squash"), expected(0))
    with pytest.raises(InputError, match=r"^photos\.parquet, row 3 is empty"):
        load_image(StoredImage("photos.parquet, row 3", b""), 8, "squash")


def test_batches_hold_all_in_order():
    count = 2 * BATCH + 3
    images = (picture(n, (3, 3)) for n in range(count))
    batches = list(image_batches(images, 2, "squash"))
    assert [len(batch) for batch in batches] == [BATCH, BATCH, 3]
    for n in (0, BATCH - 1, BATCH, count - 1):
        assert torch.equal(torch.cat(batches)[n], image_tensor(picture(n, (3, 3)), 2))
    assert list(image_batches([], 2, "squash")) == []


def test_batches_come_before_what_is_no_image():
    batches = image_batches([*[picture(0)] * BATCH, "none.png"], 2, "squash")
    assert len(next(batches)) == BATCH
    with pytest.raises(InputError, match=r"none\.png: no such file"):
        next(batches)
