"""Networks by name. A network's module is imported when the network is built, not before.

To add a network, write its module and add a line to ``NETWORKS``. Cards of models, experiments and
the command line then know its name.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from burnish.errors import InputError, unknown
from burnish.schema import read_arguments

NETWORKS = {
    "resnet": "burnish.networks.resnet:ResNet",
    "wide_resnet": "burnish.networks.resnet:WideResNet",
    "convnet": "burnish.networks.convnet:ConvNet",
    "pretrained": "burnish.networks.pretrained:PretrainedClassifier",
    "decoder": "burnish.networks.latent:Decoder",
    "mimicry": "burnish.networks.mimicry:MimicryGenerator",
    "biggan": "burnish.networks.biggan:BigGAN",
    "biggan_deep": "burnish.networks.biggan_deep:BigGANDeep",
    "gaussian": "burnish.networks.gaussian:Gaussian",
    "clip": "burnish.networks.clip:ClipClassifier",
    "residual": "burnish.networks.residual:Residual",
    "library": "burnish.networks.library:LibraryClassifier",
    "cifar_resnet": "burnish.networks.cifar:CifarResNet",
    "cifar_wide_resnet": "burnish.networks.cifar:CifarWideResNet",
    "deepmind_wide_resnet": "burnish.networks.deepmind:DeepMindWideResNet",
    "deepmind_resnet": "burnish.networks.deepmind:DeepMindResNet",
    "crown_resnet": "burnish.networks.verified:CrownResNet",
    "plain_conv_net": "burnish.networks.verified:PlainConvNet",
}


MAX_WEIGHTS = 2**30


def build(arguments: Mapping[str, Any]) -> nn.Module:
    """Build a network with random weights, in train mode, from its card entry.

    Args:
        arguments: ``{"name": ..., **constructor arguments}``; ``name`` is a key of ``NETWORKS``.

    Raises:
        InputError: The name or an argument is unknown, of the wrong type or out of range, or the
            network has more than :data:`MAX_WEIGHTS` weights.
    """
    check_network(arguments)
    if not arguments.get("pretrained"):  # which would be fetched
        sketch(arguments)
    return _construct(arguments)


def sketch(arguments: Mapping[str, Any]) -> nn.Module:
    """Return the network of :func:`build` on the meta device: names and shapes, without values."""
    check_network(arguments)
    return outline(lambda: _construct(arguments), f"network {arguments['name']!r}")


def outline(make: Callable[[], nn.Module], what: str) -> nn.Module:
    """Return the network that ``make`` builds, on the meta device.

    Raises:
        InputError: It cannot be built, or has more than :data:`MAX_WEIGHTS` weights.
    """
    try:
        with torch.device("meta"):
            network = make()
    except InputError:
        raise  # the message already says what is wrong
    except Exception as error:  # whatever torch, timm or diffusers say of such arguments
        raise InputError(f"{what}: {' '.join(str(error).split())[:200]}") from error
    count = sum(values.numel() for values in network.state_dict().values())
    if count > MAX_WEIGHTS:
        raise InputError(f"{what} has {count:,} weights; too many")
    return network


def check_network(arguments: Mapping[str, Any], where: str = "") -> None:
    """Raise InputError if a card entry names no network, or arguments that it does not take."""
    name = arguments.get("name")
    if not isinstance(name, str) or name not in NETWORKS:
        raise unknown("network", str(name), NETWORKS)
    given = {key: value for key, value in arguments.items() if key != "name"}
    read_arguments(_constructor(name), given, f"{where}{': ' * bool(where)}network {name!r}")


def _constructor(name: str) -> Any:
    module, _, kind = NETWORKS[name].partition(":")
    return getattr(importlib.import_module(module), kind)


def _construct(arguments: Mapping[str, Any]) -> nn.Module:
    given = dict(arguments)
    name = given.pop("name")
    try:
        return _constructor(name)(**given)
    except InputError:
        raise  # the message already says what is wrong
    except Exception as error:  # whatever torch, timm or torchvision say of such arguments
        raise InputError(f"network {name!r}: {' '.join(str(error).split())[:200]}") from error
