import ast
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from zoo.core import CELLS
from zoo.data import TextTokenizer
from zoo.errors import InputError
from zoo.one_to_many import TextGenerator
from zoo.pretrained import PretrainedModel, evaluating

ROOT = Path(__file__).parents[1]
TEXT = "the quick brown fox jumps over the lazy dog.\n" * 5
TOKENIZERS = {
    "char": TextTokenizer.train([TEXT], level="char"),
    "word": TextTokenizer.train([TEXT], level="word"),
    "bpe": TextTokenizer.train([TEXT], level="bpe", vocab_size=300),
}
KINDS = {
    "plain": {},
    "deep": {"num_layers": 3, "residual": True, "dropout": 0.3},
    "tied": {"tied": True, "embedding_size": 10},
    "tied_projected": {"tied": True},
    "ngrams": {"ngram_order": 3, "ngram_buckets": 100},
}

MODEL_FILES = ["config.json", "model.safetensors", "tokenizer.json"]


def make_generator(level="char", **options):
    torch.manual_seed(0)
    return TextGenerator(tokenizer=TOKENIZERS[level], **{"embedding_size": 8, "hidden_size": 10, **options})


@pytest.fixture
def folder(tmp_path):
    """A model saved and whole, for a test to spoil."""
    make_generator(tied=True).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps(config))


def refused(folder, *parts, model_class=TextGenerator):
    """Loading fails with one line that names all of `parts`."""
    with pytest.raises(InputError) as error:
        model_class.from_pretrained(folder)
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


# --- round trip ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_comes_back_with_the_same_logits_and_text(cell, kind, tmp_path):
    model = make_generator(cell=cell, **KINDS[kind]).eval()
    model.save_pretrained(tmp_path)
    torch.manual_seed(1)
    loaded = TextGenerator.from_pretrained(tmp_path)
    tokens = torch.randint(20, (3, 7))
    assert torch.equal(loaded(tokens), model(tokens))
    assert loaded.config == model.config
    options = {"max_new_tokens": 30, "seed": 2}
    assert loaded.generate("the ", **options) == model.generate("the ", **options)
    assert [name for name, _ in loaded.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert not loaded.training


@pytest.mark.parametrize("level", TOKENIZERS)
def test_the_tokenizer_comes_back_with_the_model(level, tmp_path):
    model = make_generator(level)
    model.save_pretrained(tmp_path)
    loaded = TextGenerator.from_pretrained(tmp_path)
    assert loaded.tokenizer.level == level
    assert loaded.tokenizer.encode(TEXT) == model.tokenizer.encode(TEXT)
    assert loaded.generate("the", seed=1, max_new_tokens=9) == model.generate("the", seed=1, max_new_tokens=9)


def test_a_model_without_a_tokenizer_comes_back_without_one(tmp_path):
    model = TextGenerator(vocab_size=9, embedding_size=4, hidden_size=4).eval()
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    loaded = TextGenerator.from_pretrained(tmp_path)
    assert loaded.tokenizer is None
    tokens = torch.randint(9, (2, 5))
    assert torch.equal(loaded(tokens), model(tokens))


def test_a_folder_may_be_given_as_a_string_or_a_path_and_moved(folder, tmp_path):
    logits = TextGenerator.from_pretrained(str(folder))(torch.zeros(1, 3, dtype=torch.long))
    shutil.move(folder, tmp_path / "elsewhere")
    assert torch.equal(TextGenerator.from_pretrained(tmp_path / "elsewhere")(torch.zeros(1, 3).long()), logits)


def test_saving_twice_replaces_the_first(tmp_path):
    make_generator().save_pretrained(tmp_path)
    second = make_generator("bpe", cell="mingru", hidden_size=12).eval()
    second.save_pretrained(tmp_path)
    loaded = TextGenerator.from_pretrained(tmp_path)
    tokens = torch.randint(250, (2, 5))
    assert torch.equal(loaded(tokens), second(tokens))


def test_saving_does_not_change_the_model(tmp_path):
    model = make_generator(tied=True, embedding_size=10).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path)
    assert model.training
    assert model.decoder.output.weight is model.decoder.embedding.tokens.weight
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_tied_weights_are_saved_once_and_come_back_tied(tmp_path):
    make_generator(tied=True, embedding_size=10).save_pretrained(tmp_path)
    names = load_file(tmp_path / "model.safetensors").keys()
    assert "decoder.embedding.tokens.weight" in names
    assert "decoder.output.weight" not in names
    loaded = TextGenerator.from_pretrained(tmp_path)
    assert loaded.decoder.output.weight is loaded.decoder.embedding.tokens.weight


def test_the_folder_is_plain_json_and_safetensors(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "TextGenerator"
    assert config["tied"] is True
    assert config["vocab_size"] == TOKENIZERS["char"].vocab_size
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in folder.iterdir()}
    assert not [file.name for file in folder.iterdir() if file.suffix in {".bin", ".pt", ".pth", ".pkl", ".partial"}]
    json.loads((folder / "tokenizer.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_weights_trained_in_bfloat16_load_on_a_cpu(kind, tmp_path):
    model = make_generator(**KINDS[kind]).to(torch.bfloat16).eval()
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118 (no dict)
    loaded = TextGenerator.from_pretrained(tmp_path)
    tokens = torch.randint(20, (3, 7))
    expected = model.float()(tokens)
    assert torch.equal(loaded(tokens), expected)
    assert loaded.generate("the ", max_new_tokens=5, seed=1)


def test_weights_saved_from_a_view_are_whole(tmp_path):
    model = make_generator()
    with torch.no_grad():
        weight = model.decoder.output.weight
        weight.set_(weight.t().contiguous().t())
    assert not weight.is_contiguous()
    model.save_pretrained(tmp_path)
    assert torch.equal(TextGenerator.from_pretrained(tmp_path).decoder.output.weight, weight)


def test_loading_does_not_disturb_the_weights_of_what_is_already_loaded(folder):
    first = TextGenerator.from_pretrained(folder)
    kept = first.decoder.embedding.tokens.weight.clone()
    with torch.no_grad():
        TextGenerator.from_pretrained(folder).decoder.embedding.tokens.weight.zero_()
    assert torch.equal(first.decoder.embedding.tokens.weight, kept)
    assert torch.equal(TextGenerator.from_pretrained(folder).decoder.embedding.tokens.weight, kept)


# --- what is wrong is named ---------------------------------------------------------------------------------


class AnotherModel(PretrainedModel):
    def __init__(self, *, tokenizer=None, **config):
        super().__init__()
        self.config, self.tokenizer = config, tokenizer


def test_a_folder_of_another_architecture_is_refused(folder):
    refused(folder, "config.json", "TextGenerator", "AnotherModel was expected", model_class=AnotherModel)


@pytest.mark.parametrize(
    "content", ["{}", "[]", '"text"', "3", "null", '{"architecture": null}', '{"model_type": "gpt2"}']
)
def test_a_config_of_something_else_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    refused(folder, "config.json", "a TextGenerator was expected")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"not json", b'{"architecture": "TextGen'])
def test_a_truncated_or_garbled_config_is_refused(folder, content):
    (folder / "config.json").write_bytes(content)
    refused(folder, "config.json is not JSON", "save the model again")


@pytest.mark.parametrize(
    "changes",
    [
        {"cell": "ltsm"},
        {"hidden_size": 0},
        {"dropout": 7},
        {"no_such_option": 1},
        {"tokenizer": "x"},
    ],
    ids=str,
)
def test_a_config_with_a_value_out_of_range_is_refused_by_name(folder, changes):
    change_config(folder, **changes)
    refused(folder, "config.json does not describe a TextGenerator", *changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"cell": ["gru"]},
        {"hidden_size": "large"},
        {"hidden_size": None},
        {"hidden_size": 2.5},
        {"num_layers": [1]},
        {"embedding_size": None},
    ],
    ids=str,
)
def test_a_config_with_a_value_of_another_type_is_refused(folder, changes):
    change_config(folder, **changes)
    refused(folder, "config.json does not describe a TextGenerator")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    refused(folder, str(folder), f"has no {name}")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_in_place_of_a_file_is_refused(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(folder, name)


def test_an_empty_folder_is_refused(tmp_path):
    refused(tmp_path, str(tmp_path), "has no config.json")


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.999])
def test_truncated_weights_are_refused(folder, share):
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    refused(folder, "model.safetensors is not a whole safetensors file", "again")


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 a zip, as torch.save writes" * 9, b"\x80\x04 a pickle" * 9, b"\0" * 99]
)
def test_a_file_of_another_kind_in_place_of_weights_is_refused(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    refused(folder, "model.safetensors is not a whole safetensors file")


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_turned_bits_in_weights_are_named_or_change_nothing(folder, data):
    """Those in the checksum's name leave weights that cannot be checked, but are as they were."""
    file = folder / "model.safetensors"
    before = load_file(file)
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    place = data.draw(st.integers(0, header - 1) | st.integers(header, len(content) - 1))
    damaged = bytearray(content)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    said = None
    try:
        file.write_bytes(damaged)
        weights = TextGenerator.from_pretrained(folder).state_dict()
    except InputError as error:
        said = str(error)
    finally:
        file.write_bytes(content)
    if said is None:
        assert place < header
        assert all(torch.equal(weights[name], value) for name, value in before.items())
    else:
        assert str(file) in said and "\n" not in said


def test_a_turned_bit_in_a_weight_is_refused(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    refused(folder, "model.safetensors is damaged (its checksum is another): copy or save it again")


def test_missing_tensors_are_named(folder):
    change_weights(folder, lambda weights: weights.pop("decoder.core.weight_hh_l0"))
    refused(folder, "model.safetensors has no decoder.core.weight_hh_l0")


def test_extra_tensors_are_named(folder):
    change_weights(folder, lambda weights: weights.update({"decoder.more": torch.zeros(2)}))
    refused(folder, "model.safetensors has decoder.more, which this TextGenerator lacks")


def test_tensors_of_another_shape_are_named_with_both_shapes(folder):
    change_weights(folder, lambda weights: weights.update({"decoder.core.weight_hh_l0": torch.zeros(40, 11)}))
    refused(folder, "decoder.core.weight_hh_l0", "(40, 11)", "(40, 10)")


def test_weights_of_another_size_than_the_config_are_refused(folder):
    change_config(folder, hidden_size=12)
    refused(folder, "but the configuration makes it")


def test_weights_of_another_model_are_refused(folder, tmp_path):
    save_file({"lm_head.weight": torch.zeros(3, 3)}, folder / "model.safetensors")
    refused(folder, "these weights are not of this configuration")


def test_a_tokenizer_of_another_vocabulary_is_refused(folder):
    TOKENIZERS["bpe"].save(folder)
    own, other = TOKENIZERS["char"].vocab_size, TOKENIZERS["bpe"].vocab_size
    refused(folder, f"vocab_size is {own}, but the tokenizer has {other} tokens")


@pytest.mark.parametrize("content", ["", "{}", '{"version": "1.0"', "[1, 2]"])
def test_a_spoilt_tokenizer_is_refused(folder, content):
    (folder / "tokenizer.json").write_text(content)
    refused(folder, "tokenizer.json")


# --- the hub ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["owner/model-that-is-not-here", "single-name"])
def test_a_hub_name_without_a_network_fails_fast(name, tmp_path):
    # In a process of its own: huggingface_hub reads the variable once.
    code = (
        "import time; from zoo.errors import InputError; from zoo.one_to_many import TextGenerator\n"
        "start = time.monotonic()\n"
        f"try: TextGenerator.from_pretrained({name!r})\n"
        "except InputError as error: print(time.monotonic() - start); print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    seconds, message = done.stdout.strip().split("\n")
    assert float(seconds) < 5
    assert message.startswith(f"{name} is not a folder here, and no such model could be had from the hub (")


def test_a_hub_name_is_loaded_from_the_folder_it_was_downloaded_to(folder, hub_of):
    asked = hub_of(folder)
    loaded = TextGenerator.from_pretrained("owner/model", revision="v1")
    assert asked == [("owner/model", {"revision": "v1", "allow_patterns": MODEL_FILES})]
    assert torch.equal(
        loaded.decoder.embedding.tokens.weight, make_generator(tied=True).decoder.embedding.tokens.weight
    )


@pytest.mark.parametrize("error", [OSError(), OSError("the disk\nis full")], ids=repr)
def test_any_failure_to_download_is_one_line(error, monkeypatch):
    def download(name, **options):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    refused("owner/model", "owner/model is not a folder here", "give the path of a saved model")


@pytest.mark.parametrize("name", ["no/such/folder", "/no/such/folder", "a b", "../elsewhere", "x" * 200])
def test_a_path_that_is_not_there_fails_fast_and_says_what_was_expected(name):
    start = time.monotonic()
    with pytest.raises(InputError, match="is not a folder here, and is no name of a model on the hub"):
        TextGenerator.from_pretrained(name)
    assert time.monotonic() - start < 2


def test_a_file_in_place_of_its_folder_is_refused(folder):
    refused(folder / "model.safetensors", "is not a folder here")


# --- modes, and what must never happen ----------------------------------------------------------------------


def test_evaluating_puts_every_part_back_even_after_an_error():
    model = make_generator(dropout=0.5).train()
    model.decoder.core.eval()
    before = [module.training for module in model.modules()]
    during = []

    def fail():
        with evaluating(model):
            during.extend(module.training for module in model.modules())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not any(during)
    assert [module.training for module in model.modules()] == before


UNSAFE_MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {
    "torch.load",
    "torch.save",
    "torch.hub.load",
    "torch.hub.load_state_dict_from_url",
    "torch.jit.load",
    "torch.serialization",
    # These make whatever object a file names.
    "yaml.load",
    "yaml.full_load",
    "yaml.unsafe_load",
    "yaml.Loader",
    "yaml.FullLoader",
    "yaml.UnsafeLoader",
    "os.system",
}


def is_of_tensors_only(call):
    return ast.unparse(call.func) == "torch.load" and any(
        keyword.arg == "weights_only" and ast.unparse(keyword.value) == "True" for keyword in call.keywords
    )


def unsafe_uses(source):
    found = []
    nodes = list(ast.walk(ast.parse(source)))
    # People's files of weights are pickles, of which this reads tensors alone.
    tensors_only = [node.func for node in nodes if isinstance(node, ast.Call) and is_of_tensors_only(node)]
    for node in nodes:
        if node in tensors_only:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in UNSAFE_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            found += [node.module] if node.module.split(".")[0] in UNSAFE_MODULES else names & UNSAFE_CALLS
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in UNSAFE_CALLS:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.keyword) and node.arg in {"allow_pickle", "trust_remote_code", "shell"}:
            found.append(node.arg)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"eval", "exec", "compile", "__import__"}:
            found.append(ast.unparse(node.func))
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import load",
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=False)",
        "import torch\ntorch.hub.load('x', 'y')",
        "from torch import load",
        "eval('1')",
        "np.load(x, allow_pickle=True)",
        "import yaml\nyaml.load(x, yaml.SafeLoader)",
        "from yaml import unsafe_load",
        "load_dataset(x, trust_remote_code=True)",
        "subprocess.run(x, shell=True)",
    ],
)
def test_the_search_for_unsafe_loading_finds_it(source):
    assert unsafe_uses(source)


def test_nothing_is_pickled_or_unpickled_anywhere():
    files = [file for part in ("zoo", "scripts") for file in (ROOT / part).rglob("*.py")]
    assert len(files) > 10
    found = {str(file): uses for file in files if (uses := unsafe_uses(file.read_text(encoding="utf-8")))}
    assert not found
