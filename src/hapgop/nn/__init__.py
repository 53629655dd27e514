"""PyTorch begins here: our operators, layers with PyTorch's names, nets, and modules captured as graphs."""

from hapgop.nn import functional, nets, ops, optim
from hapgop.nn.accelerating import Acceleration, LayerAccount, accelerate, acceleration, restore
from hapgop.nn.capturing import capture
from hapgop.nn.modules import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Linear,
    MaxPool2d,
)
from hapgop.nn.report import CallReport, report, reset_report
from hapgop.nn.settling import settle
from hapgop.nn.threads import share_threads
from hapgop.nn.training import TrainingProgram

__all__ = [
    "Acceleration",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "CallReport",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "LayerAccount",
    "Linear",
    "MaxPool2d",
    "TrainingProgram",
    "accelerate",
    "acceleration",
    "capture",
    "functional",
    "nets",
    "ops",
    "optim",
    "report",
    "reset_report",
    "restore",
    "settle",
]

share_threads()
