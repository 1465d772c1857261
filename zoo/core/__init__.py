"""The shared recurrent core: cells, stack, attention, decoder. Tensors only."""

from zoo.core.attention import ATTENTIONS, Attention, Memory
from zoo.core.bridge import Bridge
from zoo.core.cells import CELLS, Cell, get_cell
from zoo.core.decoder import PackedDecoder, RecurrentDecoder
from zoo.core.recurrent import RecurrentCore
from zoo.core.state import State, detach, reorder, replace_rows
from zoo.core.weights import CellWeights

__all__ = [
    "ATTENTIONS",
    "CELLS",
    "Attention",
    "Bridge",
    "Cell",
    "CellWeights",
    "Memory",
    "PackedDecoder",
    "RecurrentCore",
    "RecurrentDecoder",
    "State",
    "detach",
    "get_cell",
    "reorder",
    "replace_rows",
]
