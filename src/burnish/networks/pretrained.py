"""Classifiers of timm and torchvision by name, which take pixels in [0, 1] like our own."""

from typing import Any

from torch import Tensor, nn

from burnish.errors import InputError, unknown
from burnish.networks.fetched import fetch, hub_or_cache, tensors_only
from burnish.networks.normalize import Normalize
from burnish.networks.sizes import Channels, Classes

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PretrainedClassifier(nn.Module):
    """A classifier of another library with its normalization moved inside.

    Args:
        source: ``timm/<name>`` or ``torchvision/<name>``, e.g. ``timm/resnet50``.
        num_classes: Number of logits, K; None keeps the library's head.
        pretrained: Fetch the library's weights (needs a network or a filled cache).
        in_channels: 3; timm also takes 1.
    """

    def __init__(
        self,
        source: str,
        num_classes: Classes | None = None,
        pretrained: bool = False,
        in_channels: Channels = 3,
    ) -> None:
        super().__init__()
        library, _, name = source.partition("/")
        if library not in ("timm", "torchvision"):
            raise unknown("library", library, ["timm", "torchvision"])
        of_timm = library == "timm"
        if not of_timm and in_channels != 3:
            raise InputError(f"{source} takes RGB images; models of timm also take gray")
        if not of_timm and pretrained and num_classes is not None:
            raise InputError(f"{source}: pretrained weights have their own num_classes")
        options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
        try:
            with tensors_only():
                self.network: nn.Module = (
                    _of_timm(name, pretrained, in_chans=in_channels, **options)
                    if of_timm
                    else _of_torchvision(name, pretrained, **options)
                )
        except InputError:
            raise  # the message already says what is wrong
        except Exception as error:  # both libraries raise all kinds
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{source} cannot be loaded: {reason}") from error
        settings: Any = self.network.pretrained_cfg if of_timm else {}
        mean, std = settings.get("mean", IMAGENET_MEAN), settings.get("std", IMAGENET_STD)
        if in_channels == 1:
            mean, std = (sum(mean) / 3,), (sum(std) / 3,)
        self.normalize = Normalize(mean, std)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K]`` of images ``[B, C, H, W]`` in [0, 1]."""
        return self.network(self.normalize(images))


def _of_timm(name: str, pretrained: bool, **options: Any) -> nn.Module:
    import timm

    if not timm.is_model(name):
        known = (f"timm/{one}" for one in timm.list_models())
        raise unknown("timm model", f"timm/{name}", known)
    if not pretrained:
        return timm.create_model(name, **options)
    settings: Any = timm.get_pretrained_cfg(name)
    if settings and settings.url and not settings.hf_hub_id:
        fetch(settings.url)
    with hub_or_cache() as offline:
        try:
            return timm.create_model(name, pretrained, **options)
        except Exception as error:
            if not offline or not (settings and settings.hf_hub_id):
                raise
            said = f"the weights of timm/{name} cannot be fetched ({offline}); on another machine"
            raise InputError(
                f"{said}, 'hf download {settings.hf_hub_id}' puts them into a cache to copy here"
            ) from error


def _of_torchvision(name: str, pretrained: bool, **options: Any) -> nn.Module:
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        known = (f"torchvision/{one}" for one in names)
        raise unknown("torchvision model", f"torchvision/{name}", known)
    weights: Any = models.get_model_weights(name)["DEFAULT"] if pretrained else None
    if weights is not None:
        fetch(weights.url)
    return models.get_model(name, weights=weights, **options)
