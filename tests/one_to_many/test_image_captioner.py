import itertools
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.core import ATTENTIONS, CELLS
from zoo.data import TextTokenizer
from zoo.data.length_batches import pad
from zoo.errors import InputError
from zoo.one_to_many import CaptionBatch, ImageCaptioner

CAPTIONS = ["a red square", "a blue circle is left of a square", "no", "two red dogs on a square", "blue", "a dog"]
WORDS = TextTokenizer.train(CAPTIONS, "word", pretokenized=True)
FEW = TextTokenizer.train(["a b"], "word", pretokenized=True)
IMAGES = torch.randint(256, (7, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
every_attention = pytest.mark.parametrize("attention", [None, *ATTENTIONS])


def make(**options):
    """A captioner of 16 × 16 pixels, a 2 × 2 grid; no two images have much in common for it."""
    torch.manual_seed(0)
    options = {"tokenizer": WORDS, "image_size": 16, "embedding_size": 12, "hidden_size": 12, "num_heads": 3, **options}
    model = ImageCaptioner(**{"max_length": 8} | options).eval()
    with torch.no_grad():
        model.bridge.linear.weight *= 8
        model.position.normal_()
    return model


def captions_of(model, captions):
    return pad(model.caption_rows(captions))


def nats(model, image, caption):
    """log P of one caption of one image, stepping through it."""
    with torch.no_grad():
        state, memory = model.encode(image[None])
        token, total = model.end_id, 0.0
        for following in [*WORDS.encode(caption), model.end_id]:
            logits, state = model.decoder.step(torch.tensor([token]), state, memory)
            total += float(logits.log_softmax(-1)[0, following])
            token = following
    return -total


# --- the loss -----------------------------------------------------------------------------------------------------


@every_attention
@settings(max_examples=5, deadline=None)
@given(data=st.data(), cell=st.sampled_from(sorted(CELLS)), several=st.integers(1, 3))
def test_loss_and_gradients_are_those_of_each_image_and_caption_alone(attention, data, cell, several):
    """Any captions, any padding, one or more captions an image: the batch's sum over tokens is that of its pairs."""
    model = make(attention=attention, cell=cell, label_smoothing=0.1).double()
    chosen = data.draw(st.lists(st.integers(0, len(IMAGES) - 1), min_size=1, max_size=2))
    said = st.lists(st.sampled_from(CAPTIONS), min_size=several, max_size=several)
    written = [data.draw(said) for _ in chosen]
    captions, lengths = captions_of(model, [caption for few in written for caption in few])
    captions = F.pad(captions, (0, data.draw(st.integers(0, 3))), value=3)
    together = model.loss(CaptionBatch(IMAGES[chosen], captions, lengths)) * lengths.sum()
    alone = 0
    for number, few in zip(chosen, written, strict=True):
        for caption in few:
            pair = CaptionBatch(IMAGES[number : number + 1], *captions_of(model, [caption]))
            alone = alone + model.loss(pair) * pair.lengths.sum()
    torch.testing.assert_close(together, alone)
    parameters = list(model.parameters())
    for got, want in zip(*(torch.autograd.grad(loss, parameters) for loss in (together, alone)), strict=True):
        torch.testing.assert_close(got, want)


@every_attention
@pytest.mark.parametrize("cell", CELLS)
def test_whole_captions_at_once_are_as_one_word_at_a_time(attention, cell):
    model = make(attention=attention, cell=cell, num_layers=3)
    captions, lengths = captions_of(model, CAPTIONS)
    batch = CaptionBatch(IMAGES[:2], captions, lengths)  # three captions each
    with torch.no_grad():
        logits = model(batch)
        assert logits.shape == (6, captions.shape[1], WORDS.vocab_size + 1)
        state, memory = model.encode(IMAGES[:2])
        state = tuple(part.repeat_interleave(3, dim=1) for part in state)
        token = torch.full((6,), model.end_id)
        for step in range(captions.shape[1]):
            stepped, state = model.decoder.step(token, state, memory)
            inside = lengths > step
            torch.testing.assert_close(stepped[inside], logits[inside, step], atol=1e-5, rtol=1e-4)
            token = captions[:, step]
    total = sum(nats(model, IMAGES[n // 3], caption) for n, caption in enumerate(CAPTIONS))
    assert float(model.loss(batch).detach()) == pytest.approx(total / int(lengths.sum()), rel=1e-4)


@every_attention
def test_loss_is_the_cross_entropy_of_the_logits(attention):
    model = make(attention=attention, label_smoothing=0.3)
    batch = CaptionBatch(IMAGES[: len(CAPTIONS)], *captions_of(model, CAPTIONS))
    logits = model(batch)
    inside = torch.arange(batch.captions.shape[1]) < batch.lengths[:, None]
    for smoothing in (None, 0.0, 0.2):
        want = F.cross_entropy(
            logits[inside], batch.captions[inside], label_smoothing=0.3 if smoothing is None else smoothing
        )
        torch.testing.assert_close(model.loss(batch, smoothing), want)


@every_attention
def test_features_do_for_their_images(attention):
    model = make(attention=attention)
    captions = captions_of(model, CAPTIONS)
    with torch.no_grad():
        features = model.encoder(IMAGES[:3])
        assert features.shape == (3, 4, model.encoder.feature_size)
        given = [model.loss(CaptionBatch(images, *captions)) for images in (IMAGES[:3], features)]
        assert torch.equal(*given)
        # The cache may keep them in half the bits.
        rounded = model.loss(CaptionBatch(features.bfloat16(), *captions))
        assert float(rounded) == pytest.approx(float(given[0]), rel=0.02)
    assert model.captions_of(features, n_best=3) == model.captions_of(IMAGES[:3], n_best=3)


@every_attention
@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_learns(attention, tied):
    """The encoder's too, unless it is frozen: then nothing is computed backwards through it."""
    model = make(attention=attention, num_layers=3, tied=tied, embedding_size=8).train()
    batch = CaptionBatch(IMAGES[:3], *captions_of(model, CAPTIONS))
    model.loss(batch).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and (parameter.grad != 0).any(), name
    model.zero_grad(set_to_none=True)
    model.encoder.requires_grad_(False)
    model.loss(batch).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("encoder."), name


def test_what_is_fixed_keeps_its_statistics():
    model = make().train()
    before = {name: buffer.clone() for name, buffer in model.encoder.named_buffers()}
    model.encoder.fixed = True
    batch = CaptionBatch(IMAGES[:3], *captions_of(model, CAPTIONS))
    model.train().loss(batch)
    assert all(torch.equal(before[name], buffer) for name, buffer in model.encoder.named_buffers())
    model.encoder.fixed = False
    model.train().loss(batch)
    assert not all(torch.equal(before[name], buffer) for name, buffer in model.encoder.named_buffers())


@every_attention
def test_a_later_word_changes_no_earlier_logits_and_no_other_caption(attention):
    model = make(attention=attention)
    batch = CaptionBatch(IMAGES[:3], *captions_of(model, CAPTIONS))
    other = batch.captions.clone()
    other[1, 3] = (other[1, 3] + 1) % model.end_id
    with torch.no_grad():
        one, two = model(batch), model(batch._replace(captions=other))
    assert torch.equal(one[1, :4], two[1, :4])
    assert (one[1, 4:8] != two[1, 4:8]).any(dim=-1).all()
    rest = [0, 2, 3, 4, 5]
    torch.testing.assert_close(one[rest], two[rest])


@every_attention
def test_the_image_matters_to_every_word_of_its_captions_only(attention):
    model = make(attention=attention)
    batch = CaptionBatch(IMAGES[:2], *captions_of(model, [CAPTIONS[1]] * 4))
    other = batch.images.clone()
    other[1] = IMAGES[2]
    with torch.no_grad():
        one, two = model(batch), model(batch._replace(images=other))
    assert torch.equal(one[:2], two[:2])
    assert (one[2:] != two[2:]).any(dim=-1).all()


def test_where_something_is_in_the_image_matters_to_attention_and_its_position_to_both():
    """Without attention the mean of the features is all there is: the same wherever they stand."""
    for attention in (None, "multihead"):
        model = make(attention=attention)
        features = model.encoder(IMAGES[:1]).detach()
        turned = features.flip(1)
        captions = captions_of(model, CAPTIONS[:1])
        losses = [float(model.loss(CaptionBatch(x, *captions)).detach()) for x in (features, turned)]
        assert (losses[0] == pytest.approx(losses[1], rel=1e-6)) == (attention is None)


@pytest.mark.parametrize("name", ["dropout", "feature_dropout", "input_dropout", "embedding_dropout", "weight_dropout"])
def test_dropout_is_of_training_alone(name):
    model = make(**{name: 0.5})
    batch = CaptionBatch(IMAGES[:3], *captions_of(model, CAPTIONS))
    model.encoder.fixed = True
    with torch.no_grad():
        assert torch.equal(model.loss(batch), make().loss(batch))
        model.train()
        assert not torch.equal(model.loss(batch), model.loss(batch))


# --- captions -----------------------------------------------------------------------------------------------------


@every_attention
@pytest.mark.parametrize("cell", CELLS)
def test_batched_as_one_by_one_in_any_order(attention, cell):
    model = make(attention=attention, cell=cell)
    alone = [model.captions_of(image[None], num_beams=5, n_best=3)[0] for image in IMAGES]
    assert len({tuple(one.text for one in few) for few in alone}) > 1
    assert all(len(few) == 3 for few in alone)
    order = [3, 0, 6, 6, 2, 5, 1, 4]
    together = model.captions_of(IMAGES[order], num_beams=5, n_best=3)
    for got, want in zip(together, (alone[number] for number in order), strict=True):
        assert [one.text for one in got] == [one.text for one in want]
        assert [one.score for one in got] == pytest.approx([one.score for one in want], abs=1e-4)


def test_many_images_in_one_call_as_one_by_one():
    model = make()
    images = [image for image in IMAGES for _ in range(10)]
    together = list(model.captions(images, n_best=2))
    alone = [next(model.captions([image], n_best=2)) for image in IMAGES]
    for number, found in enumerate(together):
        assert [one.text for one in found] == [one.text for one in alone[number // 10]]
        assert [one.score for one in found] == pytest.approx([one.score for one in alone[number // 10]], abs=1e-4)


@every_attention
def test_a_wide_beam_finds_the_best_of_all_captions(attention):
    model = make(attention=attention, tokenizer=FEW, max_length=3)
    with torch.no_grad():
        model.decoder.output.bias[FEW.unknown_id] = 2.0  # tempting
    words = [id for id in range(FEW.vocab_size) if id != FEW.unknown_id]
    every = [row for length in (1, 2, 3) for row in itertools.product(words, repeat=length)]
    assert len(every) == 14
    rows, lengths = pad([torch.tensor([*row, model.end_id]) for row in every])
    for image, found in zip(
        IMAGES, model.captions_of(IMAGES, num_beams=40, n_best=14, length_penalty=1.0), strict=True
    ):
        with torch.no_grad():
            logits = model(CaptionBatch(image[None], rows, lengths)).log_softmax(-1)
        log_p = logits.gather(2, rows[..., None])[..., 0]
        log_p = log_p.masked_fill(torch.arange(rows.shape[1]) >= lengths[:, None], 0).sum(1)
        scores = log_p / ((5 + lengths) / 6)
        best = scores.argsort(descending=True)
        assert [one.text for one in found] == [FEW.decode(every[n]) for n in best.tolist()]
        assert [one.score for one in found] == pytest.approx(scores[best].tolist(), abs=1e-4)
        assert all(one.finished for one in found)


def test_beam_of_one_is_greedy():
    for attention in (None, *ATTENTIONS):
        model = make(attention=attention)
        texts = model.caption(list(IMAGES), num_beams=1)
        for image, text in zip(IMAGES, texts, strict=True):
            assert text == greedy(model, image)


def greedy(model, image):
    with torch.no_grad():
        state, memory = model.encode(image[None])
        token, written = model.end_id, []
        while len(written) < model.max_length:
            logits, state = model.decoder.step(torch.tensor([token]), state, memory)
            logits[:, WORDS.unknown_id] = -torch.inf
            if not written:
                logits[:, model.end_id] = -torch.inf
            token = int(logits.argmax())
            if token == model.end_id:
                break
            written.append(token)
    return WORDS.decode(written)


def test_captions_are_ranked_with_the_models_own_length_penalty(tmp_path):
    model = make(length_penalty=2.0)
    with torch.no_grad():
        model.decoder.output.bias[model.end_id] = 2.0
    model.save_pretrained(tmp_path)
    loaded = ImageCaptioner.from_pretrained(tmp_path)
    own, given = loaded.captions_of(IMAGES, num_beams=4), model.captions_of(IMAGES, num_beams=4, length_penalty=2.0)
    assert own == given != model.captions_of(IMAGES, num_beams=4, length_penalty=0.0)


@every_attention
def test_mirrored_images_are_looked_at_too(attention):
    """Each word's probability is the mean of both views'; an image that is its own mirror image is said the same of."""
    model = make(attention=attention)
    both = model.captions_of(IMAGES, mirrored=IMAGES.flip(3), num_beams=4, length_penalty=0.0)
    assert both != model.captions_of(IMAGES, num_beams=4, length_penalty=0.0)
    for image, (found, *_) in zip(IMAGES, both, strict=True):
        views = [image, image.flip(2)]
        with torch.no_grad():
            states = [model.encode(view[None]) for view in views]
            token, total = model.end_id, 0.0
            for following in [*WORDS.encode(found.text), *[model.end_id] * found.finished]:
                steps = [model.decoder.step(torch.tensor([token]), *state) for state in states]
                total += math.log(sum(float(logits.softmax(-1)[0, following]) for logits, _ in steps) / 2)
                states = [(after, memory) for (_, after), (_, memory) in zip(steps, states, strict=True)]
                token = following
        assert found.score == pytest.approx(total, abs=1e-4)
    own = torch.cat([IMAGES[..., :8], IMAGES[..., :8].flip(3)], dim=3)
    for one, two in zip(model.captions_of(own), model.captions_of(own, mirrored=own.flip(3)), strict=True):
        assert one[0].text == two[0].text
        assert one[0].score == pytest.approx(two[0].score, abs=1e-5)


def test_a_model_looks_at_mirrored_images_as_it_is_told_or_was_made_to(tmp_path):
    make(mirror=True).save_pretrained(tmp_path)
    model = ImageCaptioner.from_pretrained(tmp_path)
    images = list(IMAGES)
    both = model.captions_of(IMAGES, mirrored=IMAGES.flip(3))
    assert list(model.captions(images)) == list(model.captions(images, mirror=True)) == both
    assert model.caption(images) == [few[0].text for few in both]
    assert list(model.captions(images, mirror=False)) == model.captions_of(IMAGES) == list(make().captions(images))
    with pytest.raises(ValueError, match="there are 7 images and 6 mirrored ones"):
        model.captions_of(IMAGES, mirrored=IMAGES[1:])


def test_scores_are_the_log_probabilities_over_the_length_penalty():
    model = make()
    with torch.no_grad():
        model.decoder.output.bias[model.end_id] = 2.0  # or few would end
    found = model.captions_of(IMAGES, num_beams=4, n_best=4, length_penalty=0.6)
    assert any(one.finished for few in found for one in few)
    for image, few in zip(IMAGES, found, strict=True):
        finished = [one for one in few if one.finished]
        assert [one.score for one in finished] == sorted((one.score for one in finished), reverse=True)
        for one in finished:
            length = len(one.text.split()) + 1
            assert one.score == pytest.approx(-nats(model, image, one.text) / ((5 + length) / 6) ** 0.6, abs=1e-3)


@settings(max_examples=12, deadline=None)
@given(
    bias=st.floats(-5, 20),
    num_beams=st.integers(1, 6),
    max_length=st.integers(1, 6),
    ngram=st.sampled_from([None, 1, 2, 3]),
)
def test_unknown_words_never_appear_and_no_caption_is_empty_or_too_long(bias, num_beams, max_length, ngram):
    model = make(max_length=max_length)
    with torch.no_grad():
        model.decoder.output.bias[WORDS.unknown_id] = bias
        model.decoder.output.bias[model.end_id] = bias / 2
    options = {"num_beams": num_beams, "n_best": num_beams, "no_repeat_ngram_size": ngram}
    for few in model.captions_of(IMAGES, **options):
        assert 1 <= len(few) <= num_beams
        for one in few:
            words = one.text.split()
            assert "<unk>" not in words
            assert 1 <= len(words) <= max_length
            assert one.finished or len(words) == max_length or ngram is not None
            if ngram is not None:
                seen = list(zip(*(words[n:] for n in range(ngram)), strict=False))
                assert len(seen) == len(set(seen))


def test_an_image_of_any_kind_or_a_list_of_them(tmp_path):
    model = make()
    image = Image.fromarray(IMAGES[0].permute(1, 2, 0).numpy())
    image.save(tmp_path / "image.png")
    text = model.caption(image)
    assert isinstance(text, str)
    assert text == model.captions_of(IMAGES[:1])[0][0].text
    kinds = [
        image,
        tmp_path / "image.png",
        str(tmp_path / "image.png"),
        (tmp_path / "image.png").read_bytes(),
        np.asarray(image),
        np.asarray(image) / 255,
        IMAGES[0],
        IMAGES[0].float() / 255,
    ]
    for kind in kinds:
        assert model.caption(kind) == text
    assert model.caption(kinds) == model.caption(tuple(kinds)) == [text] * len(kinds)
    assert model.caption([image]) == [text]
    assert model.caption([]) == []
    assert list(model.captions([])) == []


def test_more_images_than_are_read_at_a_time_come_in_their_order():
    model = make()
    order = [number * number % 7 for number in range(150)]
    alone = model.caption(list(IMAGES), num_beams=2)
    found = model.captions((IMAGES[number] for number in order), num_beams=2)
    assert [few[0].text for few in found] == [alone[number] for number in order]


def test_large_and_small_images_are_brought_to_size():
    """`crop` sees the square in the middle only."""
    middle = IMAGES[0].permute(1, 2, 0).numpy()
    wide = np.concatenate([np.zeros_like(middle), middle, np.full_like(middle, 255)], axis=1)
    model = make(resize="crop")
    (cropped,) = model.captions([wide])
    assert cropped == model.captions_of(IMAGES[:1])[0]
    (squashed,) = make(resize="squash").captions([wide])
    assert squashed != cropped


def test_what_is_no_image_is_said(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    model = make()
    for image, message in (
        (tmp_path / "text.jpg", r"text.jpg is no image"),
        ([IMAGES[0], tmp_path / "none.png"], r"none.png: no such file"),
        (IMAGES, r"has the shape \(7, 3, 16, 16\): expected \(3, height, width\)"),
        (None, "type NoneType"),
    ):
        with pytest.raises(InputError, match=message):
            model.caption(image)


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 3, 32, 32), (2, 1, 16, 16), (2, 9, 128), (2, 4, 64)])
def test_images_and_features_of_another_size_are_refused(shape):
    for call in (make().captions_of, make().encode):
        with pytest.raises(ValueError, match=r"but must have \(B, 3, 16, 16\) or, as features, \(B, 4, 128\)") as said:
            call(torch.zeros(shape))
        assert str(shape) in str(said.value)


def test_captioning_leaves_the_model_as_it_was():
    model = make(dropout=0.5).train()
    model.encoder.fixed = True
    model.encoder.trunk.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert model.caption(IMAGES[0]) == make(dropout=0.5).caption(IMAGES[0])
    assert model.training
    assert not model.encoder.trunk.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


# --- where it looks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_where_it_looks(attention):
    model = make(attention=attention, image_size=32)
    image = F.interpolate(IMAGES[:1].float(), (32, 32)).byte()[0]
    words, weights = model.attend(image, "a red zebra")
    assert [word.strip() for word in words] == ["a", "red", "zebra", "</s>"]
    assert weights.shape == (4, 4, 4)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(4))
    assert model.attend(image, "")[1].shape == (1, 4, 4)


def test_the_grid_lies_on_the_image():
    """What is seen at the top right is in the features of the grid's first row and last column."""
    model = make(image_size=32)
    image = F.interpolate(IMAGES[:1].float(), (32, 32)).byte()
    changed = image.clone()
    changed[:, :, :3, -3:] = 255 - changed[:, :, :3, -3:]
    with torch.no_grad():
        difference = (model.encoder(changed) - model.encoder(image)).abs().sum(-1)[0].unflatten(0, model.encoder.grid)
    assert difference[0, -1] > 0
    assert (difference[-1] == 0).all()
    assert (difference[:, 0] == 0).all()


def test_weights_are_those_of_the_step_that_writes_the_word():
    model = make(attention="additive")
    _, weights = model.attend(IMAGES[0], "a red square")
    with torch.no_grad():
        state, memory = model.encode(IMAGES[:1])
        for step, token in enumerate([model.end_id, *WORDS.encode("a red square")]):
            looked = model.decoder.attention_weights(torch.tensor([[token]]), memory, state)
            torch.testing.assert_close(looked[0, 0], weights[step].flatten())
            _, state = model.decoder.step(torch.tensor([token]), state, memory)


def test_without_attention_there_is_nowhere_to_look():
    with pytest.raises(ValueError, match="this captioner has no attention"):
        make(attention=None).attend(IMAGES[0], "a dog")


# --- saving, and bad arguments ------------------------------------------------------------------------------------


@every_attention
def test_a_saved_captioner_is_the_same(attention, tmp_path):
    model = make(attention=attention, cell="gru", tied=False, resize="crop", num_layers=3, label_smoothing=0.1)
    batch = CaptionBatch(IMAGES[:3], *captions_of(model, CAPTIONS))
    model.train().loss(batch)  # the statistics of the batch norms are saved too
    model.eval().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["architecture"], config["attention"], config["backbone"]) == ("ImageCaptioner", attention, "small")
    loaded = ImageCaptioner.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert not loaded.encoder.fixed
    assert loaded.captions_of(IMAGES, n_best=2) == model.captions_of(IMAGES, n_best=2)
    assert torch.equal(loaded.loss(batch), model.loss(batch))


def test_a_backbone_of_torchvision(tmp_path):
    model = make(backbone="squeezenet1_1", image_size=40, fixed=True)
    assert model.position.shape == (4, 512)
    image = F.interpolate(IMAGES[:1].float(), (40, 40)).byte()
    model.save_pretrained(tmp_path)
    loaded = ImageCaptioner.from_pretrained(tmp_path)
    assert loaded.captions_of(image) == model.captions_of(image)
    assert loaded.encoder.fixed and not loaded.train().encoder.trunk.training
    assert model.attend(image[0], "a dog")[1].shape == (3, 2, 2)


def test_it_learns_to_tell_images_apart():
    """From features that were computed once, by a frozen encoder, as well as from images that it must learn to see."""
    images = IMAGES[: len(CAPTIONS)]
    for attention, frozen in ((None, True), ("multihead", True), ("multihead", False)):
        model = make(attention=attention, embedding_size=24, hidden_size=24, cell="gru").train()
        model.encoder.requires_grad_(not frozen)
        model.encoder.fixed = frozen
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
        seen = model.train().encoder(images) if frozen else images
        batch = CaptionBatch(seen, *captions_of(model, CAPTIONS))
        for _ in range(40):
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
        assert model.eval().caption(list(images)) == CAPTIONS, (attention, frozen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 3}, "vocab_size is 3, but the tokenizer has"),
        ({"tokenizer": None}, "vocab_size must be given"),
        ({"backbone": "resnet81"}, "backbone is 'resnet81'.*did you mean resnet18"),
        ({"image_size": 0}, "image_size is 0"),
        ({"max_length": 1001}, "max_length is 1001, but must be from 1 to 1,000"),
        ({"backbone": "squeezenet1_1", "image_size": 4}, "images of 4 × 4 pixels do not go through squeezenet1_1"),
        ({"resize": "stretch"}, "resize is 'stretch', but must be one of squash, crop"),
        ({"embedding_size": 0}, "embedding_size is 0"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"num_layers": 1}, "num_layers is 1, but must be at least 2 with attention 'multihead'"),
        ({"num_layers": 0, "attention": None}, "num_layers is 0, but must be at least 1"),
        ({"cell": "x"}, "cell is 'x'"),
        ({"attention": "dot"}, "attention is 'dot'"),
        ({"num_heads": 5}, "num_heads is 5, but must divide the width of the queries, 12"),
        ({"max_length": 0}, "max_length is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"feature_dropout": -0.1}, "feature_dropout is -0.1"),
        ({"input_dropout": 2}, "input_dropout is 2"),
        ({"embedding_dropout": 1}, "embedding_dropout is 1"),
        ({"weight_dropout": 0.1, "cell": "mingru"}, "weight_dropout is 0.1, but mingru"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "num_beams is 0, but must be from 1"),
        ({"n_best": 6}, "n_best is 6, but must be from 1 to num_beams, 5"),
        ({"length_penalty": -1}, "length_penalty is -1"),
        ({"no_repeat_ngram_size": 0}, "no_repeat_ngram_size is 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    for call in (make().caption, lambda image, **options: make().captions_of(image[None], **options)):
        with pytest.raises(ValueError, match=message):
            call(IMAGES[0], **options)


def test_one_layer_without_attention():
    assert isinstance(make(attention=None, num_layers=1).caption(IMAGES[0]), str)


def test_captions_need_a_tokenizer():
    model = ImageCaptioner(vocab_size=9, image_size=16)
    with pytest.raises(ValueError, match="this ImageCaptioner has no tokenizer"):
        model.caption(IMAGES[0])
