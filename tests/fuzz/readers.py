"""The process that reads hostile files: a reader that crashes, hangs or eats memory takes nothing but this with it.

It is started by `reading_process.py`. A request is a line of JSON with a reader's name, a folder of files, arguments
and standard input; so is an answer, which says how the reading ended and the most memory that was in use so far.
"""

import importlib.util
import io
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from zoo.command_line import run_script
from zoo.data.caption_files import read_captions
from zoo.data.captioned_images import load_captioned_images
from zoo.data.feature_cache import CachedFeatures
from zoo.data.given_images import GivenImages
from zoo.data.given_texts import given_texts
from zoo.data.image_tensors import BATCH
from zoo.data.images import image_tensor, read_image
from zoo.data.labelled_images import load_labelled_images
from zoo.data.labelled_texts import load_labelled_texts
from zoo.data.lines import read_lines
from zoo.data.parallel_texts import load_parallel_texts
from zoo.data.records import read_records
from zoo.data.stored_images import StoredImage
from zoo.data.text import load_text
from zoo.data.tokenizer import TextTokenizer
from zoo.errors import InputError
from zoo.many_to_one import TextClassifier
from zoo.one_to_many import ImageCaptioner, InterpolatedGenerator, TextGenerator
from zoo.one_to_one import ImageClassifier, ImageEncoder
from zoo.pretrained import PretrainedModel
from zoo.seq2seq import Translator
from zoo.training import RunFolder, check_run_folder
from zoo.training.checkpoint import load_checkpoint
from zoo.training.save_contents import saved_progress

SCRIPTS = Path(__file__).parents[2] / "scripts"
ADDRESS_SPACE = 6 << 30  # beside what is in use at the start; allocators reserve far more than they use
ARCHITECTURES: dict[str, type[PretrainedModel]] = {
    architecture.__name__: architecture
    for architecture in (TextGenerator, ImageCaptioner, TextClassifier, Translator, ImageClassifier)
}
PICTURE = torch.zeros(3, 20, 20, dtype=torch.uint8)

Request = dict[str, Any]
Reader = Callable[[Path, Request], object]


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def text(folder: Path, _: Request) -> None:
    corpus = load_text(str(only_file(folder)))
    assert corpus.train.read().strip() and corpus.validation.read().strip()


def lines(folder: Path, _: Request) -> None:
    with only_file(folder).open("rb") as file:
        for number, line in read_lines(file, "a file"):
            assert number >= 1 and "\n" not in line
            line.encode()


def records(folder: Path, request: Request) -> None:
    for record in read_records(only_file(folder), request["arguments"] or None):
        assert isinstance(record.values, dict) and all(isinstance(name, str) for name in record.values)


def captions(folder: Path, _: Request) -> None:
    for found in read_captions(only_file(folder)):
        assert found.name and all(isinstance(caption, str) for caption in found.captions)


def labelled_texts(folder: Path, request: Request) -> None:
    data = load_labelled_texts(str(folder / request["arguments"][0]), multi_label="multi" in request["arguments"])
    assert len(data.train) and len(data.validation)


def parallel_texts(folder: Path, request: Request) -> None:
    data = load_parallel_texts(str(folder / request["arguments"][0]), source="en", target="fr")
    assert len(data.train) and len(data.validation)


def labelled_images(folder: Path, request: Request) -> None:
    data = load_labelled_images(str(folder / request["arguments"][0]))
    read_all(data.train.images, folder)


def captioned_images(folder: Path, request: Request) -> None:
    data = load_captioned_images(str(folder / request["arguments"][0]))
    read_all(data.train.images, folder)


def read_all(images: list[StoredImage], folder: Path) -> None:
    for stored in images:
        try:
            content = stored.fetch()
            if isinstance(content, Path):
                assert content.is_relative_to(folder), f"{content} is outside of {folder}"
            read_image(content, stored.place)
        except InputError:
            continue


def image(folder: Path, _: Request) -> None:
    file = only_file(folder)
    found = read_image(file)
    assert found.mode == "RGB"
    assert image_tensor(found, 16).shape == (3, 16, 16)
    assert read_image(file.read_bytes()).size == found.size


def texts_given(folder: Path, request: Request) -> None:
    for given in given_texts(request["arguments"], None if request["arguments"] else only_file(folder)):
        given.text.encode()


def images_given(folder: Path, request: Request) -> None:
    os.chdir(folder)
    images = GivenImages(request["arguments"])
    for names, batch in images.batches(16, "squash"):
        assert batch.shape == (len(names), 3, 16, 16) and len(names) <= BATCH
    assert images.exit_code() in (0, 2)


def tokenizer(folder: Path, _: Request) -> None:
    found = TextTokenizer.load(only_file(folder))
    for sentence in ("The dog's 3 cats\n", "\u0130\U0001f600\0", ""):
        rows = [found.encode(sentence), found.encode_long(sentence).tolist(), found.encode_batch([sentence])[0]]
        assert rows[0] == rows[1] == rows[2] and all(0 <= id < found.vocab_size for id in rows[0])
        assert "".join(found.pieces(sentence)) == sentence or not rows[0]
        found.decode(rows[0]).encode()
    found.decode(range(found.vocab_size)).encode()


def pretrained(folder: Path, request: Request, architecture: str) -> None:
    model = ARCHITECTURES[architecture].from_pretrained(folder)
    model.config["vocab_size" if "vocab_size" in model.config else "labels"]
    if isinstance(model, ImageClassifier):
        model.classify(PICTURE)
    elif isinstance(model, ImageCaptioner) and model.tokenizer is not None:
        model.caption(PICTURE, num_beams=2)
    elif isinstance(model, TextClassifier) and model.tokenizer is not None:
        model.classify("the cat")
    elif isinstance(model, TextGenerator) and model.tokenizer is not None:
        model.generate("the", max_new_tokens=3)
    elif isinstance(model, Translator) and None not in (model.tokenizer, model.source_tokenizer):
        model.translate("the cat", num_beams=2, max_ratio=1)


def interpolated(folder: Path, _: Request) -> None:
    assert isinstance(InterpolatedGenerator.from_pretrained(folder).generate("the", max_new_tokens=3), str)


@cache
def small_generator() -> tuple[TextGenerator, torch.optim.Optimizer]:
    model = TextGenerator(vocab_size=5, embedding_size=3, hidden_size=4)
    return model, torch.optim.AdamW(model.parameters())


def checkpoint(folder: Path, _: Request) -> None:
    model, optimizer = small_generator()
    _, progress = load_checkpoint(only_file(folder), model, [optimizer], torch.device("cpu"))
    saved_progress(only_file(folder), progress)
    model.loss((torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long))).backward()
    optimizer.step()
    optimizer.zero_grad()


def run_folder(folder: Path, request: Request) -> None:
    (run,) = folder.iterdir()
    overwrite = "overwrite" in request["arguments"]
    check_run_folder(run, overwrite, resume=not overwrite)
    opened = RunFolder(run, {"out": "x", "seed": 0, "learning_rate": 0.1}, overwrite, resume=not overwrite)
    if not overwrite:
        opened.go_back_to(opened.save_to_resume(previous=False), 2, opened.samples_size() // 2)
    opened.log({"step": 3}, "a sample")
    assert opened.history()[-1] == {"step": 3}


def feature_cache(folder: Path, _: Request) -> None:
    """Whatever is there under the name that the features would have, features come out."""
    images = [StoredImage(str(number), bytes([number])) for number in range(2)]

    def extract(batch: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(batch), 2, 3)

    with suppress(InputError):  # they are no images
        CachedFeatures(images, extract, "encoder", 4, "squash", "images", folder / "elsewhere")
    found = CachedFeatures(pictures(), extract, "encoder", 4, "squash", "images", folder)
    assert found.kept == sorted(set(found.kept)) and all(n in range(2) for n in found.kept)
    assert all(isinstance(line, str) for line in found.broken) and isinstance(found.fingerprint, str)
    assert found([0, 1]).shape[0] == 2 and found([0, 1]).isfinite().all() is not None


@cache
def pictures() -> list[StoredImage]:
    from PIL import Image

    return [StoredImage(str(number), Image.new("RGB", (4, 4), (number, 0, 0))) for number in range(2)]


def weights(folder: Path, _: Request) -> None:
    ImageEncoder("small", 16).load(only_file(folder))


@cache
def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def command_line(folder: Path, request: Request, name: str) -> None:
    module = script(name)
    os.chdir(folder)
    sys.argv = [f"{name}.py", *request["arguments"]]
    stderr = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
    with redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")), redirect_stderr(stderr):
        try:
            run_script(module.main)
        except SystemExit as ended:
            code = ended.code
    said = stderr.buffer.getvalue().decode()  # type: ignore[attr-defined]  # typeshed has it read-only
    assert code in (0, 2), f"exit code {code}: {said}"
    if code == 2:
        assert said.splitlines()[-1].startswith("error: "), said
        raise InputError(said.splitlines()[-1].removeprefix("error: "))


READERS: dict[str, Reader] = {
    "text": text,
    "lines": lines,
    "records": records,
    "captions": captions,
    "labelled_texts": labelled_texts,
    "parallel_texts": parallel_texts,
    "labelled_images": labelled_images,
    "captioned_images": captioned_images,
    "image": image,
    "given_texts": texts_given,
    "given_images": images_given,
    "tokenizer": tokenizer,
    "checkpoint": checkpoint,
    "run_folder": run_folder,
    "feature_cache": feature_cache,
    "weights": weights,
    "interpolated": interpolated,
    **{name: partial(pretrained, architecture=name) for name in ARCHITECTURES},
    **{file.stem: partial(command_line, name=file.stem) for file in SCRIPTS.glob("*.py")},
}


def answer(request: Request) -> dict[str, Any]:
    sys.stdin = io.TextIOWrapper(io.BytesIO(request["stdin"].encode("latin-1")), encoding="utf-8")
    torch.manual_seed(0)
    try:
        READERS[request["reader"]](Path(request["folder"]), request)
        found: dict[str, Any] = {"ended": "read"}
    except InputError as error:
        found = {"ended": "refused", "message": str(error)}
    except BaseException as error:  # a panic of a Rust library is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        found = {"ended": "traceback", "message": "".join(traceback.format_exception(error, limit=-12))[-4000:]}
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (10 if sys.platform == "linux" else 0)
    return found


def main() -> None:
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)  # what a reader prints is no answer
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (as long as the process)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + ADDRESS_SPACE, resource.RLIM_INFINITY))
    for line in requests:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
