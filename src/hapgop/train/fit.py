"""From data to a run: the checks before, the loop, the files after."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hapgop.errors import InputError
from hapgop.nn import capture, nets
from hapgop.predict import read_config
from hapgop.predict.folder import CONFIG, WEIGHTS
from hapgop.program import Graph
from hapgop.train import generators
from hapgop.train.batches import weights_seed
from hapgop.train.checkpoint import TENSORS, load_checkpoint, remove_checkpoint
from hapgop.train.data import Data
from hapgop.train.distributed import ALONE, WorkerLost, Workers
from hapgop.train.loop import Diverged, Training, Unwritable, as_good_as_any, unwritable
from hapgop.train.only_here import only_here
from hapgop.train.pretrained import load_pretrained
from hapgop.train.progress import Progress, silent
from hapgop.train.recipe import Recipe
from hapgop.train.run import (
    clear,
    clear_scratch,
    kept_epoch,
    load_model,
    load_weights,
    read_metrics,
    write_config,
    write_metrics,
    write_weights,
)
from hapgop.train.schedule import image_size
from hapgop.train.starting import FIXED, Stage, as_begun, check_new, first_look, net_of
from hapgop.train.suggestion import suggested_net, suggested_recipe

# So many training images, about, are shown to a net whose first weights follow from such; of larger ones than these
# pixels, fewer, as whitening holds a dozen doubles for each pixel.
_SAMPLE = 5000
_SAMPLE_PIXELS = _SAMPLE * 32 * 32


@dataclass(frozen=True, eq=False)
class Result:
    """What a training came to.

    net holds the weights that model.safetensors has, in eval mode; metrics and best are the lines of metrics.jsonl.
    finished is False where Ctrl-C stopped it; message says in a sentence what was done, and how to go on.
    """

    run: Path
    net: torch.nn.Module
    recipe: Recipe
    finished: bool
    metrics: tuple[Mapping[str, Any], ...]
    best: Mapping[str, Any] | None
    message: str


def fit(
    data: Data,
    run: str | os.PathLike[str],
    recipe: Recipe | None = None,
    *,
    net: torch.nn.Module | str | None = None,
    weights: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_every: float = 30.0,
    workers: Workers = ALONE,
    graph: Graph | None = None,
    command: str | None = None,
) -> Result:
    """Trains a net on the training split and keeps everything in the folder `run`.

    recipe: None is `suggested_recipe(data)`. net: a module from images (n, c, h, w) to (n, classes), which is
    trained in place, or a name of `hapgop.nn.nets`; None suggests one. weights: a safetensors file with which the net
    begins (`load_pretrained`). The same data, recipe, net and number of
    PyTorch's threads give the same bits, stopped in between or not: Ctrl-C ends after the current step and
    resume=True goes on there, as it does after a crash, from the last checkpoint (checkpoint_every: seconds). When
    going on, recipe and net may be left out; a recipe may differ in what does not change the order of the images.
    workers: the processes that share the work (`hapgop.train.distributed`); the first of them keeps the files. graph:
    the net as a graph, where `hapgop.nn.capture` cannot find it. command: the line of a shell that config.json is to
    name; a run that goes on keeps the one that it began with.

    Raises InputError where the folder is in use, net and data do not fit, the processes have different images, or
    there is nothing to go on with, and its kinds Diverged where the loss is no number any more, Unwritable where the
    disk is full, and WorkerLost where another process is gone. The test split is never looked at.

    >>> result = fit(load("digits"), "runs/digits")  # doctest: +SKIP
    """
    folder = Path(run)
    if not data.cut:
        raise InputError(f"{data.source} was loaded with cut=False, to judge by; load(source) makes data to train on.")
    if resume and overwrite:
        raise InputError("resume goes on with a run and overwrite throws it away: choose one.")
    if resume and weights is not None:
        raise InputError("weights are what a training begins with; one that goes on has its own: leave them out.")
    if not workers.agree(data.fingerprint):
        raise InputError("The processes do not have the same images: every machine needs the same files.")
    config: Mapping[str, Any] = {}
    stage = Stage.NONE
    if resume:
        config, stage = workers.told(first_look(folder) if workers.first else (config, stage))
        recipe, net = as_begun(folder, config, recipe, net)
    else:
        if workers.first:
            check_new(folder, overwrite=overwrite)
        recipe = recipe or suggested_recipe(data)
    with generators.borrowed():
        generators.seed(weights_seed(recipe.seed))
        module, spec = _net(net, data)
        command = config.get("command") if resume else command
        if began_with := net_of(config).get("weights"):
            spec["weights"] = began_with
        if weights is not None:
            load_pretrained(module, weights)
            spec["weights"] = Path(weights).name
        graph = graph or capture(module, data.input_shape)
        _check_fit(module, data, recipe)
        task = {"data": data.fingerprint, **{key: getattr(recipe, key) for key in FIXED}}
        training = Training(
            data,
            folder,
            recipe,
            module,
            progress=progress if workers.first else silent,
            checkpoint_every=checkpoint_every,
            task=task,
            workers=workers,
        )
        say_how = partial(write_config, folder, data, recipe, spec, graph, command)
        if stage is not Stage.UNDER_WAY:
            return _begun(training, say_how)
        return _gone_on(training, say_how, changed=recipe != Recipe.from_json(config["recipe"]))


def _gone_on(training: Training, say_how: Callable[[], None], *, changed: bool) -> Result:
    """From the checkpoint to the end; say_how: writes config.json; changed: whether the recipe is another now."""
    folder, workers = training.folder, training.workers
    with _held(folder, workers):
        with workers.shared_file(folder / TENSORS) as path:
            training.position = load_checkpoint(path, training.state, training.task)
        if workers.first:
            with unwritable(folder):
                clear_scratch(folder)
                if changed:
                    _step_back(training)
                write_metrics(folder, training.position.metrics)
                say_how()
        return _trained(training)


def _step_back(training: Training) -> None:
    """Puts the checkpoint's weights in place of those kept after it was written, which this training may never reach.

    Raises InputError where they are within an epoch, and none is to come that would be kept.
    """
    at, folder, recipe = training.position, training.folder, training.recipe
    kept = kept_epoch(folder)
    if kept <= at.epoch:
        return
    if at.step and recipe.ended(at.metrics):
        raise InputError(
            f"{folder}: with this recipe the training would end after epoch {at.epoch}, whose weights are gone: kept"
            f" are those of epoch {kept}, and the checkpoint is within epoch {at.epoch + 1}. epochs={at.epoch + 1}"
            " (--epochs) or more works, without a target accuracy that was reached before."
        )
    # The checkpoint goes first: a kill in between comes here again.
    at.best = at.metrics[-1] if at.metrics and not at.step else None
    training.save()
    with training.kept():
        write_weights(folder, training.net, at.epoch)


def _begun(training: Training, say_how: Callable[[], None]) -> Result:
    """From the first step to the end. Where not even that one is possible, no half-made run is left lying."""
    folder, workers = training.folder, training.workers
    fresh = not folder.exists()
    if (initialise := getattr(training.net, "initialise_from", None)) is not None:
        initialise(_sample(training.data))
    training.remember_filters()
    with _held(folder, workers):
        try:
            if workers.first:
                clear(folder)
                with unwritable(folder):
                    say_how()
            training.save()
            return _trained(training)
        except Exception as error:  # raised again below: only the folder is tidied
            goes_on = isinstance(error, Unwritable) and (folder / TENSORS).exists()
            lost = isinstance(error, Diverged | WorkerLost) or goes_on
            if workers.first and not lost and training.position.epoch == training.position.step == 0:
                clear(folder)
                if fresh:
                    with suppress(OSError):
                        folder.rmdir()
            raise


@contextmanager
def _held(folder: Path, workers: Workers) -> Iterator[None]:
    """The folder, made and for this process alone; of several that share the work, for the first."""
    if not workers.first:
        yield
        return
    with unwritable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with only_here(folder):
        yield


def _trained(training: Training) -> Result:
    folder, net, first = training.folder, training.net, training.workers.first
    try:
        finished = training.run()
    except Diverged:
        if first and not (folder / WEIGHTS).exists():
            checkpoint = load_checkpoint(folder / TENSORS, training.state, training.task)
            with training.kept():
                write_weights(folder, net, checkpoint.epoch)
        raise
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            "One image at a time is too little for this net: a batch norm gets a single value a channel of it."
            f" batch_size={2 * training.workers.count} (--batch-size) or more works."
        ) from error
    at = training.position
    if not first:
        with training.kept():
            return Result(folder, net.eval(), training.recipe, finished, tuple(at.metrics), at.best, "")
    if finished:
        remove_checkpoint(folder)
    else:
        training.save()
        if at.best is None:
            with training.kept(), unwritable(folder):
                write_weights(folder, net, at.epoch)
    load_weights(folder, net)
    return Result(
        run=folder,
        net=net.eval(),
        recipe=training.recipe,
        finished=finished,
        metrics=tuple(at.metrics),
        best=at.best,
        message=_message(training, finished),
    )


def finished_run(run: str | os.PathLike[str]) -> Result:
    """What the training of a run came to that has come to its end. Raises InputError where there is no such run.

    >>> finished_run("runs/digits").best["val_accuracy"]  # doctest: +SKIP
    0.99
    """
    folder = Path(run)
    config = read_config(folder)
    try:
        recipe = Recipe.from_json(config.get("recipe"))
    except InputError as error:
        raise InputError(f"{folder / CONFIG}: {error}") from error
    metrics, told = read_metrics(folder), config.get("data")
    validated = told.get("validation") if isinstance(told, Mapping) else None
    if type(validated) is not int or validated < 0:
        raise InputError(f"{folder / CONFIG}: damaged, it does not say how many images validated (data.validation).")
    best, kept = None, kept_epoch(folder)
    for position, line in enumerate(metrics):
        best_so_far = as_good_as_any(line, metrics[:position], validated) or recipe.keep == "last"
        # Weights of earlier versions do not say of which epoch they are.
        if line["epoch"] == kept if kept else best_so_far:
            best = line
    message = "The training had come to its end before."
    return Result(folder, load_model(folder), recipe, True, tuple(metrics), best, message)


def _message(training: Training, finished: bool) -> str:
    at, epochs = training.position, training.recipe.epochs
    if not finished:
        return (
            f"Stopped in epoch {at.epoch + 1} of {epochs}, after step {at.step} of {training.order.steps}."
            f" Nothing is lost: resume=True (--resume) goes on from here in {training.folder}."
        )
    best = at.best or {}
    early = f" of {epochs}, as the accuracy wanted was reached" if at.epoch < epochs else ""
    return (
        f"Trained for {at.epoch} epoch{'s' * (at.epoch != 1)}{early}; kept are the weights of epoch {best['epoch']},"
        f" with {best['val_accuracy']:.2%} of the validation images right."
    )


def _net(net: torch.nn.Module | str | None, data: Data) -> tuple[torch.nn.Module, dict[str, Any]]:
    if isinstance(net, torch.nn.Module):
        kind = type(net)
        return net, {"name": f"{kind.__module__}.{kind.__qualname__}", "args": {}}
    name = suggested_net(data) if net is None else net
    args: dict[str, Any] = {"classes": len(data.classes), "input_shape": list(data.input_shape)}
    module = nets.build(name, classes=len(data.classes), input_shape=data.input_shape)
    return module, {"name": name, "args": args}


def _sample(data: Data) -> torch.Tensor:
    """Training images, evenly from all of them, as the net reads them: some nets' first weights follow from such."""
    images, (_, height, width) = len(data.train), data.input_shape
    every = max(1, images // _SAMPLE, images * height * width // _SAMPLE_PIXELS)
    return torch.from_numpy(data.preprocessing.batch(data.train.batch(slice(None, None, every))))


def _check_fit(net: torch.nn.Module, data: Data, recipe: Recipe) -> None:
    """One grey image through the net, of each size: its answer must have one number for each class."""
    shape, classes = data.input_shape, len(data.classes)
    small = image_size(recipe, (shape[1], shape[2]), 0, 100)
    net.eval()
    try:
        with torch.no_grad():
            answer = net(torch.zeros(1, *shape))
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(f"The net does not take images of shape {shape} (c, h, w): {error}") from error
    found = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
    if found != (1, classes):
        raise InputError(
            f"The net gives {found} for one image; for the {classes} classes of {data.source} (1, {classes}) is wanted."
        )
    if small == shape[1:]:
        return
    try:
        with torch.no_grad():
            net(torch.zeros(1, shape[0], *small))
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"The net does not take images of {small[0]}x{small[1]}, with which start_size={recipe.start_size:g}"
            " begins: it must end with a pool over the whole image. start_size=1 works."
        ) from error
