"""What weights of 16 bits cost a text generator in loss: the same text scored step by step with each.

    python -m benchmarks.packed_loss --run runs/text_generator --data python_docs

Rows of the text are scored from a zero state, so that the figures are a little above the training script's; the
difference between them is what counts.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.tables import markdown_head
from zoo.command_line import parse_options, run_script
from zoo.core import PackedDecoder, RecurrentDecoder
from zoo.data import load_text
from zoo.errors import InputError
from zoo.one_to_many import TextGenerator


@dataclass
class PackedLossOptions:
    """What to score.

    Args:
        run: Run folder of a text generator.
        data: What it was trained on: what that holds out for validation is scored.
        rows: Rows that the text is cut into, scored side by side.
        steps: Tokens of a row.
    """

    run: str = "runs/text_generator"
    data: str = "python_docs"
    rows: int = 64
    steps: int = 400

    def __post_init__(self) -> None:
        if self.rows < 1 or self.steps < 2:
            raise ValueError(f"rows is {self.rows} and steps {self.steps}, but must be at least 1 and 2")


def main() -> int:
    (options,) = parse_options(__doc__ or "", PackedLossOptions)
    model = TextGenerator.from_pretrained(options.run).eval()
    tokens = model.require_tokenizer().encode_long(load_text(options.data).validation.read()).long()
    steps = min(options.steps, len(tokens) // options.rows)
    if steps < 2:
        raise InputError(
            f"what {options.data} holds out has {len(tokens)} tokens: too few for {options.rows} rows, take fewer"
        )
    rows = tokens[: options.rows * steps].view(options.rows, steps)
    whole = stepped_loss(model.decoder, rows)
    print(f"{rows[:, 1:].numel():,} tokens that {options.data} holds out\n")
    print(markdown_head(("weights", "nats a token")))
    print(f"| float32 | {whole:.5f} |")
    for precision in ("bfloat16", "float16"):
        packed = stepped_loss(model.stepper(precision), rows)
        print(f"| {precision} | {packed:.5f} ({packed / whole - 1:+.3%}) |")
    return 0


@torch.inference_mode()
def stepped_loss(decoder: RecurrentDecoder | PackedDecoder, rows: Tensor) -> float:
    """Mean nats of each token of (N, T) but the first, given those before it."""
    logits, state = decoder.prefill(rows[:, :1], torch.ones(len(rows), dtype=torch.long))
    losses = []
    for following in rows[:, 1:].T:
        losses.append(F.cross_entropy(logits, following))
        logits, state = decoder.step(following, state)
    return float(torch.stack(losses).mean())


if __name__ == "__main__":
    run_script(main)
