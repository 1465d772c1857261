"""The captioner's training script from end to end, on tiny settings."""

import functools
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.image
import pytest
import torch
import yaml
from safetensors.torch import load_file

from zoo.core import ATTENTIONS, CELLS
from zoo.data import scene_data
from zoo.data.caption_text import plain_words
from zoo.data.captioned_images import load_captioned_images
from zoo.data.image_tensors import image_batches
from zoo.evaluation.captions import caption_figures, signatures
from zoo.one_to_many import Caption, ImageCaptioner
from zoo.one_to_many.nearest_captions import NEIGHBOURS_FILE

pytestmark = pytest.mark.usefixtures("without_pictures")  # but for the finished run's
Run = Callable[..., Any]
FILES = {
    ".lock",
    "config.yaml",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "README.md",
    "metrics.jsonl",
    "metrics.json",
    "curves.png",
    "samples.txt",
    "resume.safetensors",
    "resume.previous.safetensors",
    *(f"{split}_{name}" for split in ("validation", "test") for name in ("captions.txt", "captions.png")),
    *(f"{split}_{name}" for split in ("validation", "test") for name in ("worst.jsonl", "attention.png")),
}
FIGURES = {
    *("bleu_1", "bleu_2", "bleu_3", "bleu_4", "chrf", "cider_d"),
    *("distinct_captions", "seen_captions", "words_per_caption"),
}


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text("utf-8"))
    return found


def lines(file: Path) -> list[str]:
    return file.read_text("utf-8").split("\n")[:-1]


# --- a run and its folder -----------------------------------------------------------------------------------------


def test_the_run_folder_explains_itself(finished_captioner: Path, photos: Path) -> None:
    folder = finished_captioner
    assert {file.name for file in folder.iterdir()} == FILES
    options = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    assert (options["data"], options["hidden_size"], options["max_steps"]) == (str(photos), 32, 40)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert (config["architecture"], config["attention"]) == ("ImageCaptioner", "multihead")
    assert config["max_length"] == 12  # "red is on the left of white", and five
    for file in folder.glob("*.png"):
        assert matplotlib.image.imread(file).size > 10_000
    history = [json.loads(line) for line in lines(folder / "metrics.jsonl")]
    assert [line["step"] for line in history] == [20, 40]
    assert all(line.keys() >= FIGURES for line in history)
    samples = (folder / "samples.txt").read_text("utf-8")
    assert [line for line in samples.splitlines() if line.startswith("---")] == ["--- step 20 ---", "--- step 40 ---"]


def test_the_final_figures_are_those_of_the_saved_model(finished_captioner: Path, photos: Path) -> None:
    found, data = figures(finished_captioner), load_captioned_images(str(photos))
    model = ImageCaptioner.from_pretrained(finished_captioner)
    known = {plain_words(caption) for captions in data.train.captions for caption in captions}
    for name, split in {"validation": data.validation, **data.tests}.items():
        references = [[plain_words(caption) for caption in captions] for captions in split.captions]
        captions = model.caption([image.content for image in split.images])
        assert lines(finished_captioner / f"{name}_captions.txt") == captions
        expected = caption_figures(captions, references, known)
        assert found[name] == pytest.approx(expected)
        assert found[name].keys() == FIGURES
        worst = [json.loads(line) for line in lines(finished_captioner / f"{name}_worst.jsonl")]
        assert len(worst) == len(split)  # fewer than 20
        scores = [one["cider_d"] for one in worst]
        assert scores == sorted(scores)
        assert sum(scores) / len(scores) == pytest.approx(expected["cider_d"])
        places = [image.place for image in split.images]
        for one in worst:
            number = places.index(one["image"])
            assert (one["hypothesis"], one["references"]) == (captions[number], references[number])
    assert found["validation"]["bleu_1"] > 50
    assert found["signatures"] == signatures([["a"], ["a", "b"], ["a", "b", "c"]])
    assert (found["num_beams"], found["length_penalty"]) == (5, 0.0)
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert (found["steps"], found["seed"], found["precision"]) == (40, 0, "float32")


def test_final_figures_are_of_both_views_where_the_model_is_to_look_at_both(
    train_captioner: Run, photos: Path, trunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether features are cached or not; and so the saved model describes the files from then on."""
    data = load_captioned_images(str(photos))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    search = ImageCaptioner.captions_of

    def noting(self: ImageCaptioner, images: torch.Tensor, **options: Any) -> list[list[Caption]]:
        if options.get("mirrored") is not None:
            seen.append((images, options["mirrored"]))
        return search(self, images, **options)

    for name, more in (("cached", {"weights": trunk, "cache": tmp_path / "cache"}), ("recomputed", {})):
        monkeypatch.setattr(ImageCaptioner, "captions_of", noting)
        options = {"augment": "none", "precision": "float32", **more}
        result = train_captioner(tmp_path / name, mirror=True, **options)
        assert result.code == 0, result
        monkeypatch.undo()
        assert figures(tmp_path / name)["mirror"] is True
        model = ImageCaptioner.from_pretrained(tmp_path / name)
        files = [image.content for image in data.validation.images]
        given = torch.cat(list(image_batches(files, model.encoder.image_size, model.resize)))
        views, expected = seen[0], (given, given.flip(3))
        if name == "cached":
            with torch.inference_mode():
                expected = (model.encoder.eval()(given), model.encoder(given.flip(3)))
        for view, wanted in zip(views, expected, strict=True):
            torch.testing.assert_close(view, wanted)
        assert lines(tmp_path / name / "validation_captions.txt") == model.caption(files)
        seen.clear()


@pytest.mark.parametrize("cached", [True, False])
def test_a_run_with_concepts_and_neighbours(
    train_captioner: Run, photos: Path, trunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    """It remembers training images, and so it describes the files as its figures say it does."""
    most = 7
    monkeypatch.setattr(sys.modules["scripts_train_image_captioner"], "REMEMBERED", most)
    options = {"weights": trunk, "cache": tmp_path / "cache"} if cached else {}
    options |= {"num_concepts": 4, "neighbours": 3, "augment": "none", "precision": "float32"}
    assert train_captioner(tmp_path / "run", **options).code == 0
    model, data = ImageCaptioner.from_pretrained(tmp_path / "run"), load_captioned_images(str(photos))
    assert model.concepts is not None and model.remembered is not None
    assert model.neighbours == figures(tmp_path / "run")["neighbours"] == 3
    count = min(len(data.train), most)
    kept = [number * len(data.train) // count for number in range(count)]
    assert len(model.remembered.captions) == count
    files = [data.train.images[number].content for number in kept]
    given = torch.cat(list(image_batches(files, model.encoder.image_size, model.resize)))
    said = [list(map(plain_words, data.train.captions[number])) for number in kept]
    written = model.remembered
    model.remember([given], said)
    torch.testing.assert_close(written.directions.float(), model.remembered.directions.float(), atol=2e-3, rtol=2e-2)
    assert torch.equal(written.captions, model.remembered.captions)
    model.remembered = written
    found = lines(tmp_path / "run" / "validation_captions.txt")
    assert found == model.caption([image.content for image in data.validation.images])


def test_a_run_with_neighbours_goes_on_after_its_end(train_captioner: Run, tmp_path: Path) -> None:
    """What was remembered at its end is beside its weights, which are what they were, and then made anew."""
    options = {"num_concepts": 4, "neighbours": 3}
    kept = []
    for max_steps, more in ((4, ()), (40, ("--resume",))):
        result = train_captioner(tmp_path / "run", *more, max_steps=max_steps, **options)
        assert result.code == 0, result
        files = [tmp_path / "run" / name for name in (NEIGHBOURS_FILE, "model.safetensors")]
        kept.append((*map(load_file, files), files[0].stat().st_mtime_ns))
    (first, before, then), (second, after, later) = kept
    assert then < later
    assert torch.equal(first["captions"], second["captions"])
    # The best weights may still be those of before.
    same = all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(first["directions"], second["directions"]) == same


def test_scenes(train_captioner: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions are judged by their truth, and so is which weights are best."""
    fewer = functools.partial(scene_data.caption_scenes, train=30, validation=6, test=4)
    monkeypatch.setattr(scene_data, "caption_scenes", fewer)
    result = train_captioner(tmp_path / "run", data="scenes", evaluations=3)
    assert result.code == 0, result
    assert "scenes: 30 images with 150 captions to train on, 6 validation, 4 test, 4 unseen, vocabulary" in result.out
    assert "note: unseen: every object is of a colour and shape that no other split has together" in result.out
    found = figures(tmp_path / "run")
    for name, count in (("validation", 6), ("test", 4), ("unseen", 4)):
        captions = lines(tmp_path / "run" / f"{name}_captions.txt")
        scenes = fewer(0).validation if name == "validation" else fewer(0).tests[name]
        assert scenes.is_true is not None
        true = [scenes.is_true(number, caption) for number, caption in enumerate(captions)]
        assert found[name].keys() == FIGURES | {"true_captions"}
        assert (len(captions), found[name]["true_captions"]) == (count, sum(true) / count)
    history = [json.loads(line) for line in lines(tmp_path / "run" / "metrics.jsonl")]
    best = max(history, key=lambda line: line["true_captions"])
    assert found["best_step"] == best["step"]
    assert shlex.split(result.out.splitlines()[-1])[-1] == "IMAGE"


def test_the_last_line_is_a_command_to_try(train_captioner: Run, photos: Path, tmp_path: Path) -> None:
    result = train_captioner(tmp_path / "a run")
    words = shlex.split(result.out.splitlines()[-1].removeprefix("try: "))
    assert words[:3] == ["python", "scripts/caption_images.py", str(tmp_path / "a run")]
    assert Path(words[3]).is_file()
    assert Path(words[3]).is_relative_to(photos / "val")


def test_a_line_for_each_caption_whatever_is_in_it(
    train_captioner: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = [Caption("one\ntwo\r\x85three", 0.0, False)]
    monkeypatch.setattr(ImageCaptioner, "captions_of", lambda self, images, **options: [odd] * len(images))
    result = train_captioner(tmp_path / "run")
    assert result.code == 0, result
    assert (tmp_path / "run" / "test_captions.txt").read_text("utf-8") == "one two three\n" * 6


def test_a_caption_without_an_end_is_drawn_in_part(
    train_captioner: Run, train_captioner_script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = [Caption("red " * 2_000, 0.0, False)]
    monkeypatch.setattr(ImageCaptioner, "captions_of", lambda self, images, **options: [endless] * len(images))
    drawn = []
    monkeypatch.setattr(train_captioner_script, "draw_attention", lambda image, *given: drawn.append(given))
    result = train_captioner(tmp_path / "run")
    assert result.code == 0, result
    for words, weights, _ in drawn:
        assert words == ["red", *[" red"] * 55]
        assert weights.shape == (56, 2, 2)
    assert len(drawn) == 2


# --- models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "plain"), [("char", "true"), ("char", "false"), ("word", "false"), ("bpe", "true")])
def test_levels(train_captioner: Run, tmp_path: Path, level: str, plain: str) -> None:
    size = {"tokenizer_size": 270} if level == "bpe" else {}
    result = train_captioner(tmp_path / "run", level=level, plain=plain, **size)
    assert result.code == 0, result
    # It was evaluated, and saved, only once.
    assert {file.name for file in (tmp_path / "run").iterdir()} == FILES - {"resume.previous.safetensors"}
    tokenizer = ImageCaptioner.from_pretrained(tmp_path / "run").require_tokenizer()
    assert tokenizer.level == level
    text = "there 's red and blue" if plain == "true" else "There's red, and blue!"
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    ("attention", "cell", "options"),
    [
        ("none", "gru", {"num_layers": 1, "tied": "false"}),
        ("additive", "mingru", {"num_layers": 3}),
        ("general", "rnn", {"optimizer": "adamw", "feature_dropout": 0.2}),
        ("multihead", "minlstm", {"num_heads": 1, "resize": "crop", "augment": "shift"}),
        ("multihead", "lstm", {"weight_dropout": 0.2, "embedding_dropout": 0.1, "input_dropout": 0.1}),
    ],
)
def test_attentions_and_cells(
    train_captioner: Run, tmp_path: Path, attention: str, cell: str, options: dict[str, object]
) -> None:
    result = train_captioner(tmp_path / "run", attention=attention, cell=cell, num_beams=2, **options)
    assert result.code == 0, result
    pictures = {file.name for file in (tmp_path / "run").glob("*_attention.png")}
    assert pictures == (set() if attention == "none" else {"validation_attention.png", "test_attention.png"})
    config = ImageCaptioner.from_pretrained(tmp_path / "run").config
    assert config["attention"] == (None if attention == "none" else attention)
    assert config["cell"] == cell
    shown = {name: config[name] for name in options.keys() & config.keys()}
    assert {name: str(value).lower() for name, value in shown.items()} == {
        name: str(options[name]).lower() for name in shown
    }
    assert figures(tmp_path / "run")["num_beams"] == 2


def test_every_attention_and_cell_is_among_those() -> None:
    (mark,) = test_attentions_and_cells.pytestmark  # type: ignore[attr-defined]
    attentions, cells, _ = zip(*mark.args[1], strict=True)
    assert set(attentions) == {"none", *ATTENTIONS}
    assert set(cells) == set(CELLS)


def test_a_network_of_torchvision_that_learns_from_nothing(train_captioner: Run, tmp_path: Path) -> None:
    result = train_captioner(tmp_path / "run", backbone="squeezenet1_1", image_size=40, max_steps=1)
    assert result.code == 0, result
    assert "; squeezenet1_1, " in result.out
    assert ImageCaptioner.from_pretrained(tmp_path / "run").encoder.grid == (2, 2)
