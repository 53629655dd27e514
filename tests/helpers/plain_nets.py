"""The nets written a second time: PyTorch's own functions over a state dict, read in the order of the forward."""

from torch.nn import functional as F


class Reader:
    """Takes tensors out of a state dict and remembers in which order."""

    def __init__(self, state, dtype):
        self.state, self.dtype, self.read = state, dtype, []

    def __call__(self, key):
        self.read.append(key)
        return self.state[key].to(self.dtype)

    def maybe(self, key):
        return self(key) if key in self.state else None

    def conv(self, x, at, stride=1, padding=0, groups=1):
        return F.conv2d(x, self(f"{at}.weight"), self.maybe(f"{at}.bias"), stride, padding, 1, groups)

    def norm(self, x, at):
        weight, bias, mean, var = (self(f"{at}.{role}") for role in ("weight", "bias", "running_mean", "running_var"))
        self.read.append(f"{at}.num_batches_tracked")
        return F.batch_norm(x, mean, var, weight, bias)

    def linear(self, x, at):
        return F.linear(x, self(f"{at}.weight"), self(f"{at}.bias"))


def resnet(r, x, depths, bottleneck):
    x = F.max_pool2d(F.relu(r.norm(r.conv(x, "conv1", 2, 3), "bn1")), 3, 2, 1)
    for stage, depth in enumerate(depths, 1):
        for block in range(depth):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            if bottleneck:
                y = F.relu(r.norm(r.conv(x, f"{at}.conv1"), f"{at}.bn1"))
                y = F.relu(r.norm(r.conv(y, f"{at}.conv2", stride, 1), f"{at}.bn2"))
                y = r.norm(r.conv(y, f"{at}.conv3"), f"{at}.bn3")
            else:
                y = F.relu(r.norm(r.conv(x, f"{at}.conv1", stride, 1), f"{at}.bn1"))
                y = r.norm(r.conv(y, f"{at}.conv2", 1, 1), f"{at}.bn2")
            if block == 0 and (bottleneck or stage > 1):
                x = r.norm(r.conv(x, f"{at}.downsample.0", stride), f"{at}.downsample.1")
            x = F.relu(x + y)
    return r.linear(x.mean((2, 3)), "fc")


def resnet_cifar(r, x, blocks):
    x = F.relu(r.norm(r.conv(x, "conv1", 1, 1), "bn1"))
    for stage in (1, 2, 3):
        for block in range(blocks):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = F.relu(r.norm(r.conv(x, f"{at}.conv1", stride, 1), f"{at}.bn1"))
            y = r.norm(r.conv(y, f"{at}.conv2", 1, 1), f"{at}.bn2")
            if stride == 2:
                x = r.norm(r.conv(x, f"{at}.shortcut.0", stride), f"{at}.shortcut.1")
            x = F.relu(x + y)
    return r.linear(x.mean((2, 3)), "fc")


def vgg(r, x, depths, norm):
    number = 0
    for depth in depths:
        for _ in range(depth):
            x = r.conv(x, f"features.{number}", 1, 1)
            x = F.relu(r.norm(x, f"features.{number + 1}") if norm else x)
            number += 3 if norm else 2
        x = F.max_pool2d(x, 2)
        number += 1
    x = F.adaptive_avg_pool2d(x, 7).flatten(1)
    x = F.relu(r.linear(F.relu(r.linear(x, "classifier.0")), "classifier.3"))
    return r.linear(x, "classifier.6")


def mobilenet_v2(r, x):
    x = F.relu6(r.norm(r.conv(x, "features.0.0", 2, 1), "features.0.1"))
    rows = [(1, 16, 1), *[(6, 24, 2), (6, 24, 1)], *[(6, 32, 2), (6, 32, 1), (6, 32, 1)]]
    rows += [(6, 64, 2), *[(6, 64, 1)] * 3, *[(6, 96, 1)] * 3, (6, 160, 2), *[(6, 160, 1)] * 2, (6, 320, 1)]
    for number, (expansion, out, stride) in enumerate(rows, 1):
        at, y, i = f"features.{number}.conv", x, 0
        if expansion > 1:
            y, i = F.relu6(r.norm(r.conv(y, f"{at}.0.0"), f"{at}.0.1")), 1
        y = F.relu6(r.norm(r.conv(y, f"{at}.{i}.0", stride, 1, y.shape[1]), f"{at}.{i}.1"))
        y = r.norm(r.conv(y, f"{at}.{i + 1}"), f"{at}.{i + 2}")
        x = x + y if stride == 1 and x.shape[1] == out else y
    x = F.relu6(r.norm(r.conv(x, "features.18.0"), "features.18.1"))
    return r.linear(x.mean((2, 3)), "classifier.1")


def lenet5(r, x):
    x = F.max_pool2d(F.relu(r.conv(x, "conv1", 1, 2)), 2)
    x = F.max_pool2d(F.relu(r.conv(x, "conv2")), 2).flatten(1)
    return r.linear(F.relu(r.linear(F.relu(r.linear(x, "fc1")), "fc2")), "fc3")


def tinyvgg(r, x):
    for block in (1, 2):
        x = F.relu(r.conv(F.relu(r.conv(x, f"conv{block}_1")), f"conv{block}_2"))
        x = F.max_pool2d(x, 2)
    return r.linear(x.flatten(1), "classify")


def convnext(r, x, depths):
    def norm(x, at):
        # By hand: over axis 1, no permutation.
        x = x - x.mean(1, keepdim=True)
        x = x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt()
        return x * r(f"{at}.weight")[:, None, None] + r(f"{at}.bias")[:, None, None]

    x = norm(r.conv(x, "stem.0", 4), "stem.1")
    for stage, depth in enumerate(depths):
        at = f"stages.{stage}"
        if stage:
            x = r.conv(norm(x, f"{at}.downsample.0"), f"{at}.downsample.1", 2)
        for block in range(depth):
            here = f"{at}.blocks.{block}"
            gamma = r(f"{here}.gamma")[:, None, None]
            y = norm(r.conv(x, f"{here}.conv_dw", 1, 3, x.shape[1]), f"{here}.norm")
            y = F.gelu(r.linear(y.movedim(1, -1), f"{here}.mlp.fc1"))
            x = x + gamma * r.linear(y, f"{here}.mlp.fc2").movedim(-1, 1)
    x = norm(x.mean((2, 3), keepdim=True), "head.norm").flatten(1)
    return r.linear(x, "head.fc")


NETS = {
    "lenet5": ((1, 28, 28), lenet5),
    "tinyvgg": ((3, 32, 32), tinyvgg),
    "resnet20": ((3, 32, 32), lambda r, x: resnet_cifar(r, x, 3)),
    "resnet56": ((3, 16, 16), lambda r, x: resnet_cifar(r, x, 9)),
    "resnet18": ((3, 64, 64), lambda r, x: resnet(r, x, (2, 2, 2, 2), False)),
    "resnet34": ((3, 64, 64), lambda r, x: resnet(r, x, (3, 4, 6, 3), False)),
    "resnet50": ((3, 64, 64), lambda r, x: resnet(r, x, (3, 4, 6, 3), True)),
    "vgg11": ((3, 64, 64), lambda r, x: vgg(r, x, (1, 1, 2, 2, 2), False)),
    "vgg11_bn": ((3, 64, 64), lambda r, x: vgg(r, x, (1, 1, 2, 2, 2), True)),
    "vgg16": ((3, 64, 64), lambda r, x: vgg(r, x, (2, 2, 3, 3, 3), False)),
    "vgg16_bn": ((3, 64, 64), lambda r, x: vgg(r, x, (2, 2, 3, 3, 3), True)),
    "mobilenet_v2": ((3, 64, 64), mobilenet_v2),
    "convnext_tiny": ((3, 64, 64), lambda r, x: convnext(r, x, (3, 3, 9, 3))),
}
