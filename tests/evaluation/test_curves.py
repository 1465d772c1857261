"""The picture of a run."""

import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

from zoo.evaluation.curves import draw_curves

HISTORY = [
    {"step": step, "training_loss": 3.0 / step, "nats_per_token": 3.5 / step, "accuracy": step / 10}
    for step in range(1, 6)
]


@pytest.mark.parametrize("metric", ["nats_per_token", "accuracy"])
def test_writes_a_picture_with_two_lines(tmp_path: Path, metric: str) -> None:
    file = tmp_path / "curves.png"
    draw_curves(HISTORY, metric, file)
    assert file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    picture = matplotlib.image.imread(file)
    assert picture.shape[:2] == (480, 840)
    colours = {tuple((pixel[:3] * 255).round().astype(int)) for pixel in picture.reshape(-1, picture.shape[2])}
    assert {(31, 119, 180), (255, 127, 14)} <= colours  # matplotlib's first two


def test_one_evaluation_is_enough(tmp_path: Path) -> None:
    draw_curves(HISTORY[:1], "accuracy", tmp_path / "curves.png")
    assert matplotlib.image.imread(tmp_path / "curves.png").min() < 0.5


def test_metrics_need_no_plotting_library() -> None:
    code = "import sys, zoo.evaluation, zoo.training, zoo.one_to_many; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
