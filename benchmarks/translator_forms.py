"""The translator without attention and with each kind of it: the same pairs, minutes, recipe and parameters, one table.

    python -m benchmarks.translator_forms                          # numbers in words, 4 minutes a form
    python -m benchmarks.translator_forms --data multi30k/train --validation_data multi30k/val --target de --level bpe

Each form is trained by scripts/train_translator.py in a process of its own, one after the other. Hidden sizes are
chosen so that the parameter counts are within 2 % of multihead's. Figures are of the validation pairs, the greedy ones
and those with beams of the same weights. Leave the machine alone meanwhile: what else runs on it is counted against
the form that is being trained.
"""

import json
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tables import Column, Table, Value
from benchmarks.training_runs import train
from zoo.command_line import parse_options, run_script
from zoo.core import ATTENTIONS
from zoo.seq2seq import Translator

FORMS = ("none", *ATTENTIONS)
COLUMNS = (
    Column("attention"),
    Column("hidden size", "d"),
    Column("parameters", ",d"),
    Column("BLEU, greedy", ".2f"),
    Column("BLEU, beams", ".2f"),
    Column("chrF", ".2f"),
    Column("exact match", ".2%"),
    Column("target tokens/s", ",d"),
    Column("minutes", ".2f"),
)


@dataclass
class TranslatorFormsOptions:
    """What to compare.

    Args:
        data: Pairs to train on, as for scripts/train_translator.py.
        source: The language to translate from.
        target: The language to translate into.
        validation_data: What to validate on; without it, part of the training pairs is held out.
        level: What a token is: char, word or bpe.
        joint: One vocabulary for both languages instead of one each.
        tokenizer_size: The most tokens in a vocabulary.
        forms: Which of none, additive, general and multihead, separated by commas.
        out: Folder for the runs and the table (table.md, table.csv).
        max_minutes: Training time of each form.
        cell: Of the encoder and of the decoder.
        embedding_size: Width of the token embeddings.
        hidden_size: Width of each layer with the attention multihead, which sets how many parameters all forms have.
        num_layers: Layers of the encoder, and of the decoder.
        num_heads: Heads of the attention multihead.
        dropout: Locked dropout.
        num_beams: Beams of the figures that are not greedy.
        seed: Seed of every run.
    """

    data: str = "numbers"
    source: str = "en"
    target: str = "fr"
    validation_data: str | None = None
    level: str = "word"
    joint: bool = False
    tokenizer_size: int | None = None
    forms: str = ",".join(FORMS)
    out: Path = Path("runs/translator_forms")
    max_minutes: float = 4.0
    cell: str = "lstm"
    embedding_size: int = 128
    hidden_size: int = 192
    num_layers: int = 2
    num_heads: int = 8
    dropout: float = 0.1
    num_beams: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if not set(self.forms.split(",")) <= set(FORMS):
            raise ValueError(f"forms is {self.forms}, but must be of {', '.join(FORMS)}")
        if self.hidden_size == self.embedding_size:
            raise ValueError(
                f"hidden_size and embedding_size are both {self.hidden_size}, but must differ: a layer with inputs as "
                "wide as its outputs has a residual connection, and multihead alone would have it"
            )


def parameters(form: str, options: TranslatorFormsOptions, hidden_size: int) -> int:
    """All but those of the vocabulary, which are the same in each form."""
    model = Translator(
        vocab_size=1,
        embedding_size=options.embedding_size,
        hidden_size=hidden_size,
        num_layers=options.num_layers,
        cell=options.cell,
        attention=None if form == "none" else form,
        num_heads=options.num_heads,
    )
    return sum(parameter.numel() for parameter in model.parameters())


def hidden_size_for(form: str, options: TranslatorFormsOptions) -> int:
    """The even size with which a form's parameter count comes nearest to that of multihead."""
    if form == "multihead":
        return options.hidden_size
    wanted = parameters("multihead", options, options.hidden_size)
    # Even without attention a layer need not be twice as wide.
    sizes = [size for size in range(2, 2 * options.hidden_size, 2) if size != options.embedding_size]
    larger = bisect_left(sizes, wanted, key=lambda size: parameters(form, options, size))
    return min(sizes[larger - 1 : larger + 1], key=lambda size: abs(parameters(form, options, size) - wanted))


def measure(form: str, options: TranslatorFormsOptions) -> tuple[Value, ...]:
    """The table's row."""
    hidden_size, run = hidden_size_for(form, options), options.out / form
    names = ["data", "source", "target", "validation_data", "level", "joint", "tokenizer_size", "max_minutes", "cell"]
    names += ["embedding_size", "num_layers", "num_heads", "dropout", "num_beams", "seed"]
    recipe = {name: value for name in names if (value := getattr(options, name)) is not None}
    recipe |= {"attention": form, "hidden_size": hidden_size, "evaluations": 4}
    figures = train("train_translator.py", recipe, run)
    evaluations = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    greedy = next(line for line in evaluations if line["step"] == figures["best_step"])
    validation = figures["validation"]
    return (
        form,
        hidden_size,
        figures["parameters"],
        greedy["bleu"],
        validation["bleu"],
        validation["chrf"],
        validation["exact_match"],
        figures["tokens_per_second"],
        figures["training_minutes"],
    )


def main() -> int:
    (options,) = parse_options(__doc__ or "", TranslatorFormsOptions)
    options.out.mkdir(parents=True, exist_ok=True)
    title = f"The translator with each attention: {options.data}, {options.cell}, {options.max_minutes:g} minutes each"
    table = Table(options.out, "table", title, [], COLUMNS)
    for form in options.forms.split(","):
        table.add(*measure(form, options))
    return 0


if __name__ == "__main__":
    run_script(main)
