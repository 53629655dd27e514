"""For images as small as scikit-learn's digits, 8 x 8."""

from torch import Tensor, nn
from torch.nn import functional as F

from hapgop.nn.modules import Conv2d


class Digits(nn.Module):
    """Three 3x3 convolutions, a pool after the second and the third, and a fully connected end.

    >>> Digits(10, (1, 8, 8))(torch.ones(1, 1, 8, 8)).shape
    torch.Size([1, 10])
    """

    smallest = 4

    def __init__(self, classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.conv1 = Conv2d(channels, 16, 3, padding=1, activation="relu")
        self.conv2 = Conv2d(16, 32, 3, padding=1, activation="relu", pool=2)
        self.conv3 = Conv2d(32, 64, 3, padding=1, activation="relu", pool=2)
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(64 * (height // 4) * (width // 4), 128)
        self.dropout = nn.Dropout(0.25)
        self.classify = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3(self.conv2(self.conv1(x)))
        return self.classify(self.dropout(F.relu(self.hidden(self.flatten(x)))))
