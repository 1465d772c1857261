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

import pytest
import torch
from accelerate.state import AcceleratorState

from zoo.command_line import run_script

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
    return module


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
        AcceleratorState._reset_state(True)  # accelerate keeps one precision for the whole process
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
        AcceleratorState._reset_state(True)
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
