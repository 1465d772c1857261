"""What the run to start from (`--init_from`) has decided: no option may ask for something else."""

from dataclasses import fields, replace
from typing import Any, TypeVar

from zoo.data.tokenizer import TextTokenizer
from zoo.errors import InputError

Options = TypeVar("Options")

OF_TOKENIZERS = ("level", "lowercase", "pretokenized")


def with_values_of(source: str, decided: dict[str, Any], tokenizers: list[TextTokenizer], options: Options) -> Options:
    """The options with what `source` has decided, which config.yaml is then to say too.

    Args:
        source: what messages call it.
        decided: {option: value}, but for what its tokenizers have decided.
        tokenizers: its tokenizers, alike but in size; options of how to make one have nothing to say beside them.
        options: a data class. A value that is the usual one counts as not asked for.

    Raises:
        InputError: another value was asked for.
    """
    # Not dataclass fields of `Options`, of which a type checker knows nothing.
    usual = {field.name: field.default for field in fields(options)}  # type: ignore[arg-type]
    decided = decided | {name: getattr(tokenizers[0], name) for name in OF_TOKENIZERS if name in usual}
    for name, value in decided.items():
        if getattr(options, name) not in (value, usual[name]):
            raise InputError(
                f"{name} is {getattr(options, name)}, but {source} has {value}: leave --{name} out, or start from "
                "another run"
            )
    sizes = {tokenizer.vocab_size for tokenizer in tokenizers}
    for name, same in (("tokenizer_size", sizes), ("tokenizer_characters", set()), ("min_frequency", set())):
        if name in usual and getattr(options, name) not in {usual[name], *same}:
            raise InputError(
                f"{name} is {getattr(options, name)}, but the tokenizer is that of {source}, with "
                f"{' and '.join(map(str, sorted(sizes)))} tokens: leave --{name} out"
            )
    return replace(options, **decided)  # type: ignore[type-var]
