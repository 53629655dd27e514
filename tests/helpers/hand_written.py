"""Small models in the style of public ones, in plain PyTorch: nothing in here knows of hapgop."""

import torch
from torch import nn
from torch.nn import functional as F


def conv_norm(ic, oc, kernel, stride=1, groups=1, dilation=1, act=nn.ReLU):
    padding = (kernel - 1) // 2 * dilation
    conv = nn.Conv2d(ic, oc, kernel, stride, padding, dilation, groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(oc), act())


class ResNeXt(nn.Module):
    """Grouped bottlenecks."""

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(width, width // 2, 1, bias=False), nn.BatchNorm2d(width // 2)
            self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, groups=4, bias=False)
            self.bn2 = nn.BatchNorm2d(width // 2)
            self.conv3, self.bn3 = nn.Conv2d(width // 2, width, 1, bias=False), nn.BatchNorm2d(width)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            out = self.relu(self.bn1(self.conv1(x)))
            out = self.relu(self.bn2(self.conv2(out)))
            out = self.bn3(self.conv3(out))
            out += x
            return self.relu(out)

    def __init__(self):
        super().__init__()
        self.stem = conv_norm(3, 32, 7, 2)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layers = nn.Sequential(self.Block(32), self.Block(32))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(32, 5)

    def forward(self, x):
        x = self.avgpool(self.layers(self.maxpool(self.stem(x))))
        return self.fc(torch.flatten(x, 1))


class DeepLab(nn.Module):
    """Dilated branches beside one another, and a map as large as the image."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(conv_norm(3, 16, 3, 2), conv_norm(16, 24, 3, 2))
        self.branches = nn.ModuleList([conv_norm(24, 8, 1), *(conv_norm(24, 8, 3, dilation=d) for d in (2, 4))])
        self.pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 8, 1), nn.ReLU())
        # No norm here: it would take away again whatever the pooled branch adds.
        self.project = nn.Sequential(nn.Conv2d(32, 16, 1), nn.ReLU(), nn.Dropout(0.0), nn.Conv2d(16, 4, 1))

    def forward(self, x):
        size = x.shape[-2:]
        x = self.backbone(x)
        parts = [branch(x) for branch in self.branches]
        parts.append(F.interpolate(self.pooling(x), size=x.shape[-2:], mode="bilinear", align_corners=False))
        return F.interpolate(self.project(torch.cat(parts, dim=1)), size=size, mode="bilinear", align_corners=False)


class UNet(nn.Module):
    """Down, and up again by transposed convolutions, with what was there on the way down."""

    class Double(nn.Module):
        def __init__(self, ic, oc):
            super().__init__()
            self.double_conv = nn.Sequential(
                nn.Conv2d(ic, oc, kernel_size=3, padding=1), nn.ReLU(inplace=True),
                nn.Conv2d(oc, oc, kernel_size=3, padding=1), nn.ReLU(inplace=True),
            )  # fmt: skip

        def forward(self, x):
            return self.double_conv(x)

    def __init__(self):
        super().__init__()
        self.inc, self.down, self.bottom = self.Double(1, 8), self.Double(8, 16), self.Double(16, 32)
        self.up1, self.conv1 = nn.ConvTranspose2d(32, 16, kernel_size=2, stride=2), self.Double(32, 16)
        self.up2 = nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1)
        self.conv2, self.outc = self.Double(16, 8), nn.Conv2d(8, 2, kernel_size=1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        a = self.inc(x)
        b = self.down(self.pool(a))
        y = self.up1(self.bottom(self.pool(b)))
        y = self.up2(self.conv1(torch.cat([b, y], dim=1)))
        return torch.sigmoid(self.outc(self.conv2(torch.cat([a, y], dim=1))))


class MobileNetV3(nn.Module):
    """Inverted residuals with squeeze-and-excite and hard swish."""

    class SqueezeExcitation(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.fc1, self.fc2 = nn.Conv2d(channels, 8, 1), nn.Conv2d(8, channels, 1)

        def forward(self, x):
            scale = F.adaptive_avg_pool2d(x, 1)
            scale = F.hardsigmoid(self.fc2(F.relu(self.fc1(scale))))
            return scale * x

    class InvertedResidual(nn.Module):
        def __init__(self, ic, wide, oc, kernel, stride):
            super().__init__()
            self.use_res_connect = stride == 1 and ic == oc
            self.block = nn.Sequential(
                conv_norm(ic, wide, 1, act=nn.Hardswish),
                conv_norm(wide, wide, kernel, stride, groups=wide, act=nn.Hardswish),
                MobileNetV3.SqueezeExcitation(wide), conv_norm(wide, oc, 1, act=nn.Identity),
            )  # fmt: skip

        def forward(self, x):
            result = self.block(x)
            if self.use_res_connect:
                result += x
            return result

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            conv_norm(3, 16, 3, 2, act=nn.Hardswish), self.InvertedResidual(16, 32, 16, 3, 1),
            self.InvertedResidual(16, 48, 24, 5, 2), self.InvertedResidual(24, 48, 24, 5, 1),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Linear(24, 32), nn.Hardswish(), nn.Dropout(0.0), nn.Linear(32, 5))

    def forward(self, x):
        x = self.features(x)
        return self.classifier(x.mean([2, 3]))


class DenseNet(nn.Module):
    """Every layer reads what all before it made."""

    class Layer(nn.Module):
        def __init__(self, ic, growth):
            super().__init__()
            self.norm1, self.relu1 = nn.BatchNorm2d(ic), nn.ReLU(inplace=True)
            self.conv1 = nn.Conv2d(ic, 2 * growth, kernel_size=1, bias=False)
            self.norm2, self.relu2 = nn.BatchNorm2d(2 * growth), nn.ReLU(inplace=True)
            self.conv2 = nn.Conv2d(2 * growth, growth, kernel_size=3, padding=1, bias=False)

        def forward(self, features):
            out = self.conv1(self.relu1(self.norm1(torch.cat(features, 1))))
            return self.conv2(self.relu2(self.norm2(out)))

    def __init__(self):
        super().__init__()
        self.conv0 = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.block = nn.ModuleDict({f"layer{i}": self.Layer(16 + 8 * i, 8) for i in range(3)})
        self.transition = nn.Sequential(
            nn.BatchNorm2d(40), nn.ReLU(), nn.Conv2d(40, 20, 1, bias=False), nn.AvgPool2d(2)
        )
        self.classifier = nn.Linear(20, 5)

    def forward(self, x):
        features = [self.conv0(x)]
        for layer in self.block.values():
            features.append(layer(features))
        x = F.relu(self.transition(torch.cat(features, 1)))
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


class Shared(nn.Module):
    """One convolution used three times, and two that share their weight."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.step = nn.Conv2d(12, 12, 3, padding=1)
        self.tied = nn.Conv2d(12, 12, 3, padding=2, dilation=2)
        self.tied.weight = self.step.weight
        self.again = nn.Sequential(self.step, nn.ReLU(), self.tied)
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        x = self.stem(x)
        for _ in range(2):
            x = x + F.relu(self.step(x))
        return self.head(self.again(x).mean((2, 3)))


class Hooked(nn.Module):
    """Keeps what its layers make by hooks, as feature extractors do, and scales a gradient on the way back."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Linear(8 * 6 * 6, 5)
        self.features[3].register_forward_hook(lambda layer, inputs, output: output * 2)
        self.features[0].register_forward_pre_hook(lambda layer, inputs: (inputs[0] + 1,))
        self.features[3].register_full_backward_hook(lambda layer, inputs, outputs: (inputs[0] * 3,))

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


MODELS = {
    "grouped": (ResNeXt, (3, 48, 40)),
    "dilated": (DeepLab, (3, 40, 32)),
    "transposed": (UNet, (1, 32, 24)),
    "squeeze_and_excite": (MobileNetV3, (3, 32, 40)),
    "dense": (DenseNet, (3, 24, 24)),
    "shared": (Shared, (3, 16, 15)),
    "hooked": (Hooked, (3, 30, 30)),
}
