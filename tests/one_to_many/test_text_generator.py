import pytest
import torch

from zoo.core import CELLS, PackedDecoder, detach
from zoo.data import TextTokenizer
from zoo.decoding import beam
from zoo.one_to_many import TextGenerator, generation

TEXT = "the quick brown fox jumps over the lazy dog.\nand then, it sat there; why not?\n" * 5
TOKENIZERS = {
    "char": TextTokenizer.train([TEXT], level="char"),
    "word": TextTokenizer.train([TEXT], level="word"),
    "bpe": TextTokenizer.train([TEXT], level="bpe", vocab_size=300),
}
every_cell = pytest.mark.parametrize("cell", CELLS)
every_level = pytest.mark.parametrize("level", TOKENIZERS)


def make_generator(cell="gru", level="char", **options):
    """A random model whose scores are far enough apart to have opinions."""
    torch.manual_seed(0)
    options = {"embedding_size": 12, "hidden_size": 16, "num_layers": 2, **options}
    model = TextGenerator(tokenizer=TOKENIZERS[level], cell=cell, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


def prompts_of_all_lengths(number=64):
    return [TEXT[start : start + (7 * start) % 41] for start in range(number)]


# --- generate -----------------------------------------------------------------------------------------------


@every_cell
@pytest.mark.parametrize("options", [{"seed": 3}, {"temperature": 0}], ids=["sampled", "greedy"])
def test_64_prompts_at_once_equal_one_by_one(cell, options):
    model = make_generator(cell, ngram_order=3, ngram_buckets=500)
    prompts = prompts_of_all_lengths()
    assert len({len(prompt) for prompt in prompts}) > 20
    together = model.generate(prompts, max_new_tokens=12, **options)
    assert together == [model.generate(prompt, max_new_tokens=12, **options) for prompt in prompts]
    assert len(set(together)) > 10


@pytest.mark.parametrize("level", ["word", "bpe"])
def test_64_prompts_at_once_equal_one_by_one_on_every_level(level):
    model = make_generator("lstm", level)
    prompts = prompts_of_all_lengths()
    options = {"max_new_tokens": 12, "seed": 4, "top_p": 0.9, "repetition_penalty": 1.2, "stop": ["t", "."]}
    together = model.generate(prompts, **options)
    assert together == [model.generate(prompt, **options) for prompt in prompts]
    assert len(set(map(len, together))) > 2  # rows end at different steps


@every_cell
@every_level
def test_streamed_pieces_joined_are_what_generate_returns(cell, level):
    model = make_generator(cell, level)
    for options in ({"seed": 1}, {"seed": 2, "stop": ["e", "th"]}, {"temperature": 0}, {"seed": 5, "top_k": 3}):
        pieces = list(model.stream("the ", max_new_tokens=40, **options))
        assert "".join(pieces) == model.generate("the ", max_new_tokens=40, **options)


@pytest.mark.parametrize("cell", ["lstm", "mingru"])
def test_a_thousand_characters_with_and_without_a_stop_string(cell):
    model = make_generator(cell)
    whole = model.generate("the ", max_new_tokens=1000, seed=1)
    assert len(whole) == 1000
    # A pair of characters that first comes up late.
    stop = next(whole[n : n + 2] for n in range(300, 998) if whole.find(whole[n : n + 2]) == n)
    stopped = model.generate("the ", max_new_tokens=1000, seed=1, stop=stop)
    assert stopped == whole[: whole.index(stop)]
    assert "".join(model.stream("the ", max_new_tokens=1000, seed=1, stop=stop)) == stopped
    never = "\u2603" * 3
    assert model.generate("the ", max_new_tokens=1000, seed=1, stop=never) == whole


def test_several_continuations_differ_and_the_first_is_that_of_one():
    model = make_generator()
    five = model.generate("the ", num_return=5, max_new_tokens=30, seed=7)
    assert len(set(five)) == 5
    assert five[0] == model.generate("the ", max_new_tokens=30, seed=7)
    two_prompts = model.generate(["and", "the "], num_return=5, max_new_tokens=30, seed=7)
    assert two_prompts[1] == five
    assert model.generate("the ", num_return=2, max_new_tokens=30, seed=7) == five[:2]


def test_same_seed_same_text_and_another_seed_another():
    model = make_generator()
    texts = [model.generate("the ", max_new_tokens=40, seed=seed) for seed in (1, 1, 2, 0, -1)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 4
    unseeded = {model.generate("the ", max_new_tokens=40) for _ in range(3)}
    assert len(unseeded) == 3


def test_without_a_seed_equal_prompts_have_different_texts():
    model = make_generator()
    assert len(set(model.generate(["the "] * 5, max_new_tokens=30))) == 5
    drawn = model.generate(["the "] * 3, num_return=2, max_new_tokens=30)
    assert len({text for pair in drawn for text in pair}) == 6
    assert len(set(model.generate(["the "] * 5, max_new_tokens=30, seed=1))) == 1


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_weights_of_16_bits_are_those_of_every_step(monkeypatch, precision):
    model, steps = make_generator(), []
    step = PackedDecoder.step
    monkeypatch.setattr(PackedDecoder, "step", lambda self, *given: steps.append(given) or step(self, *given))
    text = model.generate("abc", max_new_tokens=9, seed=1, precision=precision)
    assert len(steps) == 8  # the first token comes of the prompt
    assert model.stepper(precision).dtype == getattr(torch, precision)
    assert "".join(model.stream("abc", max_new_tokens=9, seed=1, precision=precision)) == text


def test_an_unknown_precision():
    with pytest.raises(ValueError, match="precision is int8, but must be one of float32, bfloat16, float16"):
        make_generator().generate("abc", precision="int8")


def test_temperature_zero_is_repeatable_without_a_seed():
    model = make_generator()
    assert len({model.generate("the ", max_new_tokens=60, temperature=0) for _ in range(3)}) == 1


def test_temperature_zero_takes_the_best_token_of_the_whole_model_each_time():
    model = make_generator("lstm").eval()
    tokenizer = model.tokenizer
    ids = tokenizer.encode("the ")
    with torch.no_grad():
        for _ in range(25):
            logits = model(torch.tensor([ids]))[0, -1]
            logits[tokenizer.unknown_id] = -torch.inf
            ids.append(int(logits.argmax()))
    assert model.generate("the ", max_new_tokens=25, temperature=0) == tokenizer.decode(ids[4:])


@every_level
@pytest.mark.parametrize("prompt", ["", "🙂", "Zürich 漢字", "\ud83d", "\x00", " ", "\n\n", "the 🙂 fox"])
def test_any_prompt_is_continued(level, prompt):
    model = make_generator(level=level)
    text = model.generate(prompt, max_new_tokens=15, seed=1)
    assert text
    assert "<unk>" not in text
    assert "".join(model.stream(prompt, max_new_tokens=15, seed=1)) == text
    assert model.generate([prompt, "the "], max_new_tokens=15, seed=1)[0] == text
    if level == "char":
        assert len(text) == 15


@pytest.mark.parametrize(
    "limit", [(generation, "BATCH_TOKENS", 60), (beam, "MAX_SCORES", 200)], ids=["tokens", "scores"]
)
def test_many_prompts_are_continued_some_at_a_time_with_the_same_texts(monkeypatch, limit):
    model, shapes = make_generator("lstm"), []
    prompts = [*prompts_of_all_lengths(20), TEXT[:200]]
    calls = [
        lambda: model.generate(prompts, max_new_tokens=8, seed=3, num_return=2, stop=["t", "."]),
        lambda: model.beam_search(prompts, max_new_tokens=4, num_beams=3),
    ]
    whole = [call() for call in calls]
    monkeypatch.setattr(*limit)
    prefill = PackedDecoder.prefill
    monkeypatch.setattr(
        PackedDecoder, "prefill", lambda self, *given: shapes.append(given[0].shape) or prefill(self, *given)
    )
    for call, texts in zip(calls, whole, strict=True):
        shapes.clear()
        assert call() == texts
        assert len(shapes) > 3
        beams = 1 if call is calls[0] else 3
        for rows, steps in shapes:
            assert rows == 1 or rows * steps <= generation.BATCH_TOKENS
            assert rows == 1 or rows * beams * model.tokenizer.vocab_size <= beam.MAX_SCORES


@every_level
def test_beam_search_finds_what_is_likelier_than_greedy_for_each_prompt_alone(level):
    model = make_generator(level=level, ngram_order=2)
    prompts = ["the quick", "", "and then, it", "ünknown"]
    found = model.beam_search(prompts, max_new_tokens=6, num_beams=5)
    assert found == [model.beam_search(prompt, max_new_tokens=6) for prompt in prompts]
    assert model.beam_search([]) == []
    greedy = model.generate(prompts, max_new_tokens=6, temperature=0)
    assert model.beam_search(prompts, max_new_tokens=6, num_beams=1) == greedy
    tokenizer, better = model.tokenizer, 0
    for prompt, texts in zip(prompts, zip(found, greedy, strict=True), strict=True):
        sums = []
        for text in texts:
            start = tokenizer.encode(prompt) or [tokenizer.newline_id]
            whole = torch.tensor([tokenizer.encode(tokenizer.decode(start) + text)])
            if whole.shape[1] != len(start) + 6:
                break  # other tokens spell the same text
            with torch.no_grad():
                scores = model.eval()(whole[:, :-1]).log_softmax(-1).gather(2, whole[:, 1:, None])[0, :, 0]
            sums.append(float(scores[-6:].sum()))
        if len(sums) == 2:
            assert sums[0] >= sums[1] - 1e-4
            better += sums[0] > sums[1] + 1e-4
    assert better or level == "bpe"  # whose pieces rarely come back as they were


@pytest.mark.parametrize(("options", "message"), [({"num_beams": 0}, "num_beams is 0"), ({"max_new_tokens": -1}, "-1")])
def test_bad_options_of_beam_search_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_generator().beam_search("the", **options)


def test_a_long_prompt_is_read_whole():
    model = make_generator("mingru")
    tail = "the lazy dog. " * 5
    texts = {model.generate(head + tail[:3], max_new_tokens=20, temperature=0) for head in ("a", "b", "c", "d")}
    assert len(texts) > 1


def test_no_new_tokens_is_no_text():
    model = make_generator()
    assert model.generate("the ", max_new_tokens=0) == ""
    assert list(model.stream("the ", max_new_tokens=0)) == []


def test_generating_leaves_no_gradient_and_no_trace():
    model = make_generator()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.generate("the ", max_new_tokens=5, seed=1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.loss((torch.ones(2, 4, dtype=torch.long), torch.ones(2, 4, dtype=torch.long))).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


# --- training and evaluation mode ---------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_generate_and_stream_put_the_mode_back(training):
    model = make_generator(dropout=0.5).train(training)
    model.generate("the ", max_new_tokens=3)
    assert all(module.training == training for module in model.modules())
    for _ in model.stream("the ", max_new_tokens=3):
        pass
    assert model.training == training
    unfinished = model.stream("the ", max_new_tokens=30)
    next(unfinished)
    unfinished.close()
    assert model.training == training
    with pytest.raises(ValueError, match="top_k"):
        model.generate("the ", top_k=0)
    assert model.training == training


def test_streams_take_turns_on_a_model_in_training():
    options = {"dropout": 0.5, "input_dropout": 0.5, "weight_dropout": 0.5}
    model = make_generator("lstm", **options).train()
    alone = [list(model.stream(prompt, max_new_tokens=20, temperature=0)) for prompt in ("the ", "and")]
    streams = [model.stream(prompt, max_new_tokens=20, temperature=0) for prompt in ("the ", "and")]
    pieces = [[next(stream) for stream in streams]]
    assert all(module.training for module in model.modules())
    pieces += [list(pair) for pair in zip(*streams, strict=True)]
    assert [list(several) for several in zip(*pieces, strict=True)] == alone
    assert all(module.training for module in model.modules())


def test_a_frozen_part_stays_in_evaluation_mode():
    model = make_generator(dropout=0.5).train()
    model.decoder.core.eval()
    model.generate("the ", max_new_tokens=3)
    assert model.training
    assert not model.decoder.core.training


def test_dropout_does_not_act_while_generating():
    model = make_generator(dropout=0.5, input_dropout=0.5, embedding_dropout=0.5, weight_dropout=0.5).train()
    texts = {model.generate("the ", max_new_tokens=40, temperature=0) for _ in range(3)}
    assert texts == {model.eval().generate("the ", max_new_tokens=40, temperature=0)}


# --- loss ---------------------------------------------------------------------------------------------------


@every_cell
def test_loss_is_the_mean_surprise_of_each_next_token(cell):
    model = make_generator(cell).eval()
    inputs, targets = torch.randint(20, (3, 8)), torch.randint(20, (3, 8))
    probabilities = torch.softmax(model(inputs), dim=-1)
    expected = -torch.stack([probabilities[b, t, targets[b, t]].log() for b in range(3) for t in range(8)]).mean()
    torch.testing.assert_close(model.loss((inputs, targets)), expected)


@every_cell
def test_windows_with_carried_state_have_the_loss_of_the_whole(cell):
    model = make_generator(cell, ngram_order=3).eval()
    tokens = torch.randint(20, (3, 13))
    whole = model.loss((tokens[:, :-1], tokens[:, 1:]))
    state, losses = None, []
    for start in range(0, 12, 4):
        window = tokens[:, start : start + 5]
        loss, state = model.loss_and_state((window[:, :-1], window[:, 1:]), state)
        losses.append(loss)
        state = detach(state)
    torch.testing.assert_close(torch.stack(losses).mean(), whole)
    losses[-1].backward()


def test_a_batch_can_be_learned_by_heart():
    model = make_generator("lstm")
    tokens = torch.tensor([TOKENIZERS["char"].encode(TEXT[:41])])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.loss((tokens[:, :-1], tokens[:, 1:]))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert model.generate(TEXT[:4], max_new_tokens=30, temperature=0) == TEXT[4:34]


# --- construction -------------------------------------------------------------------------------------------


def test_vocabulary_size_comes_from_the_tokenizer_or_must_be_its_own():
    tokenizer = TOKENIZERS["char"]
    model = TextGenerator(tokenizer=tokenizer, embedding_size=4, hidden_size=4)
    assert model.config["vocab_size"] == model.decoder.vocab_size == tokenizer.vocab_size
    with pytest.raises(ValueError, match=f"vocab_size is 5, but the tokenizer has {tokenizer.vocab_size} tokens"):
        TextGenerator(vocab_size=5, tokenizer=tokenizer, embedding_size=4, hidden_size=4)
    with pytest.raises(ValueError, match="vocab_size must be given"):
        TextGenerator(embedding_size=4, hidden_size=4)


def test_without_a_tokenizer_it_scores_but_does_not_generate():
    model = TextGenerator(vocab_size=9, embedding_size=4, hidden_size=4)
    assert model(torch.zeros(2, 3, dtype=torch.long)).shape == (2, 3, 9)
    with pytest.raises(ValueError, match="has no tokenizer"):
        model.generate("a")
    with pytest.raises(ValueError, match="has no tokenizer"):
        next(model.stream("a"))
