import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from zoo.core.state import reorder
from zoo.data import TextTokenizer
from zoo.decoding import Hypothesis
from zoo.decoding.agreement import mean_bleu
from zoo.errors import InputError
from zoo.one_to_many import CaptionBatch, ImageCaptioner, image_captioner
from zoo.one_to_many.nearest_captions import (
    LIKELINESS,
    NEIGHBOURS_FILE,
    NGRAM_WEIGHT,
    PADDING,
    NearestCaptions,
    NgramDecoder,
    agreeing,
)

CAPTIONS = ["a red square", "a blue circle is left of a square", "no", "two red dogs on a square", "blue", "a dog"]
WORDS = TextTokenizer.train(CAPTIONS, "word", pretokenized=True)
IMAGES = torch.randint(256, (7, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
SAID = [[CAPTIONS[number % 6], CAPTIONS[number * 5 % 6]] for number in range(7)]


def make(**options):
    torch.manual_seed(0)
    sizes = {"image_size": 16, "embedding_size": 12, "hidden_size": 12, "num_heads": 3, "max_length": 6}
    model = ImageCaptioner(tokenizer=WORDS, **(sizes | options)).eval()
    with torch.no_grad():
        model.bridge.linear.weight *= 8
        model.position.normal_()
        model.decoder.output.bias[model.end_id] = 1.0
    return model


# --- what is looked up --------------------------------------------------------------------------------------------


def as_lists(captions):
    return [
        [[token for token in one if token != PADDING] for one in several if one[0] != PADDING] for several in captions
    ]


def test_captions_of_the_images_most_alike():
    torch.manual_seed(0)
    vectors, asked = torch.randn(9, 4) + 3, torch.randn(3, 4) * 7 + 3
    captions = [[[number] * (1 + number % 3), [number, 50]][: 1 + number % 2] for number in range(9)]
    nearest = NearestCaptions.of(vectors, captions)
    mean = vectors.mean(dim=0)
    for neighbours in (1, 4, 9, 100):
        for image, found in zip(asked, as_lists(nearest(asked, neighbours).tolist()), strict=True):
            similarity = F.cosine_similarity(image[None] - mean, vectors - mean)
            order = similarity.argsort(descending=True)[:neighbours].tolist()
            assert found == [caption for number in order for caption in captions[number]]


def test_of_one_image_what_was_said_of_it_is_found():
    nearest = NearestCaptions.of(torch.ones(1, 2), [[[4], [5, 6]]])
    assert nearest(torch.randn(2, 2), 3).tolist() == [[[4, PADDING], [5, 6]]] * 2


def test_nothing_at_all_is_refused():
    for captions in ([[[]], [[]]], [[], []]):
        with pytest.raises(ValueError, match="nothing to look among"):
            NearestCaptions.of(torch.eye(2), captions)


# --- words that follow one another --------------------------------------------------------------------------------


def witten_bell(captions, context, vocab_size, end_id):
    """p(next token), counted one by one."""
    p = [1 / vocab_size] * vocab_size
    for order in range(3):
        counts = Counter()
        for caption in captions:
            tokens = [end_id, end_id, *caption, end_id]
            for place in range(2, len(tokens)):
                if tokens[place - order : place] == context[2 - order :]:
                    counts[tokens[place]] += 1
        if counts:
            total = sum(counts.values()) + len(counts)
            p = [(counts[token] + len(counts) * p[token]) / total for token in range(vocab_size)]
    return p


caption_lists = st.lists(
    st.lists(st.lists(st.integers(0, 3), max_size=5), min_size=2, max_size=2), min_size=1, max_size=4
)


@settings(deadline=None, max_examples=50)
@given(said=caption_lists, written=st.lists(st.integers(0, 3), max_size=4), beams=st.integers(1, 3))
def test_ngrams_are_those_of_plain_counting(said, written, beams):
    rows = [[caption + [PADDING] * (5 - len(caption)) for caption in captions] for captions in said]
    decoder = NgramDecoder(5, 4)
    logits, state, memory = decoder.start(torch.tensor(rows, dtype=torch.int32))
    state = reorder(state, torch.arange(len(said)).repeat_interleave(beams))
    logits = logits.repeat_interleave(beams, dim=0)
    context = [4, 4]
    for token in [*written, None]:
        expected = [witten_bell(list(filter(None, captions)), context, 5, 4) for captions in said for _ in range(beams)]
        torch.testing.assert_close(logits.exp(), torch.tensor(expected))
        if token is not None:
            logits, state = decoder.step(torch.full((len(said) * beams,), token), state, memory)
            context = [context[1], token]


# --- how it chooses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_concepts", [0, 5])
@pytest.mark.parametrize("attention", [None, "multihead"])
def test_similar_images_captions_join_in_and_choose(attention, num_concepts, monkeypatch):
    """Images are alike by their concepts, where there are some."""
    model = make(attention=attention, num_concepts=num_concepts)
    before = model.captions_of(IMAGES, num_beams=4, n_best=4)
    model.remember([IMAGES[:3], IMAGES[3:]], SAID)
    assert model.captions_of(IMAGES, num_beams=4, n_best=4) == before  # the model's own number is 0
    chosen = model.captions_of(IMAGES, num_beams=4, n_best=4, neighbours=2)
    assert [found[:2] for found in chosen] == model.captions_of(IMAGES, num_beams=4, n_best=2, neighbours=2)
    monkeypatch.setattr(image_captioner, "agreeing", lambda hypotheses, captions: hypotheses)
    likeliest = model.captions_of(IMAGES, num_beams=4, n_best=4, neighbours=2)
    with torch.no_grad():
        features = model.encoder(IMAGES)
        gist = model.concepts(model.norm(features))[0].sigmoid() if num_concepts else features.mean(dim=1)
    gist = gist - gist.mean(dim=0)
    for number, (found, hypotheses) in enumerate(zip(chosen, likeliest, strict=True)):
        similar = F.cosine_similarity(gist[number][None], gist).argsort(descending=True)[:2].tolist()
        assert similar[0] == number
        said = [WORDS.encode(caption) for image in similar for caption in SAID[image]]
        rows = torch.tensor([caption + [PADDING] * (8 - len(caption)) for caption in said])
        agreement = mean_bleu([WORDS.encode(one.text) for one in hypotheses], rows).tolist()
        order = sorted(
            range(4),
            key=lambda place: (
                not hypotheses[place].finished,
                -agreement[place] - LIKELINESS * hypotheses[place].score,
            ),
        )
        assert found == [hypotheses[place] for place in order]
        for one in found:
            if one.finished and one.text:
                assert one.score == pytest.approx(mixed_log_probability(model, number, one.text, said), abs=1e-4)
    assert chosen != likeliest


def mixed_log_probability(model, number, text, said):
    (row,) = model.caption_rows([text])
    with torch.no_grad():
        network = model(CaptionBatch(IMAGES[number][None], row[None], torch.tensor([len(row)])))[0].softmax(dim=-1)
    tokens = [model.end_id, model.end_id, *row.tolist()]
    total = 0.0
    for place, token in enumerate(row.tolist()):
        ngrams = witten_bell(said, tokens[place : place + 2], model.end_id + 1, model.end_id)
        total += math.log((1 - NGRAM_WEIGHT) * float(network[place, token]) + NGRAM_WEIGHT * ngrams[token])
    return total


def test_where_nothing_was_said_of_similar_images_the_likeliest_comes_first():
    model = make(neighbours=1)
    model.remember([IMAGES], [[""]] * 6 + [["a dog"]])
    for found in model.captions_of(IMAGES, num_beams=3, n_best=3)[:6]:
        assert found == sorted(found, key=lambda one: (not one.finished, -one.score))


def test_a_batch_is_as_one_by_one_and_images_as_features_or_with_their_mirror_images():
    model = make(neighbours=3)
    model.remember([IMAGES], SAID)
    together = model.captions_of(IMAGES)
    alone = [model.captions_of(image[None])[0] for image in IMAGES]
    assert [found[0].text for found in together] == [found[0].text for found in alone]
    assert list(model.captions(list(IMAGES))) == together != list(model.captions(list(IMAGES), neighbours=0))
    with torch.no_grad():
        features = model.encoder(IMAGES)
    assert model.captions_of(features) == together
    both = model.captions_of(IMAGES, mirrored=IMAGES.flip(3), num_beams=3, n_best=3)
    unchosen = model.captions_of(IMAGES, mirrored=IMAGES.flip(3), num_beams=3, n_best=3, neighbours=0)
    assert both != unchosen


def test_features_do_for_the_images_to_remember_and_the_last_ones_given_count():
    models = [make(neighbours=1) for _ in range(2)]
    with torch.no_grad():
        features = models[0].encoder(IMAGES)
    models[0].remember([features[:5], features[5:]], SAID)
    models[1].remember([IMAGES], SAID[::-1])
    models[1].remember(iter([IMAGES]), SAID)
    assert torch.equal(models[0].remembered.captions, models[1].remembered.captions)
    directions = [model.remembered.directions for model in models]
    torch.testing.assert_close(*directions, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("num_concepts", [0, 3])
def test_saved_and_loaded_it_chooses_the_same(tmp_path, num_concepts):
    model = make(neighbours=2, num_concepts=num_concepts)
    model.remember([IMAGES], SAID)
    model.save_pretrained(tmp_path)
    loaded = ImageCaptioner.from_pretrained(tmp_path)
    assert loaded.captions_of(IMAGES) == model.captions_of(IMAGES) != model.captions_of(IMAGES, neighbours=0)
    make(neighbours=2).save_pretrained(tmp_path)
    assert ImageCaptioner.from_pretrained(tmp_path).remembered is None


def test_they_are_fetched_from_the_hub_too():
    assert NEIGHBOURS_FILE in ImageCaptioner.extra_files


def test_what_it_remembers_is_none_of_its_weights(tmp_path):
    model = make(neighbours=2)
    model.save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    model.remember([IMAGES], SAID).save(tmp_path)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda file, tensors: file.write_bytes(file.read_bytes()[:-1]), "not a whole safetensors file"),
        (lambda file, tensors: save_file({"mean": tensors["mean"]}, file), "does not hold images"),
        (
            lambda file, tensors: save_file(tensors | {"captions": tensors["captions"].long()}, file),
            "does not hold images",
        ),
        (lambda file, tensors: save_file(tensors | {"mean": torch.zeros(3)}, file), "of another model"),
        (lambda file, tensors: save_file(tensors | {"captions": tensors["captions"][1:]}, file), "of another model"),
        (lambda file, tensors: save_file(tensors | {"captions": tensors["captions"][:, :0]}, file), "of another model"),
        (
            lambda file, tensors: save_file(tensors | {"captions": tensors["captions"] + 99}, file),
            "tokens that are not",
        ),
        (lambda file, tensors: save_file(tensors | {"captions": tensors["captions"] - 2}, file), "tokens that are not"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, change, match):
    model = make(neighbours=2)
    model.remember([IMAGES], SAID)
    model.save_pretrained(tmp_path)
    file = tmp_path / NEIGHBOURS_FILE
    change(file, load_file(file))
    with pytest.raises(InputError, match=match) as error:
        ImageCaptioner.from_pretrained(tmp_path)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("num_concepts", [0, 3])
def test_it_works_in_the_precision_it_is_moved_to(num_concepts, tmp_path):
    model = make(neighbours=2, num_concepts=num_concepts)
    model.remember([IMAGES], SAID)
    model.to(torch.bfloat16)
    assert len(model.captions_of(IMAGES)) == len(IMAGES)
    model.remembered.save(tmp_path)
    assert NearestCaptions.load(tmp_path, num_concepts or model.encoder.feature_size, WORDS.vocab_size)


def test_a_hypothesis_without_an_end_comes_last():
    hypotheses = [Hypothesis((1, 2), -1.0, -1.0, False), Hypothesis((3,), -9.0, -9.0, True)]
    assert agreeing(hypotheses, torch.tensor([[1, 2]])) == hypotheses[::-1]


def test_what_cannot_be_done_is_said():
    for neighbours in (-1, 101):
        with pytest.raises(ValueError, match=f"neighbours is {neighbours}, but must be from 0"):
            make(neighbours=neighbours)
    model = make(neighbours=2)  # remembers nothing yet, and so chooses as if it were 0
    assert model.captions_of(IMAGES) == make().captions_of(IMAGES)
    with pytest.raises(ValueError, match="neighbours is 2, but this captioner was given no images to remember"):
        model.captions_of(IMAGES, neighbours=2)
    with pytest.raises(ValueError, match="neighbours is -2, but must be from 0"):
        model.captions_of(IMAGES, neighbours=-2)
    for images, captions in (([IMAGES], SAID[1:]), ([], SAID), ([], [])):
        with pytest.raises(ValueError, match="images and captions of"):
            model.remember(images, captions)
    with pytest.raises(ValueError, match="images have the shape"):
        model.remember([torch.zeros(7, 3, 8, 8)], SAID)
    assert model.remembered is None
