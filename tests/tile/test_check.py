"""The checker refuses what could touch memory that is not the kernel's, and says why."""

from dataclasses import replace

import pytest

from hapgop.tile import Affine, Builder, Load, Loop, Range, TileError, Var, check, reads, writes


def program(body, lanes=4, size=8):
    """x -> y with what `body(k, x, y, i)` writes in a loop of two turns."""
    k = Builder("k", "float32", lanes)
    x, y = k.buffer("x", size, "in"), k.buffer("y", size, "out")
    with k.stage("s", ("i", 2)) as (i,):
        body(k, x, y, i)
    return k.kernel()


def refusal(kernel, registers=None):
    with pytest.raises(TileError) as caught:
        check(kernel, registers)
    return str(caught.value)


def copy(k, x, y, i):
    k.store(k.load(x, i * 4), y, i * 4)


def test_a_safe_program_passes():
    assert check(program(copy)).registers == 1


def test_load_past_the_end():
    kernel = program(lambda k, x, y, i: k.store(k.load(x, i * 4 + 1), y, i * 4))
    assert refusal(kernel) == "k, stage s: x[4 i.1 + 4] may pass the end (8) by 1"


def test_load_before_the_beginning():
    kernel = program(lambda k, x, y, i: k.store(k.load(x, i * 4 - 2), y, i * 4))
    assert refusal(kernel) == "k, stage s: x[4 i.1 - 2] may be as low as -2"


def test_store_past_the_end():
    kernel = program(lambda k, x, y, i: k.store(k.load(x, i * 4), y, i * 8))
    assert refusal(kernel) == "k, stage s: y[8 i.1 + 3] may pass the end (8) by 4"


def test_broadcast_past_the_end():
    kernel = program(lambda k, x, y, i: k.store(k.broadcast(x, i * 4 + 4), y, i * 4))
    assert refusal(kernel) == "k, stage s: x[4 i.1 + 4] may pass the end (8) by 1"


@pytest.mark.parametrize(("count", "stride", "fits"), [(3, 3, True), (4, 3, False), (1, 99, True), (2, 7, True)])
def test_the_last_lane_counts(count, stride, fits):
    kernel = program(lambda k, x, y, i: k.store(k.load(x, 0, count, stride), y, i * 4))
    if fits:
        check(kernel)
    else:
        assert refusal(kernel) == f"k, stage s: x[{(count - 1) * stride}] may pass the end (8) by 2"


def test_of_accesses_that_differ_by_a_constant_the_outermost_count():
    def body(k, x, y, i):
        for offset in (0, 5, 1):
            k.load(x, i + offset, 1)
        copy(k, x, y, i)

    check(program(body, size=8))
    wider = program(lambda k, x, y, i: [k.load(x, i + offset, 1) for offset in (3, 7, 0)])
    assert refusal(wider) == "k, stage s: x[i.1 + 7] may pass the end (8) by 1"
    lower = program(lambda k, x, y, i: [k.load(x, i + offset, 1) for offset in (3, -1, 0)])
    assert refusal(lower) == "k, stage s: x[i.1 - 1] may be as low as -1"


def test_an_access_inside_a_loop_is_proved_with_its_range():
    def body(k, x, y, i):
        with k.loop("j", i, [i + 3, 4]) as j:
            k.store(k.load(x, j, 2), y, j * 2, 2)

    check(program(body))
    assert "may pass the end (6) by 2" in refusal(program(body, size=6))


def test_run_time_sizes():
    def build(extra):
        k = Builder("k", "float32", 4)
        n = k.size("n")
        x, y = k.buffer("x", n * 4, "in"), k.buffer("y", n * 4 + extra, "out")
        with k.stage("s", ("i", n)) as (i,):
            k.store(k.load(x, i * 4), y, i * 4 + 4)
        return k.kernel()

    check(build(4))
    assert refusal(build(3)) == "k, stage s: y[4 i.1 + 7] may pass the end (4 n + 3) by 1"


def test_store_to_an_input():
    kernel = program(lambda k, x, y, i: k.store(k.load(x, i * 4), x, i * 4))
    assert refusal(kernel) == "k, stage s: store to x, which is an input"


def test_load_from_an_output():
    kernel = program(lambda k, x, y, i: k.store(k.load(y, i * 4), y, i * 4))
    assert refusal(kernel) == "k, stage s: load from y, which is an output"
    kernel = program(lambda k, x, y, i: k.store(k.broadcast(y, i * 4), y, i * 4))
    assert refusal(kernel) == "k, stage s: load from y, which is an output"


@pytest.mark.parametrize("role", ["scratch", "private"])
def test_scratch_is_for_both(role):
    k = Builder("k", "float32", 4)
    x, y, s = k.buffer("x", 4, "in"), k.buffer("y", 4, "out"), k.buffer("s", 4, role)
    with k.stage("s", ("i", 1)):
        k.store(k.load(x, 0), s, 0)
        k.store(k.load(s, 0), y, 0)
    check(k.kernel())


def test_register_read_before_it_is_written():
    kernel = program(lambda k, x, y, i: k.store(9, y, i * 4))
    assert "k, stage s: register 9 is read before it is written, in Store(src=9" in refusal(kernel)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 1, 2, 4), (-1, 0, 0, 0)])
def test_permute_wants_a_lane_for_each_lane(order):
    kernel = program(lambda k, x, y, i: k.permute(k.load(x, 0), order))
    assert f"permute in the order {order}, of 4 lanes" in refusal(kernel)


@pytest.mark.parametrize("read", ["add", "fma", "select", "permute", "transpose"])
def test_every_operand_has_to_be_written(read):
    def body(k, x, y, i):
        one = k.const(1.0)
        operands = {
            "add": (one, 99),
            "fma": (one, one, 99),
            "select": ("above", one, one, one, 99),
            "permute": (99, (0, 1, 2, 3)),
        }
        getattr(k, read)(*operands.get(read, ([one, one, 99, one],)))

    assert "register 99 is read before it is written" in refusal(program(body))


def test_a_register_that_only_a_loop_writes_is_unwritten_where_the_loop_may_be_empty():
    def body(k, x, y, i):
        with k.loop("j", 0, i) as j:
            value = k.load(x, j * 4)
        k.store(value, y, i * 4)

    assert "is read before it is written" in refusal(program(body))


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_variable_ends_with_its_loop(place):
    kernel = program(copy)
    stage = kernel.stages[0]
    j = Var("j", 2)
    loop = Loop(Range(j, (Affine(),), (Affine(4),)), stage.body)
    load = replace(stage.body[0], dst=7, at=replace(stage.body[0].at, index=Affine.of(j)))
    assert isinstance(load, Load)
    body = (load, loop) if place == "before" else (loop, load)
    assert refusal(replace(kernel, steps=(replace(stage, body=body),))) == "k, stage s: j is used outside its loop"


def test_a_loop_bound_may_not_use_an_unknown_variable():
    kernel = program(copy)
    stage = kernel.stages[0]
    loop = Loop(Range(Var("j", 2), (Affine(),), (Affine.of(Var("z", 3)),)), stage.body)
    refused = refusal(replace(kernel, steps=(replace(stage, body=(loop,)),)))
    assert refused == "k, stage s: z is used outside its loop"


def indirect(role="private", last=3, whole=True, after=False, **kind):
    """Reads x where a buffer says."""

    def body(k, x, y, i):
        places = k.buffer("places", 8, role, whole=whole, **kind)
        k.store(k.const(0.0), places, i * 4, 1)
        with k.indirect("place", places, i * 4, last) as place:
            k.store(k.load(x, place), y, i * 4)
        if after:
            k.store(k.from_index(place), y, i * 4)

    return program(body)


def test_what_is_found_in_memory_may_be_as_large_as_its_last():
    assert check(indirect(last=4)).registers == 1
    assert "x[place.2 + 3] may pass the end (8) by 1" in refusal(indirect(last=5))


def test_what_is_found_in_memory_ends_with_its_body():
    assert refusal(indirect(after=True)) == "k, stage s: place.2 is used outside its loop"


@pytest.mark.parametrize("kind", [{"role": "in"}, {"role": "out"}, {"narrow": True}, {"octets": True}], ids=str)
def test_only_a_kernels_own_memory_is_whole(kind):
    assert "places" in refusal(indirect(**kind))


def test_numbers_are_not_found_and_whole_ones_not_loaded():
    assert "whole numbers are found by Indirect" in refusal(indirect(whole=False))

    def body(k, x, y, i):
        places = k.buffer("places", 8, "private", whole=True)
        k.store(k.load(places, 0), y, i * 4)

    assert "whole numbers are found by Indirect" in refusal(program(body))


def test_an_index_that_becomes_a_number_may_not_use_an_unknown_variable():
    kernel = program(lambda k, x, y, i: k.store(k.from_index(Var("z", 1)), y, i * 4))
    assert refusal(kernel) == "k, stage s: z is used outside its loop"


def test_more_registers_than_there_are():
    def body(k, x, y, i):
        values = [k.load(x, i * 4 + v, 1) for v in range(3)]
        total = k.add(values[0], values[1])
        k.store(k.add(total, values[2]), y, i * 4)

    kernel = program(body)
    assert check(kernel, 3).registers == 3
    assert refusal(kernel, 2) == "k, stage s: 3 vectors are alive at once, but there are 2 registers"


def test_a_register_that_a_loop_needs_lives_to_its_end():
    def body(k, x, y, i):
        factor, total = k.const(2.0), k.const(0.0)
        with k.loop("j", 0, 4) as j:
            product = k.mul(k.load(x, j, 1), factor)  # `factor` is needed again on the next turn
            left, right = k.load(x, j, 2), k.load(x, j, 3)
            k.add(total, k.add(k.add(left, right), product), into=total)
        k.store(total, y, i * 4)

    # total, factor, product, left, right
    assert check(program(body)).registers == 5
    assert refusal(program(body), 4).endswith("5 vectors are alive at once, but there are 4 registers")


def test_a_register_that_is_not_read_again_makes_room():
    def body(k, x, y, i):
        total = k.const(0.0)
        for j in range(4):
            k.add(total, k.load(x, j, 1), into=total)
        k.store(total, y, i * 4)

    assert check(program(body)).registers == 2


def test_the_stage_that_needs_most_counts():
    k = Builder("k", "float32", 4)
    y = k.buffer("y", 4, "out")
    for stage, count in (("one", 1), ("three", 3), ("two", 2)):
        with k.stage(stage, ("i", 1)):
            for value in [k.const(float(c)) for c in range(count)]:
                k.store(value, y, 0)
    assert check(k.kernel()).registers == 3
    assert refusal(k.kernel(), 2).startswith("k, stage three: 3 vectors")


@pytest.mark.parametrize(("count", "stride"), [(0, 1), (5, 1), (4, 0), (2, -1)])
def test_lanes_that_do_not_exist(count, stride):
    kernel = program(lambda k, x, y, i: k.store(k.load(x, 4, count, stride), y, i * 4))
    assert refusal(kernel) == f"k, stage s: {count} lanes with stride {stride} of x"
    kernel = program(lambda k, x, y, i: k.store(k.const(0.0), y, 4, count, stride))
    assert refusal(kernel) == f"k, stage s: {count} lanes with stride {stride} of y"


@pytest.mark.parametrize(("dst", "src"), [(4, 3), (3, 4), (5, 5)])
def test_a_transpose_takes_as_many_registers_as_there_are_lanes(dst, src):
    def body(k, x, y, i):
        k.transpose([k.const(0.0) for _ in range(4)])

    kernel = program(body)
    *consts, last = kernel.stages[0].body
    odd = replace(last, dst=tuple(range(10, 10 + dst)), src=(0,) * src)
    kernel = replace(kernel, steps=(replace(kernel.stages[0], body=(*consts, odd)),))
    assert refusal(kernel) == f"k, stage s: transpose of {src} registers to {dst}, of 4 lanes"


def test_what_a_statement_reads_and_writes():
    kernel = program(lambda k, x, y, i: k.transpose([k.load(x, i)]))
    load, zero, transpose = kernel.stages[0].body
    assert (reads(load), writes(load)) == ((), (0,))
    assert writes(zero) == (1,)
    assert (reads(transpose), writes(transpose)) == ((0, 1, 1, 1), (2, 3, 4, 5))
    store = program(copy).stages[0].body[1]
    assert (reads(store), writes(store)) == ((0,), ())


def test_a_loop_that_does_not_advance():
    def body(k, x, y, i):
        with k.loop("j", 0, 4, 0):
            copy(k, x, y, i)

    assert refusal(program(body)) == "k, stage s: loop j.2 has step 0"


def test_repeated_grids_are_proved_too():
    def build(size):
        k = Builder("k", "float32", 4)
        y = k.buffer("y", size, "out")
        with k.stage("s", ("i", 2), repeat=(("r", 0, 3, 2),)) as (r, i):
            k.store(k.const(0.0), y, r * 4 + i * 4)
        return k.kernel()

    check(build(16))
    assert refusal(build(15)) == "k, stage s: y[4 r.1 + 4 i.2 + 3] may pass the end (15) by 1"


def test_shared_names():
    kernel = program(copy)
    x, y = kernel.buffers
    twice = replace(kernel, buffers=(x, replace(y, name="x")))
    assert refusal(twice) == "k: two buffers or sizes share a name: ['x', 'x']"
    k = Builder("k", "float32", 4)
    k.size("n")
    k.buffer("n", 1, "in")
    assert refusal(k.kernel()) == "k: two buffers or sizes share a name: ['n', 'n']"


def test_a_prefetch_may_lie_outside():
    def body(k, x, y, i):
        k.prefetch(x, i * 4096 - 1)
        copy(k, x, y, i)

    check(program(body))


def test_select_wants_a_known_comparison():
    with pytest.raises(ValueError, match="test is 'below'; it has to be 'above' or 'equal'"):
        program(lambda k, x, y, i: k.select("below", 0, 0, 0, 0))


def test_stages_are_checked_one_by_one():
    kernel = program(copy)
    other = replace(kernel.stages[0], name="t", body=(replace(kernel.stages[0].body[1], src=3),))
    assert refusal(replace(kernel, steps=(*kernel.stages, other))).startswith("k, stage t: register 3 is read")
