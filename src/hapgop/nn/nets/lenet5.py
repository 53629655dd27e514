"""LeNet-5, with the pools and activations of today."""

from torch import Tensor, nn
from torch.nn import functional as F

from hapgop.nn.modules import Conv2d


class LeNet5(nn.Module):
    """Two 5x5 convolutions, each with a pool, and three fully connected layers.

    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998; with
    ReLU for tanh and max pooling for the trained average.

    >>> LeNet5(10, (1, 28, 28))(torch.ones(1, 1, 28, 28)).shape
    torch.Size([1, 10])
    """

    smallest = 12

    def __init__(self, classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.conv1 = Conv2d(channels, 6, 5, padding=2, activation="relu", pool=2)
        self.conv2 = Conv2d(6, 16, 5, activation="relu", pool=2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(16 * ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2), 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.conv1(x))
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(self.flatten(x))))))
