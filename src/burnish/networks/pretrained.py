"""Classifiers of timm and torchvision by name, which take pixels in [0, 1] like our own."""

from typing import Any

from torch import Tensor, nn

from burnish.errors import InputError, unknown
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
        options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
        mean, std = IMAGENET_MEAN, IMAGENET_STD
        try:
            if library == "timm":
                import timm

                if not timm.is_model(name):
                    raise unknown("timm model", name, timm.list_models())
                options |= {"in_chans": in_channels}
                self.network: nn.Module = timm.create_model(name, pretrained, **options)
                settings: Any = self.network.pretrained_cfg
                mean, std = settings.get("mean", mean), settings.get("std", std)
            elif library == "torchvision":
                if in_channels != 3:
                    raise InputError(f"{source} takes RGB images; models of timm also take gray")
                if pretrained and options:
                    raise InputError(f"{source}: pretrained weights have their own num_classes")
                from torchvision import models

                names = models.list_models(module=models)
                if name not in names:
                    raise unknown("torchvision model", name, names)
                weights = "DEFAULT" if pretrained else None
                self.network = models.get_model(name, weights=weights, **options)
            else:
                raise unknown("library", library, ["timm", "torchvision"])
        except (OSError, RuntimeError) as error:
            raise InputError(f"the weights of {source} cannot be fetched: {error}") from error
        if in_channels == 1:
            mean, std = (sum(mean) / 3,), (sum(std) / 3,)
        self.normalize = Normalize(mean, std)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K]`` of images ``[B, C, H, W]`` in [0, 1]."""
        return self.network(self.normalize(images))
