import math

import pytest
import torch

from zoo.data import TextTokenizer
from zoo.data.length_batches import pad
from zoo.errors import InputError
from zoo.one_to_many import CaptionBatch, ImageCaptioner
from zoo.one_to_many.visual_concepts import VisualConcepts

CAPTIONS = ["a red square", "a blue circle is left of a square", "no", "two red dogs on a square", "blue", "a dog"]
WORDS = TextTokenizer.train(CAPTIONS, "word", pretokenized=True)
IMAGES = torch.randint(256, (7, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def make(**options):
    torch.manual_seed(0)
    sizes = {"image_size": 16, "embedding_size": 12, "hidden_size": 12, "num_heads": 3, "max_length": 8}
    model = ImageCaptioner(tokenizer=WORDS, **(sizes | {"num_concepts": 5} | options)).eval()
    with torch.no_grad():
        for weight in (model.concepts.told.weight, model.concepts.whole.weight, model.concepts.place.weight):
            weight *= 20
    return model


def batch_of(model, captions, images=IMAGES):
    return CaptionBatch(images, *pad(model.caption_rows(captions)))


@torch.no_grad()
def test_a_word_is_looked_for_in_the_whole_and_at_each_place():
    torch.manual_seed(0)
    concepts = VisualConcepts(4, 3, dropout=0.5).eval()
    features = torch.randn(2, 5, 4)
    logits, told = concepts(features)
    for image in range(2):
        for word in range(3):
            places = [features[image, place] @ concepts.place.weight[word] for place in range(5)]
            anywhere = math.log(sum(math.exp(float(score)) for score in places) / 5)
            whole = concepts.whole(features[image].mean(dim=0))[word]
            assert float(logits[image, word]) == pytest.approx(float(whole) + anywhere, rel=1e-4)
    torch.testing.assert_close(told, concepts.told(torch.sigmoid(logits)))
    concepts.train()
    assert not torch.equal(concepts(features)[0], concepts(features)[0])


def test_its_target_is_the_share_of_an_images_captions_that_have_the_word():
    """Padding, however it is filled, and tokens that are no concepts count for nothing; images as often as tokens."""
    concepts = VisualConcepts(4, 3, dropout=0.0)
    captions = torch.tensor([[0, 9, 1], [1, 1, 9], [9, 0, 0], [2, 9, 7]])
    lengths = torch.tensor([2, 3, 1, 2])
    shares = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 0.5]])
    logits = torch.tensor([[0.3, -1.0, 2.0], [0.0, 1.5, -0.7]])
    p = logits.sigmoid()
    first, second = -(shares * p.log() + (1 - shares) * (1 - p).log()).sum(dim=1)
    torch.testing.assert_close(concepts.loss(logits, captions, lengths), (5 * first + 3 * second) / 8)


def test_it_starts_from_how_often_words_are_said():
    concepts = VisualConcepts(4, 3, dropout=0.0)
    concepts.expect([torch.tensor(row, dtype=torch.int32) for row in ([0, 1, 0], [0, 8], [0], [])])
    assert concepts.whole.bias.sigmoid().tolist() == pytest.approx([3.5 / 5, 1.5 / 5, 0.5 / 5])


@pytest.mark.parametrize("attention", [None, "multihead"])
def test_the_decoder_is_told_of_them(attention):
    model = make(attention=attention)
    batch = batch_of(model, CAPTIONS, IMAGES[:6])
    with torch.no_grad():
        before = model(batch)
        model.concepts.whole.bias[2] += 3
        assert not torch.allclose(model(batch), before, atol=1e-3)


@pytest.mark.parametrize("attention", [None, "multihead"])
def test_one_by_one_as_in_a_batch_and_step_by_step(attention):
    model = make(attention=attention)
    batch = batch_of(model, CAPTIONS, IMAGES[:6])
    with torch.no_grad():
        logits = model(batch)
        state, memory = model.encode(IMAGES[:6])
        token = torch.full((6,), model.end_id)
        for step in range(batch.captions.shape[1]):
            stepped, state = model.decoder.step(token, state, memory)
            inside = batch.lengths > step
            torch.testing.assert_close(stepped[inside], logits[inside, step], atol=1e-5, rtol=1e-4)
            token = batch.captions[:, step]
    alone = [model.captions_of(image[None])[0][0] for image in IMAGES]
    together = [found[0] for found in model.captions_of(IMAGES)]
    assert [one.text for one in together] == [one.text for one in alone]
    assert [one.score for one in together] == pytest.approx([one.score for one in alone], abs=1e-4)


def test_their_loss_is_of_training_alone():
    model = make(concept_weight=0.3)
    model.encoder.fixed = True
    batch = batch_of(model, [*CAPTIONS, *CAPTIONS], IMAGES[:6])  # two captions each
    with torch.no_grad():
        plain = model.loss(batch)
        features = model.norm(model.encoder(batch.images))
        added = model.concepts.loss(model.concepts(features)[0], batch.captions, batch.lengths)
        model.train()
        torch.testing.assert_close(model.loss(batch), plain + 0.3 * added)
    model.loss(batch).backward()
    assert all((parameter.grad != 0).any() for parameter in model.concepts.parameters())


def test_saved_and_loaded_it_gives_the_same_numbers(tmp_path):
    model = make()
    model.save_pretrained(tmp_path)
    loaded = ImageCaptioner.from_pretrained(tmp_path)
    batch = batch_of(model, CAPTIONS, IMAGES[:6])
    with torch.no_grad():
        assert torch.equal(loaded(batch), model(batch))
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"num_concepts": 5', '"num_concepts": 0'))
    with pytest.raises(InputError, match=r"has concepts\.place\.weight, which this ImageCaptioner lacks"):
        ImageCaptioner.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"num_concepts": -1}, "num_concepts is -1, but must be from 0"),
        ({"num_concepts": WORDS.vocab_size + 1}, f"must be from 0 to the vocabulary's {WORDS.vocab_size}"),
        ({"concept_weight": -0.1}, "concept_weight is -0.1"),
        ({"concept_weight": math.nan}, "concept_weight is nan"),
    ],
)
def test_options_out_of_range(option, match):
    with pytest.raises(ValueError, match=match):
        ImageCaptioner(tokenizer=WORDS, image_size=16, **option)
