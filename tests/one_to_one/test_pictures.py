"""What a model is trained on: images where the encoder learns, else its features, which are told by its weights."""

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.data.feature_cache import CachedFeatures
from zoo.data.image_tensors import BATCH, ImageTensors
from zoo.data.stored_images import StoredImage
from zoo.one_to_one import ImageEncoder
from zoo.one_to_one.pictures import load_pictures

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (BATCH + 6, 20, 24, 3), dtype=np.uint8)
    return [StoredImage(f"row {n}", Image.fromarray(image)) for n, image in enumerate(pixels)]


@pytest.fixture
def encoder():
    """One that does not learn, with statistics of its own."""
    torch.manual_seed(0)
    encoder = ImageEncoder("small", 16)
    for _ in range(3):
        encoder(torch.rand(8, 3, 16, 16))
    encoder.fixed = True
    return encoder.train().requires_grad_(False)


def load(images, encoder, cache, resize="squash", precision="float32"):
    return load_pictures(images, "training images", encoder, resize, precision, cache)


def test_images_where_the_encoder_learns_or_there_is_no_cache(images, encoder, tmp_path):
    without = load(images, encoder, None)
    next(encoder.parameters()).requires_grad_(True)
    learning = load(images, encoder, tmp_path / "cache")
    for pictures in (without, learning):
        assert isinstance(pictures, ImageTensors)
        assert (pictures([3, 0]).shape, pictures([3, 0]).dtype) == ((2, 3, 16, 16), torch.uint8)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_features_are_those_of_the_encoder_bit_for_bit(images, encoder, tmp_path, precision, resize):
    pictures = load(images, encoder, tmp_path, resize, precision)
    assert isinstance(pictures, CachedFeatures)
    tensors = load(images, encoder, None, resize)
    encoder.eval()
    for numbers in (range(BATCH), range(BATCH, BATCH + 6)):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            expected = encoder(tensors(numbers))
        assert expected.dtype == {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
        assert torch.equal(pictures(numbers), expected)
    with torch.no_grad():
        alone = encoder(tensors([9]))
    torch.testing.assert_close(pictures([9]).float(), alone, rtol=0.1, atol=1e-5 if precision == "float32" else 0.1)


def test_they_are_computed_as_if_not_training_and_draw_nothing(images, encoder, tmp_path):
    encoder.fixed = False
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    torch.manual_seed(7)
    first = load(images, encoder.train(), tmp_path)
    drawn = torch.rand(1)
    torch.manual_seed(7)
    again = load(images, encoder.train(), tmp_path)
    assert torch.equal(drawn, torch.rand(1))
    assert (first.computed, again.computed) == (True, False)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_they_are_found_again_without_the_encoder(images, encoder, tmp_path, monkeypatch):
    first = load(images, encoder, tmp_path)
    monkeypatch.setattr(ImageEncoder, "forward", None)
    again = load(images, encoder, tmp_path)
    assert not again.computed
    assert torch.equal(again(range(70)), first(range(70)))


def nudge(tensor):
    tensor.view(-1)[-1] = torch.nextafter(tensor.view(-1)[-1], torch.tensor(9.0))


@pytest.mark.parametrize(
    "change",
    [
        lambda encoder: nudge(encoder.trunk[0].weight.data.permute(0, 2, 3, 1)),
        lambda encoder: nudge(encoder.trunk[-2].bias.data),
        lambda encoder: nudge(encoder.trunk[1].running_mean),
        lambda encoder: nudge(encoder.trunk[-2].running_var),
    ],
    ids=["filter", "bias", "mean", "variance"],
)
def test_other_weights_have_other_features(images, encoder, tmp_path, change):
    before = load(images, encoder, tmp_path)
    change(encoder)
    after = load(images, encoder, tmp_path)
    assert after.computed
    assert after.file != before.file


def test_another_precision_size_or_resize_has_other_features(images, encoder, tmp_path):
    found = [
        load(images, encoder, tmp_path),
        load(images, encoder, tmp_path, precision="bfloat16"),
        load(images, encoder, tmp_path, resize="crop"),
    ]
    encoder.image_size = 24
    found.append(load(images, encoder, tmp_path))
    assert all(pictures.computed for pictures in found)
    assert len({pictures.file for pictures in found}) == 4


def test_the_layout_of_the_filters_does_not_matter(images, encoder, tmp_path):
    load(images, encoder, tmp_path)
    encoder.to(memory_format=torch.contiguous_format)
    assert not load(images, encoder, tmp_path).computed
