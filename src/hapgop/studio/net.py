"""The sections about the net: filters, feature maps, layers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hapgop.program import LayerInfo
from hapgop.studio.markup import Html, fill, join, part
from hapgop.studio.pictures import colour, png, rendering, signed
from hapgop.studio.words import Section, count, large, several

if TYPE_CHECKING:  # a page needs no PyTorch
    from hapgop.explain import FeatureMap, Filters

FILTERS = 64
# Input channels of a filter side by side, where they are not red, green and blue.
SLICES = 8
# So many layers of a deep net, evenly from its first to its last.
STEPS = 24
# So many channels of a layer at once, those that vary most; the others unfold, where they are few and small.
CHANNELS = 16
MORE_CHANNELS = 112
SMALL = 64
# A vector is a strip of so many values; the classes' names fit under so few.
STRIP = 256
NAMED = 12
# Layers that pass their values on: there is nothing new to see.
UNCHANGED = {"flatten", "dropout", "identity"}


def filters(found: "Filters") -> Section:
    """The first layer's weights as small pictures."""
    oc, ic, kh, kw = found.array.shape
    if ic == 3:
        uris = [colour(weight, _largest(weight)) for weight in found.array[:FILTERS]]
        key = "In colour, around a middle grey: the patch of the image to which each filter answers most."
    else:
        slices = found.array[:FILTERS, :SLICES]
        uris = [signed(np.hstack(list(weight)), _largest(weight)) for weight in slices]
        key = "Orange adds, blue takes away; each filter is in its own scale."
        key += f" Of {ic} input channels, the first {min(ic, SLICES)} side by side." if ic > 1 else ""
    tiles = (part("filter", uri=uri, number=number, layer=found.layer) for number, uri in enumerate(uris))
    body = part(
        "filters",
        layer=found.layer,
        shown=several(oc, "filter") if oc <= FILTERS else f"the first {FILTERS} of {oc} filters",
        kh=kh,
        kw=kw,
        key=key,
        wide="" if ic in (1, 3) else "wide",
        tiles=join(tiles),
    )
    return Section("filters", "Filters", "What does the first layer look for?", body)


def feature_maps(
    maps: Sequence["FeatureMap"], image: NDArray[np.uint8], layers: Sequence[LayerInfo], classes: Sequence[str]
) -> Section:
    """One image on its way through every layer; the last layer's values carry the names of the classes."""
    known = {layer.name: layer for layer in layers}
    every = [one for one in maps if one.op.lower() not in UNCHANGED]
    shown = [every[index] for index in np.linspace(0, len(every) - 1, min(STEPS, len(every))).round().astype(int)]
    size = (image.shape[0], image.shape[1])
    steps = (_step(one, known.get(one.layer), size, classes if one is shown[-1] else ()) for one in shown)
    body = part(
        "maps",
        h=size[0],
        w=size[1],
        channels="grey" if image.ndim == 2 or image.shape[2] == 1 else "colour",
        kind=rendering(image),
        uri=png(image),
        steps=join(steps),
        only=f"Of {len(every)} layers, {STEPS} are shown." if len(every) > STEPS else "",
    )
    return Section("maps", "Feature maps", "What does each layer make of one image?", body)


def _step(one: "FeatureMap", layer: LayerInfo | None, image: tuple[int, int], classes: Sequence[str]) -> Html:
    c, h, w = one.array.shape
    return part(
        "step",
        op=one.op,
        layer=one.layer,
        size=f"{c} × {h} × {w}" if h * w > 1 else several(c, "value"),
        formula=part("formula", formula=layer.formula) if layer and layer.formula else "",
        seen=_seen(layer, image) if layer else "",
        pictures=_maps(one) if h * w > 1 else _strip(one, classes),
    )


def _seen(layer: LayerInfo, image: tuple[int, int]) -> Html:
    """The part of the image behind the value in the middle of the layer, drawn to scale."""
    h, w = image
    field = layer.receptive_field
    oh, ow = layer.output_shape[1:] if len(layer.output_shape) == 3 else (1, 1)
    top, left = field.start[0] + oh // 2 * field.jump[0], field.start[1] + ow // 2 * field.jump[1]
    bottom, right = min(top + field.size[0], h), min(left + field.size[1], w)
    top, left = max(top, 0), max(left, 0)
    return part(
        "seen",
        around_w=w + 2,
        around_h=h + 2,
        w=w,
        h=h,
        left=left,
        top=top,
        width=right - left,
        height=bottom - top,
        rows=min(field.size[0], h),
        columns=min(field.size[1], w),
    )


def _maps(one: "FeatureMap") -> Html:
    c, h, w = one.array.shape
    spread = np.nan_to_num(one.array).astype(np.float64).reshape(c, -1).std(axis=1)
    order = [int(channel) for channel in np.argsort(-spread, kind="stable")]
    shown, rest = _tiles(one, order[:CHANNELS]), order[CHANNELS:]
    if not rest:
        return shown
    if max(h, w) > SMALL or len(rest) > MORE_CHANNELS:
        return join([shown, part("note", text=f"the {CHANNELS} channels that vary most, of {c}")])
    return join([shown, part("other channels", others=several(len(rest), "other channel"), tiles=_tiles(one, rest))])


def _tiles(one: "FeatureMap", channels: Sequence[int]) -> Html:
    planes = ((channel, one.array[channel]) for channel in sorted(channels))
    tiles = (
        part("tile", uri=signed(plane, _largest(plane)), layer=one.layer, channel=channel) for channel, plane in planes
    )
    return part("tiles", tiles=join(tiles))


def _strip(one: "FeatureMap", classes: Sequence[str]) -> Html:
    values = one.array.reshape(1, -1)
    strip = part("strip", uri=signed(values[:, :STRIP], _largest(values)), layer=one.layer)
    if values.size == len(classes) <= NAMED:
        return join([strip, part("under", names=join(fill("<li>$name</li>", name=name) for name in classes))])
    if values.size > STRIP:
        return join([strip, part("note", text=f"the first {STRIP} of {values.size}")])
    return strip


def _largest(values: NDArray[Any]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.abs(finite).max()) if finite.size else 0.0


def table(layers: Sequence[LayerInfo]) -> Section:
    """Every layer in a row: shapes, how they come about, what they cost, what they see."""
    # What the first layer reads is the image, of which no unit sees more than all.
    image = layers[0].input_shape[1:] if layers else ()
    rows = (
        part(
            "layer",
            name=layer.name,
            op=layer.op,
            filter=layer.filter,
            into=_size(layer.input_shape),
            out=_size(layer.output_shape),
            formula=layer.formula,
            parameters=count(layer.parameters) if layer.parameters else "",
            macs=count(layer.macs),
            short=large(layer.macs) if layer.macs else "",
            field=_size([min(sides) for sides in zip(layer.receptive_field.size, image, strict=True)]),
        )
        for layer in layers
    )
    body = part(
        "layers",
        parameters=several(sum(layer.parameters for layer in layers), "parameter"),
        macs=large(sum(layer.macs for layer in layers)),
        rows=join(rows),
    )
    return Section("layers", "Layers", "What is it made of?", body)


def _size(shape: Sequence[int]) -> str:
    return " × ".join(str(size) for size in shape)
