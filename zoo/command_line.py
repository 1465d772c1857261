"""From typed options to a script's command line, and from an error to one line and exit code 2."""

import itertools
import os
import re
import signal
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from zoo.errors import InputError, OtherProcessError, as_input_error
from zoo.options_file import read_options_file

# What torch says, which has no type of its own for it on a CPU: no room, or a size that no number of bytes can have.
_TOO_LARGE = re.compile("can't allocate|out of memory|not enough memory|overflow", re.IGNORECASE)


class _HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps a description's lines as they are: they hold example commands."""


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> Any:
        raise InputError(" ".join(message.split()))


def parse_options(
    description: str,
    *classes: type[Any],
    positional: tuple[str, ...] = (),
    arguments: list[str] | None = None,
) -> list[Any]:
    """Read the command line into one instance of each data class; their fields become flat options.

    `--config FILE` takes a YAML file of options; what stands after it on the command line wins. A bool option may
    be given without a value, a list of strings one at a time (`--stop A --stop B`).

    Args:
        description: what the script does, for `--help`.
        classes: data classes whose docstrings describe their fields.
        positional: options that may also be given without their names, in this order, before all others; the last
            one takes all that are left if it is a list of strings.
        arguments: in place of the command line's.

    Raises:
        InputError: an unknown option, or a value of the wrong type or out of its range.
    """
    parser = _Parser(description=description, formatter_class=_HelpFormatter, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file of options; a run folder has one.")
    flags, lists, texts = set(), set(), set()
    for options in classes:
        parser.add_class_arguments(options, fail_untyped=True)
        flags |= {f"--{field.name}" for field in fields(options) if field.type in (bool, "bool")}
        lists |= {f"--{field.name}" for field in fields(options) if field.type in (list[str], "list[str]")}
        texts |= {field.name for field in fields(options) if field.type in (str | None, "str | None")}
    arguments = sys.argv[1:] if arguments is None else arguments
    rest: list[str] = []
    if positional and f"--{positional[-1]}" in lists:
        positional, (last,) = positional[:-1], positional[-1:]
        arguments, rest = _without_rest(arguments, len(positional))
    arguments = _with_names(arguments, positional)
    files = {}
    for name in _values_of(arguments, "--config"):
        if name == "--":  # or nothing, which `_values_of` gives so
            raise InputError("--config has no value, but must name a file")
        if name == "-" or (Path(name).exists() and not Path(name).is_file()):
            raise InputError(f"config is {name}, but must be a file")  # the parser would read what has no end
        if Path(name).is_file():
            files[name] = read_options_file(Path(name))  # what the parser would take no offence at
    namespace = parser.parse_args(_with_added_words(_with_flag_values(arguments, flags), lists))
    values = {name: value for name, value in namespace.as_dict().items() if name != "config"}
    # As YAML, "# Heading" and "~" are nothing; as a text they are what they are.
    given = _texts_given(arguments, texts, files)
    values |= {name: given.get(name) for name in texts if values[name] is None}
    if rest:
        values[last] = rest  # as they are: as YAML, "[a]" would be a list
    with as_input_error():
        return [options(**{field.name: values[field.name] for field in fields(options)}) for options in classes]


def plain_options(*options: Any) -> dict[str, Any]:
    """Data classes of options as one dict of plain values, as `--config` takes them back."""
    merged = {name: value for part in options for name, value in asdict(part).items()}
    return {name: str(value) if isinstance(value, Path) else value for name, value in merged.items()}


def _without_rest(arguments: list[str], count: int) -> tuple[list[str], list[str]]:
    """The arguments without those bare ones in front that come after the first `count`, and these."""
    bare = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    return bare[:count] + arguments[len(bare) :], bare[count:]


def _with_names(arguments: list[str], positional: tuple[str, ...]) -> list[str]:
    """`RUN --seed 1` means `--run RUN --seed 1`."""
    bare = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    if len(bare) > len(positional):
        raise InputError(f"{bare[len(positional)]!r} was not expected: options begin with --")
    named = [part for name, value in zip(positional, bare, strict=False) for part in (f"--{name}", value)]
    return named + arguments[len(bare) :]


def _with_flag_values(arguments: list[str], flags: set[str]) -> list[str]:
    """`--overwrite` by itself means `--overwrite true`."""
    result = []
    for argument, following in itertools.pairwise([*arguments, "--"]):
        result.append(argument)
        if argument in flags and following.lower() not in ("true", "false", "yes", "no"):
            result.append("true")
    return result


def _with_added_words(arguments: list[str], lists: set[str]) -> list[str]:
    """`--stop A --stop B` means `--stop+ A --stop+ B`, which is how jsonargparse adds to a list."""
    parts = (argument.partition("=") for argument in arguments)
    return [f"{name}+{equals}{value}" if name in lists else name + equals + value for name, equals, value in parts]


def _texts_given(arguments: list[str], names: set[str], files: dict[str, Any]) -> dict[str, Any]:
    """What `names` are last given as, by the arguments themselves or by one of the `files` that they name."""
    given: dict[str, Any] = {}
    for option, value in _pairs(arguments):
        if option == "--config":
            content = files.get(value)
            given |= content if isinstance(content, dict) else {}
        elif option.removeprefix("--") in names:
            given[option.removeprefix("--")] = value
    return given


def _values_of(arguments: list[str], option: str) -> list[str]:
    return [value for name, value in _pairs(arguments) if name == option]


def _pairs(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """Each argument and its value: what follows it, or what it has behind `=`."""
    for argument, following in itertools.pairwise([*arguments, "--"]):
        name, equals, value = argument.partition("=")
        yield name, value if equals else following


def figures_line(figures: Mapping[str, float]) -> str:
    """Figures as a report shows them: "accuracy 0.9812, loss 0.0713"; those of a run gone wrong may have 300 digits."""
    return ", ".join(f"{name} {value:{'.4f' if abs(value) < 1e9 else '.4g'}}" for name, value in figures.items())


def run_script(main: Callable[[], int | None]) -> None:
    """Run `main` and exit with what it returns. What a user can put right is one line and exit code 2."""
    # `datasets` would draw its own over ours, and before an error's one line.
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    if sys.stdout is None:  # closed, as `>&-` does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for the whole process)
    for stream in (sys.stdout, sys.stderr):
        # Whatever the locale is, and for what no UTF-8 can have: a file's name may be any bytes.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has left, as `| head` does. The interpreter flushes once more, which must find a place to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + getattr(signal, "SIGPIPE", 13)  # Windows has none
    except (InputError, OSError, OtherProcessError) as error:
        with suppress(OSError):
            sys.stdout.flush()
        if message := " ".join(str(error).split()):
            print(f"error: {message}", file=sys.stderr)
        code = 2
    except (MemoryError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, RuntimeError) and not _TOO_LARGE.search(reason):
            raise
        print(
            f"error: there is not enough memory ({reason[:200] or 'out of memory'}): lower the sizes asked for, such "
            "as --batch_size or --hidden_size",
            file=sys.stderr,
        )
        code = 2
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
