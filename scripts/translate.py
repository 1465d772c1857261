"""Translate with a trained translator: a line out for each line in, in order.

python scripts/translate.py runs/numbers "twenty-one thousand" "seven"
cat lines.en | python scripts/translate.py runs/en-de > lines.de               # an empty line for an empty line
python scripts/translate.py runs/en-de --file lines.en --n_best 3 --format jsonl
python scripts/translate.py runs/en-de "A dog runs on the beach." --alignments dog.png
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from zoo.command_line import parse_options, run_script
from zoo.data.given_texts import are_typed, given_texts
from zoo.data.lines import in_chunks
from zoo.device import choose_device
from zoo.errors import InputError, as_input_error
from zoo.evaluation.alignments import draw_alignment
from zoo.seq2seq import Translation, Translator

CHUNK = 512  # lines in memory at a time


@dataclass
class TranslateOptions:
    """What to translate, and how.

    Args:
        run: Run folder, saved model, or name of a model on the hub.
        texts: Texts to translate (behind --texts, if the first begins with -); without them and without --file,
            standard input is read, a text a line.
        file: A file with a text a line.
        num_beams: Hypotheses that beam search keeps; 1 is greedy and quickest.
        n_best: So many translations of each text; in lines format one below the other.
        length_penalty: The higher, the longer the translations; see zoo.decoding.BeamOptions.
        no_repeat_ngram_size: No so many tokens in a row twice in a translation.
        min_ratio: Fewest tokens of a translation, relative to its source.
        max_ratio: Most tokens of a translation, relative to its source, beside 10 that are always allowed; by default
            what all but the oddest training pairs need.
        format: Lines of text, or a JSON object a line with the scores.
        alignments: With one text, a PNG file to draw into which source tokens each token of the translation looked at.
        device: auto, cpu, cuda, ...
    """

    run: str
    texts: list[str] = field(default_factory=list)
    file: Path | None = None
    num_beams: int = 5
    n_best: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram_size: int | None = None
    min_ratio: float = 0.0
    max_ratio: float | None = None
    format: Literal["lines", "jsonl"] = "lines"
    alignments: Path | None = None
    device: str = "cpu"


def main() -> int:
    (options,) = parse_options(__doc__ or "", TranslateOptions, positional=("run", "texts"))
    if options.alignments is not None and len(options.texts) != 1:
        raise InputError("--alignments draws the translation of one text: give one text")
    if options.alignments is not None and not options.alignments.parent.is_dir():
        raise InputError(f"--alignments is {options.alignments}, but there is no folder {options.alignments.parent}")
    texts = given_texts(options.texts, options.file)
    model = Translator.from_pretrained(options.run).to(choose_device(options.device))
    if options.alignments is not None and model.decoder.attention is None:
        raise InputError(f"{options.run} was trained without attention: there is no alignment to draw")
    typed = are_typed(options.texts, options.file)
    settings = {
        name: getattr(options, name)
        for name in ("num_beams", "n_best", "length_penalty", "no_repeat_ngram_size", "min_ratio", "max_ratio")
    }
    with as_input_error():
        model.translations([], **settings)  # checks them now, not after the first lines
    unfinished = in_parts = 0
    # Not among the lines, if both go to the terminal.
    silent = typed or bool(options.texts) or sys.stdout.isatty()
    with tqdm(unit=" lines", disable=True if silent else None) as progress:
        for chunk in in_chunks((item.text for item in texts), 1 if typed else CHUNK):
            found = model.translations(chunk, **settings)
            for text, translations in zip(chunk, found, strict=True):
                unfinished += not translations[0].finished
                in_parts += translations[0].parts > 1
                for line in _shown(text, translations, options):
                    print(line)
            sys.stdout.flush()
            progress.update(len(chunk))
            if options.alignments is not None:
                draw_alignment(*model.align(chunk[0], found[0][0].text), options.alignments)
    if in_parts:
        print(f"{in_parts:,} texts are much longer than any in training: translated in parts", file=sys.stderr)
    if unfinished:
        print(f"{unfinished:,} translations were cut at their longest: raise --max_ratio", file=sys.stderr)
    return 0


def _shown(text: str, translations: list[Translation], options: TranslateOptions) -> list[str]:
    """A line for each translation; in it no break, which would shift all lines after it."""
    if options.format == "jsonl":
        best = [
            {"text": one.text, "score": round(one.score, 6), "finished": one.finished, "parts": one.parts}
            for one in translations
        ]
        return [json.dumps({"source": text, "translations": best}, ensure_ascii=False)]
    lines = [" ".join(one.text.split()) for one in translations]
    return lines + [""] * (options.n_best - len(lines))  # as many for each text, that it is known whose they are


if __name__ == "__main__":
    run_script(main)
