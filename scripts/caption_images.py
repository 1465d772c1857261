"""Describe images with a trained image captioner: for each a line with path and caption, in order.

python scripts/caption_images.py runs/image_captioner dog.jpg holiday/     # a folder: all images below it
find photos -name "*.jpg" | python scripts/caption_images.py runs/image_captioner --format jsonl > captions.jsonl
python scripts/caption_images.py runs/image_captioner dog.jpg --n_best 3
python scripts/caption_images.py runs/image_captioner dog.jpg --attention looked.png
"""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL import ImageOps
from torch import Tensor

from zoo.command_line import parse_options, run_script
from zoo.data.given_images import GivenImages, json_line, read_given, table_line
from zoo.decoding import BeamOptions
from zoo.device import choose_device
from zoo.errors import InputError, as_input_error
from zoo.evaluation.caption_pictures import draw_attention
from zoo.one_to_many import Caption, ImageCaptioner
from zoo.one_to_many.nearest_captions import NEIGHBOURS_FILE
from zoo.one_to_one.image_encoder import FeatureExtractor


@dataclass
class CaptionOptions:
    """What to describe, and how.

    Args:
        run: Run folder, saved model, or name of a model on the hub.
        images: Images, and folders of them (behind --images, if the first begins with -); without them, standard
            input is read, a path a line.
        num_beams: Hypotheses that beam search keeps; 1 is greedy and quickest.
        n_best: So many captions of each image; in text format one below the other.
        length_penalty: The higher, the longer the captions; see zoo.decoding.BeamOptions. The model's own if left out.
        no_repeat_ngram_size: No so many tokens in a row twice in a caption.
        mirror: Look at each image mirrored too, where captions name no sides: better captions for twice the time. As
            the run does if left out.
        neighbours: So many training images, the ones most like the image, help with their captions, in a run trained
            with neighbours; 0 for none. As the run does if left out.
        format: Lines with path and caption, a tab between them; or a JSON object a line with the scores.
        attention: With one image, a PNG file to draw into where in it the model looked for each word.
        device: auto, cpu, cuda, ...
    """

    run: str
    images: list[str] = field(default_factory=list)
    num_beams: int = 5
    n_best: int = 1
    length_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    mirror: bool | None = None
    neighbours: int | None = None
    format: Literal["text", "jsonl"] = "text"
    attention: Path | None = None
    device: str = "cpu"


def main() -> int:
    (options,) = parse_options(__doc__ or "", CaptionOptions, positional=("run", "images"))
    if options.attention is not None:
        _check_drawing(options.images, options.attention)
    settings = {
        name: getattr(options, name) for name in ("num_beams", "n_best", "length_penalty", "no_repeat_ngram_size")
    }
    with as_input_error():
        BeamOptions(
            **{name: value for name, value in settings.items() if value is not None}
        )  # checks them now, not after the first images
    images = GivenImages(options.images)
    model = ImageCaptioner.from_pretrained(options.run).to(choose_device(options.device))
    with as_input_error(f"{options.run}: "):
        model.require_tokenizer()
        neighbours = model.checked_neighbours(options.neighbours)
    if model.neighbours and model.remembered is None and options.neighbours is None:
        print(f"note: {options.run} has no {NEIGHBOURS_FILE}, which its training writes at its end", file=sys.stderr)
    if options.attention is not None and model.decoder.attention is None:
        raise InputError(f"{options.run} was trained without attention: it looks nowhere that could be drawn")
    features = FeatureExtractor(model.encoder)
    mirror = model.mirror if options.mirror is None else options.mirror
    unfinished = 0
    for names, batch in images.batches(model.encoder.image_size, model.resize):
        mirrored = features(batch.flip(3)) if mirror else None
        found = model.captions_of(features(batch), mirrored=mirrored, neighbours=neighbours, **settings)
        for name, captions in zip(names, found, strict=True):
            unfinished += not captions[0].finished
            for line in _shown(name, captions, options):
                print(line)
        sys.stdout.flush()
        if options.attention is not None:
            _draw(model, names[0], batch[0], found[0][0].text, options.attention)
    if unfinished:
        print(f"{unfinished:,} captions were cut at {model.max_length} tokens, this run's longest", file=sys.stderr)
    return images.exit_code()


def _shown(name: str, captions: list[Caption], options: CaptionOptions) -> list[str]:
    if options.format == "jsonl":
        best = [{"text": one.text, "score": round(one.score, 6), "finished": one.finished} for one in captions]
        return [json_line({"file": name, "captions": best})]
    return [table_line(name, " ".join(one.text.split())) for one in captions]


def _check_drawing(images: list[str], picture: Path) -> None:
    if len(images) != 1 or os.path.isdir(os.path.expanduser(images[0])):
        raise InputError("--attention draws where the model looked in one image: give one image")
    if not picture.parent.is_dir():
        raise InputError(f"--attention is {picture}, but there is no folder {picture.parent}")


def _draw(model: ImageCaptioner, name: str, image: Tensor, caption: str, picture: Path) -> None:
    whole = read_given(name)
    if model.resize == "crop":
        whole = ImageOps.fit(whole, (min(whole.size), min(whole.size)))
    words, weights = model.attend(image, caption)
    with as_input_error("--attention: "):  # a caption of too many words for one picture
        draw_attention(whole, words, weights, picture)


if __name__ == "__main__":
    run_script(main)
