"""The backend of `torch.compile`: a program where nothing is learned, our operators where something is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock
from typing import Any, Final

import torch
from torch import Tensor, fx

from hapgop.engine import get_precision, get_tuning
from hapgop.errors import InputError
from hapgop.nn.accelerating.choosing import Choice, measured
from hapgop.nn.compiling.calls import with_ours
from hapgop.nn.compiling.reading import Net, read
from hapgop.nn.compiling.watching import Watch
from hapgop.nn.report import Answer, count
from hapgop.program import Program

Compiled = Callable[..., Any]

_SHAPES: Final = 4  # sizes of images whose programs are kept
_CHOICES: Final = 64


def backend(
    module: fx.GraphModule,
    inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Compiled:
    """What `torch.compile(model, backend="hapgop")` calls for each graph.

    Where no gradient is wanted and the graph is a net from images to one result, it becomes one program; else its
    convolutions and pools become ours and `options={"nested": "inductor"}` (or any other backend; "eager" where none
    is named) compiles the rest. Raises InputError on an unknown option.

    >>> net = torch.compile(nn.Conv2d(3, 8, 3), backend="hapgop")  # doctest: +SKIP
    """
    given = dict(options or {})
    nested = given.pop("nested", "eager")
    if given or mode not in (None, "default"):
        unknown = ", ".join([*given, *([] if mode in (None, "default") else [f"mode={mode!r}"])])
        raise InputError(f"the backend hapgop was given {unknown}; it knows the option 'nested' alone.")
    learns = torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
    ours = with_ours(module)
    ordinary: Compiled = ours.forward if nested == "eager" else torch._dynamo.lookup_backend(nested)(ours, list(inputs))
    if learns:
        return ordinary
    try:
        return _Compiled(read(module, inputs), ordinary)
    except InputError as reason:
        count(Answer("program", None, str(reason)))
        return ordinary


class _Compiled:
    """A net with programs for the sizes of images that it met, and the ordinary way beside them."""

    def __init__(self, net: Net, ordinary: Compiled) -> None:
        self._net, self._ordinary = net, ordinary
        self._weights = net.weights
        self._programs: OrderedDict[tuple[int, ...], Program] = OrderedDict()
        self._choices: OrderedDict[tuple[Any, ...], Choice] = OrderedDict()
        self._watch: Watch | None = None
        self._lock = Lock()

    def __call__(self, *inputs: Any) -> Any:
        x = inputs[self._net.image]
        if x.shape[0] == 0 or type(x) is not Tensor:
            return self._ordinary(*inputs)
        with self._lock:
            if not self._fresh([inputs[at] for at in self._weights]):
                return self._ordinary(*inputs)
            key = (x.shape, x.stride(), torch.get_num_threads(), get_precision(), get_tuning())
            choice = self._choices.get(key)
            if choice is None:
                choice = self._decide(key, x, inputs)
            else:
                self._choices.move_to_end(key)
            program = self._program(x, inputs) if choice.ours else None
        if program is None:
            return self._ordinary(*inputs)
        return (self._run(program, x),)

    def _fresh(self, weights: list[Tensor]) -> bool:
        """Whether there may be a program: after a change of the weights, only from the second call on.

        Weights that change before every call would be packed as often.
        """
        if self._watch is not None and self._watch.holds(weights):
            return True
        first = self._watch is None
        self._watch = Watch(weights)
        self._programs.clear()
        return first

    def _program(self, x: Tensor, inputs: Sequence[Any]) -> Program:
        shape = (int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))
        if shape in self._programs:
            self._programs.move_to_end(shape)
            return self._programs[shape]
        program = Program(self._net.graph(shape), self._net.values(inputs))
        self._programs[shape] = program
        if len(self._programs) > _SHAPES:
            self._programs.popitem(last=False)
        return program

    def _decide(self, key: tuple[Any, ...], x: Tensor, inputs: Sequence[Any]) -> Choice:
        program = self._program(x, inputs)
        choice = Choice(True, None)
        if not torch.are_deterministic_algorithms_enabled():
            choice = measured(partial(self._run, program, x), partial(self._ordinary, *inputs), ())
        count(Answer("program", "program") if choice.ours else Answer("program", None, "measured no faster here"))
        self._choices[key] = choice
        if len(self._choices) > _CHOICES:
            self._choices.popitem(last=False)
        return choice

    def _run(self, program: Program, x: Tensor) -> Tensor:
        y = torch.from_numpy(program(x.detach().numpy()))
        return y if y.dim() < 4 or self._net.channels_last else y.contiguous()
