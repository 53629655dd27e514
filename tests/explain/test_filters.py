import numpy as np
import pytest
from torch import nn

from hapgop.errors import InputError
from hapgop.explain import filters


def test_first_convolution_is_the_default(net, predictor):
    for model in (net, predictor):
        found = filters(model)
        assert found.layer == "0"
        assert np.array_equal(found.array, net[0].weight.detach().numpy())


def test_any_convolution_by_its_name(net, predictor):
    for model in (net, predictor):
        assert np.array_equal(filters(model, "3").array, net[3].weight.detach().numpy())


def test_filters_are_a_copy(net):
    found = filters(net)
    found.array[...] = 0
    assert net[0].weight.abs().sum() > 0


def test_a_net_that_is_one_convolution():
    assert filters(nn.Conv2d(3, 4, (5, 2), groups=1)).array.shape == (4, 3, 5, 2)


def test_a_name_that_is_no_convolution_is_answered_with_those_that_are(net, predictor):
    for model in (net, predictor):
        with pytest.raises(InputError, match=r"no convolution called '1'\. Its convolutions: 0, 3\."):
            filters(model, "1")


@pytest.mark.parametrize("net", [nn.Linear(3, 4), nn.ConvTranspose2d(3, 4, 2), nn.Conv1d(3, 4, 2), nn.ReLU()])
def test_a_net_without_filters_says_so(net):
    with pytest.raises(InputError, match="no two-dimensional convolution"):
        filters(net)
