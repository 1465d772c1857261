"""The text classifier: the same numbers for a text alone and in any batch, and what it tells its users."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

from zoo.core import CELLS
from zoo.data import TextTokenizer
from zoo.data.length_batches import pad
from zoo.many_to_one import TextBatch, TextClassifier

TEXT = "the quick brown fox jumps over the lazy dog.\nand then, it sat there; why not?\n"
TOKENIZER = TextTokenizer.train([TEXT], "char")
LABELS = ["bad", "fair", "good"]
VOCABULARY = 13


def make(seed=0, **options):
    """A random model whose scores are far enough apart to have opinions."""
    torch.manual_seed(seed)
    sizes = {"labels": LABELS, "embedding_size": 6, "hidden_size": 5, "ngram_order": 3, "ngram_buckets": 40}
    model = TextClassifier(**({"vocab_size": VOCABULARY} | sizes | options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


def make_with_tokenizer(**options):
    return make(vocab_size=TOKENIZER.vocab_size, tokenizer=TOKENIZER, **options)


def make_with_bag(**options):
    """Its bag is fitted to some texts."""
    model = make_with_tokenizer(bag_order=2, bag_size=60, **options)
    rows, targets = [torch.tensor(TOKENIZER.encode(TEXT[n : n + 20])) for n in range(30)], torch.arange(30) % 3
    model.fit_bag(rows, F.one_hot(targets).float() if model.multi_label else targets)
    model.pool.copy_(torch.tensor([0.6, 1.3]))
    return model


def gradients(model, loss):
    learned = ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)
    names, parameters = zip(*learned, strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))


def batch_of(rows, targets):
    return TextBatch(*pad(rows), torch.tensor(targets))


# --- padding --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention", "mean+max+attention+last"])
@settings(max_examples=8, deadline=None)
@given(data=st.data(), cell=st.sampled_from(sorted(CELLS)))
def test_scores_loss_and_gradients_are_those_of_each_text_alone(pooling, data, cell):
    """Any lengths, any padding, any order: the batch's loss and gradients are the means over its texts."""
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=6))
    options = {"residual": data.draw(st.booleans()), "adversarial": data.draw(st.sampled_from((0.0, 0.1)))}
    model = make(cell=cell, pooling=pooling, num_layers=2, bag_order=2, **options).double()
    model.fit_bag([torch.arange(VOCABULARY)[n:] for n in range(9)], torch.arange(9) % 3)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    rows = [torch.randint(VOCABULARY, (n,), generator=generator) for n in lengths]
    targets = [n % 3 for n in range(len(rows))]
    tokens, count = pad(rows)
    tokens = torch.cat([tokens, torch.randint(VOCABULARY, (len(rows), data.draw(st.integers(0, 3))))], dim=1)
    for row, n in enumerate(lengths):
        tokens[row, n:] = torch.randint(VOCABULARY, (tokens.shape[1] - n,), generator=generator)
    together = TextBatch(tokens, count, torch.tensor(targets))
    alone = [batch_of([row], [target]) for row, target in zip(rows, targets, strict=True)]
    torch.testing.assert_close(
        model(tokens, count).detach(),
        torch.cat([model(one.tokens, one.lengths).detach() for one in alone]),
    )
    loss, losses = model.loss(together), torch.stack([model.loss(one) for one in alone])
    torch.testing.assert_close(loss, losses.mean())
    expected = gradients(model, losses.mean())
    for name, gradient in gradients(model, loss).items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


@pytest.mark.parametrize("cell", CELLS)
def test_classify_gives_each_text_what_it_gets_alone(cell):
    model = make_with_tokenizer(cell=cell)
    texts = [TEXT[start : start + 1 + (7 * start) % 41] for start in range(40)]
    together = model.classify(texts, top_k=3)
    assert len({found.label for found in together}) > 1
    for text, found in zip(texts, together, strict=True):
        alone = model.classify(text, top_k=3)
        assert alone.label == found.label
        assert [value for _, value in alone.ranking] == pytest.approx([value for _, value in found.ranking], abs=1e-5)
    turned = model.classify(texts[::-1], top_k=3)[::-1]
    assert [found.label for found in turned] == [found.label for found in together]


# --- losses ---------------------------------------------------------------------------------------------------


def test_label_smoothing_and_class_weights_are_cross_entropys():
    model = make(label_smoothing=0.2, class_weights=[1.0, 2.0, 0.5])
    batch = batch_of([torch.tensor([1, 2, 3]), torch.tensor([4, 5])], [0, 1])
    scores = model(batch.tokens, batch.lengths)
    expected = nn.functional.cross_entropy(scores, batch.targets, torch.tensor([1.0, 2.0, 0.5]), label_smoothing=0.2)
    assert torch.equal(model.loss(batch), expected)


def test_multi_label_loss_is_that_of_each_label_by_itself():
    model = make(multi_label=True, label_smoothing=0.2, class_weights=[1.0, 3.0, 1.0])
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    batch = TextBatch(*pad([torch.tensor([1, 2, 3]), torch.tensor([4, 5])]), targets)
    p = model(batch.tokens, batch.lengths).sigmoid()
    smooth = torch.where(targets == 1, 0.9, 0.1)
    weight = torch.tensor([1.0, 3.0, 1.0])
    expected = -(weight * smooth * p.log() + (1 - smooth) * (1 - p).log()).mean()
    torch.testing.assert_close(model.loss(batch), expected)


@pytest.mark.parametrize("multi_label", [False, True])
def test_adversarial_training_learns_from_the_worst_text_of_that_distance(multi_label):
    model = make(adversarial=0.05, multi_label=multi_label).double()
    rows = [torch.tensor([1, 2, 3, 1]), torch.tensor([4, 5])]
    batch = TextBatch(*pad(rows), torch.eye(3).double()[:2] if multi_label else torch.tensor([0, 1]))
    embedded, _ = model.embedding(batch.tokens, None, batch.lengths)

    def loss_of(moved):
        return model._loss(model._scores(moved, batch.lengths)[0], batch.targets, 0.0)

    def moved(direction):
        direction = direction.clone()
        direction[1, 2:] = 0
        reach = 0.05 * torch.stack([embedded[0].norm(), embedded[1, :2].norm()]) / direction.flatten(1).norm(dim=1)
        return embedded + direction * reach.detach()[:, None, None]

    clean = loss_of(embedded)
    (slope,) = torch.autograd.grad(clean, embedded, retain_graph=True)
    worst = loss_of(moved(slope))
    loss = model.loss(batch)
    torch.testing.assert_close(loss, (clean + worst) / 2)
    expected = gradients(model, (clean + loss_of(embedded + (moved(slope) - embedded).detach())) / 2)
    for name, gradient in gradients(model, loss).items():
        torch.testing.assert_close(gradient, expected[name], msg=name)
    assert worst > clean + 0.01
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):  # no other direction is as bad
        assert loss_of(moved(torch.randn(embedded.shape, generator=generator).double())) < worst
    torch.testing.assert_close(model.eval().loss(batch), clean)
    with torch.no_grad():
        torch.testing.assert_close(model.train().loss(batch), clean)


def test_adversarial_training_of_an_embedding_that_does_not_learn():
    model, frozen = make(adversarial=0.05), make(adversarial=0.05)
    frozen.embedding.requires_grad_(False)
    batch = batch_of([torch.tensor([1, 2, 3]), torch.tensor([4, 5])], [0, 1])
    assert torch.equal(model.loss(batch), frozen.loss(batch))
    frozen.loss(batch).backward()
    assert frozen.output.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("frozen", [(), ("core",), ("embedding", "core")])
def test_adversarial_training_in_bfloat16_and_with_frozen_layers(frozen):
    model = make(adversarial=0.05, num_layers=2)
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    batch = batch_of([torch.tensor([1, 2, 3]), torch.tensor([4, 5])], [0, 1])
    expected = gradients(model, model.loss(batch))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(batch)
    for name, gradient in gradients(model, loss).items():
        torch.testing.assert_close(gradient, expected[name], msg=name, rtol=0.05, atol=0.02)


def test_adversarial_training_on_texts_that_are_certain():
    """Their slope is next to nothing, and its square is nothing."""
    model = make(adversarial=0.05)
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.weight[1, 0] = 1e-6
        model.output.bias.copy_(torch.tensor([38.0, 0.0, 0.0]))
    batch = batch_of([torch.tensor([1, 2, 3])], [0])
    seen = []
    model.core.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    model.loss(batch)
    plain, moved = seen
    assert (moved - plain).norm() <= 0.06 * plain.norm()


def test_adversarial_training_where_nothing_depends_on_the_text():
    model = make(adversarial=0.05)
    nn.init.zeros_(model.output.weight)
    loss = model.loss(batch_of([torch.tensor([1, 2, 3])], [0]))
    assert all(gradient.isfinite().all() for gradient in gradients(model, loss).values() if gradient is not None)


@pytest.mark.parametrize(
    "option", ["dropout", "input_dropout", "embedding_dropout", "word_dropout", "ngram_dropout", "weight_dropout"]
)
def test_each_dropout_acts_in_training_alone(option):
    model = make(**{option: 0.5}, num_layers=2)
    tokens, lengths = torch.randint(VOCABULARY, (4, 9)), torch.tensor([9, 4, 7, 2])
    model.eval()
    assert torch.equal(model(tokens, lengths), model(tokens, lengths))
    model.train()
    assert not torch.equal(model(tokens, lengths), model(tokens, lengths))


def test_word_dropout_drops_positions_whole():
    model = make(word_dropout=0.5).train()
    seen = []
    model.core.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    tokens = torch.zeros(1, 400, dtype=torch.long)
    model(tokens, torch.tensor([400]))
    dropped = (seen[0][0] == 0).all(dim=-1)
    assert 120 < dropped.sum() < 280
    assert (seen[0][0][~dropped] != 0).all()


def test_it_learns_what_only_the_order_tells():
    """Which of two letters comes first, far apart: no bag of characters knows."""
    torch.manual_seed(1)
    model = TextClassifier(labels=["a first", "b first"], vocab_size=4, embedding_size=8, hidden_size=16, cell="gru")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        targets = torch.randint(2, (32,))
        tokens = torch.randint(2, 4, (32, 12))
        tokens[:, 2], tokens[:, 9] = targets, 1 - targets
        loss = model.loss(TextBatch(tokens, torch.full((32,), 12), targets))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1


# --- classify and explain ----------------------------------------------------------------------------------------


def test_a_classification_says_what_the_scores_say():
    model = make_with_tokenizer()
    text = "the fox"
    ids = torch.tensor([TOKENIZER.encode(text)])
    with torch.no_grad():
        expected = model(ids, torch.tensor([7]))[0].softmax(dim=-1)
    found = model.classify(text, top_k=2)
    assert found.label == LABELS[int(expected.argmax())]
    assert found.labels == (found.label,)
    assert found.probability == pytest.approx(float(expected.max()))
    assert found.ranking[0] == (found.label, found.probability)
    assert len(found.ranking) == 2
    assert len(model.classify(text, top_k=99).ranking) == 3
    assert model.classify([]) == []
    assert [one.label for one in model.classify(iter([text]))] == [found.label]


def test_a_multi_label_classification_has_all_likely_labels():
    model = make_with_tokenizer(multi_label=True)
    ids = torch.tensor([TOKENIZER.encode("the fox")])
    with torch.no_grad():
        expected = model(ids, torch.tensor([7]))[0].sigmoid()
    found = model.classify("the fox", top_k=3)
    assert set(found.labels) == {label for label, p in zip(LABELS, expected.tolist(), strict=True) if p >= 0.5}
    assert dict(found.ranking) == pytest.approx(dict(zip(LABELS, expected.tolist(), strict=True)))


def test_a_long_text_keeps_its_head_and_its_tail():
    model = make_with_tokenizer(max_length=8)
    ids = TOKENIZER.encode("the quick brown fox")
    whole, short = model.encode(["the quick brown fox", "quickest"])
    assert whole.tolist() == ids
    assert model.shorten(whole).tolist() == ids[:2] + ids[-6:]
    assert model.shorten(whole, 4).tolist() == ids[:1] + ids[-3:]
    assert torch.equal(model.shorten(whole, 100), whole)
    assert torch.equal(model.shorten(short), short)
    with pytest.raises(ValueError, match="max_length is 1"):
        model.shorten(whole, 1)
    assert model.classify("thxxxxxxwn fox") == model.classify("thyyyywn fox")
    explanation = model.explain("the quick brown fox")
    assert "".join(explanation.tokens) == "thwn fox"


@pytest.mark.parametrize("multi_label", [False, True])
def test_weights_sum_to_what_the_text_adds_to_the_log_odds(multi_label):
    model = make_with_tokenizer(pooling="mean+last", multi_label=multi_label).double()
    explanation = model.explain("the fox")
    assert explanation.method == "integrated gradients"
    assert explanation.tokens == tuple("the fox")
    assert len({round(weight, 6) for weight in explanation.weights}) > 4
    lengths = torch.tensor([7])
    embedded = model.embedding(torch.tensor([TOKENIZER.encode("the fox")]), None, lengths)[0].detach()
    number = LABELS.index(explanation.label)
    with torch.no_grad():
        scores = torch.cat([model._scores(part, lengths)[0] for part in (embedded, torch.zeros_like(embedded))])
    p = (scores.sigmoid() if multi_label else scores.softmax(dim=-1))[:, number]
    with_text, without = (p / (1 - p)).log().tolist()
    assert sum(explanation.weights) == pytest.approx(with_text - without, rel=1e-2)
    assert explanation.probability == pytest.approx(float(p[0]))


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_bag_of_ngrams_speaks_for_itself_and_in_explanations(multi_label):
    model = make_with_bag(multi_label=multi_label, pooling="mean+last").eval()
    tokens, lengths = torch.tensor([TOKENIZER.encode("the fox")]), torch.tensor([7])
    with torch.no_grad():
        network, _ = model._scores(model.embedding(tokens)[0], lengths)
        bag = model.bag([tokens[0]])
        torch.testing.assert_close(model(tokens, lengths), 0.6 * network + 1.3 * bag)
        assert bag.abs().max() > 0.01
        targets = torch.tensor([[1.0, 0.0, 1.0]]) if multi_label else torch.tensor([2])
        cross_entropy = F.binary_cross_entropy_with_logits if multi_label else F.cross_entropy
        torch.testing.assert_close(model.loss(TextBatch(tokens, lengths, targets)), cross_entropy(network, targets))

        explanation = model.explain("the fox")
        number = LABELS.index(explanation.label)
        empty = model.pooled(model._scores(torch.zeros(1, 7, 6), lengths)[0], model.bag.bias)
        pooled = model.pooled(network, bag)
        with_text, without = (float(model._log_odds(scores, number)) for scores in (pooled, empty))
    assert sum(explanation.weights) == pytest.approx(with_text - without, rel=1e-2)
    assert explanation.probability == pytest.approx(model.classify("the fox").probability, abs=1e-5)
    assert len({round(weight, 6) for weight in explanation.weights}) > 4


def test_a_bag_reads_what_the_network_does_not():
    model = make_with_bag(pooling="mean", max_length=4)
    text = "the quick brown fox"
    row = torch.tensor(TOKENIZER.encode(text))
    network, bag = model.scores_of([row])
    with torch.no_grad():
        expected = model.eval()._network_scores(model.shorten(row)[None], torch.tensor([4]))
    torch.testing.assert_close(network, expected)
    assert torch.equal(bag, model.bag([row])) and not torch.equal(bag, model.bag([model.shorten(row)]))
    explanation = model.explain(text)
    assert "".join(explanation.tokens) == text
    assert any(explanation.weights[1:-3])
    with torch.no_grad():
        empty = model.pooled(model._scores(torch.zeros(1, 4, 6), torch.tensor([4]))[0], model.bag.bias)
        number = LABELS.index(explanation.label)
        pooled = model.pooled(network, bag)
        with_text, without = (float(model._log_odds(scores, number)) for scores in (pooled, empty))
    assert sum(explanation.weights) == pytest.approx(with_text - without, rel=1e-2)
    with pytest.raises(ValueError, match="no bag of n-grams"):
        make().fit_bag([row], torch.tensor([0]))


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_pools_weights_are_those_that_make_the_targets_most_probable(multi_label):
    model = make_with_bag(multi_label=multi_label)
    generator = torch.Generator().manual_seed(0)
    right = torch.arange(200) % 3
    targets = F.one_hot(right).float()
    noise = torch.randn(2, 200, 3, generator=generator)
    network, bag = 2 * targets + noise[0], 8 * targets + 8 * noise[1]
    targets = targets if multi_label else right
    model.fit_pool(network, bag, targets)

    def objective(weights):
        scores = weights[0] * network + weights[1] * bag
        loss = F.binary_cross_entropy_with_logits if multi_label else F.cross_entropy
        return float(loss(scores, targets) + weights.log().square().sum() / (2 * targets.numel()))

    best = objective(model.pool)
    for step in ((0.01, 0), (-0.01, 0), (0, 0.003), (0, -0.003)):
        assert objective(model.pool + torch.tensor(step)) > best
    assert model.pool[0] > 2 * model.pool[1]  # the bag's opinions are loud
    model.fit_pool(network, -bag, targets)
    assert model.pool[0] > 10 * model.pool[1] > 0
    with pytest.raises(ValueError, match="no bag of n-grams"):
        make().fit_pool(network, bag, targets)


def test_a_token_that_the_model_does_not_look_at_weighs_nothing():
    model = make_with_tokenizer(pooling="max", ngram_order=1)
    with torch.no_grad():
        model.embedding.tokens.weight[TOKENIZER.token_to_id("f")] = 0
    weights = dict(zip("the fox", model.explain("the fox").weights, strict=True))
    assert weights["f"] == 0
    assert weights["x"] != 0


def test_attention_explains_itself():
    model = make_with_tokenizer(pooling="attention", bidirectional=False)
    explanation = model.explain("the fox")
    assert explanation.method == "attention"
    assert sum(explanation.weights) == pytest.approx(1, abs=1e-5)
    assert len(set(explanation.weights)) > 1
    assert explanation.label == model.classify("the fox").label
    assert explanation.probability == pytest.approx(model.classify("the fox").probability, abs=1e-5)


def test_unknown_characters_are_shown_as_they_are():
    assert make_with_tokenizer().explain("Ünïx").tokens == ("Ü", "n", "ï", "x")


def test_classify_leaves_the_mode_as_it_was():
    model = make_with_tokenizer(dropout=0.5).train()
    assert model.classify("the fox") == model.classify("the fox")
    assert model.training
    model.explain("the fox")
    assert model.training


# --- saving and errors ----------------------------------------------------------------------------------------


def test_saved_and_loaded_it_says_the_same(tmp_path):
    options = {"pooling": "attention+last", "max_length": 9, "class_weights": [1.0, 2.0, 3.0], "multi_label": True}
    model = make_with_bag(**options, residual=True)
    model.save_pretrained(tmp_path)
    loaded = TextClassifier.from_pretrained(tmp_path)
    assert loaded.config == model.config
    texts = ["the fox", "why not?", TEXT]
    assert loaded.classify(texts, top_k=3) == model.classify(texts, top_k=3)
    batch = TextBatch(*pad([torch.tensor([1, 2])]), torch.tensor([[1.0, 0.0, 1.0]]))
    assert torch.equal(loaded.loss(batch), model.eval().loss(batch))
    with safe_open(tmp_path / "model.safetensors", "pt") as weights:
        assert "class_weights" not in weights.keys()  # noqa: SIM118 (not a mapping)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["one"]}, "labels are"),
        ({"labels": ["one", "one"]}, "labels are"),
        ({"vocab_size": None}, "vocab_size must be given"),
        ({"vocab_size": 5, "tokenizer": TOKENIZER}, "vocab_size is 5, but the tokenizer has"),
        ({"pooling": "median"}, "pooling is 'median'"),
        ({"max_length": 1}, "max_length is 1"),
        ({"class_weights": [1.0, 2.0]}, "class_weights are"),
        ({"class_weights": [1.0, 2.0, 0.0]}, "class_weights are"),
        ({"word_dropout": 1.0}, "word_dropout is 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"adversarial": -0.1}, "adversarial is -0.1"),
        ({"cell": "transformer"}, "cell is 'transformer'"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"bag_order": 9}, "bag_order is 9"),
        ({"bag_order": 1, "bag_size": 0}, "bag_size is 0"),
        ({"bag_variance": 0.0}, "bag_variance is 0"),
    ],
)
def test_what_is_wrong_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_an_empty_text_and_a_bad_top_k_are_errors():
    model = make_with_tokenizer()
    with pytest.raises(ValueError, match="text 1 of 1 is empty"):
        model.classify("")
    with pytest.raises(ValueError, match="text 2 of 3 is empty"):
        model.classify(["the fox", "", "why"])
    with pytest.raises(ValueError, match="text 1 of 1 is empty"):
        model.explain("")
    with pytest.raises(ValueError, match="top_k is 0"):
        model.classify("the fox", top_k=0)
    with pytest.raises(ValueError, match="no tokenizer"):
        make().classify("the fox")


def test_many_and_long_texts_are_encoded_group_by_group(monkeypatch):
    model = make_with_tokenizer()
    texts = [TEXT[: 1 + n % 50] for n in range(200)]
    expected = [TOKENIZER.encode(text) for text in texts]
    sizes = []
    whole = TextTokenizer.encode_batch
    monkeypatch.setattr("zoo.data.tokenizer.CHARACTERS_AT_ONCE", 100)
    monkeypatch.setattr(TextTokenizer, "encode_batch", lambda self, part: sizes.append(len(part)) or whole(self, part))
    assert [row.tolist() for row in model.encode(texts)] == expected
    assert len(sizes) > 20
    assert model.encode([]) == []
