"""The image classifier's training script from end to end, on tiny settings, and what it says of bad input."""

import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import docstring_parser
import matplotlib.image
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torchvision import models

from zoo.data import scene_data
from zoo.data.labelled_images import load_labelled_images
from zoo.one_to_one import ImageClassifier, ImageEncoder

Run = Callable[..., Any]
BACKBONE = "shufflenet_v2_x0_5"
FILES = {
    ".lock",
    "config.yaml",
    "config.json",
    "model.safetensors",
    "README.md",
    "metrics.jsonl",
    "metrics.json",
    "curves.png",
    "samples.txt",
    "resume.safetensors",
    "resume.previous.safetensors",
    *(
        f"{split}_{name}"
        for split in ("validation", "test")
        for name in ("labels.txt", "confusions.png", "mistakes.jsonl")
    ),
}
FACTS = {
    *("parameters", "training_minutes", "evaluation_minutes", "images_per_second", "steps", "best_step"),
    *("device", "processes", "threads", "precision", "seed", "versions"),
}


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text("utf-8"))
    return found


def results(folder: Path) -> dict[str, Any]:
    """What the figures say of each split."""
    return {name: value for name, value in figures(folder).items() if name not in FACTS}


def notes(result: Any) -> list[str]:
    return [line for line in result.out.splitlines() if line.startswith("note: ")]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where features are kept that are kept by default: not in the user's own folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "sequence-zoo"


@pytest.fixture
def undrawn(train_image_classifier_script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of no content in place of pictures, which take most of a tiny run's time."""

    def touch(*arguments: Any) -> None:
        next(argument for argument in arguments if isinstance(argument, Path)).touch()

    for name in ("draw_confusions", "draw_curves"):
        monkeypatch.setattr(train_image_classifier_script, name, touch)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state dict of a network, whose weights and statistics are random, as if it had been trained."""
    torch.manual_seed(0)
    network = models.get_model(BACKBONE, weights=None)
    with torch.no_grad():
        for _ in range(20):
            network(torch.rand(16, 3, 32, 32) * torch.rand(16, 3, 1, 1))
    file = tmp_path_factory.mktemp("weights") / "trained network.pth"
    torch.save(network.state_dict(), file)
    return file


@pytest.fixture
def fine_tune(train_image_classifier: Run, weights: Path, undrawn: None) -> Run:
    """A tiny run that starts from `weights`."""
    options = {"backbone": BACKBONE, "weights": weights, "image_size": 32, "max_steps": 4, "evaluations": 1}
    return functools.partial(train_image_classifier, **options)


def trunk(folder: Path, file: str = "model.safetensors", prefix: str = "encoder.trunk.") -> dict[str, torch.Tensor]:
    tensors = load_file(folder / file)
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def moved(folder: Path, weights: Path) -> set[str]:
    """What is other in the last save than it was at first."""
    last, first = trunk(folder, "resume.safetensors", "model.encoder.trunk."), torch.load(weights, weights_only=True)
    assert last.keys() <= first.keys()
    return {name for name in last if not torch.equal(last[name], first[name])}


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The run dies in its `step`-th loss."""
    calls = []
    loss = ImageClassifier.loss

    def stopping(self: ImageClassifier, batch: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == step:
            raise KeyboardInterrupt
        return loss(self, batch)

    monkeypatch.setattr(ImageClassifier, "loss", stopping)


def assert_same_end(whole: Path, cut: Path) -> None:
    ends = [load_file(folder / "resume.safetensors") for folder in (whole, cut)]
    assert ends[0].keys() == ends[1].keys()
    assert [name for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])] == []
    assert results(whole) == results(cut)


# --- a whole run --------------------------------------------------------------------------------------------------


def test_the_run_folder_explains_itself(finished_image_classifier: Path, shapes: Path) -> None:
    folder = finished_image_classifier
    assert {file.name for file in folder.iterdir()} == FILES
    options = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    assert (options["data"], options["image_size"], options["max_steps"]) == (str(shapes), 16, 40)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert (config["architecture"], config["labels"]) == ("ImageClassifier", ["bars", "disc", "square"])
    for picture in ("validation_confusions.png", "test_confusions.png", "curves.png"):
        assert matplotlib.image.imread(folder / picture).size > 10_000
    assert "square" in (folder / "test_labels.txt").read_text("utf-8")
    sample = (folder / "samples.txt").read_text("utf-8").splitlines()
    assert sample[0] == "--- step 20 ---"
    assert sample[1].startswith(str(shapes / "val" / "bars")) and sample[1].endswith("%)")


def test_the_final_figures_are_those_of_the_saved_model(finished_image_classifier: Path, shapes: Path) -> None:
    folder = finished_image_classifier
    found, data = figures(folder), load_labelled_images(str(shapes))
    assert found.keys() == {"validation", "test", "majority_validation", "majority_test", *FACTS}
    model = ImageClassifier.from_pretrained(folder)
    for name, split in (("validation", data.validation), ("test", data.tests["test"])):
        classified = model.classify([image.content for image in split.images])
        right = [one.label == label for one, label in zip(classified, split.labels, strict=True)]
        assert found[name].keys() == {"accuracy", "macro_f1", "cross_entropy", "expected_calibration_error"}
        assert found[name]["accuracy"] == pytest.approx(sum(right) / len(right))
        assert found[f"majority_{name}"]["accuracy"] == pytest.approx(1 / 3)
        mistakes = (folder / f"{name}_mistakes.jsonl").read_text("utf-8").splitlines()
        assert len(mistakes) == right.count(False)
    assert found["test"]["accuracy"] > 0.8
    assert found["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert (found["steps"], found["seed"], found["precision"], found["device"]) == (40, 0, "float32", "cpu")
    best = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert found["validation"]["accuracy"] == pytest.approx(max(line["accuracy"] for line in best))


@pytest.mark.usefixtures("undrawn")
def test_drawn_scenes_are_built_in(
    train_image_classifier: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = functools.partial(scene_data.labelled_scenes, train=60, validation=6, test=4)
    monkeypatch.setattr(scene_data, "labelled_scenes", fewer)
    result = train_image_classifier(tmp_path / "run", data="scenes", max_steps=2)
    assert result.code == 0, result
    assert "scenes: 60 training, 6 validation, 4 test" in result.out


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adamw", "augment": "none", "resize": "crop"},
        {"augment": "shift+flip", "accumulate": 2, "precision": "bfloat16"},
        {"backbone": BACKBONE, "image_size": 32, "batch_size": 7},
    ],
    ids=["adamw", "bfloat16", "backbone"],
)
def test_it_trains_with_other_options(train_image_classifier: Run, tmp_path: Path, options: dict[str, Any]) -> None:
    result = train_image_classifier(tmp_path / "run", **{"max_steps": 4, **options})
    assert result.code == 0, result
    model = ImageClassifier.from_pretrained(tmp_path / "run")
    assert model.config["resize"] == options.get("resize", "squash")
    assert model.config["backbone"] == options.get("backbone", "small")


def test_the_usual_size_is_that_of_the_backbone(train_image_classifier_script: ModuleType, shapes: Path) -> None:
    data = load_labelled_images(str(shapes))
    for options, size in (({}, 64), ({"backbone": BACKBONE}, 224), ({"backbone": BACKBONE, "image_size": 40}, 40)):
        chosen = train_image_classifier_script.ImageClassifierOptions(**options)
        assert train_image_classifier_script._starting_model(chosen, data).encoder.image_size == size


def test_a_batch_is_a_pure_function_of_seed_epoch_and_number(
    train_image_classifier_script: ModuleType, shapes: Path
) -> None:
    script = train_image_classifier_script
    data = load_labelled_images(str(shapes))

    def task(seed: int, augment: str) -> Any:
        torch.manual_seed(seed)
        options = script.ImageClassifierOptions(image_size=16, augment=augment)
        model = script._starting_model(options, data)
        split = script.Split("training", data.train, model, "float32", None)
        return script.Classifying(model, split, split, options, script.LengthBatches([1] * len(split), 16, seed))

    first, again, other, plain = task(0, "shift"), task(0, "shift"), task(1, "shift"), task(0, "none")
    batches = [(epoch, k) for epoch in (0, 1) for k in (0, 1)]
    made = {at: first.batch(*at) for at in batches}
    for at in reversed(batches):
        repeated = again.batch(*at)
        assert torch.equal(repeated.images, made[at].images)
        assert torch.equal(repeated.targets, made[at].targets)
        assert torch.equal(plain.batch(*at).targets, made[at].targets)
        assert not torch.equal(plain.batch(*at).images, made[at].images)
        assert not torch.equal(other.batch(*at).images, made[at].images)
    assert len({images.numpy().tobytes() for images, _ in made.values()}) == 4
    assert first.fingerprint == again.fingerprint
    labels = {label: number for number, label in enumerate(data.labels)}
    rows = plain.batches.rows(0, 1)
    assert plain.batch(0, 1).targets.tolist() == [labels[data.train.labels[row]] for row in rows]


@pytest.mark.usefixtures("undrawn")
def test_names_that_are_not_utf8(train_image_classifier: Run, shapes: Path, tmp_path: Path) -> None:
    try:
        for label, name in (("disc", b"Zo\xeb"), ("bars", b"$x_{")):
            shutil.copytree(shapes / "train" / label, tmp_path / "images" / os.fsdecode(name))
            (tmp_path / "images" / os.fsdecode(name) / "0.png").rename(
                tmp_path / "images" / os.fsdecode(name + b"/\xff.png")
            )
    except OSError:
        pytest.skip("this file system has no such names")
    result = train_image_classifier(tmp_path / "run", data=tmp_path / "images", max_steps=2, validation_fraction=0.5)
    assert result.code == 0, result
    assert ImageClassifier.from_pretrained(tmp_path / "run").labels == ["$x_{", "Zo\ufffd"]


# --- stopped and resumed ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_resumed_it_ends_bit_for_bit_as_if_never_stopped(
    train_image_classifier: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    options = {"max_steps": 6, "evaluations": 3, "augment": "shift+flip", "optimizer": optimizer}
    assert train_image_classifier(tmp_path / "whole", **options).code == 0
    stop_at(monkeypatch, 4)
    assert train_image_classifier(tmp_path / "cut", **options).code != 0
    monkeypatch.undo()
    result = train_image_classifier(tmp_path / "cut", "--resume", **options)
    assert result.code == 0, result
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.usefixtures("undrawn")
def test_the_seed_decides(train_image_classifier: Run, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert train_image_classifier(tmp_path / name, seed=seed, max_steps=4).code == 0
    assert_same_end(tmp_path / "a", tmp_path / "b")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize("finetune", [0, 0.5], ids=["frozen", "fine-tuned"])
def test_a_run_from_weights_is_resumed_bit_for_bit(
    fine_tune: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finetune: float
) -> None:
    options = {"evaluations": 4, "finetune": finetune, "finetune_from": 0.3}
    assert fine_tune(tmp_path / "whole", **options).code == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        assert fine_tune(tmp_path / "cut", **options).code != 0
    result = fine_tune(tmp_path / "cut", "--resume", **options)
    assert result.code == 0, result
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.usefixtures("undrawn")
def test_it_is_not_resumed_on_other_images_or_labels(train_image_classifier: Run, shapes: Path, tmp_path: Path) -> None:
    data = tmp_path / "images"
    shutil.copytree(shapes, data)
    assert train_image_classifier(tmp_path / "run", data=data, max_steps=1).code == 0
    (data / "train" / "disc" / "0.png").rename(data / "train" / "square" / "another.png")
    result = train_image_classifier(tmp_path / "run", "--resume", data=data, max_steps=2)
    assert result.code == 2
    assert "was trained on other data" in result.err


# --- from weights -------------------------------------------------------------------------------------------------


def test_what_is_frozen_stays_and_its_features_are_computed_once(
    fine_tune: Run, tmp_path: Path, weights: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fine_tune(tmp_path / "first", finetune=0)
    assert first.code == 0, first
    assert moved(tmp_path / "first", weights) == set()
    assert trunk(tmp_path / "first").keys() <= torch.load(weights, weights_only=True).keys()
    assert any(str(cache) in note for note in notes(first)), first.out
    kept = {file.name: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert sorted(name.rsplit(".", 1)[1] for name in kept) == ["bin"] * 3 + ["json"] * 3

    calls = []
    forward = ImageEncoder.forward
    monkeypatch.setattr(ImageEncoder, "forward", lambda self, images: calls.append(1) or forward(self, images))
    assert fine_tune(tmp_path / "again", finetune=0).code == 0
    assert calls == []
    assert {file.name: file.stat().st_mtime_ns for file in cache.iterdir()} == kept
    assert_same_end(tmp_path / "first", tmp_path / "again")

    assert fine_tune(tmp_path / "elsewhere", finetune=0, cache=tmp_path / "my cache").code == 0
    assert calls
    assert {file.name for file in (tmp_path / "my cache").iterdir()} == set(kept)
    assert_same_end(tmp_path / "first", tmp_path / "elsewhere")


def test_computed_anew_for_every_batch_they_teach_the_same(
    fine_tune: Run, tmp_path: Path, weights: Path, cache: Path
) -> None:
    assert fine_tune(tmp_path / "cached", finetune=0, augment="none").code == 0
    shutil.rmtree(cache)
    result = fine_tune(tmp_path / "recomputed", "--recompute", finetune=0, augment="none")
    assert result.code == 0, result
    assert not cache.exists()
    assert moved(tmp_path / "recomputed", weights) == set()
    ends = [load_file(tmp_path / name / "model.safetensors") for name in ("cached", "recomputed")]
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-3, atol=1e-4)


def test_the_backbone_learns_from_its_share_of_the_run_on(
    fine_tune: Run, tmp_path: Path, weights: Path, cache: Path
) -> None:
    """The n steps of a run are at 0, 1/n, 2/n, ... of it."""
    common = {"finetune": 0.5, "evaluations": 1, "warmup": 0.0, "weight_decay": 0.0, "max_steps": 2}
    for start in (0.6, 0.5, 0.0):
        result = fine_tune(tmp_path / f"{start}", finetune_from=start, **common)
        assert result.code == 0, result
    assert moved(tmp_path / "0.6", weights) == set()
    for start in ("0.5", "0.0"):
        names = moved(tmp_path / start, weights)
        assert not any("running" in name or "batches" in name for name in names)  # the statistics stay
        parameters = {name for name, _ in ImageEncoder(BACKBONE, 32).trunk.named_parameters()}
        assert len(names) > 0.9 * len(parameters)
    assert not cache.exists()


def test_the_backbone_moves_at_a_share_of_the_rate(fine_tune: Run, tmp_path: Path, weights: Path) -> None:
    first = torch.load(weights, weights_only=True)
    common = {"finetune_from": 0.0, "evaluations": 1, "warmup": 0.0, "weight_decay": 0.0, "max_steps": 1}
    way = {}
    for share in (0.1, 1):
        assert fine_tune(tmp_path / f"{share}", finetune=share, **common).code == 0
        last = trunk(tmp_path / f"{share}", "resume.safetensors", "model.encoder.trunk.")
        way[share] = float((last["conv5.0.weight"] - first["conv5.0.weight"]).abs().mean())
    assert way[0.1] == pytest.approx(0.1 * way[1], rel=0.02)


# --- broken images ------------------------------------------------------------------------------------------------


@pytest.fixture
def many(shapes: Path, tmp_path: Path) -> Path:
    """A copy of `shapes` with 200 training images."""
    folder = tmp_path / "many images"
    shutil.copytree(shapes, folder)
    for number in range(140):
        Image.new("RGB", (4, 4), (number, 255, 0)).save(folder / "train" / "disc" / f"more {number}.png")
    return folder


def break_images(folder: Path, count: int) -> None:
    for number in range(count):
        file = folder / "train" / "square" / f"{number}.png"
        file.write_bytes(file.read_bytes()[:50] if number % 2 else b"")


@pytest.mark.usefixtures("undrawn")
def test_a_broken_image_is_left_out_with_a_note(train_image_classifier: Run, tmp_path: Path, many: Path) -> None:
    break_images(many, 1)
    result = train_image_classifier(tmp_path / "run", data=many, max_steps=14)  # more than an epoch
    assert result.code == 0, result
    (note,) = notes(result)
    assert note.startswith("note: 1 training images are broken and left out (")
    assert str(many / "train" / "square" / "0.png") in note
    assert "199 training, 12 validation, 9 test images" in result.out


def test_a_broken_image_has_no_features_to_learn_from(fine_tune: Run, tmp_path: Path, many: Path) -> None:
    break_images(many, 1)
    for name in ("computed", "found"):
        result = fine_tune(tmp_path / name, data=many, finetune=0, max_steps=2)
        assert result.code == 0, result
        assert "note: 1 training images are broken and left out (" in result.out
        assert "199 training" in result.out
    assert_same_end(tmp_path / "computed", tmp_path / "found")


@pytest.mark.parametrize("finetune", [0, 0.1])
def test_too_many_broken_images(fine_tune: Run, tmp_path: Path, many: Path, cache: Path, finetune: float) -> None:
    break_images(many, 3)
    result = fine_tune(tmp_path / "run", data=many, finetune=finetune)
    assert result.is_an_error("more than 1% of the 200 training images cannot be read"), result
    assert str(many / "train" / "square" / "0.png") in result.err
    assert not (tmp_path / "run").exists()
    assert not cache.exists() or list(cache.iterdir()) == []


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--backbone", "resnet19"], "did you mean resnet18"),
        (
            ["--backbone", "squeezenet1_1", "--image_size", "8"],
            "images of 8 × 8 pixels do not go through squeezenet1_1",
        ),
        (["--image_size", "0"], "image_size is 0"),
        (["--image_size", "-5"], "image_size is -5"),
        (["--image_size", "large"], "image_size"),
        (["--resize", "stretch"], "resize"),
        (["--augment", "colour"], "augment"),
        (["--dropout", "1"], "dropout is 1.0"),
        (["--label_smoothing", "-1"], "label_smoothing is -1.0"),
        (["--finetune", "2"], "finetune is 2.0"),
        (["--finetune", "nan"], "finetune"),
        (["--finetune_from", "1"], "finetune_from 1.0"),
        (["--weights", "none/such.pth"], "none/such.pth: no such file of weights"),
        (["--weights", "imagenet"], "the backbone small has none"),
        (["--validation_fraction", "2"], "validation_fraction is 2.0"),
        (["--batch_size", "0"], "batch_size is 0"),
        (["--image_size", "8", "--batch_size", "1"], "too little for batch norm"),
        (["--image_size", "8", "--batch_size", "59"], "too little for batch norm"),
        (["--max_steps", "0"], "max_steps is 0"),
        (["--resume"], "is not a run folder"),
        (["--device", "abacus"], "device is abacus"),
        (["--hidden_size", "5"], "--hidden_size"),
    ],
)
def test_options(train_image_classifier: Run, tmp_path: Path, arguments: list[str], match: str) -> None:
    result = train_image_classifier(tmp_path / "run", *arguments)
    assert result.is_an_error(match), result
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda folder: None, "is no file, no folder and no hub data set's name"),
        (lambda folder: folder.mkdir(), "no image"),
        (lambda folder: folder.write_text("text"), "is one file"),
        (lambda folder: shapes_in(folder, "a"), "only the label 'a'"),
        (lambda folder: shapes_in(folder, "."), "none in a folder for its label"),
    ],
)
def test_data(train_image_classifier: Run, tmp_path: Path, make: Callable[[Path], object], match: str) -> None:
    make(tmp_path / "data")
    result = train_image_classifier(tmp_path / "run", data=tmp_path / "data")
    assert result.is_an_error(match), result
    assert not (tmp_path / "run").exists()


def shapes_in(folder: Path, label: str) -> None:
    (folder / label).mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / label / f"{number}.png")


def test_a_label_that_training_has_never_seen(train_image_classifier: Run, shapes: Path, tmp_path: Path) -> None:
    shapes_in(tmp_path / "others", "disc")
    shapes_in(tmp_path / "others", "star")
    for option in ("--validation_data", "--test_data"):
        result = train_image_classifier(tmp_path / "run", option, tmp_path / "others")
        assert result.is_an_error("has the label 'star', which no training image has"), result


def test_weights_that_do_not_fit(fine_tune: Run, tmp_path: Path, weights: Path) -> None:
    result = fine_tune(tmp_path / "run", backbone="mobilenet_v3_small")
    assert result.is_an_error("trained network.pth has no features.0.0.weight: expected a state dict of torchvision's")
    (tmp_path / "cut.pth").write_bytes(weights.read_bytes()[:5000])
    result = fine_tune(tmp_path / "run", weights=tmp_path / "cut.pth")
    assert result.is_an_error("cut.pth is not a whole file of weights"), result
    assert not (tmp_path / "run").exists()


def test_imagenet_without_a_network(fine_tune: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise URLError("network is unreachable")

    monkeypatch.setattr(torch.hub, "urlopen", refused)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    result = fine_tune(tmp_path / "run", weights="imagenet")
    assert result.is_an_error(f"put that file at {tmp_path / 'torch' / 'hub' / 'checkpoints'}"), result
    assert not (tmp_path / "run").exists()


def test_a_cache_that_cannot_be_written(fine_tune: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = fine_tune(tmp_path / "run", finetune=0, cache=tmp_path / "file")
    assert result.is_an_error("features cannot be kept in"), result
    assert not (tmp_path / "run").exists()


def test_every_option_is_described(train_image_classifier_script: ModuleType) -> None:
    script = train_image_classifier_script
    for options in (script.ImageClassifierOptions, script.ImageClassifierTraining):
        described = {parameter.arg_name for parameter in docstring_parser.parse(options.__doc__).params}
        assert set(options.__dataclass_fields__) <= described
