"""The forms have as many parameters, and the table is of the runs."""

import json
import sys

import pytest

from benchmarks import translator_forms as benchmark
from zoo.command_line import run_script


@pytest.mark.parametrize("options", [{}, {"embedding_size": 64, "hidden_size": 128, "num_layers": 3, "cell": "gru"}])
def test_forms_have_as_many_parameters_beside_those_of_the_vocabulary(options):
    options = benchmark.TranslatorFormsOptions(**options)
    sizes = {form: benchmark.hidden_size_for(form, options) for form in benchmark.FORMS}
    counts = {form: benchmark.parameters(form, options, size) for form, size in sizes.items()}
    assert all(abs(count / counts["multihead"] - 1) < 0.02 for count in counts.values())
    assert sizes["multihead"] == options.hidden_size < sizes["general"] < sizes["none"]


def test_options_are_checked():
    with pytest.raises(ValueError, match="forms is luong, but must be of none, additive, general, multihead"):
        benchmark.TranslatorFormsOptions(forms="luong")
    with pytest.raises(ValueError, match="both 128, but must differ"):
        benchmark.TranslatorFormsOptions(hidden_size=128)


def test_it_prints_a_table_of_a_run(monkeypatch, capsys, tmp_path):
    words = ("dog", "cat", "bird", "fish", "man", "woman")
    for split, offset in (("train", 0), ("val", 1)):
        for language, the in (("en", "A"), ("xx", "Ein")):
            lines = [f"{the} {one} and {other} .\n" for one in words for other in words[offset:]]
            (tmp_path / f"{split}.{language}").write_text("".join(lines), encoding="utf-8")
    options = {
        "data": tmp_path / "train",
        "validation_data": tmp_path / "val",
        "target": "xx",
        "forms": "none",
        "out": tmp_path / "out",
        "max_minutes": 0.01,
        "embedding_size": 8,
        "hidden_size": 16,
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["translator_forms", *flags])
    with pytest.raises(SystemExit) as ended:
        run_script(benchmark.main)
    assert ended.value.code == 0
    out = capsys.readouterr().out
    figures = json.loads((tmp_path / "out" / "none" / "metrics.json").read_text(encoding="utf-8"))
    row = (tmp_path / "out" / "table.md").read_text(encoding="utf-8").splitlines()[-1]
    assert row in out
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == len(benchmark.COLUMNS)
    assert cells[0] == "none" and cells[2] == f"{figures['parameters']:,}"
    assert cells[4] == f"{figures['validation']['bleu']:.2f}"
