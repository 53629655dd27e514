"""The arithmetic of windows: sizes, formulas, receptive fields, and errors that say what would work."""

from hapgop.shape.conv import ConvShape
from hapgop.shape.error import ShapeError
from hapgop.shape.padding import Padding
from hapgop.shape.pool import PoolShape
from hapgop.shape.receptive import ReceptiveField
from hapgop.shape.unread import UnreadInputWarning, warn_if_unread, without_warnings

__all__ = [
    "ConvShape",
    "Padding",
    "PoolShape",
    "ReceptiveField",
    "ShapeError",
    "UnreadInputWarning",
    "warn_if_unread",
    "without_warnings",
]
