"""Whatever is wrong with a captioner's data or options: one line on stderr, exit code 2, no half-made run folder."""

import json
import urllib.error
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import docstring_parser
import pytest
import torch
from PIL import Image

from zoo.one_to_one import ImageEncoder

Run = Callable[..., Any]
NAMES = [f"{number}.png" for number in range(12)]
LINES = "".join(f"{name}#0\tnumber {name[0]}\n" for name in NAMES)


def png(number: int = 0) -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8), (200, number, 0)).save(file, "PNG")
    return file.getvalue()


IMAGES = {name: png(number) for number, name in enumerate(NAMES)}


def rows(*columns: str) -> bytes:
    return "".join(json.dumps(dict(zip(columns, (name, "one"), strict=True))) + "\n" for name in NAMES).encode()


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"note.md": b"x"}, "data has no images: expected files that end in .jpg"),
        ({"captions.txt": LINES.encode()}, "data has no images"),
        (IMAGES, "data has no file of captions: expected captions.txt"),
        (IMAGES | {"captions.txt": b""}, "captions.txt is empty"),
        (IMAGES | {"captions.txt": LINES.replace("#0", "#x").encode()}, "captions.txt, line 2"),
        (IMAGES | {"captions.txt": LINES.encode(), "metadata.jsonl": b""}, "name the file to use with --captions"),
        (IMAGES | {"captions.txt": LINES.replace(".png", ".jpg").encode()}, "such as 0.jpg, is in data: check both"),
        (
            IMAGES | {"captions.txt": f"{LINES}other.png#0\tno\n".encode()},
            "1 of 13 captions in data/captions.txt are of",
        ),
        (IMAGES | {"captions.txt": "".join(f"{name}#0\t \n" for name in NAMES).encode()}, "no image with a caption"),
        (IMAGES | {"captions.txt": "".join(f"{name}#0\t?!\n" for name in NAMES).encode()}, "has a word in it"),
        (IMAGES | {"captions.txt": LINES.encode("utf-16")}, "captions.txt is UTF-16"),
        (IMAGES | {"captions.txt": LINES.encode().replace(b"number", b"\xeb", 1)}, "captions.txt, line 1 is not UTF-8"),
        (IMAGES | {"captions.jsonl": rows("photo", "caption")}, "no column 'file_name'"),
        (IMAGES | {"captions.jsonl": rows("file_name", "said")}, "name one with --caption_column"),
        (IMAGES | {"captions.json": b'{"images": [], "annotations": 1}'}, '"annotations" is no list'),
        ({"0.png": png(), "captions.txt": b"0.png#0\tone\n"}, "too few images to draw validation images from"),
        (dict.fromkeys(NAMES, b"") | {"captions.txt": LINES.encode()}, "cannot be read"),
        (
            {name: png()[:50] + name.encode() for name in NAMES} | {"captions.txt": LINES.encode()},
            "images cannot be read (data/",
        ),
    ],
)
def test_data(
    train_captioner: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    Path("data").mkdir()
    for name, content in files.items():
        (Path("data") / name).write_bytes(content)
    result = train_captioner(Path("run"), data="data")
    assert result.is_an_error(match), result
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--data", ""], "a data source is empty"),
        (["--data", "scenes", "--captions", "x.txt"], "scenes has captions and splits of its own"),
        (["--data", "scenes", "--test_data", "x"], "scenes has captions and splits of its own"),
        (["--captions", "no.txt"], "no.txt: no such file"),
        (["--captions", "no.docx"], "no.docx"),
        (["--validation_data", "no/such/folder"], "no/such/folder"),
        (["--test_data", ""], "a data source is empty"),
        (["--validation_fraction", "0"], "validation_fraction is 0.0"),
        (["--level", "words"], "level"),
        (["--tokenizer_size", "1"], "vocab_size is 1"),
        (["--min_frequency", "0"], "min_frequency is 0"),
        (["--min_frequency", "99"], "min_frequency is 99, but no word of the captions is there so often"),
        (
            ["--backbone", "resnet81"],
            "backbone is 'resnet81', which is none that can be had here: did you mean",
        ),
        (["--backbone", "vit_b_16"], "backbone is 'vit_b_16'"),
        (["--backbone", "squeezenet1_1", "--image_size", "4"], "images of 4 × 4 pixels do not go through"),
        (["--image_size", "0"], "image_size is 0"),
        (["--resize", "stretch"], "resize"),
        (["--augment", "turn"], "augment"),
        (["--weights", "imagenet"], "weights are imagenet, but the backbone small has none"),
        (["--weights", "no.pth"], "no.pth: no such file of weights; expected none, imagenet, or a state dict's path"),
        (["--weights", "x", "--init_from", "y"], "weights and init_from were both given"),
        (["--init_from", "no/such/run"], "no/such/run is not a folder here"),
        (["--finetune", "-0.1"], "finetune is -0.1"),
        (["--finetune", "1.1"], "finetune is 1.1"),
        (["--finetune", "nan"], "finetune"),
        (["--finetune_from", "1"], "finetune_from 1.0"),
        (["--captions_per_image", "0"], "captions_per_image is 0"),
        (["--cell", "transformer"], "cell is 'transformer'"),
        (["--attention", "dot"], "attention"),
        (["--num_heads", "3"], "num_heads is 3, but must divide the width of the queries, 8"),
        (["--num_heads", "0"], "num_heads is 0"),
        (["--embedding_size", "0"], "embedding_size is 0, but must be at least 1"),
        (["--hidden_size", "0", "--attention", "none"], "hidden_size is 0"),
        (["--num_layers", "1"], "num_layers is 1, but must be at least 2 with attention 'multihead'"),
        (["--num_layers", "0", "--attention", "none"], "num_layers is 0"),
        (["--dropout", "1"], "dropout is 1.0"),
        (["--feature_dropout", "1"], "feature_dropout is 1.0"),
        (["--weight_dropout", "0.1", "--cell", "mingru"], "weight_dropout is 0.1, but mingru"),
        (["--label_smoothing", "1"], "label_smoothing is 1.0"),
        (["--batch_size", "0"], "batch_size is 0"),
        (
            ["--image_size", "8", "--batch_size", "1"],
            "has one image, of which small makes one place",
        ),
        (["--image_size", "8", "--batch_size", "17"], "the last batch of an epoch has one image"),
        (["--num_beams", "0"], "num_beams is 0, but must be from 1"),
        (["--length_penalty", "-1"], "length_penalty is -1.0, but must be from 0"),
        (["--neighbours", "-1"], "neighbours is -1, but must be from 0 (none) to 100"),
        (["--num_concepts", "999"], "num_concepts is 999, but must be from 0 to the vocabulary's"),
        (["--concept_weight", "-1"], "concept_weight is -1.0, but must be a number of at least 0"),
        (["--max_steps", "0"], "max_steps is 0"),
        (["--device", "abacus"], "device is abacus"),
        (["--beams", "5"], "--beams"),
        (["--config", "no.yaml"], "no.yaml"),
    ],
)
def test_options(
    train_captioner: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], match: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = train_captioner(tmp_path / "run", *arguments)
    assert result.is_an_error(match), result
    assert not (tmp_path / "run").exists()


def of_another_shape(state: dict[str, torch.Tensor]) -> Any:
    return state | {"3.weight": torch.zeros(2, 2)}


def without_one(state: dict[str, torch.Tensor]) -> Any:
    return {name: tensor for name, tensor in state.items() if name != "3.weight"}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (of_another_shape, "3.weight is (2, 2), but in small it is (32, 32, 3, 3)"),
        (without_one, "has no 3.weight"),
        (lambda state: state | {"layer9.weight": torch.zeros(1)}, "has layer9.weight, which small lacks"),
        (lambda state: [1, 2], "holds no state dict of tensors"),
        (lambda state: {}, "has no 0.weight"),
    ],
)
def test_weights_that_do_not_fit(train_captioner: Run, tmp_path: Path, change: Run, match: str) -> None:
    torch.save(change(ImageEncoder("small", 16).trunk.state_dict()), tmp_path / "weights.pth")
    result = train_captioner(tmp_path / "run", weights=tmp_path / "weights.pth")
    assert result.is_an_error(match), result
    assert str(tmp_path / "weights.pth") in result.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_damaged_file_of_weights(train_captioner: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no weights")
    result = train_captioner(tmp_path / "run", weights=tmp_path / name)
    assert result.is_an_error(f"{tmp_path / name} is "), result


def test_imagenet_without_a_network(train_captioner: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which file is missing, and where it can be put."""

    def unreachable(*arguments: object, **options: object) -> None:
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    result = train_captioner(tmp_path / "run", backbone="squeezenet1_1", weights="imagenet", image_size=40)
    assert result.is_an_error("the ImageNet weights of squeezenet1_1 could not be had from https://"), result
    assert f"put that file at {tmp_path / 'hub' / 'checkpoints' / 'squeezenet1_1-'}" in result.err
    assert "Temporary failure in name resolution" in result.err


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"image_size": 32}, "image_size is 32, but "),
        ({"backbone": "squeezenet1_1"}, "has small: leave --backbone out, or start from another run"),
    ],
)
def test_sizes_that_are_not_those_of_the_run_to_start_from(
    train_captioner: Run, saved_image_classifier: Path, tmp_path: Path, changes: dict[str, object], match: str
) -> None:
    result = train_captioner(tmp_path / "run", init_from=saved_image_classifier, **changes)
    assert result.is_an_error(match), result
    assert str(saved_image_classifier) in result.err
    assert not (tmp_path / "run").exists()


def test_init_from_another_architecture(train_captioner: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architecture": "TextClassifier"}')
    result = train_captioner(tmp_path / "run", init_from=tmp_path)
    assert result.is_an_error("is of a TextClassifier, but a ImageClassifier was expected"), result


def test_a_cache_that_cannot_be_written(train_captioner: Run, trunk: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    result = train_captioner(tmp_path / "run", weights=trunk, cache=tmp_path / "cache", finetune=0.0)
    assert result.is_an_error(f"features cannot be kept in {tmp_path / 'cache'}"), result
    assert "name another folder with --cache" in result.err


def test_help_lists_and_explains_every_option(run: Run, train_captioner_script: ModuleType) -> None:
    result = run(train_captioner_script, "--help")
    assert (result.code, result.err) == (0, "")
    for options in (train_captioner_script.ImageCaptionerOptions, train_captioner_script.ImageCaptionerTraining):
        described = {parameter.arg_name for parameter in docstring_parser.parse(options.__doc__).params}
        assert set(options.__dataclass_fields__) <= described
        assert all(f"--{name} " in result.out for name in options.__dataclass_fields__)
