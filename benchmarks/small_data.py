"""A little data for each training script: the built-in ones take longer to make than a tiny run to train."""

import random
from pathlib import Path

from zoo.data.scene_data import caption_scenes, labelled_scenes


def write_data(folder: Path) -> None:
    """Make the folder and write notes.txt, parity.csv, digits.en and digits.fr, captioned/ and labelled/ into it."""
    words = {"en": ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]}
    words["fr"] = ["zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"]
    folder.mkdir(parents=True)
    numbers = random.Random(0).sample(range(1000, 10_000), 80)
    texts = {
        language: [" ".join(those[int(digit)] for digit in str(number)) for number in numbers]
        for language, those in words.items()
    }
    for language, lines in texts.items():
        (folder / f"digits.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "notes.txt").write_text("\n".join(texts["fr"]) + "\n", encoding="utf-8")
    rows = [f"{'even' if number % 2 == 0 else 'odd'},{text}" for number, text in zip(numbers, texts["en"], strict=True)]
    (folder / "parity.csv").write_text("\n".join(["label,text", *rows]) + "\n", encoding="utf-8")
    scenes = caption_scenes(0, train=24, validation=6, test=1)
    (folder / "captioned").mkdir()
    lines = []
    for number, (image, captions) in enumerate(zip(scenes.train.images, scenes.train.captions, strict=True)):
        image.fetch().save(folder / "captioned" / f"{number}.png")  # type: ignore[union-attr]
        lines += [f"{number}.png#{place}\t{caption}\n" for place, caption in enumerate(captions)]
    (folder / "captioned" / "captions.txt").write_text("".join(lines), encoding="utf-8")
    labelled = labelled_scenes(0, train=80).train
    for number, (image, label) in enumerate(zip(labelled.images, labelled.labels, strict=True)):
        place = folder / "labelled" / label.split()[0]
        place.mkdir(parents=True, exist_ok=True)
        image.fetch().save(place / f"{number}.png")  # type: ignore[union-attr]
