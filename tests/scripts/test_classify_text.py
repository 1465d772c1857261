"""Classifying from the command line: from arguments, files and standard input, in order, with clear errors."""

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from zoo.many_to_one import TextClassifier

Run = Callable[..., Any]
TEXTS = ["The film, it was fine.", "the book, it was very dull.", "The play was awful", "a joy"]


@pytest.fixture
def classify(run: Run, classify_script: ModuleType, finished_classifier: Path) -> Run:
    def start(*arguments: object, stdin: bytes = b"") -> Any:
        return run(classify_script, finished_classifier, *arguments, stdin=stdin)

    return start


def labels(out: str) -> list[str]:
    return [json.loads(line)["label"] for line in out.splitlines()]


def test_texts_come_from_arguments_a_file_or_standard_input(
    classify: Run, finished_classifier: Path, tmp_path: Path
) -> None:
    expected = [found.label for found in TextClassifier.from_pretrained(finished_classifier).classify(TEXTS)]
    lines, table = tmp_path / "lines.txt", tmp_path / "texts.csv"
    lines.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    table.write_text("id,body\n" + "".join(f'{n},"{text}"\n' for n, text in enumerate(TEXTS)), encoding="utf-8")
    objects = tmp_path / "texts.jsonl"
    objects.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    for result in (
        classify(*TEXTS, "--format", "jsonl"),
        classify("--file", lines, "--format", "jsonl"),
        classify("--file", table, "--text_column", "body", "--format", "jsonl"),
        classify("--file", objects, "--format", "jsonl"),
        classify("--format", "jsonl", stdin=lines.read_bytes()),
    ):
        assert result.code == 0, result
        assert labels(result.out) == expected
        assert [json.loads(line)["text"] for line in result.out.splitlines()] == TEXTS
        assert result.err == ""


def test_the_table_has_a_line_a_text(classify: Run) -> None:
    result = classify(*TEXTS, "--top_k", 2)
    lines = result.out.splitlines()
    assert len(lines) == 4
    for line, text in zip(lines, TEXTS, strict=True):
        shown, _, rest = line.partition("\t")
        assert rest == text
        assert {"good", "bad"} <= set(shown.split())


def test_probabilities_of_all_labels_sum_to_one(classify: Run) -> None:
    (line,) = classify(TEXTS[0], "--format", "jsonl", "--top_k", 9).out.splitlines()
    ranking = json.loads(line)["ranking"]
    assert [label for label, _ in ranking] in (["good", "bad"], ["bad", "good"])
    assert sum(value for _, value in ranking) == pytest.approx(1, abs=1e-5)


def test_an_explanation_has_a_weight_a_token(classify: Run, tmp_path: Path) -> None:
    picture = tmp_path / "why.png"
    result = classify(TEXTS[0], "--explain", "--picture", picture, "--format", "jsonl")
    explanation = json.loads(result.out)["explanation"]
    assert "".join(explanation["tokens"]) == TEXTS[0]
    assert len(explanation["weights"]) == len(explanation["tokens"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    table = classify(TEXTS[0], "--explain").out
    assert "integrated gradients: 'T' " in table


def test_an_empty_input_gives_nothing(classify: Run) -> None:
    result = classify(stdin=b"")
    assert (result.code, result.out, result.err) == (0, "", "")


@pytest.mark.parametrize(
    ("stdin", "arguments", "match"),
    [
        (b"\nbad\n", [], "standard input, line 1 is empty"),
        (b"", [""], "text 1 is empty"),
        (b"Zo\xeb\n", [], "standard input, line 1 is not UTF-8"),
        (b"x" * 10_000_000 + b"\n", [], "standard input, line 1 has more than"),
        (b"", ["--file", "no.txt"], "no.txt"),
        (b"", ["--file", "no.csv"], "no.csv: no such file"),
        (b"", ["fine", "--top_k", "0"], "top_k is 0"),
        (b"", ["fine", "--format", "xml"], "format"),
        (b"", ["fine", "--text_column", "body"], "--text_column is for the tables that --file takes"),
        (b"fine\n", ["--columns", "a,b"], "--columns is for the tables that --file takes"),
        (b"", ["fine", "--file", "a.txt"], "texts and --file were both given"),
        (b"", ["fine", "--picture", "a.png"], "--picture draws the explanation of one text"),
        (b"", ["fine", "--device", "abacus"], "device is abacus"),
    ],
)
def test_bad_input(classify: Run, stdin: bytes, arguments: list[str], match: str) -> None:
    result = classify(*arguments, stdin=stdin)
    assert result.is_an_error(match), result


@pytest.mark.parametrize("fault", [b"", b"\0", b"\xff"])
def test_what_stands_before_a_faulty_line_is_classified(classify: Run, fault: bytes) -> None:
    result = classify(stdin=b"fine\nawful\n" + fault + b"\nfine\n")
    assert (result.code, result.out) == (2, classify("fine", "awful").out)
    assert result.err.startswith("error: standard input, line 3 ") and result.err.count("\n") == 1


def test_a_missing_column_names_those_there_are(classify: Run, tmp_path: Path) -> None:
    file = tmp_path / "texts.csv"
    file.write_text("id,body\n1,fine\n", encoding="utf-8")
    result = classify("--file", file)
    assert result.is_an_error("id, body"), result


def test_a_run_of_another_architecture(run: Run, classify_script: ModuleType, finished_run: Path) -> None:
    result = run(classify_script, finished_run, "fine")
    assert result.is_an_error("is of a TextGenerator, but a TextClassifier was expected"), result
    assert run(classify_script, "no/such/run", "fine").is_an_error("no/such/run is not a folder here")


def test_lines_stream_through(finished_classifier: Path, spawn: Callable[..., Any]) -> None:
    """Answers come while more lines are still to come, and there is one for each, in order."""
    process = spawn("classify_text", finished_classifier, "--format", "jsonl", stdin=subprocess.PIPE)
    lines = [f"the film number {n}, it was fine\n" for n in range(3000)]

    def feed() -> None:
        process.stdin.write("".join(lines[:2500]))
        process.stdin.flush()

    feeding = threading.Thread(target=feed)
    feeding.start()
    answers = [process.stdout.readline() for _ in range(2048)]  # two chunks, while standard input is open
    feeding.join()
    rest, errors = process.communicate("".join(lines[2500:]), timeout=60)
    texts = [json.loads(line)["text"] + "\n" for line in [*answers, *rest.splitlines()]]
    assert texts == lines
    assert (process.returncode, errors) == (0, "")


def test_a_text_is_a_line_of_the_table_whatever_is_in_it(classify: Run) -> None:
    result = classify("two\nlines\tand \x1b[31mred", "[a list]", "--format", "table")
    first, second = result.out.splitlines()
    assert first.endswith("\ttwo lines and \ufffd[31mred")
    assert second.endswith("\t[a list]")
