"""The image encoder: torchvision's networks without their heads, and weights from wherever people have them."""

import copy
import os
import pickle
import warnings
from email.message import Message
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from zoo.errors import InputError
from zoo.one_to_one import ImageClassifier, ImageEncoder, backbones, image_encoder
from zoo.one_to_one.image_encoder import AT_ONCE, IMAGENET_MEAN, IMAGENET_STD, MANY, ROUND_ZERO, FeatureExtractor

TRUNK = Path("/work/shared/data/weights/mobilenet_v2_imagenet_features/mobilenet_v2_features_imagenet.pth")
CHEAP = "shufflenet_v2_x0_5"

# One of each of torchvision's families, with the module whose input is the grid of features, or their mean.
FAMILIES = {
    "convnext_tiny": "avgpool",
    "densenet121": "classifier",
    "efficientnet_b0": "avgpool",
    "mnasnet0_5": "classifier",
    "mobilenet_v2": "classifier",
    "mobilenet_v3_small": "avgpool",
    "regnet_x_400mf": "avgpool",
    "regnet_y_400mf": "avgpool",
    "resnet18": "avgpool",
    "shufflenet_v2_x0_5": "fc",
    "squeezenet1_1": "classifier",
    "swin_v2_t": "avgpool",
}


def torchvisions(name, seed=0):
    """torchvision's network, with statistics of batch norms that are not those of a new one."""
    torch.manual_seed(seed)
    network = models.get_model(name, weights=None).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


def images_of(count, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def network():
    return torchvisions(CHEAP)


@pytest.fixture
def state(network):
    return copy.deepcopy(network.state_dict())


@pytest.fixture
def encoder():
    torch.manual_seed(5)
    return ImageEncoder(CHEAP, 32)


def has_weights(encoder, state):
    own = encoder.trunk.state_dict()
    return all(torch.equal(own[key], state[key]) for key in own)


# --- what it computes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_those_of_torchvisions_network(name, monkeypatch):
    size = 64
    network = torchvisions(name)
    monkeypatch.setattr(image_encoder, "_read", lambda file: network.state_dict())
    encoder = ImageEncoder(name, size).eval()
    encoder.load("weights.pth")
    seen = []
    network.get_submodule(FAMILIES[name]).register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    images = images_of(2, size)
    with torch.inference_mode():
        network(models.get_model_weights(name).DEFAULT.transforms(resize_size=size, crop_size=size)(images))
        features = encoder(images)
    assert features.shape == (2, encoder.grid[0] * encoder.grid[1], encoder.feature_size)
    if seen[0].dim() == 4:
        assert seen[0].shape[1:] == (encoder.feature_size, *encoder.grid)
        found, expected = features, seen[0].flatten(2).transpose(1, 2)
    else:
        found, expected = features.mean(dim=1), seen[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5 + 1e-4 * float(expected.std()))


@pytest.mark.parametrize("name", ["small", *FAMILIES])
def test_folded_its_features_are_the_same(name, monkeypatch):
    monkeypatch.setattr(image_encoder, "MANY", 3)
    torch.manual_seed(0)
    encoder = ImageEncoder(name, 64).train()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    before, images = copy.deepcopy(encoder.state_dict()), images_of(3, 64)
    few, many = FeatureExtractor(encoder), FeatureExtractor(encoder)
    expected = torch.cat([few(one[None]) for one in images])
    assert few.encoder is encoder
    features = many(images)
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4 * float(expected.std()))
    assert torch.equal(many(images[:2]), many.encoder(images[:2]))  # it stays as it was made
    assert encoder.training and has_weights(encoder, {key.removeprefix("trunk."): t for key, t in before.items()})
    norms = [sum(isinstance(part, nn.BatchNorm2d) for part in one.modules()) for one in (encoder, many.encoder)]
    assert norms[1] <= 0.52 * norms[0]  # half of DenseNet's come before their convolution
    assert not any(parameter.requires_grad for parameter in many.encoder.parameters())


@pytest.mark.parametrize("count", [1, AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE])
def test_few_images_go_through_at_a_time_on_a_cpu(monkeypatch, count):
    encoder, images = ImageEncoder("small", 8).eval(), images_of(count, 8)
    sizes, forward = [], encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda few: (sizes.append(len(few)), forward(few))[1])
    features = FeatureExtractor(encoder)(images)
    assert max(sizes) <= AT_ONCE and sum(sizes) == count
    torch.testing.assert_close(features, forward(images))


def test_a_network_that_cannot_be_traced_is_not_folded(monkeypatch):
    class Untraceable(nn.Module):
        def forward(self, images):
            return images if images.sum() > 0 else -images

    monkeypatch.setattr(image_encoder, "_torchvision_trunk", lambda name: nn.Sequential(Untraceable()))
    encoder, images = ImageEncoder("resnet18", 4), images_of(MANY, 4)
    assert torch.equal(FeatureExtractor(encoder)(images), encoder(images))


def test_images_are_normalised_as_the_weights_of_every_backbone_want_them():
    """Nothing is built: the largest has 645 million parameters."""
    for name in backbones()[1:]:
        wanted = models.get_model_weights(name).DEFAULT.transforms()
        expected = ((0.5,) * 3, (0.5,) * 3) if name in ROUND_ZERO else (IMAGENET_MEAN, IMAGENET_STD)
        assert (tuple(wanted.mean), tuple(wanted.std)) == expected, name


def test_images_normalised_otherwise(monkeypatch):
    monkeypatch.setattr(image_encoder, "_torchvision_trunk", lambda name: nn.Sequential(nn.Identity()))
    images = images_of(1, 2)
    assert torch.equal(
        ImageEncoder("efficientnet_v2_l", 2)(images)[0, 0], (images[0, :, 0, 0].float() / 255 - 0.5) / 0.5
    )


def test_the_names_are_those_of_networks_with_a_grid():
    names = backbones()
    assert names[0] == "small"
    assert {*FAMILIES, "resnet50", "mobilenet_v3_large", "vgg16_bn", "efficientnet_v2_s"} <= set(names)
    assert not [name for name in names if name.startswith(("vit", "maxvit", "inception", "googlenet"))]


@pytest.mark.parametrize("size", [1, 7, 28, 33, 64])
def test_the_small_one_takes_images_of_any_size(size):
    encoder = ImageEncoder("small", size).eval()
    features = encoder(images_of(3, size))
    assert features.shape == (3, encoder.grid[0] * encoder.grid[1], encoder.feature_size)


def test_the_grid_is_row_by_row():
    encoder = ImageEncoder("small", 32).eval()
    images = images_of(2, 32)
    seen = []
    encoder.trunk.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    features = encoder(images)
    rows, columns = encoder.grid
    for row, column in ((0, 0), (0, columns - 1), (rows - 1, 0), (1, 2)):
        assert torch.equal(features[:, row * columns + column], seen[0][:, :, row, column])


def test_bytes_and_floats_are_the_same_images():
    encoder = ImageEncoder("small", 16).eval()
    images = images_of(3, 16)
    expected = encoder(images)
    assert torch.equal(encoder(images.float() / 255), expected)
    torch.testing.assert_close(encoder(images.double() / 255), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_computes_in_the_precision_it_is_moved_to(dtype):
    encoder = ImageEncoder("small", 16).eval()
    images = images_of(3, 16)
    expected = encoder(images)
    encoder.to(dtype)
    for given in (images, images.float() / 255):
        assert encoder(given).dtype == dtype
        torch.testing.assert_close(encoder(given).float(), expected, rtol=0.1, atol=0.05)


def test_an_image_is_the_same_alone_and_in_a_batch():
    encoder = ImageEncoder("small", 24).eval()
    images = images_of(5, 24)
    together = encoder(images)
    for n in range(5):
        torch.testing.assert_close(encoder(images[n : n + 1])[0], together[n])
    torch.testing.assert_close(encoder(images.flip(0)).flip(0), together)


@pytest.mark.parametrize("name", ["small", CHEAP])
def test_the_gradient_reaches_every_parameter(name):
    torch.manual_seed(0)
    encoder = ImageEncoder(name, 32).train()
    encoder(images_of(4, 32)).square().mean().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("name", ["small", "resnet18", CHEAP])
def test_filters_are_all_but_the_first_and_those_of_one_channel(name):
    encoder = ImageEncoder(name, 32)
    convolutions = [m.weight for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    whole = [weight for weight in convolutions if weight.shape[1] > 1]  # those over one channel are of groups here
    filters = encoder.filters()
    assert whole[0].shape[1] == 3
    assert [id(weight) for weight in filters] == [id(weight) for weight in whole[1:]]
    assert {id(weight) for weight in filters} <= {id(parameter) for parameter in encoder.parameters()}


# --- weights ------------------------------------------------------------------------------------------------------


def prefixed(state):
    return {f"module.{key}": value for key, value in state.items()}


def trunk_only(state):
    return {key: value for key, value in state.items() if not key.startswith("fc")}


@pytest.mark.parametrize(
    "kind",
    [
        lambda state: state,
        trunk_only,
        prefixed,
        lambda state: {"state_dict": prefixed(state), "epoch": 3, "best": 0.5},
        lambda state: {"model": state, "epoch": 3},
        lambda state: {
            key: nn.Parameter(value) if value.is_floating_point() else value for key, value in state.items()
        },
        lambda state: {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")},
    ],
    ids=["whole", "trunk", "parallel", "checkpoint", "torchvision's checkpoint", "parameters", "old"],
)
def test_state_dicts_as_people_have_them(encoder, state, tmp_path, kind):
    torch.save(kind(state), tmp_path / "weights.pth")
    for file in (tmp_path / "weights.pth", str(tmp_path / "weights.pth")):
        fresh = copy.deepcopy(encoder)
        assert not has_weights(fresh, state)
        fresh.load(file)
        assert has_weights(fresh, state)


@pytest.mark.parametrize("kind", [lambda state: state, prefixed, trunk_only])
def test_safetensors(encoder, state, tmp_path, kind):
    save_file(kind(state), tmp_path / "weights.safetensors")
    encoder.load(tmp_path / "weights.safetensors")
    assert has_weights(encoder, state)


def test_those_of_a_model_of_ours(encoder, state, tmp_path):
    model = ImageClassifier(labels=["a", "b"], backbone=encoder.backbone, image_size=encoder.image_size)
    model.save_pretrained(tmp_path)
    encoder.load(tmp_path / "model.safetensors")
    assert has_weights(encoder, model.encoder.trunk.state_dict())


def test_half_precision_is_read_as_well(encoder, state, tmp_path):
    torch.save({key: value.half() for key, value in state.items()}, tmp_path / "weights.pth")
    encoder.load(tmp_path / "weights.pth")
    assert encoder.trunk[0][0].weight.dtype == torch.float32
    torch.testing.assert_close(encoder.trunk[0][0].weight, state["conv1.0.weight"], rtol=1e-3, atol=1e-4)


def test_the_old_names_in_torchvisions_files_of_densenet(tmp_path):
    encoder = ImageEncoder("densenet121", 32)
    state = {f"features.{key.removeprefix('features.')}": value for key, value in encoder.trunk.state_dict().items()}
    old = {}
    for key, value in state.items():
        for part in ("norm", "conv"):
            if "denselayer" in key:
                key = key.replace(f".{part}1.", f".{part}.1.").replace(f".{part}2.", f".{part}.2.")
        old[key] = torch.randn_like(value) if value.is_floating_point() else value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "weights.pth")
    encoder.load(tmp_path / "weights.pth")
    weight = encoder.trunk.get_parameter("features.denseblock1.denselayer1.norm1.weight")
    assert torch.equal(weight, old["features.denseblock1.denselayer1.norm.1.weight"])


@pytest.mark.skipif(not TRUNK.exists(), reason="these weights are not here")
def test_a_real_trunk():
    encoder = ImageEncoder("mobilenet_v2", 224)
    encoder.load(TRUNK)
    assert (encoder.grid, encoder.feature_size) == ((7, 7), 1280)
    network = models.mobilenet_v2(weights=None).eval()
    network.load_state_dict(torch.load(TRUNK, weights_only=True), strict=False)
    images = images_of(1, 224)
    with torch.inference_mode():
        expected = network.features(models.MobileNet_V2_Weights.DEFAULT.transforms(resize_size=224)(images))
        torch.testing.assert_close(encoder(images), expected.flatten(2).transpose(1, 2), rtol=1e-3, atol=1e-4)


class Code:
    """What runs a command where it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch '{self.file}'",)


def bad_files(folder, network):
    """{name: what is to be in the message}, of files that are no weights of the network."""
    state = network.state_dict()
    files = {
        "whole network.pth": network,
        "list.pth": [torch.ones(2)],
        "tensor.pth": torch.ones(2),
        "number.pth": {"conv1.0.weight": 3},
        "nothing.pth": {},
        "other network.pth": models.mobilenet_v3_small(weights=None).state_dict(),
        "wider.pth": models.shufflenet_v2_x1_0(weights=None).state_dict(),
        "without one.pth": {key: value for key, value in state.items() if key != "conv5.0.weight"},
        "with more.pth": state | {"conv6.0.weight": torch.ones(2)},
        "code.pth": {"conv1.0.weight": Code(folder / "ran")},
    }
    for name, content in files.items():
        torch.save(content, folder / name)
    save_file({"a": torch.ones(100)}, folder / "cut.safetensors")
    for name in ("without one.pth", "cut.safetensors"):
        content = (folder / name).read_bytes()
        (folder / f"cut {name}").write_bytes(content[: len(content) // 2])
    (folder / "plain code.pth").write_bytes(pickle.dumps(Code(folder / "ran"), 2))
    (folder / "newer code.pth").write_bytes(pickle.dumps(Code(folder / "ran"), 5))
    (folder / "text.pth").write_text("hello")
    (folder / "text.safetensors").write_text("hello, these are no weights")
    (folder / "empty.pth").write_bytes(b"")
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "folder.pth").mkdir()
    damaged = "is damaged, or holds other things than tensors"
    return {
        "whole network.pth": damaged,
        "list.pth": "holds no state dict of tensors",
        "tensor.pth": "holds no state dict of tensors",
        "number.pth": "holds no state dict of tensors",
        "nothing.pth": "has no conv1.0.weight",
        "other network.pth": "has no conv1.0.weight: expected a state dict of torchvision's shufflenet_v2_x0_5",
        "wider.pth": "stage2.0.branch1.2.weight is (58, 24, 1, 1), but in shufflenet_v2_x0_5 it is (24, 24, 1, 1)",
        "without one.pth": "has no conv5.0.weight",
        "with more.pth": "has conv6.0.weight, which shufflenet_v2_x0_5 lacks",
        "code.pth": damaged,
        "plain code.pth": damaged,
        "newer code.pth": damaged,
        "cut without one.pth": damaged,
        "cut cut.safetensors": "is not a whole file of weights",
        "cut.safetensors": "has no conv1.0.weight",
        "text.pth": damaged,
        "text.safetensors": "is not a whole file of weights",
        "empty.pth": damaged,
        "empty.safetensors": "is not a whole file of weights",
        "folder.pth": "no such file of weights",
        "missing.pth": "no such file of weights; expected none, imagenet, or a state dict's path",
    }


def test_files_that_are_no_weights_of_it(encoder, network, tmp_path, capfd):
    before = copy.deepcopy(encoder.state_dict())
    for name, match in bad_files(tmp_path, network).items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(InputError) as caught:
                encoder.load(tmp_path / name)
        message = str(caught.value)
        assert message.startswith(str(tmp_path / name)) and match in message and "\n" not in message, message
        assert "\x1b" not in message
        after = encoder.state_dict()
        assert all(torch.equal(after[key], before[key]) for key in before), name
        assert not encoder.fixed
    assert not (tmp_path / "ran").exists()
    assert capfd.readouterr() == ("", "")


# --- imagenet -----------------------------------------------------------------------------------------------------


@pytest.fixture
def home(monkeypatch, tmp_path):
    """torch's own folder, without a network."""

    def refused(*_, **__):
        raise URLError("network is unreachable")

    monkeypatch.setattr(torch.hub, "urlopen", refused)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path


def imagenet_file(home):
    name = models.get_model_weights(CHEAP).DEFAULT.url.rsplit("/", 1)[1]
    return home / "hub" / "checkpoints" / name


def test_without_a_network_the_message_says_where_a_file_can_be_put(encoder, state, home, capfd):
    with pytest.raises(InputError, match=r"could not be had from https://.*network is unreachable") as caught:
        encoder.load("imagenet")
    file = imagenet_file(home)
    assert f"put that file at {file}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    torch.save(state, file)
    encoder.load("imagenet")
    assert has_weights(encoder, state)


def test_a_download_that_is_cut_is_not_kept(encoder, home, monkeypatch):
    class Answer:
        def info(self):
            return Message()

        def read(self, size):
            content, self.read = b"half of the weights", lambda size: b""
            return content

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(torch.hub, "urlopen", lambda *_, **__: Answer())
    with pytest.raises(InputError, match=r"could not be had from https://.*invalid hash value"):
        encoder.load("imagenet")
    assert not imagenet_file(home).exists()


@pytest.mark.parametrize("content", ["code", "cut", "other"])
def test_what_was_put_there_is_read_with_the_same_care(encoder, home, network, content):
    bad_files(home, network)
    name = {"code": "code.pth", "cut": "cut without one.pth", "other": "other network.pth"}[content]
    imagenet_file(home).parent.mkdir(parents=True)
    (home / name).rename(imagenet_file(home))
    with pytest.raises(
        InputError, match="damaged" if content != "other" else "the ImageNet weights of .* has no conv1"
    ):
        encoder.load("imagenet")
    assert not (home / "ran").exists()


def test_the_small_one_has_no_imagenet_weights(home):
    with pytest.raises(InputError, match="the backbone small has none: name one of torchvision's"):
        ImageEncoder("small", 16).load("imagenet")


# --- fixed statistics ---------------------------------------------------------------------------------------------


def buffers(encoder):
    return {name: buffer.clone() for name, buffer in encoder.named_buffers()}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("is_told", [False, True], ids=["straight on", "train()"])
def test_loaded_statistics_stay_in_training(encoder, state, tmp_path, is_told):
    torch.save(state, tmp_path / "weights.pth")
    encoder.load(tmp_path / "weights.pth")
    if is_told:
        encoder.train()
    assert encoder.training and not any(module.training for module in encoder.trunk.modules())
    before, images = buffers(encoder), images_of(4, 32)
    in_training = encoder(images)
    in_training.mean().backward()
    assert changed(before, buffers(encoder)) == set()
    assert torch.equal(in_training, encoder.eval()(images))
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_others_are_learnt(encoder):
    before, images = buffers(encoder), images_of(4, 32)
    in_training = encoder.train()(images)
    assert {name for name in before if "running" in name} <= changed(before, buffers(encoder))
    assert not torch.allclose(in_training, encoder.eval()(images))


def test_what_is_frozen_gets_no_gradient(encoder, state, tmp_path):
    torch.save(state, tmp_path / "weights.pth")
    encoder.load(tmp_path / "weights.pth")
    encoder.requires_grad_(False)
    assert not encoder.train()(images_of(2, 32)).requires_grad


# --- what it says of bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("resnet19", "did you mean resnet18,"),
        ("Resnet50", "did you mean resnet50,"),
        ("mobilenetv2", "did you mean mobilenet_v2,"),
        ("mobilenet_v3", "mobilenet_v3_small"),
        ("smal", "did you mean small"),
        ("qqq", "small, resnet18 and mobilenet_v3_small are some"),
        ("", "small, resnet18 and mobilenet_v3_small are some"),
        ("vit_b_16", "which is none that can be had here"),
        ("quantized_resnet18", "did you mean"),
        ("raft_small", "which is none that can be had here"),
    ],
)
def test_a_backbone_that_there_is_not(name, match):
    with pytest.raises(InputError) as caught:
        ImageEncoder(name, 32)
    assert f"backbone is {name!r}" in str(caught.value)
    assert match in str(caught.value)


@pytest.mark.parametrize(("name", "size"), [("squeezenet1_1", 8), ("small", 0), ("small", -3)])
def test_images_that_are_too_small(name, size):
    with pytest.raises(InputError, match=rf"{size} pixels do not go through {name}|image_size is {size}") as caught:
        ImageEncoder(name, size)
    assert "\n" not in str(caught.value)
