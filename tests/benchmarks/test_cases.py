"""Every case runs from end to end on tiny sizes, its table is well-formed, and what differs is not compared."""

import csv
import dataclasses
import gc
import sys

import pytest
import torch

from benchmarks import __main__ as entry
from benchmarks import beam, compiling, core_training, generation, output_layer, scaling
from benchmarks.session import COMPARED, check_same
from zoo.command_line import run_script
from zoo.core import CELLS, RecurrentCore

ABOUT = 3  # lines above a CSV table: title, machine and command, limits


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    options = entry.BenchmarkOptions(quick=True, repeats=1, device="cpu", out=tmp_path_factory.mktemp("tables"))
    gc.freeze()  # garbage is collected before each measurement of memory: not among all that is imported here
    yield entry.start(options, ["--quick"])
    gc.unfreeze()


def rows_of(session, name):
    lines = (session.out / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    assert "python -m benchmarks --quick; seed 0" in lines[1] and torch.__version__ in lines[1]
    assert "GFLOP/s in float32" in lines[2]
    rows = list(csv.DictReader(lines[ABOUT:]))
    markdown = (session.out / f"{name}.md").read_text(encoding="utf-8").splitlines()
    assert len([line for line in markdown if line.startswith("|")]) == len(rows) + 2
    return rows


def check_compared(rows):
    for row in rows:
        assert {column.name for column in COMPARED} <= set(row) and None not in row
        ours, peer, ratio = (float(row[name]) for name in ("ours, ms", "peer, ms", "times as fast"))
        assert ratio == pytest.approx(peer / ours, rel=1e-4)
        assert float(row["share of the limit"]) > 0 and row["limit"] in ("products", "memory")


def test_core(session):
    core_training.measure(session)
    rows = rows_of(session, "core")
    check_compared(rows)
    assert len(rows) == len(CELLS) * len(session.precisions) * 2
    peers = {row["cell"]: row["peer"] for row in rows if row["rows"] == "ragged" and row["precision"] == "float32"}
    assert peers["gru"] == "torch.nn.GRU, packed, float32" and peers["mingru"] == "zoo lstm"
    row = rows[0]
    assert float(row["ours, tokens/s"]) == pytest.approx(1000 * 3 * 5 / float(row["ours, ms"]), rel=1e-4)


@pytest.mark.parametrize("grid", ["summary", "full"])
def test_the_core_has_the_rows_it_is_to_have(session, grid):
    cases = core_training.cases(dataclasses.replace(session, grid=grid, precisions=("float32", "bfloat16")))
    assert len(set(cases)) == len(cases)
    assert {case.cell for case in cases} == set(CELLS)
    if grid == "summary":
        assert {case.precision for case in cases if case.num_layers == 2 and case.ragged} == {"float32", "bfloat16"}
    else:
        # cells, precisions, H, T, directions, and batches full or ragged, of which one row cannot be ragged
        assert len(cases) == 5 * 2 * 4 * 3 * 2 * (3 + 2)


def test_ragged_lengths_fit():
    torch.manual_seed(0)
    lengths = core_training.ragged_lengths(1000, 200)
    assert lengths[0] == lengths.max() == 200 and lengths.min() >= 1
    assert 165 < lengths.median() < 183


def test_work_counts_three_products_and_every_tensor(session):
    core = RecurrentCore("lstm", 3, 5)
    work = core_training.training_work(core, 7, "float32")
    assert work.flops == 3 * 2 * 7 * 20 * (3 + 5)
    assert work.traffic == 4 * 7 * (3 * 3 + 6 * 20 + 3 * 5)


def test_generation(session):
    generation.measure(session)
    rows = rows_of(session, "generation")
    check_compared(rows)
    weights = generation.precisions(session)
    assert set(session.precisions) <= set(weights) <= {*session.precisions, "float16"}
    assert len(rows) == 2 * 2 * len(generation.WAYS) * len(weights)
    assert {row["our weights"] for row in rows} == set(weights)
    assert {row["how"] for row in rows} == set(generation.WAYS)


def test_beam(session):
    beam.measure(session)
    rows = rows_of(session, "beam")
    check_compared(rows)
    assert [row["peer"] for row in rows] == [beam.TEXTBOOK, beam.TEXTBOOK, beam.ONE_BY_ONE]


def test_output(session):
    output_layer.measure(session)
    rows = rows_of(session, "output")
    check_compared(rows)
    assert len(rows) == 2 * len(session.precisions)


def test_scaling(session, monkeypatch):
    monkeypatch.setattr(scaling, "peak_of_command", lambda command, log: 5 * 2**20)
    scaling.measure(session)
    rows = rows_of(session, "scaling")
    assert {row["what grows"] for row in rows} == {"T", "B", "H", "V", scaling.CORPUS}
    assert [row["MiB"] for row in rows if row["what grows"] == scaling.CORPUS] == ["5", "5"]
    slopes = rows_of(session, "scaling_slopes")
    assert len(slopes) == 3 * len(scaling.CELLS_SHOWN) + 2
    assert float(slopes[-1]["slope of memory"]) == pytest.approx(0, abs=1e-9)
    assert (session.out / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_a_slope_is_that_on_logarithmic_axes():
    assert scaling.slope([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)
    assert scaling.slope([1, 10], [0.2, 2.0]) == pytest.approx(1)
    assert scaling.slope([1, 2], [None, 3]) is None


def test_a_corpus_has_its_size_and_the_script_takes_it(session, monkeypatch, tmp_path):
    commands = []
    monkeypatch.setattr(scaling, "peak_of_command", lambda command, log: commands.append(command) or 2**20)
    point = scaling.corpus_point(0.03, tmp_path, session)
    assert (tmp_path / "text.txt").stat().st_size == 30_000
    assert point.mebibytes == 1 and point.value == 0.03
    command = commands[0]
    assert command[1].endswith("scripts/train_text_generator.py")
    assert command[command.index("--data") + 1] == str(tmp_path / "text.txt")


def test_compile(session, monkeypatch):
    compiled = []

    def compile_all_but_one(loss):
        compiled.append(loss)
        if len(compiled) == 3:
            return lambda batch: torch.linalg.inv(torch.zeros(1, 1))  # raises a RuntimeError
        return loss

    monkeypatch.setattr(torch, "compile", compile_all_but_one)
    compiling.measure(session)
    rows = rows_of(session, "compile")
    architectures = ["ImageClassifier", "TextGenerator", "ImageCaptioner", "TextClassifier", "Translator"]
    assert [row["architecture"] for row in rows] == architectures
    assert rows[1]["has paid after"].startswith("fails: ")
    for row in (row for number, row in enumerate(rows) if number != 1):
        gain = float(row["eager, ms a step"]) - float(row["compiled, ms a step"])
        assert (row["has paid after"] == "never") == (gain <= 0)


def test_without_a_compiler_there_is_one_line(session, monkeypatch, capsys):
    def no_compiler(_):
        raise RuntimeError("no C++ compiler was found\nmuch more")

    monkeypatch.setattr(torch, "compile", no_compiler)
    capsys.readouterr()
    compiling.measure(session)
    assert capsys.readouterr().out == (
        "\nno table of torch.compile, which cannot be used here: no C++ compiler was found\n"
    )


def test_a_compiled_loss_must_be_the_same(session, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda loss: lambda *batch: 1.1 * loss(*batch))
    with pytest.raises(RuntimeError, match="ImageClassifier, losses: ours and the peer's differ"):
        compiling.measure(session)


def shifted(make):
    """The same work with all but the same results."""

    def make_shifted(*arguments):
        work = make(*arguments)

        def shift():
            found = work()
            return found + 1 if isinstance(found, torch.Tensor) else tuple(part + 1 for part in found)

        return shift

    return make_shifted


@pytest.mark.parametrize(
    ("case", "peer", "message"),
    [
        (core_training, "torch_step", "outputs: ours and the peer's differ"),
        (generation, "plain_generation", "greedy, 1 of 1 rows differ"),
        (beam, "search_textbook", "log P of 1 sentences, textbook, one by one: ours"),
        (beam, "search_one_by_one", "log P of 3 sentences, zoo, one by one: ours"),
    ],
)
def test_other_results_are_not_compared(session, monkeypatch, case, peer, message):
    monkeypatch.setattr(case, peer, shifted(getattr(case, peer)))
    with pytest.raises(RuntimeError, match=message):
        case.measure(session)


def test_gradients_are_compared_too(session, monkeypatch):
    whole = output_layer.whole_logits

    def without_bias(features, weight, bias, targets):
        return whole(features, weight, bias - 2 * (bias - bias.detach()), targets)

    monkeypatch.setattr(output_layer, "whole_logits", without_bias)
    with pytest.raises(RuntimeError, match="gradient of the bias: ours and the peer's differ by 2"):
        output_layer.measure(session)


def test_numbers_that_are_not_numbers_are_not_the_same():
    with pytest.raises(RuntimeError, match="x: ours and the peer's differ by nan"):
        check_same("x", torch.tensor([torch.nan]), torch.ones(1), 0.1)


def test_the_command_line_runs_the_cases_named(monkeypatch, capsys, tmp_path):
    arguments = [
        "--quick",
        "--cases",
        "output,beam",
        "--repeats",
        "1",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "new"),
    ]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    assert entry.main() == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "beam.csv",
        "beam.md",
        "output.csv",
        "output.md",
    ]
    shown = capsys.readouterr().out
    assert shown.index("## The output layer") < shown.index("## Beam search")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "core,sampling"], "cases is core,sampling, but must be of core, generation, "),
        (["--repeats", "0"], "repeats is 0, but must be at least 1"),
    ],
)
def test_options_are_checked(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_script(entry.main)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
