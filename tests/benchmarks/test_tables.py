"""Tables say the same on the screen, in Markdown and in CSV."""

import csv

import pytest

from benchmarks.tables import Column, Table, markdown_head


def test_a_table_is_printed_and_kept_row_by_row(tmp_path, capsys):
    columns = [Column("cell"), Column("tokens/s", ",.0f"), Column("share", ".0%")]
    table = Table(tmp_path, "core", "The core", ["a machine, seed 0"], columns)
    table.add("lstm", 12345.678, 0.5)
    table.add("gru", None, 1)
    shown = (tmp_path / "core.md").read_text(encoding="utf-8")
    assert shown == (
        "## The core\n\na machine, seed 0\n\n| cell | tokens/s | share |\n| --- | ---: | ---: |\n"
        "| lstm | 12,346 | 50% |\n| gru |  | 100% |\n"
    )
    assert capsys.readouterr().out == shown
    lines = (tmp_path / "core.csv").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["# The core", "# a machine, seed 0"]
    assert list(csv.reader(lines[2:])) == [["cell", "tokens/s", "share"], ["lstm", "12345.7", "0.5"], ["gru", "", "1"]]


def test_a_row_has_a_value_for_each_column(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        Table(tmp_path, "core", "The core", [], [Column("cell")]).add("lstm", 1)


def test_the_head_of_a_table_that_is_only_printed():
    assert markdown_head(("a", "b", "c"), texts=2) == "| a | b | c |\n| --- | --- | ---: |"
