"""Train an image captioner: a convolutional network looks at an image, a recurrent one describes it word by word.

python scripts/train_image_captioner.py --out runs/scenes                        # drawn scenes, built in
python scripts/train_image_captioner.py --out runs/flickr8k --data flickr8k/ --backbone mobilenet_v2 --weights imagenet
python scripts/caption_images.py runs/flickr8k my_photo.jpg
"""

import hashlib
import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.command_line import figures_line, parse_options, plain_options, run_script
from zoo.core import State
from zoo.data import TextTokenizer
from zoo.data.augmentation import Augmentation, augmented, mirrors
from zoo.data.cache_folder import default_cache
from zoo.data.caption_text import plain_words
from zoo.data.captioned_images import load_captioned_images
from zoo.data.feature_cache import CachedFeatures
from zoo.data.image_tensors import load_image
from zoo.data.images import Resize
from zoo.data.length_batches import LengthBatches, pad
from zoo.data.stored_images import CaptionData, CaptionedImages
from zoo.decoding import BeamOptions
from zoo.device import Precision, choose_precision
from zoo.errors import InputError, as_input_error
from zoo.evaluation.caption_pictures import draw_attention, draw_captions
from zoo.evaluation.captions import caption_figures, signatures, worst_captions
from zoo.evaluation.curves import draw_curves
from zoo.files import write_atomically, write_json_lines
from zoo.one_to_many import CaptionBatch, ImageCaptioner
from zoo.one_to_many.image_captioner import LONGEST
from zoo.one_to_many.nearest_captions import check_neighbours
from zoo.one_to_one import ImageClassifier
from zoo.one_to_one.batch_norm import check_batch_size
from zoo.one_to_one.image_encoder import usual_image_size
from zoo.one_to_one.pictures import broken_notes, load_pictures
from zoo.training import Pace, Processes, RunFolder, TrainingOptions, check_run_folder, train
from zoo.training.finetuning import check_finetuning, finetuning_paces

WORST = 20
SAMPLES = 3
SHEET = 12  # images on the sheet of captions
ATTENDED = 56  # words of a caption, at most, for which it is drawn where attention looked
EVALUATION_BATCH = 64
REMEMBERED = 20_000  # training images, at most, that a run with neighbours keeps: 54 MB with 1,000 concepts
FREE_TOKENS = 5  # that a caption may be longer than the longest in training


@dataclass
class ImageCaptionerOptions:
    """What to train on, and which model.

    Args:
        data: scenes (built in), a folder of images with a file of captions in it, a Parquet file or a folder of them
            with columns of images and captions, or a hub data set (owner/name).
        captions: The file of captions, if it is not in the folder: Flickr8k's tokens, COCO's JSON, CSV, TSV or JSONL.
        validation_data: What to validate on; without it, part of the training images is held out.
        test_data: What to test on, once, at the end.
        validation_fraction: The share that is held out.
        image_column: The column that has the image or its file's name; image if left out.
        caption_column: The column that has the caption or captions; captions or caption if left out.
        plain: Take captions as lower-case words without punctuation, as the field compares them.
        level: What a token is.
        tokenizer_size: The most tokens in the vocabulary.
        min_frequency: Characters or words rarer than this are unknown, and never written.
        backbone: small, or one of torchvision's networks (resnet18, mobilenet_v3_small, ...).
        weights: What the backbone starts from: none, imagenet (downloaded once), or the file of a state dict.
        init_from: An image classifier's run whose backbone to start from, instead.
        finetune: With weights or init_from, the backbone learns at this share of the rate; 0 leaves it as it is, and
            then the features of all images are computed only once.
        finetune_from: The share of the run after which such a backbone begins to learn.
        cache: Folder for features; if left out, the user's cache folder.
        recompute: Compute features anew for every batch.
        image_size: Height and width that images are brought to; if left out, 64 for small and 224 for others.
        resize: squash shows all of an image, crop the square in its middle.
        augment: Training images are moved a little at random, mirrored (where captions name no sides), or both.
        cell: rnn, lstm, gru, mingru or minlstm.
        attention: How the decoder looks at the image; none for the plain pattern, which has but its state.
        num_heads: Heads of the attention multihead.
        embedding_size: Width of the token embeddings.
        hidden_size: Width of each layer.
        num_layers: Layers of the decoder.
        tied: Score with the embedding matrix.
        dropout: Locked dropout between layers, before the output and on what attention reads.
        feature_dropout: Locked dropout on the image's features.
        input_dropout: Locked dropout on the embeddings.
        embedding_dropout: Share of the vocabulary dropped whole.
        weight_dropout: Share of the recurrent weights dropped.
        label_smoothing: Share of each target that is spread over the vocabulary.
        captions_per_image: Captions of an image in a batch; they share what is computed of it.
        num_concepts: It is predicted first which of so many tokens (those of the lowest ids; of words the commonest)
            the captions of an image will have, for the decoder to know.
        concept_weight: What their loss counts for beside the captions'.
        num_beams: Beams of the final figures; those in between are greedy.
        length_penalty: The higher, the longer the captions; see zoo.decoding.BeamOptions. The model keeps it.
        mirror: Captions, where they name no sides, are made of each image and its mirror image together, for the final
            figures and by the model from then on.
        neighbours: So many training images, the ones most like an image, help with their captions to write one for it:
            the words are likelier that these have, and of the beams that is taken which agrees best. 0 for none. The
            run then keeps what it saw in training images, and their captions.
    """

    data: str = "scenes"
    captions: str | None = None
    validation_data: str | None = None
    test_data: str | None = None
    validation_fraction: float = 0.1
    image_column: str | None = None
    caption_column: str | None = None
    plain: bool = True
    level: Literal["char", "word", "bpe"] = "word"
    tokenizer_size: int | None = None
    min_frequency: int = 4
    backbone: str = "small"
    weights: str = "none"
    init_from: str | None = None
    finetune: float = 0.0
    finetune_from: float = 0.2
    cache: Path | None = None
    recompute: bool = False
    image_size: int | None = None
    resize: Resize = "squash"
    augment: Augmentation = "none"
    cell: str = "lstm"
    attention: Literal["none", "additive", "general", "multihead"] = "multihead"
    num_heads: int = 8
    embedding_size: int = 128
    hidden_size: int = 128
    num_layers: int = 2
    tied: bool = True
    dropout: float = 0.0
    feature_dropout: float = 0.0
    input_dropout: float = 0.3
    embedding_dropout: float = 0.0
    weight_dropout: float = 0.0
    label_smoothing: float = 0.05
    captions_per_image: int = 2
    num_concepts: int = 0
    concept_weight: float = 0.05
    num_beams: int = 5
    length_penalty: float = 0.0
    mirror: bool = False
    neighbours: int = 0

    def __post_init__(self) -> None:
        check_finetuning(self.finetune, self.finetune_from)
        if self.captions_per_image < 1:
            raise ValueError(f"captions_per_image is {self.captions_per_image}, but must be at least 1")
        if self.finetune and self.weights == "none" and self.init_from is None:
            raise ValueError(f"finetune is {self.finetune}, but there are no weights to fine-tune: name some")
        check_neighbours(self.neighbours)
        if self.weights != "none" and self.init_from is not None:
            raise ValueError("weights and init_from were both given; the backbone starts from one of them")
        BeamOptions(self.num_beams, length_penalty=self.length_penalty)  # checks them now, not after the training


@dataclass
class ImageCaptionerTraining(TrainingOptions):
    __doc__ = TrainingOptions.__doc__
    usual_minutes = 2.0

    out: Path = Path("runs/image_captioner")
    batch_size: int = 48
    learning_rate: float = 2e-3


class Split:
    """Images and their captions as the model takes them; broken images are left out."""

    def __init__(
        self,
        name: str,
        images: CaptionedImages,
        model: ImageCaptioner,
        precision: Precision,
        cache: Path | None,
        augment: Augmentation = "none",
        mirror: bool = False,
    ) -> None:
        self.given = images
        self.pictures = load_pictures(images.images, f"{name} images", model.encoder, model.resize, precision, cache)
        self.augment = augment
        if isinstance(self.pictures, CachedFeatures) and (mirror or mirrors(augment)):
            name = f"mirrored {name} images"
            self._mirrored = load_pictures(
                images.images, name, model.encoder, model.resize, precision, cache, mirrored=True
            )
        self.numbers = self.pictures.kept
        self.references = [images.captions[number] for number in self.numbers]
        self.rows = [model.caption_rows(captions) for captions in self.references]

    def __len__(self) -> int:
        return len(self.numbers)

    def images(self, rows: Iterable[int]) -> Tensor:
        """Images (B, 3, height, width), or features (B, S, M)."""
        return self.pictures([self.numbers[row] for row in rows])

    def mirrored(self, rows: Iterable[int]) -> Tensor:
        """The same of their mirror images."""
        if isinstance(self.pictures, CachedFeatures):
            return self._mirrored([self.numbers[row] for row in rows])
        return self.images(rows).flip(3)

    def augmented(self, rows: list[int], generator: torch.Generator) -> Tensor:
        """The same, changed at random as far as can be: of features, whether they are of the mirrored images."""
        images = self.images(rows)
        if images.dim() == 4:
            return augmented(images, self.augment, generator)
        if mirrors(self.augment):
            turned = [place for place in range(len(rows)) if torch.rand((), generator=generator) < 0.5]
            images[turned] = self.mirrored([rows[place] for place in turned])
        return images

    def true_captions(self, captions: list[str]) -> list[bool] | None:
        """Which captions are true of their images, where the data can tell."""
        is_true = self.given.is_true
        if is_true is None:
            return None
        return [is_true(number, caption) for number, caption in zip(self.numbers, captions, strict=True)]


class Captioning:
    """The task: describe an image. See `zoo.training.Task`."""

    higher_is_better = True

    def __init__(
        self,
        model: ImageCaptioner,
        training: Split,
        validation: Split,
        options: ImageCaptionerOptions,
        batches: LengthBatches,
    ) -> None:
        self.model = model
        self.training, self.validation = training, validation
        self.options, self.batches = options, batches
        self.captions_per_image = min(options.captions_per_image, max(map(len, training.rows)))
        self.known = {caption for captions in training.references for caption in captions}
        self.metric = "true_captions"
        if validation.given.is_true is None:
            # CIDEr-D weighs words by how few images have them, and of one image alone is 0.
            self.metric = "cider_d" if len(validation) > 1 else "chrf"
        digest = hashlib.sha256(training.pictures.fingerprint.encode())
        for rows in training.rows:
            for row in rows:
                digest.update(row.numpy().tobytes() + b"\n")
        self.fingerprint = digest.hexdigest()

    def matrices(self) -> Iterable[nn.Parameter]:
        # Not the bridge, which is used once an image; and not what additive attention scores with, which is one vector.
        decoder = self.model.decoder
        parts: list[nn.Module] = [decoder.core]
        parts += [] if decoder.attention is None else [decoder.attention, decoder.upper_core]
        found = [p for part in parts for p in part.parameters() if p.ndim == 2 and min(p.shape) > 1]
        return found if self.model.encoder.fixed else [*found, *self.model.encoder.filters()]

    def paces(self) -> dict[nn.Parameter, Pace]:
        if not self.model.encoder.fixed:
            return {}
        return finetuning_paces(self.model.encoder.parameters(), self.options.finetune, self.options.finetune_from)

    def num_batches(self, epoch: int) -> int:
        return self.batches.num_batches(epoch)

    def batch(self, epoch: int, k: int) -> CaptionBatch:
        numbers = self.batches.rows(epoch, k)
        generator = self.batches.generator(epoch, k)
        captions = [
            self.training.rows[number][place]
            for number in numbers
            for place in _draw(len(self.training.rows[number]), self.captions_per_image, generator)
        ]
        return CaptionBatch(self.training.augmented(numbers, generator), *pad(captions))

    def loss(self, batch: CaptionBatch, carry: State) -> tuple[Tensor, State]:
        return self.model.loss(batch), ()

    def weight(self, batch: CaptionBatch) -> float:
        return self.tokens(batch)

    def tokens(self, batch: CaptionBatch) -> int:
        return int(batch.lengths.sum())

    def evaluate(self) -> dict[str, float]:
        return _figures(_captions(self.model, self.validation, num_beams=1), self.validation, self.known)

    def sample(self) -> str:
        (found,) = self.model.captions_of(self.validation.images([0]), num_beams=1)
        return f"{found[0].text} [{self.validation.references[0][0]}]"


def main() -> int:
    options, training = parse_options(__doc__ or "", ImageCaptionerOptions, ImageCaptionerTraining)
    processes = Processes(training.device)
    processes.from_main(lambda: check_run_folder(training.out, training.overwrite, training.resume))
    device = processes.device
    precision = choose_precision(training.precision, device)
    torch.manual_seed(training.seed)

    with processes.first_alone():  # what it downloads or computes, the others find
        data = load_captioned_images(
            options.data,
            captions=options.captions,
            image_column=options.image_column,
            caption_column=options.caption_column,
            validation_data=options.validation_data,
            test_data=options.test_data,
            validation_fraction=options.validation_fraction,
            seed=training.seed,
        )
        splits = {"training": data.train, "validation": data.validation, **data.tests}
        if options.plain:
            splits = {name: _plain(split, name, data) for name, split in splits.items()}
        model = _starting_model(options, splits["training"]).to(device)
        cache = None if options.recompute else (options.cache or default_cache())
        trained_on = Split("training", splits.pop("training"), model, precision, cache, options.augment)
        ready = {
            name: Split(name, split, model, precision, cache, mirror=options.mirror) for name, split in splits.items()
        }
    check_batch_size(model.encoder, len(trained_on), training.batch_size, processes.count, device.type)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    print(
        f"{data.name}: {len(trained_on):,} images with {sum(map(len, trained_on.rows)):,} captions to train on, "
        f"{', '.join(f'{len(split):,} {name}' for name, split in ready.items())}, vocabulary "
        f"{model.config['vocab_size']:,}; {model.config['backbone']}, {parameters:,} parameters, of which "
        f"{learning:,} learn; {device.type}, {precision}, {torch.get_num_threads()} threads"
    )
    pictures = {name: split.pictures for name, split in {"training": trained_on, **ready}.items()}
    for note in [*data.notes, *broken_notes(pictures)]:
        print(f"note: {note}")
    if isinstance(trained_on.pictures, CachedFeatures):
        print(f"note: the features of the images are in {trained_on.pictures.file.parent}")
        if options.augment not in ("none", "flip"):
            print(f"note: these are of images that are not moved: for --augment {options.augment} add --recompute")
    batches = LengthBatches([max(map(len, rows)) for rows in trained_on.rows], training.batch_size, training.seed)
    task = Captioning(model, trained_on, ready["validation"], options, batches)

    run = processes.from_main(
        lambda: RunFolder(training.out, plain_options(options, training), training.overwrite, training.resume)
    )
    outcome = train(task, training, run, processes, precision)
    if outcome.exit_code is not None:
        return outcome.exit_code

    best = ImageCaptioner.from_pretrained(run.path).to(device)
    if options.neighbours:
        _remember(best, trained_on, run.path)
    beams = {"num_beams": options.num_beams, "length_penalty": options.length_penalty}
    captions = {name: _captions(best, split, options.mirror, **beams) for name, split in ready.items()}
    figures: dict[str, Any] = {name: _figures(captions[name], split, task.known) for name, split in ready.items()}
    figures |= beams | {"mirror": options.mirror, "neighbours": options.neighbours}
    figures |= {"signatures": signatures(ready["validation"].references)}
    figures |= outcome.facts(best, training, device, precision)
    run.finish(figures)
    draw_curves(outcome.history, task.metric, run.path / "curves.png")
    _report(figures, best, ready, captions, run)
    return 0


def _plain(images: CaptionedImages, name: str, data: CaptionData) -> CaptionedImages:
    """The same with captions as lower-case words; an image whose captions have no words is left out."""
    captions = [[words for caption in several if (words := plain_words(caption))] for several in images.captions]
    kept = [number for number, several in enumerate(captions) if several]
    if not kept:
        raise InputError(f"{data.name}: no caption of the {name} images has a word in it")
    is_true = images.is_true
    if len(kept) < len(images):
        data.notes.append(f"{len(images) - len(kept):,} {name} images have captions without words: left out")
    return CaptionedImages(
        [images.images[number] for number in kept],
        [captions[number] for number in kept],
        None if is_true is None else lambda number, caption: is_true(kept[number], caption),
    )


def _starting_model(options: ImageCaptionerOptions, images: CaptionedImages) -> ImageCaptioner:
    captions = [caption for several in images.captions for caption in several]
    # Words without punctuation are separated by blanks already, and stay as they are ("don't" is one).
    tokenizer = TextTokenizer.train(
        captions,
        options.level,
        options.tokenizer_size,
        options.min_frequency,
        pretokenized=options.plain and options.level == "word",
    )
    if tokenizer.vocab_size == len(tokenizer.never_generated):
        raise InputError(
            f"min_frequency is {options.min_frequency}, but no {options.level} of the captions is there so often: "
            "lower --min_frequency, or give more captions"
        )
    source = None if options.init_from is None else ImageClassifier.from_pretrained(options.init_from)
    values = asdict(options)
    names = ["resize", "embedding_size", "hidden_size", "num_layers", "cell", "num_heads", "tied", "label_smoothing"]
    names += [name for name in values if name.endswith("dropout")]
    names += ["length_penalty", "mirror", "num_concepts", "concept_weight", "neighbours"]
    config = {name: values[name] for name in names}
    config["backbone"] = options.backbone if source is None else source.encoder.backbone
    usual_size = usual_image_size(config["backbone"])
    config["image_size"] = usual_size if options.image_size is None else options.image_size
    config["attention"] = None if options.attention == "none" else options.attention
    longest = max(map(len, tokenizer.encode_rows(captions)))
    config["max_length"] = min(LONGEST, longest + FREE_TOKENS)
    if source is not None:
        _check_source(source, options)
        config |= {name: source.config[name] for name in ("image_size", "resize")}
    with as_input_error():
        model = ImageCaptioner(tokenizer=tokenizer, **config)
    if source is not None:
        model.encoder.load_state_dict(source.encoder.state_dict())
        model.encoder.fixed = True
        print(f"starting from {options.init_from}: its backbone {source.encoder.backbone} is used")
    elif options.weights != "none":
        model.encoder.load(options.weights)
    if model.encoder.fixed and not options.finetune:
        model.encoder.requires_grad_(False)
    if model.concepts is not None:
        model.concepts.expect(model.caption_rows(captions))
    return model


def _check_source(source: ImageClassifier, options: ImageCaptionerOptions) -> None:
    for name, usual in (("backbone", "small"), ("image_size", None), ("resize", "squash")):
        if getattr(options, name) not in (usual, source.config[name]):
            raise InputError(
                f"{name} is {getattr(options, name)}, but {options.init_from} has {source.config[name]}: leave "
                f"--{name} out, or start from another run"
            )


def _draw(count: int, wanted: int, generator: torch.Generator) -> list[int]:
    """Places of `wanted` of an image's captions, each as often as another."""
    order = torch.randperm(count, generator=generator).tolist()
    return [order[place % count] for place in range(wanted)]


def _remember(model: ImageCaptioner, split: Split, folder: Path) -> None:
    """Let the model remember training images, and write what it does into its folder, beside its weights."""
    count = min(len(split), REMEMBERED)
    rows = [number * len(split) // count for number in range(count)]
    batches = (split.images(rows[start : start + EVALUATION_BATCH]) for start in range(0, count, EVALUATION_BATCH))
    model.remember(batches, [split.references[row] for row in rows]).save(folder)


def _captions(model: ImageCaptioner, split: Split, mirror: bool = False, **options: Any) -> list[str]:
    found: list[str] = []
    for start in range(0, len(split), EVALUATION_BATCH):
        rows = range(start, min(start + EVALUATION_BATCH, len(split)))
        mirrored = split.mirrored(rows) if mirror else None
        found += [several[0].text for several in model.captions_of(split.images(rows), mirrored=mirrored, **options)]
    return found


def _figures(captions: list[str], split: Split, known: set[str]) -> dict[str, float]:
    figures = caption_figures(captions, split.references, known)
    true = split.true_captions(captions)
    return figures if true is None else {"true_captions": sum(true) / len(true), **figures}


def _report(
    figures: dict[str, Any],
    model: ImageCaptioner,
    held_out: dict[str, Split],
    captions: dict[str, list[str]],
    run: RunFolder,
) -> None:
    for name, split in held_out.items():
        found, references = captions[name], split.references
        write_atomically(run.path / f"{name}_captions.txt", "".join(" ".join(c.split()) + "\n" for c in found))
        places = [split.given.images[number].place for number in split.numbers]
        worst = [one._asdict() | {"image": places[one.image]} for one in worst_captions(found, references, WORST)]
        write_json_lines(run.path / f"{name}_worst.jsonl", worst)
        shown = range(min(SHEET, len(split)))
        images = [_picture(split, row, model) for row in shown]
        true = split.true_captions(found)
        draw_captions(
            images,
            [found[row] for row in shown],
            [references[row] for row in shown],
            run.path / f"{name}_captions.png",
            None if true is None else [true[row] for row in shown],
        )
        if model.decoder.attention is not None:
            words, weights = model.attend(images[0], found[0])
            draw_attention(images[0], words[:ATTENDED], weights[:ATTENDED], run.path / f"{name}_attention.png")
        print(f"\n{name}:")
        for row in shown[:SAMPLES]:
            print(f"  {found[row]}\n     = {references[row][0]}")
        print(figures_line(figures[name]))
    print(f"\n{figures['signatures']['bleu']}, beams {figures['num_beams']}")
    minutes, speed = figures["training_minutes"], figures["tokens_per_second"]
    print(f"{minutes} minutes of training, {speed:,} words/s; run in {run.path}")
    validation = held_out["validation"]
    content = validation.given.images[validation.numbers[0]].content
    example = shlex.quote(str(content)) if isinstance(content, Path) else "IMAGE"
    print(f"try: python scripts/caption_images.py {shlex.quote(str(run.path))} {example}")


def _picture(split: Split, row: int, model: ImageCaptioner) -> Any:
    from torchvision.transforms.functional import to_pil_image

    image = split.given.images[split.numbers[row]]
    return to_pil_image(load_image(image, model.encoder.image_size, model.resize))


if __name__ == "__main__":
    run_script(main)
