"""A classifier's loss on a batch, what a net is told of it, and its derivative, in one pass over the logits z.

With p = softmax(z) and what each image should say of each class in t, the loss of an image is minus the sum of
t_c log p_c, and its derivative by the logits p_c (the sum of t) - t_c. Of an image whose label is y, or which mixup
(Zhang et al., arXiv 1710.09412) made of two,

    w_c = own [c = y] + other [c = second];    t_c = weight_c (keep w_c + each)

where keep and each smooth labels (Szegedy et al., arXiv 1512.00567): 1 - smoothing, and smoothing / classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import ceil

from hapgop.algorithms import costs
from hapgop.algorithms.maps.functions import exp_of_negative, log_from_one
from hapgop.algorithms.recipe import Recipe
from hapgop.algorithms.row import Row
from hapgop.machine import Machine
from hapgop.tile import Affine, Builder, Kernel

_CHUNK = 256  # vectors of a work item, about
_CYCLES = 80  # of a vector
TENSORS = 8
SUMS = 4  # numbers of an image in `sums`


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """The loss of so many images of so many classes, float32.

    Tensors, in the order in which a kernel takes their addresses: settings (scale, own, other, keep, each); logits
    (images, classes); y and second, (images,) numbers of classes; names, (classes,) 0, 1, 2 ...; weights (classes,);
    gradient (images, classes), scale times the loss's derivative by the logits; sums (images, 4), an image's loss; its
    loss by w for t, without smoothing and weights; by how much its largest logit is right; and nothing. Of several
    logits that are largest, each counts by its share: a net that says the same of all classes is right by chance.
    """

    images: int
    classes: int


def seconds(loss: CrossEntropy, machine: Machine) -> float:
    """The predicted time on one core."""
    row = Row(loss.classes, machine.lanes("float32"))
    vectors = loss.images * (row.size / row.lanes + 1)
    bytes_ = 2 * 4 * loss.images * loss.classes
    return max(vectors * _CYCLES / costs.CLOCK, costs.traffic(bytes_, machine)) + costs.CALL


def recipe(loss: CrossEntropy, machine: Machine) -> Recipe:
    """How to do it."""
    row = Row(loss.classes, machine.lanes("float32"))
    each = max(1, _CHUNK * row.lanes // row.size)
    return Recipe(
        key=f"cross entropy {loss.classes} {machine.cpu} {machine.isa} {machine.vector_bytes} {machine.registers}",
        build=partial(_kernel, row, each),
        sizes=(loss.images,),
        private=(row.private, row.private),
        items=ceil(loss.images / each),
        tiles=f"{each} images",
    )


def _kernel(row: Row, each: int) -> Kernel:
    k = Builder("cross_entropy", "float32", row.lanes)
    n, c = k.size("images", low=0), row.channels
    settings, logits = k.buffer("settings", 5, "in"), k.buffer("logits", n * c, "in")
    y, second = k.buffer("y", n, "in"), k.buffer("second", n, "in")
    names, weights = k.buffer("names", c, "in"), k.buffer("weights", c, "in")
    gradient, sums = k.buffer("gradient", n * c, "out"), k.buffer("sums", n * SUMS, "out")
    exps, wanted = k.buffer("exps", row.private, "private"), k.buffer("wanted", row.private, "private")
    with (
        k.stage("images", ("chunk", (n + (each - 1)) // each)) as (chunk,),
        k.loop("image", chunk * each, [chunk * each + each, n]) as image,
    ):
        at, zero, one = image * c, k.const(0.0), k.const(1.0)
        row.mark(k, exps)
        most = row.largest(k, lambda i, count: k.load(logits, at + i, count))
        total, targets, largest, right, plain, lossy = (k.const(0.0) for _ in range(6))

        def look(i: Affine, count: int) -> None:
            below = k.sub(k.load(logits, at + i, count), most)
            e = row.marked(k, exps, exp_of_negative(k, below), count)
            name = k.load(names, i, count)
            w = k.select("equal", name, k.broadcast(y, image), k.broadcast(settings, 1), zero)
            w = k.add(w, k.select("equal", name, k.broadcast(second, image), k.broadcast(settings, 2), zero))
            # No class lies beyond the last one: what is loaded there are zeros, and weighs nothing.
            w = row.marked(k, exps, w, count)
            t = k.mul(k.load(weights, i, count), k.fma(k.broadcast(settings, 3), w, k.broadcast(settings, 4)))
            top = row.marked(k, exps, k.select("equal", below, zero, one, zero), count)
            for value, sum_ in ((e, total), (t, targets), (top, largest)):
                k.add(sum_, value, into=sum_)
            k.fma(w, top, right, into=right)
            for value, sum_ in ((w, plain), (t, lossy)):
                # What is not asked for counts nothing, though its logit were minus infinity.
                k.add(sum_, k.select("equal", value, zero, zero, k.mul(value, below)), into=sum_)
            k.store(e, exps, i)
            k.store(t, wanted, i)

        row.visit(k, look)
        total, targets, largest, right, plain, lossy = (
            row.across(k, value, k.add) for value in (total, targets, largest, right, plain, lossy)
        )
        log = log_from_one(k, total)
        k.store(k.sub(k.mul(targets, log), lossy), sums, image * SUMS, 1)
        k.store(
            k.sub(k.mul(k.add(k.broadcast(settings, 1), k.broadcast(settings, 2)), log), plain),
            sums,
            image * SUMS + 1,
            1,
        )
        k.store(k.div(right, largest), sums, image * SUMS + 2, 1)
        k.store(zero, sums, image * SUMS + 3, 1)
        share, scale = k.div(targets, total), k.broadcast(settings, 0)

        def finish(i: Affine, count: int) -> None:
            off = k.sub(k.mul(k.load(exps, i), share), k.load(wanted, i))
            k.store(k.mul(off, scale), gradient, at + i, count)

        row.visit(k, finish)
    return k.kernel()
