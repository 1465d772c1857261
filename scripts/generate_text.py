"""Continue a prompt with a trained text generator; the text streams to standard output, and nothing else does.

python scripts/generate_text.py runs/text_generator --prompt "The import statement"
python scripts/generate_text.py runs/text_generator --file prompt.txt --temperature 0.7 --seed 1
printf "Once" | python scripts/generate_text.py runs/text_generator
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from zoo.command_line import parse_options, run_script
from zoo.data.text_files import normalise, read_text_file
from zoo.device import StepPrecision, choose_device
from zoo.errors import InputError, as_input_error
from zoo.one_to_many import InterpolatedGenerator, TextGenerator


@dataclass
class GenerationOptions:
    """What to continue, and how.

    Args:
        run: Run folder, saved model, or name of a model on the hub.
        prompt: The text to continue; without it and without --file, standard input is read.
        file: A file with the text to continue.
        max_new_tokens: How many tokens to add at most.
        temperature: 0 takes the likeliest token each time, 1 draws from the model as it is.
        top_k: Draw from so many of the likeliest tokens only.
        top_p: Draw from the fewest tokens that make up this probability.
        min_p: Draw from tokens at least this many times as likely as the likeliest.
        repetition_penalty: Above 1, tokens that already stand in the text become less likely.
        stop: Strings to stop before.
        num_return: So many continuations, one after the other.
        echo: Print the prompt before its continuation.
        seed: The same seed gives the same text.
        markov_weight: Share of the n-gram model that was counted beside the run; with 0 the network writes alone.
        precision: Of the weights. bfloat16 is quicker on a CPU that multiplies in it, float16 on other x86 CPUs; both
            draw from almost the same model.
        device: auto, cpu, cuda, ...
    """

    run: str
    prompt: str | None = None
    file: Path | None = None
    max_new_tokens: int = 500
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: list[str] = field(default_factory=list)
    num_return: int = 1
    echo: bool = True
    seed: int | None = None
    markov_weight: float = 0.0
    precision: StepPrecision = "float32"
    device: str = "cpu"


def main() -> int:
    (options,) = parse_options(__doc__ or "", GenerationOptions, positional=("run",))
    prompt = _prompt(options)
    if options.num_return < 1:
        raise InputError(f"num_return is {options.num_return}, but must be at least 1")
    model = _model(options).to(choose_device(options.device))
    for number in range(options.num_return):
        pieces = model.stream(
            prompt,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            min_p=options.min_p,
            repetition_penalty=options.repetition_penalty,
            stop=options.stop,
            seed=None if options.seed is None else options.seed + number,
            precision=options.precision,
        )
        # Only once the first piece is there are all options known to be good.
        with as_input_error():
            first = next(pieces, "")
        sys.stdout.write((prompt if options.echo else "") + first)
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
    return 0


def _model(options: GenerationOptions) -> TextGenerator | InterpolatedGenerator:
    if options.markov_weight == 0:
        return TextGenerator.from_pretrained(options.run)
    with as_input_error("markov_"):
        return InterpolatedGenerator.from_pretrained(options.run, options.markov_weight)


def _prompt(options: GenerationOptions) -> str:
    if options.prompt is not None and options.file is not None:
        raise InputError("--prompt and --file were both given; the text to continue can come from one of them only")
    if options.prompt is not None:
        return options.prompt
    if options.file is not None:
        return read_text_file(options.file)
    if sys.stdin is None:
        raise InputError("standard input is closed: give --prompt TEXT or --file FILE")
    if sys.stdin.isatty():
        raise InputError("there is no prompt: give --prompt TEXT or --file FILE, or pipe a text to standard input")
    try:
        return normalise(sys.stdin.buffer.read().decode("utf-8"))  # as --file is read
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8 text (byte {error.start})") from None


if __name__ == "__main__":
    run_script(main)
