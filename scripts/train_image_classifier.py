"""Train an image classifier: a convolutional network that gives an image a label, and can then start a captioner.

python scripts/train_image_classifier.py --out runs/shapes                     # drawn scenes, built in
python scripts/train_image_classifier.py --out runs/pets --data pets/ --backbone resnet18 --weights imagenet
python scripts/classify_images.py runs/pets my_pet.jpg
"""

import hashlib
import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.command_line import figures_line, parse_options, plain_options, run_script
from zoo.core import State
from zoo.data.augmentation import Augmentation, augmented
from zoo.data.cache_folder import default_cache
from zoo.data.feature_cache import CachedFeatures
from zoo.data.images import Resize
from zoo.data.labelled_images import load_labelled_images
from zoo.data.length_batches import LengthBatches
from zoo.data.stored_images import ImageLabelData, LabelledImages
from zoo.data.text_pieces import valid_unicode
from zoo.device import Precision, choose_precision
from zoo.errors import as_input_error
from zoo.evaluation.classification import class_table, confident_mistakes, majority_figures, single_label_figures
from zoo.evaluation.confusions import draw_confusions
from zoo.evaluation.curves import draw_curves
from zoo.files import write_atomically, write_json_lines
from zoo.one_to_one import ImageBatch, ImageClassifier
from zoo.one_to_one.batch_norm import check_batch_size
from zoo.one_to_one.image_encoder import usual_image_size
from zoo.one_to_one.pictures import broken_notes, load_pictures
from zoo.training import Pace, Processes, RunFolder, TrainingOptions, check_run_folder, train
from zoo.training.finetuning import check_finetuning, finetuning_paces

MISTAKES = 20
EVALUATION_BATCH = 128


@dataclass
class ImageClassifierOptions:
    """What to train on, and which model.

    Args:
        data: scenes (built in), a folder with a folder of images a class (or with such folders for train, validation
            and test), a Parquet file or a folder of them with a column of images, a folder of images with a table of
            file names and labels, or a hub data set (mnist, or owner/name).
        validation_data: What to validate on; without it, part of the training images is held out.
        test_data: What to test on, once, at the end.
        validation_fraction: The share that is held out.
        image_column: The column that has the image; image if left out.
        label_column: The column that has the label; label if left out.
        backbone: small, or one of torchvision's networks (resnet18, mobilenet_v3_small, ...).
        weights: What the backbone starts from: none, imagenet (downloaded once), or the file of a state dict.
        finetune: With weights, the backbone learns at this share of the rate; 0 leaves it as it is, and then the
            features of all images are computed only once.
        finetune_from: With weights, the share of the run after which the backbone begins to learn.
        cache: Folder for features; if left out, the user's cache folder.
        recompute: Compute features anew for every batch.
        image_size: Height and width that images are brought to; if left out, 64 for small and 224 for others.
        resize: squash shows all of an image, crop the square in its middle.
        augment: Training images are moved a little at random, or also mirrored.
        dropout: Dropout before the labels' scores.
        label_smoothing: Share of each target that is spread over all labels.
    """

    data: str = "scenes"
    validation_data: str | None = None
    test_data: str | None = None
    validation_fraction: float = 0.1
    image_column: str | None = None
    label_column: str | None = None
    backbone: str = "small"
    weights: str = "none"
    finetune: float = 0.1
    finetune_from: float = 0.2
    cache: Path | None = None
    recompute: bool = False
    image_size: int | None = None
    resize: Resize = "squash"
    augment: Augmentation = "shift"
    dropout: float = 0.1
    label_smoothing: float = 0.05

    def __post_init__(self) -> None:
        check_finetuning(self.finetune, self.finetune_from)


@dataclass
class ImageClassifierTraining(TrainingOptions):
    __doc__ = TrainingOptions.__doc__
    usual_minutes = 1.0

    out: Path = Path("runs/image_classifier")
    batch_size: int = 64
    learning_rate: float = 4e-3


class Split:
    """Images as the model takes them, and the numbers of their labels; broken images are left out."""

    def __init__(
        self, name: str, images: LabelledImages, model: ImageClassifier, precision: Precision, cache: Path | None
    ) -> None:
        self.pictures = load_pictures(images.images, f"{name} images", model.encoder, model.resize, precision, cache)
        self.numbers = self.pictures.kept
        known = {label: number for number, label in enumerate(model.labels)}
        self.targets = torch.tensor([known[valid_unicode(images.labels[n])] for n in self.numbers])
        self.places = [valid_unicode(images.images[n].place) for n in self.numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def images(self, rows: list[int]) -> Tensor:
        """Images (B, 3, height, width), or features (B, S, M)."""
        return self.pictures([self.numbers[row] for row in rows])


class Classifying:
    """The task: tell what an image shows. See `zoo.training.Task`."""

    metric, higher_is_better = "accuracy", True

    def __init__(
        self,
        model: ImageClassifier,
        training: Split,
        validation: Split,
        options: ImageClassifierOptions,
        batches: LengthBatches,
    ) -> None:
        self.model = model
        self.training, self.validation = training, validation
        self.options, self.batches = options, batches
        targets = training.targets.numpy().tobytes()
        self.fingerprint = hashlib.sha256(training.pictures.fingerprint.encode() + targets).hexdigest()

    def matrices(self) -> Iterable[nn.Parameter]:
        return [] if self.model.encoder.fixed else self.model.encoder.filters()

    def paces(self) -> dict[nn.Parameter, Pace]:
        if not self.model.encoder.fixed:
            return {}
        return finetuning_paces(self.model.encoder.parameters(), self.options.finetune, self.options.finetune_from)

    def num_batches(self, epoch: int) -> int:
        return self.batches.num_batches(epoch)

    def batch(self, epoch: int, k: int) -> ImageBatch:
        rows = self.batches.rows(epoch, k)
        images = self.training.images(rows)
        if images.dim() == 4:
            images = augmented(images, self.options.augment, self.batches.generator(epoch, k))
        return ImageBatch(images, self.training.targets[rows])

    def loss(self, batch: ImageBatch, carry: State) -> tuple[Tensor, State]:
        return self.model.loss(batch), ()

    def weight(self, batch: ImageBatch) -> float:
        return len(batch.images)

    def tokens(self, batch: ImageBatch) -> int:
        return len(batch.images)

    def evaluate(self) -> dict[str, float]:
        return single_label_figures(_probabilities(self.model, self.validation), self.validation.targets)

    def sample(self) -> str:
        found = self.model.probabilities(self.validation.images([0]))[0]
        return f"{self.validation.places[0]}: {self.model.labels[int(found.argmax())]} ({float(found.max()):.0%})"


def main() -> int:
    options, training = parse_options(__doc__ or "", ImageClassifierOptions, ImageClassifierTraining)
    processes = Processes(training.device)
    processes.from_main(lambda: check_run_folder(training.out, training.overwrite, training.resume))
    device = processes.device
    precision = choose_precision(training.precision, device)
    torch.manual_seed(training.seed)

    with processes.first_alone():  # what it downloads or computes, the others find
        data = load_labelled_images(
            options.data,
            image_column=options.image_column,
            label_column=options.label_column,
            validation_data=options.validation_data,
            test_data=options.test_data,
            validation_fraction=options.validation_fraction,
            seed=training.seed,
        )
        model = _starting_model(options, data).to(device)
        cache = None if options.recompute else (options.cache or default_cache())
        splits = {"training": data.train, "validation": data.validation, **data.tests}
        held_out = {name: Split(name, images, model, precision, cache) for name, images in splits.items()}
    trained_on = held_out.pop("training")
    check_batch_size(model.encoder, len(trained_on), training.batch_size, processes.count, device.type)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in {"training": trained_on, **held_out}.items())
    print(
        f"{data.name}: {sizes} images, {len(data.labels)} labels; {options.backbone}, {parameters:,} parameters; "
        f"{device.type}, {precision}, {torch.get_num_threads()} threads"
    )
    pictures = {name: split.pictures for name, split in {"training": trained_on, **held_out}.items()}
    for note in [*data.notes, *broken_notes(pictures)]:
        print(f"note: {note}")
    if isinstance(trained_on.pictures, CachedFeatures):
        print(
            f"note: the features of the images are in {trained_on.pictures.file.parent}, of images that are not "
            "augmented (with --recompute they are)"
        )
    batches = LengthBatches([1] * len(trained_on), training.batch_size, training.seed)
    task = Classifying(model, trained_on, held_out["validation"], options, batches)

    run = processes.from_main(
        lambda: RunFolder(training.out, plain_options(options, training), training.overwrite, training.resume)
    )
    outcome = train(task, training, run, processes, precision)
    if outcome.exit_code is not None:
        return outcome.exit_code

    best = ImageClassifier.from_pretrained(run.path).to(device)
    results = {name: _probabilities(best, split) for name, split in held_out.items()}
    figures: dict[str, Any] = {}
    for name, split in held_out.items():
        figures[name] = single_label_figures(results[name], split.targets)
        figures[f"majority_{name}"] = majority_figures(trained_on.targets, split.targets, len(data.labels))
    figures |= outcome.facts(best, training, device, precision)
    # A token of an image classifier is an image.
    figures["images_per_second"] = figures.pop("tokens_per_second")
    run.finish(figures)
    draw_curves(outcome.history, task.metric, run.path / "curves.png")
    _report(figures, best, held_out, results, run)
    return 0


def _starting_model(options: ImageClassifierOptions, data: ImageLabelData) -> ImageClassifier:
    values = asdict(options)
    config = {name: values[name] for name in ("backbone", "resize", "dropout", "label_smoothing")}
    usual_size = usual_image_size(options.backbone)
    config["image_size"] = usual_size if options.image_size is None else options.image_size
    with as_input_error():
        model = ImageClassifier(labels=[valid_unicode(label) for label in data.labels], **config)
    if options.weights != "none":
        model.encoder.load(options.weights)
        if not options.finetune:
            model.encoder.requires_grad_(False)
    return model


def _probabilities(model: ImageClassifier, split: Split) -> Tensor:
    rows = range(len(split))
    batches = [list(rows[start : start + EVALUATION_BATCH]) for start in range(0, len(rows), EVALUATION_BATCH)]
    return torch.cat([model.probabilities(split.images(batch)) for batch in batches])


def _report(
    figures: dict[str, Any],
    model: ImageClassifier,
    held_out: dict[str, Split],
    results: dict[str, Tensor],
    run: RunFolder,
) -> None:
    for name, split in held_out.items():
        predictions = results[name].argmax(dim=-1)
        table = class_table(split.targets, predictions, model.labels)
        write_atomically(run.path / f"{name}_labels.txt", table + "\n")
        draw_confusions(split.targets, predictions, model.labels, run.path / f"{name}_confusions.png")
        mistakes = confident_mistakes(split.places, results[name], split.targets, model.labels, MISTAKES)
        write_json_lines(run.path / f"{name}_mistakes.jsonl", [mistake._asdict() for mistake in mistakes])
        print(f"\n{name}:\n{table}\n")
        for title, key in (("network", name), ("commonest", f"majority_{name}")):
            print(f"{title}: {figures_line(figures[key])}")
    minutes, speed = figures["training_minutes"], figures["images_per_second"]
    print(f"{minutes} minutes of training, {speed:,} images/s; run in {run.path}")
    print(f"try: python scripts/classify_images.py {shlex.quote(str(run.path))} IMAGE")


if __name__ == "__main__":
    run_script(main)
