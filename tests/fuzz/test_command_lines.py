"""Command lines of options and files at random: text, or one line that begins with "error: ", but no traceback."""

import dataclasses
import io
import itertools
import json
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.conftest import Attack
from tests.fuzz.hostile import changed
from tests.fuzz.readers import SCRIPTS, script
from tests.fuzz.reading_process import Case
from tests.fuzz.test_models import models

HUGE = ("1000000000000", "1" + "0" * 30)
ENDLESS = ("max_new_tokens", "num_return")  # of such an option a huge value is no mistake: it writes and writes
# No path that is there but for those in the case's folder: some options name what is written.
VALUES = (
    *("0", "1", "2", "3", "-1", "0.5", "-0.1", "1e-300", "1e30", "nan", "inf", "-inf", *HUGE),
    *(
        "",
        " ",
        "x",
        "true",
        "no",
        "null",
        "~",
        "[",
        "{a: b}",
        "[a, b]",
        "- a",
        "a: b: c",
        "!!python/name:os.system",
        "#",
        "*a",
    ),
    *(
        "\udcff",
        "\u2028",
        "\x1b[2J",
        "a" * 5000,
        "-",
        "--",
        "--x",
        "=",
        "@",
        "/nonexistent/x",
        "..",
        "none.txt",
        "a/b/c",
    ),
    *("text.txt", "rows.csv", "rows.jsonl", "pairs", "pictures", "ok.yaml", "bad.yaml", "bomb.yaml", "run", "a.png"),
    *("char", "word", "bpe", "lstm", "mingru", "transformer", "multihead", "none", "cpu", "cuda:99", "meta", "float32"),
    *(
        "adamw",
        "small",
        "resnet17",
        "jsonl",
        "text",
        "scenes:x",
        "owner/name",
        "squash",
        "label",
        "fr",
        "en",
        "mean+last",
    ),
)
ENOUGH = {"max_steps": "1", "evaluations": "1", "epochs": "1", "max_minutes": "1"}
TINY = {
    "train_text_generator": {
        "data": "text.txt",
        "window": "8",
        "hidden_size": "4",
        "embedding_size": "4",
        "markov_order": "2",
    },
    "train_text_classifier": {"data": "rows.csv", "hidden_size": "4", "embedding_size": "4", "markov_order": "2"},
    "train_translator": {"data": "pairs", "target": "fr", "hidden_size": "4", "embedding_size": "4", "num_heads": "2"},
    "train_image_captioner": {"data": "pictures", "image_size": "16", "hidden_size": "8", "num_heads": "2"},
    "train_image_classifier": {"data": "pictures/metadata.csv", "image_size": "16", "cache": "cache"},
}
USES = {
    "generate_text": ("TextGenerator", {"prompt": "the cat", "max_new_tokens": "5"}),
    "classify_text": ("TextClassifier", {"file": "text.txt"}),
    "translate": ("Translator", {"file": "text.txt", "num_beams": "2"}),
    "caption_images": ("ImageCaptioner", {"images": "a.png", "num_beams": "2"}),
    "classify_images": ("ImageClassifier", {"images": "pictures"}),
}


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 7), colour).save(file, "PNG")
    return file.getvalue()


COLOURS = ("red", "green", "blue", "white", "black", "yellow")
TEXT = "".join(f"the cat saw {number} dogs\n" for number in range(30)).encode()
FILES: dict[str, bytes] = {
    "text.txt": TEXT,
    "rows.csv": b"text,label\n" + b"".join(b"text %d,%d\n" % (number, number % 2) for number in range(12)),
    "rows.jsonl": b"".join(b'{"text": "text %d", "en": "a", "fr": "b"}\n' % number for number in range(6)),
    "pairs.en": TEXT,
    "pairs.fr": TEXT.upper(),
    "ok.yaml": b"seed: 1\n",
    "bad.yaml": b"seed: [\n",
    "bomb.yaml": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(
        b"%c: &%c [%s]\n" % (letter + 1, letter + 1, b",".join([b"*%c" % letter] * 9)) for letter in range(97, 107)
    ),
    "pictures/metadata.csv": b"file_name,label,caption\n"
    + b"".join(f"{name}.png,{number % 2},{name} is here\n".encode() for number, name in enumerate(COLOURS)),
    **{f"pictures/{colour}.png": picture(colour) for colour in COLOURS},
    "a.png": picture("red"),
}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a saved model of each architecture."""
    folder = tmp_path_factory.mktemp("models")
    for model in models():
        model.save_pretrained(folder / type(model).__name__)
    return folder


def options_of(module: ModuleType) -> list[str]:
    classes = (value for value in vars(module).values() if isinstance(value, type) and dataclasses.is_dataclass(value))
    own = [one for one in classes if one.__module__ == module.__name__]
    return sorted(
        {field.name for one in own for field in dataclasses.fields(one)} | {"config", "help", "no_such_option"}
    )


@st.composite
def command_lines(draw: st.DrawFn, name: str, models: Path) -> Case:
    """A command line that would do, with options put before, behind or in the place of some of its own."""
    options = st.sampled_from([option for option in options_of(script(name)) if option not in ("help", "out")])
    pair = st.tuples(options, st.sampled_from(VALUES))
    strange = draw(st.lists(pair.filter(lambda one: one[0] not in ENDLESS or one[1] not in HUGE), max_size=3))
    if name in USES:
        architecture, plain = USES[name]
        front, plain = (
            [str(models / draw(st.sampled_from((architecture,) * 9 + ("none", "ImageClassifier"))))],
            dict(plain),
        )
    else:
        front, plain = ["--out", "run"], TINY[name] | {"device": "cpu", "batch_size": "4", "precision": "float32"}
    for option, _ in strange:
        if draw(st.booleans()):
            plain.pop(option, None)
    equals = draw(st.booleans())
    pairs = [*plain.items(), *strange] if draw(st.integers(0, 3)) else [*strange, *plain.items()]
    words = [[f"--{option}={value}"] if equals else [f"--{option}", value] for option, value in pairs]
    arguments = [*front, *itertools.chain.from_iterable(words)]
    if name not in USES and not any(option in ENOUGH for option, _ in strange if draw(st.integers(0, 4)) == 0):
        arguments += list(itertools.chain.from_iterable((f"--{option}", value) for option, value in ENOUGH.items()))
    files = dict(FILES)
    if draw(st.integers(0, 3)) == 0:
        file = draw(st.sampled_from(sorted(FILES)))
        files[file] = draw(changed(FILES[file], most=2))
    return Case(files, arguments, draw(st.sampled_from((b"", b"the cat\n", b"a.png\n", b"\xff\n", b"\0"))))


@pytest.mark.parametrize("name", sorted(file.stem for file in SCRIPTS.glob("*.py")))
def test_command_lines(attack: Attack, saved: Path, name: str) -> None:
    attack(name, command_lines(name, saved), share=0.1)


def test_every_script_has_command_lines() -> None:
    assert {*TINY, *USES} == {file.stem for file in SCRIPTS.glob("*.py")}
    assert json.loads(json.dumps(VALUES)) == list(VALUES)  # as they reach the other process
