import itertools
import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.core import ATTENTIONS, CELLS
from zoo.data import TextTokenizer
from zoo.data.text_parts import cut_text
from zoo.decoding import beam
from zoo.errors import InputError
from zoo.seq2seq import Translation, TranslationBatch, Translator

ENGLISH = ["the cat sat", "a dog", "one two three four", "no", "the dog sat on a cat, no?", "four"]
FRENCH = ["le chat assis", "un chien", "un deux trois quatre", "non", "le chien assis sur un chat, non ?", "quatre"]
JOINT = TextTokenizer.train(["\n".join(ENGLISH + FRENCH)], "word")
SOURCE, TARGET = (TextTokenizer.train(["\n".join(texts)], "word") for texts in (ENGLISH, FRENCH))
every_attention = pytest.mark.parametrize("attention", [None, *ATTENTIONS])


def make(**options):
    torch.manual_seed(0)
    options = {"tokenizer": JOINT, "embedding_size": 12, "hidden_size": 12, "num_heads": 3, **options}
    return Translator(**options).eval()


def apart(**options):
    return make(tokenizer=TARGET, source_tokenizer=SOURCE, **options)


@every_attention
@settings(max_examples=8, deadline=None)
@given(data=st.data(), cell=st.sampled_from(sorted(CELLS)), encoder_cell=st.sampled_from(sorted(CELLS)))
def test_loss_and_gradients_are_those_of_each_pair_alone(attention, data, cell, encoder_cell):
    """Any lengths, any padding: the batch's sum over tokens is that of its pairs."""
    model = make(attention=attention, cell=cell, encoder_cell=encoder_cell, label_smoothing=0.1).double()
    chosen = data.draw(st.lists(st.integers(0, len(ENGLISH) - 1), min_size=1, max_size=5))
    batch = model.batch([ENGLISH[n] for n in chosen], [FRENCH[n] for n in chosen])
    padded = TranslationBatch(
        F.pad(batch.source, (0, data.draw(st.integers(0, 3))), value=3),
        batch.source_lengths,
        F.pad(batch.target, (0, data.draw(st.integers(0, 3))), value=5),
        batch.target_lengths,
    )
    parameters = list(model.parameters())
    together = model.loss(padded) * batch.target_lengths.sum()
    alone = sum(
        model.loss(pair) * pair.target_lengths.sum()
        for pair in (model.batch([ENGLISH[n]], [FRENCH[n]]) for n in chosen)
    )
    torch.testing.assert_close(together, alone)
    for got, want in zip(*(torch.autograd.grad(loss, parameters) for loss in (together, alone)), strict=True):
        torch.testing.assert_close(got, want)


@every_attention
def test_loss_is_the_cross_entropy_of_the_logits(attention):
    model = make(attention=attention)
    batch = model.batch(ENGLISH, FRENCH)
    logits = model(batch)
    inside = torch.arange(batch.target.shape[1]) < batch.target_lengths[:, None]
    for smoothing in (0.0, 0.2):
        want = F.cross_entropy(logits[inside], batch.target[inside], label_smoothing=smoothing)
        torch.testing.assert_close(model.loss(batch, smoothing), want)


@every_attention
def test_every_parameter_learns(attention):
    for model in (make(attention=attention, num_layers=3), apart(attention=attention, tied=False)):
        model.loss(model.batch(ENGLISH, FRENCH)).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and (parameter.grad != 0).any(), name


@every_attention
def test_a_later_target_token_changes_no_earlier_logits(attention):
    model = make(attention=attention)
    batch = model.batch(ENGLISH[4:5], FRENCH[4:5])
    other = batch.target.clone()
    other[:, 3] = (other[:, 3] + 1) % model.end_id
    one, two = model(batch), model(batch._replace(target=other))
    assert torch.equal(one[:, :4], two[:, :4])
    assert not torch.equal(one[:, 4:], two[:, 4:])


@every_attention
def test_the_source_matters_to_every_step(attention):
    model = make(attention=attention)
    one, two = (model(model.batch([text], FRENCH[:1])) for text in ENGLISH[:2])
    assert (one != two).any(dim=-1).all()


@every_attention
def test_beam_of_one_is_greedy_and_batches_change_nothing(attention):
    model = make(attention=attention)
    texts = [" ".join(words) for words in itertools.product(["the", "a", "dog"], ["cat", "sat on", "no, four"])]
    alone = [model.translations([text], num_beams=3, n_best=2)[0] for text in texts]
    for batch_tokens in (1, 40, 10_000):
        together = model.translations(texts, num_beams=3, n_best=2, batch_tokens=batch_tokens)
        for got, want in zip(together, alone, strict=True):
            assert [one.text for one in got] == [one.text for one in want]
            assert [one.score for one in got] == pytest.approx([one.score for one in want], abs=1e-4)
    for text in texts:
        assert model.translate(text, num_beams=1) == greedy(model, text)


def test_short_sources_are_batched_by_the_scores_of_their_beams(monkeypatch):
    model, rows = make(), []
    texts = ["a", "no", "the", "dog", "four", "one two three four"]
    whole = model.translations(texts, num_beams=3)
    monkeypatch.setattr(beam, "MAX_SCORES", 2 * 3 * (JOINT.vocab_size + 1))
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda source, lengths: rows.append(len(source)) or encode(source, lengths))
    limited = model.translations(texts, num_beams=3)
    assert rows == [2, 2, 2]
    for got, want in zip(limited, whole, strict=True):
        assert got[0].text == want[0].text
        assert got[0].score == pytest.approx(want[0].score, abs=1e-4)


def greedy(model, text):
    (source,) = model.source_rows([text])
    with torch.no_grad():
        state, memory = model.encode(source[None].long(), torch.tensor([len(source)]))
        token, written = model.end_id, []
        while len(written) < 2 * len(source) + 10:
            logits, state = model.decoder.step(torch.tensor([token]), state, memory)
            logits[:, JOINT.unknown_id] = -torch.inf
            token = int(logits.argmax())
            if token == model.end_id:
                break
            written.append(token)
    return JOINT.decode(written).strip()


def test_scores_are_the_log_probabilities_over_the_length_penalty():
    model = make()
    for found in model.translations(ENGLISH, num_beams=4, n_best=4, length_penalty=0.6):
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    (found,) = model.translations(["the cat"], num_beams=4, n_best=1, length_penalty=0)
    row = torch.tensor([*JOINT.encode(found[0].text), model.end_id])
    if found[0].finished:
        batch = TranslationBatch(*(part for text in ["the cat"] for part in model.batch([text], [""])))
        batch = batch._replace(target=row[None], target_lengths=torch.tensor([len(row)]))
        assert found[0].score == pytest.approx(-float(model.loss(batch).detach()) * len(row), abs=1e-3)


def test_a_list_for_a_list_a_text_for_a_text_and_nothing_for_nothing():
    model = make()
    assert isinstance(model.translate("the cat"), str)
    assert model.translate(["the cat", "", "  ", "no"])[1:3] == ["", ""]
    assert model.translate([]) == []
    assert model.translations([""], n_best=2, num_beams=2) == [[Translation("", 0.0, True, 0)]]


def test_unknown_words_scripts_and_emoji_are_read_and_never_written():
    for model in (make(), apart()):
        for text in ("zebra", "猫が好き 🐈", "e\u0301", "\ud800 cat"):
            assert "<unk>" not in model.translate(text)


def test_texts_longer_than_any_in_training_are_translated_in_parts():
    model = make(max_length=8)
    for text, parts in (
        ("the cat sat. the dog sat on a cat", ["the cat sat.", "the dog sat on a cat"]),
        (" the cat sat on a dog ", ["the cat sat on a dog"]),
        ("the " * 9, ["the the the the the the the", "the the"]),
    ):
        (translations,) = model.translations([text], num_beams=2, n_best=2)
        assert translations[0].parts == len(parts)
        alone = [model.translations([part], num_beams=2, n_best=2)[0][0] for part in parts]
        assert translations[0].text == " ".join(one.text for one in alone if one.text)
        assert translations[0].score == pytest.approx(sum(one.score for one in alone), abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(["the", "cat.", " zebra", "\n", "🐈,", " "]), max_size=9).map(" ".join)),
    max_length=st.integers(2, 9),
)
def test_just_the_texts_that_have_too_many_tokens_are_cut(texts, max_length):
    model, whole = make(max_length=max_length), make()
    found = model.translations(texts, num_beams=1)
    for text, (translation,) in zip(texts, found, strict=True):
        parts = cut_text(JOINT.pieces(text.strip()), max_length - 1)
        assert translation.parts == len(parts)
        alone = whole.translate(parts, num_beams=1)
        assert translation.text == " ".join(one for one in alone if one)


def test_a_translation_is_no_longer_than_its_source_allows():
    for ratio in (1.0, 3.0):
        model = make(max_ratio=ratio)
        with torch.no_grad():
            model.decoder.output.bias[model.end_id] = -1e4  # it never ends
        (found,) = model.translations(["the cat sat"], num_beams=1)
        assert not found[0].finished
        assert len(JOINT.encode(found[0].text)) == int(ratio * 4) + 10
        (found,) = model.translations(["the cat sat"], num_beams=1, max_ratio=0)
        assert len(JOINT.encode(found[0].text)) == 10


def test_alignments():
    model = apart(attention="additive")
    source, target, weights = model.align("the cat sat", "le chat")
    assert source == ["the", " cat", " sat", "</s>"]
    assert target == ["le", " chat", "</s>"]
    assert weights.shape == (3, 4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3))
    with pytest.raises(ValueError, match="has no attention"):
        make(attention=None).align("the", "le")


def test_one_that_is_saved_over_another_leaves_nothing_of_it(tmp_path):
    apart().save_pretrained(tmp_path)
    model = make()
    model.save_pretrained(tmp_path)
    assert Translator.from_pretrained(tmp_path).translate(ENGLISH) == model.translate(ENGLISH)


@every_attention
@pytest.mark.parametrize("build", [make, apart])
def test_a_saved_translator_is_the_same(build, attention, tmp_path):
    model = build(attention=attention, max_length=30, encoder_cell="gru", tied=False, label_smoothing=0.1)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == "Translator"
    assert (tmp_path / "source_tokenizer.json").exists() == (build is apart)
    loaded = Translator.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert loaded.translations(ENGLISH, n_best=2) == model.translations(ENGLISH, n_best=2)


def test_a_lost_source_tokenizer_is_said(tmp_path):
    apart().save_pretrained(tmp_path)
    (tmp_path / "source_tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"no source_tokenizer"):
        Translator.from_pretrained(tmp_path).translate("the cat")
    (tmp_path / "source_tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=r"source_tokenizer.json is truncated"):
        Translator.from_pretrained(tmp_path)


def test_tied_embeddings_are_one_tensor():
    joint, two = make(), apart()
    assert joint.encoder.embedding.tokens.weight is joint.decoder.output.weight
    assert two.encoder.embedding.tokens.weight is not two.decoder.embedding.tokens.weight
    assert two.decoder.embedding.tokens.weight is two.decoder.output.weight
    loose = make(tied=False)
    assert loose.decoder.embedding.tokens.weight is not loose.decoder.output.weight


def test_it_learns_to_translate():
    torch.manual_seed(0)
    for attention in (None, "multihead"):
        model = apart(attention=attention, embedding_size=24, hidden_size=24, cell="gru").train()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        batch = model.batch(ENGLISH, FRENCH)
        for _ in range(120):
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
        assert model.eval().translate(ENGLISH) == FRENCH


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 13, "attention": None}, "hidden_size 13, but must be at least 1, and even"),
        ({"num_layers": 1}, "num_layers is 1, but must be at least 2"),
        ({"attention": "dot"}, "attention is 'dot'"),
        ({"max_length": 1}, "max_length is 1, but must be at least 2"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"cell": "x"}, "cell is 'x'"),
        ({"encoder_cell": "x"}, "cell is 'x'"),
        ({"vocab_size": 3}, "vocab_size is 3, but the tokenizer has"),
        ({"source_tokenizer": SOURCE, "source_vocab_size": 3}, "source_vocab_size is 3, but the source_tokenizer has"),
        ({"max_ratio": -1.0}, "max_ratio -1.0"),
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
        ({"min_ratio": 3, "max_ratio": 2.5}, "min_ratio is 3 and max_ratio 2.5"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make().translate("the cat", **options)


def test_one_layer_without_attention():
    model = make(attention=None, num_layers=1)
    assert model.encoder.upper_core is None
    assert isinstance(model.translate("the cat"), str)


def test_texts_need_a_tokenizer():
    with pytest.raises(ValueError, match="no tokenizer"):
        Translator(vocab_size=9).translate("the cat")
