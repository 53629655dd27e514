"""What the builder leaves behind, word for word, for two very small programs."""

from textwrap import dedent

from hapgop.tile import Affine, Builder, Loop, Size, apart


def text(kernel):
    """A program, one statement a line."""
    sizes = ", ".join(f"{s.low} <= {s.name} <= {s.high}" for s in kernel.sizes)
    lines = [f"{kernel.name}: {kernel.lanes} lanes of {kernel.dtype}", *([f"size {sizes}"] if sizes else [])]
    lines += [f"{b.role} {b.name}[{b.size}]" for b in kernel.buffers]

    def bounds(each):
        return " & ".join(map(str, each))

    def body(statements, depth):
        for s in statements:
            if isinstance(s, Loop):
                r = s.range
                lines.append(f"{depth}loop {r.var.name} from {bounds(r.low)} to {bounds(r.high)} step {r.step}")
                body(s.body, depth + "  ")
            else:
                lines.append(f"{depth}{type(s).__name__} {operands(s)}")

    def operands(s):
        where = [f"{s.at.buffer.name}[{s.at.index}]"] if hasattr(s, "at") else []
        return " ".join(
            [*where, *(f"{name}={getattr(s, name)}" for name in s.__slots__ if name not in ("at", "where", "pairs"))]
        )

    for stage in kernel.stages:
        repeat = "".join(f" repeat {r.var.name} {bounds(r.low)}..{bounds(r.high)} by {r.step}" for r in stage.repeat)
        lines.append(f"stage {stage.name} of " + " x ".join(f"{v.name} < {e}" for v, e in stage.grid) + repeat)
        body(stage.body, "  ")
    return "\n".join(lines)


def golden(kernel, wanted):
    assert text(kernel) == dedent(wanted).strip()


def test_doubling():
    k = Builder("double", "float32", 4)
    x, y = k.buffer("x", 8, "in"), k.buffer("y", 8, "out")
    with k.stage("all", ("block", 2)) as (block,):
        v = k.load(x, block * 4)
        k.store(k.add(v, v), y, block * 4)
    golden(
        k.kernel(),
        """
        double: 4 lanes of float32
        in x[8]
        out y[8]
        stage all of block.1 < 2
          Load x[4 block.1] dst=0 count=4 stride=1
          Binary op=add dst=1 a=0 b=0
          Store y[4 block.1] src=1 count=4 stride=1 streaming=False
        """,
    )


def test_every_statement():
    k = Builder("all", "float64", 2)
    n = k.size("n", high=9)
    x, y, s = k.buffer("x", n * 4, "in"), k.buffer("y", n * 4, "out"), k.buffer("s", 3, "scratch")
    with k.stage("one", ("image", n), ("row", 2), repeat=(("base", 0, [n, 4], 2),)) as (base, image, row):
        total = k.const(0.0)
        with k.loop("column", [0, row - 1], [2, (n + 1) // 2], 2) as column:
            at = image * 4 + row * 2 + column
            value = k.load(x, at, 1, stride=3)
            k.fma(value, k.broadcast(x, at), total, into=total)
            k.prefetch(x, at + 64)
        position = k.from_index(base - 7)
        k.select("above", total, position, total, position, into=total)
        k.max(total, position, into=total)
        k.mul(k.sub(total, position), k.div(total, position))
        k.store(total, y, image * 4 + row * 2)
    with k.stage("two", ("all", 1)):
        k.store(k.const(-1.5), s, 0, 2, 2)
        k.transpose([k.const(1.0)])
    golden(
        k.kernel(),
        """
        all: 2 lanes of float64
        size 1 <= n <= 9
        in x[4 n]
        out y[4 n]
        scratch s[3]
        stage one of image.2 < n x row.3 < 2 repeat base.1 0..n & 4 by 2
          Const dst=0 value=0.0
          loop column.4 from 0 & row.3 - 1 to 2 & (n + 1 // 2) step 2
            Load x[4 image.2 + 2 row.3 + column.4] dst=1 count=1 stride=3
            Broadcast x[4 image.2 + 2 row.3 + column.4] dst=2
            Fma dst=0 a=1 b=2 c=0
            Prefetch x[4 image.2 + 2 row.3 + column.4 + 64]
          FromIndex dst=3 index=base.1 - 7
          Select test=above dst=0 a=0 b=3 x=0 y=3
          Binary op=max dst=0 a=0 b=3
          Binary op=sub dst=4 a=0 b=3
          Binary op=div dst=5 a=0 b=3
          Binary op=mul dst=6 a=4 b=5
          Store y[4 image.2 + 2 row.3] src=0 count=2 stride=1 streaming=False
        stage two of all.5 < 1
          Const dst=7 value=-1.5
          Store s[0] src=7 count=2 stride=2 streaming=False
          Const dst=8 value=1.0
          Const dst=9 value=0.0
          Transpose dst=(10, 11) src=(8, 9)
        """,
    )


def test_depths_start_again_in_every_stage():
    k = Builder("k", "float32", 4)
    for name in ("one", "two"):
        with k.stage(name, ("i", 2), ("j", 2)) as (i, j), k.loop("l", 0, j) as inner:
            assert [v.depth for e in (i, j, inner) for v in e.terms] == [1, 2, 3]


def test_parts_of_a_private_buffer_are_whole_cache_lines():
    n = Size("n")
    for size in range(100):
        part = apart(Affine(size))
        assert part.const % 16 == 0
        assert size <= part.const < size + 16
        assert apart(Affine.of(n)).value({n: size}) == part.const
