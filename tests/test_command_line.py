"""`parse_options` and `run_script`: from arguments to options, and from an error to one line and exit code 2."""

import io
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import yaml

from zoo.command_line import figures_line, parse_options, plain_options, run_script
from zoo.errors import InputError


@dataclass
class Animal:
    """An animal.

    Args:
        name: What it is called.
        note: What is said of it.
        legs: How many legs it has.
        food: What it eats.
        tame: Whether it is tame.
        shy: Whether it hides.
    """

    name: str
    note: str | None = None
    legs: int = 4
    food: Literal["hay", "fish"] = "hay"
    tame: bool = False
    shy: bool = True

    def __post_init__(self) -> None:
        if self.legs < 0:
            raise ValueError(f"legs is {self.legs}, but must be\nat least 0")


@dataclass
class House:
    """Where it lives.

    Args:
        place: The folder.
        width: In metres.
        words: Some words.
    """

    place: Path = Path("field")
    width: float = 2.5
    words: list[str] = field(default_factory=list)


def parse(*arguments: str) -> Animal:
    animal, _ = parse_options("About animals.", Animal, House, positional=("name",), arguments=list(arguments))
    assert isinstance(animal, Animal)
    return animal


def parse_house(*arguments: str) -> House:
    _, house = parse_options("About animals.", Animal, House, positional=("name",), arguments=["Ivo", *arguments])
    assert isinstance(house, House)
    return house


def test_defaults_and_types() -> None:
    animal, house = parse_options(
        "d", Animal, House, arguments=["--name", "Ivo", "--legs", "3", "--place", "a/b", "--width", "3"]
    )
    assert (animal, house) == (Animal("Ivo", legs=3), House(Path("a/b"), 3.0))


def test_takes_the_command_line_where_no_arguments_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script.py", "--name", "Ivo"])
    assert parse_options("d", Animal) == [Animal("Ivo")]


def test_positional() -> None:
    assert parse("Ivo", "--legs", "2") == Animal("Ivo", legs=2)
    assert parse("--legs", "2", "--name", "Ivo") == Animal("Ivo", legs=2)
    with pytest.raises(InputError, match="'Eva' was not expected: options begin with --"):
        parse("Ivo", "Eva")


@pytest.mark.parametrize(
    ("arguments", "tame", "shy"),
    [
        ([], False, True),
        (["--tame"], True, True),
        (["--tame", "true"], True, True),
        (["--shy", "false"], False, False),
        (["--shy=false"], False, False),
        (["--tame", "--shy", "False"], True, False),
        (["--tame", "--legs", "2"], True, True),
    ],
)
def test_flags_with_and_without_a_value(arguments: list[str], tame: bool, shy: bool) -> None:
    animal = parse("Ivo", *arguments)
    assert (animal.tame, animal.shy) == (tame, shy)


@pytest.mark.parametrize(
    "text", ["", " x ", "null", "~", "# Heading", "#", "true", "12", "1.0", "a: b", "[a]", "{", "- a"]
)
def test_text_is_taken_as_it_is(text: str) -> None:
    assert parse("Ivo", "--note", text).note == text
    assert parse("Ivo", f"--note={text}").note == text
    assert parse("--name", text).name == text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--words", "END"], ["END"]),
        (["--words", "a", "--words", "b c"], ["a", "b c"]),
        (["--words=a", "--words=b"], ["a", "b"]),
        (["--words", '["a", "b"]'], ["a", "b"]),
        (["--words", "\n"], ["\n"]),
        (["--words", ""], [""]),
        (["--words", "# a", "--words", "null", "--words", "1"], ["# a", "null", "1"]),
        ([], []),
    ],
)
def test_a_list_is_given_word_by_word_or_at_once(arguments: list[str], words: list[str]) -> None:
    assert parse_house(*arguments).words == words


def test_config_is_overruled_by_what_stands_after_it(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("name: Ivo\nlegs: 3\ntame: true\nplace: barn\nnote: null\n")
    assert parse("--config", str(config)) == Animal("Ivo", legs=3, tame=True)
    assert parse("--config", str(config), "--legs", "2") == Animal("Ivo", legs=2, tame=True)
    assert parse("--legs", "2", "--config", str(config)).legs == 3
    assert parse("--config", str(config), "--name", "Eva", "--tame", "false") == Animal("Eva", legs=3)


@pytest.mark.parametrize("text", ["#", "# Heading", "~", "null", "", "12", "[a]"])
def test_a_text_comes_back_from_the_config_as_it_is(tmp_path: Path, text: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(plain_options(Animal("Ivo", note=text), House(words=[text]))))
    animal, house = parse_options("d", Animal, House, arguments=["--config", str(config)])
    assert (animal, house) == (Animal("Ivo", note=text), House(words=[text]))
    assert parse(f"--config={config}").note == text
    assert parse("--note", "x", "--config", str(config)).note == text
    assert parse("--config", str(config), "--note", "~").note == "~"
    config.write_text("note: null\n")
    assert parse("Ivo", "--note", text, "--config", str(config)).note is None


@pytest.mark.parametrize(
    "content", ["legs: [", "legs: many\n", "wings: 2\n", "just words\n", "\x00", "- 1\n", "legs: -1\nname: Ivo\n"]
)
def test_a_broken_config_is_an_input_error(tmp_path: Path, content: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(content)
    with pytest.raises(InputError) as caught:
        parse("--name", "Ivo", "--config", str(config))
    assert str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name"),
        (["Ivo", "--wings", "2"], "--wings"),
        (["Ivo", "--leg", "2"], "--leg"),  # abbreviations would change meaning when an option is added
        (["Ivo", "--legs", "two"], "legs"),
        (["Ivo", "--legs", "2.5"], "legs"),
        (["Ivo", "--legs"], "legs"),
        (["Ivo", "--food", "meat"], "food"),
        (["Ivo", "--width", "wide"], "width"),
        (["Ivo", "--tame", "--legs", "-1"], "legs is -1"),
        (["Ivo", "--config", "/nowhere/config.yaml"], "/nowhere/config.yaml"),
        (["Ivo", "--config", "-"], "config is -, but must be a file"),
        (["Ivo", "--config", "--"], "--config has no value, but must name a file"),
        (["Ivo", "--config"], "--config has no value, but must name a file"),
        (["Ivo", "--config=-"], "config is -, but must be a file"),
        (["Ivo", "--config", "/dev/zero"], "config is /dev/zero, but must be a file"),
    ],
)
def test_bad_arguments_are_one_line_that_names_the_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["script.py"])

    def main() -> int:
        parse(*arguments)
        return 0

    with pytest.raises(SystemExit) as caught:
        run_script(main)
    captured = capsys.readouterr()
    assert caught.value.code == 2
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.endswith("\n")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_help_lists_every_option_with_its_description(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert "About animals." in text
    for option, description in (
        ("--name", "What it is called."),
        ("--shy", "Whether it hides."),
        ("--width", "metres"),
    ):
        assert option in text
        assert description in text


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("legs is 5,\n  but must be 4"), "error: legs is 5, but must be 4\n"),
        (OSError(28, "No space left on device", "runs/a"), "error: [Errno 28] No space left on device: 'runs/a'\n"),
    ],
)
def test_what_a_user_can_put_right_is_one_line(capsys: pytest.CaptureFixture[str], error: Exception, line: str) -> None:
    def main() -> int:
        print("so far")
        raise error

    with pytest.raises(SystemExit) as caught:
        run_script(main)
    assert caught.value.code == 2
    assert capsys.readouterr() == ("so far\n", line)


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    def main() -> int:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        run_script(main)


@pytest.mark.parametrize(("result", "code"), [(0, 0), (None, None), (143, 143)])
def test_the_exit_code_is_what_main_returns(result: int | None, code: int | None) -> None:
    with pytest.raises(SystemExit) as caught:
        run_script(lambda: result)
    assert caught.value.code == code


def test_ctrl_c_is_exit_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        run_script(main)
    assert caught.value.code == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_closed_standard_output_is_no_mistake_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as ended:
        run_script(lambda: sys.stdout.write("nobody reads this\n") and None)
    assert not ended.value.code


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_what_is_printed_is_utf_8_whatever_the_locale_is(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)

    def main() -> int:
        print("Zoë – 日本 caf\udce9")  # half a character, as a name that is not UTF-8 has it
        raise OSError(2, "No such file", "日本 caf\udce9")

    with pytest.raises(SystemExit) as ended:
        run_script(main)
    monkeypatch.undo()
    assert ended.value.code == 2
    said = {}
    for name, stream in streams.items():
        stream.seek(0)
        said[name] = stream.buffer.read().decode()
    assert said["stdout"] == "Zoë – 日本 caf\\udce9\n"
    assert said["stderr"].startswith("error: [Errno 2] No such file: '日本")


def test_a_reader_that_leaves_where_there_is_no_such_signal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(signal, "SIGPIPE", raising=False)
    stdout = (tmp_path / "out").open("w")
    monkeypatch.setattr(sys, "stdout", stdout)

    def main() -> int:
        raise BrokenPipeError

    with stdout, pytest.raises(SystemExit) as ended:
        run_script(main)
    assert ended.value.code == 141


def test_a_full_disk_behind_the_last_line_is_an_error_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(SystemExit) as caught:
        run_script(lambda: print("the last line"))
    monkeypatch.undo()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device\n"


@dataclass
class Reading:
    """What to read.

    Args:
        shelf: Where it stands.
        books: Which books.
        pages: How many pages.
    """

    shelf: str
    books: list[str] = field(default_factory=list)
    pages: int = 10


@pytest.mark.parametrize(
    ("arguments", "books"),
    [
        (["top"], []),
        (["top", "Emma"], ["Emma"]),
        (["top", "Emma", "# 7", "[a, b]", "--pages", "3"], ["Emma", "# 7", "[a, b]"]),
        (["--shelf", "top", "--books", "Emma"], ["Emma"]),
    ],
)
def test_a_list_in_the_last_place_takes_all_that_are_left(arguments, books):
    (options,) = parse_options("", Reading, positional=("shelf", "books"), arguments=arguments)
    assert (options.shelf, options.books) == ("top", books)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory:\n1 bytes"
        ),
        RuntimeError("Storage size calculation overflowed with sizes=[4000000000000, 1000000000000]"),
    ],
)
def test_sizes_for_which_there_is_no_memory_are_one_line(capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    def main() -> int:
        raise error

    with pytest.raises(SystemExit) as caught:
        run_script(main)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: there is not enough memory (")
    assert said.count("\n") == 1


def test_another_mistake_of_torch_keeps_its_traceback() -> None:
    def main() -> int:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        run_script(main)


@pytest.mark.parametrize("content", ["legs: &a [x]\nname: *a\n", "[" * 5000], ids=len)
def test_a_config_that_is_made_to_do_harm(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    for arguments in (["--config", f"{tmp_path}/config.yaml"], [f"--config={tmp_path}/config.yaml"]):
        with pytest.raises(InputError, match=r"config\.yaml is no file of options"):
            parse_options("", Animal, arguments=arguments)


def test_a_figure_of_hundreds_of_digits_is_shown_in_a_few() -> None:
    assert figures_line({"accuracy": 0.98123, "perplexity": sys.float_info.max}) == (
        "accuracy 0.9812, perplexity 1.798e+308"
    )
