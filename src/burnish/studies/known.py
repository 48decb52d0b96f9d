"""Models that others have published, and what burnish does with them. No torch is imported here.

What they reached is as their authors say; nothing of it was measured here, and FIDs of two
protocols do not compare. Nothing here was fetched or tried, unless a note says so.
"""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Model:
    """One row of ``burnish models``."""

    name: str
    """As commands take it."""
    kind: str
    """guide, generator, features or another."""
    where: Literal["shipped", "cached", "known"]
    task: str = ""
    image_size: int | None = None
    license: str = "not stated"
    reached: str = ""
    source: str = ""
    """Where it lies, or where its weights come from."""
    use: str = ""
    """The command that takes it."""
    sha256: dict[str, str] = field(default_factory=dict)
    """By file; empty where none is known."""
    card: dict[str, Any] = field(default_factory=dict)
    """Whole, where it is here."""


_CM = "Song et al. 2023, arXiv 2303.01469"
_SAMPLE = "burnish sample {name} --seeds 0-999 --out samples.npz"


def _port(name: str, size: int, how: str, reached: str = "") -> Model:
    name = f"openai/diffusers-{name}"
    return Model(
        name, "generator", "known", f"consistency model, {how}", size, "MIT", reached, "the hub",
        _SAMPLE.format(name=name),
    )  # fmt: skip


def _file(
    name: str, task: str, size: int | None, license: str, reached: str, source: str, use: str = "",
) -> Model:  # fmt: skip
    use = use or "burnish sample FILE --seeds 0-999 --out samples.npz"
    return Model(name, "generator", "known", task, size, license, reached, source, use)


_ZOO = "Google Drive, from the README of torch-mimicry"
_CIFAR = "FID of 50,000 images"
GENERATORS = [
    _port("ct_imagenet64", 64, "trained alone", f"FID 13.0 in one step ({_CM})"),
    _port("cd_imagenet64_lpips", 64, "distilled", f"FID 6.20 in one step ({_CM})"),
    _port("cd_imagenet64_l2", 64, "distilled"),
    *(_port(f"{how}_{data}256{loss}", 256, "trained alone" if how == "ct" else "distilled")
      for data in ("bedroom", "cat")
      for how, loss in (("ct", ""), ("cd", "_lpips"), ("cd", "_l2"))),
    _file("mimicry/wgan-gp", "GAN", 32, "MIT", f"{_CIFAR} 22.29", _ZOO),
    _file("mimicry/sngan", "GAN", 32, "MIT", f"{_CIFAR} 16.77", _ZOO),
    _file("mimicry/ssgan", "GAN", 32, "MIT", f"{_CIFAR} 14.65", _ZOO),
    _file("mimicry/infomax-gan", "GAN", 32, "MIT", f"{_CIFAR} 15.12", _ZOO),
    _file("mimicry/cgan-pd", "GAN with classes", 32, "MIT", f"{_CIFAR} 10.84", _ZOO),
    _file("diffaugment/biggan-cifar10", "GAN with classes", 32, "BSD-2-Clause",
          "FID of 10,000 images 9.59; with DiffAugment 8.70",
          "from the README of mit-han-lab/data-efficient-gans"),
    _file("biggan/imagenet128", "GAN with classes", 128, "MIT", "",
          "Google Drive, from the README of ajbrock/BigGAN-PyTorch"),
    _file("biggan-deep", "GAN with classes", None, "MIT (code)", "",
          "from pytorch-pretrained-BigGAN; 128, 256 or 512 pixels"),
    _file("edm/cifar10", "diffusion model", 32, "CC-BY-NC-SA-4.0", "",
          "from the README of NVlabs/edm"),
    _file("edm/imagenet64", "diffusion model", 64, "CC-BY-NC-SA-4.0", "",
          "from the README of NVlabs/edm"),
]  # fmt: skip


def _clip(name: str, task: str, size: int = 224) -> Model:
    use = f"burnish refine samples.npz --guide clip/{name} --prompts classes.txt --eps 2"
    return Model(f"clip/{name}", "guide", "known", task, size, "see its page", "", "the hub", use)


_ROBUST = "zero-shot; ViT-L/14, image tower trained on ImageNet against Linf"
CLIPS = [
    _clip("chs20/fare2-clip", f"{_ROBUST} 2/255, without labels"),
    _clip("chs20/fare4-clip", f"{_ROBUST} 4/255, without labels"),
    _clip("chs20/tecoa2-clip", f"{_ROBUST} 2/255, with labels"),
    _clip("chs20/tecoa4-clip", f"{_ROBUST} 4/255, with labels"),
    _clip("chs20/TeCoA4-ViT-B-32-laion2B-s34B-b79K",
          "zero-shot; ViT-B/32, image tower trained against Linf 4/255"),
    _clip("zw123/delta_clip_l14_224", "zero-shot; ViT-L/14, adversarially trained"),
]  # fmt: skip


def features(name: str, size: int | None, source: str) -> Model:
    """Return the row of a feature extractor of others."""
    use = f"burnish evaluate samples.npz --reference real.npz --features {name}"
    return Model(name, "features", "known", "features", size, "see its source", "", source, use)


_FIDELITY = "weights of torch-fidelity"
FEATURES = [
    features("inception-v3-compat", 299, f"{_FIDELITY}, or the extra inception"),
    features("vgg16", 224, "weights of torchvision"),
    *(features(f"clip-{one}", size, _FIDELITY)
      for one, size in (("rn50", 224), ("rn101", 224), ("rn50x4", 288), ("rn50x16", 384),
                        ("rn50x64", 448), ("vit-b-32", 224), ("vit-b-16", 224),
                        ("vit-l-14", 224), ("vit-l-14-336px", 336))),
]  # fmt: skip
