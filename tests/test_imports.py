"""What importing an architecture may not bring with it: plotting, web and data libraries start slowly."""

import subprocess
import sys

HEAVY = (
    "matplotlib",
    "huggingface_hub",
    "datasets",
    "accelerate",
    "jsonargparse",
    "tensorboard",
    "torchmetrics",
    "faker",
    "sacrebleu",
    "unicode_rbnf",
    "pyarrow",
)


def test_an_architecture_imports_no_plotting_web_or_data_library():
    imports = "import sys, zoo.one_to_one, zoo.one_to_many, zoo.many_to_one, zoo.seq2seq"
    code = f"{imports}; print(*[name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
