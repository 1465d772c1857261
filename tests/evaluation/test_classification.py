import math
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from zoo.evaluation.classification import (
    Mistake,
    class_table,
    confident_mistakes,
    count_confusions,
    majority_figures,
    multi_label_figures,
    single_label_figures,
)

# Predicted 0, 0, 1, 2, 1; the right ones are the first, third and fourth.
PROBABILITIES = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.7, 0.2], [0.2, 0.3, 0.5], [0.2, 0.6, 0.2]])
TARGETS = torch.tensor([0, 1, 1, 2, 2])


def f1(targets: Tensor, predictions: Tensor) -> float:
    """Of one label, by its definition; NaN where it has none."""
    right, given, examples = (targets & predictions).sum(), predictions.sum(), targets.sum()
    return math.nan if given + examples == 0 else float(2 * right / (given + examples))


def calibration_error(confidences: Tensor, right: Tensor, bins: int = 15) -> float:
    """Guo et al. (2017), equation 3, bin by bin; what is on an edge belongs to the bin above, but 1 to the last."""
    total = 0.0
    for number in range(bins):
        inside = (confidences.double() * bins).floor().clamp(max=bins - 1) == number
        if inside.any():
            distance = right[inside].double().mean() - confidences[inside].double().mean()
            total += float(inside.double().mean() * distance.abs())
    return total


def random_case(seed: int, rows: int, num_labels: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    probabilities = (3 * torch.randn(rows, num_labels, generator=generator)).softmax(dim=1)
    return probabilities, torch.multinomial(probabilities.sqrt(), 1, generator=generator).squeeze(1)


def test_single_label_figures_by_hand() -> None:
    figures = single_label_figures(PROBABILITIES, TARGETS)
    assert list(figures) == ["accuracy", "macro_f1", "cross_entropy", "expected_calibration_error"]
    assert figures["accuracy"] == pytest.approx(3 / 5)
    of_the_right_ones = PROBABILITIES[range(5), TARGETS].tolist()
    assert figures["cross_entropy"] == pytest.approx(-sum(map(math.log, of_the_right_ones)) / 5)
    # Each label is right once, is given 2, 2 and 1 times, and is that of 1, 2 and 2 texts.
    assert figures["macro_f1"] == pytest.approx((2 / (2 + 1) + 2 / (2 + 2) + 2 / (1 + 2)) / 3)
    # Bins of 1/15: 0.8 (right), 0.7 (right) and 0.5 (right) are alone in theirs, 0.6 and 0.6 (both wrong) share one.
    assert figures["expected_calibration_error"] == pytest.approx((0.2 + 0.3 + 0.5 + 2 * 0.6) / 5, abs=1e-6)


@pytest.mark.parametrize(("rows", "num_labels"), [(1, 2), (7, 2), (500, 5), (3000, 28)])
def test_single_label_figures_equal_their_definitions(rows: int, num_labels: int) -> None:
    probabilities, targets = random_case(rows, rows, num_labels)
    confidences, predictions = probabilities.max(dim=1)
    figures = single_label_figures(probabilities, targets)
    assert figures["accuracy"] == pytest.approx(float((predictions == targets).double().mean()))
    scores = [f1(targets == label, predictions == label) for label in range(num_labels)]
    scores = [score for score in scores if not math.isnan(score)]
    assert figures["macro_f1"] == pytest.approx(sum(scores) / len(scores))
    expected = calibration_error(confidences, predictions == targets)
    assert figures["expected_calibration_error"] == pytest.approx(expected, abs=1e-9)


def test_a_label_without_examples_counts_only_if_it_is_given() -> None:
    targets = torch.tensor([0, 0, 1])
    sure = torch.eye(4)
    assert single_label_figures(sure[targets], targets)["macro_f1"] == pytest.approx(1)
    # 0 has F1 2·1 / (1 + 2), 1 has 1, 3 is given once and has none: 0; 2 is left out.
    assert single_label_figures(sure[[0, 3, 1]], targets)["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_certain_probabilities_share_the_last_bin() -> None:
    # 1 (wrong) and 0.96 (right) are 0.98 on average and half right: 0.48. In bins of their own they would give 0.52.
    probabilities = torch.tensor([[1.0, 0.0], [0.96, 0.04]])
    figures = single_label_figures(probabilities, torch.tensor([1, 0]))
    assert figures["expected_calibration_error"] == pytest.approx(0.48, abs=1e-6)
    # A sum in float32 may end above 1, which is no logit.
    probabilities = torch.tensor([[1.0 + 1e-6, 0.0]])
    assert single_label_figures(probabilities, torch.tensor([0]))["expected_calibration_error"] < 1e-6
    assert single_label_figures(probabilities, torch.tensor([0]))["cross_entropy"] == 0
    assert 700 < single_label_figures(probabilities, torch.tensor([1]))["cross_entropy"] < 710  # not infinite


def test_half_precision_is_measured_as_it_is() -> None:
    probabilities, targets = random_case(0, 300, 4)
    half = probabilities.bfloat16()
    assert single_label_figures(half, targets) == single_label_figures(half.double(), targets)


MULTI_PROBABILITIES = torch.tensor([[0.9, 0.2, 0.1], [0.4, 0.6, 0.1], [0.7, 0.5, 0.2], [0.1, 0.3, 0.3]])
MULTI_TARGETS = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]]).bool()


def test_multi_label_figures_by_hand() -> None:
    figures = multi_label_figures(MULTI_PROBABILITIES, MULTI_TARGETS)
    assert list(figures) == ["exact_match", "micro_f1", "macro_f1", "cross_entropy", "expected_calibration_error"]
    right = [0.9, 0.8, 0.9, 0.4, 0.6, 0.9, 0.7, 0.5, 0.8, 0.9, 0.7, 0.7]
    assert figures["cross_entropy"] == pytest.approx(-sum(map(math.log, right)) / 12)
    assert figures["exact_match"] == pytest.approx(2 / 4)  # the first and the last
    # Right 3, given 4 (0.5 is enough), had 4. By label: 2 of 2 and 3; 1 of 2 and 1; none of none counts as 0.
    assert figures["micro_f1"] == pytest.approx(6 / 8)
    assert figures["macro_f1"] == pytest.approx((4 / 5 + 2 / 3 + 0) / 3)
    higher = multi_label_figures(MULTI_PROBABILITIES, MULTI_TARGETS, threshold=0.55)
    assert higher["exact_match"] == pytest.approx(3 / 4)
    assert higher["micro_f1"] == pytest.approx(6 / 7)
    assert higher["expected_calibration_error"] == figures["expected_calibration_error"]


@pytest.mark.parametrize(("rows", "num_labels"), [(1, 1), (9, 1), (1, 3), (800, 6)])
def test_multi_label_figures_equal_their_definitions(rows: int, num_labels: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    probabilities = torch.rand(rows, num_labels, generator=generator)
    targets = torch.rand(rows, num_labels, generator=generator) < probabilities**2
    targets[0, 0] = True
    predictions = probabilities >= 0.4
    figures = multi_label_figures(probabilities, targets, 0.4)
    assert figures["exact_match"] == pytest.approx(sum(map(torch.equal, predictions, targets)) / rows)
    assert figures["micro_f1"] == pytest.approx(f1(targets, predictions))
    scores = [f1(targets[:, label], predictions[:, label]) for label in range(num_labels)]
    assert figures["macro_f1"] == pytest.approx(sum(0 if math.isnan(s) else s for s in scores) / num_labels)
    expected = calibration_error(probabilities.flatten(), targets.flatten())
    assert figures["expected_calibration_error"] == pytest.approx(expected, abs=1e-9)


def test_no_labels_at_all_are_matched_exactly() -> None:
    figures = multi_label_figures(torch.zeros(3, 2), torch.zeros(3, 2).bool())
    assert figures.pop("exact_match") == 1
    assert set(figures.values()) == {0}


def test_a_threshold_is_met_in_the_precision_of_the_probabilities() -> None:
    assert multi_label_figures(torch.tensor([[0.7]]), torch.tensor([[True]]), 0.7)["exact_match"] == 1


def test_majority_figures_by_hand() -> None:
    # The commonest is 1: of 5 targets 2 are; F1 2·2 / (5 + 2), and 0 for label 0; 2 is neither given nor had.
    figures = majority_figures(torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0, 0, 0, 1]), 3)
    assert figures == {"accuracy": pytest.approx(2 / 5), "macro_f1": pytest.approx((4 / 7 + 0) / 2)}
    tied = majority_figures(torch.tensor([2, 1]), torch.tensor([1]), 3)
    assert tied == {"accuracy": 1, "macro_f1": 1}


def test_class_table_by_hand() -> None:
    targets = torch.tensor([0, 0, 0, 0, 1, 1])
    predictions = torch.tensor([0, 2, 2, 1, 1, 1])
    assert class_table(targets, predictions, ["sport", "art", "science", "none"]).split("\n") == [
        "label    examples  precision  recall     F1  commonest confusion",
        "sport           4      1.000   0.250  0.400  science (2)",
        "art             2      0.667   1.000  0.800  -",
        "science         0      0.000       -  0.000  -",
        "none            0          -       -      -  -",
    ]


def test_class_table_of_several_labels_by_hand() -> None:
    assert class_table(MULTI_TARGETS, MULTI_PROBABILITIES >= 0.5, ["joy", "anger", "awe"]).split("\n") == [
        "label  examples  precision  recall     F1",
        "joy           3      1.000   0.667  0.800",
        "anger         1      0.500   1.000  0.667",
        "awe           0          -       -      -",
    ]


def test_confusions_are_counted_by_true_label() -> None:
    counts = count_confusions(torch.tensor([0, 0, 1, 2]), torch.tensor([1, 1, 1, 0]), 3)
    assert counts.tolist() == [[0, 2, 0], [0, 1, 0], [1, 0, 0]]


def test_confident_mistakes_are_the_surest_first() -> None:
    texts, labels = ["a", "b", "c", "d", "e"], ["x", "y", "z"]
    # Sixteenths, which float32 holds exactly.
    probabilities = torch.tensor([[15, 1, 0], [10, 6, 0], [3, 0, 13], [1, 12, 3], [13, 3, 0]]) / 16
    targets = torch.tensor([0, 2, 1, 0, 1])
    found = confident_mistakes(texts, probabilities, targets, labels)
    assert found == [
        Mistake("c", "y", "z", 13 / 16),
        Mistake("e", "y", "x", 13 / 16),
        Mistake("d", "x", "y", 12 / 16),
        Mistake("b", "z", "x", 10 / 16),
    ]
    assert confident_mistakes(texts, probabilities, targets, labels, count=2) == found[:2]
    assert confident_mistakes(["a"], probabilities[:1], targets[:1], labels) == []
    many = [str(number) for number in range(500)]  # equally sure of all: in the texts' order
    certain = torch.tensor([[1 + 1e-6, 0.0]]).repeat(500, 1)  # as a softmax in float32 may end
    found = confident_mistakes(many, certain, torch.ones(500, dtype=torch.long), ["x", "y"], count=500)
    assert found == [Mistake(text, "y", "x", 1.0) for text in many]


def test_importing_the_metrics_does_not_start_torchmetrics() -> None:
    code = "import sys, zoo.evaluation, zoo.evaluation.classification; sys.exit('torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_errors_say_what_was_given_and_expected() -> None:
    two = torch.tensor([[0.5, 0.5], [0.2, 0.8]])
    wrong: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: single_label_figures(two[:0], TARGETS[:0]), r"probabilities has shape \(0, 2\)"),
        (lambda: single_label_figures(two[0], TARGETS), r"probabilities has shape \(2,\): expected \(N, C\)"),
        (lambda: single_label_figures(two.log(), TARGETS[:2]), "not all between 0 and 1"),
        (lambda: single_label_figures(two * math.nan, TARGETS[:2]), "not all between 0 and 1"),
        (lambda: single_label_figures(two, TARGETS), r"targets has shape \(5,\): expected \(2,\)"),
        (lambda: single_label_figures(two, torch.tensor([0, 2])), "targets go from 0 to 2: expected 0 to 1"),
        (lambda: single_label_figures(two, torch.tensor([0.0, 1.0])), "targets has dtype torch.float32"),
        (lambda: multi_label_figures(two, TARGETS[:2]), r"targets has shape \(2,\): expected \(2, 2\)"),
        (lambda: multi_label_figures(two, two), "targets has dtype torch.float32: expected bool"),
        (lambda: multi_label_figures(two, two > 0.5, 1.5), "threshold is 1.5"),
        (lambda: majority_figures(TARGETS[:0], TARGETS, 3), r"train_targets has shape \(0,\)"),
        (lambda: majority_figures(TARGETS, TARGETS, 2), "train_targets go from 0 to 2: expected 0 to 1, for 2 labels"),
        (lambda: class_table(TARGETS, TARGETS[:2], ["a", "b", "c"]), r"predictions has shape \(2,\): expected \(5,\)"),
        (lambda: class_table(two > 0.5, two > 0.5, ["a"]), r"targets has shape \(2, 2\): expected \(2, 1\)"),
        (lambda: confident_mistakes(["a"], two, TARGETS[:2], ["a", "b"]), r"shape \(2, 2\): expected \(1, 2\)"),
    )
    for use, message in wrong:
        with pytest.raises(ValueError, match=message):
            use()
