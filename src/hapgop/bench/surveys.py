"""`hapgop bench random`: random layers, ours against PyTorch's operators on the same tensors, and ours among ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hapgop import engine, nn
from hapgop.algorithms import Problem
from hapgop.bench.drawn import Drawn, draw
from hapgop.bench.place import place
from hapgop.bench.stopping import Stoppable
from hapgop.bench.timing import CALM, interleave, measures_anew, paired, spread
from hapgop.bench.work import Call
from hapgop.nn import functional, ops, routes
from hapgop.nn.routes import facts

Progress = Callable[[int, int, str], None]

OPS = ("forward", "grad_x", "grad_w")
SLOW = 0.95  # of PyTorch's speed: below, a row is named
NEAR = 1.1  # times the fastest algorithm's time: within, a choice is good

_AGAIN = 2  # times a row whose rounds disagree is measured once more: another process may have had the machine
_ALLOWED = 1e-4  # of the largest value, as `bench layers` allows ours
_TORCH, _OURS = "PyTorch", "ours"
_aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class SurveyRow:
    """One operation of one layer.

    ratio: PyTorch's time over ours, median of the rounds; best_ratio: of the best rounds. algorithm: ours, or
    "PyTorch: " and why it computed. candidates: for each algorithm that may do it, milliseconds predicted on one core
    and measured; near: the time of the one chosen over the fastest one's, None where there is nothing to choose. wrong:
    PyTorch's result is not that of float64, as ours is.
    """

    layer: str
    kind: str
    op: str
    threads: int
    algorithm: str
    ours_ms: float
    pytorch_ms: float
    ratio: float
    best_ratio: float
    candidates: Mapping[str, tuple[float, float]]
    near: float | None
    wrong: bool = False

    @property
    def slower(self) -> bool:
        """In the median and in the best rounds."""
        return self.ratio < SLOW and self.best_ratio < SLOW

    @property
    def poor(self) -> bool:
        """Whether another of our algorithms is clearly faster than the one chosen."""
        return self.near is not None and self.near > NEAR


def survey(
    shapes: int,
    seed: int,
    threads: int,
    progress: Progress,
    *,
    ops: Sequence[str] = OPS,
    repeats: int = 9,
    compare: bool = True,
) -> list[SurveyRow]:
    """Measures every operation of so many random layers. compare: also all algorithms that come into question.

    Ctrl-C ends it early, with the layers so far. Raises RuntimeError where ours does not compute what PyTorch does, in
    float32 or at least in float64.
    """
    torch.set_num_threads(threads)
    engine.set_threads(threads)
    rows: list[SurveyRow] = []
    layers = draw(shapes, seed)
    try:
        with Stoppable(rows):
            for done, layer in enumerate(layers):
                progress(done, shapes, str(layer))
                rows += [_row(layer, op, threads, repeats, compare) for op in ops]
    finally:
        engine.set_threads(None)
    progress(shapes, shapes, "done")
    return rows


def _row(layer: Drawn, op: str, threads: int, repeats: int, compare: bool) -> SurveyRow:
    measures_anew()
    tensors = _tensors(layer)
    ours, theirs = _sides(layer, op, tensors)
    nn.reset_report()
    mine = ours()
    algorithm = _algorithm()
    wrong = not _same(mine, theirs())
    if wrong:
        _, truth = _sides(layer, op, [None if t is None else t.double() for t in tensors])
        if not _same(mine, truth()):
            raise RuntimeError(f"{layer} {op}: ours is not what PyTorch computes")
    calls: dict[str, Callable[[], object]] = {_OURS: ours, _TORCH: theirs}
    predicted: dict[str, float] = {}
    if compare and not algorithm.startswith(_TORCH):
        for name, seconds, call in _candidates(layer, op, threads):
            calls[name], predicted[name] = call, seconds
    tries = [interleave(calls, repeats, seconds=0.3, contenders=_contenders)]
    # Whoever is ahead: to ask again only where ours looks slow would make it look faster than it is.
    while len(tries) <= _AGAIN and _restless(tries[-1]) > CALM:
        tries.append(interleave({_OURS: ours, _TORCH: theirs}, repeats, seconds=0.3))
    calmest = min(tries, key=_restless)
    times = {**tries[0], **calmest}
    ratio, best = paired(times[_OURS], times[_TORCH])
    measured = {name: min(times[name]) for name in predicted}
    near = measured[algorithm] / min(measured.values()) if algorithm in measured else None
    candidates = {name: (predicted[name] * 1e3, measured[name] * 1e3) for name in predicted}
    return SurveyRow(
        str(layer), layer.kind, op, threads, algorithm, median(times[_OURS]) * 1e3, median(times[_TORCH]) * 1e3,
        ratio, best, candidates, near, wrong,
    )  # fmt: skip


def _restless(times: Mapping[str, Sequence[float]]) -> float:
    return spread(times[_OURS], times[_TORCH])


def _contenders(medians: Mapping[str, float]) -> list[str]:
    """The two sides, and the algorithms that may be the fastest."""
    least = min((t for name, t in medians.items() if name not in (_OURS, _TORCH)), default=0.0)
    return [name for name, t in medians.items() if name in (_OURS, _TORCH) or t < 1.5 * least]


def _algorithm() -> str:
    report = nn.report()
    names = [name for _, name in report.engine] + [f"{_TORCH}: {reason}" for _, reason in report.pytorch]
    return " + ".join(dict.fromkeys(names)) or "?"


def _same(mine: Tensor, want: Tensor) -> bool:
    scale = float(want.abs().max().clamp(min=1e-30))
    return mine.shape == want.shape and float((mine - want).abs().max()) <= _ALLOWED * scale


def _tensors(layer: Drawn) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    s, generator = layer.shape, torch.Generator().manual_seed(1)

    def normal(shape: Sequence[int], last: bool) -> Tensor:
        form = torch.channels_last if last else torch.contiguous_format
        return torch.empty(tuple(shape), memory_format=form).normal_(generator=generator)

    bias = torch.randn(s.oc, generator=generator) if layer.bias else None
    return normal(s.x_shape, layer.last), normal(s.w_shape, layer.w_last), bias, normal(s.y_shape, layer.last)


def _sides(layer: Drawn, op: str, tensors: Sequence[Any]) -> tuple[Call, Call]:
    s, (x, w, bias, g) = layer.shape, tensors
    pads = [s.padding[0], s.padding[2]]
    if op == "forward":
        setting = (s.stride, (pads[0], pads[1]), s.dilation, s.groups)
        return lambda: functional.conv2d(x, w, bias, *setting), lambda: F.conv2d(x, w, bias, *setting)
    which = (True, False, False) if op == "grad_x" else (False, True, False)
    rest = ([*s.stride], pads, [*s.dilation], False, [0, 0], s.groups, which)

    def theirs() -> Tensor:
        result: Tensor = _aten.convolution_backward.default(g, x, w, None, *rest)[which.index(True)]
        return result

    full = (s.stride, s.padding, s.dilation, s.groups)
    if op == "grad_x":
        return lambda: ops.grad_x(g, w, None, (s.ih, s.iw), *full, layer.last, None), theirs
    return lambda: ops.grad_w(x, g, (s.kh, s.kw), *full, layer.w_last), theirs


def _candidates(layer: Drawn, op: str, threads: int) -> Iterable[tuple[str, float, Callable[[], object]]]:
    """Every algorithm that comes into question, in the memory orders of the call: name, predicted seconds, call."""
    problem, tensors = _problem(layer, op)
    if problem is None:
        return
    at = [0 if t is None else t.data_ptr() for t in tensors]
    for prepared in engine.prepare_candidates(problem):

        def call(prepared: engine.Prepared = prepared, _: object = tensors) -> None:
            prepared(*at, threads=threads)

        yield prepared.plan.algorithm.name, prepared.plan.seconds, call


def _problem(layer: Drawn, op: str) -> tuple[Problem | None, Sequence[Tensor | None]]:
    """What the engine is asked, and tensors for it; None where PyTorch computes."""
    x, w, bias, g = _tensors(layer)
    s = layer.shape
    setting = (s.stride, s.padding, s.dilation, s.groups)
    if op == "forward":
        bias_facts = None if bias is None else facts(bias)
        route = routes.conv(facts(x), facts(w), bias_facts, *setting, None)
        tensors: tuple[Tensor | None, ...] = (x, w, bias, torch.empty_like(g))
    elif op == "grad_x":
        route = routes.grad_x(facts(g), facts(w), (s.ih, s.iw), *setting, layer.last)
        tensors = (g, w, torch.empty_like(x))
    else:
        route = routes.grad_w(facts(x), facts(g), (s.kh, s.kw), *setting, layer.w_last)
        tensors = (x, g, torch.empty_like(w))
    return (route.run.plan.problem if isinstance(route.run, engine.Prepared) else None), tensors


@dataclass(frozen=True, slots=True)
class SurveySummary:
    """What rows come to. within: the share of the `chosen` that take at most NEAR times as long as the fastest."""

    rows: int
    mean: float
    slower: int
    to_pytorch: int
    within: float | None
    chosen: int

    @classmethod
    def of(cls, rows: Sequence[SurveyRow]) -> SurveySummary:
        near = [row.near for row in rows if row.near is not None]
        return cls(
            len(rows),
            exp(sum(log(row.ratio) for row in rows) / len(rows)),
            sum(row.slower for row in rows),
            sum(row.algorithm.startswith(_TORCH) for row in rows),
            sum(n <= NEAR for n in near) / len(near) if near else None,
            len(near),
        )


def survey_json(rows: Sequence[SurveyRow], command: str) -> dict[str, Any]:
    """{"machine": ..., "rows": [...]}."""
    where = place(command, {"torch": torch.__version__}, tuning=engine.get_tuning())
    return {"machine": where, "rows": [asdict(row) for row in rows]}
