"""What was done to a model, layer by layer, and why not the rest."""

from dataclasses import dataclass

from torch import nn

from hapgop.nn.accelerating.choosing import SLOWER, Choice, choices_of
from hapgop.nn.accelerating.layers import LAYERS
from hapgop.nn.accelerating.swapping import refusal


@dataclass(frozen=True)
class LayerAccount:
    """One layer: its path, the class that it had, and what was decided for the kinds of input that it met.

    reason: why it was left to PyTorch; None where it was taken. choices: of each kind of call, whether ours computes
    and how many times as fast as PyTorch's it was.
    """

    path: str
    kind: str
    reason: str | None
    choices: tuple[Choice, ...] = ()

    def words(self) -> str:
        """What computes this layer."""
        if self.reason is not None:
            return f"PyTorch: {self.reason}"
        if not self.choices:
            return "PyTorch in eval mode; not trained yet" if self.kind == "BatchNorm2d" else "not called yet"
        ours = [choice for choice in self.choices if choice.ours]
        gains = [choice.gain for choice in ours if choice.gain is not None]
        words = []
        if ours:
            low, high = (f"{best:.1f}" for best in (min(gains), max(gains))) if gains else ("", "")
            faster = f", {low if low == high else f'{low} to {high}'} times as fast" if gains else ""
            words.append(f"ours{faster}")
        if len(ours) < len(self.choices):
            words.append(f"PyTorch: {SLOWER}")
        return "; ".join(words)


@dataclass(frozen=True)
class Acceleration:
    """The layers of a model that are convolutions, pools or batch norms, in their order.

    >>> print(acceleration(nn.Sequential(nn.Conv2d(1, 1, 1))))
    layer  kind    computed by
    0      Conv2d  PyTorch: the model was not accelerated
    """

    layers: tuple[LayerAccount, ...]

    @property
    def taken(self) -> int:
        """How many layers were taken."""
        return sum(layer.reason is None for layer in self.layers)

    def __str__(self) -> str:
        if not self.layers:
            return "no convolutions, pools or batch norms"
        rows = [("layer", "kind", "computed by")]
        rows += [(layer.path or "(itself)", layer.kind, layer.words()) for layer in self.layers]
        wide, narrow = (max(len(row[column]) for row in rows) for column in (0, 1))
        return "\n".join(f"{path:<{wide}}  {kind:<{narrow}}  {words}" for path, kind, words in rows)


def acceleration(model: nn.Module) -> Acceleration:
    """What `accelerate` did to the model, or would leave: `print` it, or read its `layers`.

    >>> [layer.reason for layer in acceleration(nn.Sequential(nn.Conv2d(3, 6, 5))).layers]
    ['the model was not accelerated']
    """
    ours = {taken: original for original, taken in LAYERS.items()}
    found = []
    for path, layer in model.named_modules():
        if type(layer) in ours:
            kind = ours[type(layer)].__name__
            found.append(LayerAccount(path, kind, None, tuple(choices_of(layer).values())))
            continue
        reason = refusal(layer)
        if reason is None and not isinstance(layer, nn.Sequential):
            reason = "the model was not accelerated"
        if reason:
            found.append(LayerAccount(path, type(layer).__name__, reason))
    return Acceleration(tuple(found))
