"""Self-critical training: what is drawn, what it teaches, and that it does."""

import itertools

import pytest
import torch

from zoo.core import ATTENTIONS
from zoo.data import TextTokenizer
from zoo.data.length_batches import pad
from zoo.one_to_many import CaptionBatch, ImageCaptioner
from zoo.one_to_many.self_critical import draw_captions, self_critical_loss

TOKENIZER = TextTokenizer.train(["a b"], "word", pretokenized=True)
IMAGES = torch.randint(256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def make(**options):
    torch.manual_seed(0)
    sizes = {"image_size": 16, "embedding_size": 8, "hidden_size": 8, "num_heads": 2, "max_length": 4, "tied": False}
    model = ImageCaptioner(tokenizer=TOKENIZER, **sizes | options).double().eval()
    with torch.no_grad():
        model.decoder.output.weight *= 3
    return model


def references(*captions):
    return pad([row for caption in captions for row in [torch.tensor(caption)]])


def batch_of(model, several=2):
    written = [TOKENIZER.encode("a b"), TOKENIZER.encode("b")] * len(IMAGES)
    rows = [[*row, model.end_id] for row in written[: several * len(IMAGES)]]
    return CaptionBatch(IMAGES, *references(*rows))


def log_probability(model, image, tokens):
    """log p of one caption as decoding draws it, word by word: what is never written has none."""
    state, memory = model.encode(image[None])
    token, total = torch.tensor([model.end_id]), torch.zeros((), dtype=torch.float64)
    for following in tokens:
        scores, state = model.decoder.step(token, state, memory)
        scores = scores.index_fill(1, torch.tensor(TOKENIZER.never_generated), -torch.inf)
        total = total + scores.log_softmax(-1)[0, following]
        token = torch.tensor([following])
    return total


@pytest.mark.parametrize("attention", [None, "multihead"])
def test_captions_are_drawn_as_often_as_they_are_likely(attention):
    model = make(attention=attention, max_length=2)
    samples = 20_000
    drawn = draw_captions(model, IMAGES[:1], samples)
    rows = [tuple(row[:length]) for row, length in zip(drawn.captions.tolist(), drawn.lengths.tolist(), strict=True)]
    words = [token for token in range(model.end_id) if token not in TOKENIZER.never_generated]
    possible = [(model.end_id,), *itertools.product(words, [*words, model.end_id])]
    assert set(rows) <= set(possible)
    with torch.no_grad():
        expected = [float(log_probability(model, IMAGES[0], caption).exp()) for caption in possible]
    assert sum(expected) == pytest.approx(1)
    for caption, share in zip(possible, expected, strict=True):
        # Five standard deviations.
        assert rows.count(caption) / samples == pytest.approx(share, abs=5 * (share * (1 - share) / samples) ** 0.5)


def test_drawing_follows_the_seed_and_leaves_the_model_as_it_is():
    model = make(dropout=0.5).train()
    torch.manual_seed(3)
    first = draw_captions(model, IMAGES, 4)
    torch.manual_seed(3)
    again = draw_captions(model, IMAGES, 4)
    assert model.training
    assert torch.equal(first.captions, again.captions) and torch.equal(first.lengths, again.lengths)
    assert not torch.equal(first.captions, draw_captions(model, IMAGES, 4).captions)
    for row, length in zip(first.captions.tolist(), first.lengths.tolist(), strict=True):
        assert model.end_id not in row[: length - 1]
        assert row[length - 1] == model.end_id or length == model.max_length
        assert set(row[length:]) <= {model.end_id}


@pytest.mark.parametrize("attention", [None, *ATTENTIONS])
def test_loss_and_gradients_are_reinforces(attention):
    """Against a loop over captions that steps through each of them."""
    model, samples = make(attention=attention), 3
    batch = batch_of(model)

    def reward(captions, wanted):
        assert wanted == [[[*TOKENIZER.encode("a b"), model.end_id], [*TOKENIZER.encode("b"), model.end_id]]] * samples
        return [len(caption) + 0.5 * caption.count(TOKENIZER.encode("a")[0]) for caption in captions]

    torch.manual_seed(5)
    loss = self_critical_loss(model, batch, samples, reward)
    torch.manual_seed(5)
    drawn = draw_captions(model, IMAGES, samples)
    rows = [row[:length] for row, length in zip(drawn.captions.tolist(), drawn.lengths.tolist(), strict=True)]
    expected = torch.zeros((), dtype=torch.float64)
    for image in range(len(IMAGES)):
        few = rows[image * samples : (image + 1) * samples]
        rewards = [len(row) + 0.5 * row.count(TOKENIZER.encode("a")[0]) for row in few]
        for row, earned in zip(few, rewards, strict=True):
            others = (sum(rewards) - earned) / (samples - 1)
            expected = expected - (earned - others) * log_probability(model, IMAGES[image], row)
    expected = expected / sum(map(len, rows))
    torch.testing.assert_close(loss, expected, check_dtype=False)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for got, want in zip(*(torch.autograd.grad(value, parameters) for value in (loss, expected)), strict=True):
        torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)


def test_where_all_are_judged_alike_nothing_is_learnt():
    model = make()
    loss = self_critical_loss(model, batch_of(model), 2, lambda captions, wanted: [1.0] * len(captions))
    assert loss.item() == 0
    assert all(not gradient.any() for gradient in torch.autograd.grad(loss, list(model.decoder.parameters())))


def test_what_is_rewarded_is_said():
    model = make()
    wanted = TOKENIZER.encode("b")[0]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)

    def reward(captions, references):
        return [caption.count(wanted) / len(caption) for caption in captions]

    def earned():
        drawn = draw_captions(model, IMAGES, 200)
        return float((drawn.captions == wanted).sum() / drawn.lengths.sum())

    before = earned()
    for _ in range(40):
        optimizer.zero_grad()
        self_critical_loss(model, batch_of(model), 8, reward).backward()
        optimizer.step()
    assert before < 0.7 < earned()
