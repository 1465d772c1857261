"""Models from strangers: config.json, tokenizer.json and weights, each damaged or made to do harm."""

import io
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from safetensors.torch import load, save

from tests.fuzz.conftest import Attack
from tests.fuzz.hostile import VALUES, as_json, changed, changed_json, json_file
from tests.fuzz.reading_process import Case
from zoo.data.tokenizer import TextTokenizer
from zoo.many_to_one import TextClassifier
from zoo.one_to_many import ImageCaptioner, MarkovGenerator, TextGenerator
from zoo.one_to_one import ImageClassifier, ImageEncoder
from zoo.pretrained import PretrainedModel
from zoo.seq2seq import Translator

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 2
TOKENIZERS = {
    "char": TextTokenizer.train([TEXT], "char", lowercase=True),
    "word": TextTokenizer.train([TEXT], "word"),
    "pretokenized": TextTokenizer.train([TEXT], "word", pretokenized=True),
    "bpe": TextTokenizer.train([TEXT], "bpe", vocab_size=262),
}


def models() -> list[PretrainedModel]:
    torch.manual_seed(0)
    word = TOKENIZERS["word"]
    small: dict[str, Any] = {"embedding_size": 4, "hidden_size": 4}
    return [
        TextGenerator(tokenizer=word, ngram_order=2, ngram_buckets=9, **small),
        TextClassifier(
            tokenizer=TOKENIZERS["char"], labels=["a", "b"], class_weights=[1, 2], bag_order=2, bag_size=9, **small
        ),
        Translator(tokenizer=word, source_tokenizer=TOKENIZERS["bpe"], num_heads=2, **small),
        ImageCaptioner(tokenizer=word, image_size=16, num_heads=2, max_length=5, **small),
        ImageClassifier(labels=["a", "b"], image_size=16),
    ]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The files of a model of each architecture."""
    found = {}
    for model in models():
        folder = tmp_path_factory.mktemp("model")
        model.save_pretrained(folder)
        (folder / "README.md").unlink()
        found[type(model).__name__] = {file.name: file.read_bytes() for file in folder.iterdir()}
        shutil.rmtree(folder)
    return found


@st.composite
def safetensors(draw: st.DrawFn, content: bytes) -> bytes:
    """Weights whose header says something else, or has another length than it says."""
    size = struct.unpack("<Q", content[:8])[0]
    header = as_json(draw(changed_json(json.loads(content[8 : 8 + size]))))
    length = draw(st.just(len(header)) | st.sampled_from((0, 1, 2**31, 2**63, 2**64 - 1)))
    return struct.pack("<Q", length) + header + content[8 + size :]


@st.composite
def strange(draw: st.DrawFn, files: dict[str, bytes]) -> Case:
    """A model's folder with one of its files changed, missing or in the place of another."""
    name = draw(st.sampled_from(("config.json", "config.json", *files)))
    content = files[name]
    others = dict(files)
    kind = draw(st.integers(0, 9))
    if kind == 0:
        del others[name]
    elif kind == 1:
        others[name] = files[draw(st.sampled_from(sorted(files)))]
    elif name.endswith(".safetensors"):
        others[name] = draw(safetensors(content) | changed(content))
    else:
        others[name] = draw(json_file(json.loads(content)))
    return Case(others)


@pytest.mark.parametrize("architecture", [type(model).__name__ for model in models()])
def test_saved_models(attack: Attack, saved: dict[str, dict[str, bytes]], architecture: str) -> None:
    attack(architecture, strange(saved[architecture]))


def test_counts_beside_a_network(attack: Attack, saved: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    tokenizer = TOKENIZERS["word"]
    MarkovGenerator(tokenizer=tokenizer, order=3).fit(torch.tensor(tokenizer.encode(TEXT))).save(tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    digest = load(whole)["tokenizer"]
    orders = st.sampled_from((0, 1, 2, 64, 65, 2**62, -1, 2.5, float("inf"), True, [1])).map(torch.tensor)
    ids = st.lists(st.integers(-2, 2**31 - 1) | st.integers(0, tokenizer.vocab_size), max_size=9)
    tokens = ids.map(lambda some: torch.tensor(some, dtype=torch.int32))
    stored = st.builds(lambda order, some: save({"order": order, "tokens": some, "tokenizer": digest}), orders, tokens)
    contents = stored | safetensors(whole) | changed(whole, most=2)
    attack("interpolated", contents.map(lambda content: Case(saved["TextGenerator"] | {file.name: content})))


def tokenizer_files(tmp_path: Path) -> list[bytes]:
    for level, tokenizer in TOKENIZERS.items():
        tokenizer.save(tmp_path / "tokenizers", f"{level}.json")
    return [file.read_bytes() for file in sorted((tmp_path / "tokenizers").iterdir())]


def foreign(document: dict[str, Any]) -> SearchStrategy[bytes]:
    """Parts that other tokenizers have, and patterns that take for ever."""
    patterns = st.sampled_from(("(a+)+$", "(", "(?:(?:a{1,9999}){1,9999}){1,9999}", "\\p{Foo}", "(?<=a+)b", ""))
    parts = patterns.map(
        lambda pattern: {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    ) | st.sampled_from(
        (
            {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
            {"type": "Replace", "pattern": {"Regex": "^"}, "content": "x" * 9999},
            {"type": "Prepend", "prepend": "x" * 9999},
            {"type": "Sequence", "normalizers": [{"type": "NFKD"}] * 999},
        )
    )
    keys = st.sampled_from(("normalizer", "pre_tokenizer", "decoder", "post_processor"))
    special = {
        "id": 0,
        "content": "a",
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": True,
        "special": True,
    }
    added = st.sampled_from(
        ({"added_tokens": [special]}, {"truncation": {"max_length": 0}}, {"padding": {"strategy": {"Fixed": 10**9}}})
    )
    return (st.builds(lambda key, part: {key: part}, keys, parts) | added).map(
        lambda change: as_json(document | change)
    )


def test_tokenizers(attack: Attack, tmp_path: Path) -> None:
    contents = tokenizer_files(tmp_path)
    documents = [json.loads(content) for content in contents]
    cases = [json_file(document) for document in documents] + [foreign(document) for document in documents]
    cases += [changed(*contents), st.sampled_from(documents).flatmap(strange_vocabulary)]
    attack("tokenizer", st.one_of(cases).map(lambda content: Case({"tokenizer.json": content})))


def strange_vocabulary(document: dict[str, Any]) -> SearchStrategy[bytes]:
    """Other tokens and other numbers for them."""
    tokens = st.sampled_from(("<unk>", "a", "ab", "", " ", "\n", "\u010a", "\u0120", "\ud800", "\0")) | st.text(
        max_size=3
    )
    ids = st.sampled_from((0, 0, 1, 1, 2, 3, -1, 2**32, 2**31)) | VALUES
    vocabularies = st.dictionaries(tokens, ids, max_size=6)
    merges = st.lists(st.lists(tokens, max_size=3) | VALUES, max_size=3)
    return st.builds(
        lambda vocab, pairs: as_json(document | {"model": document["model"] | {"vocab": vocab, "merges": pairs}}),
        vocabularies | st.just(document["model"]["vocab"]),
        merges,
    )


def test_weights_of_backbones(attack: Attack) -> None:
    torch.manual_seed(0)
    state = {name: tensor.contiguous() for name, tensor in ImageEncoder("small", 16).trunk.state_dict().items()}
    pickled, kept = io.BytesIO(), io.BytesIO()
    torch.save(state, pickled)
    torch.save(
        {"state_dict": {"0.weight": torch.ones(2, 2)}, "epoch": [1, "a"]}, kept, _use_new_zipfile_serialization=False
    )
    whole = save(state)
    tensors = (safetensors(whole) | changed(whole, most=2)).map(lambda content: Case({"a.safetensors": content}))
    pickles = changed(pickled.getvalue(), kept.getvalue(), b"\x80\x02cos\nsystem\nX\x04\0\0\0trueq\0\x85R.", most=2)
    attack("weights", tensors | pickles.map(lambda content: Case({"a.pth": content})))
