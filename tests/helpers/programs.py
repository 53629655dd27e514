"""Random small tile programs whose result is the same bits however they are run."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from hapgop.tile import Affine, Builder, Kernel

CHUNK = 40  # elements of scratch and of output that belong to one work item
PRIVATE = 24
FOUND = 40
INPUT = 200

# Whole numbers, so that products are exact however they are rounded, and what arithmetic treats specially.
NUMBERS = st.sampled_from([0.0, -0.0, 1.0, 2.0, -3.0, 4.0, -1.0, 3.0, 7.0, np.inf, -np.inf, np.nan])


@dataclass
class Program:
    """A kernel, and what to call it with."""

    kernel: Kernel
    sizes: dict[str, int]
    arrays: dict[str, np.ndarray]


@dataclass
class _Writer:
    """Writes the body of one work item.

    leaves   registers that hold whole numbers (or NaN, infinity): only these are multiplied or divided, so that no
             result depends on the precision of the interpreter's wide product, or on the sign of a maximum's zero
    mixed    any others
    """

    draw: object
    k: Builder
    atoms: list[Affine]
    x: object
    whole: object
    places: list  # (buffer, first element of this item's part, size of the part, readable)
    leaves: list[int] = field(default_factory=list)
    mixed: list[int] = field(default_factory=list)
    depth: int = 0

    def some(self, of):
        return self.draw(st.sampled_from(of))

    def integer(self) -> Affine:
        """An expression that may be negative, and may be divided."""
        e = Affine(self.draw(st.integers(-4, 9)))
        for _ in range(self.draw(st.integers(0, 2))):
            e = e + self.some(self.atoms) * self.draw(st.integers(-3, 5))
        divisor = self.draw(st.integers(1, 5))
        return e // divisor if self.draw(st.booleans()) else e

    def within(self, size: int, reach: int) -> Affine:
        """An index that leaves room for `reach` more elements."""
        room = size - reach
        return self.integer() % room if self.draw(st.booleans()) else Affine(self.draw(st.integers(0, room - 1)))

    def access(self, size: int) -> tuple[Affine, int, int]:
        count = self.draw(st.integers(1, self.k.lanes)) if self.draw(st.booleans()) else self.k.lanes
        stride = self.draw(st.integers(1, 3))
        if (count - 1) * stride + 1 >= size:
            count, stride = min(count, size // 2), 1
        return self.within(size, (count - 1) * stride), count, stride

    def statement(self) -> None:
        k = self.k
        kinds = ["leaf", "leaf", "load", "arithmetic", "arithmetic", "into", "transpose", "store", "store"]
        if self.depth < 2:
            kinds += ["loop", "loop", "found"]
        match self.some(kinds):
            case "leaf":
                self.leaf()
            case "load":
                readable = [p for p in self.places if p[3]]
                if readable:
                    buffer, first, size, _ = self.some(readable)
                    index, count, stride = self.access(size)
                    self.mixed.append(k.load(buffer, first + index, count, stride))
            case "arithmetic":
                self.arithmetic(None)
            case "transpose":
                rows = [self.any() for _ in range(self.draw(st.integers(1, k.lanes)))]
                self.mixed += k.transpose(rows)[:2]
            case "into":
                accumulator = k.const(self.draw(st.integers(-2, 2)))
                self.loop(accumulator)
                self.mixed.append(accumulator)
            case "store":
                buffer, first, size, _ = self.some(self.places)
                index, count, stride = self.access(size)
                k.store(self.any(), buffer, first + index, count, stride)
            case "loop":
                self.loop(None)
            case "found":
                self.found()

    def any(self) -> int:
        return self.some(self.leaves + self.mixed)

    def leaf(self) -> None:
        k = self.k
        match self.some(["const", "index", "load", "broadcast"]):
            case "const":
                self.leaves.append(k.const(self.draw(NUMBERS)))
            case "index":
                self.leaves.append(k.from_index(self.integer()))
            case "load":
                index, count, stride = self.access(INPUT)
                self.leaves.append(k.load(self.x, index, count, stride))
            case "broadcast":
                self.leaves.append(k.broadcast(self.x, self.within(INPUT, 0)))

    def arithmetic(self, into: int | None) -> None:
        k, a, b = self.k, self.any(), self.any()
        p, q = self.some(self.leaves), self.some(self.leaves)
        match self.some(
            ["add", "sub", "max", "min", "fma", "select", "mul", "div"] if into is None else ["add", "fma"]
        ):
            case "add" | "sub" | "max" | "min" as op:
                made = getattr(k, op)(a, b if into is None else into, into=into)
            case "mul" | "div" as op:
                made = getattr(k, op)(p, q, into=into)
            case "fma":
                made = k.fma(p, q, a if into is None else into, into=into)
            case "select":
                made = k.select(self.some(["above", "equal"]), a, b, self.any(), self.any(), into=into)
        if into is None:
            self.mixed.append(made)

    def loop(self, accumulator: int | None) -> None:
        """A short loop, perhaps empty; what is made in it is not seen outside."""
        low = [self.integer() for _ in range(self.draw(st.integers(1, 2)))]
        high = [low[0] + self.draw(st.integers(0, 4)), *(self.integer() for _ in range(self.draw(st.integers(0, 1))))]
        kept = len(self.leaves), len(self.mixed), len(self.atoms)
        with self.k.loop("l", low, high, self.draw(st.integers(1, 2))) as i:
            self.depth += 1
            self.atoms.append(i)
            if accumulator is not None:
                self.leaf()
                self.arithmetic(accumulator)
            else:
                self.body(3)
            self.depth -= 1
        del self.leaves[kept[0] :], self.mixed[kept[1] :], self.atoms[kept[2] :]

    def found(self) -> None:
        """A number from memory, by which the body's accesses may be moved; what is made there is seen outside."""
        first = self.within(FOUND, self.k.lanes - 1)
        self.k.store(self.any(), self.whole, first)
        with self.k.indirect("f", self.whole, first, self.draw(st.integers(0, 9))) as place:
            self.depth += 1
            self.atoms.append(place)
            self.body(3)
            self.atoms.pop()
            self.depth -= 1

    def body(self, most: int) -> None:
        self.leaf()
        for _ in range(self.draw(st.integers(1, most))):
            self.statement()

    def clear(self, place) -> None:
        buffer, first, size, _ = place
        zero = self.k.const(0.0)
        whole = size // self.k.lanes * self.k.lanes
        with self.k.loop("clear", 0, whole, self.k.lanes) as at:
            self.k.store(zero, buffer, first + at)
        if whole < size:
            self.k.store(zero, buffer, first + whole, size - whole)


@st.composite
def programs(draw, dtypes=("float32", "float64"), vector_bytes=(16, 32, 64)):
    """Two stages: items fill their own parts of a scratch buffer, then of the output, and read all of the scratch."""
    dtype = draw(st.sampled_from(dtypes))
    lanes = draw(st.sampled_from(vector_bytes)) // np.dtype(dtype).itemsize
    n, second = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    k = Builder("random", dtype, lanes)
    size = k.size("n", 1, 3)
    x = k.buffer("x", INPUT, "in")
    y = k.buffer("y", size * (second * CHUNK), "out")
    scratch = k.buffer("s", size * (2 * CHUNK), "scratch")
    private = k.buffer("p", PRIVATE, "private")
    whole = k.buffer("w", FOUND, "private", whole=True)

    repeat = (("r", draw(st.integers(-2, 1)), [size, 2], 1),) if draw(st.booleans()) else ()
    with k.stage("fill", ("a", size)) as (a,):
        _Writer(draw, k, [], x, whole, []).clear((scratch, a * (2 * CHUNK), 2 * CHUNK, True))
    with k.stage("work", ("a", size), ("b", 2), repeat=repeat) as variables:
        a, b = variables[-2:]
        own = (scratch, (a * 2 + b) * CHUNK, CHUNK, True)
        mine = (private, Affine(), PRIVATE, True)
        writer = _Writer(draw, k, [size, *variables], x, whole, [own, mine])
        writer.clear(mine)
        writer.body(6)
    with k.stage("rest", ("a", size), ("b", second)) as (a, b):
        out = (y, (a * second + b) * CHUNK, CHUNK, False)
        writer = _Writer(draw, k, [size, a, b], x, whole, [out])
        writer.mixed.append(k.load(scratch, (size * 2 - 1 - a - a) * CHUNK, min(lanes, CHUNK)))
        writer.mixed.append(k.load(scratch, a * (2 * CHUNK) + draw(st.integers(0, 20)), min(lanes, CHUNK)))
        writer.body(6)
        k.store(writer.any(), y, out[1] + draw(st.integers(0, CHUNK - lanes)))
    numbers = draw(st.lists(NUMBERS, min_size=8, max_size=8))
    offset = draw(st.integers(0, 7))
    values = [numbers[(i * i + offset) % 8] if i % 3 else float(i % 9 - 4) for i in range(INPUT)]
    y0 = np.full(n * second * CHUNK, 5.5, dtype)
    return Program(k.kernel(), {"n": n}, {"x": np.array(values, dtype), "y": y0})
