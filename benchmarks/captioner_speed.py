"""The captioner's speed: an epoch with cached features beside one without, and captions in batches beside one by one.

    python -m benchmarks.captioner_speed --run runs/scenes                           # on the scenes, built in
    python -m benchmarks.captioner_speed --run runs/flickr8k --data flickr8k/

An epoch: whole training steps of the run's decoder (loss, gradients, optimizer) on images whose features come from the
cache, and on images that are read and go through the encoder, which does not learn, for every batch. The batches are
the same, in turn, in the precision that training takes.

Captions: images in memory go through the encoder and beam search, all in one call, and with one call each.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.machine import describe
from benchmarks.tables import markdown_head
from benchmarks.timing import medians
from zoo.command_line import parse_options, run_script
from zoo.data.caption_text import plain_words
from zoo.data.captioned_images import load_captioned_images
from zoo.data.image_tensors import ImageTensors
from zoo.data.images import read_image
from zoo.data.length_batches import pad
from zoo.data.stored_images import CaptionedImages
from zoo.device import Precision, choose_device, choose_precision
from zoo.one_to_many import CaptionBatch, ImageCaptioner
from zoo.one_to_one.pictures import Pictures, load_pictures


@dataclass
class CaptionerSpeedOptions:
    """What to time.

    Args:
        run: Run folder of an image captioner.
        data: Images with captions, as for scripts/train_image_captioner.py.
        batch_size: Images in a training batch.
        captions_per_image: Captions of each in it.
        steps: Training steps in a round; the figure is for a whole epoch.
        images: How many to caption.
        num_beams: Beams.
        repeats: Rounds; their median counts.
        device: auto, cpu, cuda, ...
        seed: Seed of what is held out.
    """

    run: str
    data: str = "scenes"
    batch_size: int = 32
    captions_per_image: int = 5
    steps: int = 2
    images: int = 1000
    num_beams: int = 5
    repeats: int = 5
    device: str = "auto"
    seed: int = 0


def measure_epochs(
    model: ImageCaptioner, images: CaptionedImages, options: CaptionerSpeedOptions, precision: Precision
) -> dict[str, float]:
    """Seconds of an epoch, without the cache and with it."""
    device = model.position.device
    model.encoder.requires_grad_(False)
    model.encoder.fixed = True
    model.train()
    count = min(options.batch_size * options.steps, len(images))
    shown = images.images[:count]
    rows = [model.caption_rows([plain_words(caption) for caption in several]) for several in images.captions[:count]]
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.0, fused=True)

    def epoch(pictures: Pictures) -> None:
        for start in range(0, count, options.batch_size):
            numbers = range(start, min(start + options.batch_size, count))
            captions = pad([rows[n][k % len(rows[n])] for n in numbers for k in range(options.captions_per_image)])
            batch = CaptionBatch(*(part.to(device) for part in (pictures(numbers), *captions)))
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                loss = model.loss(batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    with TemporaryDirectory() as folder:
        read = ImageTensors(shown, model.encoder.image_size, model.resize, "images", memory=0)
        cached = load_pictures(shown, "images", model.encoder, model.resize, precision, Path(folder))
        ways = {"without": lambda: epoch(read), "with the cache": lambda: epoch(cached)}
        seconds = medians(ways, options.repeats, device)
    return {way: value * len(images) / count for way, value in seconds.items()}


def measure_captions(
    model: ImageCaptioner, images: CaptionedImages, options: CaptionerSpeedOptions
) -> tuple[dict[str, float], int, int]:
    """Seconds for all images, one by one and in batches; how many images, and of how many the caption is the same."""
    pictures = [read_image(image.fetch(), image.place) for image in images.images[: options.images]]
    found: dict[str, list[str]] = {}

    def one_by_one() -> None:
        found["one by one"] = [model.caption(picture, num_beams=options.num_beams) for picture in pictures]

    def in_batches() -> None:
        found["in batches"] = model.caption(pictures, num_beams=options.num_beams)

    ways = {"one by one": one_by_one, "in batches": in_batches}
    seconds = medians(ways, options.repeats, model.position.device)
    same = sum(alone == together for alone, together in zip(*found.values(), strict=True))
    return seconds, len(pictures), same


def main() -> int:
    (options,) = parse_options(__doc__ or "", CaptionerSpeedOptions)
    device = choose_device(options.device)
    precision = choose_precision("auto", device)
    torch.manual_seed(options.seed)
    model = ImageCaptioner.from_pretrained(options.run).to(device)
    data = load_captioned_images(options.data, seed=options.seed)
    print(f"{describe(device)}; {model.encoder.backbone}")

    captions, count, same = measure_captions(model, data.validation, options)
    print(f"\n{count:,} images, {options.num_beams} beams, float32; the same captions both ways: {same:,}")
    print(f"\n{markdown_head(('captions', 'images/s', 'times as fast'))}")
    for way, seconds in captions.items():
        print(f"| {way} | {count / seconds:,.1f} | {captions['one by one'] / seconds:.2f} |")

    epochs = measure_epochs(model, data.train, options, precision)
    print(f"\nan epoch of {len(data.train):,} images, {options.captions_per_image} captions of each, {precision}:")
    print(f"\n{markdown_head(('features', 'seconds an epoch', 'times as fast'))}")
    for way, seconds in epochs.items():
        print(f"| {way} | {seconds:,.1f} | {epochs['without'] / seconds:.2f} |")
    return 0


if __name__ == "__main__":
    run_script(main)
