"""Describing images from the command line: a line for each, in order, with clear errors."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.image
import pytest
import torch
from PIL import Image

from zoo.data.image_tensors import BATCH, image_batches
from zoo.data.tokenizer import TextTokenizer
from zoo.many_to_one import TextClassifier
from zoo.one_to_many import Caption, ImageCaptioner
from zoo.one_to_many.nearest_captions import NEIGHBOURS_FILE

Run = Callable[..., Any]
SCRIPT = Path(__file__).parents[2] / "scripts" / "caption_images.py"
COLOURS = ["red", "lime", "blue", "yellow", "black", "white"]
TOKENIZER = TextTokenizer.train([f"a {colour} picture" for colour in COLOURS], "word")


def saved(folder: Path, **changes: Any) -> Path:
    """A captioner that was never trained, whose captions differ from image to image all the same."""
    torch.manual_seed(1)
    options: dict[str, Any] = {"image_size": 16, "embedding_size": 8, "hidden_size": 8, "num_heads": 2, "max_length": 6}
    model = ImageCaptioner(**{"tokenizer": TOKENIZER} | options | changes)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter *= 3
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scripts_caption_images", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where the types of its options are looked up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("runs") / "a captioner")


@pytest.fixture(scope="session")
def model(captioner: Path) -> ImageCaptioner:
    return ImageCaptioner.from_pretrained(captioner)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, 0 red.png, 1 lime.png, ..."""
    folder = tmp_path_factory.mktemp("data") / "some photos"
    folder.mkdir()
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (20, 12), colour).save(folder / f"{number} {colour}.png")
    return folder


@pytest.fixture(scope="session")
def files(photos: Path) -> list[str]:
    return [str(path) for path in sorted(photos.iterdir())]


@pytest.fixture
def caption(run: Run, script: ModuleType, captioner: Path) -> Run:
    def start(*arguments: object, stdin: bytes = b"") -> Any:
        return run(script, captioner, *arguments, stdin=stdin)

    return start


def table(files: list[str], captions: list[str]) -> str:
    return "".join(f"{file}\t{text}\n" for file, text in zip(files, captions, strict=True))


def test_images_come_from_arguments_folders_or_standard_input(
    caption: Run, model: ImageCaptioner, photos: Path, files: list[str]
) -> None:
    captions = model.caption(files)
    assert len(set(captions)) > 3
    for result in (caption(*files), caption(photos), caption(stdin="\n".join(files).encode())):
        assert (result.code, result.out) == (0, table(files, captions))
    empty = caption(stdin=b"")
    assert (empty.code, empty.out, empty.err) == (0, "", "")


def test_several_captions_of_an_image(caption: Run, model: ImageCaptioner, files: list[str]) -> None:
    expected = list(model.captions(files, n_best=3))
    result = caption(*files, "--n_best", 3, "--format", "jsonl")
    found = [json.loads(line) for line in result.out.splitlines()]
    assert [one["file"] for one in found] == files
    for one, captions in zip(found, expected, strict=True):
        assert one.keys() == {"file", "captions"}
        assert [(shown["text"], shown["finished"]) for shown in one["captions"]] == [
            (caption.text, caption.finished) for caption in captions
        ]
        assert [shown["score"] for shown in one["captions"]] == pytest.approx([c.score for c in captions], abs=1e-5)
    lines = caption(*files, "--n_best", 3).out
    assert lines == table(
        [file for file in files for _ in range(3)], [one.text for captions in expected for one in captions]
    )


def test_settings_reach_the_search(
    caption: Run, model: ImageCaptioner, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[dict[str, Any]] = []
    search = ImageCaptioner.captions_of

    def captions_of(self: ImageCaptioner, images: torch.Tensor, **options: Any) -> list[list[Caption]]:
        used.append(options)
        return search(self, images, **options)

    usual = {"num_beams": 5, "n_best": 1, "length_penalty": None, "no_repeat_ngram_size": None, "mirrored": None}
    usual |= {"neighbours": 0}
    for settings in ({}, {"num_beams": 1}, {"length_penalty": 0.7}, {"no_repeat_ngram_size": 1, "num_beams": 2}):
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        expected = table(files, model.caption(files, **settings))
        monkeypatch.setattr(ImageCaptioner, "captions_of", captions_of)
        assert caption(*files, *arguments).out == expected
        monkeypatch.undo()
        assert used.pop() == usual | settings
        assert not used


def test_images_are_looked_at_mirrored_if_that_is_asked_for(
    caption: Run, model: ImageCaptioner, tmp_path: Path
) -> None:
    file = tmp_path / "two sides.png"
    image = Image.new("RGB", (16, 16), "red")
    image.paste("blue", (0, 0, 5, 16))
    image.save(file)
    scores = []
    for asked, mirror in (((), False), (("--mirror", "false"), False), (("--mirror", "true"), True)):
        (line,) = caption(file, "--format", "jsonl", *asked).out.splitlines()
        ((expected,),) = model.captions([file], mirror=mirror)
        scores.append(json.loads(line)["captions"][0]["score"])
        assert scores[-1] == pytest.approx(expected.score, abs=1e-5)
    assert scores[0] == scores[1] != scores[2]


def test_neighbours_choose_if_that_is_asked_for_or_the_run_has_them(
    caption: Run, run: Run, script: ModuleType, model: ImageCaptioner, files: list[str], tmp_path: Path
) -> None:
    other = ImageCaptioner(**model.config | {"neighbours": 1}, tokenizer=model.tokenizer).eval()
    other.load_state_dict(model.state_dict())
    pictures = torch.cat(list(image_batches(files, model.encoder.image_size, model.resize)))
    other.remember([pictures], [[f"a {colour} picture"] for colour, _ in zip(COLOURS, files, strict=True)])
    other.save_pretrained(tmp_path)
    shown = {}
    for arguments in ((), ("--neighbours", 0), ("--neighbours", 2)):
        expected = other.caption(files, neighbours=arguments[1] if arguments else None)
        shown[arguments] = run(script, tmp_path, *files, *arguments).out
        assert shown[arguments] == table(files, expected)
    assert len(set(shown.values())) > 1
    (tmp_path / NEIGHBOURS_FILE).unlink()  # as while it trains
    for arguments in ((), ("--neighbours", 0)):
        result = run(script, tmp_path, *files, *arguments)
        assert result.out == shown["--neighbours", 0]
        assert (f"{tmp_path} has no {NEIGHBOURS_FILE}" in result.err) == (not arguments)
    assert caption(files[0], "--neighbours", 2).is_an_error("neighbours is 2, but this captioner was given no images")
    assert caption(files[0], "--neighbours", -1).is_an_error("neighbours is -1, but must be from 0 (none) to 100")


def test_captions_that_have_no_end_are_counted(caption: Run, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    best = [[Caption("a", 0.0, number % 3 == 0), Caption("b", 0.0, False)] for number in range(len(files))]
    monkeypatch.setattr(ImageCaptioner, "captions_of", lambda self, images, **options: best)
    result = caption(*files, "--n_best", 2)
    assert (result.code, result.out.count("\n")) == (0, 12)
    assert result.err == "4 captions were cut at 6 tokens, this run's longest\n"


def test_a_line_for_a_caption_whatever_is_in_it_and_in_the_path(
    caption: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = Caption("a\nred\t\u2028picture\x1b", -1.5, True)
    monkeypatch.setattr(ImageCaptioner, "captions_of", lambda self, images, **options: [[odd] for _ in images])
    names = ["a\tb\nc.png", os.fsdecode(b"Zo\xeb.png"), "日本語 🎉.png"]
    for name in names:
        Image.new("RGB", (3, 3)).save(name)
    result = caption(*names)
    assert (result.code, result.err) == (0, "")
    caption_shown = "a red picture\ufffd"
    assert result.out == table(["a\ufffdb\ufffdc.png", "Zo\ufffd.png", names[2]], [caption_shown] * 3)
    result = caption(*names, "--format", "jsonl")
    found = [json.loads(line) for line in result.out.split("\n")[:-1]]
    assert [one["file"] for one in found] == [names[0], "Zo\ufffd.png", names[2]]
    assert {shown["text"] for one in found for shown in one["captions"]} == {odd.text}
    assert "日本語 🎉" in result.out


# --- pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_where_the_model_looked_is_drawn_over_the_image(
    run: Run, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resize: str
) -> None:
    captioner = saved(tmp_path / "run", resize=resize)
    wide = Image.new("RGB", (60, 20), "red")
    wide.paste("blue", (20, 0, 40, 20))
    wide.save(tmp_path / "wide.png")
    drawn: list[Any] = []
    draw = script.draw_attention
    monkeypatch.setattr(script, "draw_attention", lambda *given: (drawn.append(given), draw(*given)))
    result = run(script, captioner, tmp_path / "wide.png", "--attention", tmp_path / "looked.png")
    assert result.code == 0, result
    assert matplotlib.image.imread(tmp_path / "looked.png").size > 10_000
    ((image, words, weights, _),) = drawn
    assert "".join(words).removesuffix("</s>").strip() == result.out.rstrip("\n").split("\t")[1]
    assert weights.shape == (len(words), 2, 2)
    if resize == "crop":  # the grid lies over the middle
        assert (image.size, image.getcolors()) == ((20, 20), [(400, (0, 0, 255))])
    else:
        assert image.size == (60, 20)


def test_attention_is_drawn_of_one_image(caption: Run, photos: Path, files: list[str], tmp_path: Path) -> None:
    picture = tmp_path / "no.png"
    refused = "--attention draws where the model looked in one image: give one image"
    assert caption(*files, "--attention", picture).is_an_error(refused)
    assert caption(photos, "--attention", picture).is_an_error(refused)
    assert caption("--attention", picture, stdin=files[0].encode()).is_an_error(refused)
    assert caption(files[0], "--attention", tmp_path / "no" / "a.png").is_an_error("there is no folder")
    assert caption(photos / "no.png", "--attention", picture).is_an_error("no such file")
    assert not picture.exists()


def test_without_attention_there_is_nothing_to_draw(
    run: Run, script: ModuleType, files: list[str], tmp_path: Path
) -> None:
    plain = saved(tmp_path / "plain", attention=None)
    assert run(script, plain, *files).code == 0
    result = run(script, plain, files[0], "--attention", tmp_path / "no.png")
    assert result.is_an_error("was trained without attention: it looks nowhere that could be drawn")
    assert not (tmp_path / "no.png").exists()


# --- many images --------------------------------------------------------------------------------------------------


def test_images_stream_through(captioner: Path, model: ImageCaptioner, files: list[str], spawn: Run) -> None:
    """Captions come while more images are still to come, and there is one for each, in order."""
    process = spawn("caption_images", captioner, "--num_beams", 1, stdin=subprocess.PIPE)
    names = files * (3 * BATCH // len(files) + 1)
    first, second = names[: 2 * BATCH + 5], names[2 * BATCH + 5 :]
    feeding = threading.Thread(target=lambda: (process.stdin.write("\n".join(first) + "\n"), process.stdin.flush()))
    feeding.start()
    early = [process.stdout.readline() for _ in range(2 * BATCH)]  # two batches, while standard input is open
    feeding.join()
    rest, errors = process.communicate("\n".join(second), timeout=60)
    best = dict(zip(files, model.caption(files, num_beams=1), strict=True))
    assert "".join(early) + rest == table(names, [best[name] for name in names])
    assert process.returncode == 0
    assert errors == "" or errors.endswith("captions were cut at 6 tokens, this run's longest\n")


# --- bad input ----------------------------------------------------------------------------------------------------


def test_the_others_are_captioned_where_some_are_broken(
    caption: Run, model: ImageCaptioner, files: list[str], tmp_path: Path
) -> None:
    (tmp_path / "bad\n.png").write_bytes(b"GIF89a")
    (tmp_path / "empty").mkdir()
    given = ["no.png", files[2], tmp_path / "bad\n.png", files[4], tmp_path / "empty"]
    result = caption(*given)
    assert (result.code, result.out) == (2, table([files[2], files[4]], model.caption([files[2], files[4]])))
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert errors[0].startswith("error: no.png: no such file")
    assert errors[1].startswith(f"error: {tmp_path}/bad\ufffd.png is damaged")
    assert errors[2].startswith(f"error: {tmp_path}/empty has no images: expected files that end in .jpg")
    assert errors[3:] == ["error: 3 of 5 images could not be read"]


@pytest.mark.parametrize(
    ("stdin", "arguments", "match"),
    [
        (b"a\0b\n", [], "standard input, line 1 is no path"),
        (b"", ["no.png"], "no.png: no such file"),
        (b"no.png\n", [], "no.png: no such file"),
        (b"", [""], "the name of an image is empty"),
        (b"", ["no.png", "--num_beams", "0"], "num_beams is 0, but must be from 1"),
        (b"", ["no.png", "--n_best", "9"], "n_best is 9, but must be from 1 to num_beams, 5"),
        (b"", ["no.png", "--length_penalty", "-1"], "length_penalty is -1.0"),
        (b"", ["no.png", "--no_repeat_ngram_size", "0"], "no_repeat_ngram_size is 0"),
        (b"", ["no.png", "--format", "xml"], "format"),
        (b"", ["no.png", "--device", "abacus"], "device is abacus"),
        (b"", ["no.png", "--attention", "no/such/a.png"], "there is no folder no/such"),
        (b"", ["--beams", "3"], "--beams"),
    ],
)
def test_bad_input(caption: Run, stdin: bytes, arguments: list[str], match: str) -> None:
    result = caption(*arguments, stdin=stdin)
    assert result.is_an_error(match), result


def test_a_run_of_another_kind(run: Run, script: ModuleType, photos: Path, tmp_path: Path) -> None:
    TextClassifier(vocab_size=5, labels=["a", "b"], embedding_size=4, hidden_size=4).save_pretrained(tmp_path / "texts")
    result = run(script, tmp_path / "texts", photos)
    assert result.is_an_error("is of a TextClassifier, but "), result
    assert run(script, photos, photos).is_an_error("has no config.json: it is not a saved model")
    assert run(script, "no/such/run", photos).is_an_error("no/such/run is not a folder here")
    assert run(script).is_an_error("run")
    wordless = saved(tmp_path / "wordless", tokenizer=None, vocab_size=9)
    assert run(script, wordless, photos).is_an_error("this ImageCaptioner has no tokenizer")
