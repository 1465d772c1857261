"""Saving a model as a folder and loading it from one, or from the hub by name.

A folder holds `config.json` (the constructor's arguments and the architecture's name), `model.safetensors` and
`tokenizer.json` (a translator's may have a second one, `source_tokenizer.json`). Nothing in it is unpickled or
executed, weights load onto the CPU whatever they were trained on, and before a model is built its configuration must
fit the weights that are there, so that it takes no more memory than these do.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.overrides import TorchFunctionMode

from zoo.data.tokenizer import TextTokenizer
from zoo.errors import InputError
from zoo.files import write_atomically
from zoo.model_config import CONFIG_FILE, check_types, read_config

WEIGHTS_FILE = "model.safetensors"
CHECKSUM = "zoo-checksum"  # in the weights' metadata


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the `with`; after it each part is in the mode it was in before."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


class _ShapesAlone(TorchFunctionMode):
    """On the device `meta`, where tensors have shapes and no memory, nothing is drawn: torch would first import its
    compiler, which takes two seconds."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        options = options or {}
        if function is torch.Tensor.normal_ or getattr(function, "__module__", None) == "torch.nn.init":
            return arguments[0] if arguments else options["tensor"]
        return (torch.empty if function is torch.randn else function)(*arguments, **options)


class PretrainedModel(nn.Module):
    """An architecture that saves itself with `save_pretrained(folder)` and loads with `from_pretrained`.

    A subclass sets `config`, the constructor's JSON-able arguments, and takes them as keywords beside its tokenizers.

    Attributes:
        tokenizer_files: {attribute and keyword: file} of each tokenizer the architecture may have.
        extra_files: names of files that it may have besides; `save_pretrained` writes them, `_load_extra` reads them.
    """

    config: dict[str, Any]
    tokenizer: TextTokenizer | None
    tokenizer_files: ClassVar[dict[str, str]] = {"tokenizer": "tokenizer.json"}
    extra_files: ClassVar[tuple[str, ...]] = ()

    def require_tokenizer(self) -> TextTokenizer:
        """The tokenizer. Raises ValueError where there is none, which only text needs."""
        if self.tokenizer is None:
            raise ValueError(f"this {type(self).__name__} has no tokenizer; give it one to work on text")
        return self.tokenizer

    @classmethod
    def to_start_from(cls, name: str | Path, **hub_options: Any) -> tuple[Self, TextTokenizer]:
        """A saved model and its tokenizer. Raises InputError as `from_pretrained` does, or if it has no tokenizer."""
        source = cls.from_pretrained(name, **hub_options)
        if source.tokenizer is None:
            raise InputError(f"{name} has no tokenizer.json, without which its weights read no text")
        return source, source.tokenizer

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model into a folder, each file whole or not at all. Raises OSError if that cannot be done."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"architecture": type(self).__name__, **self.config}
        write_atomically(folder / CONFIG_FILE, json.dumps(config, indent=2) + "\n")
        weights = unshared_weights(self)
        write_atomically(folder / WEIGHTS_FILE, save(weights, {CHECKSUM: checksum(weights)}))
        for attribute, file in self.tokenizer_files.items():
            if (tokenizer := getattr(self, attribute)) is not None:
                tokenizer.save(folder, file)
            else:
                (folder / file).unlink(missing_ok=True)  # another model's, saved here before
        if not (folder / "README.md").exists():
            write_atomically(folder / "README.md", self._model_card())

    def push_to_hub(self, name: str, private: bool = False) -> None:
        """Save the model on the hub as `name` ("owner/model"); needs `hf auth login` or a token in HF_TOKEN."""
        from huggingface_hub import HfApi

        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            HfApi().create_repo(name, private=private, exist_ok=True)
            HfApi().upload_folder(repo_id=name, folder_path=folder)

    def _model_card(self) -> str:
        name = type(self).__name__
        return (
            f"---\ntags:\n- sequence-zoo\n---\n\n# {name}\n\n"
            "Trained with zoo (`pip install sequence-zoo`). To use it:\n\n"
            f"```python\nfrom {type(self).__module__} import {name}\n\n"
            f'model = {name}.from_pretrained("this folder, or its name on the hub")\n```\n'
        )

    @classmethod
    def from_pretrained(cls, name: str | Path, **hub_options: Any) -> Self:
        """Load a saved model, onto the CPU and ready to use (in evaluation mode).

        Args:
            name: a folder, or the name of a model on the hub ("owner/model").
            hub_options: those of `huggingface_hub.snapshot_download` (revision, token, cache_dir, ...).

        Raises:
            InputError: no such folder and no such model on the hub, or no network; a file is missing, truncated or
                of another architecture; weights and configuration do not fit together.
        """
        folder = local_folder(
            name, [CONFIG_FILE, WEIGHTS_FILE, *cls.tokenizer_files.values(), *cls.extra_files], hub_options
        )
        config = read_config(folder, cls.__name__)
        tokenizers = {
            attribute: TextTokenizer.load(folder / file)
            for attribute, file in cls.tokenizer_files.items()
            if (folder / file).exists()
        }
        shapes = stored_shapes(folder / WEIGHTS_FILE)
        try:
            check_types(cls, config)
            with torch.device("meta"), _ShapesAlone():
                described = cls(**tokenizers, **config)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # the latter two of absurd sizes
            reason = str(error)[:300]
            raise InputError(f"{folder / CONFIG_FILE} does not describe a {cls.__name__}: {reason}") from error
        check_shapes(described, shapes, folder / WEIGHTS_FILE)
        model = cls(**tokenizers, **config)
        load_weights(model, folder / WEIGHTS_FILE)
        model._load_extra(folder)
        return model.eval()

    def _load_extra(self, folder: Path) -> None:
        """Take up what `extra_files` hold, where there are any. Raises InputError if one is damaged or does not fit."""


def agreed_vocab_size(vocab_size: int | None, tokenizer: TextTokenizer | None, of: str = "") -> int:
    """V, given or the tokenizer's. Raises ValueError where there is neither, or the two differ.

    `of` stands before the two names in its messages: `source_`, for instance.
    """
    if vocab_size is None:
        if tokenizer is None:
            raise ValueError(f"{of}vocab_size must be given where there is no {of}tokenizer to take it from")
        return tokenizer.vocab_size
    if tokenizer is not None and tokenizer.vocab_size != vocab_size:
        raise ValueError(f"{of}vocab_size is {vocab_size}, but the {of}tokenizer has {tokenizer.vocab_size} tokens")
    return vocab_size


def unshared_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict with each tied tensor once, under its first name, contiguous: what a safetensors file takes."""
    return {name: tensor.detach().contiguous() for name, tensor in named_tensors(model).items()}


def stored_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a safetensors file, of which only the header is read.

    Raises InputError if it is missing or damaged.
    """
    with _reading_weights(file), safe_open(file, framework="pt") as stored:
        return {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118 (no dict)


def check_shapes(model: nn.Module, shapes: Mapping[str, tuple[int, ...]], file: Path) -> None:
    """Raise InputError unless the tensors that `file` has, {name: shape}, are those of `model`."""
    expected = named_tensors(model)
    for name in sorted(expected.keys() | shapes.keys()):
        if name not in shapes:
            raise InputError(f"{file} has no {name}: these weights are not of this configuration")
        if name not in expected:
            raise InputError(f"{file} has {name[:100]}, which this {type(model).__name__} lacks")
        if shapes[name] != tuple(expected[name].shape):
            wanted = tuple(expected[name].shape)
            raise InputError(f"{file}: {name} is {shapes[name]}, but the configuration makes it {wanted}")


def load_weights(model: nn.Module, file: Path) -> None:
    """Copy a safetensors file into `model`. Raises InputError if it is missing, damaged or does not fit."""
    weights, _ = read_weights(file)
    check_shapes(model, {name: tuple(tensor.shape) for name, tensor in weights.items()}, file)
    with torch.no_grad():
        for name, tensor in named_tensors(model).items():
            tensor.copy_(weights[name])


@contextmanager
def _reading_weights(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{file.parent} has no {file.name}: the model was not saved there, or not whole") from None
    except SafetensorError as error:
        reason = str(error)[:200]
        raise InputError(f"{file} is not a whole safetensors file ({reason}): copy or save it again") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error}): it must be a file that you may read") from error


def read_weights(file: Path) -> tuple[dict[str, torch.Tensor], str | None]:
    """The tensors of a safetensors file and their checksum, which is None in files of other libraries.

    Raises:
        InputError: it is missing or damaged.
    """
    with _reading_weights(file), safe_open(file, framework="pt", device="cpu") as stored:
        digest = (stored.metadata() or {}).get(CHECKSUM)
        weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a mapping)
    if digest is not None and digest != checksum(weights):
        raise InputError(f"{file} is damaged (its checksum is another): copy or save it again")
    return weights, digest


def checksum(tensors: Mapping[str, torch.Tensor], *texts: str) -> str:
    """What tells tensors, their names, and texts beside them from those with a wrong bit somewhere: SHA-256, in hex."""
    digest = hashlib.sha256("\n".join(texts).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def named_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers by name, each tied one once, under its first name."""
    persistent = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in persistent}
    return {**dict(model.named_parameters()), **buffers}


def local_folder(name: str | Path, files: list[str], hub_options: dict[str, Any]) -> Path:
    """The folder of that name, or else one with `files` of that model on the hub.

    Raises InputError if there is neither.
    """
    return Path(name) if Path(name).is_dir() else _download(str(name), files, hub_options)


def _download(name: str, files: list[str], options: dict[str, Any]) -> Path:
    # Here and not above: whoever loads from a folder needs no web library.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    missing = f"{name} is not a folder here"
    try:
        return Path(snapshot_download(name, allow_patterns=files, **options))
    except HFValidationError:
        raise InputError(f"{missing}, and is no name of a model on the hub (owner/model) either") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{missing}, and no such model could be had from the hub ({reason}); give the path of a saved model"
        ) from error
