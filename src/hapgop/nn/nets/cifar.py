"""Three stages of convolution, batch norm and ReLU, for colour images of about 32 x 32."""

from collections import OrderedDict

from torch import Tensor, nn

from hapgop.nn.modules import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, MaxPool2d


class Cifar(nn.Module):
    """Two 3x3 convolutions a stage (64, 128, 256 filters), a pool after each stage, and a fully connected end.

    >>> Cifar(10, (3, 32, 32))(torch.ones(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """

    smallest = 8

    def __init__(self, classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        channels = input_shape[0]
        for stage, width in enumerate((64, 128, 256), 1):
            for number in (1, 2):
                parts[f"conv{stage}_{number}"] = Conv2d(channels, width, 3, padding=1, bias=False)
                parts[f"norm{stage}_{number}"] = BatchNorm2d(width, activation="relu")
                channels = width
            parts[f"pool{stage}"] = MaxPool2d(2)
        self.features = nn.Sequential(parts)
        self.average = AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classify = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.flatten(self.average(self.features(x))))
