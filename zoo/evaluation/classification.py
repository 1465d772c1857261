"""How good a classifier is: its figures, a table of them label by label, and the mistakes it is surest of.

N texts, C labels. Where a text has one label, `targets` is (N,) int64; where it has any number, (N, C) bool.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# torchmetrics is imported where it is used: it takes longer to start than all the rest of zoo.

CALIBRATION_BINS = 15


class Mistake(NamedTuple):
    """A text whose most probable label is wrong, and how probable the classifier took that label to be."""

    text: str
    label: str
    predicted: str
    probability: float


def single_label_figures(probabilities: Tensor, targets: Tensor) -> dict[str, float]:
    """The figures of a classifier that gives each text one label.

    - `accuracy`: the share of the texts whose most probable label is right.
    - `macro_f1`: the mean over the labels of F1. A label that no text has and none is given is left out of the
      mean; one that no text has, but that some are given, counts as 0. (scikit-learn does the same.)
    - `cross_entropy`: the mean over the texts of -log of the probability of the text's label, in nats.
    - `expected_calibration_error`: see Guo et al., "On calibration of modern neural networks" (2017). The texts are
      put into 15 bins by the probability of their most probable label; the error is the mean over the texts of the
      distance, in their bin, from the mean probability to the share that is right.

    Args:
        probabilities: (N, C) in [0, 1].
        targets: (N,) int64 in [0, C).

    Raises:
        ValueError: there are no texts, shapes do not fit, or a value is out of its range.
    """
    probabilities = _checked_probabilities(probabilities)
    targets = _checked_numbers("targets", targets, probabilities.shape[1], len(probabilities))
    confidences, predictions = probabilities.max(dim=1)
    return {
        **_agreement(predictions, targets, probabilities.shape[1]),
        "cross_entropy": _cross_entropy(probabilities.gather(1, targets[:, None])),
        "expected_calibration_error": _calibration_error(confidences, predictions == targets),
    }


def multi_label_figures(probabilities: Tensor, targets: Tensor, threshold: float = 0.5) -> dict[str, float]:
    """The figures of a classifier that gives each text every label whose probability is `threshold` or more.

    - `exact_match`: the share of the texts whose labels are all right, and none missing.
    - `micro_f1`: F1 over all N·C decisions; 0 where no text has a label and none is given one.
    - `macro_f1`: the mean over all C labels of F1. A label that no text has counts as 0, whether any are given it
      or not: unlike that of `single_label_figures`, this mean is over the same labels for every classifier.
    - `cross_entropy`: the mean over all N·C decisions of -log of the probability of the right one, in nats.
    - `expected_calibration_error`: over all N·C decisions, in 15 bins by the label's probability: the distance
      from its mean to the share of the decisions where the text has the label.

    Args:
        probabilities: (N, C) in [0, 1].
        targets: (N, C) bool.
        threshold: in [0, 1].

    Raises:
        ValueError: there are no texts, shapes do not fit, or a value is out of its range.
    """
    from torchmetrics.functional.classification import binary_f1_score, multilabel_f1_score

    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}: expected a probability, 0 to 1")
    predictions = (probabilities >= threshold).cpu()  # before float64: 0.3 is not the same number there
    probabilities = _checked_probabilities(probabilities)
    targets = _checked_decisions("targets", targets, probabilities.shape)
    # Without their check of arguments these take one label, too, which is a classifier like any other.
    macro = multilabel_f1_score(predictions.long(), targets.long(), targets.shape[1], validate_args=False)
    return {
        "exact_match": (predictions == targets).all(dim=1).double().mean().item(),
        "micro_f1": binary_f1_score(predictions.flatten().long(), targets.flatten().long()).item(),
        "macro_f1": macro.item(),
        "cross_entropy": _cross_entropy(torch.where(targets, probabilities, 1 - probabilities)),
        "expected_calibration_error": _calibration_error(probabilities.flatten(), targets.flatten()),
    }


def majority_figures(train_targets: Tensor, targets: Tensor, num_labels: int) -> dict[str, float]:
    """`accuracy` and `macro_f1`, as in `single_label_figures`, of always saying the commonest training label.

    Args:
        train_targets: (M,) int64 in [0, C). Of equally common labels the first is taken.
        targets: (N,) int64 in [0, C).
        num_labels: C.

    Raises:
        ValueError: a tensor is empty or of another shape, or holds a label outside [0, C).
    """
    train_targets = _checked_numbers("train_targets", train_targets, num_labels)
    targets = _checked_numbers("targets", targets, num_labels)
    commonest = int(torch.bincount(train_targets).argmax())
    return _agreement(torch.full_like(targets, commonest), targets, num_labels)


def class_table(targets: Tensor, predictions: Tensor, labels: Sequence[str]) -> str:
    """A plain-text table with a row a label: its examples, precision, recall and F1.

    For one label a text there is also the commonest confusion: the wrong label that most of its examples were
    given, and how many were. A `-` stands for what has no value: precision of a label that is never given, recall
    of one without examples, F1 of one with neither, the confusion of one without mistakes.

    Args:
        targets: (N,) int64 in [0, C), or (N, C) bool.
        predictions: what the classifier says, like `targets`.
        labels: the C names.

    Raises:
        ValueError: there are no texts, shapes do not fit, or a value is out of its range.
    """
    rows = [["label", "examples", "precision", "recall", "F1"]]
    confusions = None
    if targets.dim() == 2:
        targets = _checked_decisions("targets", targets, torch.Size([len(targets), len(labels)]))
        predictions = _checked_decisions("predictions", predictions, targets.shape)
        right = (targets & predictions).sum(dim=0).tolist()
        examples, given = targets.sum(dim=0).tolist(), predictions.sum(dim=0).tolist()
    else:
        confusions = count_confusions(targets, predictions, len(labels))
        right = confusions.diagonal().tolist()
        examples, given = confusions.sum(dim=1).tolist(), confusions.sum(dim=0).tolist()
        rows[0].append("commonest confusion")
    for number, label in enumerate(labels):
        hits, has, gets = right[number], examples[number], given[number]
        rows.append([label, f"{has:,}", _share(hits, gets), _share(hits, has), _share(2 * hits, has + gets)])
        if confusions is not None:
            wrong = confusions[number].index_fill(0, torch.tensor(number), 0)
            times, other = int(wrong.max()), int(wrong.argmax())
            rows[-1].append(f"{labels[other]} ({times:,})" if times else "-")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = "<>>>><"  # names to the left, numbers to the right
    lines = [[f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=False)] for row in rows]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def confident_mistakes(
    texts: Sequence[str], probabilities: Tensor, targets: Tensor, labels: Sequence[str], count: int = 20
) -> list[Mistake]:
    """The texts whose most probable label is wrong, the most probable first, and at most `count` of them.

    Args:
        texts: N.
        probabilities: (N, C) in [0, 1].
        targets: (N,) int64 in [0, C).
        labels: the C names.

    Raises:
        ValueError: there are no texts, their number or a shape does not fit, or a value is out of its range.
    """
    probabilities = _checked_probabilities(probabilities)
    if probabilities.shape != (len(texts), len(labels)):
        raise ValueError(
            f"probabilities has shape {tuple(probabilities.shape)}: expected ({len(texts)}, {len(labels)}), "
            f"a row a text and a column a label"
        )
    targets = _checked_numbers("targets", targets, len(labels), len(texts))
    highest, predictions = probabilities.max(dim=1)
    wrong = (predictions != targets).nonzero().squeeze(1)
    surest = wrong[highest[wrong].argsort(descending=True, stable=True)][:count]
    return [
        Mistake(texts[n], labels[int(targets[n])], labels[int(predictions[n])], float(highest[n]))
        for n in surest.tolist()
    ]


def count_confusions(targets: Tensor, predictions: Tensor, num_labels: int) -> Tensor:
    """The confusion matrix: (C, C) int64 on the CPU; row t, column p counts texts with label t that were given p.

    Args:
        targets: (N,) int64 in [0, C).
        predictions: (N,) int64 in [0, C).
        num_labels: C.

    Raises:
        ValueError: there are no texts, shapes do not fit, or a label is outside [0, C).
    """
    targets = _checked_numbers("targets", targets, num_labels)
    predictions = _checked_numbers("predictions", predictions, num_labels, len(targets))
    return torch.bincount(targets * num_labels + predictions, minlength=num_labels**2).view(num_labels, num_labels)


def _agreement(predictions: Tensor, targets: Tensor, num_labels: int) -> dict[str, float]:
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

    return {
        "accuracy": multiclass_accuracy(predictions, targets, num_labels, average="micro").item(),
        "macro_f1": multiclass_f1_score(predictions, targets, num_labels, average="macro").item(),
    }


def _cross_entropy(probabilities: Tensor) -> float:
    # What is 0 in the end, for want of digits, has cost a great deal, but not all.
    return -probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log().mean().item()


def _calibration_error(confidences: Tensor, right: Tensor) -> float:
    from torchmetrics.functional.classification import binary_calibration_error

    # torchmetrics puts a probability of just 1 into a bin of its own, and takes anything above for a logit.
    below_one = confidences.clamp(max=1 - 2**-53)
    return binary_calibration_error(below_one, right.long(), n_bins=CALIBRATION_BINS, norm="l1").item()


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "-"


def _checked_probabilities(probabilities: Tensor) -> Tensor:
    if probabilities.dim() != 2 or not probabilities.numel():
        raise ValueError(f"probabilities has shape {tuple(probabilities.shape)}: expected (N, C), with a text or more")
    # Sums in 16 and 32 bits may end a little above 1.
    if not bool(((probabilities >= 0) & (probabilities <= 1.01)).all()):
        raise ValueError("probabilities are not all between 0 and 1: expected those after the softmax or sigmoid")
    return probabilities.cpu().double().clamp(max=1)


def _checked_numbers(name: str, numbers: Tensor, num_labels: int, rows: int | None = None) -> Tensor:
    if numbers.dim() != 1 or not len(numbers) or rows not in (None, len(numbers)):
        raise ValueError(f"{name} has shape {tuple(numbers.shape)}: expected ({rows or 'N'},), with a text or more")
    if numbers.is_floating_point() or numbers.dtype == torch.bool:
        raise ValueError(f"{name} has dtype {numbers.dtype}: expected the labels' numbers, int64")
    if not 0 <= int(numbers.min()) <= int(numbers.max()) < num_labels:
        raise ValueError(
            f"{name} go from {int(numbers.min())} to {int(numbers.max())}: expected 0 to {num_labels - 1}, "
            f"for {num_labels} labels"
        )
    return numbers.cpu().long()


def _checked_decisions(name: str, decisions: Tensor, shape: torch.Size) -> Tensor:
    if decisions.shape != shape or not decisions.numel():
        raise ValueError(f"{name} has shape {tuple(decisions.shape)}: expected {tuple(shape)}, with a text or more")
    if decisions.dtype != torch.bool:
        raise ValueError(f"{name} has dtype {decisions.dtype}: expected bool, a column a label")
    return decisions.cpu()
