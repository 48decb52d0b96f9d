"""Networks of others as guides: the same logits, strictly loaded, nothing guessed."""

from functools import partial
from pathlib import Path

import dill
import pytest
import timm
import torch
from foreign_networks import (
    MEAN,
    STD,
    Original,
    cifar_resnet,
    crown,
    deepmind,
    deepmind_wide,
    made,
    plain,
    preact_resnet,
    wide_resnet,
)  # fmt: skip
from timm.models.convnext import ConvNeXt
from torch.nn import functional as F
from torchvision import models

from burnish.checkpoint import save_model
from burnish.errors import InputError
from burnish.guide.importers.architectures import find_architecture
from burnish.guide.importers.check import check_accuracy
from burnish.guide.importers.guide import Asked, import_guide
from burnish.guide.importers.registry import FAMILIES, IMAGENET, KNOWN
from burnish.guide.load import load_guide
from burnish.networks.library import WIDER, LibraryClassifier
from burnish.networks.verified import CrownResNet, PlainConvNet

THIRD = Path(__file__).parents[2] / "shared" / "data" / "third_party" / "weights"
TEST_IMAGES = Path(__file__).parents[2] / "shared/data/cifar10/test-00000-of-00001.parquet"
needs_weights = pytest.mark.skipif(not THIRD.exists(), reason="third-party weights are not here")
scaled = partial(Asked, mean=MEAN, std=STD)


def bottlenecks(net, x, act):
    return cifar_resnet(net, x, act, (1, 1, 1, 1), bottleneck=True)


RICE = Asked("robustbench/Rice2020Overfitting")
FORMULAS = {
    "ResNet of CIFAR": (cifar_resnet, F.relu, scaled(activation="relu")),
    "with bottlenecks": (bottlenecks, F.relu, scaled(activation="relu")),
    "with SiLU": (cifar_resnet, F.silu, scaled(activation="silu")),
    "with preactivation": (preact_resnet, F.relu, RICE),
    "wide ResNet": (wide_resnet, F.relu, scaled(activation="relu")),
    "wide ResNet of DeepMind": (deepmind_wide, F.silu, scaled(activation="silu")),
    "ResNet of DeepMind": (deepmind, F.silu, scaled(activation="silu")),
    "alpha-beta-CROWN": (crown, None, scaled()),
    "plain convolutions": (plain, None, scaled()),
}


def imported(content, folder, asked=None, **options):
    torch.save(content, folder / "a.pt", **options)
    return import_guide(folder / "a.pt", asked)


@pytest.mark.parametrize("name", FORMULAS)
def test_logits_are_those_of_the_original_formula_also_when_saved_and_loaded(name, tmp_path):
    formula, act, asked = FORMULAS[name]
    scale = KNOWN[asked.family].normalization if asked.family else (MEAN, STD)
    assert scale
    state, images, wanted = made(formula, act, *scale)
    guide = imported(state, tmp_path, asked)
    save_model(tmp_path / "guide.safetensors", guide.network, guide.card)
    with torch.no_grad():
        for one in (guide, load_guide(tmp_path / "guide.safetensors"), guide.frozen()):
            assert torch.allclose(one(images), wanted, atol=1e-5), (
                (one(images) - wanted).abs().max()
            )


def madry(state, mean, std, schedule=True, **changes):
    """Return what the robustness library saves: the network twice, buffers, a schedule."""
    copy = {f"module.attacker.model.{name}": one for name, one in state.items()}
    net = {f"module.model.{name}": one for name, one in state.items()}
    for place in ("module.normalizer", "module.attacker.normalize"):
        net[f"{place}.new_mean"] = torch.tensor(mean).view(3, 1, 1)
        net[f"{place}.new_std"] = torch.tensor(std).view(3, 1, 1)
    net |= copy | changes
    rate = {"lr_lambdas": [lambda epoch: 0.1**epoch]} if schedule else None
    return {"model": net, "optimizer": {"state": {}}, "schedule": rate, "epoch": 150, "amp": None}


def test_a_file_of_the_robustness_library_needs_nothing_said(tmp_path):
    state, images, wanted = made(cifar_resnet)
    old = {"pickle_module": dill, "_use_new_zipfile_serialization": False}
    guide = imported(madry(state, MEAN, STD), tmp_path, **old)
    assert torch.allclose(guide(images), wanted, atol=1e-5)
    origin = guide.card["origin"]
    assert origin["family"] == "robustness" and origin["normalization_from"] == "the file"
    assert "dill._dill._create_function" in origin["ignored"] and len(origin["sha256"]) == 64
    loaded = guide.network.state_dict()
    assert all(torch.equal(loaded[name], one) for name, one in state.items())


WRAPPED = {
    "plain": lambda s: s,
    "DataParallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "normalized": lambda s: {"mu": torch.zeros(1), **{f"model.{k}": v for k, v in s.items()}},
    "averaged": lambda s: {"module.n_averaged": torch.tensor(3),
                           **{f"module.module.{k}": v for k, v in s.items()}},
    "base_model": lambda s: {"state_dict": {f"module.base_model.{k}": v for k, v in s.items()}},
    "best": lambda s: {"best": s, "epoch": 3},
    "unused block": lambda s: s | {"sub_block1.layer.0.bn1.weight": torch.ones(16)},
    "resumed": lambda s: {"model_state_dict": s, "optimizer_state_dict": {"a": torch.ones(2, 2)},
                          "metrics": {"fid": 3.0}},
}  # fmt: skip


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_are_taken_off(name, tmp_path):
    state, images, wanted = made(wide_resnet)
    held = WRAPPED[name](state)
    if name == "normalized":
        held |= {"mu": torch.tensor(MEAN).view(1, 3, 1, 1), "sigma": torch.tensor(STD)}
        asked = Asked(activation="relu")
    else:
        asked = scaled(activation="relu")
    assert torch.allclose(imported(held, tmp_path, asked)(images), wanted, atol=1e-5)


def test_of_several_networks_one_is_chosen_by_its_number(tmp_path):
    (one, images, first), (two, _, _) = made(plain), made(plain)
    two = {name: -values for name, values in two.items()}
    held = {"state_dict": [two, one], "err": 0.5}
    with pytest.raises(InputError, match=r"2 networks.*--index \(0: 'state_dict\[0\]', 1: "):
        imported(held, tmp_path, scaled())
    guide = imported(held, tmp_path, scaled(index=1))
    assert torch.allclose(guide(images), first, atol=1e-5)
    with pytest.raises(InputError, match="up to 1"):
        imported(held, tmp_path, scaled(index=2))
    resumed = {"model_state_dict": two, "ema_state_dict": one}
    with pytest.raises(InputError, match="1: 'ema_state_dict'"):
        imported(resumed, tmp_path, scaled())


@pytest.mark.parametrize("depth", [18, 34])
def test_the_joint_model_is_told_by_its_dummy(depth, tmp_path):
    """And its normalization, which is not in the file, is that of its family."""
    torch.manual_seed(0)
    net = models.get_model(f"resnet{depth}", num_classes=7).eval()
    if depth == 34:
        with pytest.raises(InputError, match="give --mean"):
            imported(net.state_dict(), tmp_path)
        return
    held = {"dummy": torch.zeros(1), **{f"model.{k}": v for k, v in net.state_dict().items()}}
    guide = imported(held, tmp_path)
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in IMAGENET)
    with torch.no_grad():
        assert torch.allclose(guide(images), net((images - mean) / std), atol=1e-5)
    assert guide.card["network"]["source"] == "torchvision/resnet18"
    assert guide.card["origin"]["family"] == "joint"


def meta(source):
    library, _, name = source.partition("/")
    with torch.device("meta"):
        if name in WIDER:
            return models.resnet50(width_per_group=WIDER[name], num_classes=9).state_dict()
        if library == "torchvision":
            return models.get_model(name, num_classes=9).state_dict()
        return timm.create_model(name, num_classes=9).state_dict()


@pytest.mark.parametrize("source", [
    "torchvision/resnet50", "torchvision/wide_resnet50_2", "torchvision/wide_resnet50_4",
    "torchvision/resnext50_32x4d", "torchvision/densenet161", "torchvision/mnasnet1_0",
    "torchvision/mobilenet_v2", "torchvision/shufflenet_v2_x1_0", "torchvision/vgg16_bn",
    "timm/convnext_small", "timm/vit_base_patch16_224", "timm/swin_small_patch4_window7_224",
    "timm/xcit_small_12_p16_224",
])  # fmt: skip
def test_architectures_are_told_by_the_shapes_of_their_layers(source):
    network, renamed, *_ = find_architecture(meta(source))
    assert network == {"name": "library", "source": source, "in_channels": 3, "num_classes": 9}
    assert all(name.startswith("network.") for name in renamed)


def test_names_of_older_versions_of_timm_are_understood():
    state = {}
    for name, one in meta("timm/swin_tiny_patch4_window7_224").items():
        part = name.split(".")
        if "downsample" in name:
            part[1] = str(int(part[1]) - 1)
        state[".".join(part).replace("head.fc.", "head.")] = one
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49, device="meta")
    network, *_ = find_architecture(state)
    assert network["source"] == "timm/swin_tiny_patch4_window7_224"


def test_a_convolutional_stem_replaces_that_of_convnext(tmp_path):
    """Of revisiting-at: two convolutions of stride 2, each with a layer norm over channels."""
    torch.manual_seed(0)
    net = timm.create_model("convnext_atto", num_classes=5).eval()
    assert isinstance(net, ConvNeXt)
    stem = Original()

    def first(x, width=20):
        for place, out in ((0, width), (3, 2 * width)):
            x = stem.conv(x, f"stem.stem.{place}", out, 3, 2, 1, bias=True)
            weight = stem.get(f"stem.stem.{place + 1}.weight", out, scale=0.1, offset=1)
            bias = stem.get(f"stem.stem.{place + 1}.bias", out, scale=0.1)
            x = F.layer_norm(x.permute(0, 2, 3, 1), (out,), weight, bias, 1e-6)
            x = F.gelu(x.permute(0, 3, 1, 2))
        return x

    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in IMAGENET)
    with torch.no_grad():
        wanted = net.head(net.stages(first((images - mean) / std)))
    state = {f"module.base_model.{name}": one for name, one in net.state_dict().items()
             if not name.startswith("stem.")}  # fmt: skip
    state |= {f"module.base_model.{name}": one for name, one in stem.state.items()}
    guide = imported({"state_dict": state}, tmp_path, Asked("timm/convnext_atto"))
    with torch.no_grad():
        assert torch.allclose(guide(images), wanted, atol=1e-5)
    for kind, count in (("three", 3), ("patch", 5)):
        source = "timm/vit_tiny_patch16_224" if kind == "patch" else "timm/convnext_atto"
        with torch.device("meta"):
            made = LibraryClassifier(source, 5, stem=kind, stem_width=24)
        state = {k.removeprefix("network."): v for k, v in made.state_dict().items()}
        state = {k: v for k, v in state.items() if "normalize" not in k}
        network, *_ = find_architecture(state, source)
        assert (network["stem"], network["stem_width"]) == (kind, 24), count


def changed(**changes):
    state, *_ = made(cifar_resnet)
    for name, change in changes.items():
        name = name.replace("_of_", ".")
        state[name] = change(state.get(name))
    return state


NAN = {"conv1_of_weight": lambda w: w * torch.nan}
NEGATIVE = {"bn1_of_running_var": lambda w: -w}
SAID = scaled(activation="relu")
STATE = made(cifar_resnet)[0]
REFUSED = [
    (STATE, None, "activation cannot be told.*--activation"),
    (STATE, Asked(activation="relu"), "normalized is not in the file; give --mean"),
    (STATE, Asked("robustbench", activation="relu"), "give --mean"),
    (made(preact_resnet)[0], SAID, "preactivation.*--as robustbench/"),
    (made(crown)[0], SAID, "activation.*fixed"),
    ({**STATE, "extra": torch.ones(2)}, SAID, "'extra' is left over"),
    ({k: v for k, v in STATE.items() if k != "bn1.bias"}, SAID, r"bn1\.bias is missing"),
    (changed(bn1_of_bias=lambda b: b[:2]), SAID, r"bn1\.bias is of shape \[2\], not \[4\]"),
    (changed(**NAN), SAID, r"conv1\.weight holds NaN"),
    (changed(**NEGATIVE), SAID, "variance below 0"),
    ({"a.weight": torch.ones(2, 2)}, SAID, r"no architecture is known.*'a\.weight'.*--as timm/"),
    ({"0.weight": torch.ones(2, 2)}, SAID, "convolutions, then linear"),
    (madry(STATE, MEAN, STD, False), Asked(mean=(0.1,), std=(0.1,)), "leave out what is wrong"),
    (madry(STATE, MEAN, (0.0,) * 3, False), None, "not above 0"),
    (madry(STATE, MEAN, STD, False, **{"module.attacker.model.bn1.bias": torch.ones(4)}), None,
     "another network than the model"),
    (madry(STATE, MEAN, STD, False, **{"module.attacker.normalize.new_mean": torch.ones(3, 1, 1)}),
     None, "2 means"),
    (STATE, Asked("torchvision/resnet18"), "no architecture is known"),
    (STATE, Asked("timm/resnet18"), "no architecture is known"),
    ({"fc.weight": torch.ones(5, 8)}, Asked("timm/nothing"), "unknown timm model"),
    ({"model": "text"}, SAID, "no weights of a network, but 'model'"),
    ({"w.weight": torch.ones(2, 2)}, Asked("crown/resnet4b"), "its SHA-256 differs"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "asked", "message"), REFUSED, ids=[r[2][:30] for r in REFUSED]
)
def test_what_does_not_fit_or_is_not_said_is_refused(content, asked, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        imported(content, tmp_path, asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("options", "message"), [
    ({"family": "nothing"}, "unknown family"), ({"family": "crown/resnet5b"}, "did you mean"),
    ({"mean": MEAN}, "belong together"), ({"mean": (1, 2), "std": (1, 2)}, "one per channel"),
    ({"mean": (124.0,), "std": (58.0,)}, r"pixels are in \[0, 1\]"),
    ({"mean": (torch.nan,), "std": (1.0,)}, "from -1 to 1"),
])  # fmt: skip
def test_what_the_user_says_is_checked(options, message):
    with pytest.raises(InputError, match=message):
        Asked(**options)


def test_the_registry_is_consistent():
    for name, known in KNOWN.items():
        assert known.name == name and known.family in FAMILIES and known.threat and known.where
        assert known.accuracy is None or 0.3 < known.accuracy < 1
        if known.normalization:
            assert [len(part) for part in known.normalization] == [3, 3]
    assert len(KNOWN) > 100


@needs_weights
@pytest.mark.parametrize(("name", "accuracy", "kind"), [
    ("resnet4b.pth", 0.772, CrownResNet), ("resnet2b.pth", 0.6925, CrownResNet),
    ("cifar_cnn_a_adv.model", None, PlainConvNet),
])  # fmt: skip
def test_published_networks_are_as_accurate_as_published(name, accuracy, kind):
    """On 2,000 of the 10,000 images, of which the published figure is within three errors."""
    asked = (
        None if accuracy else Asked(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
    )
    guide = import_guide(THIRD / name, asked)
    assert isinstance(guide.network, kind)
    found = check_accuracy(guide, f"{TEST_IMAGES}[0-1999]")
    assert found.published == accuracy and found.count == 2000 and found.fits
    assert found.accuracy == pytest.approx(accuracy or 0.6975, abs=0.03)
