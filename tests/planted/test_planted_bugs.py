"""Tests of the tests: bugs are planted in a copy of the source, one by one, and the suite has to turn red for each.

Each bug is one replacement of text, and a small part of the suite that has to find it. A bug that goes unnoticed fails
here, and so does one whose text the source no longer has: it is to be planted anew.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import hapgop
from hapgop.native import target

SOURCE = Path(hapgop.__file__).parent
TESTS = Path(__file__).parents[1]
CORE = "algorithms/test_core.py"


@dataclass(frozen=True)
class Bug:
    """`right` becomes `wrong` in a file of the source; `found_by` (and pytest's -k) are the tests that see it."""

    name: str
    file: str
    right: str
    wrong: str
    found_by: str = CORE
    select: str = "exact and not narrower"


BUGS = (
    Bug(
        "padding off by one",
        "algorithms/track.py",
        "return Track(out, 0, 1, size, stride, -before, dilation, kernel, 0, 1)",
        "return Track(out, 0, 1, size, stride, 1 - before, dilation, kernel, 0, 1)",
        select="exact and conv and border",
    ),
    Bug(
        "right padding taken for left",
        "algorithms/track.py",
        "s.stride[1], s.padding[2], s.dilation[1], s.ow)",
        "s.stride[1], s.padding[3], s.dilation[1], s.ow)",
        select="exact and conv and border",
    ),
    Bug(
        "the narrower last block of channels dropped",
        "algorithms/shares.py",
        "if self.tail:",
        "if False:",
        select="exact and conv and border",
    ),
    Bug(
        "the last pixels of a row dropped",
        "algorithms/segments.py",
        "tiles = [(q, min(q + pixels, track.count)) for q in range(0, track.count, pixels)]",
        "tiles = [(q, q + pixels) for q in range(0, track.count - pixels + 1, pixels)]",
        select="exact and conv and border",
    ),
    Bug(
        "pixels left over by a 1x1 filter dropped",
        "algorithms/direct.py",
        "    if rest:\n        cols = replace(g.cols, count=rest, in_size=rest)",
        "    if rest and not full:\n        cols = replace(g.cols, count=rest, in_size=rest)",
        select="exact and conv and pointwise",
    ),
    Bug(
        "taps of the input gradient in the wrong order",
        "algorithms/track.py",
        "len(hits), last, -step))",
        "len(hits), hits[0], step))",
        select="exact and grad_x and border",
    ),
    Bug(
        "inputs that no window reads keep their gradient's old value",
        "algorithms/direct_tile.py",
        "            self.store(self.results(self.row))\n",
        "            results = self.results(self.row)\n            if self.gather.packing.depth:\n"
        "                self.store(results)\n",
        select="exact and grad_x and stride",
    ),
    Bug(
        "bias forgotten",
        "algorithms/direct_tile.py",
        "value = k.add(value, k.load(self.buffers.bias",
        "k.add(value, k.load(self.buffers.bias",
        select="exact and conv and border",
    ),
    Bug(
        "a pool that takes one row twice",
        "algorithms/direct_tile.py",
        "self.results(first + i) for i",
        "self.results(first + 0 * i) for i",
        "algorithms/test_direct.py",
        "pooled_is_right and first",
    ),
    Bug(
        "a pool's winners in the order of columns",
        "algorithms/direct_tile.py",
        "zip(upper[p], upper[p + 1], lower[p], lower[p + 1], strict=True)",
        "zip(upper[p], lower[p], upper[p + 1], lower[p + 1], strict=True)",
        "algorithms/test_direct.py",
        "pooled_is_right and first",
    ),
    Bug(
        "a winner in the row below is looked for beside",
        "algorithms/winners.py",
        "i // 2 * below + i % 2 * beside",
        "i % 2 * below + i // 2 * beside",
        "algorithms/test_pooled.py",
        "they_are_exact and winners",
    ),
    Bug(
        "images that take turns add to the first one's gradient",
        "algorithms/winners.py",
        "first = slot * self.size",
        "first = 0 * slot * self.size",
        "algorithms/test_pooled.py",
        "they_are_exact and winners",
    ),
    Bug(
        "the last lanes of a sum left out",
        "algorithms/narrow_tile.py",
        "                    if rest:\n",
        "                    if rest and not full:\n",
        "algorithms/test_direct.py",
        "few_channels and first",
    ),
    Bug(
        "ReLU swallows NaN",
        "native/statements.py",
        '{"max": "ogt"',
        '{"max": "ugt"',
        select="nan_passes and conv",
    ),
    Bug(
        "cache key without padding",
        "algorithms/direct.py",
        'f"{self.problem} {m.cpu} ',
        'f"{self.problem}".replace(f"{self.shape.padding}", "") + f" {m.cpu} ',
        select="exact and not narrower and direct-conv and border",
    ),
    Bug(
        "cache key without what the batch decides",
        "algorithms/direct.py",
        " raw={[g.packing.raw for g in gathers]}",
        "",
        "algorithms/test_kernels.py",
        "names_what_a_batch_changes and direct-grad_x",
    ),
    Bug(
        "no barrier between packing and multiplying",
        "native/emit.py",
        "            if self.count or len(self.scopes) > 1:",
        "            if self.count > 1:",
        select="threads_wait and direct-conv and border",
    ),
    Bug(
        "the last work item of a team forgotten",
        "native/emit.py",
        'f"{p}.b = add i64 {p}.a, {items}"',
        'f"{p}.c = add i64 {p}.a, {items}", f"{p}.b = sub i64 {p}.c, 1"',
        select="exact and conv and border",
    ),
    Bug(
        "only the first group of images in the weight gradient",
        "algorithms/direct_grad_w.py",
        "for i in range(1, plan.image_groups):",
        "for i in range(1, 1):",
        select="exact and grad_w and first",
    ),
    Bug(
        "sums of the weight gradient not cleared",
        "algorithms/direct_grad_w.py",
        "k.store(k.const(0.0), sums, row * plan.lanes)",
        "k.const(0.0)",
        select="exact and grad_w and border or afresh and grad_w",
    ),
    Bug(
        "a batch of single pixels taken for one where there is padding",
        "algorithms/grad_w_sums.py",
        "single = s.kh == s.kw == s.ih == s.iw == 1 and not any(s.padding)",
        "single = s.kh == s.kw == s.ih == s.iw == 1",
        select="exact and grad_w and single",
    ),
    Bug(
        "the last channels of a depthwise convolution dropped",
        "algorithms/depthwise.py",
        "            if rest:\n                # The last",
        "            if rest and not full:\n                # The last",
        select="exact and depthwise-conv and stride",
    ),
    Bug(
        "only the first group in the weight gradient of a depthwise convolution",
        "algorithms/depthwise_grad_w.py",
        'with k.loop("group", 1, sums.groups) as group:',
        'with k.loop("group", 1, 1) as group:',
        select="exact and grad_w and depthwise",
    ),
    Bug(
        "stores past the caches wherever the memory begins",
        "native/emit.py",
        'f"{p}.whole = icmp eq i64 {p}.odd, 0"',
        'f"{p}.whole = icmp uge i64 {p}.odd, 0"',
        "native/test_operations.py",
        "wherever",
    ),
    Bug(
        "of equals the last wins",
        "native/statements.py",
        'above, nan = self.op(f"fcmp ogt {v} {a}, {b}")',
        'above, nan = self.op(f"fcmp oge {v} {a}, {b}")',
        select="exact and max_pool and tiled",
    ),
    Bug(
        "a window of minus infinity has its winner in the padding",
        "algorithms/pool_forward.py",
        "not (inside and windows.rows.always_inside)",
        "not inside",
        select="minus_infinity",
    ),
    Bug(
        "inputs beyond a pool's last window keep their old value",
        "algorithms/pool_backward.py",
        "            self.clear(image, oh * s.kh, oh * s.kh + s.kh, s.ow * s.kw)\n",
        "",
        select="exact and max_pool_grad and tiled",
    ),
    Bug(
        "padding never counts in an average",
        "algorithms/pool_windows.py",
        "low, high = (-before, size + after) if p.count_include_pad else (0, size)",
        "low, high = (0, size)",
        select="exact and avg_pool and overlapping",
    ),
    Bug(
        "division rounds towards zero",
        "native/addresses.py",
        'f"and i64 {sign}, {atom.divisor - 1}"',
        'f"and i64 {sign}, 0"',
        "native/test_operations.py",
        "division",
    ),
    Bug(
        "a load reads beyond its count",
        "native/statements.py",
        "            if s.count == lanes:\n                value =",
        "            if s.count:\n                value =",
        "native/test_operations.py",
        "every_count",
    ),
    Bug(
        "the caller's control register is not restored",
        "native/emit.py",
        "call void @llvm.x86.sse.ldmxcsr(ptr %mode)",
        "call void @llvm.x86.sse.ldmxcsr(ptr %fast)",
        "native/test_denormals.py",
        "restored",
    ),
    Bug(
        "a damaged object is taken for a good one",
        "native/cache.py",
        "return image if head == _MAGIC + hashlib.sha256(image).digest() else None",
        "return image if head else None",
        "native/test_cache.py",
        "damaged and truncated",
    ),
    Bug(
        "objects of older code are taken",
        "engine/compiled.py",
        "digest.update(path.read_bytes())",
        "path.read_bytes()",
        "engine/test_prepared.py",
        "digest",
    ),
    Bug(
        "the checker believes every access",
        "tile/check.py",
        "        if excess > 0:\n",
        "        if excess > 1e9:\n",
        "tile/test_check.py",
        "past_the_end",
    ),
    Bug(
        "bounds forget that a quotient is rounded down",
        "tile/bounds.py",
        "slack = self.upper(rest * divisor + (numerator - (divisor - 1)) * c)",
        "slack = self.upper(rest * divisor + numerator * c)",
        "tile/test_bounds.py",
        "rounded_down",
    ),
    Bug(
        "the slowest algorithm is taken",
        "planning/choose.py",
        "candidates.sort(key=lambda c: c.shared)",
        "candidates.sort(key=lambda c: -c.shared)",
        "planning/test_choose.py",
        "predicted_time",
    ),
    Bug(
        "weights that changed are taken for the old ones",
        "nn/packed.py",
        "            and self.seen == self.probe.tobytes()",
        "            and len(self.seen) == len(self.probe.tobytes())",
        "nn/test_packed.py",
        "packed_anew",
    ),
    Bug(
        "what was measured decides nothing",
        "planning/choose.py",
        "self._winner(known or [",
        "self._winner([",
        "planning/test_choose.py",
        "measured_decides",
    ),
    Bug(
        "a slow one is taken for its accuracy",
        "planning/choose.py",
        "limit = _ALIKE * min(",
        "limit = _ALIKE * max(",
        "planning/test_choose.py",
        "about_as_fast",
    ),
    Bug(
        "threads share their scratch memory",
        "engine/scratch.py",
        "class _Arena(threading.local):",
        "class _Arena:",
        "engine/test_prepared.py",
        "share_nothing",
    ),
    Bug(
        "threads share their private memory",
        "engine/runnable.py",
        "private = [apart(Affine(elements)).const * team for",
        "private = [apart(Affine(elements)).const for",
        "engine/test_prepared.py",
        "every_thread",
    ),
    Bug(
        "threads do not meet behind a step",
        "native/sequence.ll",
        "%meet.bit = and i64 %how, 2",
        "%meet.bit = and i64 %how, 4",
        "engine/test_sequence.py",
        "meet_behind",
    ),
    Bug(
        "a value is overwritten by the step that reads it last",
        "program/arena.py",
        "if other.last < life.first or",
        "if other.last <= life.first or",
        "program/test_program.py",
        "lie_apart",
    ),
    Bug(
        "a flattened image keeps its weights in the old order",
        "program/weights.py",
        "weight.reshape(-1, c, h * w).transpose(0, 2, 1)",
        "weight.reshape(-1, c, h * w)",
        "program/test_program.py",
        "whole_numbers and head",
    ),
    Bug(
        "a barrier that opens for the first who comes",
        "native/team.ll",
        "%last = icmp eq i32 %count, %size",
        "%last = icmp ule i32 %count, %size",
        "native/test_threads.py",
        "complete and Native",
    ),
    Bug(
        "a launch that does not wait for its members",
        "native/team.ll",
        "%all = icmp eq i32 %left, 0",
        "%all = icmp uge i32 %left, 0",
        "native/test_workers.py",
        "made_once",
    ),
    Bug(
        "memory that somebody looks at is given away",
        "engine/memory.py",
        "reference = weakref.ref(array, self._back)",
        "reference = weakref.ref(array[:], self._back)",
        "engine/test_memory.py",
        "looks_at or reuse",
    ),
    Bug(
        "a fast filter's gradient is not turned",
        "algorithms/winograd/weights.py",
        "tap = self.taps - 1 - tap",
        "tap = tap + 0",
        "algorithms/test_winograd.py",
        "usual and grad_x",
    ),
    Bug(
        "left padding taken for top",
        "algorithms/winograd/tiling.py",
        "top, left = s.padding[0], s.padding[2]",
        "top, left = s.padding[2], s.padding[0]",
        "algorithms/test_winograd.py",
        "usual and conv",
    ),
    Bug(
        "a part of a fast weight gradient leaves out its first block",
        "algorithms/winograd/grad_w_kernel.py",
        'k.loop("block", p, blocks, w.parts)',
        'k.loop("block", p + w.parts, blocks, w.parts)',
        "algorithms/test_winograd.py",
        "usual and grad_w",
    ),
    Bug(
        "a chain of sums is stored over the one before",
        "algorithms/winograd/grad_w_kernel.py",
        "k.store(k.add(total, k.load(to, p)) if add else total, to, p)",
        "k.store(total, to, p)",
        "algorithms/test_winograd.py",
        "rounds_wait",
    ),
    Bug(
        "the winner of a fused pool is one too early",
        "algorithms/winograd/phases.py",
        'k.select("above", value, best, k.const(float(number)), winner)',
        'k.select("above", value, best, k.const(number - 1.0), winner)',
        "algorithms/test_winograd.py",
        "fused and stride",
    ),
    Bug(
        "an exported net leaves out pixels where it shrinks a picture",
        "export/pictures.py",
        'w.add("Max", [over, under])',
        'w.add("Max", [under, under])',
        "export/test_pictures.py",
        "large_photographs",
    ),
    Bug(
        "an exported net sees no mirror images",
        "export/model.py",
        "if not predictor.mirror:",
        "if True:",
        "export/test_model.py",
        "file_answers and reference",
    ),
    Bug(
        "an exported mean counts what ceil_mode adds",
        "export/pools.py",
        "if low <= bottom and far <= right:",
        "if True:",
        "export/test_words.py",
        "reference_gives and avg_pool2d",
    ),
)

X86_ONLY = {"the caller's control register is not restored"}


def copied(folder: Path) -> Path:
    """A copy of the source, to be imported in place of the installed one."""
    shutil.copytree(SOURCE, folder / "hapgop", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def suite(folder: Path, found_by: str, select: str) -> subprocess.CompletedProcess[str]:
    """A part of the suite, run on the source in a folder."""
    files = [str(TESTS / file) for file in found_by.split()]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files, "-k", select],
        # Plugins take longer to import than these tests to run.
        env={
            **os.environ,
            "PYTHONPATH": str(folder),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "HAPGOP_EXAMPLES": "first",
        },
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="session")
def unchanged(tmp_path_factory):
    return copied(tmp_path_factory.mktemp("unchanged"))


def test_the_copy_is_what_is_tested(unchanged):
    program = "import hapgop; print(hapgop.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(unchanged)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, cwd=TESTS.parent
    )
    assert Path(done.stdout.strip()).parent == unchanged / "hapgop"


def test_without_a_bug_all_of_it_is_green(unchanged):
    files = " ".join(dict.fromkeys(bug.found_by for bug in BUGS))
    done = suite(unchanged, files, " or ".join(dict.fromkeys(f"({bug.select})" for bug in BUGS)))
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug, tmp_path):
    if bug.name in X86_ONLY and not target.is_x86():
        pytest.skip("a matter of x86")
    text = (SOURCE / bug.file).read_text()
    assert text.count(bug.right) == 1, f"{bug.file} has changed: plant this bug anew"
    (copied(tmp_path) / "hapgop" / bug.file).write_text(text.replace(bug.right, bug.wrong))
    done = suite(tmp_path, bug.found_by, bug.select)
    # 1: a test failed; below 0: the process crashed. 0 is a bug that nobody saw, 2 and above nothing was tested.
    assert done.returncode == 1 or done.returncode < 0, f"not found: {done.returncode}\n{done.stdout[-3000:]}"
