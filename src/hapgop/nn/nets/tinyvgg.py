"""TinyVGG: the net that CNN Explainer draws."""

from torch import Tensor, nn

from hapgop.nn.modules import Conv2d, MaxPool2d


class TinyVGG(nn.Module):
    """Two blocks of two 3x3 convolutions with ten filters and a pool, and one fully connected layer.

    Source: Wang et al., "CNN Explainer: learning convolutional neural networks with interactive visualization", 2020.

    >>> TinyVGG(10, (3, 64, 64))(torch.ones(1, 3, 64, 64)).shape
    torch.Size([1, 10])
    """

    smallest = 16

    def __init__(self, classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.conv1_1 = Conv2d(channels, 10, 3, activation="relu")
        self.conv1_2 = Conv2d(10, 10, 3, activation="relu")
        self.pool1 = MaxPool2d(2)
        self.conv2_1 = Conv2d(10, 10, 3, activation="relu")
        self.conv2_2 = Conv2d(10, 10, 3, activation="relu")
        self.pool2 = MaxPool2d(2)
        self.flatten = nn.Flatten()
        rows, columns = (((size - 4) // 2 - 4) // 2 for size in (height, width))
        self.classify = nn.Linear(10 * rows * columns, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.conv1_2(self.conv1_1(x)))
        x = self.pool2(self.conv2_2(self.conv2_1(x)))
        return self.classify(self.flatten(x))
