"""Networks take pixels in [0, 1], are built from their card entry, and match their papers."""

import itertools
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from burnish.errors import InputError
from burnish.networks.build import NETWORKS, build
from burnish.networks.convnet import ConvNet
from burnish.networks.latent import Discriminator
from burnish.networks.pretrained import PretrainedClassifier
from burnish.networks.resnet import ResNet, WideResNet

# The smallest of each network that gives logits.
SMALL = {
    "resnet": {"width": 4, "num_blocks": 1},
    "wide_resnet": {"depth": 10, "widen_factor": 1},
    "convnet": {"widths": [4, 6], "num_features": 5},
    "pretrained": {"source": "timm/test_vit"},
    "library": {"source": "timm/resnet10t"},
    "cifar_resnet": {"width": 4},
    "cifar_wide_resnet": {"depth": 10, "widen_factor": 1},
    "deepmind_resnet": {"width": 4},
    "deepmind_wide_resnet": {"depth": 10, "widen_factor": 1},
    "crown_resnet": {"width": 4, "side": 12},
    "plain_conv_net": {"side": 12},
}
# These give images, or take more than numbers; each has tests of its own.
OTHERS = {"decoder", "gaussian", "residual", "mimicry", "biggan", "biggan_deep", "clip"}


def small(name, **more) -> Any:
    torch.manual_seed(0)
    return build({"name": name, "in_channels": 3, "num_classes": 7, **SMALL[name], **more}).eval()


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - OTHERS))
def test_every_network_builds_and_gives_logits(name):
    size = 160 if name == "pretrained" else 12
    logits = small(name)(torch.rand(2, 3, size, size))
    assert logits.shape == (2, 7) and bool(torch.isfinite(logits).all())


def test_parameter_counts_are_those_of_the_papers():
    # WRN-28-10 has 36.5 M (Zagoruyko & Komodakis 2016, table 4), shortcuts being convolutions in
    # the first block of each stage and identities elsewhere.
    with torch.device("meta"):
        assert count(WideResNet(3, 10)) == 36_479_194
    # ResNet-20 of He et al., table 6: 0.27 M. It pads shortcuts with zeros; ours are convolutions
    # of 16 x 32 and 32 x 64 with a batch norm, 2,752 parameters more than its 269,722.
    assert count(ResNet(3, 10, width=16, num_blocks=3)) == 269_722 + 2_752


@pytest.mark.parametrize("name", ["resnet", "wide_resnet"])
def test_resolution_is_halved_twice(name):
    model = small(name, in_channels=1)
    seen = []
    model.stages.register_forward_hook(lambda _, __, out: seen.append(out.shape))
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 7)
    width = SMALL[name].get("width", 16)
    assert seen == [(2, 4 * width, 7, 7)]


@pytest.mark.parametrize("name", ["resnet", "wide_resnet", "convnet"])
def test_normalization_is_inside(name):
    images = torch.rand(2, 3, 12, 12)
    mean, std = [0.2, 0.3, 0.4], [0.2, 0.25, 0.3]
    plain = small(name, mean=mean, std=std)
    moved = small(name, mean=[m / 2 + 0.1 for m in mean], std=[s / 2 for s in std])
    torch.testing.assert_close(moved(images / 2 + 0.1), plain(images), rtol=1e-4, atol=1e-5)
    assert (
        plain(images) - plain(images / 2 + 0.1)
    ).abs().max() > 1e-3  # it does make a difference
    assert "normalize.mean" in plain.state_dict()  # and travels with the weights


def test_faulty_arguments_are_named_with_the_nearest_choice():
    for arguments, hint in (
        ({"name": "resnett"}, "did you mean 'resnet'"),
        ({}, "unknown network 'None'"),
        ({"name": "resnet", "in_channels": 1}, "'resnet': .*num_classes"),
        ({"name": "wide_resnet", "in_channels": 1, "num_classes": 2, "depth": 27}, "6 n"),
        ({"name": "convnet", "in_channels": 1, "num_classes": 2, "pooling": "maxx"}, "'max'"),
        ({"name": "pretrained", "source": "tim/resnet18"}, "did you mean 'timm'"),
        ({"name": "pretrained", "source": "timm/resnet18x"}, "did you mean 'timm/resnet18"),
        (
            {"name": "pretrained", "source": "torchvision/resnet19"},
            "did you mean 'torchvision/resnet1",
        ),
        ({"name": "pretrained", "source": "torchvision/resnet18", "in_channels": 1}, "RGB"),
    ):
        with pytest.raises(InputError, match=hint):
            build(arguments)


def test_convnet_is_its_features_and_head():
    network = small("convnet").train()
    assert isinstance(network, ConvNet)
    images = torch.rand(6, 3, 12, 12)
    for mode in (True, False):
        network.train(mode)
        torch.manual_seed(1)
        whole = network(images)
        torch.manual_seed(1)
        features = network.forward_features(images)
        assert features.shape == (6, 5)
        torch.testing.assert_close(network.forward_head(features), whole)


def test_every_option_of_a_convnet_changes_its_features():
    images = torch.rand(2, 3, 12, 12)
    options = (
        {}, {"activation": "gelu"}, {"activation": "tanh"}, {"pooling": "avg"}, {"kernel_size": 5},
    )  # fmt: skip
    found = [small("convnet", **option).forward_features(images) for option in options]
    for one, other in itertools.combinations(found, 2):
        assert (one - other).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("source", "channels"), [("timm/test_resnet", 1), ("torchvision/shufflenet_v2_x0_5", 3)]
)
def test_pretrained_classifiers_normalize_as_their_library_does(source, channels):
    torch.manual_seed(0)
    model = PretrainedClassifier(source, num_classes=4, in_channels=channels).eval()
    images = torch.rand(2, channels, 64, 64)
    assert model(images).shape == (2, 4)
    if source.startswith("torchvision"):
        mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    else:
        config: Any = model.network.pretrained_cfg
        mean, std = sum(config["mean"]) / 3, sum(config["std"]) / 3
    torch.testing.assert_close(model(images), model.network((images - mean) / std))


def test_discriminator_is_spectrally_normalized_and_reads_labels():
    network = Discriminator(1, 4, [4, 6, 8])
    images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    for _ in range(30):
        network(images, labels)
    network.eval()
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.Embedding)]
    assert len(layers) == 3 * 3 + 2
    for layer in layers:
        top = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert top.item() == pytest.approx(1, abs=0.02)
    assert (network(images, labels) - network(images, labels.roll(1))).abs().min() > 1e-6


def test_light_work_imports_no_heavy_library():
    code = """
import sys
import burnish.generators.load, burnish.storage.datasets
from burnish.guide.load import load_guide
from burnish.networks.build import build
from burnish.networks.frozen import Frozen
Frozen(build({"name": "resnet", "in_channels": 1, "num_classes": 2, "width": 4}))
load_guide("cifar10")
heavy = ("timm", "torchvision", "diffusers", "accelerate", "pyarrow", "PIL", "matplotlib")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
