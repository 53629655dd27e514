"""Weights from a file: what fits is taken, the last layer may be of other classes, the rest is named."""

import pytest
import torch
from safetensors.torch import save_file

from hapgop.errors import InputError
from hapgop.nn import nets
from hapgop.train import load_pretrained


@pytest.fixture
def saved(tmp_path):
    """Writes what a net of these classes holds, changed by a function."""

    def saved(classes, change=lambda state: state):
        path = tmp_path / "weights.safetensors"
        net = nets.build("resnet20", classes=classes, input_shape=(3, 16, 16))
        save_file(change(net.state_dict()), path)
        return path, net

    return saved


def _net():
    torch.manual_seed(1)
    return nets.build("resnet20", classes=3, input_shape=(3, 16, 16))


def test_all_of_it(saved):
    path, other = saved(3)
    net = _net()
    assert load_pretrained(net, path) == ()
    for mine, theirs in zip(net.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_last_layer_of_other_classes_stays_as_it_was(saved):
    path, other = saved(10)
    net = _net()
    before = net.fc.weight.clone()
    assert load_pretrained(net, path) == ("fc.weight", "fc.bias")
    assert torch.equal(net.fc.weight, before)
    assert torch.equal(net.conv1.weight, other.conv1.weight)


def test_files_without_counters_are_fine(saved):
    path, _ = saved(3, lambda state: {key: value for key, value in state.items() if "num_batches" not in key})
    assert load_pretrained(_net(), path) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: {**state, "conv1.weight": torch.zeros(16, 1, 3, 3)}, "conv1.weight is 16×1×3×3, not 16×3×3×3"),
        (lambda state: {**state, "more": torch.zeros(1)}, "unknown: more"),
        (lambda state: {"fc.weight": state["fc.weight"]}, r"missing: conv1.weight, bn1.weight, .* and \d+ more"),
    ],
)
def test_what_does_not_fit_is_named(saved, change, words):
    net = _net()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(InputError, match=words):
        load_pretrained(net, saved(3, change)[0])
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_no_file_and_no_safetensors(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_pretrained(_net(), tmp_path / "none.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not at all")
    with pytest.raises(InputError, match="save_file"):
        load_pretrained(_net(), broken)
