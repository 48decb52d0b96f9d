"""Bare networks: modules which know neither noise nor attacks, with normalisation inside."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from burnish.errors import InputError, unknown
from burnish.networks.decoder import Decoder
from burnish.networks.encoder import Discriminator, Encoder
from burnish.networks.features import Judge
from burnish.networks.frozen import Frozen
from burnish.networks.gaussian import Gaussian
from burnish.networks.normalize import Normalize
from burnish.networks.pretrained import PretrainedClassifier
from burnish.networks.resnet import ResNet, WideResNet

__all__ = [
    "NETWORKS", "Decoder", "Discriminator", "Encoder", "Frozen", "Gaussian", "Judge",
    "PretrainedClassifier", "Normalize", "ResNet", "WideResNet", "build",
]  # fmt: skip

NETWORKS: dict[str, type[nn.Module]] = {
    "resnet": ResNet,
    "wide_resnet": WideResNet,
    "judge": Judge,
    "library": PretrainedClassifier,
    "decoder": Decoder,
    "gaussian": Gaussian,
}


def build(arguments: Mapping[str, Any]) -> nn.Module:
    """Build a network from its card entry, ``{"name": ..., **constructor arguments}``.

    Raises:
        InputError: The name is unknown or the arguments do not fit the network.
    """
    arguments = dict(arguments)
    name = arguments.pop("name", None)
    if name not in NETWORKS:
        raise unknown("network", str(name), NETWORKS)
    known = inspect.signature(NETWORKS[name]).parameters
    for argument in arguments:
        if argument not in known:
            raise unknown(f"argument of network {name!r}", argument, known)
    try:
        return NETWORKS[name](**arguments)
    except InputError:
        raise  # it says already what is wrong
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(f"network {name!r}: {error}") from error
