"""Train a text generator: a recurrent language model over characters, words or byte pairs.

python scripts/train_text_generator.py --out runs/docs                      # CPython's own documentation
python scripts/train_text_generator.py --out runs/mine --data my_texts/     # your own text
python scripts/generate_text.py runs/docs --prompt "The import statement"
"""

import math
import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.command_line import figures_line, parse_options, plain_options, run_script
from zoo.core import State, detach, replace_rows
from zoo.core.dropout import check_probability
from zoo.data import (
    ContiguousWindows,
    LongText,
    TextTokenizer,
    Tokens,
    WindowBatch,
    cached_tokenizer,
    fresh_windows,
    load_text,
    spread,
    tokenize,
)
from zoo.data.cache_folder import default_cache
from zoo.device import choose_precision
from zoo.errors import InputError, as_input_error
from zoo.evaluation import carried_nats, window_nats
from zoo.evaluation.curves import draw_curves
from zoo.evaluation.perplexity import perplexity
from zoo.one_to_many import InterpolatedGenerator, MarkovGenerator, TextGenerator
from zoo.training import (
    Pace,
    Processes,
    RunFolder,
    TrainingOptions,
    check_run_folder,
    train,
)
from zoo.training.source_run import with_values_of

SIZES = ("embedding_size", "hidden_size", "num_layers", "cell", "tied", "residual", "ngram_order", "ngram_buckets")
FRESH_WINDOW = 256  # nanoGPT's block size on Tiny Shakespeare
EVALUATION_ROWS = 32
SAMPLE_TOKENS, FINAL_SAMPLE_TOKENS = 200, 300  # of a sample in the course of the run, and of those at its end
SAMPLE_TEMPERATURES = (0.5, 0.8, 1.0)


@dataclass
class TextGeneratorOptions:
    """What to train on, and which model.

    The text of files is read a part at a time, as often as it is needed. Of a text with more than 16 million
    characters the tokens, too, are on the disk: it is tokenized once, and memory does not grow with it.

    Args:
        data: python_docs (built in), text files, folders, or a hub data set; several separated by commas.
        validation_data: Text to validate on; without it, the last part of each source is held out.
        validation_fraction: The share that is held out.
        text_column: The column of a data set that has the text.
        level: What a token is.
        tokenizer_size: The most tokens in the vocabulary.
        min_frequency: Characters or words rarer than this are unknown, so that the model learns what to make of those
            (byte pairs are not merged); if left out, 2 for words, but 1 where pretokenized text has <unk> already.
        tokenizer_characters: The most characters that words or byte pairs are counted in, spread evenly over the text.
        cache: Folder for the tokens of texts of more than 16 million characters; if left out, the user's cache folder.
        validation_tokens: The most tokens to validate on, in long stretches spread evenly over what is held out.
        pretokenized: Words are already separated by blanks (Penn Treebank, WikiText); for level word.
        lowercase: Take upper case for lower case: of use to a text classifier that starts from this run.
        init_from: A run or saved model to start from, with its tokenizer.
        window: Steps of truncated backpropagation; the state is carried from window to window.
        restart: Share of the rows that start a window from nothing instead, so that the model also learns to begin.
        cell: rnn, lstm, gru, mingru or minlstm.
        embedding_size: Width of the token embeddings.
        hidden_size: Width of each recurrent layer.
        num_layers: Recurrent layers.
        tied: Score with the embedding matrix instead of one of its own.
        residual: Pre-norm residual connections round the layers; worth it from three layers on.
        ngram_order: Longest n-gram with an embedding of its own; 1 for none.
        ngram_buckets: Rows of each n-gram table.
        dropout: Locked dropout between layers and before the output.
        input_dropout: Locked dropout on the embeddings.
        embedding_dropout: Share of the vocabulary dropped whole.
        ngram_dropout: Share of the n-gram embeddings dropped whole.
        weight_dropout: Share of the recurrent weights dropped.
        markov_order: Order of the n-gram model that is counted beside it for comparison.
        markov_tokens: The most tokens that it is counted in, in long stretches spread evenly over the text.
        markov_weight: Its share in the mixture with the network that is measured at the end; nothing is trained by it.
    """

    data: str = "python_docs"
    validation_data: str | None = None
    validation_fraction: float = 0.1
    text_column: str = "text"
    level: Literal["char", "word", "bpe"] = "char"
    tokenizer_size: int | None = None
    min_frequency: int | None = None
    tokenizer_characters: int = 50_000_000
    cache: Path | None = None
    validation_tokens: int = 2_000_000
    pretokenized: bool = False
    lowercase: bool = False
    init_from: str | None = None
    window: int = 64
    restart: float = 0.05
    cell: str = "lstm"
    embedding_size: int = 64
    hidden_size: int = 256
    num_layers: int = 1
    tied: bool = False
    residual: bool = False
    ngram_order: int = 4
    ngram_buckets: int = 20_000
    dropout: float = 0.2
    input_dropout: float = 0.0
    embedding_dropout: float = 0.0
    ngram_dropout: float = 0.4
    weight_dropout: float = 0.0
    markov_order: int = 6
    markov_tokens: int = 4_000_000
    markov_weight: float = 0.25


@dataclass
class TextGeneratorTraining(TrainingOptions):
    __doc__ = TrainingOptions.__doc__
    usual_minutes = 2.0

    out: Path = Path("runs/text_generator")


class LanguageModelling:
    """The task: predict each token of a corpus from those before it. See `zoo.training.Task`."""

    metric = "nats_per_token"
    higher_is_better = False

    def __init__(
        self,
        model: TextGenerator,
        windows: ContiguousWindows,
        fingerprint: str,
        validation_tokens: Tensor,
        restart: float,
    ) -> None:
        check_probability("restart", restart)
        self.model = model
        self.windows = windows
        self.validation_tokens = validation_tokens
        self.restart = restart
        self.fingerprint = fingerprint

    def matrices(self) -> Iterable[nn.Parameter]:
        return [p for p in self.model.decoder.core.parameters() if p.ndim == 2]

    def paces(self) -> dict[nn.Parameter, Pace]:
        return {}

    def num_batches(self, epoch: int) -> int:
        return self.windows.num_batches(epoch)

    def batch(self, epoch: int, k: int) -> WindowBatch:
        return self.windows.batch(epoch, k)

    def loss(self, batch: WindowBatch, carry: State) -> tuple[Tensor, State]:
        state = None
        if carry and not batch.first:
            rows = len(batch.inputs)
            anew = torch.rand(rows, device=batch.inputs.device) < self.restart
            state = replace_rows(carry, anew, self.model.decoder.initial_state(rows))
        loss, state = self.model.loss_and_state((batch.inputs, batch.targets), state)
        return loss, detach(state)

    def weight(self, batch: WindowBatch) -> float:
        return batch.inputs.numel()

    def tokens(self, batch: WindowBatch) -> int:
        return batch.inputs.numel()

    def evaluate(self) -> dict[str, float]:
        rows = min(EVALUATION_ROWS, len(self.validation_tokens) - 1)
        return {"nats_per_token": carried_nats(self.model, self.validation_tokens, rows)}

    def sample(self) -> str:
        return str(self.model.generate("", max_new_tokens=SAMPLE_TOKENS, temperature=0.8, seed=0))


def main() -> int:
    options, training = parse_options(__doc__ or "", TextGeneratorOptions, TextGeneratorTraining)
    for name, least in (("tokenizer_characters", 1), ("validation_tokens", 2), ("markov_tokens", 1)):
        if getattr(options, name) < least:
            raise InputError(f"{name} is {getattr(options, name)}: expected {least} or more")
    processes = Processes(training.device)
    processes.from_main(lambda: check_run_folder(training.out, training.overwrite, training.resume))
    device = processes.device
    precision = choose_precision(training.precision, device)
    torch.manual_seed(training.seed)

    cache = options.cache or default_cache()
    with processes.first_alone():  # what it downloads or computes, the others find
        corpus = load_text(
            _sources(options.data) or [],
            options.text_column,
            _sources(options.validation_data),
            options.validation_fraction,
        )
        source = None
        if options.init_from is not None:
            source, _ = TextGenerator.to_start_from(options.init_from)
            options = _with_sizes_of(source, options)
        model = _starting_model(options, corpus.train, cache, source)
        tokenizer = model.tokenizer
        assert tokenizer is not None
        trained_on, held_out = (tokenize(text, tokenizer, cache) for text in (corpus.train, corpus.validation))
    if len(held_out.ids) < 2:
        raise InputError(f"{corpus.name} leaves {len(held_out.ids)} tokens for validation: give more text")
    validation_tokens = spread(held_out.ids, options.validation_tokens)
    with as_input_error("markov_"):
        check_probability("weight", options.markov_weight)
        baseline = MarkovGenerator(tokenizer=tokenizer, order=options.markov_order)
    model.to(device)
    windows = ContiguousWindows(trained_on.ids, training.batch_size, options.window, training.seed)
    with as_input_error():
        task = LanguageModelling(model, windows, trained_on.fingerprint, validation_tokens.to(device), options.restart)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{corpus.name}: {len(trained_on.ids):,} tokens to train on, {len(held_out.ids):,} to validate on, "
        f"vocabulary {tokenizer.vocab_size:,}; {parameters:,} parameters; {device.type}, {precision}, "
        f"{torch.get_num_threads()} threads"
    )
    for what, most, there in (
        ("validated on", options.validation_tokens, len(held_out.ids)),
        ("n-grams are counted in", options.markov_tokens, len(trained_on.ids)),
    ):
        if most < there:
            print(f"{what} {most:,} of these {there:,} tokens, in stretches spread evenly over the text")

    run = processes.from_main(
        lambda: RunFolder(training.out, plain_options(options, training), training.overwrite, training.resume)
    )
    outcome = train(task, training, run, processes, precision)
    if outcome.exit_code is not None:
        return outcome.exit_code

    best = TextGenerator.from_pretrained(run.path).to(device)
    baseline.fit(spread(trained_on.ids, options.markov_tokens))
    # Of all that is held out: how many characters a token has.
    sizes = None
    if corpus.validation.characters > 1 and _lossless(tokenizer, trained_on):
        sizes = len(held_out.ids) - 1, corpus.validation.characters - 1
    counted = baseline.nats_per_token(validation_tokens)
    baseline.save(run.path)
    mixture = InterpolatedGenerator(best, baseline, options.markov_weight)
    figures = {
        "validation": _figures(best, validation_tokens.to(device), sizes),
        "interpolated_validation": _figures(mixture, validation_tokens.to(device), sizes),
        "markov_validation": _token_figures(counted, sizes),
        **outcome.facts(best, training, device, precision),
    }
    run.finish(figures)
    draw_curves(outcome.history, task.metric, run.path / "curves.png")
    _report(figures, best, baseline, options.markov_weight, run)
    return 0


def _with_sizes_of(source: TextGenerator, options: TextGeneratorOptions) -> TextGeneratorOptions:
    """The options with the source's sizes. Raises InputError where others than the usual ones were asked for."""
    decided = {name: source.config[name] for name in SIZES}
    return with_values_of(str(options.init_from), decided, [source.require_tokenizer()], options)


def _starting_model(
    options: TextGeneratorOptions, text: LongText, cache: Path, source: TextGenerator | None
) -> TextGenerator:
    dropouts = {name: value for name, value in asdict(options).items() if name.endswith("dropout")}
    if source is not None:
        with as_input_error():
            model = TextGenerator(tokenizer=source.tokenizer, **(source.config | dropouts))
        print(f"starting from {options.init_from}: its tokenizer, cell and sizes are used")
        model.load_state_dict(source.state_dict())
        return model
    if options.level != "char" and options.tokenizer_characters < text.characters:
        print(f"the vocabulary is that of {options.tokenizer_characters:,} of {text.characters:,} characters")
    tokenizer = cached_tokenizer(
        text,
        cache,
        options.level,
        options.tokenizer_size,
        options.pretokenized,
        options.lowercase,
        options.tokenizer_characters,
        options.min_frequency,
    )
    if tokenizer.vocab_size == len(tokenizer.never_generated):
        raise InputError(
            f"no {options.level} of {options.data} is there as often as it has to be: lower --min_frequency, or give "
            "more text"
        )
    with as_input_error():
        return TextGenerator(tokenizer=tokenizer, **{name: getattr(options, name) for name in SIZES}, **dropouts)


def _sources(data: str | None) -> list[str] | None:
    """Several sources are separated by commas, unless there is a file of just that name."""
    if data is None:
        return None
    return [data] if Path(data).exists() else [part.strip() for part in data.split(",")]


def _lossless(tokenizer: TextTokenizer, tokens: Tokens) -> bool:
    """Whether tokens say all of their text: unknown ones would make figures a character look better than they are."""
    if tokenizer.lowercase:
        return False
    if tokenizer.unknown_id is None:
        return True
    # Of words, a held-out text always has some that are unknown; of characters next to none, if training had none.
    return tokenizer.level == "char" and not tokens.any_unknown


def _figures(
    model: TextGenerator | InterpolatedGenerator, tokens: Tensor, sizes: tuple[int, int] | None
) -> dict[str, float]:
    assert model.tokenizer is not None
    figures = _token_figures(carried_nats(model, tokens), sizes)
    if sizes is not None and model.tokenizer.level == "char" and len(tokens) > FRESH_WINDOW:
        figures["nats_per_character_window_256"] = window_nats(model, *fresh_windows(tokens, FRESH_WINDOW))
    return figures


def _token_figures(nats: float, sizes: tuple[int, int] | None) -> dict[str, float]:
    """`sizes` is how many tokens and characters a text has, if its tokens say all of it."""
    figures = {"nats_per_token": nats, "perplexity": perplexity(nats)}
    if sizes is not None:
        tokens, characters = sizes
        figures["bits_per_character"] = nats * tokens / characters / math.log(2)
    return figures


def _report(
    figures: dict[str, Any], best: TextGenerator, baseline: MarkovGenerator, weight: float, run: RunFolder
) -> None:
    unit = "bits_per_character" if "bits_per_character" in figures["validation"] else "perplexity"
    samples = [(f"network, temperature {temperature}", best, temperature) for temperature in SAMPLE_TEMPERATURES] + [
        ("n-gram baseline, temperature 0.8", baseline, 0.8)
    ]
    print()
    for title, model, temperature in samples:
        text = model.generate("", max_new_tokens=FINAL_SAMPLE_TOKENS, temperature=temperature, seed=0)
        run.add_sample(title, text)
        print(f"--- {title} ---\n{text}\n")
    for title, split in (
        ("network", "validation"),
        ("n-gram baseline", "markov_validation"),
        (f"network and n-grams mixed ({weight:g} of n-grams)", "interpolated_validation"),
    ):
        print(f"{title}: {figures_line(figures[split])}")
    ratio = figures["markov_validation"][unit] / figures["validation"][unit]
    print(f"{unit} of counting n-grams / of the network: {ratio:.3f}")
    minutes, speed = figures["training_minutes"], figures["tokens_per_second"]
    print(f"{minutes} minutes of training, {speed:,} tokens/s; run in {run.path}")
    print(f"try: python scripts/generate_text.py {shlex.quote(str(run.path))} --prompt 'The '")


if __name__ == "__main__":
    run_script(main)
