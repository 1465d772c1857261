"""Train a text classifier: a recurrent network that reads a whole text and gives it a label.

python scripts/train_text_classifier.py --out runs/surnames                  # surname -> language, built in
python scripts/train_text_classifier.py --out runs/mine --data reviews.csv --text_column review --label_column stars
python scripts/classify_text.py runs/surnames Kowalczyk Rossi
"""

import hashlib
import math
import shlex
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.command_line import figures_line, parse_options, plain_options, run_script
from zoo.core import State
from zoo.data import TextTokenizer
from zoo.data.labelled_rows import names_in
from zoo.data.labelled_texts import ClassificationData, LabelledTexts, load_labelled_texts
from zoo.data.length_batches import LengthBatches, pad
from zoo.device import choose_precision
from zoo.errors import as_input_error
from zoo.evaluation.classification import (
    class_table,
    confident_mistakes,
    majority_figures,
    multi_label_figures,
    single_label_figures,
)
from zoo.evaluation.confusions import draw_confusions
from zoo.evaluation.curves import draw_curves
from zoo.files import write_atomically, write_json_lines
from zoo.many_to_one import NgramClassifier, TextBatch, TextClassifier
from zoo.one_to_many import TextGenerator
from zoo.training import Pace, Processes, RunFolder, TrainingOptions, check_run_folder, train
from zoo.training.source_run import with_values_of

MISTAKES = 20


@dataclass
class TextClassifierOptions:
    """What to train on, and which model.

    Args:
        data: surnames (built in), a CSV, TSV or JSONL file (also .gz) or a Parquet file, a folder with train,
            validation and test files, or a hub data set (ag_news, imdb, sst2, or owner/name).
        validation_data: A file to validate on; without it, part of the training texts is held out.
        test_data: A file to test on, once, at the end.
        validation_fraction: The share that is held out.
        text_column: The column that has the text, or several joined by + (title+description); text if left out.
        label_column: The column that has the label; label if left out.
        columns: Names of the columns of a CSV or TSV file without a header line, separated by commas.
        multi_label: A text may have several labels, or none.
        label_separator: What stands between the labels of a text, where they are one string.
        level: What a token is.
        tokenizer_size: The most tokens in the vocabulary.
        min_frequency: Characters or words rarer than this are unknown, so that the model learns what to make of those.
        pretokenized: Words are already separated by blanks; for level word.
        lowercase: Take upper case for lower case.
        max_length: Longest text in tokens that the network reads; of a longer one it reads the beginning and the end.
        train_length: The same of training texts, to take less time over them, where it is shorter.
        batch_tokens: The most tokens in a batch, padding included; long texts come in smaller batches.
        init_from: A text generator's run to start from: its tokenizer, embeddings and core, which then reads in one
            direction. A resumed run needs it again.
        thaw: With init_from, the share of the run in which its layers begin to learn, one after the other from the top;
            0 for all at once. ULMFiT has them thaw an epoch apart, for more epochs than a few.
        layer_decay: With init_from, each layer learns by so much more slowly than the one above it; ULMFiT's is 2.6.
        cell: rnn, lstm, gru, mingru or minlstm.
        embedding_size: Width of the token embeddings.
        hidden_size: Width of each recurrent layer, of one direction.
        num_layers: Recurrent layers.
        bidirectional: Read each text from both ends.
        residual: Pre-norm residual connections round the layers; worth it from three layers on.
        pooling: What is made of the outputs: last, mean, max or attention, or several joined by +.
        ngram_order: Longest n-gram with an embedding of its own; 1 for none.
        ngram_buckets: Rows of each n-gram table.
        bag_order: Longest n-gram of a linear classifier beside the network, which scores a text by the n-grams that it
            has, wherever they stand; 0 for none. The best weights are then those of the lowest cross-entropy, and not
            of the highest accuracy (or micro-F1).
        bag_size: The most n-grams that this classifier knows, the commonest; each takes 8 bytes, and 4 more a label.
        bag_variance: How large its weights may become: 10 is good for sentences, 50 for pages.
        dropout: Locked dropout between layers, and dropout before the labels' scores.
        input_dropout: Locked dropout on the embeddings.
        embedding_dropout: Share of the vocabulary dropped whole.
        word_dropout: Share of the positions dropped whole.
        ngram_dropout: Share of the n-gram embeddings dropped whole.
        weight_dropout: Share of the recurrent weights dropped.
        label_smoothing: Share of each target that is spread over all labels.
        adversarial: Also learn from each embedded text moved, by that share of its length, to where its loss is worst.
        balanced: Weigh labels so that rare ones count as much as common ones.
        markov_order: Order of the n-gram models, one a label, that are counted beside it for comparison (where a text
            has one label).
    """

    data: str = "surnames"
    validation_data: str | None = None
    test_data: str | None = None
    validation_fraction: float = 0.1
    text_column: str | None = None
    label_column: str | None = None
    columns: str | None = None
    multi_label: bool = False
    label_separator: str | None = None
    level: Literal["char", "word", "bpe"] = "char"
    tokenizer_size: int | None = None
    min_frequency: int = 2
    pretokenized: bool = False
    lowercase: bool = True
    max_length: int | None = 1000
    train_length: int | None = None
    batch_tokens: int = 65_536
    init_from: str | None = None
    thaw: float = 0.0
    layer_decay: float = 1.0
    cell: str = "lstm"
    embedding_size: int = 64
    hidden_size: int = 128
    num_layers: int = 1
    bidirectional: bool = True
    residual: bool = False
    pooling: str = "mean+max"
    ngram_order: int = 4
    ngram_buckets: int = 20_000
    bag_order: int = 0
    bag_size: int = 2**19
    bag_variance: float = 10.0
    dropout: float = 0.4
    input_dropout: float = 0.1
    embedding_dropout: float = 0.0
    word_dropout: float = 0.1
    ngram_dropout: float = 0.7
    weight_dropout: float = 0.0
    label_smoothing: float = 0.1
    adversarial: float = 0.0
    balanced: bool = False
    markov_order: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.thaw < 1:
            raise ValueError(f"thaw is {self.thaw}, but must be at least 0 and below 1")
        if self.train_length is not None and self.train_length < 2:
            raise ValueError(f"train_length is {self.train_length}, but must be at least 2, a head and a tail")
        if self.batch_tokens < 1:
            raise ValueError(f"batch_tokens is {self.batch_tokens}, but must be at least 1")
        if not 1 <= self.layer_decay < math.inf:
            raise ValueError(f"layer_decay is {self.layer_decay}, but must be at least 1")


# What a run to start from has decided.
FROM_SOURCE = ("cell", "embedding_size", "hidden_size", "num_layers", "residual", "ngram_order", "ngram_buckets")


@dataclass
class TextClassifierTraining(TrainingOptions):
    __doc__ = TrainingOptions.__doc__
    usual_minutes = 1.0

    out: Path = Path("runs/text_classifier")
    batch_size: int = 128
    learning_rate: float = 8e-3


class Encoded:
    """A split as the model takes it: a row of tokens a text, and its target.

    `rows` are what the network reads, `whole` what the model reads, and `cut` says what the network does not.
    """

    def __init__(self, name: str, split: LabelledTexts, model: TextClassifier, max_length: int | None = None) -> None:
        self.texts = split.texts
        with as_input_error():
            whole = model.encode(split.texts)
        limits = [length for length in (model.max_length, max_length) if length is not None]
        longest = min(limits, default=None)
        self.rows = [model.shorten(row, longest) for row in whole]
        self.whole = self.rows if model.bag is None else whole
        self.targets = _targets(split, model)
        lost = [len(row) - len(kept) for row, kept in zip(whole, self.rows, strict=True) if len(kept) < len(row)]
        self.cut = (
            f"{len(lost):,} of {len(self):,} {name} texts are longer than {longest} tokens: the middle is "
            f"cut out of them, {sum(lost) / sum(map(len, whole)):.1%} of all tokens"
            if lost
            else None
        )

    def __len__(self) -> int:
        return len(self.rows)


class Classifying:
    """The task: tell the label of a text. See `zoo.training.Task`."""

    def __init__(
        self,
        model: TextClassifier,
        training: Encoded,
        validation: Encoded,
        batches: LengthBatches,
        paces: dict[nn.Parameter, Pace],
    ) -> None:
        self.model = model
        self.training, self.validation = training, validation
        self.batches = batches
        # Where a bag is most of what is right, the share that is right hardly tells one network from another. (But to
        # weigh rare labels as much as common ones makes texts' labels less probable.)
        by_probability = model.bag is not None and model.class_weights is None
        self.higher_is_better = not by_probability
        self.metric = "cross_entropy" if by_probability else "micro_f1" if model.multi_label else "accuracy"
        self._paces = paces
        digest = hashlib.sha256(training.targets.numpy().tobytes())
        for row in training.rows:
            digest.update(row.numpy().tobytes() + b"\n")
        self.fingerprint = digest.hexdigest()

    def matrices(self) -> Iterable[nn.Parameter]:
        return [p for p in self.model.core.parameters() if p.ndim == 2]

    def paces(self) -> dict[nn.Parameter, Pace]:
        return self._paces

    def num_batches(self, epoch: int) -> int:
        return self.batches.num_batches(epoch)

    def batch(self, epoch: int, k: int) -> TextBatch:
        numbers = self.batches.rows(epoch, k)
        return TextBatch(*pad([self.training.rows[n] for n in numbers]), self.training.targets[numbers])

    def loss(self, batch: TextBatch, carry: State) -> tuple[Tensor, State]:
        return self.model.loss(batch), ()

    def weight(self, batch: TextBatch) -> float:
        return self.model.loss_weight(batch)

    def tokens(self, batch: TextBatch) -> int:
        return int(batch.lengths.sum())

    def evaluate(self) -> dict[str, float]:
        network, bag = self.model.scores_of(self.validation.whole)
        if bag is not None:
            self.model.fit_pool(network, bag, self.validation.targets)
        return _figures(self.model, self.model.pooled(network, bag), self.validation)

    def sample(self) -> str:
        text = self.validation.texts[0]
        found = self.model.classify(text)
        return f"{text[:80]!r}: {found.label} ({found.probability:.0%})"


def main() -> int:
    options, training = parse_options(__doc__ or "", TextClassifierOptions, TextClassifierTraining)
    processes = Processes(training.device)
    processes.from_main(lambda: check_run_folder(training.out, training.overwrite, training.resume))
    device = processes.device
    precision = choose_precision(training.precision, device)
    torch.manual_seed(training.seed)

    with processes.first_alone():  # what it downloads or computes, the others find
        data = load_labelled_texts(
            options.data,
            text_column=options.text_column,
            label_column=options.label_column,
            validation_data=options.validation_data,
            test_data=options.test_data,
            validation_fraction=options.validation_fraction,
            columns=None if options.columns is None else names_in(options.columns, ","),
            label_separator=options.label_separator,
            multi_label=options.multi_label,
            seed=training.seed,
        )
    source = None
    if options.init_from is not None:
        source, tokenizer = TextGenerator.to_start_from(options.init_from)
        options = _with_sizes_of(source, tokenizer, options)
    else:
        tokenizer = TextTokenizer.train(
            data.train.texts,
            options.level,
            options.tokenizer_size,
            options.min_frequency,
            options.pretokenized,
            options.lowercase,
        )
    model = _starting_model(options, data, tokenizer, source)
    with as_input_error("markov_"):
        counted = NgramClassifier(model.config["vocab_size"], len(data.labels), options.markov_order)
    splits = {"training": data.train, "validation": data.validation}
    if data.test is not None:
        splits["test"] = data.test
    encoded = {
        name: Encoded(name, split, model, options.train_length if name == "training" else None)
        for name, split in splits.items()
    }
    parameters = sum(parameter.numel() for parameter in model.parameters())
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in encoded.items())
    print(
        f"{data.name}: {sizes} texts, {len(data.labels)} labels, vocabulary {model.config['vocab_size']:,}; "
        f"{parameters:,} parameters; {device.type}, {precision}, {torch.get_num_threads()} threads"
    )
    for note in [*data.notes, *(split.cut for split in encoded.values() if split.cut)]:
        print(f"note: {note}")
    bag_facts: dict[str, float] = {}
    if model.bag is not None and processes.is_main and not training.resume:  # a save has it
        start = time.perf_counter()
        model.fit_bag(encoded["training"].whole, encoded["training"].targets)
        bag_facts["bag_minutes"] = (time.perf_counter() - start) / 60
        print(f"the bag of n-grams is fitted: {bag_facts['bag_minutes']:.2f} minutes beside the training")
    model.to(device)
    paces = {} if source is None else _paces(model, options)
    batches = LengthBatches(
        [len(row) for row in encoded["training"].rows], training.batch_size, training.seed, options.batch_tokens
    )
    task = Classifying(model, encoded["training"], encoded["validation"], batches, paces)

    run = processes.from_main(
        lambda: RunFolder(training.out, plain_options(options, training), training.overwrite, training.resume)
    )
    outcome = train(task, training, run, processes, precision)
    if outcome.exit_code is not None:
        return outcome.exit_code

    best = TextClassifier.from_pretrained(run.path).to(device)
    figures: dict[str, Any] = {}
    held_out = {name: split for name, split in encoded.items() if name != "training"}
    scores = {name: best.scores_of(split.whole) for name, split in held_out.items()}
    results = {name: best.to_probabilities(best.pooled(*parts)) for name, parts in scores.items()}
    baselines = {} if options.multi_label else _baselines(counted, encoded["training"], held_out)
    for name, split in held_out.items():
        network, bag = scores[name]
        figures[name] = _figures(best, best.pooled(network, bag), split)
        if bag is not None:
            figures |= {f"network_{name}": _figures(best, network, split), f"bag_{name}": _figures(best, bag, split)}
        figures |= {f"{baseline}_{name}": found[name] for baseline, found in baselines.items()}
    if best.pool is not None:
        figures["pool"] = dict(zip(("network", "bag"), best.pool.tolist(), strict=True))
    figures |= outcome.facts(best, training, device, precision) | bag_facts
    run.finish(figures)
    draw_curves(outcome.history, task.metric, run.path / "curves.png")
    _report(figures, best, held_out, results, run)
    return 0


def _with_sizes_of(
    source: TextGenerator, tokenizer: TextTokenizer, options: TextClassifierOptions
) -> TextClassifierOptions:
    """The options with the source's sizes. Raises InputError where others than the usual ones were asked for."""
    decided = {name: source.config[name] for name in FROM_SOURCE}
    options = with_values_of(str(options.init_from), decided, [tokenizer], options)
    print(f"starting from {options.init_from}: its tokenizer, cell and sizes are used, in one direction")
    return replace(options, bidirectional=False)


def _starting_model(
    options: TextClassifierOptions, data: ClassificationData, tokenizer: TextTokenizer, source: TextGenerator | None
) -> TextClassifier:
    values = asdict(options)
    names = [*FROM_SOURCE, "multi_label", "bidirectional", "pooling", "max_length", "label_smoothing"]
    names += ["bag_order", "bag_size", "bag_variance", "adversarial"]
    names += [name for name in values if name.endswith("dropout")]
    with as_input_error():
        model = TextClassifier(
            tokenizer=tokenizer,
            labels=data.labels,
            class_weights=_class_weights(data) if options.balanced else None,
            **{name: values[name] for name in names},
        )
    if source is not None:
        model.embedding.load_state_dict(source.decoder.embedding.state_dict())
        model.core.load_state_dict(source.decoder.core.state_dict())
    return model


def _class_weights(data: ClassificationData) -> list[float]:
    """Inverse to the labels' frequencies, 1 where all are equally frequent."""
    counts = dict.fromkeys(data.labels, 0)
    for labels in data.train.labels:
        for label in labels:
            counts[label] += 1
    return [sum(counts.values()) / (len(counts) * count) for count in counts.values()]


def _paces(model: TextClassifier, options: TextClassifierOptions) -> dict[nn.Parameter, Pace]:
    """Howard and Ruder, 2018: what came trained learns more slowly and later, the more so the lower it is."""
    layers = model.core.num_layers
    parts: list[list[nn.Parameter]] = []
    for layer in reversed(range(layers)):
        parts.append([p for name, p in model.core.named_parameters(recurse=False) if name.endswith(f"_l{layer}")])
        if model.core.residual:
            parts[-1] += model.core.norms[layer].parameters()
            if layer == layers - 1:
                parts[-1] += model.core.norms[layers].parameters()
    parts.append(list(model.embedding.parameters()))
    return {
        parameter: Pace(options.layer_decay**-depth, options.thaw * depth / len(parts))
        for depth, part in enumerate(parts, start=1)
        for parameter in part
    }


def _targets(split: LabelledTexts, model: TextClassifier) -> Tensor:
    """(N,) int64 numbers of the labels; multi-label (N, C) float32, 1 or 0."""
    numbers = {label: number for number, label in enumerate(model.labels)}
    if not model.multi_label:
        return torch.tensor([numbers[label] for (label,) in split.labels])
    targets = torch.zeros(len(split), len(numbers))
    for row, labels in zip(targets, split.labels, strict=True):
        row[[numbers[label] for label in labels]] = 1
    return targets


def _figures(model: TextClassifier, scores: Tensor, split: Encoded) -> dict[str, float]:
    probabilities = model.to_probabilities(scores.double())  # in 32 bits what is nearly certain becomes certain
    if model.multi_label:
        return multi_label_figures(probabilities, split.targets.bool())
    return single_label_figures(probabilities, split.targets)


def _baselines(
    counted: NgramClassifier, training: Encoded, held_out: dict[str, Encoded]
) -> dict[str, dict[str, dict[str, float]]]:
    """{baseline: {split: figures}}: the commonest label, and an n-gram model a label."""
    counted.fit(training.rows, training.targets.tolist())
    return {
        "majority": {
            name: majority_figures(training.targets, split.targets, counted.num_labels)
            for name, split in held_out.items()
        },
        "markov": {
            name: single_label_figures(counted.log_probabilities(split.rows).exp(), split.targets)
            for name, split in held_out.items()
        },
    }


def _report(
    figures: dict[str, Any],
    model: TextClassifier,
    held_out: dict[str, Encoded],
    results: dict[str, Tensor],
    run: RunFolder,
) -> None:
    for name, split in held_out.items():
        probabilities, targets = results[name], split.targets
        predictions = probabilities >= 0.5 if model.multi_label else probabilities.argmax(dim=-1)
        table = class_table(targets.bool() if model.multi_label else targets, predictions, model.labels)
        write_atomically(run.path / f"{name}_labels.txt", table + "\n")
        if not model.multi_label:
            draw_confusions(targets, predictions, model.labels, run.path / f"{name}_confusions.png")
            mistakes = confident_mistakes(split.texts, probabilities, targets, model.labels, MISTAKES)
            write_json_lines(run.path / f"{name}_mistakes.jsonl", [mistake._asdict() for mistake in mistakes])
        print(f"\n{name}:\n{table}\n")
        for title, key in (
            ("network" if model.bag is None else "network and bag of n-grams", name),
            ("network", f"network_{name}"),
            ("bag of n-grams", f"bag_{name}"),
            ("n-gram models", f"markov_{name}"),
            ("commonest", f"majority_{name}"),
        ):
            if key in figures:
                print(f"{title}: {figures_line(figures[key])}")
    minutes, speed = figures["training_minutes"], figures["tokens_per_second"]
    print(f"{minutes} minutes of training, {speed:,} tokens/s; run in {run.path}")
    example = min(held_out["validation"].texts, key=len).lstrip("-")
    print(f"try: python scripts/classify_text.py {shlex.quote(str(run.path))} {shlex.quote(example)} --explain")


if __name__ == "__main__":
    run_script(main)
