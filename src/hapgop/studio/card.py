"""The model card of a run: what a stranger needs who is given the folder, as Markdown.

The head is what model hubs read (huggingface.co/docs/hub/model-cards): every value of it is JSON, which YAML includes.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hapgop.files import write_whole
from hapgop.predict.folder import CARD_HEAD, is_own_card
from hapgop.program import LayerInfo
from hapgop.studio.words import count, large, percent, said, several

if TYPE_CHECKING:  # a page needs no PyTorch
    from hapgop.train import Calibration, Evaluation

# So many classes have a row each; of more, the lowest.
_CLASSES = 50
_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>|#~$"} | {"\n": " ", "\r": " "})


def write_card(
    path: str | Path,
    *,
    config: Mapping[str, Any],
    evaluation: "Evaluation",
    layers: Sequence[LayerInfo],
    calibration: "Calibration | None" = None,
) -> bool:
    """Writes README.md; False where there is one already that is not a card of ours: it is left as it is.

    config: what a run's config.json holds; calibration: where images were judged that did not validate.
    """
    file = Path(path)
    if file.exists() and not is_own_card(file):
        return False
    write_whole(file, card(config, evaluation, layers, calibration).encode("utf-8", "backslashreplace"))
    return True


def card(
    config: Mapping[str, Any],
    evaluation: "Evaluation",
    layers: Sequence[LayerInfo],
    calibration: "Calibration | None" = None,
) -> str:
    """The text; the arguments are those of `write_card`."""
    net, data = _of(config, "net").get("name", "net"), _of(config, "data")
    source = Path(str(data.get("source", "pictures"))).name or "pictures"
    return "\n".join([
        _head(f"{net} on {source}", source, data, evaluation),
        f"# {_plain(f'{net} on {source}')}\n",
        f"Labels a picture with one of {several(len(evaluation.classes), 'class', 'classes')}:"
        f" {', '.join(map(_plain, evaluation.classes))}.\n",
        _USE,
        "## How good it is\n",
        _accuracy(evaluation, calibration),
        _table(evaluation),
        "It answers every picture with one of these classes, also one that shows something else, and its accuracy is"
        " that on pictures like those below.\n",
        "## What it has learnt from\n",
        _pictures(config),
        "## The net\n",
        _layers(layers),
    ])  # fmt: skip


_USE = """## Use

In this folder:

```sh
pip install 'hapgop[predict]'
hapgop predict . picture.jpg        # labels and probabilities; needs no PyTorch
hapgop look . picture.jpg           # why this label: the page needs hapgop[look]
hapgop export . net.onnx            # for other runtimes, preprocessing included: needs hapgop[onnx]
```

```python
from hapgop import Predictor

print(Predictor(".")("picture.jpg")[0].label)
```

`model.safetensors` holds the weights as PyTorch names and orders them, `config.json` the layers, the classes, the
preprocessing and the whole recipe, `report.html` the mistakes and the curves. Nothing is a pickle.
"""


def _head(title: str, source: str, data: Mapping[str, Any], evaluation: "Evaluation") -> str:
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": source, "type": "imagefolder" if data.get("kind") == "folder" else "array"},
        "metrics": [
            {"type": "accuracy", "value": round(evaluation.accuracy, 6), "name": f"{evaluation.split} accuracy"}
        ],
    }
    values = {
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "convolutional-network"],
        "metrics": ["accuracy"],
        "model-index": [{"name": title, "results": [result]}],
    }
    lines = (f"{name}: {json.dumps(value)}\n" for name, value in values.items())
    return f"{CARD_HEAD}{''.join(lines)}---\n"


def _accuracy(evaluation: "Evaluation", calibration: "Calibration | None") -> str:
    (low, high), total = evaluation.interval, len(evaluation.labels)
    what = {"test": "test images", "validation": "images held back, which also chose the epoch that is kept"}
    words = (
        f"{percent(evaluation.accuracy, total)} of {count(total)} {what.get(evaluation.split, 'images')} are labelled"
        f" right (95 % interval {percent(low, total)} to {percent(high, total)})."
    )
    if calibration is not None:
        words += (
            f" When it says how sure it is, it is off by {percent(calibration.error)} on average (expected calibration"
            " error)."
        )
    return f"{words}\n"


def _table(evaluation: "Evaluation") -> str:
    right, total, low, high = evaluation.per_class
    rows = sorted(
        (
            right[i] / total[i],
            f"| {_plain(name)} | {right[i]} of {total[i]} | {_range(low[i], high[i], int(total[i]))} |",
        )
        for i, name in enumerate(evaluation.classes)
        if total[i]
    )
    head = "| class, the lowest first | right | 95 % interval |\n| --- | --- | --- |\n"
    more = f"\nAnd {several(len(rows) - _CLASSES, 'class', 'classes')} above these.\n" if len(rows) > _CLASSES else ""
    return head + "".join(f"{row}\n" for _, row in rows[:_CLASSES]) + more


def _range(low: float, high: float, total: int) -> str:
    return f"{percent(float(low), total)} to {percent(float(high), total)}"


def _pictures(config: Mapping[str, Any]) -> str:
    data, images, recipe = (_of(config, name) for name in ("data", "preprocessing", "recipe"))
    parts = [
        several(data[name], f"image{what}", f"images{what}")
        for name, what in (("train", " to train on"), ("validation", " to validate"), ("test", " to test"))
        if data.get(name)
    ]
    words = [f"{', '.join(parts)}." if parts else ""]
    if (size := images.get("input_size")) is not None:
        channels, height, width = size
        words.append(f"They are seen as {height} x {width} pixels, {'in colour' if channels == 3 else 'in grey'}.")
    told = (f"{name.replace('_', ' ')} {said(recipe[name])}" for name in _TOLD if name in recipe)
    words.append(f"Recipe: {', '.join(told)}; all of it is in `config.json`.")
    return " ".join(filter(None, words)) + "\n"


_TOLD = (
    "epochs", "batch_size", "optimizer", "learning_rate", "schedule", "weight_decay", "label_smoothing", "flip",
    "shift",
)  # fmt: skip


def _layers(layers: Sequence[LayerInfo]) -> str:
    parameters, macs = sum(layer.parameters for layer in layers), sum(layer.macs for layer in layers)
    head = "| layer | kind | filter | output | parameters |\n| --- | --- | --- | --- | --- |\n"
    rows = (
        f"| {_plain(layer.name)} | {layer.op} | {_plain(layer.filter)} | {' x '.join(map(str, layer.output_shape))}"
        f" | {count(layer.parameters)} |\n"
        for layer in layers
    )
    return (
        f"{count(parameters)} parameters, {large(macs)} multiplications with an addition for an image.\n\n"
        f"{head}{''.join(rows)}"
    )


def _of(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = config.get(name)
    return value if isinstance(value, Mapping) else {}


def _plain(text: str) -> str:
    """Text that Markdown takes for text.

    >>> _plain("a|b *c*")
    'a\\\\|b \\\\*c\\\\*'
    """
    return str(text).translate(_SPECIAL)
