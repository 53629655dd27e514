"""The learning rate and the image size as functions of the step: no state, so that a training goes on anywhere."""

import math

from hapgop.train.recipe import Recipe

# Where images begin small, they have their full size for the last 40 % of the steps.
_GROWING = 0.6
# Each size costs new kernels, so there are few.
_SIZES = 3
_SIZE_STEP = 4
_DROPS = (0.5, 0.75)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate for `step` (from 0) of `steps` in all.

    All schedules rise linearly over the first `warmup` share of the steps. Then "onecycle" falls linearly to
    nearly nothing (after Smith, "Super-Convergence", arXiv 1708.07120; the straight fall is that of
    cifar10-airbench), "cosine" falls along half a cosine (Loshchilov and Hutter, arXiv 1608.03983), "steps" is
    divided by ten after half and again after three quarters of all steps (He et al., arXiv 1512.03385, on CIFAR-10),
    and "constant" stays.

    >>> recipe = Recipe(learning_rate=1.0, schedule="onecycle", warmup=0.5)
    >>> [learning_rate(recipe, step, 4) for step in range(4)]
    [0.5, 1.0, 0.6666666666666667, 0.33333333333333337]
    """
    return recipe.learning_rate * share(recipe, step, steps)


def share(recipe: Recipe, step: int, steps: int) -> float:
    """The share of the peak learning rate, above 0 and at most 1, for `step` (from 0) of `steps`."""
    rising = min(round(recipe.warmup * steps), steps)
    if step < rising:
        return (step + 1) / rising
    # The step after the last one would be at zero: no step is wasted on it.
    passed = (step - rising + (rising > 0)) / (steps - rising + (rising > 0))
    if recipe.schedule == "onecycle":
        return 1 - passed
    if recipe.schedule == "cosine":
        return (1 + math.cos(math.pi * passed)) / 2
    if recipe.schedule == "steps":
        return float(0.1 ** sum(step >= drop * steps for drop in _DROPS))
    return 1.0


def image_size(recipe: Recipe, full: tuple[int, int], step: int, steps: int) -> tuple[int, int]:
    """The (height, width) on which `step` trains: `start_size` of the full one, growing in three leaps.

    Source: Howard, fast.ai's DAWNBench entry (2018), for growing images.

    >>> recipe = Recipe(start_size=0.5)
    >>> [image_size(recipe, (32, 32), step, 10) for step in (0, 2, 4, 6, 9)]
    [(16, 16), (20, 20), (28, 28), (32, 32), (32, 32)]
    """
    leap = int(_SIZES * step / (_GROWING * steps)) if recipe.start_size < 1 else _SIZES
    if leap >= _SIZES:
        return full
    part = recipe.start_size + (1 - recipe.start_size) * leap / _SIZES
    height, width = (min(side, max(_SIZE_STEP, _SIZE_STEP * round(part * side / _SIZE_STEP))) for side in full)
    return height, width
