"""Train a translator: one recurrent network reads a sentence, another, which attends to it, writes its translation.

python scripts/train_translator.py --out runs/numbers                        # numbers in words, English -> French
python scripts/train_translator.py --out runs/en-de --data multi30k/ --source en --target de --level bpe
python scripts/translate.py runs/numbers "twenty-one thousand"
"""

import hashlib
import math
import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.command_line import figures_line, parse_options, plain_options, run_script
from zoo.core import State
from zoo.data import TextTokenizer
from zoo.data.length_batches import LengthBatches, evaluation_batches, pad
from zoo.data.parallel_texts import ParallelTexts, TranslationData, load_parallel_texts
from zoo.decoding import BeamOptions
from zoo.device import choose_precision
from zoo.errors import InputError, as_input_error
from zoo.evaluation.alignments import draw_alignment
from zoo.evaluation.curves import draw_curves
from zoo.evaluation.perplexity import perplexity
from zoo.evaluation.translation import signatures, translation_figures, worst_translations
from zoo.files import write_atomically, write_json_lines
from zoo.seq2seq import TranslationBatch, Translator
from zoo.seq2seq.translator import FREE_TOKENS
from zoo.training import Pace, Processes, RunFolder, TrainingOptions, check_run_folder, train
from zoo.training.source_run import with_values_of

WORST = 20
SAMPLES = 3
SIZES = ("embedding_size", "hidden_size", "num_layers", "cell", "encoder_cell", "num_heads", "tied")
EVALUATION_TOKENS = 8_192  # in a batch, of target and source together


@dataclass
class TranslatorOptions:
    """What to train on, and which model.

    Args:
        data: numbers (built in), the path of two parallel text files without their endings (data/train for
            data/train.en and data/train.de), a TSV, CSV, JSONL or Parquet file, a folder with train, validation and
            test files, or a hub data set (multi30k, or owner/name).
        source: The language to translate from, as the files' ending or the column is called.
        target: The language to translate into.
        validation_data: What to validate on; without it, part of the training pairs is held out.
        test_data: What to test on, once, at the end.
        validation_fraction: The share that is held out.
        max_length_ratio: Training pairs are dropped where one side has so many times the characters of the other.
        longest: Training pairs are dropped where a side has more tokens than this, its end counted.
        level: What a token is.
        joint: One vocabulary for both languages instead of one each.
        tokenizer_size: The most tokens in a vocabulary.
        min_frequency: Characters or words rarer than this are unknown, so that the model learns what to make of those.
        init_from: A translator's run to go on from on other pairs, with its tokenizers and sizes.
        cell: rnn, lstm, gru, mingru or minlstm.
        encoder_cell: The encoder's cell, if it is to be another.
        attention: How the decoder looks at the source; none for the plain pattern, which has but its state.
        num_heads: Heads of the attention multihead.
        embedding_size: Width of the token embeddings.
        hidden_size: Width of each layer; half of it for each direction of the encoder's first.
        num_layers: Layers of the encoder, and of the decoder.
        tied: Score with the embedding matrix, which with a joint vocabulary is the source's too.
        dropout: Locked dropout between layers, before the output and on what attention reads.
        input_dropout: Locked dropout on the embeddings.
        embedding_dropout: Share of the vocabulary dropped whole.
        weight_dropout: Share of the recurrent weights dropped.
        label_smoothing: Share of each target that is spread over the vocabulary.
        batch_tokens: About how many tokens a batch has at most, source and target, padding included.
        num_beams: Beams of the final figures; those in between are greedy.
        length_penalty: The higher, the longer the translations; see zoo.decoding.BeamOptions.
    """

    data: str = "numbers"
    source: str = "en"
    target: str = "fr"
    validation_data: str | None = None
    test_data: str | None = None
    validation_fraction: float = 0.05
    max_length_ratio: float = 4.0
    longest: int = 200
    level: Literal["char", "word", "bpe"] = "word"
    joint: bool = False
    tokenizer_size: int | None = None
    min_frequency: int = 2
    init_from: str | None = None
    cell: str = "lstm"
    encoder_cell: str | None = None
    attention: Literal["none", "additive", "general", "multihead"] = "multihead"
    num_heads: int = 8
    embedding_size: int = 128
    hidden_size: int = 128
    num_layers: int = 2
    tied: bool = True
    dropout: float = 0.1
    input_dropout: float = 0.0
    embedding_dropout: float = 0.0
    weight_dropout: float = 0.0
    label_smoothing: float = 0.1
    batch_tokens: int = 8_192
    num_beams: int = 5
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        for name in ("longest", "batch_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")
        BeamOptions(self.num_beams, length_penalty=self.length_penalty)  # checks them now, not after the training


@dataclass
class TranslatorTraining(TrainingOptions):
    __doc__ = TrainingOptions.__doc__
    usual_minutes = 1.0

    out: Path = Path("runs/translator")
    batch_size: int = 128
    learning_rate: float = 4e-3


class Encoded:
    """Pairs as the model takes them: two rows of tokens each, with their ends. Those with a longer row than `longest`
    are left out."""

    def __init__(
        self, texts: ParallelTexts, source_tokenizer: TextTokenizer, tokenizer: TextTokenizer, longest: float = math.inf
    ) -> None:
        sides = (texts.sources, texts.targets)
        rows = (source_tokenizer.sentence_rows(texts.sources), tokenizer.sentence_rows(texts.targets))
        kept = [n for n, pair in enumerate(zip(*rows, strict=True)) if max(map(len, pair)) <= longest]
        self.texts = ParallelTexts(*([side[n] for n in kept] for side in sides))
        self.sources, self.targets = ([side[n] for n in kept] for side in rows)

    def __len__(self) -> int:
        return len(self.sources)

    def lengths(self) -> list[int]:
        """Tokens of each pair."""
        return [len(source) + len(target) for source, target in zip(self.sources, self.targets, strict=True)]

    def batch(self, numbers: list[int]) -> TranslationBatch:
        sources, targets = ([rows[n] for n in numbers] for rows in (self.sources, self.targets))
        return TranslationBatch(*pad(sources), *pad(targets))


class Translating:
    """The task: write a sentence's translation. See `zoo.training.Task`."""

    higher_is_better = True

    def __init__(self, model: Translator, training: Encoded, validation: Encoded, batches: LengthBatches) -> None:
        self.model = model
        # BLEU counts four words in a row, and is 0 where few references have so many: numbers in German, say.
        long = sum(len(text.split()) >= 4 for text in validation.texts.targets)
        self.metric = "bleu" if long >= len(validation) / 2 else "chrf"
        self.training, self.validation = training, validation
        self.batches = batches
        digest = hashlib.sha256()
        for row in (*training.sources, *training.targets):
            digest.update(row.numpy().tobytes() + b"\n")
        self.fingerprint = digest.hexdigest()

    def matrices(self) -> Iterable[nn.Parameter]:
        # Not the bridge, which is used once a sentence and so large that Muon would take a third of the step for it;
        # and not what additive attention scores with, whose "matrix" is one vector.
        decoder = self.model.decoder
        parts: list[nn.Module | None] = [self.model.encoder.core, self.model.encoder.upper_core, decoder.core]
        parts += [] if decoder.attention is None else [decoder.attention, decoder.upper_core]
        found = (p for part in parts if part is not None for p in part.parameters())
        return [p for p in found if p.ndim == 2 and min(p.shape) > 1]

    def paces(self) -> dict[nn.Parameter, Pace]:
        return {}

    def num_batches(self, epoch: int) -> int:
        return self.batches.num_batches(epoch)

    def batch(self, epoch: int, k: int) -> TranslationBatch:
        return self.training.batch(self.batches.rows(epoch, k))

    def loss(self, batch: TranslationBatch, carry: State) -> tuple[Tensor, State]:
        return self.model.loss(batch), ()

    def weight(self, batch: TranslationBatch) -> float:
        return self.tokens(batch)

    def tokens(self, batch: TranslationBatch) -> int:
        return int(batch.target_lengths.sum())

    def evaluate(self) -> dict[str, float]:
        hypotheses = self.model.translate(self.validation.texts.sources, num_beams=1)
        return _figures(self.model, hypotheses, self.validation)

    def sample(self) -> str:
        sources = self.validation.texts.sources[:SAMPLES]
        translations = self.model.translate(sources, num_beams=1)
        references = self.validation.texts.targets[:SAMPLES]
        return "\n  ".join(
            f"{source} -> {translation} [{reference}]"
            for source, translation, reference in zip(sources, translations, references, strict=True)
        )


def main() -> int:
    options, training = parse_options(__doc__ or "", TranslatorOptions, TranslatorTraining)
    processes = Processes(training.device)
    processes.from_main(lambda: check_run_folder(training.out, training.overwrite, training.resume))
    device = processes.device
    precision = choose_precision(training.precision, device)
    torch.manual_seed(training.seed)

    with processes.first_alone():  # what it downloads or computes, the others find
        data = load_parallel_texts(
            options.data,
            source=options.source,
            target=options.target,
            validation_data=options.validation_data,
            test_data=options.test_data,
            validation_fraction=options.validation_fraction,
            max_length_ratio=options.max_length_ratio,
            seed=training.seed,
        )
    before = None
    if options.init_from is not None:
        before = _trained_before(options.init_from)
        options = _with_sizes_of(before, options)
    model, encoded = _starting_model(options, data, before)
    if dropped := len(data.train) - len(encoded):
        data.notes.append(f"{dropped:,} training pairs have a side of more than {options.longest} tokens: left out")
    held_out = {
        name: Encoded(texts, model.require_source_tokenizer(), model.require_tokenizer())
        for name, texts in {"validation": data.validation, **data.tests}.items()
    }
    parameters = sum(parameter.numel() for parameter in model.parameters())
    sizes = " + ".join(f"{size:,}" for size in (model.config["source_vocab_size"], model.config["vocab_size"]) if size)
    print(
        f"{data.name}, {options.source} -> {options.target}: {len(encoded):,} pairs to train on, "
        f"{', '.join(f'{len(split):,} {name}' for name, split in held_out.items())}, vocabulary {sizes}; "
        f"{parameters:,} parameters; {device.type}, {precision}, {torch.get_num_threads()} threads"
    )
    for note in data.notes:
        print(f"note: {note}")
    model.to(device)
    batches = LengthBatches(encoded.lengths(), training.batch_size, training.seed, options.batch_tokens)
    task = Translating(model, encoded, held_out["validation"], batches)

    run = processes.from_main(
        lambda: RunFolder(training.out, plain_options(options, training), training.overwrite, training.resume)
    )
    outcome = train(task, training, run, processes, precision)
    if outcome.exit_code is not None:
        return outcome.exit_code

    best = Translator.from_pretrained(run.path).to(device)
    found = {
        name: best.translations(split.texts.sources, num_beams=options.num_beams, length_penalty=options.length_penalty)
        for name, split in held_out.items()
    }
    hypotheses = {name: [several[0].text for several in all_found] for name, all_found in found.items()}
    figures: dict[str, Any] = {name: _figures(best, hypotheses[name], split) for name, split in held_out.items()}
    figures |= {"num_beams": options.num_beams, "length_penalty": options.length_penalty, "signatures": signatures()}
    figures |= outcome.facts(best, training, device, precision)
    run.finish(figures)
    draw_curves(outcome.history, task.metric, run.path / "curves.png")
    _report(figures, best, held_out, hypotheses, run)
    for name, all_found in found.items():
        cut = sum(not several[0].finished for several in all_found)
        in_parts = sum(several[0].parts > 1 for several in all_found)
        if cut or in_parts:
            print(f"note: {name}: {cut:,} translations did not end, {in_parts:,} texts were translated in parts")
    return 0


def _with_sizes_of(before: Translator, options: TranslatorOptions) -> TranslatorOptions:
    """The options with the sizes of the translator to go on from. Raises InputError where others were asked for."""
    tokenizers = [before.require_tokenizer(), before.require_source_tokenizer()]
    decided = {name: before.config[name] for name in SIZES}
    decided |= {"attention": before.config["attention"] or "none", "joint": before.source_tokenizer is None}
    options = with_values_of(str(options.init_from), decided, tokenizers, options)
    print(f"starting from {options.init_from}: its tokenizers, cells and sizes are used")
    return options


def _starting_model(
    options: TranslatorOptions, data: TranslationData, before: Translator | None
) -> tuple[Translator, Encoded]:
    """The model, and the pairs to train on: those that are not too long."""
    if before is not None:
        source_tokenizer, tokenizer = before.source_tokenizer, before.require_tokenizer()
    else:
        source_tokenizer, tokenizer = _tokenizers(options, data.train)
    encoded = Encoded(data.train, source_tokenizer or tokenizer, tokenizer, options.longest)
    if not len(encoded):
        raise InputError(
            f"no training pair of {data.name} has at most {options.longest} tokens a side: raise --longest"
        )
    values = asdict(options)
    if before is not None:
        config = dict(before.config)
    else:
        config = {name: values[name] for name in SIZES}
        config["attention"] = None if options.attention == "none" else options.attention
    config |= {name: value for name, value in values.items() if name.endswith(("dropout", "smoothing"))}
    # Twice what it has seen it may well do; much longer texts are better cut.
    config |= {"max_length": 2 * max(map(len, encoded.sources)), "max_ratio": _ratio(encoded)}
    with as_input_error():
        model = Translator(tokenizer=tokenizer, source_tokenizer=source_tokenizer, **config)
    if before is not None:
        model.load_state_dict(before.state_dict())
    return model, encoded


def _trained_before(run: str) -> Translator:
    model, _ = Translator.to_start_from(run)
    with as_input_error():
        model.require_source_tokenizer()
    return model


def _tokenizers(options: TranslatorOptions, pairs: ParallelTexts) -> tuple[TextTokenizer | None, TextTokenizer]:
    """The source's, None where it shares the target's, and the target's."""

    def trained(texts: list[str]) -> TextTokenizer:
        return TextTokenizer.train(texts, options.level, options.tokenizer_size, options.min_frequency)

    if options.joint:
        return None, trained([*pairs.sources, *pairs.targets])
    return trained(pairs.sources), trained(pairs.targets)


def _ratio(pairs: Encoded) -> float:
    """Tokens of a translation for each of its source, above the free ones, that do for all but one pair in 1,000."""
    lengths = ((len(source), len(target)) for source, target in zip(pairs.sources, pairs.targets, strict=True))
    ratios = sorted((target - FREE_TOKENS) / source for source, target in lengths)
    return max(1.0, ratios[int(0.999 * len(ratios))])


@torch.no_grad()
def _figures(model: Translator, hypotheses: list[str], split: Encoded) -> dict[str, float]:
    """Of the translations, free-running; `nats_per_token` and `perplexity` are teacher-forced, of the references."""
    device = model.bridge.linear.weight.device
    nats, tokens = 0.0, 0
    for numbers in evaluation_batches(split.lengths(), EVALUATION_TOKENS):
        batch = TranslationBatch(*(part.to(device) for part in split.batch(numbers)))
        count = int(batch.target_lengths.sum())
        nats += count * float(model.loss(batch, label_smoothing=0.0))
        tokens += count
    figures = translation_figures(hypotheses, split.texts.targets)
    return figures | {"nats_per_token": nats / tokens, "perplexity": perplexity(nats / tokens)}


def _report(
    figures: dict[str, Any],
    model: Translator,
    held_out: dict[str, Encoded],
    hypotheses: dict[str, list[str]],
    run: RunFolder,
) -> None:
    for name, split in held_out.items():
        sources, references = split.texts.sources, split.texts.targets
        found = hypotheses[name]
        write_atomically(run.path / f"{name}_translations.txt", "".join(" ".join(t.split()) + "\n" for t in found))
        worst = worst_translations(sources, found, references, WORST)
        write_json_lines(run.path / f"{name}_worst.jsonl", [one._asdict() for one in worst])
        print(f"\n{name}:")
        for source, translation, reference in list(zip(sources, found, references, strict=True))[:SAMPLES]:
            print(f"  {source}\n    -> {translation}\n     = {reference}")
        print(figures_line(figures[name]))
    if model.decoder.attention is not None:
        example = max(zip(held_out["validation"].texts.sources, hypotheses["validation"], strict=True), key=_shortness)
        draw_alignment(*model.align(*example), run.path / "alignment.png")
    print(f"\n{figures['signatures']['bleu']}, beams {figures['num_beams']}; nats and perplexity are teacher-forced")
    minutes, speed = figures["training_minutes"], figures["tokens_per_second"]
    print(f"{minutes} minutes of training, {speed:,} target tokens/s; run in {run.path}")
    example_text = held_out["validation"].texts.sources[0].lstrip("-")
    print(f"try: python scripts/translate.py {shlex.quote(str(run.path))} {shlex.quote(example_text)}")


def _shortness(example: tuple[str, str]) -> float:
    """How near a sentence is to a length that makes a good picture."""
    return -abs(len(example[0]) - 60)


if __name__ == "__main__":
    run_script(main)
