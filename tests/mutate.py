"""Changes `zoo/core` and `zoo/decoding` in one place at a time, and asks whether the tests notice: mutation testing.

    python tests/mutate.py SHARE SEED     a share of each file's mutants, such as 0.3, and the seed they are drawn with
    mutmut results                        those that survived
    mutmut show NAME                      one of them

This is mutmut with two things more. A file's mutants are sampled, since all of them take hours. And functions with the
decorators below are mutated too: mutmut passes decorated functions by, since it cannot know what a decorator does, but
ours only switch autograd, and beam search and every backward pass stand on them.
"""

import random
import shutil
import sys
from typing import Any

import libcst
from mutmut.__main__ import cli
from mutmut.mutation import file_mutation

HARMLESS = {"torch.inference_mode()", "torch.no_grad()", "torch.autograd.function.once_differentiable"}

skips = file_mutation.MutationVisitor._skip_node_and_children
create_mutations = file_mutation.create_mutations


def skips_but_harmless(visitor: file_mutation.MutationVisitor, node: libcst.CSTNode) -> bool:
    if isinstance(node, libcst.FunctionDef):
        decorators = {libcst.Module([]).code_for_node(one.decorator) for one in node.decorators}
        if decorators & HARMLESS:
            return False
    return skips(visitor, node)


def some_mutations(filename: str, *args: Any) -> tuple[Any, ...]:
    module, mutations, *rest = create_mutations(filename, *args)
    # Those outside functions mutmut makes, but cannot run.
    able = [one for one in mutations if one.contained_by_top_level_function]
    chosen = set(random.Random(f"{seed} {filename}").sample(range(len(able)), round(share * len(able))))
    return module, [one for number, one in enumerate(able) if number in chosen], *rest


if __name__ == "__main__":
    share, seed = float(sys.argv[1]), int(sys.argv[2])
    shutil.rmtree("mutants", ignore_errors=True)
    file_mutation.MutationVisitor._skip_node_and_children = skips_but_harmless  # type: ignore[method-assign]
    file_mutation.create_mutations = some_mutations  # type: ignore[assignment]
    cli(["run", "--max-children", "1"])
