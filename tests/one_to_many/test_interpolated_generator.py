import pytest
import torch
from safetensors.torch import load_file, save_file

from zoo.core import CELLS
from zoo.data import TextTokenizer
from zoo.errors import InputError
from zoo.evaluation import carried_nats, window_nats
from zoo.one_to_many import InterpolatedGenerator, MarkovGenerator, TextGenerator
from zoo.one_to_many.markov_generator import MARKOV_FILE

TEXT = "the quick brown fox jumps over the lazy dog.\nand then, it sat there; why not?\n" * 5
TOKENIZER = TextTokenizer.train([TEXT], level="char")
TOKENS = torch.tensor(TOKENIZER.encode(TEXT))


def make_mixture(weight=0.25, cell="gru", order=4, **options):
    """A random network whose scores are far enough apart to have opinions, and counts of a text."""
    torch.manual_seed(0)
    network = TextGenerator(tokenizer=TOKENIZER, cell=cell, embedding_size=12, hidden_size=16, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    return InterpolatedGenerator(network.eval(), MarkovGenerator(tokenizer=TOKENIZER, order=order).fit(TOKENS), weight)


def plain_mixture(model, tokens):
    """The plain twin: p of every next token after each of `tokens` (T,), by whole distributions -> (T, V)."""
    network = model.network(tokens[None])[0].softmax(-1)
    counted, state = model.markov.prefill(tokens[None, :1], torch.tensor([1]))
    rows = [counted[0]]
    for token in tokens[1:]:
        counted, state = model.markov.step(token[None], state)
        rows.append(counted[0])
    return (1 - model.weight) * network + model.weight * torch.stack(rows).exp()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("weight", [0.0, 0.25, 0.9])
@torch.inference_mode()
def test_nats_are_those_of_the_mixed_distributions(cell, weight):
    model = make_mixture(weight, cell, ngram_order=3, ngram_buckets=500)
    tokens = torch.tensor(TOKENIZER.encode("a lazy fox, and then? "))
    expected = plain_mixture(model, tokens[:-1])
    assert torch.allclose(expected.sum(-1), torch.ones(len(expected)), atol=1e-5)
    nats = -expected.gather(1, tokens[1:, None]).log().mean()
    assert window_nats(model, tokens[None, :-1], tokens[None, 1:]) == pytest.approx(nats.item(), rel=1e-5)
    assert carried_nats(model, tokens) == pytest.approx(nats.item(), rel=1e-5)


def test_weight_0_is_the_network():
    model = make_mixture(0.0)
    assert carried_nats(model, TOKENS) == pytest.approx(carried_nats(model.network, TOKENS), rel=1e-6)
    options = {"max_new_tokens": 30, "seed": 2, "repetition_penalty": 1.3}
    assert model.generate("the", **options) == model.network.generate("the", **options)


def test_counts_help_a_network_that_knows_nothing_of_the_text():
    found = [carried_nats(make_mixture(weight), TOKENS) for weight in (0.0, 0.25, 0.75)]
    assert found[0] > found[1] > found[2]


@pytest.mark.parametrize("order", [1, 2, 4])
@torch.inference_mode()
def test_chunks_with_the_state_handed_on_are_the_whole(order):
    model = make_mixture(order=order, ngram_order=3, ngram_buckets=500)
    inputs, targets = TOKENS[:120].view(4, 30), TOKENS[1:121].view(4, 30)
    whole, end = model.loss_and_state((inputs, targets), None)
    total, state = 0.0, None
    for start, stop in ((0, 1), (1, 3), (3, 17), (17, 30)):
        loss, state = model.loss_and_state((inputs[:, start:stop], targets[:, start:stop]), state)
        total += loss * (stop - start)
    assert torch.allclose(total / 30, whole)
    assert all(torch.allclose(part, expected, atol=1e-5) for part, expected in zip(state, end, strict=True))


@torch.inference_mode()
def test_greedy_text_is_the_likeliest_of_the_mixture_step_by_step():
    model = make_mixture()
    prompt, text = TOKENIZER.encode("the qu"), []
    for _ in range(12):
        text.append(int(plain_mixture(model, torch.tensor(prompt + text))[-1].argmax()))
    assert model.generate("the qu", max_new_tokens=12, temperature=0) == TOKENIZER.decode(text)


@pytest.mark.parametrize("order", [1, 4])
@pytest.mark.parametrize(
    "options",
    [
        {"seed": 3},
        {"temperature": 0},
        {"seed": 1, "precision": "bfloat16"},
        {"seed": 1, "precision": "float16"},
        {"seed": 4, "stop": ["t", "."], "repetition_penalty": 1.2},  # rows end at different steps
    ],
)
def test_prompts_at_once_equal_one_by_one_and_streams(options, order):
    model = make_mixture(order=order)
    prompts = [TEXT[start : start + (7 * start) % 41] for start in range(20)]
    together = model.generate(prompts, max_new_tokens=12, **options)
    if "precision" not in options:  # products of several rows are rounded otherwise than those of one
        assert together == [model.generate(prompt, max_new_tokens=12, **options) for prompt in prompts]
    alone = model.generate(prompts[3], max_new_tokens=12, **options)
    assert "".join(model.stream(prompts[3], max_new_tokens=12, **options)) == alone
    assert len(set(together)) > 5


def test_training_mode_is_left_as_it_was():
    model = make_mixture(dropout=0.5)
    model.network.train()
    assert model.generate("a", max_new_tokens=9, seed=1) == make_mixture(dropout=0.5).generate(
        "a", max_new_tokens=9, seed=1
    )
    assert model.network.training
    stream = model.stream("a", max_new_tokens=9, seed=1)
    next(stream)
    assert all(module.training for module in model.network.modules())


# --- saved and loaded -----------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    model = make_mixture()
    model.network.save_pretrained(tmp_path)
    model.markov.save(tmp_path)
    return tmp_path


def test_saved_and_loaded_it_says_the_same(saved):
    model, again = make_mixture(0.4), InterpolatedGenerator.from_pretrained(saved, 0.4)
    assert carried_nats(again, TOKENS) == carried_nats(model, TOKENS)
    assert again.generate("fox", seed=1) == model.generate("fox", seed=1)


def test_a_network_without_counts_beside_it(saved):
    (saved / MARKOV_FILE).unlink()
    with pytest.raises(InputError, match=r"has no markov\.safetensors"):
        InterpolatedGenerator.from_pretrained(saved)


def test_damaged_counts(saved):
    file = saved / MARKOV_FILE
    stored = load_file(file)
    for wrong in (
        {name: tensor for name, tensor in stored.items() if name != "tokens"},
        {**stored, "more": torch.tensor(0)},
        *({**stored, "order": torch.tensor(order)} for order in (0, 10**9, [2, 3], 2.5, float("inf"), True)),
        {**stored, "tokens": torch.tensor([], dtype=torch.int32)},
        {**stored, "tokens": stored["tokens"].float()},
        {**stored, "tokens": torch.tensor([TOKENIZER.vocab_size])},
        {**stored, "tokens": torch.tensor([-1])},
    ):
        save_file(wrong, file)
        with pytest.raises(InputError, match=r"markov\.safetensors has no n-gram model in it"):
            InterpolatedGenerator.from_pretrained(saved)
    save_file({**stored, "tokenizer": stored["tokenizer"][:5].clone()}, file)
    with pytest.raises(InputError, match="was counted with another tokenizer"):
        InterpolatedGenerator.from_pretrained(saved)
    file.write_bytes(b"")
    with pytest.raises(InputError, match="not a whole safetensors file"):
        InterpolatedGenerator.from_pretrained(saved)


def test_counts_of_another_tokenizer_of_the_same_size(saved):
    other = TextTokenizer.train([TEXT.swapcase()], level="char")
    assert other.vocab_size == TOKENIZER.vocab_size
    MarkovGenerator(tokenizer=other, order=4).fit(TOKENS).save(saved)
    with pytest.raises(InputError, match="was counted with another tokenizer"):
        InterpolatedGenerator.from_pretrained(saved)


def test_what_was_counted_is_saved_whatever_becomes_of_the_tokens(tmp_path):
    tokens = TOKENS.to(torch.int32)[::2]
    markov = MarkovGenerator(tokenizer=TOKENIZER, order=3).fit(tokens)
    expected = markov.nats_per_token(TOKENS)
    tokens.zero_()
    markov.save(tmp_path)
    assert MarkovGenerator.load(tmp_path, TOKENIZER).nats_per_token(TOKENS) == expected


def test_a_hub_name(saved, hub_of):
    asked = hub_of(saved)
    InterpolatedGenerator.from_pretrained("owner/model", revision="v1")
    assert asked[1] == ("owner/model", {"revision": "v1", "allow_patterns": [MARKOV_FILE]})
    assert len(asked) == 2


def test_a_weight_is_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(ValueError, match="weight is 1"):
        InterpolatedGenerator.from_pretrained(tmp_path / "nowhere", 1)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="is not a folder here"):
        InterpolatedGenerator.from_pretrained(tmp_path / "nowhere")


def test_what_does_not_fit_is_refused(tmp_path):
    model = make_mixture()
    for weight in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=f"weight is {weight}"):
            InterpolatedGenerator(model.network, model.markov, weight)
    other = TextTokenizer.train(["abc"], level="char")
    with pytest.raises(ValueError, match="both must be of the same tokenizer"):
        InterpolatedGenerator(model.network, MarkovGenerator(tokenizer=other))
    with pytest.raises(RuntimeError, match="no counts yet"):
        MarkovGenerator(tokenizer=other).save(tmp_path)
