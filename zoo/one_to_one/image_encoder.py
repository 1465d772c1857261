"""The CNN encoder that the image classifier and the image captioner share: images → a grid of features."""

import contextlib
import copy
import difflib
import re
import sys
import warnings
from collections import OrderedDict
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.errors import InputError
from zoo.pretrained import evaluating

SMALL = "small"
"""Our own network, for small pictures and for training from nothing."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Those of torchvision's networks that were trained on images normalised otherwise: from -1 to 1.
ROUND_ZERO = ("efficientnet_v2_l",)

MAX_IMAGE_SIZE = 1024
"""A network of few weights takes images of any size, and gigabytes for each of more pixels than this."""

MANY = 64
"""To fold batch norms pays for so many images."""

AT_ONCE = 16
"""Images that go through the network together on a CPU: what its layers make of more fits no cache."""

OURS = "encoder.trunk."  # what the names of these weights begin with in a classifier or a captioner

# What torchvision's networks call the parts that turn the grid of features into labels.
HEAD = ("avgpool", "classifier", "fc", "head", "flatten")

# Those whose parts do not follow one another, or that make no grid.
OTHERWISE = ("googlenet", "inception_v3", "maxvit_t", "vit_")

# In the files that torchvision offers for DenseNet, norm1 is norm.1: a module's name could have a dot in it once.
DOTTED = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")


class ImageEncoder(nn.Module):
    """Images → a grid of features, by a convolutional network without what makes labels of them.

    Args:
        backbone: `small`, or one of torchvision's classification networks by name (`resnet18`, `mobilenet_v2`, ...).
        image_size: height and width of the images.
        fixed: the network stays in evaluation mode, so that the statistics of its batch norms stay as they came. Those
            of a few images of another kind than it was trained on would be worse. `load` sets it.

    Attributes:
        feature_size: M, the width of the features.
        grid: (rows, columns) of the grid; S is their product.

    Raises:
        InputError: no such network, or images too small for it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str = SMALL, image_size: int = 64, fixed: bool = False) -> None:
        super().__init__()
        if not 1 <= image_size <= MAX_IMAGE_SIZE:
            raise InputError(f"image_size is {image_size}, but must be from 1 to {MAX_IMAGE_SIZE:,}")
        self.backbone = backbone
        self.image_size = image_size
        self.fixed = fixed
        self.trunk: nn.Module = _small() if backbone == SMALL else _torchvision_trunk(backbone)
        mean, std = ((0.5,) * 3, (0.5,) * 3) if backbone in ROUND_ZERO else (IMAGENET_MEAN, IMAGENET_STD)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        with torch.no_grad():
            try:
                features = self.trunk.eval()(torch.zeros(1, 3, image_size, image_size))
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:150]
                raise InputError(
                    f"images of {image_size} × {image_size} pixels do not go through {backbone} ({reason}): choose "
                    "another image_size"
                ) from error
        self.trunk.train(not fixed)
        self.feature_size = int(features.shape[1])
        self.grid = (int(features.shape[2]), int(features.shape[3]))
        self.to(memory_format=torch.channels_last)  # the layout that convolutions are fast in, on CPUs and GPUs

    def train(self, mode: bool = True) -> "ImageEncoder":
        """As `nn.Module.train`, but for what is `fixed`."""
        super().train(mode)
        if self.fixed:
            self.trunk.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, image_size, image_size), uint8 or floats from 0 to 1 -> features (B, S, M), row by row."""
        scaled = images if images.is_floating_point() else images.float() / 255
        normalised = ((scaled - self.mean) / self.std).to(self.mean.dtype)
        return self.trunk(normalised.contiguous(memory_format=torch.channels_last)).flatten(2).transpose(1, 2)

    def features_of(self, images: Tensor) -> Tensor:
        """Images as `forward` takes them, or their features as it makes them, which stay -> features (B, S, M).

        Raises ValueError for images of another size, or features of another grid.
        """
        size, places = self.image_size, self.grid[0] * self.grid[1]
        if images.shape[1:] not in ((3, size, size), (places, self.feature_size)):
            raise ValueError(
                f"images have the shape {tuple(images.shape)}, but must have (B, 3, {size}, {size}) or, as features, "
                f"(B, {places}, {self.feature_size})"
            )
        return images if images.dim() == 3 else self(images)

    def folded(self) -> "ImageEncoder":
        """A copy to look at many images with: batch norms have become part of the convolutions before them.

        Its features are those of evaluation mode, up to rounding; it does not learn. To make it takes as long as a
        few images. A network that torch.fx cannot trace stays as it is.
        """
        # Here and not above: they take a while to import, and most programs fold nothing.
        from torch.fx.experimental.optimization import fuse
        from torch.fx.proxy import TraceError

        found = copy.deepcopy(self).requires_grad_(False)
        found.fixed = True
        found.eval()
        with contextlib.suppress(TraceError):
            found.trunk = fuse(found.trunk, inplace=True).to(memory_format=torch.channels_last)
        return found

    def filters(self) -> list[nn.Parameter]:
        """The weights of the convolutions over all their input channels but the first's, for Muon."""
        convolutions = [module for module in self.trunk.modules() if isinstance(module, nn.Conv2d)]
        return [module.get_parameter("weight") for module in convolutions[1:] if module.groups == 1]

    def load(self, weights: str | Path) -> None:
        """Take over trained weights, and fix the batch norms' statistics: the encoder is `fixed` from then on.

        Args:
            weights: `imagenet` for torchvision's own, downloaded once; or the path of a state dict of torchvision's
                network (`.pth`, `.pt`, or `.safetensors`; with or without what makes labels), or of the
                `model.safetensors` of a model of ours with this backbone. Nothing is unpickled but tensors.

        Raises:
            InputError: no network, or the file is missing, damaged or of another network.
        """
        state = _imagenet(self.backbone) if str(weights) == "imagenet" else _read(Path(weights))
        name = f"the ImageNet weights of {self.backbone}" if str(weights) == "imagenet" else str(weights)
        of = (
            "our small network (--backbone names another)"
            if self.backbone == SMALL
            else f"torchvision's {self.backbone}"
        )
        expected = self.trunk.state_dict()
        if any(key.startswith(OURS) for key in state):
            state = {key.removeprefix(OURS): value for key, value in state.items() if key.startswith(OURS)}
        fitting = {DOTTED.sub(r"\1", key.removeprefix("module.")): value for key, value in state.items()}
        for key, tensor in expected.items():
            if key.endswith("num_batches_tracked"):
                fitting.setdefault(key, tensor)
            if key not in fitting:
                raise InputError(f"{name} has no {key}: expected a state dict of {of}")
            if fitting[key].shape != tensor.shape:
                given, wanted = tuple(fitting[key].shape), tuple(tensor.shape)
                raise InputError(f"{name}: {key} is {given}, but in {self.backbone} it is {wanted}")
        unknown = [key for key in fitting if key not in expected and not key.startswith(HEAD)]
        if unknown:
            raise InputError(f"{name} has {unknown[0]}, which {self.backbone} lacks: it is of another network")
        self.trunk.load_state_dict({key: fitting[key] for key in expected})
        self.fixed = True
        self.train(self.training)


class FeatureExtractor:
    """Images → their features, batch after batch: as in evaluation mode, without gradients, on the encoder's device.

    Once a batch is large, which says that there are many images, with batch norms folded: MobileNetV2 then takes three
    fifths of the time. On a CPU a few images go through the network at a time: seven tenths of that again, on one core.

    Args:
        encoder: its weights are not to change meanwhile.
    """

    def __init__(self, encoder: ImageEncoder) -> None:
        self.encoder = encoder
        self.is_folded = False

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, image_size, image_size) -> (B, S, M)."""
        if not self.is_folded and len(images) >= MANY:
            self.encoder, self.is_folded = self.encoder.folded(), True
        images = images.to(self.encoder.mean.device)
        with evaluating(self.encoder):
            parts = images.split(AT_ONCE) if images.device.type == "cpu" else [images]
            return torch.cat([self.encoder(part) for part in parts])


def usual_image_size(backbone: str) -> int:
    """Height and width of images where none are asked for: what ImageNet's networks were made for, or 64 for ours."""
    return 64 if backbone == SMALL else 224


def backbones() -> list[str]:
    """The names of all networks that can be had: `small`, and torchvision's that make a grid of features."""
    from torchvision import models

    return [SMALL, *(name for name in models.list_models(module=models) if not name.startswith(OTHERWISE))]


def _small() -> nn.Sequential:
    """Three times: halve the picture, then look round once more. 64 × 64 pixels make an 8 × 8 grid."""
    layers: list[nn.Module] = []
    width = 3
    for wider in (32, 64, 128):
        for inputs, stride in ((width, 2), (wider, 1)):
            layers += [
                nn.Conv2d(inputs, wider, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(wider),
                nn.ReLU(inplace=True),
            ]
        width = wider
    return nn.Sequential(*layers)


def _torchvision_trunk(name: str) -> nn.Sequential:
    from torchvision import models

    if name not in (known := backbones()):
        near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
        advice = f"did you mean {', '.join(near)}?" if near else "small, resnet18 and mobilenet_v3_small are some"
        raise InputError(f"backbone is {name!r}, which is none that can be had here: {advice}")
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for part, module in models.get_model(name, weights=None).named_children():
        if part in HEAD:
            break
        parts[part] = module
    if name.startswith("densenet"):
        parts["relu"] = nn.ReLU(inplace=True)  # which torchvision's `forward` does by itself
    return nn.Sequential(parts)


def _imagenet(backbone: str) -> dict[str, Tensor]:
    from torchvision import models

    if backbone == SMALL:
        raise InputError("weights are imagenet, but the backbone small has none: name one of torchvision's")
    weights = models.get_model_weights(backbone).DEFAULT
    # Not `weights.get_state_dict`: it unpickles whatever it finds there.
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[1]
    if not file.is_file():
        digest = torch.hub.HASH_REGEX.search(file.name)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(
                weights.url, str(file), digest[1] if digest else None, progress=sys.stderr.isatty()
            )
        except (OSError, RuntimeError, HTTPException) as error:  # URLError is an OSError; a digest that is another
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"the ImageNet weights of {backbone} could not be had from {weights.url} ({reason}): put that file at "
                f"{file}, or give a file of weights by its path"
            ) from error
    return _read(file)


def _read(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        raise InputError(f"{file}: no such file of weights; expected none, imagenet, or a state dict's path")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch has its own to say of pickles that it then refuses
            found = (
                load_file(file)
                if file.suffix == ".safetensors"
                else torch.load(file, map_location="cpu", weights_only=True)
            )
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is not a whole file of weights ({error}): get it again") from error
    except Exception as error:  # torch.load raises whatever the archive, the unpickler or the tensors do
        raise InputError(
            f"{file} is damaged, or holds other things than tensors: get it again, or save a state dict with "
            "torch.save(model.state_dict(), ...)"
        ) from error
    for key in ("state_dict", "model"):  # as training scripts save it
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{file} holds no state dict of tensors: save one with torch.save(model.state_dict(), ...)")
    return {str(key): value for key, value in found.items()}
