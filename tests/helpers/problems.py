"""Problems, random ones too; their tensors, their right answers, and how an algorithm answers them."""

from dataclasses import dataclass, replace
from math import lcm, sqrt

import numpy as np
from hypothesis import strategies as st
from kernels import assert_fences, fenced

from hapgop import oracle
from hapgop.algorithms import ALL, Algorithm, Problem
from hapgop.algorithms.batch_norm import BatchNorm
from hapgop.algorithms.pooled_grad import PooledGrad
from hapgop.algorithms.pooled_grad_w import PooledGradW
from hapgop.algorithms.problem import CONV_OPS, POOL_OPS
from hapgop.algorithms.relu_grad import ReluGrad
from hapgop.algorithms.winners_grad_w import WinnersGradW
from hapgop.algorithms.winners_grad_x import WinnersGradX
from hapgop.algorithms.winograd import Winograd, WinogradGradW
from hapgop.engine import Prepared
from hapgop.machine import AVX2, AVX512, NEON, Machine, host
from hapgop.planning import Plan
from hapgop.shape import ConvShape, PoolShape

# Every width of vector and number of registers, as code that this machine runs; one has a cache so small that rows are
# taken one by one, and more cores than rows, another a single core.
MACHINES = (
    replace(AVX512, cpu="host"),
    replace(AVX2, name="AVX2, tiny caches, many cores", cpu="host", l1=1024, l2=2048, cores=64),
    replace(NEON, name="NEON, one core", cpu="host", cores=1),
)
OPS = CONV_OPS + POOL_OPS

# Shapes of the usual kinds: an algorithm that takes an operation at all takes it for one of these.
_USUAL = (
    ConvShape(2, 32, 12, 12, 32, 3, 3, padding=1),
    ConvShape(2, 32, 12, 12, 32, 3, 3, 2, 1),
    ConvShape(2, 32, 12, 12, 32, 4, 4, 2, 1),
    ConvShape(2, 32, 12, 12, 32, 1, 1),
    ConvShape(2, 32, 12, 12, 32, 1, 1, 2),
    ConvShape(2, 32, 12, 12, 32, 5, 5, padding=2),
    ConvShape(2, 32, 12, 12, 32, 3, 3, padding=1, groups=32),
    ConvShape(2, 24, 12, 12, 24, 5, 5, 2, 2, groups=24),
    ConvShape(2, 3, 12, 12, 32, 3, 3, padding=1),
    ConvShape(2, 32, 12, 12, 3, 3, 3, padding=1),
    PoolShape(2, 32, 12, 12, 2, 2),
    PoolShape(2, 32, 12, 12, 3, 3, 2, 1),
)


def usual(op: str) -> list[Problem]:
    """Problems of the usual kinds, in both orders of memory."""
    kind = ConvShape if op in CONV_OPS else PoolShape
    return [
        Problem(op, shape, x_layout=layout, y_layout=layout)
        for layout in ("nhwc", "nchw")
        for shape in _USUAL
        if isinstance(shape, kind)
    ]


# Those that give the exact answer for small whole numbers: plain sums. The fast ones have tests of their own.
FAST = tuple(a for a in ALL if isinstance(a, Winograd | WinogradGradW))
# These go through maps pixel by pixel or do several operations at once, and have tests of their own too.
_SEVERAL = PooledGrad | PooledGradW | WinnersGradX | WinnersGradW
MAPS = tuple(a for a in ALL if isinstance(a, BatchNorm | ReluGrad | _SEVERAL))
ANSWERS = [
    (a, op)
    for a in ALL
    if a not in FAST + MAPS
    for op in OPS
    if any(a.refuses(p, m) is None for p in usual(op) for m in MACHINES)
]


def name(value: object) -> str:
    """How a parametrized test calls an algorithm, an operation, a machine."""
    return value if isinstance(value, str) else value.name


# Tensors


@dataclass(frozen=True)
class Tensor:
    """One tensor of an operation: its logical shape, and its order in memory."""

    name: str
    shape: tuple[int, ...]
    layout: str
    out: bool = False

    def flat(self, array: np.ndarray) -> np.ndarray:
        """The elements in the order in which they lie in memory."""
        last = self.layout in ("nhwc", "ohwi")
        return (array.transpose(0, 2, 3, 1) if last else array).ravel()

    def logical(self, flat: np.ndarray) -> np.ndarray:
        """The other way round."""
        if self.layout not in ("nhwc", "ohwi"):
            return flat.reshape(self.shape)
        n, c, h, w = self.shape
        return flat.reshape(n, h, w, c).transpose(0, 3, 1, 2)


def tensors(p: Problem) -> list[Tensor]:
    """The tensors of a problem, in the order in which a kernel takes them."""
    s = p.shape
    x, dx = (Tensor(n, s.x_shape, p.x_layout, n == "dx") for n in ("x", "dx"))
    y, g = (Tensor(n, s.y_shape, p.y_layout, n == "y") for n in ("y", "g"))
    if isinstance(s, PoolShape):
        winners = Tensor("winners", s.y_shape, p.y_layout, p.op == "max_pool")
        return {
            "max_pool": [x, y, winners],
            "max_pool_grad": [g, winners, dx],
            "avg_pool": [x, y],
            "avg_pool_grad": [g, dx],
        }[p.op]
    w, dw = (Tensor(n, s.w_shape, p.w_layout, n == "dw") for n in ("w", "dw"))
    bias, db = Tensor("bias", (s.ic if p.op == "grad_x" else s.oc,), "c"), Tensor("db", (s.oc,), "c", True)
    if p.op == "conv":
        out = p.pool.y_shape if p.pooled else s.y_shape
        residual = Tensor("residual", s.y_shape, p.y_layout)
        winners = Tensor("winners", out, p.y_layout, True)
        y = replace(y, shape=out)
        return [x, w, bias, y] + [residual] * p.residual + [winners] * p.pooled
    return {"grad_x": [g, w, *[bias] * p.bias, dx], "grad_w": [x, g, dw], "grad_b": [g, db]}[p.op]


Arrays = dict[str, np.ndarray]


def absent(p: Problem, t: Tensor) -> bool:
    """Whether a kernel takes no address for a tensor: there is no bias, or nobody wants the winners."""
    return (t.name == "bias" and not p.bias) or (t.name == "winners" and t.out and not p.winners)


def random_inputs(p: Problem, seed: int, whole: bool = True) -> Arrays:
    """Inputs of a problem: whole numbers of at most 4, or normal ones. An unused bias is left out.

    An average's gradient is made a multiple of every divisor, so that its shares are whole too; winners are right
    ones, of a random x.
    """
    rng = np.random.default_rng(seed)
    arrays = {}
    for t in tensors(p):
        if not t.out and not absent(p, t):
            values = rng.integers(-4, 5, t.shape) if whole else rng.standard_normal(t.shape)
            arrays[t.name] = values.astype(p.dtype)
    if p.op == "avg_pool_grad" and whole:
        arrays["g"] *= lcm(*range(1, p.shape.kh + 1)) * lcm(*range(1, p.shape.kw + 1))
    if p.op == "max_pool_grad":
        arrays["winners"] = oracle.max_pool(rng.integers(-4, 5, p.shape.x_shape), p.shape)[1].astype(p.dtype)
    return arrays


def answers(p: Problem, a: Arrays) -> Arrays:
    """The right outputs, in float64, by the definition."""
    s = p.shape
    match p.op:
        case "conv":
            y = oracle.conv(a["x"], a["w"], a.get("bias"), shape=s)
            y = activated(y + a["residual"] if p.residual else y, p.activation)
            if not p.pooled:
                return {"y": y}
            y, winners = oracle.max_pool(y, p.pool)
            return {"y": y, "winners": winners} if p.winners else {"y": y}
        case "grad_x":
            dx = oracle.grad_x(a["g"], a["w"], shape=s)
            return {"dx": activated(dx + a["bias"][:, None, None] if p.bias else dx, p.activation)}
        case "grad_w":
            return {"dw": oracle.grad_w(a["x"], a["g"], shape=s)}
        case "grad_b":
            return {"db": a["g"].astype(np.float64).sum((0, 2, 3))}
        case "max_pool":
            y, winners = oracle.max_pool(a["x"], s)
            return {"y": y, "winners": winners} if p.winners else {"y": y}
        case "max_pool_grad":
            return {"dx": oracle.max_pool_grad(a["g"], a["winners"], s)}
        case "avg_pool":
            return {"y": oracle.avg_pool(a["x"], s, p.count_include_pad)}
        case "avg_pool_grad":
            return {"dx": oracle.avg_pool_grad(a["g"], s, p.count_include_pad)}
    raise ValueError(p.op)


def activated(y: np.ndarray, activation: str | None) -> np.ndarray:
    """The definition of the activations."""
    match activation:
        case "relu":
            return np.maximum(y, 0)
        case "relu6":
            return np.clip(y, 0, 6)
        case "hardswish":
            return y * np.clip(y + 3, 0, 6) / 6
    return y


def bounds(p: Problem, a: Arrays) -> Arrays:
    """How far each output may lie from the right one: k u times the sum of the terms' magnitudes."""
    s = p.shape
    size = {name: np.abs(values) for name, values in a.items()}
    if "winners" in a:
        size["winners"] = a["winners"]
    match p.op:
        case "conv":
            terms = s.ic // s.groups * s.kh * s.kw + 1
        case "grad_x":
            terms = s.oc // s.groups * s.kh * s.kw + 1
        case "grad_w" | "grad_b":
            terms = s.n * s.oh * s.ow
        case _:
            terms = s.kh * s.kw
    unit = np.finfo(p.dtype).eps / 2
    # No slope of an activation is above 1.5, and hard-swish multiplies three times.
    slope = 2.0 if p.activation == "hardswish" else 1.0
    magnitudes = answers(replace(p, activation=None), size)
    return {name: slope * (16 + 2 * sqrt(terms)) * unit * values for name, values in magnitudes.items()}


# Answers


def prepared(algorithm: Algorithm, p: Problem, machine: Machine) -> Prepared:
    """The engine's call of one algorithm; threads are not spared, however small the problem."""
    return Prepared(Plan(p, machine, algorithm, algorithm.recipe(p, machine), 1.0, ()))


def solve(call: Prepared, p: Problem, a: Arrays, threads: int = 2) -> Arrays:
    """An algorithm's outputs, from memory full of NaN; inputs and what lies around them have to stay as they were."""
    pointers, memories, outs, ins = [], [], [], []
    for t in tensors(p):
        if absent(p, t):
            pointers.append(0)
            continue
        given = np.full(np.prod(t.shape), np.nan, p.dtype) if t.out else t.flat(a[t.name])
        if t.name == "w" and p.packed:
            given = packed(call, given, threads)
        inside, memory = fenced(given)
        pointers.append(inside.ctypes.data)
        memories.append(memory)
        (outs if t.out else ins).append((t, inside, inside.copy()))
    call(*pointers, threads=threads)
    for memory in memories:
        assert_fences(memory)
    for _, inside, before in ins:
        np.testing.assert_array_equal(inside, before)
    return {t.name: t.logical(inside) for t, inside, _ in outs}


def packed(call: Prepared, w: np.ndarray, threads: int = 2) -> np.ndarray:
    """The packed weights, of flat ones; all of them are written, and nothing else."""
    (source, around), (target, beyond) = fenced(w), fenced(np.full(call.packed_size, np.nan, w.dtype))
    call.pack(source.ctypes.data, target.ctypes.data, threads)
    assert_fences(around)
    assert_fences(beyond)
    np.testing.assert_array_equal(source, w)
    assert np.isfinite(target).all() or not np.isfinite(w).all()
    return target.copy()


def solved(algorithm: Algorithm, p: Problem, machine: Machine, a: Arrays, threads: int = 2) -> Arrays:
    """The outputs of one algorithm."""
    return solve(prepared(algorithm, p, machine), p, a, threads)


def arguments(algorithm: Algorithm, p: Problem, machine: Machine, a: Arrays) -> tuple:
    """(kernel, arrays by buffer name, sizes) for the interpreter; the outputs are NaN."""
    recipe = algorithm.recipe(p, machine)
    kernel = recipe.build()
    flat = []
    for t in tensors(p):
        unread = t.out or absent(p, t)
        flat.append(np.full(np.prod(t.shape), np.nan, p.dtype) if unread else t.flat(a[t.name]).copy())
        if t.name == "w" and p.packed:
            flat[-1] = packed(prepared(algorithm, p, machine), flat[-1])
    flat += recipe.tables
    names = [b.name for b in kernel.buffers]
    sizes = dict(zip((s.name for s in kernel.sizes), recipe.sizes, strict=True))
    return kernel, dict(zip(names, flat, strict=False)), sizes


def outputs(p: Problem, kernel, arrays) -> Arrays:
    """The outputs among the arrays of a kernel's buffers."""
    named = zip(tensors(p), kernel.buffers, strict=False)
    return {t.name: t.logical(np.asarray(arrays[b.name])) for t, b in named if t.out and not absent(p, t)}


def assert_equal(got: Arrays, wanted: Arrays) -> None:
    """The same numbers, to the last bit (zeros of either sign are equal)."""
    assert got.keys() == wanted.keys()
    for key, values in got.items():
        np.testing.assert_array_equal(values, wanted[key].astype(values.dtype), err_msg=key)


def assert_within(got: Arrays, wanted: Arrays, allowed: Arrays) -> None:
    """No element further from the right one than its bound."""
    assert got.keys() == wanted.keys()
    for key, values in got.items():
        off = values != wanted[key]
        excess = np.abs(values[off] - wanted[key][off]) - allowed[key][off]
        assert (excess <= 0).all(), f"{key}: {excess.max():.3g} beyond the bound"


# Random ones


@st.composite
def axes(draw):
    """(size, kernel, stride, before, after, dilation) of one axis."""
    kernel = draw(st.sampled_from([1, 1, 2, 3, 3, 3, 4, 5]))
    stride, dilation = draw(st.sampled_from([1, 1, 2, 3])), draw(st.sampled_from([1, 1, 1, 2, 3]))
    before, after = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    least = max(1, (kernel - 1) * dilation + 1 - before - after)
    return least + draw(st.integers(0, 9)), kernel, stride, before, after, dilation


@st.composite
def conv_shapes(draw):
    """Small shapes: tails of every kind, groups, depthwise, one pixel, more images than groups of them."""
    (ih, kh, sh, top, bottom, dh), (iw, kw, sw, left, right, dw) = draw(axes()), draw(axes())
    groups, ic, oc = 1, draw(st.sampled_from([1, 2, 3, 4, 5, 7, 9])), draw(st.sampled_from([1, 3, 8, 16, 17, 21, 40]))
    kind = draw(st.sampled_from(["one group", "one group", "groups", "depthwise", "depthwise"]))
    if kind == "groups":
        groups = draw(st.sampled_from([2, 3]))
    elif kind == "depthwise":
        groups, ic, oc = draw(st.sampled_from([2, 8, 17, 37, 64])), 1, 1
    n = draw(st.sampled_from([1, 1, 2, 3, 18]))
    return ConvShape(
        n, ic * groups, ih, iw, oc * groups, kh, kw, (sh, sw), (top, bottom, left, right), (dh, dw), groups
    )


@st.composite
def pool_shapes(draw):
    """Small shapes of pools: overlapping, tiled, dilated, padded, rounded up."""
    n, c = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 3, 8, 17, 40, 70]))
    ceil = draw(st.booleans())
    if draw(st.integers(0, 3)) == 0:
        kh, kw = draw(st.integers(1, 5)), draw(st.integers(1, 5))
        return PoolShape(n, c, kh + draw(st.integers(0, 9)), kw + draw(st.integers(0, 9)), kh, kw, ceil_mode=ceil)
    sides = []
    for _ in range(2):
        size, kernel, stride, before, after, dilation = draw(axes())
        before, after = min(before, kernel // 2), min(after, kernel // 2)
        sides.append((max(size, (kernel - 1) * dilation + 1 - before - after), kernel, stride, before, after, dilation))
    (ih, kh, sh, top, bottom, dh), (iw, kw, sw, left, right, dw) = sides
    return PoolShape(n, c, ih, iw, kh, kw, (sh, sw), (top, bottom, left, right), (dh, dw), ceil)


@st.composite
def problems(draw, op: str, shapes=None):
    """A problem: a shape, types, layouts, bias and activation."""
    conv = op in CONV_OPS
    if shapes is None:
        shapes = conv_shapes() if conv else pool_shapes()
    shape = draw(shapes)
    last, first = "nhwc", "nchw"
    orders = [(last, last)] * 3 + [(first, first)] * 3 + [(first, last), (last, first)]
    x_layout, y_layout = draw(st.sampled_from(orders))
    residual, pooled = (op == "conv" and draw(st.sampled_from([False, False, False, True])) for _ in range(2))
    pooled = pooled and min(shape.oh, shape.ow) > 1
    return Problem(
        op,
        shape,
        draw(st.sampled_from(["float32", "float32", "float64"])),
        x_layout,
        y_layout,
        draw(st.sampled_from(["oihw", "ohwi"])) if conv else "oihw",
        draw(st.booleans()) if op in ("conv", "grad_x") else False,
        draw(st.sampled_from([None, "relu", "relu6"])) if op in ("conv", "grad_x") else None,
        draw(st.booleans()) if op.startswith("avg") else True,
        draw(st.booleans()) if op == "max_pool" or pooled else True,
        draw(st.booleans()) if op in ("conv", "grad_x") else False,
        residual=residual,
        pooled=pooled,
    )


seeds = st.integers(0, 2**16)
# Vectors wider than this machine's are made of several, which takes the compiler much longer: drawn half as often.
machines = st.sampled_from([m for m in MACHINES for _ in range(2 - (m.vector_bytes > host().vector_bytes))])
