"""config.yaml: the options of a run, which may be a stranger's or another program's."""

from pathlib import Path
from typing import Any

import yaml

from zoo.errors import InputError

MAX_BYTES = 2**20


class _PlainLoader(yaml.SafeLoader):
    """Values alone: nothing is built of them, and none is said twice by an alias, of which a few make gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*), which options do not need")
        return super().compose_node(parent, index)


def read_options_file(file: Path) -> Any:
    """What a YAML file has in it; options, if it is one of them.

    Raises:
        InputError: it cannot be read, is longer than MAX_BYTES, or is no YAML of plain values.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{file} has more than {MAX_BYTES:,} bytes: expected a file of options")
        return _PlainLoader(content.decode("utf-8")).get_single_data()
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): expected a file of options") from error
    except Exception as error:  # any type there is: of a date such as 2024-13-45, of brackets a thousand deep
        raise InputError(
            f"{file} is no file of options ({str(error)[:200]}): expected YAML, a name: value a line"
        ) from error
