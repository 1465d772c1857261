"""Classify texts with a trained text classifier: a line for each, in the order given.

python scripts/classify_text.py runs/text_classifier Kowalczyk Rossi --top_k 3
python scripts/classify_text.py runs/reviews --file reviews.csv --text_column review --format jsonl > labels.jsonl
cat lines.txt | python scripts/classify_text.py runs/reviews                     # a text a line
python scripts/classify_text.py runs/reviews "Not bad at all." --explain --picture why.png
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from zoo.command_line import parse_options, run_script
from zoo.data.given_texts import GivenText, are_typed, given_texts
from zoo.data.labelled_rows import names_in, text_of
from zoo.data.lines import in_chunks
from zoo.data.records import is_record_file, read_records
from zoo.device import choose_device
from zoo.errors import InputError, as_input_error
from zoo.evaluation.token_weights import colour_token_weights, draw_token_weights
from zoo.many_to_one import Classification, TextClassifier

CHUNK = 1024  # texts in memory at a time


@dataclass
class ClassificationOptions:
    """What to classify, and what to show.

    Args:
        run: Run folder, saved model, or name of a model on the hub.
        texts: Texts to classify (behind --texts, if the first begins with -); without them and without --file,
            standard input is read, a text a line.
        file: A file with a text a line, or a CSV, TSV or JSONL file (also .gz) or a Parquet file.
        text_column: The column of such a table that has the text, or several joined by +; text if left out.
        columns: Names of the columns of a CSV or TSV file without a header line, separated by commas.
        top_k: Show so many of the likeliest labels.
        format: A readable table, or a JSON object a line.
        explain: Show how much each piece of the text counted for its label.
        picture: With --explain and one text, a PNG file to draw that into.
        device: auto, cpu, cuda, ...
    """

    run: str
    texts: list[str] = field(default_factory=list)
    file: Path | None = None
    text_column: str | None = None
    columns: str | None = None
    top_k: int = 1
    format: Literal["table", "jsonl"] = "table"
    explain: bool = False
    picture: Path | None = None
    device: str = "cpu"


def main() -> int:
    (options,) = parse_options(__doc__ or "", ClassificationOptions, positional=("run", "texts"))
    if options.top_k < 1:
        raise InputError(f"top_k is {options.top_k}, but must be at least 1")
    if options.picture is not None and not (options.explain and len(options.texts) == 1):
        raise InputError("--picture draws the explanation of one text: give one text and --explain")
    items = _items(options)
    model = TextClassifier.from_pretrained(options.run).to(choose_device(options.device))
    typed = are_typed(options.texts, options.file)
    cut = 0
    for chunk in in_chunks(_with_text(items), 1 if typed else CHUNK):
        with as_input_error():
            rows = model.encode([item.text for item in chunk])
        cut += sum(len(model.shorten(row)) < len(row) for row in rows)
        for item, found in zip(chunk, model.classify_rows(rows, options.top_k), strict=True):
            print(_line(item, found, options, model))
        sys.stdout.flush()
    if cut:
        print(
            f"{cut:,} texts are longer than {model.max_length} tokens: the network read them without their middle",
            file=sys.stderr,
        )
    return 0


def _items(options: ClassificationOptions) -> Iterator[GivenText]:
    if options.file is not None and not options.texts and is_record_file(options.file):
        return _records(options.file, options)
    for name in ("text_column", "columns"):
        if getattr(options, name) is not None:
            raise InputError(f"--{name} is for the tables that --file takes: CSV, TSV, JSONL and Parquet")
    return given_texts(options.texts, options.file)


def _with_text(items: Iterator[GivenText]) -> Iterator[GivenText]:
    for item in items:
        if not item.text.strip():
            raise InputError(f"{item.place} is empty: there is nothing in it to classify")
        yield item


def _records(file: Path, options: ClassificationOptions) -> Iterator[GivenText]:
    text_columns = names_in(options.text_column or "text", "+")
    for record in read_records(file, None if options.columns is None else names_in(options.columns, ",")):
        yield GivenText(record.place, text_of(record, text_columns))


def _line(item: GivenText, found: Classification, options: ClassificationOptions, model: TextClassifier) -> str:
    explanation = model.explain(item.text) if options.explain else None
    if explanation is not None and options.picture is not None:
        title = f"{explanation.label} ({explanation.probability:.0%}), by {explanation.method}"
        draw_token_weights(explanation.tokens, explanation.weights, title, options.picture)
    if options.format == "jsonl":
        values: dict[str, object] = {
            "text": item.text,
            "label": found.label,
            "probability": round(found.probability, 6),
        }
        if model.multi_label:
            values["labels"] = found.labels
        if options.top_k > 1:
            values["ranking"] = [[label, round(value, 6)] for label, value in found.ranking]
        if explanation is not None:
            weights = [round(weight, 6) for weight in explanation.weights]
            values["explanation"] = {"method": explanation.method, "tokens": explanation.tokens, "weights": weights}
        return json.dumps(values, ensure_ascii=False)
    shown = "  ".join(f"{label} {value:4.0%}" for label, value in found.ranking)
    if model.multi_label:
        shown = f"[{', '.join(found.labels)}]  {shown}"
    # A line a text, and nothing in it that a terminal would obey.
    text = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(item.text.split()))
    if explanation is None:
        return f"{shown}\t{text}"
    if sys.stdout.isatty():
        return f"{shown}\t{colour_token_weights(explanation.tokens, explanation.weights)}"
    pairs = (f"{token!r} {weight:+.3f}" for token, weight in zip(explanation.tokens, explanation.weights, strict=True))
    return f"{shown}\t{text}\t{explanation.method}: {', '.join(pairs)}"


if __name__ == "__main__":
    run_script(main)
