"""How good the weights of an epoch are on the validation split."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hapgop.train.batches import looked_through
from hapgop.train.data import Data
from hapgop.train.distributed import Workers
from hapgop.train.interrupt import Interrupt
from hapgop.train.progress import Event, Validating
from hapgop.train.recipe import Recipe

# Values of one batch: enough to be fast, little enough for the activations of large images.
_VALUES = 1_500_000
_MOST_IMAGES = 256


def validated(
    net: torch.nn.Module,
    data: Data,
    recipe: Recipe,
    epoch: int,
    workers: Workers,
    tell: Callable[[Event], None],
    interrupt: Interrupt,
) -> tuple[float, float] | None:
    """(loss, accuracy) on the validation split, all workers together; None where Ctrl-C came first."""
    split = data.validation
    part = workers.part(len(split))
    count = max(1, min(_MOST_IMAGES, _VALUES // math.prod(data.input_shape)))
    loss, correct = 0.0, 0
    net.eval()
    with torch.no_grad():
        for chosen, before in looked_through(part.start, part.stop, count):
            # With several workers, all have to agree first.
            if interrupt.asked and workers.alone:
                return None
            x = torch.from_numpy(data.preprocessing.batch(split.batch(chosen)))
            logits = answered(net, x, recipe.test_flip)[before:]
            y = torch.from_numpy(split.labels[chosen[before:]])
            loss += cross_entropy(logits, y, reduction="sum").item()
            correct += int((logits.argmax(1) == y).sum())
            tell(Validating(epoch + 1, recipe.epochs, int(chosen[-1]) + 1, len(split)))
    asked: float
    if workers.alone:
        return loss / len(split), correct / len(split)
    loss, right, asked = workers.summed((loss, float(correct), float(interrupt.asked)))
    if asked:
        interrupt.asked = True
        return None
    return loss / len(split), right / len(split)


def answered(net: torch.nn.Module, x: Tensor, test_flip: bool) -> Tensor:
    """The net's outputs, (b, classes); with test_flip the mean of those for the images and for their mirror images."""
    logits: Tensor = net(x)
    return (logits + net(x.flip(3))) / 2 if test_flip else logits
