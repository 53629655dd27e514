"""Runs whose files do not say what they should: the file is named, no traceback comes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hapgop.errors import InputError
from hapgop.train import Data, Recipe, evaluate, fit, load_filters, load_model
from hapgop.train.run import read_metrics


@pytest.fixture
def run(tmp_path: Path, data: Data, net: Callable[[], torch.nn.Module]) -> Path:
    fit(data, tmp_path / "run", Recipe(epochs=2, batch_size=10), net=net())
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ([], "'data' must be an object"),
        (None, "'data' must be an object"),
        ({"seed": "one"}, "'seed' is 'one'"),
        ({"seed": -1}, "'seed' is -1"),
        ({"seed": True}, "'seed' is True"),
        ({"validation_share": "10%"}, "'validation_share' is '10%'"),
        ({"validation_share": 1.5}, "'validation_share' is 1.5"),
    ],
)
def test_a_config_that_tells_nonsense_of_its_data_is_named(run: Path, told: object, said: str) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "data": told}))
    with pytest.raises(InputError, match=r"config\.json is damaged") as caught:
        evaluate(run, "digits")
    assert said in str(caught.value)


def test_a_config_may_tell_nothing_of_where_its_data_are(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    for told in ({}, {"source": 5, "train": "many"}):
        (run / "config.json").write_text(json.dumps({**config, "data": told}))
        with pytest.raises(InputError, match="not among those that the net knows"):
            evaluate(run, "digits")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("5", "line 3 has no number for 'epoch'"),
        ('{"epoch": 3, "seconds": 1}', "line 3 has no number for 'val_accuracy'"),
        ('{"epoch": 3, "seconds": 1, "val_accuracy": "high"}', "line 3 has no number for 'val_accuracy'"),
        ('{"epoch": 3, "seconds": 1, "val_accuracy": NaN}', "line 3 has no number for 'val_accuracy'"),
        ('{"epoch": 3, "val_accuracy": 0.5}', "line 3 has no number for 'seconds'"),
        ('{"epoch": 3, ', "cannot be read"),
    ],
)
def test_metrics_that_no_epoch_wrote_are_named(run: Path, line: str, said: str) -> None:
    assert [line["epoch"] for line in read_metrics(run)] == [1, 2]
    with (run / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl: ") as caught:
        read_metrics(run)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "built",
    [
        5,
        {},
        {"name": "lenet5"},
        {"name": "lenet5", "args": 5},
        {"name": "lenet5", "args": {"classes": "ten", "input_shape": [1, 28, 28]}},
        {"name": "lenet5", "args": {"classes": 10, "input_shape": [1, 28]}},
        {"name": "lenet5", "args": {"classes": 10, "input_shape": [1, -28, 28]}},
        {"name": "lenet5", "args": {"classes": -1, "input_shape": [1, 28, 28]}},
        {"name": ["lenet5"], "args": {}},
    ],
)
def test_a_config_that_does_not_say_how_its_net_is_built_is_named(run: Path, built: object) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "net": built}))
    with pytest.raises(InputError, match=r"does not say how its net is built|only you can build"):
        load_model(run)


def test_filters_that_cannot_be_read_are_none(run: Path) -> None:
    assert sorted(load_filters(run)) == [0, 1, 2]
    (run / "filters.safetensors").write_bytes(b"Dear diary")
    assert load_filters(run) == {}
