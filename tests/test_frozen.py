"""A frozen copy computes the same function with fewer layers."""

import copy

import pytest
import timm
import torch
from torch import nn

from burnish.errors import InputError
from burnish.networks.frozen import Frozen
from burnish.networks.resnet import ResNet, WideResNet


def lively(network):
    """Give every batch norm statistics and an affine map of its own."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return network.eval()


def norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def gradient(network, images):
    images = images.clone().requires_grad_()
    return torch.autograd.grad(network(images)[:, 1].float().sum(), images)[0]


class Shared(nn.Module):
    """Must not be folded: a norm beside another reader, and modules that are called twice."""

    def __init__(self):
        super().__init__()
        self.first, self.read_twice = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.second, self.called_twice = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 5, 1)

    def forward(self, images):
        hidden = self.first(images)
        hidden = hidden + self.read_twice(hidden)
        hidden = self.called_twice(self.second(hidden))
        hidden = self.called_twice(self.second(hidden))
        return self.head(hidden).mean((2, 3))


class Activated(nn.BatchNorm2d):
    def forward(self, input):
        return super().forward(input).relu()


class Peculiar(nn.Module):
    """Must not be folded: a norm that does more, a shared weight, a weight that is read."""

    def __init__(self):
        super().__init__()
        self.first, self.activated = nn.Conv2d(3, 3, 3), Activated(3)
        self.sharing, self.second = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)
        self.read, self.third = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)
        self.head = nn.Conv2d(3, 3, 3)
        self.head.weight = self.sharing.weight

    def forward(self, images):
        hidden = self.activated(self.first(images))
        hidden = self.third(self.read(self.second(self.sharing(hidden))))
        return self.head(nn.functional.conv2d(hidden, self.read.weight)).mean((2, 3))


class Flattening(nn.Module):
    """Its ``view`` fails for data that are stored channels-last."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3, stride=8), nn.Linear(64, 5)

    def forward(self, images):
        hidden = self.body(images)
        return self.head(hidden.view(len(images), -1))


class Branching(nn.Module):
    """Its path depends on the images, so that it has no graph."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    def forward(self, images):
        hidden = self.body(images)
        return (hidden if images.mean() > 0 else -hidden).mean((2, 3))


NETWORKS = {
    "resnet": (lambda: ResNet(3, 4, width=4, num_blocks=1), 0),
    # Pre-activation: the norms after an addition stay; each block's second one goes.
    "wide_resnet": (lambda: WideResNet(3, 4, depth=10, widen_factor=1), 4),
    # Its batch norms carry their activation with them.
    "timm": (lambda: timm.create_model("efficientnet_b0", num_classes=4, channel_divisor=2), 0),
    "shared": (Shared, 2),
    "branching": (Branching, 1),
    "peculiar": (Peculiar, 3),
    "flattening": (Flattening, 0),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_frozen_copy_is_the_same_function(name):
    make, left = NETWORKS[name]
    network = lively(make())
    images, before = torch.rand(3, 3, 32, 32), copy.deepcopy(network.state_dict())
    # A hook on the network itself is part of what it does.
    network.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 0.9,))
    frozen, half = Frozen(network), Frozen(network, "bfloat16")
    for copied in (frozen, half):
        copied.fit(images)
    assert norms(frozen) == left
    torch.testing.assert_close(frozen(images), network(images), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        gradient(frozen, images), gradient(network, images), rtol=1e-3, atol=1e-5
    )
    assert not any(p.requires_grad for p in frozen.parameters()) and not frozen.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert half(images).dtype == torch.bfloat16
    cosine = nn.functional.cosine_similarity(
        gradient(half, images).flatten(1), gradient(network, images).flatten(1)
    )
    assert cosine.min() > 0.99


def test_refreshing_takes_over_new_weights():
    network = lively(WideResNet(3, 4, depth=10, widen_factor=1))
    images = torch.rand(3, 3, 16, 16)
    frozen = Frozen(network)
    stale = frozen(images)
    lively(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    frozen.refresh(network)
    assert not torch.allclose(frozen(images), stale, atol=0.01)
    torch.testing.assert_close(frozen(images), network(images), rtol=1e-4, atol=1e-4)


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="did you mean 'float16'"):
        Frozen(nn.Identity(), "floot16")
