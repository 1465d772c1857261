"""Training a captioner on a backbone that was trained before: frozen, its features cached, or learning more slowly."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models

from zoo.data.feature_cache import CachedFeatures
from zoo.one_to_many import ImageCaptioner
from zoo.one_to_one import ImageClassifier, ImageEncoder

pytestmark = pytest.mark.usefixtures("without_pictures")
Run = Callable[..., Any]


def training_losses(folder: Path) -> list[float]:
    return [json.loads(line)["training_loss"] for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


def snapshots(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The model as it is at the beginning of each step."""
    found: list[dict[str, Tensor]] = []
    loss = ImageCaptioner.loss

    def noting(self: ImageCaptioner, *arguments: Any) -> Tensor:
        found.append({name: tensor.clone() for name, tensor in self.state_dict().items()})
        return loss(self, *arguments)

    monkeypatch.setattr(ImageCaptioner, "loss", noting)
    return found


def in_trunk(state: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "encoder.trunk."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_features_of_a_frozen_backbone_are_computed_once(
    train_captioner: Run, trunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"weights": trunk, "finetune": 0.0, "augment": "none"}
    cached = train_captioner(tmp_path / "first", cache=tmp_path / "a cache", **options)
    assert cached.code == 0, cached
    assert f"note: the features of the images are in {tmp_path / 'a cache'}" in cached.out
    model = ImageCaptioner.from_pretrained(tmp_path / "first")
    assert same(in_trunk(model.state_dict()), torch.load(trunk))
    every = sum(parameter.numel() for parameter in model.parameters())
    frozen = sum(parameter.numel() for parameter in model.encoder.parameters())
    assert f"{every:,} parameters, of which {every - frozen:,} learn" in cached.out
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "a cache").iterdir()}
    assert len(files) == 6  # of three splits, features and what they are

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    elsewhere = train_captioner(tmp_path / "elsewhere", **options)
    assert f"features of the images are in {tmp_path / 'xdg' / 'sequence-zoo'}" in elsewhere.out
    assert train_captioner(tmp_path / "recomputed", "--recompute", cache=tmp_path / "none", **options).code == 0
    assert not (tmp_path / "none").exists()
    with monkeypatch.context() as patch:
        patch.setattr(CachedFeatures, "_compute", None)
        assert train_captioner(tmp_path / "second", cache=tmp_path / "a cache", **options).code == 0
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "a cache").iterdir()} == files
    for name in ("second", "elsewhere", "recomputed"):
        for file in ("model.safetensors", "validation_captions.txt", "test_captions.txt", "samples.txt"):
            assert (tmp_path / "first" / file).read_bytes() == (tmp_path / name / file).read_bytes(), (name, file)


def test_features_of_a_network_of_torchvision(train_captioner: Run, tmp_path: Path) -> None:
    """Cached or computed anew for every batch: the same captions.

    (Not the same to the last bit: some convolutions are computed otherwise for other numbers of images.)
    """
    torch.manual_seed(0)
    save_file(models.squeezenet1_1().state_dict(), tmp_path / "net.safetensors")
    options = {"backbone": "squeezenet1_1", "image_size": 40, "weights": tmp_path / "net.safetensors", "finetune": 0.0}
    assert train_captioner(tmp_path / "cached", cache=tmp_path / "cache", **options).code == 0
    assert train_captioner(tmp_path / "recomputed", "--recompute", **options).code == 0
    for file in ("validation_captions.txt", "test_captions.txt"):
        assert (tmp_path / "cached" / file).read_bytes() == (tmp_path / "recomputed" / file).read_bytes(), file
    losses = [training_losses(tmp_path / name) for name in ("cached", "recomputed")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_features_in_half_the_bits(train_captioner: Run, trunk: Path, tmp_path: Path) -> None:
    result = train_captioner(tmp_path / "run", weights=trunk, cache=tmp_path / "cache", precision="bfloat16")
    assert result.code == 0, result
    for file in (tmp_path / "cache").glob("*.json"):
        assert json.loads(file.read_text())["dtype"] == "bfloat16"


def test_what_cached_features_leave_out_is_said(
    train_captioner: Run,
    train_captioner_script: ModuleType,
    trunk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopping(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train_captioner_script, "train", stopping)
    said = "for --augment shift add --recompute"
    options = {"weights": trunk, "cache": tmp_path / "cache", "augment": "shift", "finetune": 0.0}
    assert said in train_captioner(tmp_path / "cached", **options).out
    assert said not in train_captioner(tmp_path / "recomputed", "--recompute", **options).out
    assert said not in train_captioner(tmp_path / "learning", **(options | {"finetune": 0.1})).out


@pytest.mark.parametrize(("source", "optimizer"), [("weights", "muon"), ("init_from", "adamw")])
def test_a_backbone_begins_to_learn_when_it_is_told(
    train_captioner: Run,
    trunk: Path,
    saved_image_classifier: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    optimizer: str,
) -> None:
    """And its batch norms never gather statistics of their own."""
    seen = snapshots(monkeypatch)
    options = {"finetune": 0.1, "finetune_from": 0.5, "max_steps": 6, "warmup": 0, "optimizer": optimizer}
    result = train_captioner(
        tmp_path / "run", **{source: trunk if source == "weights" else saved_image_classifier}, **options
    )
    assert result.code == 0, result
    assert len(seen) == 6
    before = torch.load(trunk)
    if source == "init_from":
        before = in_trunk(ImageClassifier.from_pretrained(saved_image_classifier).state_dict())
    for step, state in enumerate(seen):
        learnt = {name for name, tensor in in_trunk(state).items() if not torch.equal(tensor, before[name])}
        expected = {name for name in before if name.endswith(("weight", "bias"))} if step > 3 else set()
        assert learnt == expected, step
    assert all(not torch.equal(one["decoder.output.bias"], two["decoder.output.bias"]) for one, two in pairwise(seen))
    # At a tenth of the rate: Adam's first step is as long as the rate, which a cosine has brought to half.
    (name,) = [name for name in before if name == "0.weight"]
    moved = (in_trunk(seen[4])[name] - before[name]).abs().max()
    assert float(moved) == pytest.approx(0.5 * 0.1 * 0.02, rel=0.2)


def test_init_from_takes_the_backbone_of_a_classifier(
    train_captioner: Run, saved_image_classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = snapshots(monkeypatch)
    result = train_captioner(tmp_path / "run", init_from=saved_image_classifier, cache=tmp_path / "cache")
    assert result.code == 0, result
    assert f"starting from {saved_image_classifier}: its backbone small is used" in result.out
    source = ImageClassifier.from_pretrained(saved_image_classifier)
    model = ImageCaptioner.from_pretrained(tmp_path / "run")
    for state in (*seen, model.state_dict()):
        assert same(in_trunk(state), in_trunk(source.state_dict()))
    assert (model.config["image_size"], model.config["resize"]) == (16, "crop")
    assert len(list((tmp_path / "cache").iterdir())) == 6


def test_what_learns_from_nothing_learns_from_the_first_step(
    train_captioner: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = snapshots(monkeypatch)
    assert train_captioner(tmp_path / "run", warmup=0, cache=tmp_path / "cache").code == 0
    first, second = (in_trunk(state) for state in seen[:2])
    assert all(not torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert not (tmp_path / "cache").exists()


def test_stopped_while_features_are_computed(
    train_captioner: Run, trunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of it, and the next run does what is missing."""
    forward, calls = ImageEncoder.forward, []

    def stopping(self: ImageEncoder, images: Tensor) -> Tensor:
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return forward(self, images)

    options = {"weights": trunk, "cache": tmp_path / "cache"}
    with monkeypatch.context() as patch:
        patch.setattr(ImageEncoder, "forward", stopping)
        result = train_captioner(tmp_path / "run", **options)
    assert (result.code, result.err) == (130, "")
    assert not (tmp_path / "run").exists()
    assert sorted(file.suffix for file in (tmp_path / "cache").iterdir()) == [".bin", ".json"]  # the training images'
    assert train_captioner(tmp_path / "run", **options).code == 0


def test_features_of_mirrored_images_are_cached_too(
    train_captioner: Run, trunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[Tensor] = []
    loss = ImageCaptioner.loss

    def noting(self: ImageCaptioner, batch: Any, *arguments: Any) -> Tensor:
        batches.append(batch.images)
        return loss(self, batch, *arguments)

    monkeypatch.setattr(ImageCaptioner, "loss", noting)
    options = {"weights": trunk, "finetune": 0.0, "cache": tmp_path / "cache", "precision": "float32"}
    assert train_captioner(tmp_path / "straight", augment="none", **options).code == 0
    straight = {row.numpy().tobytes() for batch in batches for row in batch}
    batches.clear()
    assert train_captioner(tmp_path / "mirrored", augment="flip", **options).code == 0
    rows = [row.numpy().tobytes() for batch in batches for row in batch]
    # Of one colour all over, an image is what its mirror image is; the others come both ways.
    others = [row for row in rows if row not in straight]
    assert 0 < len(others) < len(rows)
    # Of the training, validation and test images, and of the first of these mirrored.
    assert len(list((tmp_path / "cache").glob("*.bin"))) == 4
