"""Networks as their authors wrote them: formulas that make their weights and their logits."""

import torch
from torch.nn import functional as F

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


class Original:
    """Runs the formula of a network as its authors wrote it, and keeps the weights by their names.

    A layer is made, at random, when it is first asked for.
    """

    def __init__(self):
        self.state = {}
        self.random = torch.Generator().manual_seed(0)

    def get(self, name, *shape, scale=1.0, offset=0.0):
        if name not in self.state:
            self.state[name] = torch.randn(*shape, generator=self.random) * scale + offset
        return self.state[name]

    def conv(self, x, name, out, kernel, stride=1, padding=0, bias=False):
        fan = x.shape[1] * kernel**2
        weight = self.get(f"{name}.weight", out, x.shape[1], kernel, kernel, scale=fan**-0.5)
        shift = self.get(f"{name}.bias", out, scale=0.1) if bias else None
        return F.conv2d(x, weight, shift, stride, padding)

    def norm(self, x, name):
        count = x.shape[1]
        mean = self.get(f"{name}.running_mean", count, scale=0.1)
        if f"{name}.running_var" not in self.state:
            self.state[f"{name}.running_var"] = torch.rand(count, generator=self.random) + 0.5
        weight = self.get(f"{name}.weight", count, scale=0.1, offset=1)
        return F.batch_norm(x, mean, self.state[f"{name}.running_var"], weight,
                            self.get(f"{name}.bias", count, scale=0.1))  # fmt: skip

    def linear(self, x, name, out):
        weight = self.get(f"{name}.weight", out, x.shape[1], scale=x.shape[1] ** -0.5)
        return F.linear(x, weight, self.get(f"{name}.bias", out, scale=0.1))


def cifar_resnet(net, x, act, blocks=(2, 1, 1, 1), width=4, bottleneck=False):
    x = act(net.norm(net.conv(x, "conv1", width, 3, 1, 1), "bn1"))
    for stage, count in enumerate(blocks):
        for place in range(count):
            at, stride = f"layer{stage + 1}.{place}", 2 if stage and place == 0 else 1
            inner = width * 2**stage
            out = inner * 4 if bottleneck else inner
            if bottleneck:
                y = act(net.norm(net.conv(x, f"{at}.conv1", inner, 1), f"{at}.bn1"))
                y = act(net.norm(net.conv(y, f"{at}.conv2", inner, 3, stride, 1), f"{at}.bn2"))
                y = net.norm(net.conv(y, f"{at}.conv3", out, 1), f"{at}.bn3")
            else:
                y = act(net.norm(net.conv(x, f"{at}.conv1", inner, 3, stride, 1), f"{at}.bn1"))
                y = net.norm(net.conv(y, f"{at}.conv2", inner, 3, 1, 1), f"{at}.bn2")
            if stride != 1 or x.shape[1] != out:
                x = net.conv(x, f"{at}.shortcut.0", out, 1, stride)
                x = net.norm(x, f"{at}.shortcut.1")
            x = act(y + x)
    return net.linear(F.avg_pool2d(x, 4).flatten(1), "linear", 10)


def preact_resnet(net, x, act, width=4):
    """Of Rice et al. 2020: shortcuts start behind the first activation, and a norm before fc."""
    x = net.conv(x, "conv1", width, 3, 1, 1)
    for stage in range(4):
        at, stride, out = f"layer{stage + 1}.0", 2 if stage else 1, width * 2**stage
        y = act(net.norm(x, f"{at}.bn1"))
        if stride != 1 or x.shape[1] != out:
            x = net.conv(y, f"{at}.shortcut.0", out, 1, stride)
        y = act(net.norm(net.conv(y, f"{at}.conv1", out, 3, stride, 1), f"{at}.bn2"))
        x = net.conv(y, f"{at}.conv2", out, 3, 1, 1) + x
    x = act(net.norm(x, "bn"))
    return net.linear(F.avg_pool2d(x, 4).flatten(1), "linear", 10)


def wide_resnet(net, x, act, count=2, wide=1):
    x = net.conv(x, "conv1", 16, 3, 1, 1)
    for stage in range(3):
        for place in range(count):
            at, stride = f"block{stage + 1}.layer.{place}", 2 if stage and place == 0 else 1
            out = 16 * wide * 2**stage
            y = act(net.norm(x, f"{at}.bn1"))
            if x.shape[1] != out:
                x = net.conv(y, f"{at}.convShortcut", out, 1, stride)
            y = act(net.norm(net.conv(y, f"{at}.conv1", out, 3, stride, 1), f"{at}.bn2"))
            x = x + net.conv(y, f"{at}.conv2", out, 3, 1, 1)
    return net.linear(F.avg_pool2d(act(net.norm(x, "bn1")), 8).flatten(1), "fc", 10)


def same_padding(x, stride):
    """As TensorFlow pads for a kernel of 3: more at the end than at the beginning."""
    return F.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))


def deepmind_wide(net, x, act, count=2, wide=2):
    x = net.conv(x, "init_conv", 16, 3, 1, 1)
    for stage in range(3):
        for place in range(count):
            at, stride = f"layer.{stage}.block.{place}", 2 if stage and place == 0 else 1
            out = 16 * wide * 2**stage
            y = act(net.norm(x, f"{at}.batchnorm_0"))
            if x.shape[1] != out:
                x = net.conv(y, f"{at}.shortcut", out, 1, stride)
            y = net.conv(same_padding(y, stride), f"{at}.conv_0", out, 3, stride)
            y = act(net.norm(y, f"{at}.batchnorm_1"))
            x = x + net.conv(y, f"{at}.conv_1", out, 3, 1, 1)
    x = act(net.norm(x, "batchnorm"))
    return net.linear(F.avg_pool2d(x, 8).flatten(1), "logits", 10)


def deepmind(net, x, act, width=4):
    x = net.conv(x, "conv_2d", width, 3, 1, 1)
    for stage in range(4):
        at, stride, out = f"layer_{stage}.0", 2 if stage else 1, width * 2**stage
        y = act(net.norm(x, f"{at}.batchnorm_0"))
        if stride != 1 or x.shape[1] != out:
            x = net.conv(same_padding(x, stride), f"{at}.shortcut", out, 3, stride)
        y = net.conv(same_padding(y, stride), f"{at}.conv_2d_1", out, 3, stride)
        y = net.conv(act(net.norm(y, f"{at}.batchnorm_1")), f"{at}.conv_2d_2", out, 3, 1, 1)
        x = y + x
    x = act(net.norm(x, "batchnorm"))
    return net.linear(F.avg_pool2d(x, 4).flatten(1), "logits", 10)


def crown(net, x, act, blocks=(2, 2), width=4):
    x = F.relu(net.conv(x, "conv1", width, 3, 2, 1, bias=True))
    for stage, count in enumerate(blocks):
        for place in range(count):
            at, stride = f"layer{stage + 1}.{place}", 1 if place else 2
            y = F.relu(net.conv(x, f"{at}.conv1", 2 * width, 3, stride, 1, bias=True))
            y = net.conv(y, f"{at}.conv2", 2 * width, 3, 1, 1, bias=True)
            if stride != 1 or x.shape[1] != 2 * width:
                x = net.conv(x, f"{at}.shortcut.0", 2 * width, 1, stride, bias=True)
            x = F.relu(y + x)
    return net.linear(F.relu(net.linear(x.flatten(1), "linear1", 20)), "linear2", 10)


def plain(net, x, act, padding=1):
    x = F.relu(net.conv(x, "0", 4, 4, 2, padding, bias=True))
    x = F.relu(net.conv(x, "2", 8, 4, 2, padding, bias=True))
    return net.linear(F.relu(net.linear(x.flatten(1), "5", 12)), "7", 10)


def made(formula, act=F.relu, mean=MEAN, std=STD):
    """Return the state dict of an original, images, and its logits."""
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (mean, std))
    net = Original()
    logits = formula(net, (images - mean) / std, act)
    return net.state, images, logits
