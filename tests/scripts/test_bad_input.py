"""Whatever is wrong with what was given: one line on stderr, exit code 2, and no half-made run folder."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from safetensors.torch import save_file
from torch import ones

from zoo.one_to_many import TextGenerator

Run = Callable[..., Any]


def write(content: bytes) -> Callable[[Path], None]:
    def make(file: Path) -> None:
        file.write_bytes(content)

    return make


@pytest.mark.parametrize(
    ("name", "make", "match"),
    [
        ("none.txt", lambda file: None, "none.txt: no such file or folder"),
        ("empty.txt", write(b""), "empty.txt is empty: expected text"),
        ("blank.txt", write(b" \n\n"), "blank.txt is empty: expected text"),
        ("binary.txt", write(b"abc\x00def" * 100), "binary.txt is a binary file"),
        ("latin.txt", write("Zoë\n".encode("latin-1") * 100), "latin.txt is not UTF-8"),
        ("wide.txt", write("Zoë\n".encode("utf-16") * 100), "wide.txt is UTF-16"),
        ("tiny.txt", write(b"ab"), "leaves 1 tokens for validation: give more text"),
        ("folder", lambda file: file.mkdir(), "folder has no text file"),
        ("nobody/nothing-of-this-name", lambda file: None, "nobody/nothing-of-this-name"),
    ],
)
def test_data(
    train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[[Path], None], match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if "/" not in name:
        make(tmp_path / name)
    result = train(Path("run"), data=name)
    assert result.is_an_error(match), result
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--cell", "transformer"], "cell is 'transformer', but must be one of"),
        (["--level", "syllable"], "level"),
        (["--levels", "char"], "--levels"),
        (["--hidden_size", "-1"], "hidden_size is -1"),
        (["--hidden_size", "0"], "hidden_size is 0"),
        (["--embedding_size", "-5"], "embedding_size is -5"),
        (["--num_layers", "0"], "num_layers is 0"),
        (["--num_layers", "two"], "num_layers"),
        (["--ngram_order", "9"], "ngram_order is 9"),
        (["--ngram_buckets", "0"], "ngram_buckets is 0"),
        (["--dropout", "1"], "dropout is 1.0"),
        (["--input_dropout", "-0.1"], "dropout is -0.1"),
        (["--cell", "mingru", "--weight_dropout", "0.1"], "weight_dropout is 0.1"),
        (["--window", "5000"], "tokens and one window of 5,000 needs 5,001"),
        (["--window", "0"], "window is 0"),
        (["--window", "-8"], "window is -8"),
        (["--batch_size", "0"], "batch_size is 0"),
        (["--max_steps", "-1"], "max_steps is -1"),
        (["--epochs", "0"], "epochs is 0"),
        (["--learning_rate", "-1"], "learning_rate is -1"),
        (["--evaluations", "0"], "evaluations is 0"),
        (["--seed", "99999999999999999999"], "seed is 99999999999999999999"),
        (["--precision", "float8"], "precision"),
        (["--device", "abacus"], "device is abacus, but it cannot be used"),
        (["--validation_fraction", "0.9"], "validation_fraction is 0.9"),
        (["--tokenizer_size", "1"], "vocab_size is 1"),
        (["--level", "char", "--pretokenized"], "pretokenized"),
        (["--min_frequency", "0"], "min_frequency is 0"),
        (["--level", "word", "--min_frequency", "99999"], "no word of"),
        (["--markov_order", "0"], "markov_order is 0"),
        (["--markov_tokens", "0"], "markov_tokens is 0"),
        (["--markov_weight", "1"], "markov_weight is 1.0"),
        (["--validation_tokens", "1"], "validation_tokens is 1"),
        (["--tokenizer_characters", "0"], "tokenizer_characters is 0"),
        (["--resume"], "is not a run folder: there is nothing to resume"),
        (["--overwrite", "--resume"], "overwrite and resume were both given"),
        (["--config", "no.yaml"], "no.yaml"),
        (["--init_from", "no/such"], "no/such is not a folder here"),
    ],
)
def test_training_options(train: Run, tmp_path: Path, arguments: list[str], match: str) -> None:
    result = train(tmp_path / "run", *arguments)
    assert result.is_an_error(match), result
    assert not (tmp_path / "run").exists()


def test_training_takes_no_argument_without_a_name(run: Run, train_script: ModuleType) -> None:
    assert run(train_script, "runs/a").is_an_error("'runs/a' was not expected")


def test_weight_dropout_on_a_source_that_cannot_have_it(train: Run, tmp_path: Path) -> None:
    assert train(tmp_path / "a", cell="mingru", max_steps=1).code == 0
    result = train(tmp_path / "b", "--init_from", tmp_path / "a", "--weight_dropout", 0.1)
    assert result.is_an_error("weight_dropout is 0.1"), result
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("hidden_size: [", "error:"),
        ("hidden_size: large", "hidden_size"),
        ("hiden_size: 5", "hiden_size"),
        ("max_steps: -1", "max_steps is -1"),
        ("nothing but words", "error:"),
    ],
)
def test_a_broken_config(
    run: Run, train_script: ModuleType, tmp_path: Path, text_file: Path, content: str, match: str
) -> None:
    (tmp_path / "config.yaml").write_text(content)
    result = run(train_script, "--config", tmp_path / "config.yaml", "--out", tmp_path / "run", "--data", text_file)
    assert result.is_an_error(match), result
    assert not (tmp_path / "run").exists()


def test_run_folders(train: Run, tmp_path: Path) -> None:
    assert train(tmp_path / "run", max_steps=1).code == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    assert train(tmp_path / "run").is_an_error("holds a run: add --resume")
    changed = train(tmp_path / "run", "--resume", max_steps=1, hidden_size=8)
    assert changed.code == 2
    assert changed.err.startswith("error: ")
    assert "cannot be resumed with other options: hidden_size was 16 and is 8" in changed.err
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    for arguments in ([], ["--overwrite"]):
        assert train(tmp_path / "mine", *arguments).is_an_error("not a run folder; it is never overwritten")
        assert train(tmp_path / "mine" / "thesis.txt", *arguments).is_an_error("is a file")
    assert [file.read_text() for file in (tmp_path / "mine").iterdir()] == ["mine"]


@pytest.mark.parametrize("damage", [b"", b"PNG", None])
def test_resume_from_a_damaged_save(train: Run, tmp_path: Path, damage: bytes | None) -> None:
    assert train(tmp_path / "run", max_steps=1).code == 0
    save = tmp_path / "run" / "resume.safetensors"
    save.write_bytes(save.read_bytes()[:-10] if damage is None else damage)
    result = train(tmp_path / "run", "--resume", max_steps=2)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "is not a whole safetensors file" in result.err


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--temperature", "-1"], "temperature is -1.0, but must be at least 0"),
        (["--temperature", "inf"], "temperature"),
        (["--top_p", "0"], "top_p is 0.0"),
        (["--top_p", "1.1"], "top_p is 1.1"),
        (["--top_k", "0"], "top_k is 0"),
        (["--min_p", "2"], "min_p is 2.0"),
        (["--repetition_penalty", "0"], "repetition_penalty is 0.0"),
        (["--stop", ""], "a stop string is empty"),
        (["--max_new_tokens", "-1"], "max_new_tokens is -1"),
        (["--num_return", "0"], "num_return is 0"),
        (["--seed", "one"], "seed"),
        (["--top-k", "5"], "--top-k"),
        (["--device", "abacus"], "device is abacus"),
        (["--file", "/nowhere/prompt"], "/nowhere/prompt"),
        (["--file", "/"], "directory"),
        (["--file", __file__], "--prompt and --file were both given"),
    ],
)
def test_generation_options(
    run: Run, generate_script: ModuleType, finished_run: Path, arguments: list[str], match: str
) -> None:
    prompt = [] if arguments[0] == "--file" and arguments[1] != __file__ else ["--prompt", "a"]
    result = run(generate_script, finished_run, *prompt, *arguments)
    assert result.is_an_error(match), result


def test_a_prompt_that_is_no_text(run: Run, generate_script: ModuleType, finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt").write_bytes(b"abc\xff")
    result = run(generate_script, finished_run, "--file", tmp_path / "prompt")
    assert result.is_an_error("prompt is not UTF-8 (byte 0xff at offset 3)")
    assert run(generate_script, finished_run, stdin=b"\xff").is_an_error("standard input is not UTF-8 text (byte 0)")


def cut_in_half(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda run: cut_in_half(run, "model.safetensors"), "model.safetensors is not a whole safetensors file"),
        (lambda run: cut_in_half(run, "config.json"), "config.json is not JSON"),
        (lambda run: cut_in_half(run, "tokenizer.json"), "tokenizer.json is truncated or no tokenizer"),
        (lambda run: (run / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda run: (run / "config.json").unlink(), "has no config.json"),
        (lambda run: (run / "tokenizer.json").unlink(), "tokenizer"),
        (lambda run: save_file({"weight": ones(2)}, run / "model.safetensors"), "not of this configuration"),
        (
            lambda run: (run / "config.json").write_text('{"architecture": "Translator"}'),
            "of a Translator, but a TextGenerator was expected",
        ),
        (lambda run: (run / "config.json").write_text("{}"), "of no architecture of zoo's"),
        (
            lambda run: (run / "config.json").write_text('{"architecture": "TextGenerator", "depth": 3}'),
            "does not describe a TextGenerator",
        ),
    ],
)
@pytest.mark.parametrize("use", ["generate", "init_from"])
def test_a_damaged_model(
    run: Run,
    train: Run,
    generate_script: ModuleType,
    finished_run: Path,
    tmp_path: Path,
    damage: Callable[[Path], object],
    match: str,
    use: str,
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished_run, folder)
    damage(folder)
    if use == "generate":
        result = run(generate_script, folder, "--prompt", "a")
    else:
        result = train(tmp_path / "run", init_from=folder)
        assert not (tmp_path / "run").exists()
    assert result.is_an_error(match), result


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["nobody/nothing-of-this-name"], "nobody/nothing-of-this-name is not a folder here"),
        (["/no/such/folder"], "/no/such/folder is not a folder here"),
        ([], "run"),
        (["a", "b"], "'b' was not expected"),
    ],
)
def test_no_such_model(run: Run, generate_script: ModuleType, arguments: list[str], match: str) -> None:
    assert run(generate_script, *arguments, "--prompt", "a").is_an_error(match)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("width", [90, 105])
def test_a_full_disk_keeps_the_last_good_save(train: Run, small_disk: Path, width: int) -> None:
    # Model and save are some 0.6 or 0.8 MB together; a second of the save, or of both, does not fit beside them.
    sizes = {"hidden_size": width, "embedding_size": 40, "ngram_order": 1, "max_steps": 8, "evaluations": 4}
    result = train(small_disk / "run", **sizes)
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert "No space left" in result.err
    assert not [file for file in (small_disk / "run").iterdir() if "partial" in file.name]
    assert yaml.safe_load((small_disk / "run" / "config.yaml").read_text())["hidden_size"] == width
    model = TextGenerator.from_pretrained(small_disk / "run")
    assert len(model.generate("a", max_new_tokens=5)) == 5
    # With room again, the run goes on from what it had.
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert train(small_disk / "run", "--resume", **sizes).code == 0


def test_a_disk_that_is_full_from_the_start(train: Run, small_disk: Path) -> None:
    with (small_disk / "filler").open("wb") as filler:
        filler.write(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize))
    result = train(small_disk / "run")
    assert result.code == 2
    assert result.err.startswith("error: [Errno 28]")
    assert result.err.count("\n") == 1
    assert not (small_disk / "run").exists() or {file.name for file in (small_disk / "run").iterdir()} <= {".lock"}


def test_a_real_process(spawn: Callable[..., "subprocess.Popen[str]"], tmp_path: Path) -> None:
    """No warning of any library beside the one line."""
    process = spawn("train_text_generator", "--data", tmp_path / "none.txt", "--out", tmp_path / "run")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err == (
        f"error: {tmp_path / 'none.txt'}: no such file or folder; give one that exists, python_docs or a hub data set\n"
    )
    assert list(tmp_path.iterdir()) == []
