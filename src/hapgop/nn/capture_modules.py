"""The layers that a graph knows: for each class of `torch.nn` (ours are their subclasses) operation and attributes."""

from collections.abc import Callable
from typing import Any, Final

from torch import nn

from hapgop.errors import InputError

Attrs = dict[str, Any]


def _conv(path: str, m: Any) -> tuple[str, Attrs]:
    names = ("out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    return "conv2d", {name: getattr(m, name) for name in names} | {"activation": getattr(m, "activation", None)}


def _conv_transpose(path: str, m: Any) -> tuple[str, Attrs]:
    names = ("out_channels", "kernel_size", "stride", "padding", "output_padding", "dilation", "groups")
    return "conv_transpose2d", {name: getattr(m, name) for name in names} | {
        "activation": getattr(m, "activation", None)
    }


def _linear(path: str, m: Any) -> tuple[str, Attrs]:
    return "linear", {"out_features": m.out_features, "activation": getattr(m, "activation", None)}


def _max_pool(path: str, m: Any) -> tuple[str, Attrs]:
    if m.return_indices:
        raise InputError(f"layer {path!r} returns indices; a graph has no word for them")
    return "max_pool2d", {
        name: getattr(m, name) for name in ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    }


def _avg_pool(path: str, m: Any) -> tuple[str, Attrs]:
    if m.divisor_override is not None:
        raise InputError(f"layer {path!r} has a divisor_override; a graph has no word for it")
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
    return "avg_pool2d", {name: getattr(m, name) for name in names}


def _batch_norm(path: str, m: Any) -> tuple[str, Attrs]:
    if m.running_mean is None:
        raise InputError(f"layer {path!r} keeps no running statistics; in a graph, batch norm uses them")
    return "batch_norm2d", {"eps": m.eps}


def _layer_norm(path: str, m: Any) -> tuple[str, Attrs]:
    if len(m.normalized_shape) != 1:
        raise InputError(f"layer {path!r} norms over more than the channels; a graph has no word for it")
    return "layer_norm", {"eps": m.eps}


def _adaptive_max(path: str, m: Any) -> tuple[str, Attrs]:
    if m.return_indices:
        raise InputError(f"layer {path!r} returns indices; a graph has no word for them")
    return "adaptive_max_pool2d", {"output_size": m.output_size}


def _plain(op: str, *names: str) -> Callable[[str, Any], tuple[str, Attrs]]:
    return lambda path, m: (op, {name: getattr(m, name) for name in names})


# Looked up in this order with isinstance.
MODULES: Final[dict[type[nn.Module], Callable[[str, Any], tuple[str, Attrs]]]] = {
    nn.Conv2d: _conv,
    nn.ConvTranspose2d: _conv_transpose,
    nn.Linear: _linear,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _plain("adaptive_avg_pool2d", "output_size"),
    nn.AdaptiveMaxPool2d: _adaptive_max,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.ReLU: _plain("relu"),
    nn.ReLU6: _plain("relu6"),
    nn.LeakyReLU: _plain("leaky_relu", "negative_slope"),
    nn.ELU: _plain("elu", "alpha"),
    nn.SiLU: _plain("silu"),
    nn.GELU: _plain("gelu", "approximate"),
    nn.Hardswish: _plain("hardswish"),
    nn.Hardsigmoid: _plain("hardsigmoid"),
    nn.Sigmoid: _plain("sigmoid"),
    nn.Tanh: _plain("tanh"),
    nn.Softmax: _plain("softmax", "dim"),
    nn.LogSoftmax: _plain("log_softmax", "dim"),
    nn.Flatten: _plain("flatten", "start_dim", "end_dim"),
    nn.Dropout: _plain("dropout", "p"),
    nn.Dropout2d: _plain("dropout", "p"),
    nn.Identity: _plain("identity"),
}
