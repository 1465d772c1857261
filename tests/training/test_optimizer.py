"""Which optimizer moves which parameter, and the learning rate over a run."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from zoo.one_to_many import TextGenerator
from zoo.training import TrainingOptions
from zoo.training.muon import Muon
from zoo.training.optimizer import Pace, build_optimizers, set_learning_rate, warmup_cosine


def make_model(**changes: Any) -> TextGenerator:
    torch.manual_seed(0)
    sizes = {"embedding_size": 6, "hidden_size": 6, "num_layers": 3, "residual": True, "ngram_order": 3}
    return TextGenerator(vocab_size=9, ngram_buckets=11, **(sizes | changes))


def make_optimizers(model: TextGenerator, **changes: Any) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.decoder.core.parameters() if p.ndim == 2]
    return build_optimizers(model, matrices, TrainingOptions(out=Path("run"), max_steps=1, **changes))


def names(model: nn.Module, parameters: list[nn.Parameter]) -> set[str]:
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return {known[id(parameter)] for parameter in parameters}


MATRICES = {f"decoder.core.weight_{kind}_l{layer}" for kind in ("ih", "hh") for layer in range(3)}


@pytest.mark.parametrize(
    ("changes", "decayed"),
    [
        ({}, {"decoder.output.weight"}),
        ({"tied": True}, set()),  # the output's matrix is the embedding
        ({"tied": True, "embedding_size": 5}, {"decoder.projection.weight"}),
    ],
)
def test_weight_decay_is_for_weight_matrices_only(changes: dict[str, Any], decayed: set[str]) -> None:
    model = make_model(**changes)
    everything = {name for name, _ in model.named_parameters()}
    (adamw,) = make_optimizers(model, optimizer="adamw", weight_decay=0.125)
    groups = {group["weight_decay"]: names(model, group["params"]) for group in adamw.param_groups}
    assert groups == {0.125: MATRICES | decayed, 0.0: everything - MATRICES - decayed}
    assert all(word in "".join(groups[0.0]) for word in ("bias", "norms", "embedding", "ngrams"))


@pytest.mark.parametrize("tied", [False, True])
def test_muon_moves_the_matrices_of_the_core_and_nothing_else(tied: bool) -> None:
    model = make_model(tied=tied)
    everything = {name for name, _ in model.named_parameters()}
    adamw, muon = make_optimizers(model, optimizer="muon", weight_decay=0.125, learning_rate=3e-3)
    assert isinstance(adamw, torch.optim.AdamW)
    assert isinstance(muon, Muon)
    assert [names(model, group["params"]) for group in muon.param_groups] == [MATRICES]
    assert muon.param_groups[0]["weight_decay"] == 0.125
    groups = {group["weight_decay"]: names(model, group["params"]) for group in adamw.param_groups}
    decayed = set() if tied else {"decoder.output.weight"}
    expected = {0.125: decayed, 0.0: everything - MATRICES - decayed}
    assert groups == {decay: group for decay, group in expected.items() if group}


def test_muon_without_matrices_is_adamw_alone() -> None:
    model = nn.Linear(2, 2)
    options = TrainingOptions(out=Path("run"), max_steps=1, optimizer="muon")
    (adamw,) = build_optimizers(model, [], options)
    assert sum(len(group["params"]) for group in adamw.param_groups) == 2


def test_a_rate_is_a_share_of_each_groups_own_peak() -> None:
    optimizers = make_optimizers(make_model(), learning_rate=0.004, matrix_learning_rate=0.02)
    for scale in (0.5, 0.25, 1.0):  # not of the rate before
        set_learning_rate(optimizers, scale, 0.0)
        rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
        assert rates == pytest.approx([0.004 * scale, 0.004 * scale, 0.02 * scale])


@pytest.mark.parametrize(
    ("progress", "warmup", "expected"),
    [
        (0.0, 0.2, 0.0),
        (0.05, 0.2, 0.25),
        (0.2, 0.2, 1.0),
        (0.6, 0.2, 0.5),
        (0.4, 0.2, (1 + math.sqrt(0.5)) / 2),
        (1.0, 0.2, 0.0),
        (1.1, 0.2, 0.0),  # the last step of a run by the clock
        (0.0, 0.0, 1.0),
        (0.5, 0.0, 0.5),
    ],
)
def test_warmup_then_cosine(progress: float, warmup: float, expected: float) -> None:
    assert warmup_cosine(progress, warmup) == pytest.approx(expected, abs=1e-12)


def test_paces_scale_the_rate_and_freeze_until_their_time() -> None:
    model = make_model()
    core = dict(model.decoder.core.named_parameters())
    slow = [core["weight_ih_l0"], core["bias_ih_l0"]]
    options = TrainingOptions(out=Path("run"), max_steps=1, learning_rate=0.004, matrix_learning_rate=0.02)
    matrices = [p for p in core.values() if p.ndim == 2]
    optimizers = build_optimizers(model, matrices, options, {p: Pace(0.25, 0.5) for p in slow})
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for share, free in ((0.0, False), (0.49, False), (0.5, True), (1.0, True)):
        set_learning_rate(optimizers, 0.5, share)
        assert [p.requires_grad for p in slow] == [free, free]
        assert all(p.requires_grad for p in model.parameters() if all(p is not one for one in slow))
    rates = {name: group["lr"] for group in groups for name in names(model, group["params"])}
    assert rates["decoder.core.weight_ih_l0"] == pytest.approx(0.02 * 0.25 * 0.5)
    assert rates["decoder.core.bias_ih_l0"] == pytest.approx(0.004 * 0.25 * 0.5)
    assert rates["decoder.core.weight_ih_l1"] == pytest.approx(0.02 * 0.5)
    assert rates["decoder.output.weight"] == pytest.approx(0.004 * 0.5)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_what_is_frozen_does_not_move(optimizer: Any) -> None:
    model = make_model()
    frozen = model.decoder.core.get_parameter("weight_hh_l0")
    options = TrainingOptions(out=Path("run"), max_steps=1, optimizer=optimizer, weight_decay=0.1)
    matrices = [p for p in model.decoder.core.parameters() if p.ndim == 2]
    optimizers = build_optimizers(model, matrices, options, {frozen: Pace(1.0, 0.5)})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for share in (0.2, 0.6):
        set_learning_rate(optimizers, 1.0, share)
        tokens = torch.randint(9, (2, 7))
        model.loss((tokens, tokens)).backward()
        for each in optimizers:
            each.step()
            each.zero_grad(set_to_none=True)
        moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
        assert ("decoder.core.weight_hh_l0" in moved) == (share > 0.5)
        assert "decoder.core.weight_hh_l1" in moved


def test_what_the_model_froze_itself_stays_frozen() -> None:
    model = make_model()
    model.decoder.output.weight.requires_grad_(False)
    set_learning_rate(make_optimizers(model), 1.0, 0.7)
    assert not model.decoder.output.weight.requires_grad
