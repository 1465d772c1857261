"""Running a script's `main` in this process, and a tiny run to use."""

import functools
import importlib.util
import io
import itertools
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from zoo.command_line import run_script
from zoo.one_to_one import ImageClassifier, ImageEncoder

SCRIPTS = Path(__file__).parents[2] / "scripts"
# What makes a run of each training script tiny.
TINY: dict[str, dict[str, object]] = {
    "train_text_generator": {
        "max_steps": 4,
        "evaluations": 2,
        "hidden_size": 16,
        "embedding_size": 8,
        "ngram_buckets": 100,
        "batch_size": 4,
        "window": 8,
        "markov_order": 3,
    },
    "train_text_classifier": {
        "max_steps": 40,
        "evaluations": 2,
        "hidden_size": 12,
        "embedding_size": 8,
        "ngram_buckets": 100,
        "ngram_order": 2,
        "batch_size": 16,
        "markov_order": 3,
        "learning_rate": 0.02,
    },
    "train_translator": {
        "max_steps": 3,
        "evaluations": 1,
        "hidden_size": 8,
        "embedding_size": 8,
        "num_heads": 2,
        "batch_size": 16,
        "learning_rate": 0.02,
    },
    "train_image_captioner": {
        "max_steps": 3,
        "evaluations": 1,
        "image_size": 16,
        "hidden_size": 8,
        "embedding_size": 8,
        "num_heads": 2,
        "min_frequency": 1,
        "batch_size": 8,
        "learning_rate": 0.02,
    },
    "train_image_classifier": {
        "max_steps": 40,
        "evaluations": 2,
        "image_size": 16,
        "batch_size": 16,
    },
}
TEXT = "".join(f"{n} green bottles, hanging on the wall; {n * n} more.\n" for n in range(40))


@dataclass(frozen=True)
class Result:
    """What a script left on its way out."""

    code: int | str | None
    out: str
    err: str

    def is_an_error(self, match: str) -> bool:
        """Exactly one line on stderr, exit code 2; the message has `match` in it."""
        one_line = self.err.startswith("error: ") and self.err.endswith("\n") and self.err.count("\n") == 1
        return self.code == 2 and one_line and match in self.err and self.out == ""


@functools.cache
def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if name == "train_text_generator":
        # A tiny run would write samples for three quarters of its time.
        module.SAMPLE_TOKENS, module.FINAL_SAMPLE_TOKENS = 20, 30  # type: ignore[attr-defined]
    return module


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    return load


@pytest.fixture(scope="session")
def train_script() -> ModuleType:
    return load("train_text_generator")


@pytest.fixture(scope="session")
def generate_script() -> ModuleType:
    return load("generate_text")


@pytest.fixture(scope="session")
def train_classifier_script() -> ModuleType:
    return load("train_text_classifier")


@pytest.fixture(scope="session")
def classify_script() -> ModuleType:
    return load("classify_text")


@pytest.fixture(scope="session")
def train_translator_script() -> ModuleType:
    return load("train_translator")


@pytest.fixture(scope="session")
def translate_script() -> ModuleType:
    return load("translate")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Bit for bit what a process with OMP_NUM_THREADS=1 computes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`run(module, *arguments, stdin=b"")` is the script's process, but in this one."""

    def start(module: ModuleType, *arguments: object, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "argv", [str(module.__file__), *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_script(module.main)
        captured = capsys.readouterr()
        return Result(ended.value.code, captured.out, captured.err)

    return start


def tiny(script: str, **changes: object) -> list[str]:
    """The options of a tiny run of a training script."""
    options = {"device": "cpu", "precision": "float32"} | TINY[script] | changes
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def train_tiny(run: Callable[..., Result], script: str, out: Path, *arguments: object, **changes: object) -> Result:
    return run(load(script), "--out", out, *tiny(script, **changes), *arguments)


@pytest.fixture(scope="session")
def finish(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`finish(script, **changes)`: the folder of a tiny run that is trained to its end; not to be written to."""

    def start(script: str, **changes: object) -> Path:
        folder = tmp_path_factory.mktemp("runs") / f"finished by {script}"
        torch.set_num_threads(1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [script, "--out", str(folder), *tiny(script, **changes)])
            assert load(script).main() == 0
        return folder

    return start


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "bottles of text.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


@pytest.fixture
def train(run: Callable[..., Result], text_file: Path) -> Callable[..., Result]:
    """`train(out, *arguments, **changes)`: a tiny run on `text_file`."""
    return functools.partial(train_tiny, run, "train_text_generator", data=text_file)


@pytest.fixture(scope="session")
def finished_run(finish: Callable[..., Path], text_file: Path) -> Path:
    return finish("train_text_generator", data=text_file, max_steps=6)


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.csv and test.csv: short reviews of four stars and two labels, in upper and lower case."""
    folder = tmp_path_factory.mktemp("data") / "some reviews"
    folder.mkdir()
    kinds = {"good": ("fine", "lovely", "a joy"), "bad": ("dull", "awful", "a bore")}
    lines = [
        f'{label},"The {thing}, it was {number % 7 * "very "}{word}."'
        for number, thing in enumerate(("film", "Book", "play", "song", "meal", "trip", "town", "game"))
        for label, words in kinds.items()
        for word in words
    ]
    for name, part in (("train", lines[:36]), ("test", lines[36:])):
        (folder / f"{name}.csv").write_text("\n".join(["label,text", *part]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def train_classifier(run: Callable[..., Result], reviews: Path) -> Callable[..., Result]:
    """`train_classifier(out, *arguments, **changes)`: a tiny run on `reviews`."""
    return functools.partial(train_tiny, run, "train_text_classifier", data=reviews)


@pytest.fixture(scope="session")
def finished_classifier(finish: Callable[..., Path], reviews: Path) -> Path:
    return finish("train_text_classifier", data=reviews)


@pytest.fixture(scope="session")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train, val and test in English and French: 200, 16 and 12 short sentences."""
    folder = tmp_path_factory.mktemp("data") / "some sentences"
    folder.mkdir()
    nouns = {"dog": "chien", "cat": "chat", "fish": "poisson", "king": "roi", "friend": "ami"}
    verbs = {"sees": "voit", "loves": "aime", "follows": "suit"}
    words = {"red": "rouge", "big": "énorme", "sad": "triste", "clean": "propre"}
    pairs = [
        (f"The {word} {one} {verb} the {two}.", f"Le {nouns[one]} {words[word]} {verbs[verb]} le {nouns[two]}.")
        for word, one, verb, two in itertools.product(words, nouns, verbs, nouns)
    ]
    random.Random(0).shuffle(pairs)
    for name, part in (("train", pairs[:200]), ("val", pairs[200:216]), ("test", pairs[216:228])):
        for language, texts in zip(("en", "fr"), zip(*part, strict=True), strict=True):
            (folder / f"{name}.{language}").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return folder


@pytest.fixture
def train_translator(run: Callable[..., Result], sentences: Path) -> Callable[..., Result]:
    """`train_translator(out, *arguments, **changes)`: a tiny run on `sentences`."""
    return functools.partial(train_tiny, run, "train_translator", data=sentences)


@pytest.fixture(scope="session")
def finished_translator(finish: Callable[..., Path], sentences: Path) -> Path:
    """A run that translates most of `sentences`."""
    options = {"hidden_size": 32, "embedding_size": 16, "max_steps": 140, "evaluations": 2}
    return finish("train_translator", data=sentences, **options)


@pytest.fixture(scope="session")
def train_captioner_script() -> ModuleType:
    return load("train_image_captioner")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train, val and test, 18, 6 and 6 images of two colours beside each other, and captions.txt.

    An image has one caption to three.
    """
    folder = tmp_path_factory.mktemp("data") / "some photos"
    colours = {"red": (220, 30, 30), "green": (20, 160, 40), "blue": (20, 40, 230), "white": (250, 250, 250)}
    colours |= {"black": (5, 5, 5), "yellow": (240, 220, 20)}
    pairs = list(itertools.permutations(colours, 2))
    random.Random(0).shuffle(pairs)
    lines = []
    for number, (left, right) in enumerate(pairs):
        name = f"{'train' if number < 18 else 'val' if number < 24 else 'test'}/{number}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (20, 14), colours[left])
        image.paste(colours[right], (10, 0, 20, 14))
        image.save(folder / name)
        captions = [f"{left} is on the left of {right} .", f"There's {right}, and {left}!", f"{right} on the right"]
        lines += [f"{name}#{place}\t{captions[place]}\n" for place in range(1 + number % 3)]
    (folder / "captions.txt").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def train_captioner(run: Callable[..., Result], photos: Path) -> Callable[..., Result]:
    """`train_captioner(out, *arguments, **changes)`: a tiny run on `photos`."""
    return functools.partial(train_tiny, run, "train_image_captioner", data=photos)


@pytest.fixture
def without_pictures(train_captioner_script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of no content in their place: drawing takes most of a tiny run's time."""

    def touch(*arguments: Any) -> None:
        next(argument for argument in arguments if isinstance(argument, Path)).touch()

    for name in ("draw_captions", "draw_attention", "draw_curves"):
        monkeypatch.setattr(train_captioner_script, name, touch)


@pytest.fixture(scope="session")
def finished_captioner(finish: Callable[..., Path], photos: Path) -> Path:
    """A run that tells most of the colours of `photos`."""
    options = {"hidden_size": 32, "embedding_size": 16, "max_steps": 40, "evaluations": 2}
    return finish("train_image_captioner", data=photos, **options)


@pytest.fixture(scope="session")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state dict of the small network for images, as if it had been trained elsewhere."""
    torch.manual_seed(5)
    file = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(ImageEncoder("small", 16).trunk.state_dict(), file)
    return file


@pytest.fixture(scope="session")
def saved_image_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an image classifier that was not trained."""
    torch.manual_seed(6)
    folder = tmp_path_factory.mktemp("runs") / "an image classifier"
    ImageClassifier(labels=["red", "blue"], image_size=16, resize="crop").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def train_image_classifier_script() -> ModuleType:
    return load("train_image_classifier")


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train, val and test, each with a folder a label: 60, 12 and 9 images of three kinds."""
    folder = tmp_path_factory.mktemp("data") / "some shapes"
    draw = random.Random(0)
    for split, count in (("train", 20), ("val", 4), ("test", 3)):
        for label in ("bars", "disc", "square"):
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                dark = tuple(draw.randrange(100) for _ in range(3))
                light = tuple(draw.randrange(160, 256) for _ in range(3))
                image = Image.new("RGB", (24, 18), dark)
                pen = ImageDraw.Draw(image)
                x, y = draw.randrange(2, 10), draw.randrange(1, 5)
                if label == "bars":
                    for row in range(0, 18, 6):
                        pen.rectangle((0, row, 23, row + 2), light)
                else:
                    (pen.ellipse if label == "disc" else pen.rectangle)((x, y, x + 11, y + 11), light)
                image.save(folder / split / label / f"{number}.png")
    return folder


@pytest.fixture
def train_image_classifier(run: Callable[..., Result], shapes: Path) -> Callable[..., Result]:
    """`train_image_classifier(out, *arguments, **changes)`: a tiny run on `shapes`."""
    return functools.partial(train_tiny, run, "train_image_classifier", data=shapes)


@pytest.fixture(scope="session")
def finished_image_classifier(finish: Callable[..., Path], shapes: Path) -> Path:
    return finish("train_image_classifier", data=shapes)


@pytest.fixture
def spawn() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """A real process of a script, with one thread."""
    started = []

    def start(name: str, *arguments: object, **options: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, arguments)],
            **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options),  # type: ignore[call-overload]
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()  # does nothing where it has ended
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture(scope="session")
def tiny_arguments() -> Callable[..., list[str]]:
    return tiny
