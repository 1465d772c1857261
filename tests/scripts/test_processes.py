"""Two processes train together: what they compute, how they end, and what is left when one dies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

Launch = Callable[..., "subprocess.Popen[str]"]
WORKER = Path(__file__).with_name("processes_worker.py")
SCRIPTS = Path(__file__).parents[2] / "scripts"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d"]
TORCHRUN += ["--rdzv_endpoint", "localhost:0"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
ACCELERATE += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}

GENERATOR = {"dropout": 0, "ngram_dropout": 0, "restart": 0, "num_layers": 2, "batch_size": 7}
CLASSIFIER = {
    "ngram_order": 2,
    "dropout": 0,
    "input_dropout": 0,
    "word_dropout": 0,
    "ngram_dropout": 0,
    "batch_size": 13,
}
IMAGES = {"dropout": 0, "finetune": 0.5, "finetune_from": 0.5, "weights": None}  # None: the fixture `trunk`
CAPTIONS = IMAGES | {"input_dropout": 0}
STEPS = {"max_steps": 4, "evaluations": 1, "gradient_clip": 0.3, "learning_rate": 0.01}
# {name: the script, its data (a fixture), options}. An encoder of images has batch norms whose statistics are fixed:
# those of batches are of each process's own part on a CPU, for which torch has no SyncBatchNorm.
GRADIENTS: dict[str, tuple[str, str, dict[str, object]]] = {
    "generator": ("train_text_generator", "text_file", GENERATOR),
    "generator, tied gru": ("train_text_generator", "text_file", GENERATOR | {"cell": "gru", "tied": True}),
    "generator, one row": ("train_text_generator", "text_file", GENERATOR | {"batch_size": 1}),
    "classifier": ("train_text_classifier", "reviews", CLASSIFIER),
    "classifier, adamw": (
        "train_text_classifier",
        "reviews",
        CLASSIFIER | {"optimizer": "adamw", "pooling": "attention"},
    ),
    "classifier, balanced": ("train_text_classifier", "uneven_reviews", CLASSIFIER | {"balanced": True}),
    "classifier, several labels": (
        "train_text_classifier",
        "uneven_reviews",
        CLASSIFIER | {"balanced": True, "multi_label": True, "label_separator": "+"},
    ),
    "classifier, adversarial": (
        "train_text_classifier",
        "uneven_reviews",
        CLASSIFIER | {"adversarial": 0.1, "balanced": True, "bag_order": 2, "bag_size": 99},
    ),
    "translator": ("train_translator", "sentences", {"dropout": 0, "batch_size": 99}),
    "translator, plain": ("train_translator", "sentences", {"dropout": 0, "batch_size": 67, "attention": "none"}),
    "captioner": ("train_image_captioner", "photos", CAPTIONS | {"batch_size": 7, "num_concepts": 4, "neighbours": 2}),
    "captioner, plain": (
        "train_image_captioner",
        "photos",
        CAPTIONS | {"batch_size": 17, "finetune_from": 0, "attention": "none", "captions_per_image": 1},
    ),
    "image classifier": ("train_image_classifier", "shapes", IMAGES | {"batch_size": 59}),
}
DROPOUTS = {"batch_size": 7, "dropout": 0.3, "ngram_dropout": 0.3, "restart": 0.2, "max_steps": 6, "evaluations": 2}
TOGETHER = {
    "stopped_by_a_signal_to_one_and_resumed": DROPOUTS,
    "all_end_with_one_message": DROPOUTS,
    "all_stop_at_the_same_step": {"learning_rate": 1e-12, "optimizer": "adamw", "max_steps": 1000, "evaluations": 3},
    "torch_has_no_batch_norm_over_processes_for_cpus": {},
}
CHECKS = [*(f"gradients of {name}" for name in GRADIENTS), *TOGETHER]


@pytest.fixture(scope="session")
def uneven_reviews(reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 27 reviews, two thirds of them good; some have a second label."""
    lines = (reviews / "train.csv").read_text("utf-8").splitlines()[1:]
    kept = [line for number, line in enumerate(lines) if line.startswith("good") or number % 4 == 0]
    kept = [line.replace("good,", "good+short,") if "very" not in line else line for line in kept]
    file = tmp_path_factory.mktemp("data") / "uneven reviews.csv"
    file.write_text("\n".join(["label,text", *kept]) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def together(
    request: pytest.FixtureRequest, tiny_arguments: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, str | None]]:
    """{check: {process: why it failed there, or None}} of one pair of processes."""
    results = tmp_path_factory.mktemp("together")
    trunk = request.getfixturevalue("trunk")
    runs: dict[str, tuple[str, str, list[str]]] = {}
    for name, (script, data, options) in GRADIENTS.items():
        told = STEPS | options | {"data": request.getfixturevalue(data)}
        told |= {"weights": trunk} if "weights" in options else {}
        check = "gradients_are_those_of_one_process"
        runs[f"gradients of {name}"] = (check, script, tiny_arguments(script, **told))
    text = request.getfixturevalue("text_file")
    for check, options in TOGETHER.items():
        runs[check] = (check, "train_text_generator", tiny_arguments("train_text_generator", data=text, **options))
    (results / "runs.json").write_text(json.dumps(runs), encoding="utf-8")
    command = [*TORCHRUN, str(WORKER), str(results / "runs.json"), str(results)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600, check=False)
    parts = {rank: json.loads((results / f"{rank}.json").read_text("utf-8")) for rank in "01"}
    assert done.returncode == 0, done.stderr
    return {check: {rank: part.get(check, "not reached") for rank, part in parts.items()} for check in CHECKS}


@pytest.mark.parametrize("check", CHECKS)
def test_together(together: dict[str, dict[str, str | None]], check: str) -> None:
    assert together[check] == {"0": None, "1": None}


def workers_of(launcher: int) -> dict[int, int]:
    """{rank: process} of a launcher's processes."""
    found = {}
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        found |= {int(v.removeprefix(b"RANK=")): int(child) for v in variables if v.startswith(b"RANK=")}
    return found


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def launch() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """`launch(launcher, file, *arguments)`: a launcher and its two processes."""
    started: list[subprocess.Popen[str]] = []

    def start(launcher: list[str], file: Path, *arguments: object) -> "subprocess.Popen[str]":
        command = [*launcher, str(file), *map(str, arguments)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=ENVIRONMENT, **pipes))
        return started[-1]

    yield start
    for process in started:
        for worker in workers_of(process.pid).values() if process.poll() is None else []:
            os.kill(worker, signal.SIGKILL)
        process.kill()
        process.communicate()


def until(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_that_is_killed_ends_them_all(
    launch: Launch, tiny_arguments: Callable[..., list[str]], tmp_path: Path, text_file: Path
) -> None:
    options = {"data": text_file, "max_steps": 10**6, "evaluations": 1, "save_minutes": 1e-9}
    script = SCRIPTS / "train_text_generator.py"
    process = launch(ACCELERATE, script, "--out", tmp_path / "run", *tiny_arguments(script.stem, **options))
    until((tmp_path / "run" / "resume.safetensors").exists, process)
    workers = workers_of(process.pid)
    assert sorted(workers) == [0, 1]
    os.kill(workers[1], signal.SIGKILL)
    killed = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert process.returncode not in (0, None)
    assert not any(map(is_running, workers.values()))
    assert "Signal 9 (SIGKILL)" in err, err
    assert out.count("tokens to train on") == 1  # the main process alone speaks


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_in_one_ends_them_all(
    launch: Launch, tiny_arguments: Callable[..., list[str]], tmp_path: Path, text_file: Path, rank: int
) -> None:
    """Such as a file that one machine lacks."""
    broken = tmp_path / "broken.py"
    broken.write_text(
        f"import os, runpy, zoo.data\nfrom zoo.errors import InputError\nload = zoo.data.load_text\n"
        f"def fail(*arguments):\n    if os.environ['RANK'] == '{rank}':\n"
        f"        raise InputError('my.txt: no such file')\n    return load(*arguments)\n"
        f"zoo.data.load_text = fail\n"
        f"runpy.run_path({str(SCRIPTS / 'train_text_generator.py')!r}, run_name='__main__')\n"
    )
    options = tiny_arguments("train_text_generator", data=text_file)
    process = launch(TORCHRUN, broken, "--out", tmp_path / "run", *options)
    started = time.monotonic()
    _, err = process.communicate(timeout=90)
    assert time.monotonic() - started < 90
    assert process.returncode not in (0, None)
    assert err.count("error: my.txt: no such file") == 1
    assert "RuntimeError" not in err
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_launcher_is_told_to_stop(
    launch: Launch, tiny_arguments: Callable[..., list[str]], tmp_path: Path, text_file: Path, number: int
) -> None:
    """A terminal sends Ctrl-C to all, and the launcher sends it once more."""
    options = {"data": text_file, "max_steps": 10**6, "evaluations": 1, "save_minutes": 1e-9}
    script = SCRIPTS / "train_text_generator.py"
    process = launch(TORCHRUN, script, "--out", tmp_path / "run", *tiny_arguments(script.stem, **options))
    until((tmp_path / "run" / "resume.safetensors").exists, process)
    workers = workers_of(process.pid)
    for one in (*workers.values(), process.pid) if number == signal.SIGINT else [process.pid]:
        os.kill(one, number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert not any(map(is_running, workers.values()))
    said, command = out.rstrip("\n").splitlines()[-2:]
    assert said.startswith("stopped at step ")
    resumed = subprocess.run(
        f"{command} --max_steps {int(said.split()[3]) + 2}",
        shell=True,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generator", "classifier", "translator", "captioner", "image classifier"])
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_a_whole_run_is_that_of_one_process(
    launch: Launch,
    run: Callable[..., Any],
    load_script: Callable[[str], ModuleType],
    tiny_arguments: Callable[..., list[str]],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    launcher: list[str],
    name: str,
) -> None:
    script, data, options = GRADIENTS[name]
    told = STEPS | options | {"data": request.getfixturevalue(data), "evaluations": 2}
    told |= {"weights": request.getfixturevalue("trunk")} if "weights" in options else {}
    arguments = tiny_arguments(script, **told)
    process = launch(launcher, SCRIPTS / f"{script}.py", "--out", tmp_path / "two", *arguments)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert run(load_script(script), "--out", tmp_path / "one", *arguments).code == 0
    one, two = (load_file(tmp_path / folder / "model.safetensors") for folder in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-4, msg=f"{key}: {{}}".format)
    files = [{file.name for file in (tmp_path / folder).iterdir()} for folder in ("one", "two")]
    assert files[0] == files[1]
    lines = [(tmp_path / folder / "metrics.jsonl").read_text().splitlines() for folder in ("one", "two")]
    assert [json.loads(line)["step"] for line in lines[0]] == [json.loads(line)["step"] for line in lines[1]]
    assert out.count("run in") == 1
    figures = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert figures["processes"] == 2
