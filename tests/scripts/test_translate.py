"""Translating from the command line: from arguments, files and standard input, a line for a line, in order."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.image
import pytest

from zoo.data import given_texts
from zoo.seq2seq import Translation, Translator

Run = Callable[..., Any]
TEXTS = ["The sad dog sees the king.", "The big cat loves the fish.", "The fish follows", "dog"]


@pytest.fixture
def translate(run: Run, translate_script: ModuleType, finished_translator: Path) -> Run:
    def start(*arguments: object, stdin: bytes = b"") -> Any:
        return run(translate_script, finished_translator, *arguments, stdin=stdin)

    return start


@pytest.fixture(scope="session")
def model(finished_translator: Path) -> Translator:
    return Translator.from_pretrained(finished_translator)


@pytest.fixture
def plain_run(train_translator: Run, tmp_path: Path) -> Path:
    """A run without attention."""
    assert train_translator(tmp_path / "plain", attention="none", max_steps=1).code == 0
    return tmp_path / "plain"


def test_texts_come_from_arguments_a_file_or_standard_input(translate: Run, model: Translator, tmp_path: Path) -> None:
    expected = "".join(f"{translation}\n" for translation in model.translate(TEXTS))
    file = tmp_path / "some lines.txt"
    file.write_text("\r\n".join(TEXTS), encoding="utf-8-sig")
    for result in (
        translate(*TEXTS),
        translate("--file", file),
        translate(stdin=file.read_bytes()),
        translate(stdin="\n".join(TEXTS).encode() + b"\n"),
    ):
        assert (result.code, result.out, result.err) == (0, expected, "")


def test_an_empty_line_for_an_empty_line(translate: Run, model: Translator) -> None:
    result = translate(stdin=f"\n{TEXTS[0]}\n   \n\n{TEXTS[1]}\n\n".encode())
    best = model.translate(TEXTS[:2])
    assert result.out.split("\n") == ["", best[0], "", "", best[1], "", ""]
    assert (result.code, result.err) == (0, "")
    assert translate(stdin=b"").out == ""
    assert translate("").out == "\n"


def test_a_line_for_a_line_whatever_is_in_it(translate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = Translation("un\ndeux\r\n trois\u2028quatre\x85", 0.0, True, 1)
    monkeypatch.setattr(Translator, "translations", lambda self, texts, **options: [[odd] for _ in texts])
    result = translate(stdin="one\u2028two\nthree\x85\x0cfour\n".encode())
    assert result.out == "un deux trois quatre\n" * 2
    result = translate("one\n", "--format", "jsonl")
    assert result.out.count("\n") == 1
    shown = {"text": odd.text, "score": 0.0, "finished": True, "parts": 1}
    assert json.loads(result.out) == {"source": "one\n", "translations": [shown]}


def test_what_is_no_plain_word(translate: Run) -> None:
    texts = ["[a, list]", "~", "null", "{b: 2}", "#", "日本語 🎉 \u0301", "half \udcff a byte", "x" * 100_000]
    result = translate(*texts, "--num_beams", 2)
    assert (result.code, result.out.count("\n")) == (0, len(texts)), result


def test_several_translations_of_a_text(translate: Run, model: Translator) -> None:
    expected = model.translations(TEXTS, n_best=3)
    result = translate(*TEXTS, "--n_best", 3, "--format", "jsonl")
    found = [json.loads(line) for line in result.out.splitlines()]
    assert [one["source"] for one in found] == TEXTS
    for one, translations in zip(found, expected, strict=True):
        assert [shown["text"] for shown in one["translations"]] == [t.text for t in translations]
        scores = [shown["score"] for shown in one["translations"]]
        assert scores == pytest.approx([t.score for t in translations], abs=1e-5)
        assert scores == sorted(scores, reverse=True)
        assert all(shown.keys() == {"text", "score", "finished", "parts"} for shown in one["translations"])
    # As lines they stand one below the other, as many for each text.
    lines = translate(TEXTS[0], "", TEXTS[1], "--n_best", 3).out.split("\n")[:-1]
    assert lines == [*(t.text for t in expected[0]), "", "", "", *(t.text for t in expected[1])]


def test_settings_reach_the_search(translate: Run, model: Translator) -> None:
    for settings in (
        {"num_beams": 1},
        {"min_ratio": 1.5, "max_ratio": 2.0, "length_penalty": 0.0},
        {"no_repeat_ngram_size": 1, "num_beams": 2},
    ):
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        expected = [found[0].text for found in model.translations(TEXTS, **settings)]
        assert translate(*TEXTS, *arguments).out.splitlines() == expected


def test_a_text_much_longer_than_any_in_training_is_translated_in_parts(translate: Run) -> None:
    result = translate(TEXTS[0], " ".join(TEXTS[:2] * 4), "--format", "jsonl")
    assert (result.code, result.err) == (0, "1 texts are much longer than any in training: translated in parts\n")
    first, second = (json.loads(line)["translations"][0] for line in result.out.splitlines())
    assert (first["parts"], second["parts"]) == (1, 4)
    assert second["text"].count(".") >= 4


def test_what_has_no_end_is_said_to_be_cut(translate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = [Translation("un", 0.0, finished, 1) for finished in (False, True)]
    monkeypatch.setattr(Translator, "translations", lambda self, texts, **options: [cut for _ in texts])
    result = translate(*TEXTS, "--n_best", 2)
    assert (result.code, result.out) == (0, "un\n" * 8)
    assert result.err == "4 translations were cut at their longest: raise --max_ratio\n"


# --- pictures -----------------------------------------------------------------------------------------------------


def test_alignments_are_drawn_of_one_text(translate: Run, tmp_path: Path) -> None:
    for name, text in (("one.png", TEXTS[0]), ("blank.png", " "), ("parts.png", " ".join(TEXTS[:2]))):
        result = translate(text, "--alignments", tmp_path / name)
        assert (result.code, result.out.count("\n")) == (0, 1), result
        assert matplotlib.image.imread(tmp_path / name).size > 10_000
    refused = "--alignments draws the translation of one text: give one text"
    assert translate(*TEXTS, "--alignments", tmp_path / "no.png").is_an_error(refused)
    assert translate("--alignments", tmp_path / "no.png", stdin=b"dog\n").is_an_error(refused)
    assert not (tmp_path / "no.png").exists()


def test_without_attention_there_is_nothing_to_draw(
    run: Run, translate_script: ModuleType, plain_run: Path, tmp_path: Path
) -> None:
    assert run(translate_script, plain_run, *TEXTS).code == 0
    result = run(translate_script, plain_run, TEXTS[0], "--alignments", tmp_path / "no.png")
    assert result.is_an_error("was trained without attention: there is no alignment to draw")
    assert not (tmp_path / "no.png").exists()


# --- many lines ---------------------------------------------------------------------------------------------------


def test_lines_are_read_chunk_by_chunk_and_progress_is_on_stderr(
    translate: Run, translate_script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, count = 0, 3 * translate_script.CHUNK + 5
    read = translated = 0

    def reader(*_: object) -> Iterator[tuple[int, str]]:
        nonlocal read, most
        for number in range(1, count + 1):
            read += 1
            most = max(most, read - translated)
            yield number, f"dog {number}"

    def translations(_: Translator, texts: list[str], **__: object) -> list[list[Translation]]:
        nonlocal translated
        translated += len(texts)
        return [[Translation(text.upper(), 0.0, True, 1)] for text in texts]

    monkeypatch.setattr(given_texts, "read_lines", reader)
    monkeypatch.setattr(Translator, "translations", translations)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    result = translate()
    assert result.out == "".join(f"DOG {number}\n" for number in range(1, count + 1))
    assert (result.code, most) == (0, translate_script.CHUNK)
    assert " lines" in result.err
    assert "DOG" not in result.err


def test_lines_stream_through(finished_translator: Path, model: Translator, spawn: Callable[..., Any]) -> None:
    """Translations come while more lines are still to come, and there is one for each, in order."""
    process = spawn("translate", finished_translator, "--num_beams", 1, stdin=subprocess.PIPE)
    texts = [f"{text} {'and ' * (n % 2)}{text}" for n, text in enumerate(TEXTS[2:] * 1500)]
    feeding = threading.Thread(
        target=lambda: (process.stdin.write("\n".join(texts[:2500]) + "\n"), process.stdin.flush())
    )
    feeding.start()
    first = [process.stdout.readline() for _ in range(2048)]  # four chunks, while standard input is open
    feeding.join()
    rest, errors = process.communicate("\n".join(texts[2500:]), timeout=60)
    best = {text: model.translate(text, num_beams=1) for text in set(texts)}
    assert "".join(first) + rest == "".join(f"{best[text]}\n" for text in texts)
    assert (process.returncode, errors) == (0, "")


def test_a_reader_who_has_enough(finished_translator: Path, spawn: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "many.txt"
    file.write_text("dog\n" * 20_000, encoding="utf-8")
    process = spawn("translate", finished_translator, "--file", file, "--num_beams", 1)
    assert process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == ""


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stdin", "arguments", "match"),
    [
        (b"Zo\xeb\n", [], "standard input, line 1 is not UTF-8"),
        (b"\0\ndog\n", [], "standard input, line 1 has a NUL byte"),
        (b"x" * 10_000_000 + b"\n", [], "standard input, line 1 has more than"),
        (b"", ["--file", "no.txt"], "no.txt cannot be read"),
        (b"", ["--file", "/"], "/ cannot be read (Is a directory)"),
        (b"", ["dog", "--file", "a.txt"], "texts and --file were both given"),
        (b"", ["--num_beams", "0"], "num_beams is 0, but must be from 1"),
        (b"", ["--num_beams", "1" + "0" * 20], "num_beams is 100000000000000000000, but must be from 1"),
        (b"", ["dog", "--alignments", "no/such/a.png"], "there is no folder no/such"),
        (b"", ["dog", "--n_best", "9"], "n_best is 9, but must be from 1 to num_beams, 5"),
        (b"", ["dog", "--n_best", "0"], "n_best is 0"),
        (b"", ["dog", "--length_penalty", "-1"], "length_penalty is -1.0"),
        (b"", ["dog", "--no_repeat_ngram_size", "0"], "no_repeat_ngram_size is 0"),
        (b"", ["dog", "--min_ratio", "3", "--max_ratio", "2"], "min_ratio is 3.0 and max_ratio 2.0"),
        (b"", ["dog", "--max_ratio", "-1"], "max_ratio -1.0"),
        (b"", ["dog", "--max_ratio", "1e30"], "max_ratio 1e+30"),
        (b"", ["dog", "--format", "xml"], "format"),
        (b"", ["dog", "--device", "abacus"], "device is abacus"),
        (b"", ["dog", "--beams", "3"], "--beams"),
        (b"", ["-5"], "-5"),
    ],
)
def test_bad_input(translate: Run, stdin: bytes, arguments: list[str], match: str) -> None:
    result = translate(*arguments, stdin=stdin)
    assert result.is_an_error(match), result


def test_what_stands_before_a_faulty_line_is_translated(translate: Run) -> None:
    result = translate(stdin=f"{TEXTS[0]}\n\n\0\n".encode())
    assert (result.code, result.out) == (2, translate(TEXTS[0]).out + "\n")
    assert result.err.startswith("error: standard input, line 3 has a NUL byte")


def test_a_run_of_another_architecture(
    run: Run,
    translate_script: ModuleType,
    classify_script: ModuleType,
    finished_classifier: Path,
    finished_translator: Path,
    sentences: Path,
) -> None:
    result = run(translate_script, finished_classifier, "dog")
    assert result.is_an_error("is of a TextClassifier, but a Translator was expected"), result
    result = run(classify_script, finished_translator, "dog")
    assert result.is_an_error("is of a Translator, but a TextClassifier was expected"), result
    assert run(translate_script, sentences, "dog").is_an_error("has no config.json: it is not a saved model")
    assert run(translate_script, "no/such/run", "dog").is_an_error("no/such/run is not a folder here")
    assert run(translate_script).is_an_error("run")


@pytest.mark.parametrize(
    ("file", "match"),
    [
        ("source_tokenizer.json", "source_tokenizer"),
        ("tokenizer.json", "tokenizer"),
        ("model.safetensors", "has no model.safetensors"),
    ],
)
def test_a_run_that_is_not_whole(
    run: Run, translate_script: ModuleType, finished_translator: Path, tmp_path: Path, file: str, match: str
) -> None:
    for other in finished_translator.iterdir():
        if other.name != file:
            (tmp_path / other.name).write_bytes(other.read_bytes())
    assert run(translate_script, tmp_path, "dog").is_an_error(match)
