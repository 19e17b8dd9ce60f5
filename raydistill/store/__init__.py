"""The signal store: answers of teachers, filed by content. No Ray here."""

from raydistill.store.block import Block, Pick, encode_signal, read_signal
from raydistill.store.codecs import Codecs
from raydistill.store.keys import Shelf, part_names, row_keys
from raydistill.store.place import Place, place_faults
from raydistill.store.store import ShelfStore

__all__ = [
    "Block",
    "Codecs",
    "Pick",
    "Place",
    "Shelf",
    "ShelfStore",
    "encode_signal",
    "part_names",
    "place_faults",
    "read_signal",
    "row_keys",
]
