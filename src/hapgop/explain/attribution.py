"""Why this label: which pixels of the image spoke for it, by three methods."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from captum.attr import IntegratedGradients, Occlusion
from numpy.typing import NDArray

from hapgop.errors import InputError
from hapgop.explain.opened import Array, Model, Opened, image_like, opened, prepared

METHODS: Final = ("occlusion", "gradcam", "integrated")
_STEPS = 32
# A map of fewer rows tells too little of where.
_ROWS = 7


@dataclass(frozen=True, eq=False)
class Evidence:
    """What speaks for class `label`: `heat`, float32 (h, w), positive where the image speaks for it.

    "occlusion": by how much the class's score falls when a patch of `patch` pixels is covered, in the units of
    the score; "gradcam": the maps of `layer`, each weighted by its pull on the score, without a unit;
    "integrated": each pixel's share of the score on the way from an image of zeros (in colour, summed).
    """

    method: str
    label: int
    heat: Array
    layer: str | None = None
    patch: tuple[int, int] | None = None


@dataclass(frozen=True)
class Change:
    """Cover the patch at (top, left) of `patch` pixels with zeros, and the answer is `label`, no longer `was`."""

    top: int
    left: int
    patch: tuple[int, int]
    was: int
    label: int


@dataclass(frozen=True)
class Mattered:
    """A channel of a layer and its share in a score: the sum of its values, each times its pull (derivative)."""

    layer: str
    channel: int
    share: float


def evidence(model: Model, image: Any, label: int | None = None, method: str | None = None) -> Evidence:
    """Where in the image the evidence for `label` lies (None: for the label that the net gives).

    The method, where none is named: covering for small images, as that is the most direct, Grad-CAM for others.
    For Grad-CAM the layer is the last whose map still has some seven rows and columns. Raises InputError for a
    label or method that there is not, and for a net that has no such layer.

    Sources: Zeiler and Fergus 2014 (occlusion); Selvaraju et al. 2017 (Grad-CAM); Sundararajan, Taly and Yan 2017.
    """
    net = opened(model, image)
    x = torch.from_numpy(prepared(model, image))[None]
    label = _label(net, x, label)
    c, h, w = x.shape[1:]
    method = method or ("occlusion" if h * w <= 64 * 64 else "gradcam")
    if method == "occlusion":
        patch = patch_for(h, w)
        stride = (max(1, patch[0] // 2), max(1, patch[1] // 2))
        with torch.no_grad():
            found = Occlusion(net.steps).attribute(
                x, sliding_window_shapes=(c, *patch), strides=(c, *stride), target=label, perturbations_per_eval=16
            )
        # Captum shares out a channel's drop among the channels: one patch covers them all.
        return Evidence(method, label, _plain(found.mean(1)), patch=patch)
    if method == "gradcam":
        layer = layer_for(net)
        found = _gradcam(net, x, label, layer)
        sized = torch.nn.functional.interpolate(found, (h, w), mode="bilinear", align_corners=False)
        return Evidence(method, label, _plain(sized[:, 0]), layer=layer)
    if method == "integrated":
        found = IntegratedGradients(net.steps).attribute(x, target=label, n_steps=_STEPS, internal_batch_size=8)
        return Evidence(method, label, _plain(found.sum(1)))
    raise InputError(f"There is no method {method!r} of finding evidence; there are {', '.join(METHODS)}.")


def _gradcam(net: Opened, x: torch.Tensor, label: int, layer: str) -> torch.Tensor:
    """As Captum's LayerGradCam does it, whose hook on the layer would catch the results of other threads too."""
    values = net.steps.until(x.requires_grad_(), net.graph.output)
    (gradient,) = torch.autograd.grad(values[net.graph.output][0, label], values[layer])
    found: torch.Tensor = (gradient.mean((2, 3), keepdim=True) * values[layer]).sum(1, keepdim=True).detach()
    return found


def layer_for(net: Opened) -> str:
    """The layer for Grad-CAM: the last convolution whose map still shows where."""
    maps = [n.name for n in net.graph.nodes if n.op == "conv2d" and min(net.sizes[n.name][1:]) > 1]
    if not maps:
        raise InputError("The net has no convolution whose result is a map; Grad-CAM needs one.")
    large = [name for name in maps if min(net.sizes[name][1:]) >= _ROWS]
    return (large or maps)[-1]


def channels_that_mattered(
    model: Model, image: Any, label: int | None = None, layer: str | None = None, top: int = 6
) -> tuple[Mattered, ...]:
    """The channels of one layer that spoke most for a label, the strongest first.

    layer: the one that Grad-CAM takes, if none is named. Raises InputError as `evidence` does.
    """
    net = opened(model, image)
    layer = layer_for(net) if layer is None else net.node(layer).name
    x = torch.from_numpy(prepared(model, image))[None].requires_grad_()
    label = _label(net, x, label)
    values = net.steps.until(x, net.graph.output)
    (gradient,) = torch.autograd.grad(values[net.graph.output][0, label], values[layer])
    shares = (gradient[0] * values[layer][0]).reshape(image_like(net.sizes[layer])[0], -1).sum(1).detach().numpy()
    order = np.argsort(-shares, kind="stable")[:top]
    return tuple(Mattered(layer, int(channel), float(shares[channel])) for channel in order)


def strongest_place(model: Model, image: Any, label: int | None = None) -> tuple[str, tuple[int, int]]:
    """Grad-CAM's layer, and the unit (oh, ow) of it that speaks most for the label."""
    net = opened(model, image)
    x = torch.from_numpy(prepared(model, image))[None]
    layer = layer_for(net)
    heat = _gradcam(net, x, _label(net, x, label), layer)[0, 0].numpy()
    oh, ow = np.unravel_index(int(heat.argmax()), heat.shape)
    return layer, (int(oh), int(ow))


def what_changes(
    model: Model, image: Any, first: int = 0, most: int | None = None, mirror: bool = False
) -> tuple[Change, ...]:
    """The covered patches with which the net gives another answer; () where none of them does.

    Each place is a run of the net, which of a large one takes long: `first` and `most` choose some of the `coverings`.
    mirror: the answer is that of the mean scores of an image and of its mirror image, as a predictor's may be.
    """
    net = opened(model, image)
    x = torch.from_numpy(prepared(model, image))[None]
    h, w = x.shape[2:]
    patch = patch_for(h, w)
    looked = coverings(h, w)[first : None if most is None else first + most]
    found = []
    with torch.no_grad():
        (was,) = _answers(net, x, mirror)
        for start in range(0, len(looked), 16):
            some = looked[start : start + 16]
            covered = x.repeat(len(some), 1, 1, 1)
            for row, (top, left) in enumerate(some):
                covered[row, :, top : top + patch[0], left : left + patch[1]] = 0
            labels = _answers(net, covered, mirror)
            found += [Change(*at, patch, was, y) for at, y in zip(some, labels, strict=True) if y != was]
    return tuple(found)


def _answers(net: Opened, x: torch.Tensor, mirror: bool) -> list[int]:
    scores = net.steps(x)
    if mirror:
        scores = (scores + net.steps(x.flip(3))) / 2
    labels: list[int] = scores.argmax(1).tolist()
    return labels


def coverings(h: int, w: int) -> list[tuple[int, int]]:
    """Where the patches that `what_changes` covers lie, (top, left), row by row; each overlaps its neighbours by half.

    >>> coverings(4, 3)
    [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    """
    patch = patch_for(h, w)
    return [(top, left) for top in _starts(h, patch[0]) for left in _starts(w, patch[1])]


def patch_for(h: int, w: int) -> tuple[int, int]:
    """A sixth of each side or two pixels: small enough to say where, large enough to hide something."""
    return min(h, max(2, round(h / 6))), min(w, max(2, round(w / 6)))


def _starts(side: int, patch: int) -> list[int]:
    step = max(1, patch // 2)
    return sorted({*range(0, side - patch + 1, step), side - patch})


def _label(net: Opened, x: torch.Tensor, label: int | None) -> int:
    classes = net.sizes[net.graph.output]
    if len(classes) != 1:
        raise InputError(f"The net gives {classes}, not one score for each label; there is no label to explain.")
    if label is None:
        with torch.no_grad():
            return int(net.steps(x).argmax())
    if not 0 <= label < classes[0]:
        raise InputError(f"label is {label}; this net has the labels 0 to {classes[0] - 1}.")
    return label


def _plain(heat: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(heat[0].detach().numpy(), np.float32)
