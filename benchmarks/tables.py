"""Tables: printed row by row as they come, and kept as Markdown and CSV."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Value = str | int | float | None


def markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def markdown_head(columns: Sequence[str], texts: int = 1) -> str:
    """Two lines; all columns but the first `texts` are numbers."""
    return f"{markdown_row(columns)}\n{markdown_row(['---'] * texts + ['---:'] * (len(columns) - texts))}"


@dataclass(frozen=True)
class Column:
    """A column: its name, and how its values are shown, `text` or a format of numbers."""

    name: str
    form: str = "text"

    def shown(self, value: Value) -> str:
        if value is None:
            return ""
        return str(value) if self.form == "text" else format(value, self.form)


class Table:
    """A table that is on the screen and in `NAME.md` and `NAME.csv` as far as it has come, whatever stops it.

    Markdown has numbers as people read them, CSV has them as they are, to six digits.

    Args:
        folder: where the files go; it exists.
        name: of the files.
        title: a line.
        about: further lines above the table: machine, command and seed; comments in the CSV.
        columns: C of them.
    """

    def __init__(self, folder: Path, name: str, title: str, about: Sequence[str], columns: Sequence[Column]) -> None:
        self.columns = columns
        self.rows: list[tuple[Value, ...]] = []
        self.markdown, self.csv = folder / f"{name}.md", folder / f"{name}.csv"
        names = [column.name for column in columns]
        sides = ["---" if column.form == "text" else "---:" for column in columns]
        head = f"## {title}\n\n" + "".join(f"{line}\n\n" for line in about) + f"{markdown_row(names)}\n"
        self._show(f"{head}{markdown_row(sides)}", "w")
        with self.csv.open("w", encoding="utf-8", newline="") as file:
            file.writelines(f"# {line}\n" for line in [title, *about])
            csv.writer(file).writerow(names)

    def add(self, *values: Value) -> None:
        """Add a row of C values; None leaves its place empty."""
        self.rows.append(values)
        shown = [column.shown(value) for column, value in zip(self.columns, values, strict=True)]
        self._show(markdown_row(shown), "a")
        with self.csv.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow([f"{value:.6g}" if isinstance(value, float) else value for value in values])

    def _show(self, text: str, mode: str) -> None:
        print(text, flush=True)
        with self.markdown.open(mode, encoding="utf-8") as file:
            file.write(f"{text}\n")
