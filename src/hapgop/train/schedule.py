"""The learning rate as a function of the step: no state, so that a training goes on anywhere."""

import math

from hapgop.train.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate for `step` (from 0) of `steps` in all.

    All schedules rise linearly over the first `warmup` share of the steps. Then "onecycle" falls linearly to
    nearly nothing (after Smith, "Super-Convergence", arXiv 1708.07120; the straight fall is that of
    cifar10-airbench), "cosine" falls along half a cosine (Loshchilov and Hutter, arXiv 1608.03983), and
    "constant" stays.

    >>> recipe = Recipe(learning_rate=1.0, schedule="onecycle", warmup=0.5)
    >>> [learning_rate(recipe, step, 4) for step in range(4)]
    [0.5, 1.0, 0.6666666666666667, 0.33333333333333337]
    """
    rising = min(round(recipe.warmup * steps), steps)
    if step < rising:
        return recipe.learning_rate * (step + 1) / rising
    # The step after the last one would be at zero: no step is wasted on it.
    passed = (step - rising + (rising > 0)) / (steps - rising + (rising > 0))
    if recipe.schedule == "onecycle":
        return recipe.learning_rate * (1 - passed)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * (1 + math.cos(math.pi * passed)) / 2
    return recipe.learning_rate
