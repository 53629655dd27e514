"""The small kernel language: programs as data, a checker, and an interpreter that is their meaning."""

from hapgop.tile.builder import Builder
from hapgop.tile.check import Checked, TileError, check, reads, writes
from hapgop.tile.index import Affine, Quotient, Size, Var, depth
from hapgop.tile.interpret import interpret
from hapgop.tile.program import (
    At,
    Binary,
    Broadcast,
    Buffer,
    Const,
    Fma,
    FromIndex,
    Kernel,
    Load,
    Loop,
    Prefetch,
    Range,
    Register,
    Select,
    Stage,
    Statement,
    Store,
    Transpose,
)

__all__ = [
    "Affine",
    "At",
    "Binary",
    "Broadcast",
    "Buffer",
    "Builder",
    "Checked",
    "Const",
    "Fma",
    "FromIndex",
    "Kernel",
    "Load",
    "Loop",
    "Prefetch",
    "Quotient",
    "Range",
    "Register",
    "Select",
    "Size",
    "Stage",
    "Statement",
    "Store",
    "TileError",
    "Transpose",
    "Var",
    "check",
    "depth",
    "interpret",
    "reads",
    "writes",
]
