"""The translator without attention and with each kind of it: the same pairs, minutes, recipe and parameters, one table.

    python benchmarks/translator_forms.py                          # numbers in words, 4 minutes a form
    python benchmarks/translator_forms.py --data multi30k/train --validation_data multi30k/val --target de --level bpe

Each form is trained by scripts/train_translator.py in a process of its own, one after the other. Hidden sizes are
chosen so that the parameter counts are within 2 % of multihead's. Figures are of the validation pairs, the greedy ones
and those with beams of the same weights. Leave the machine alone meanwhile: what else runs on it is counted against
the form that is being trained.
"""

import json
import subprocess
import sys
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path

from zoo.command_line import parse_options, run_script
from zoo.core import ATTENTIONS
from zoo.errors import InputError
from zoo.seq2seq import Translator

SCRIPT = Path(__file__).parents[1] / "scripts" / "train_translator.py"
FORMS = ("none", *ATTENTIONS)
COLUMNS = (
    "attention",
    "hidden size",
    "parameters",
    "BLEU, greedy",
    "BLEU, beams",
    "chrF",
    "exact match",
    "target tokens/s",
    "minutes",
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
        out: Folder for the runs and the table (table.md).
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


def train(form: str, options: TranslatorFormsOptions) -> tuple[int, tuple[str, ...]]:
    """The parameter count and the table's row."""
    hidden_size = hidden_size_for(form, options)
    run = options.out / form
    names = ["data", "source", "target", "validation_data", "level", "joint", "tokenizer_size", "max_minutes", "cell"]
    names += ["embedding_size", "num_layers", "num_heads", "dropout", "num_beams", "seed"]
    arguments = {name: value for name in names if (value := getattr(options, name)) is not None}
    arguments |= {"attention": form, "hidden_size": hidden_size, "out": run, "evaluations": 4, "overwrite": "true"}
    flags = [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
    log = options.out / f"{form}.log"
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run([sys.executable, str(SCRIPT), *flags], stdout=file, stderr=subprocess.STDOUT).returncode
    if code:
        raise InputError(f"training with the attention {form} ended with exit code {code}: see {log}")
    figures = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    evaluations = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    greedy = next(line for line in evaluations if line["step"] == figures["best_step"])
    validation = figures["validation"]
    return figures["parameters"], (
        form,
        str(hidden_size),
        f"{figures['parameters']:,}",
        f"{greedy['bleu']:.2f}",
        f"{validation['bleu']:.2f}",
        f"{validation['chrf']:.2f}",
        f"{validation['exact_match']:.2%}",
        f"{figures['tokens_per_second']:,}",
        f"{figures['training_minutes']:.2f}",
    )


def main() -> int:
    (options,) = parse_options(__doc__ or "", TranslatorFormsOptions)
    options.out.mkdir(parents=True, exist_ok=True)
    lines = ["| " + " | ".join(COLUMNS) + " |", "| --- |" + " ---: |" * (len(COLUMNS) - 1)]
    counts = []
    for form in options.forms.split(","):
        count, row = train(form, options)
        counts.append(count)
        lines.append("| " + " | ".join(row) + " |")
        print(lines[-1], flush=True)
    table = "\n".join(lines) + "\n"
    (options.out / "table.md").write_text(table, encoding="utf-8")
    print(
        f"\n{options.data}, {options.cell}; parameters differ by {max(counts) / min(counts) - 1:.1%} at most\n\n{table}"
    )
    return 0


if __name__ == "__main__":
    run_script(main)
