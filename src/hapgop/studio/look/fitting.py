"""What of a net fits into one file: whole windows, of a large net those of some layers and channels."""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hapgop.explain.opened import Opened
from hapgop.explain.window import channels_read, filters_of

# Of a layer that does not fit whole, so many channels.
_FEW = 8

Arrays = Mapping[str, NDArray[Any]]


@dataclass
class Fitting:
    """What is kept: by layer, the channels of its map, the rows of its weights, and the channels with a window."""

    maps: dict[str, list[int]] = field(default_factory=dict)
    weights: dict[str, list[int]] = field(default_factory=dict)
    windows: dict[str, list[int]] = field(default_factory=dict)


def everything(net: Opened) -> Fitting:
    """All of a net."""
    of = {name: list(range(net.sizes[name][0])) for name in net.layers}
    return Fitting(of, {name: of[name] for name in net.layers if net.nodes[name].weighted}, of)


def fitting(net: Opened, maps: Arrays, room: int, first: Sequence[str], liked: Mapping[str, Sequence[int]]) -> Fitting:
    """What fits into `room` bytes, compressed.

    The windows of the layers in `first` come before all, then a picture of each layer, then the windows of the other
    convolutions and of the rest, those that take least first. A window of a channel needs what it reads, and its
    filter. liked: channels that are to be among those kept, where a layer has too many.
    """
    whole = everything(net)
    packing = _Packing(net, maps)
    if packing.fits(whole, room):
        return whole
    chosen = _chosen(net, maps, liked)
    found = Fitting()

    def take(more: Fitting) -> None:
        nonlocal room
        cost = packing.cost(more, found)
        if cost > room:
            return
        room -= cost
        for part in ("maps", "weights", "windows"):
            kept = getattr(found, part)
            for name, channels in getattr(more, part).items():
                kept[name] = sorted({*kept.get(name, ()), *channels})

    windows = {name: _window(net, name, chosen[name]) for name in net.layers}
    for name in first:
        take(windows[name])
    for name in net.layers:
        take(Fitting({name: chosen[name][:1]}))
    by_cost = sorted(net.layers, key=lambda name: packing.cost(windows[name]))
    convolutions = [name for name in by_cost if net.nodes[name].weighted]
    for name in dict.fromkeys((*convolutions, *by_cost)):
        take(windows[name])
    return found


def _window(net: Opened, name: str, channels: list[int]) -> Fitting:
    """What the windows of these channels need."""
    node = net.nodes[name]
    found = Fitting({name: channels}, {name: channels} if node.weighted else {}, {name: channels})
    for source in node.inputs:
        if source == net.graph.input:
            continue
        count = net.sizes[source][0]
        if node.op in ("conv2d", "conv_transpose2d", "pointwise"):
            read: Iterable[int] = {int(k) for oc in channels for k in channels_read(node, count, oc)}
        elif count == net.sizes[name][0]:
            read = channels
        else:
            read = range(count)
        found.maps[source] = sorted({*found.maps.get(source, ()), *read})
    return found


def _chosen(net: Opened, maps: Arrays, liked: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Some channels of each layer: those liked, else those of what it reads, where it keeps channels apart, else those
    that vary most. So one and the same channel can be followed from a convolution on."""
    found: dict[str, list[int]] = {}
    for name, node in ((name, net.nodes[name]) for name in net.layers):
        count = net.sizes[name][0]
        if count <= _FEW or (maps[name].ndim == 1 and not node.weighted):
            found[name] = list(range(count))
            continue
        before = found.get(node.inputs[0], []) if not node.weighted else []
        if before and net.sizes[node.inputs[0]][0] == count:
            order: Iterable[int] = before
        else:
            flat = maps[name].reshape(count, -1)
            spread = flat.std(axis=1) if flat.shape[1] > 1 else np.abs(flat[:, 0])
            order = np.argsort(-spread, kind="stable").tolist()
        found[name] = list(dict.fromkeys((*liked.get(name, ()), *order)))[:_FEW]
    return found


class _Packing:
    """How many bytes channels take, compressed and written in base64."""

    def __init__(self, net: Opened, maps: Arrays) -> None:
        self._known: dict[tuple[str, str, int], int] = {}
        self._data: dict[str, Callable[[str], NDArray[Any]]] = {
            "maps": lambda name: maps[name],
            "weights": lambda name: filters_of(net, net.nodes[name]),
        }

    def fits(self, wanted: Fitting, room: int) -> bool:
        """Found out without compressing what is far too large for it."""
        raw = sum(self._data[part](name).nbytes for part in self._data for name in getattr(wanted, part))
        return raw <= 4 * room and self.cost(wanted) <= room

    def cost(self, more: Fitting, found: Fitting | None = None) -> int:
        """Of what is in `more`, and not in `found`."""
        total = 0
        for part in self._data:
            for name, channels in getattr(more, part).items():
                held = set(getattr(found, part).get(name, ())) if found else set()
                total += sum(self._size(part, name, channel) for channel in channels if channel not in held)
        return total

    def _size(self, part: str, name: str, channel: int) -> int:
        if (part, name, channel) not in self._known:
            row = np.ascontiguousarray(self._data[part](name)[channel], np.float32)
            # A few numbers are too little to be compressed by themselves.
            taken = row.nbytes if row.nbytes <= 64 else len(zlib.compress(row.tobytes(), 1))
            self._known[part, name, channel] = -(-4 * taken // 3)
        return self._known[part, name, channel]
