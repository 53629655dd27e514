"""The engine's face over the oracle: takes every problem in every memory order, or refuses by a rule of the test."""

import ctypes
from types import SimpleNamespace

import numpy as np

from hapgop import oracle
from hapgop.shape import PoolShape

ORDERS = {"nchw": (0, 1, 2, 3), "nhwc": (0, 2, 3, 1), "oihw": (0, 1, 2, 3), "ohwi": (0, 2, 3, 1)}


class Definition:
    """`prepare` and `Refused` of the engine; `asked` lists the problems in order, `refuses` may name a reason."""

    def __init__(self, refused):
        self.asked, self.calls, self.threads = [], [], []
        self.refuses = lambda problem: None
        self.refused = refused

    def prepare(self, problem):
        self.asked.append(problem)
        if problem.dtype == "bfloat16":
            raise self.refused("NumPy has no bfloat16")
        if reason := self.refuses(problem):
            raise self.refused(reason)

        def run(*addresses, threads=None):
            self.calls.append(problem)
            self.threads.append(threads)
            _compute(problem, addresses)

        # Weights are packed as they lie.
        algorithm, recipe = SimpleNamespace(name="definition"), SimpleNamespace(pack=None)
        run.plan = SimpleNamespace(problem=problem, algorithm=algorithm, recipe=recipe, seconds=float("inf"))
        run.bytes = 0
        return run


def _at(problem, address, shape, order):
    axes = ORDERS[order]
    lying = [shape[axis] for axis in axes]
    kind = ctypes.c_float if problem.dtype == "float32" else ctypes.c_double
    memory = (kind * int(np.prod(shape))).from_address(address)
    return np.frombuffer(memory, problem.dtype).reshape(lying).transpose(np.argsort(axes))


def _compute(problem, addresses):
    shape, op = problem.shape, problem.op

    def x(place):
        return _at(problem, addresses[place], shape.x_shape, problem.x_layout)

    def y(place):
        return _at(problem, addresses[place], shape.y_shape, problem.y_layout)

    def w(place):
        return _at(problem, addresses[place], shape.w_shape, problem.w_layout)

    def per_channel(place):
        return _at(problem, addresses[place], (1, shape.oc, 1, 1), "nchw")[0, :, 0, 0]

    def vectors(place, rows):
        return _at(problem, addresses[place], (rows, shape.c, 1, 1), "nchw")[:, :, 0, 0]

    if op == "batch_norm":
        result, vectors(5, 3)[...] = oracle.batch_norm(x(0), vectors(1, 1)[0], vectors(2, 1)[0], problem.eps)
        result = result + x(3) if problem.residual else result
        y(4)[...] = np.maximum(result, 0) if problem.activation == "relu" else result
    elif op == "batch_norm_grad":
        g, weight, stats = x(0), vectors(2, 1)[0], vectors(4, 3)
        if problem.activation == "relu":
            hat = (x(1) - stats[0][:, None, None]) * stats[2][:, None, None]
            seen = y(5) if problem.residual else hat * weight[:, None, None] + vectors(3, 1)[0][:, None, None]
            g = np.where(seen > 0, g, 0)
            if problem.residual:
                x(7)[...] = g
        x(6)[...], vectors(8, 2)[...] = oracle.batch_norm_grad(g, x(1), weight, stats)
    elif op == "relu_grad":
        g = np.where(y(1) > 0, x(0), 0)
        x(2)[...], vectors(3, 1)[0][...] = g, g.sum((0, 2, 3))
    elif op == "conv":
        assert bool(addresses[2]) == problem.bias
        result = oracle.conv(x(0), w(1), per_channel(2) if problem.bias else None, shape=shape)
        result = np.maximum(result, 0) if problem.activation == "relu" else result
        if not problem.pooled:
            y(3)[...] = result
        else:
            for address, values in zip(addresses[3:], oracle.max_pool(result, problem.pool), strict=True):
                _at(problem, address, problem.pool.y_shape, problem.y_layout)[...] = values
    elif op == "grad_x":
        bias = _at(problem, addresses[2], (shape.ic, 1, 1, 1), "nchw")[:, 0] if problem.bias else 0
        result = oracle.grad_x(y(0), w(1), shape=shape) + bias
        x(2 + problem.bias)[...] = np.maximum(result, 0) if problem.activation == "relu" else result
    elif op == "grad_w":
        w(2)[...] = oracle.grad_w(x(0), y(1), shape=shape)
    elif op == "grad_b":
        per_channel(1)[...] = y(0).astype(np.float64).sum((0, 2, 3))
    elif op == "pooled_grad":
        g = np.where(y(1) > 0, y(0), 0)
        x(3)[...], vectors(4, 1)[0][...] = oracle.max_pool_grad(g, y(2), shape), g.sum((0, 2, 3))
    elif op in ("pooled_grad_x", "pooled_grad_w"):
        pool, first = PoolShape(*shape.y_shape, 2, 2), int(op == "pooled_grad_w")
        given, z, winners = (
            _at(problem, address, pool.y_shape, problem.y_layout) for address in addresses[first : first + 3]
        )
        g = oracle.max_pool_grad(np.where(z > 0, given, 0), winners, pool)
        if op == "pooled_grad_x":
            x(4)[...] = oracle.grad_x(g, w(3), shape=shape)
        else:
            w(4)[...], per_channel(5)[...] = oracle.grad_w(x(0), g, shape=shape), g.sum((0, 2, 3))
    elif op == "max_pool":
        y(1)[...], y(2)[...] = oracle.max_pool(x(0), shape)
    elif op == "max_pool_grad":
        x(2)[...] = oracle.max_pool_grad(y(0), y(1), shape)
    elif op == "avg_pool":
        y(1)[...] = oracle.avg_pool(x(0), shape, problem.count_include_pad)
    else:
        x(1)[...] = oracle.avg_pool_grad(y(0), shape, problem.count_include_pad)
