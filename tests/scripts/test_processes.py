"""Two processes train together: what they compute, how they end, and what is left when one dies."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
    "translator": ("train_translator", "sentences", {"dropout": 0, "batch_size": 99}),
    "translator, plain": ("train_translator", "sentences", {"dropout": 0, "batch_size": 67, "attention": "none"}),
    "captioner": ("train_image_captioner", "photos", IMAGES | {"batch_size": 7}),
    "captioner, plain": (
        "train_image_captioner",
        "photos",
        IMAGES | {"batch_size": 17, "finetune_from": 0, "attention": "none", "captions_per_image": 1},
    ),
    "image classifier": ("train_image_classifier", "shapes", IMAGES | {"batch_size": 59}),
}
DROPOUTS = {"batch_size": 7, "dropout": 0.3, "ngram_dropout": 0.3, "restart": 0.2, "max_steps": 6, "evaluations": 2}
TOGETHER = {
    "stopped_by_a_signal_to_one_and_resumed": DROPOUTS,
    "all_end_with_one_message": DROPOUTS,
    "all_stop_at_the_same_step": {"learning_rate": 1e-12, "max_steps": 1000, "evaluations": 100},
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
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    parts = {rank: json.loads((results / f"{rank}.json").read_text("utf-8")) for rank in "01"}
    assert done.returncode == 0, done.stderr
    return {check: {rank: part.get(check, "not reached") for rank, part in parts.items()} for check in CHECKS}


@pytest.mark.parametrize("check", CHECKS)
def test_together(together: dict[str, dict[str, str | None]], check: str) -> None:
    assert together[check] == {"0": None, "1": None}
