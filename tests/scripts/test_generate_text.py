"""Continuing a prompt with a trained run, as people type it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from zoo.device import StepPrecision
from zoo.errors import InputError
from zoo.one_to_many import InterpolatedGenerator, TextGenerator

Run = Callable[..., Any]


@pytest.fixture
def generate(run: Run, generate_script: ModuleType, finished_run: Path) -> Run:
    def start(*arguments: object, stdin: bytes = b"") -> Any:
        return run(generate_script, finished_run, *arguments, stdin=stdin)

    return start


def test_the_prompt_and_its_continuation_and_nothing_else(generate: Run, finished_run: Path) -> None:
    result = generate("--prompt", "12 green", "--max_new_tokens", 40, "--seed", 5, "--temperature", 0.7)
    model = TextGenerator.from_pretrained(finished_run)
    text = model.generate("12 green", max_new_tokens=40, temperature=0.7, seed=5)
    assert len(text) == 40
    assert (result.code, result.out, result.err) == (0, f"12 green{text}\n", "")


def test_without_the_prompt(generate: Run) -> None:
    options = ("--prompt", "12 green", "--max_new_tokens", 20, "--seed", 5)
    assert "12 green" + generate(*options, "--echo", "false").out == generate(*options).out


def test_the_prompt_from_argument_file_and_standard_input(generate: Run, tmp_path: Path) -> None:
    options = ("--max_new_tokens", 20, "--seed", 5)
    prompt = "green bottles – hanging\n"
    (tmp_path / "prompt").write_text(prompt, encoding="utf-8")
    expected = generate("--prompt", prompt, *options)
    assert expected.out.startswith(prompt)
    assert generate("--file", tmp_path / "prompt", *options) == expected
    assert generate(*options, stdin=prompt.encode()) == expected
    elsewhere = b"\xef\xbb\xbf" + prompt.replace("\n", "\r\n").encode()
    (tmp_path / "prompt").write_bytes(elsewhere)
    assert generate("--file", tmp_path / "prompt", *options) == expected
    assert generate(*options, stdin=elsewhere) == expected


def test_a_closed_standard_input(
    generate_script: ModuleType, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["generate_text.py", str(finished_run)])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="standard input is closed: give --prompt TEXT or --file FILE"):
        generate_script.main()


def test_a_prompt_that_is_not_utf_8(spawn: Callable[..., "subprocess.Popen[str]"], finished_run: Path) -> None:
    """As `--prompt $'caf\\xe9'` gives it, in a terminal of another encoding too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONIOENCODING", "cp1252:strict")
        options = ("--max_new_tokens", 3, "--seed", 1)
        process = spawn(
            "generate_text", finished_run, "--prompt", b"caf\xe9".decode("utf-8", "surrogateescape"), *options
        )
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.startswith("caf\\udce9")


@pytest.mark.parametrize("prompt", ["", "# Heading", "null", "12", "- wall", "日本", "a\nb"])
def test_prompts_that_look_like_something_else(generate: Run, prompt: str) -> None:
    result = generate("--prompt", prompt, "--max_new_tokens", 5, "--seed", 1, stdin=b"not asked for")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(prompt)
    assert "not asked for" not in result.out


def test_a_seed_repeats_and_another_differs(generate: Run) -> None:
    texts = [generate("--prompt", "1", "--max_new_tokens", 50, "--seed", seed).out for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    unseeded = {generate("--prompt", "1", "--max_new_tokens", 50).out for _ in range(2)}
    assert len(unseeded) == 2


def test_temperature_0_needs_no_seed(generate: Run, finished_run: Path) -> None:
    texts = {generate("--prompt", "1", "--max_new_tokens", 30, "--temperature", 0).out for _ in range(2)}
    best = TextGenerator.from_pretrained(finished_run).generate("1", max_new_tokens=30, top_k=1)
    assert texts == {f"1{best}\n"}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_precision(precision: StepPrecision, generate: Run, finished_run: Path) -> None:
    options = ("--prompt", "12 green", "--max_new_tokens", 20, "--temperature", 0, "--precision", precision)
    text = TextGenerator.from_pretrained(finished_run).generate(
        "12 green", max_new_tokens=20, temperature=0, precision=precision
    )
    assert generate(*options).out == f"12 green{text}\n"


def test_with_the_n_gram_model(generate: Run, finished_run: Path) -> None:
    options = ("--prompt", "12 green", "--max_new_tokens", 20, "--seed", 3, "--markov_weight")
    model = InterpolatedGenerator.from_pretrained(finished_run, 0.4)
    text = model.generate("12 green", max_new_tokens=20, temperature=0.8, seed=3)
    assert generate(*options, 0.4).out == f"12 green{text}\n"
    assert generate(*options, 0).out == generate(*options[:-1]).out != generate(*options, 0.4).out


@pytest.mark.parametrize("weight", [-0.1, 1])
def test_a_weight_out_of_its_range(generate: Run, weight: float) -> None:
    result = generate("--prompt", "1", "--markov_weight", weight)
    assert (result.code, result.out) == (2, "")
    assert f"markov_weight is {float(weight)}" in result.err


def test_a_run_without_an_n_gram_model(
    run: Run, generate_script: ModuleType, finished_run: Path, tmp_path: Path
) -> None:
    TextGenerator.from_pretrained(finished_run).save_pretrained(tmp_path / "network")
    result = run(generate_script, tmp_path / "network", "--prompt", "1", "--markov_weight", 0.2)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {tmp_path / 'network'} has no markov.safetensors, the n-gram model")


def test_several_continuations(generate: Run) -> None:
    options = ("--prompt", "1", "--max_new_tokens", 12, "--top_k", 3)
    texts = [generate(*options, "--seed", seed).out for seed in (4, 5, 6)]
    assert len(set(texts)) == 3
    assert generate(*options, "--seed", 4, "--num_return", 3).out == "".join(texts)


def test_stop(generate: Run) -> None:
    options = ("--prompt", "1", "--max_new_tokens", 200, "--seed", 4, "--echo", "false")
    whole = generate(*options).out
    first, second = whole[60:62], whole[20:22]
    for stops in ([first], [first, second]):
        arguments = [part for stop in stops for part in ("--stop", stop)]
        assert generate(*options, *arguments).out == whole[: min(whole.find(stop) for stop in stops)] + "\n"


def test_the_run_by_name_and_first(run: Run, generate_script: ModuleType, finished_run: Path) -> None:
    options = ("--prompt", "1", "--max_new_tokens", 5, "--seed", 4)
    named = run(generate_script, "--run", finished_run, *options)
    assert named.code == 0
    assert named == run(generate_script, finished_run, *options)


def test_no_new_tokens(generate: Run) -> None:
    assert generate("--prompt", "abc", "--max_new_tokens", 0).out == "abc\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_real_streams(spawn: Callable[..., "subprocess.Popen[str]"], finished_run: Path) -> None:
    """Text alone on stdout; a full disk behind it is one line; a reader that leaves (`| head`) is no mistake."""
    options = (finished_run, "--max_new_tokens", 3000, "--seed", 1)
    good = spawn("generate_text", *options, stdin=subprocess.PIPE)
    with Path("/dev/full").open("w") as full:
        unwritable = spawn("generate_text", *options, "--prompt", "1", stdout=full)
        leaving = spawn("generate_text", *options, "--prompt", "1")
        leaving.stdout.close()
        out, err = good.communicate("12 green")
        assert (good.returncode, err) == (0, "")
        assert out.startswith("12 green")
        assert len(out) == len("12 green") + 3000 + len("\n")
        _, err = unwritable.communicate()
        assert unwritable.returncode == 2
        assert err == "error: [Errno 28] No space left on device\n"
        err = leaving.stderr.read()
        leaving.stderr.close()
        assert (leaving.wait(), err) == (141, "")  # as a program that SIGPIPE ends
