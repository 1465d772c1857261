"""Whatever is wrong with a translator's data or options: one line on stderr, exit code 2, no half-made run folder."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import docstring_parser
import pytest

Run = Callable[..., Any]
ENGLISH = b"".join(b"line %d\n" % n for n in range(1, 41))
FRENCH = ENGLISH.replace(b"line", b"ligne")


def jsonl(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({}, "there are no files train.en and train.fr"),
        ({"train.en": ENGLISH, "train.fr": FRENCH * 2}, "train.en has 40 lines and train.fr 80"),
        ({"train.en": ENGLISH}, "train.fr is missing: there is train.en"),
        ({"train.fr": FRENCH}, "train.en is missing: there is train.fr"),
        ({"train.en": ENGLISH, "train.fr": b""}, "train.fr has 0 lines and train.en 40"),
        ({"train.en": ENGLISH, "train.fr": b"\n" * 40}, "all texts in fr are empty"),
        ({"train.en": b" \n" * 40, "train.fr": FRENCH}, "all texts in en are empty"),
        ({"train.en": b"", "train.fr": b""}, "train.en and train.fr: there are no pairs"),
        ({"train.en": b"one\n" * 9, "train.fr": b"un\n" * 9}, "too few pairs to draw validation pairs from"),
        ({"train.en": ENGLISH, "train.fr": FRENCH.replace(b"7", b"\0", 1)}, "train.fr, line 7 has a NUL byte"),
        ({"train.en": ENGLISH.replace(b"9", b"\xeb", 1), "train.fr": FRENCH}, "train.en, line 9 is not UTF-8"),
        ({"train.en": ENGLISH, "train.fr": FRENCH.decode().encode("utf-16")}, "train.fr is UTF-16"),
        ({"train.tsv": b"english\tfrench\na\tb\n"}, "no column 'en': it has english, french; expected en and fr"),
        ({"train.tsv": b"a\tb\nc\td\n"}, "no column 'en': it has a, b; expected en and fr"),
        ({"train.tsv": b""}, "train.tsv is empty"),
        ({"train.tsv": b"en\tfr\n"}, "train.tsv: there are no pairs"),
        ({"train.csv": b"en,fr\na,b\nc,d,e\n"}, "train.csv, line 3"),
        ({"train.jsonl": jsonl({"en": "a", "fr": 1})}, "line 1: column 'fr' holds int, expected text"),
        ({"train.jsonl": jsonl({"translation": {"en": "a"}})}, "no translation 'fr': it has en"),
        ({"train.jsonl": b'{"en": "a"\n'}, "train.jsonl, line 1"),
    ],
)
def test_data(
    train_translator: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, content in files.items():
        Path(name).write_bytes(content)
    (data,) = {name.replace(".en", "").replace(".fr", "") for name in files} or {"train"}
    result = train_translator(Path("run"), data=data)
    assert result.is_an_error(match), result
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--source", "fr"], "source and target are both 'fr'"),
        (["--target", "de"], "train.de is missing: there is"),
        (["--target", ""], "target is empty"),
        (["--data", "numbers", "--target", "klingon"], "no language 'klingon': expected one of af, "),
        (["--data", "numbers", "--source", "fr"], "source and target are both 'fr'"),
        (["--validation_data", "no/such/folder.tsv"], "no/such/folder.tsv"),
        (["--test_data", ""], "a data source is empty"),
        (["--validation_fraction", "0"], "validation_fraction is 0.0"),
        (["--max_length_ratio", "0.5"], "max_length_ratio is 0.5"),
        (["--longest", "3"], "has at most 3 tokens a side: raise --longest"),
        (["--longest", "0"], "longest is 0, but must be at least 1"),
        (["--level", "words"], "level"),
        (["--tokenizer_size", "1"], "vocab_size is 1"),
        (["--min_frequency", "0"], "min_frequency is 0"),
        (["--cell", "transformer"], "cell is 'transformer'"),
        (["--encoder_cell", "transformer"], "cell is 'transformer'"),
        (["--attention", "dot"], "attention"),
        (["--num_heads", "3"], "num_heads is 3, but must divide the width of the queries, 8"),
        (["--num_heads", "0"], "num_heads is 0"),
        (["--hidden_size", "13"], "num_heads is 2, but must divide the width of the queries, 13 (the hidden_size"),
        (["--hidden_size", "13", "--attention", "none"], "hidden_size 13, but must be at least 1, and even"),
        (["--embedding_size", "0"], "embedding_size is 0, but must be at least 1"),
        (["--num_layers", "1"], "num_layers is 1, but must be at least 2 with attention 'multihead'"),
        (["--num_layers", "0", "--attention", "none"], "num_layers is 0"),
        (["--dropout", "1"], "dropout is 1.0"),
        (["--weight_dropout", "0.1", "--cell", "mingru"], "weight_dropout is 0.1, but mingru"),
        (["--label_smoothing", "1"], "label_smoothing is 1.0"),
        (["--batch_size", "0"], "batch_size is 0"),
        (["--batch_tokens", "0"], "batch_tokens is 0"),
        (["--num_beams", "0"], "num_beams is 0, but must be from 1"),
        (["--length_penalty", "-1"], "length_penalty is -1.0, but must be from 0"),
        (["--max_steps", "0"], "max_steps is 0"),
        (["--device", "abacus"], "device is abacus"),
        (["--beams", "5"], "--beams"),
        (["--config", "no.yaml"], "no.yaml"),
    ],
)
def test_options(train_translator: Run, tmp_path: Path, arguments: list[str], match: str) -> None:
    result = train_translator(tmp_path / "run", *arguments)
    assert result.is_an_error(match), result
    assert not (tmp_path / "run").exists()


def test_help_lists_and_explains_every_option(run: Run, train_translator_script: ModuleType) -> None:
    result = run(train_translator_script, "--help")
    assert (result.code, result.err) == (0, "")
    for options in (train_translator_script.TranslatorOptions, train_translator_script.TranslatorTraining):
        described = {parameter.arg_name for parameter in docstring_parser.parse(options.__doc__).params}
        assert set(options.__dataclass_fields__) <= described
        assert all(f"--{name} " in result.out for name in options.__dataclass_fields__)
