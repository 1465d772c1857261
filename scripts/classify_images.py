"""Classify images with a trained image classifier: for each a line with path, label and probability, in order.

python scripts/classify_images.py runs/image_classifier dog.jpg holiday/ --top_k 3     # a folder: all images below it
find photos -name "*.jpg" | python scripts/classify_images.py runs/image_classifier --format jsonl > labels.jsonl
"""

import sys
from dataclasses import dataclass, field
from typing import Literal

from zoo.command_line import parse_options, run_script
from zoo.data.given_images import GivenImages, json_line, table_line
from zoo.device import choose_device
from zoo.errors import InputError
from zoo.one_to_one import ImageClassification, ImageClassifier
from zoo.one_to_one.image_encoder import FeatureExtractor


@dataclass
class ImageClassificationOptions:
    """What to classify, and what to show.

    Args:
        run: Run folder, saved model, or name of a model on the hub.
        images: Images, and folders of them (behind --images, if the first begins with -); without them, standard
            input is read, a path a line.
        top_k: Show so many of the likeliest labels; in text format one below the other.
        format: Lines with path, label and probability, tabs between them; or a JSON object a line.
        device: auto, cpu, cuda, ...
    """

    run: str
    images: list[str] = field(default_factory=list)
    top_k: int = 1
    format: Literal["text", "jsonl"] = "text"
    device: str = "cpu"


def main() -> int:
    (options,) = parse_options(__doc__ or "", ImageClassificationOptions, positional=("run", "images"))
    if options.top_k < 1:
        raise InputError(f"top_k is {options.top_k}, but must be at least 1")
    images = GivenImages(options.images)
    model = ImageClassifier.from_pretrained(options.run).to(choose_device(options.device))
    features = FeatureExtractor(model.encoder)
    for names, batch in images.batches(model.encoder.image_size, model.resize):
        for name, found in zip(names, model.classify_batch(features(batch), options.top_k), strict=True):
            for line in _shown(name, found, options):
                print(line)
        sys.stdout.flush()
    return images.exit_code()


def _shown(name: str, found: ImageClassification, options: ImageClassificationOptions) -> list[str]:
    if options.format == "jsonl":
        values = {"file": name, "label": found.label, "probability": round(found.probability, 6)}
        if options.top_k > 1:
            values["ranking"] = [[label, round(value, 6)] for label, value in found.ranking]
        return [json_line(values)]
    return [table_line(name, label, f"{value:.4f}") for label, value in found.ranking]


if __name__ == "__main__":
    run_script(main)
