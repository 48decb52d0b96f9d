"""Networks by name. A network's module is imported when the network is built, not before.

To add a network, write its module and add a line to ``NETWORKS``. Cards of models, experiments and
the command line then know its name.
"""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from burnish.errors import InputError, unknown

NETWORKS = {
    "resnet": "burnish.networks.resnet:ResNet",
    "wide_resnet": "burnish.networks.resnet:WideResNet",
    "convnet": "burnish.networks.convnet:ConvNet",
    "pretrained": "burnish.networks.pretrained:PretrainedClassifier",
    "decoder": "burnish.networks.latent:Decoder",
    "gaussian": "burnish.networks.gaussian:Gaussian",
}


def build(arguments: Mapping[str, Any]) -> nn.Module:
    """Build a network with random weights, in train mode, from its card entry.

    Args:
        arguments: ``{"name": ..., **constructor arguments}``; ``name`` is a key of ``NETWORKS``.
    """
    arguments = dict(arguments)
    name = arguments.pop("name", None)
    if name not in NETWORKS:
        raise unknown("network", str(name), NETWORKS)
    module, _, kind = NETWORKS[name].partition(":")
    network = getattr(importlib.import_module(module), kind)
    known = inspect.signature(network).parameters
    for argument in arguments:
        if argument not in known:
            raise unknown(f"argument of network {name!r}", argument, known)
    try:
        return network(**arguments)
    except InputError:
        raise  # the message already says what is wrong
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(f"network {name!r}: {error}") from error
