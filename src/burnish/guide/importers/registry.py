"""Which robust classifiers are known: where they are, and what their files do not say.

The numbers are those that the authors publish; nothing here was measured by us. Sources: the model
lists of RobustBench (``model_info``, ``model_zoo``), the README of robustness and of
robust-models-transfer, ARES-bench, revisiting-at, alpha-beta-CROWN, and their code.
"""

from dataclasses import dataclass

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR_MADRY = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))
CIFAR_LONG = (
    (0.4913997551666284, 0.48215855929893703, 0.4465309133731618),
    (0.24703225141799082, 0.24348516474564, 0.26158783926049628),
)
NONE = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
Normalization = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Known:
    """A classifier that others have published."""

    name: str
    """``family/name``."""
    data: str
    """What it was trained on, and so what ``accuracy`` is of (the test or validation images)."""
    threat: str
    """What it was trained against; norms in [0, 1] units."""
    accuracy: float | None = None
    """Published top-1 on clean images."""
    normalization: Normalization | None = None
    """Mean and standard deviation; None: in the file, or not known."""
    activation: str = ""
    """What the file cannot say; empty for what its architecture has."""
    preactivation: str = ""
    license: str = "not stated"
    where: str = ""
    """``OWNER/NAME/FILE`` of the hub, or an address, or in words."""
    sha256: str = ""
    note: str = ""

    @property
    def family(self) -> str:
        """The first part of the name."""
        return self.name.partition("/")[0]


_L2, _LINF = "L2, eps 0.5", "Linf, eps 4/255"
_GOOGLE = "Google Drive, by robustbench.utils.load_model"
_DEEPMIND = "Apache-2.0"


def _bench(
    name: str, accuracy: float, normalization: Normalization | None, activation: str = "relu",
    license: str = "MIT", preactivation: str = "", data: str = "CIFAR-10", threat: str = _L2,
) -> Known:  # fmt: skip
    return Known(
        f"robustbench/{name}", data, threat, accuracy, normalization, activation, preactivation,
        license, _GOOGLE,
    )  # fmt: skip


_ROBUSTBENCH = [
    _bench("Engstrom2019Robustness", 0.9083, CIFAR_MADRY),
    _bench("Augustin2020Adversarial", 0.9108, CIFAR_LONG),
    _bench("Augustin2020Adversarial_34_10", 0.9223, CIFAR_LONG),
    _bench("Augustin2020Adversarial_34_10_extra", 0.9396, CIFAR_LONG),
    _bench("Rice2020Overfitting", 0.8867, CIFAR, preactivation="activated"),
    _bench("Rony2019Decoupling", 0.8905, ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
           license="BSD-3-Clause"),
    _bench("Wu2020Adversarial", 0.8851, NONE),
    _bench("Sehwag2021Proxy", 0.9093, NONE),
    _bench("Sehwag2021Proxy_R18", 0.8976, NONE),
    _bench("Gowal2020Uncovering", 0.9090, CIFAR, "silu", _DEEPMIND),
    _bench("Gowal2020Uncovering_extra", 0.9474, CIFAR, "silu", _DEEPMIND),
    _bench("Rebuffi2021Fixing_28_10_cutmix_ddpm", 0.9179, CIFAR, "silu", _DEEPMIND),
    _bench("Rebuffi2021Fixing_70_16_cutmix_ddpm", 0.9241, CIFAR, "silu", _DEEPMIND),
    _bench("Rebuffi2021Fixing_R18_cutmix_ddpm", 0.9033, CIFAR, "silu", _DEEPMIND),
    _bench("Rade2021Helper_R18_ddpm", 0.9057, CIFAR, "silu"),
    _bench("Wang2023Better_WRN-28-10", 0.9516, CIFAR, "silu"),
    _bench("Wang2023Better_WRN-70-16", 0.9554, CIFAR, "silu"),
] + [
    _bench(name, accuracy, IMAGENET, "", data="ImageNet", threat=_LINF)
    for name, accuracy in {
        "Engstrom2019Robustness_imagenet": 0.6256, "Salman2020Do_R18": 0.5292,
        "Salman2020Do_R50": 0.6402, "Salman2020Do_50_2": 0.6846, "Wong2020Fast": 0.5562,
        "Debenedetti2022Light_XCiT-S12": 0.7234, "Singh2023Revisiting_ConvNeXt-T-ConvStem": 0.7272,
        "Singh2023Revisiting_ConvNeXt-S-ConvStem": 0.7410,
        "Singh2023Revisiting_ConvNeXt-B-ConvStem": 0.7590,
        "Singh2023Revisiting_ConvNeXt-L-ConvStem": 0.7700,
        "Singh2023Revisiting_ViT-S-ConvStem": 0.7256, "Singh2023Revisiting_ViT-B-ConvStem": 0.7630,
        "Liu2023Comprehensive_ConvNeXt-B": 0.7602, "Liu2023Comprehensive_ConvNeXt-L": 0.7802,
        "Liu2023Comprehensive_Swin-B": 0.7616, "Liu2023Comprehensive_Swin-L": 0.7892,
    }.items()
]  # fmt: skip

_L2_EPS = ("0", "0.01", "0.03", "0.05", "0.1", "0.25", "0.5", "1", "3", "5")
_MADRYLAB = {
    "resnet18": (69.79, 69.90, 69.24, 69.15, 68.77, 67.43, 65.49, 62.32, 53.12, 45.59),
    "resnet50": (75.80, 75.68, 75.76, 75.59, 74.78, 74.14, 73.16, 70.43, 62.83, 56.13),
    "wide_resnet50_2": (76.97, 77.25, 77.26, 77.17, 76.74, 76.21, 75.11, 73.41, 66.90, 60.94),
    "wide_resnet50_4": (77.91, 78.02, 77.87, 77.77, 77.64, 77.10, 76.52, 75.51, 69.67, 65.20),
}
_MADRYLAB_L2_3 = {
    "densenet": 66.98, "mnasnet": 41.83, "mobilenet": 50.40, "resnext50_32x4d": 66.25,
    "shufflenet": 43.32, "vgg16_bn": 57.19,
}  # fmt: skip
_MADRYLAB_LINF = {"0.5": 73.73, "1.0": 72.05, "2.0": 69.10, "4.0": 63.86, "8.0": 54.53}


def _madrylab(name: str, threat: str, accuracy: float) -> Known:
    where = f"madrylab/robust-imagenet-models/{name}.ckpt"
    return Known(
        f"madrylab/{name}", "ImageNet", threat, round(accuracy / 100, 4), IMAGENET,
        license="MIT", where=where, note="the original clamps its input to [0, 1]",
    )  # fmt: skip


_HUB = [
    _madrylab(f"{network}_l2_eps{eps}", f"L2, eps {eps}", accuracy)
    for network, row in _MADRYLAB.items()
    for eps, accuracy in zip(_L2_EPS, row, strict=True)
]
_HUB += [_madrylab(f"{one}_l2_eps3", "L2, eps 3", value) for one, value in _MADRYLAB_L2_3.items()]
_HUB += [
    _madrylab(f"resnet50_linf_eps{eps}", f"Linf, eps {eps}/255", accuracy)
    for eps, accuracy in _MADRYLAB_LINF.items()
]

_MADRY = [
    Known(f"robustness/{name}", data, threat, accuracy, normalization, "relu", license="MIT",
          where="Dropbox, from the README of MadryLab/robustness",
          note="the original clamps its input to [0, 1]")
    for name, data, threat, accuracy, normalization in (
        ("cifar_l2_0_25", "CIFAR-10", "L2, eps 0.25", 0.9277, CIFAR_MADRY),
        ("cifar_l2_0_5", "CIFAR-10", "L2, eps 0.5", 0.9083, CIFAR_MADRY),
        ("cifar_l2_1_0", "CIFAR-10", "L2, eps 1", 0.8162, CIFAR_MADRY),
        ("cifar_linf_8", "CIFAR-10", "Linf, eps 8/255", 0.8703, CIFAR_MADRY),
        ("imagenet_l2_3_0", "ImageNet", "L2, eps 3", 0.5790, IMAGENET),
        ("imagenet_linf_4", "ImageNet", "Linf, eps 4/255", 0.6242, IMAGENET),
        ("imagenet_linf_8", "ImageNet", "Linf, eps 8/255", 0.4791, IMAGENET),
    )
]  # fmt: skip

_CROWN = "github.com/Verified-Intelligence/alpha-beta-CROWN, complete_verifier/models"
_OTHERS = [
    Known("joint/rn50", "ImageNet", "L2, joint with a discriminator", None, IMAGENET,
          where="Google Drive, from the README of Boosting-via-Joint-Model"),
    Known("joint/wrn50-2", "ImageNet", "L2, joint with a discriminator", None, IMAGENET,
          where="Google Drive, from the README of Boosting-via-Joint-Model"),
    Known("dat/cifar10", "CIFAR-10", "L2, eps 0.5", None, CIFAR_LONG, "relu",
          where="Dropbox, from the README of DAT"),
    Known("dat/imagenet", "ImageNet", "L2, eps 3", None, IMAGENET,
          where="Dropbox, from the README of DAT"),
    *(
        Known(f"revisiting-at/{name}", "ImageNet", _LINF, accuracy, IMAGENET,
              where="from the README of nmndeep/revisiting-at")
        for name, accuracy in (("convnext-t-cvst", 0.7272), ("convnext-s-cvst", 0.7410),
                               ("convnext-b-cvst", 0.7590), ("convnext-l-cvst", 0.7700),
                               ("vit-s-cvst", 0.7256), ("vit-b-cvst", 0.7630))
    ),
    *(
        Known(f"ares/{name}", "ImageNet", _LINF, accuracy, IMAGENET, license="Apache-2.0 (code)",
              where=f"ARES-bench, ckpt-imagenet/ARES_{name}_AT.pth")
        for name, accuracy in (
            ("ResNet50", None), ("ResNet101", None), ("ResNet152", None),
            ("Wide_ResNet50_2", None), ("ConvNext_Small", None), ("ConvNext_Base", 0.7602),
            ("ConvNext_Large", 0.7802), ("ViT_small_patch16_224", None),
            ("ViT_base_patch16_224", None), ("Swin_small_patch4_window7_224", None),
            ("Swin_base_patch4_window7_224", 0.7616), ("Swin_large_patch4_window7_224", 0.7892),
        )
    ),
    Known("crown/resnet2b", "CIFAR-10", "Linf", 0.6925, CIFAR, license="BSD-3-Clause-like",
          where=f"{_CROWN}/cifar10_resnet/resnet2b.pth",
          sha256="ef824b47175668e924d7fd409b5ef7e239012b8f0c31fefa66c643efda1eb05b"),
    Known("crown/resnet4b", "CIFAR-10", "Linf", 0.772, CIFAR, license="BSD-3-Clause-like",
          where=f"{_CROWN}/cifar10_resnet/resnet4b.pth",
          sha256="6158f9668935890e832d4e0fdc3b6cece2386ec826319eac36f329490b7729e7"),
    Known("crown/cifar_cnn_a_adv", "CIFAR-10", "Linf", None, None, license="BSD-3-Clause-like",
          where=f"{_CROWN}/sdp/cifar_cnn_a_adv.model",
          sha256="e45d79e68342395f4ada6f89852ae41feba14b430a3b2462a04d7f5e02c65657",
          note="its configuration says std .2471 .2435 .2616, but .2023 .1994 .2010 fits better"),
    Known("convex/cifar_small_36px", "CIFAR-10", "L2, eps 36/255", None, None, license="MIT",
          where="github.com/locuslab/convex_adversarial, models_scaled_l2/cifar_small_36px.pth",
          sha256="d99894f1fe2866dd3509d3b2a69e16110e58c8d04bd696a070ad6e23d22f11b7",
          note="a cascade of two networks; choose one by --index"),
]  # fmt: skip

KNOWN: dict[str, Known] = {one.name: one for one in (*_MADRY, *_HUB, *_ROBUSTBENCH, *_OTHERS)}
# Families, and the normalization that all their files were trained with.
FAMILIES: dict[str, Normalization | None] = {
    "robustness": None, "madrylab": IMAGENET, "robustbench": None, "joint": IMAGENET, "dat": None,
    "ares": IMAGENET, "revisiting-at": IMAGENET, "timm": None, "torchvision": IMAGENET,
    "crown": None, "convex": None,
}  # fmt: skip
SIZES = {"CIFAR-10": 10_000, "ImageNet": 50_000}
"""Images that published accuracies are of."""
