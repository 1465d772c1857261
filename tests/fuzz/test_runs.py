"""Run folders and caches that something else has written to: saves, config.yaml, metrics, features."""

import json
import struct
from pathlib import Path
from typing import Any

import torch
import yaml
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save

from tests.fuzz.conftest import Attack
from tests.fuzz.hostile import VALUES, as_json, changed, changed_json
from tests.fuzz.reading_process import Case
from tests.fuzz.test_models import safetensors
from zoo.data.feature_cache import CachedFeatures
from zoo.data.stored_images import StoredImage
from zoo.one_to_many import TextGenerator
from zoo.pretrained import checksum
from zoo.training import checkpoint
from zoo.training.outcome import Progress


def saved_run(file: Path) -> None:
    torch.manual_seed(0)
    model = TextGenerator(vocab_size=5, embedding_size=3, hidden_size=4)
    optimizer = torch.optim.AdamW(model.parameters())
    model.loss((torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long))).backward()
    optimizer.step()
    progress = {name: getattr(Progress(), name) for name in Progress.__dataclass_fields__}
    checkpoint.save_checkpoint(file, model, [optimizer], (torch.zeros(1, 2, 4),), progress, torch.device("cpu"))


@st.composite
def signed(draw: st.DrawFn, file: Path) -> bytes:
    """Saves that hold something else, under a right checksum."""
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        metadata = dict(opened.metadata())
    name = draw(st.sampled_from(sorted(tensors)))
    kind = draw(st.sampled_from(("remove", "rename", "reshape", "retype", "metadata", "metadata")))
    if kind == "metadata":
        key = draw(st.sampled_from(("progress", "numbers", "format")))
        document = json.loads(metadata[key]) if key != "format" else {}
        metadata[key] = draw(changed_json(document).map(json.dumps) | st.sampled_from(("", "{", "[" * 3000, "\0")))
    elif kind == "reshape":
        tensors[name] = torch.zeros(draw(st.sampled_from(((), (0,), (3,), (2, 2), (1, 2, 4), (1, 1, 1, 1)))))
    elif kind == "retype":
        kinds = (torch.bool, torch.int8, torch.int64, torch.float16, torch.bfloat16, torch.float64, torch.uint8)
        tensors[name] = tensors[name].to(draw(st.sampled_from(kinds)))
    else:
        tensor = tensors.pop(name)
        if kind == "rename":
            others = (
                "carry.7",
                "carry.x",
                "optimizer.0.x.y",
                "optimizer.0.99.step",
                "model.more",
                "optimizer.9.1.a",
                "",
            )
            tensors[draw(st.sampled_from(others))] = tensor
    metadata["digest"] = checksum(tensors, metadata["progress"], metadata["numbers"])
    return save(tensors, metadata)


def test_saves(attack: Attack, tmp_path: Path) -> None:
    file = tmp_path / "resume.safetensors"
    saved_run(file)
    content = file.read_bytes()
    contents = signed(file) | signed(file) | safetensors(content) | changed(content)
    attack("checkpoint", contents.map(lambda some: Case({"resume.safetensors": some})))


OPTIONS = {"out": "x", "seed": 0, "learning_rate": 0.1}
YAML = (
    *(yaml.safe_dump(OPTIONS).encode(), yaml.safe_dump(OPTIONS | {"data": ["a", "b"]}).encode(), b"- a\n- b\n", b"a"),
    *(b"{out: x, seed: 0, learning_rate: 0.1}", b"out: x\nseed: 0\nlearning_rate: 0.1\nday: 2024-13-45\n"),
    *(b"!!python/object/apply:os.system ['true']", b"out: !!binary x\nseed: !!set {a}\nlearning_rate: .nan\n"),
    *(b"out: &a [*a]\nseed: 1\nlearning_rate: 1\n", b"? [a]\n: b\n", b"out: 0x_\nseed: 1:2:3\nlearning_rate: 1_\n"),
    b"a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nout: [*b,*b,*b]\nseed: 0\nlearning_rate: 0.1\n",
)
HISTORY = b'{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n{"step": 3}\n'
SAMPLES = "--- step 1 ---\na\n\n--- step 2 ---\nb \u2028\n\n--- step 3 ---\n".encode()


def test_run_folders(attack: Attack) -> None:
    histories: SearchStrategy[bytes] = changed(HISTORY) | st.lists(
        changed_json({"step": 1, "loss": 2}, most=2) | VALUES, max_size=3
    ).map(lambda lines: b"".join(as_json(line) + b"\n" for line in lines))
    attack(
        "run_folder",
        st.builds(
            lambda config, history, samples, save, overwrite: Case(
                {
                    "run/config.yaml": config,
                    "run/metrics.jsonl": history,
                    "run/samples.txt": samples,
                    **({"run/resume.safetensors": b"x"} if save else {}),
                },
                ["overwrite"] if overwrite else [],
            ),
            st.just(YAML[0]) | st.just(YAML[0]) | changed(*YAML),
            histories,
            changed(SAMPLES),
            st.sampled_from((True, True, True, False)),
            st.sampled_from((False, False, False, True)),
        ),
    )


def test_cached_features(attack: Attack, tmp_path: Path) -> None:
    pictures = [StoredImage(str(number), Image.new("RGB", (4, 4), (number, 0, 0))) for number in range(2)]
    found = CachedFeatures(
        pictures, lambda batch: torch.ones(len(batch), 2, 3), "encoder", 4, "squash", "images", tmp_path / "features"
    )
    description: dict[str, Any] = json.loads(found.file.with_suffix(".json").read_text())
    content = found.file.read_bytes()
    shapes = st.lists(st.sampled_from((0, 1, 2, 3, 6, 12, -1, -2, 2**31, 2**62)), max_size=4)
    described = (
        changed_json(description).map(as_json)
        | changed(as_json(description))
        | shapes.map(lambda shape: as_json(description | {"shape": shape}))
    )
    sizes = st.sampled_from((content, content, content, b"", content * 2, struct.pack("<12f", *[float("nan")] * 12)))
    attack(
        "feature_cache",
        st.builds(
            lambda json_file, bin_file: Case(
                {found.file.with_suffix(".json").name: json_file, found.file.name: bin_file}
            ),
            described,
            sizes | changed(content, most=1),
        ),
    )
