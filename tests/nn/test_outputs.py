"""Large results lie in memory that is used again, and are tensors like any other."""

import pytest
import torch

import hapgop.nn.functional as F
from hapgop.nn.outputs import empty_strided


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 4, 5), (8, 64, 64, 64)])
def test_as_pytorchs(shape, dtype):
    _, c, h, w = shape
    for strides in ((c * h * w, h * w, w, 1), (c * h * w, 1, w * c, c)):
        wanted = torch.empty_strided(shape, strides, dtype=dtype)
        tensor = empty_strided(shape, strides, dtype)
        assert (tensor.shape, tensor.stride(), tensor.dtype) == (wanted.shape, wanted.stride(), dtype)
        assert tensor.storage_offset() == 0
        assert tensor.fill_(3).sum() == 3 * wanted.numel()


def test_large_memory_is_used_again_and_never_too_early():
    x = torch.ones(8, 4, 128, 128, requires_grad=True)
    w = torch.ones(16, 4, 1, 1)
    first = F.conv2d(x, w)
    part = first.detach()[1, 2]
    place = first.data_ptr()
    second = F.conv2d(x * 2, w)
    del first
    assert second.data_ptr() != place
    assert (part == 4).all()
    assert (second == 8).all()
    del part
    third = F.conv2d(x, w)
    assert third.data_ptr() == place
    third.sum().backward()
    assert (x.grad == 16).all()


def test_a_large_result_is_copied_shared_and_saved(tmp_path):
    y = F.conv2d(torch.ones(8, 4, 128, 128), torch.ones(16, 4, 1, 1))
    torch.save(y, tmp_path / "y.pt")
    assert (torch.load(tmp_path / "y.pt") == 4).all()
    assert (y.clone().share_memory_() == 4).all()
    assert (y.add_(1).numpy() == 5).all()


def test_gradients_of_a_large_map_are_added_in_place():
    """PyTorch takes new memory for the sum where somebody else might hold that of the parts."""
    places = []

    class Ones(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            result = empty_strided(g.shape, (64 * 4096, 4096, 64, 1), torch.float32).fill_(1)
            places.append(result.data_ptr())
            return result

    x = torch.ones(8, 64, 64, 64, requires_grad=True)
    (Ones.apply(x).sum() + Ones.apply(x).sum()).backward()
    assert (x.grad == 2).all()
    assert x.grad.data_ptr() in places
