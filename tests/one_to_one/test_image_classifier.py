"""The image classifier: the same for an image alone and in any batch, as a path, a picture, an array or a tensor."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from zoo.data.image_tensors import BATCH
from zoo.errors import InputError
from zoo.one_to_one import ImageBatch, ImageClassification, ImageClassifier

LABELS = ["cat", "dog", "emu"]


def make(seed=0, **options):
    """A random model whose statistics are those of images, and that finds each of its labels among them."""
    torch.manual_seed(seed)
    model = ImageClassifier(**({"labels": LABELS, "image_size": 16} | options))
    with torch.no_grad():
        for _ in range(30):
            model.train()(images_of(16, model.encoder.image_size))
        model.output.weight *= 30
        scores = model.eval()(images_of(60, model.encoder.image_size))
        model.output.bias -= scores.mean(dim=0)
    return model


def images_of(count, size=16, seed=0):
    """Noise on grounds of many colours."""
    generator = torch.Generator().manual_seed(seed)
    ground = torch.randint(200, (count, 3, 1, 1), generator=generator)
    return (ground + torch.randint(56, (count, 3, size, size), generator=generator)).to(torch.uint8)


def pictures(count, seed=0):
    """Pictures of several sizes."""
    images = images_of(count, 48, seed)
    return [
        Image.fromarray(np.ascontiguousarray(image[:, : 20 + 3 * n % 28].permute(1, 2, 0)))
        for n, image in enumerate(images)
    ]


def numbers(found):
    """(N, C) each label's probability, in the order of LABELS."""
    return torch.tensor([[dict(one.ranking)[label] for label in LABELS] for one in found])


def close(found, expected):
    assert [one.label for one in found] == [one.label for one in expected]
    torch.testing.assert_close(numbers(found), numbers(expected))


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 3, 32, 32), (2, 1, 16, 16), (2, 9, 128), (2, 4, 64), (16, 16)])
def test_images_and_features_of_another_size_are_refused(shape):
    model = make()
    for call in (model, model.probabilities, model.classify_batch):
        with pytest.raises(ValueError, match=r"but must have \(B, 3, 16, 16\) or, as features, \(B, 4, 128\)") as said:
            call(torch.zeros(shape))
        assert str(shape) in str(said.value)


# --- classify -----------------------------------------------------------------------------------------------------


def test_classify_gives_each_image_what_it_gets_alone():
    model = make()
    images = pictures(BATCH + 5)
    together = model.classify(images, top_k=3)
    assert {one.label for one in together} == set(LABELS)
    for n in (0, 7, BATCH - 1, BATCH, BATCH + 4):
        close([model.classify(images[n], top_k=3)], [together[n]])
    close(model.classify(images[::-1], top_k=3)[::-1], together)
    close(model.classify(tuple(images[5:9]), top_k=3), together[5:9])


def test_an_image_of_every_kind(tmp_path):
    model = make()
    picture = pictures(1)[0]
    picture.save(tmp_path / "image.png")
    array = np.array(picture)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    kinds = [
        picture,
        tmp_path / "image.png",
        str(tmp_path / "image.png"),
        (tmp_path / "image.png").read_bytes(),
        array,
        (array / 255).astype(np.float32),
        tensor,
        tensor.float() / 255,
        picture.convert("RGBA"),
    ]
    expected = model.classify(picture, top_k=3)
    close(model.classify(kinds, top_k=3), [expected] * len(kinds))
    for kind in kinds:
        found = model.classify(kind, top_k=3)
        assert isinstance(found, ImageClassification)
        close([found], [expected])


def test_one_gives_one_and_a_list_a_list():
    model = make()
    image = pictures(1)[0]
    assert isinstance(model.classify(image), ImageClassification)
    assert [type(one) for one in model.classify([image])] == [ImageClassification]
    assert model.classify([]) == []
    assert model.classify(()) == []


def test_many_images_in_one_call_as_one_by_one():
    model, images = make(), pictures(70)
    together, alone = model.classify(images, top_k=3), [model.classify(image, top_k=3) for image in images]
    torch.testing.assert_close(numbers(together), numbers(alone), rtol=0, atol=1e-4)


def test_top_k_is_the_length_of_the_ranking():
    model = make()
    image = pictures(1)[0]
    whole = model.classify(image, top_k=3)
    assert [label for label, _ in whole.ranking] == sorted(LABELS, key=lambda label: -dict(whole.ranking)[label])
    assert whole.ranking[0] == (whole.label, whole.probability)
    assert sum(p for _, p in whole.ranking) == pytest.approx(1)
    for k in (1, 2, 3, 50):
        found = model.classify(image, top_k=k)
        assert (found.label, found.probability) == (whole.label, whole.probability)
        assert found.ranking == whole.ranking[:k]
    assert len(model.classify(image).ranking) == 1
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"top_k is {k}, but must be at least 1"):
            model.classify(image, top_k=k)


def test_labels_that_are_as_probable_come_in_their_order():
    model = make()
    nn.init.zeros_(model.output.weight)
    nn.init.zeros_(model.output.bias)
    assert [label for label, _ in model.classify(pictures(1)[0], top_k=3).ranking] == LABELS


def test_it_is_left_as_it_was():
    model = make().train()
    model.encoder.trunk[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    model.classify(pictures(3))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(parameter.is_inference() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("image", "match"),
    [
        ("none.png", "none.png: no such file"),
        (b"", "is empty"),
        (b"text", "is no image"),
        (None, "of type NoneType"),
        (3, "of type int"),
        (np.zeros((4, 4, 2), np.uint8), r"has the shape \(4, 4, 2\)"),
        (torch.zeros(2, 3, 8, 8), r"has the shape \(2, 3, 8, 8\)"),
        (torch.full((3, 4, 4), 2.0), "has values from 2 to 2"),
    ],
)
def test_what_is_no_image(image, match):
    model = make()
    for given in (image, [pictures(1)[0], image]):
        with pytest.raises(InputError, match=match):
            model.classify(given)


def test_squash_sees_the_whole_image_and_crop_its_middle():
    sides = Image.new("RGB", (48, 16), "red")
    sides.paste("blue", (16, 0, 32, 16))
    blue = Image.new("RGB", (16, 16), "blue")
    squash, crop = make(resize="squash"), make(resize="crop")
    assert torch.equal(squash.output.weight, crop.output.weight)
    assert crop.classify(sides, top_k=3) == crop.classify(blue, top_k=3) == squash.classify(blue, top_k=3)
    assert squash.classify(sides, top_k=3) != squash.classify(blue, top_k=3)
    assert squash.classify(sides, top_k=3) == crop.classify(sides.resize((16, 16), Image.Resampling.BILINEAR), top_k=3)


# --- scores and loss ----------------------------------------------------------------------------------------------


def test_features_are_scored_as_their_images_are():
    model = make()
    images = images_of(7)
    features = model.encoder(images).detach()
    torch.testing.assert_close(model(features), model(images))
    torch.testing.assert_close(model.probabilities(features), model.probabilities(images))
    rough = model(features.bfloat16())
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, model(images), rtol=0.05, atol=0.3)


def test_probabilities_are_those_of_the_scores():
    model = make().train()
    images = images_of(5)
    found = model.probabilities(images)
    assert (found.shape, found.dtype, found.requires_grad) == ((5, 3), torch.float32, False)
    torch.testing.assert_close(found, model.eval()(images).softmax(dim=1).detach())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_cross_entropy(smoothing):
    model = make(label_smoothing=smoothing)
    batch = ImageBatch(images_of(4), torch.tensor([0, 2, 1, 0]))
    expected = -model(batch.images).log_softmax(dim=1)
    expected = (1 - smoothing) * expected[range(4), batch.targets] + smoothing * expected.mean(dim=1)
    torch.testing.assert_close(model.loss(batch), expected.mean())


def test_the_gradient_reaches_every_parameter():
    model = make(dropout=0.1).train()
    with torch.no_grad():
        model.output.weight /= 30
    model.loss(ImageBatch(images_of(6), torch.tensor([0, 1, 2, 0, 1, 2]))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_dropout_acts_in_training_alone():
    model = make(dropout=0.5)
    features = model.encoder(images_of(4)).detach()
    assert torch.equal(model(features), model(features))
    model.train()
    assert not torch.equal(model(features), model(features))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_computes_in_the_precision_it_is_moved_to(dtype):
    model = make()
    expected = model.classify(pictures(4), top_k=3)
    found = model.to(dtype).classify(pictures(4), top_k=3)
    torch.testing.assert_close(numbers(found), numbers(expected), rtol=0.1, atol=0.1)


def test_it_learns_what_only_a_look_round_tells():
    """Upright or level stripes: of any colours, and of the same mean."""
    torch.manual_seed(0)
    model = ImageClassifier(labels=["upright", "level"], image_size=16)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)

    def batch():
        targets = torch.randint(2, (32,))
        stripes = (torch.arange(16) // 2 % 2).float().expand(32, 3, 16, 16)
        stripes = torch.where(targets[:, None, None, None] == 0, stripes, stripes.transpose(2, 3))
        colours = torch.rand(2, 32, 3, 1, 1)
        return ImageBatch(colours[0] + (colours[1] - colours[0]) * stripes, targets)

    for _ in range(25):
        optimizer.zero_grad()
        model.loss(batch()).backward()
        optimizer.step()
    unseen = batch()
    assert (model.probabilities(unseen.images).argmax(dim=1) == unseen.targets).float().mean() > 0.9


# --- saved and loaded, and what it is made of -----------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["small", "shufflenet_v2_x0_5"])
def test_saved_and_loaded_it_gives_the_same_numbers(tmp_path, backbone):
    model = make(backbone=backbone, image_size=32, resize="crop", dropout=0.1, label_smoothing=0.1)
    images = pictures(6)
    expected = model.classify(images, top_k=3)
    model.save_pretrained(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    again = ImageClassifier.from_pretrained(tmp_path / "model")
    assert again.config == model.config
    assert not again.training
    assert again.classify(images, top_k=3) == expected


@pytest.mark.parametrize("fixed", [True, False])
def test_a_loaded_model_keeps_the_statistics_of_its_batch_norms_if_it_was_told_to(tmp_path, fixed):
    model = make()
    model.encoder.fixed = fixed
    model.save_pretrained(tmp_path)
    again = ImageClassifier.from_pretrained(tmp_path).train()
    before = {name: tensor.clone() for name, tensor in again.state_dict().items()}
    again(images_of(4))
    assert all(torch.equal(tensor, before[name]) for name, tensor in again.state_dict().items()) == fixed


def test_a_run_from_before_that_was_stored_loads(tmp_path):
    model = make()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["fixed"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert not ImageClassifier.from_pretrained(tmp_path).encoder.fixed


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"backbone": "resnet19"}, "did you mean resnet18"),
        ({"image_size": 0}, "image_size is 0"),
        ({"image_size": 1025}, "image_size is 1025, but must be from 1 to 1,024"),
        ({"labels": ["a"]}, "two or more"),
        ({"labels": ["a", "b"]}, "the configuration makes it"),
        ({"backbone": "shufflenet_v2_x0_5"}, "which this ImageClassifier lacks"),
        ({"colour": True}, "does not describe a ImageClassifier"),
        ({"architecture": "TextClassifier"}, "of a TextClassifier, but a ImageClassifier was expected"),
    ],
)
def test_a_folder_of_another_model(tmp_path, change, match):
    make().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=match):
        ImageClassifier.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"labels": []}, "two or more"),
        ({"labels": ["a"]}, "two or more"),
        ({"labels": ["a", "b", "a"]}, "different"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"backbone": "renset18"}, "did you mean resnet18"),
        ({"image_size": -1}, "image_size is -1"),
        ({"resize": "stretch"}, "resize is 'stretch'"),
    ],
)
def test_options_out_of_range(options, match):
    with pytest.raises(ValueError, match=match):
        ImageClassifier(**({"labels": LABELS, "image_size": 16} | options))
