"""Which architecture of timm or torchvision some weights belong to."""

import importlib
import re
from typing import Any

from torch import Tensor, nn

from burnish.errors import InputError, shown
from burnish.guide.importers.state import State
from burnish.networks.build import outline
from burnish.networks.fit import COUNTER
from burnish.networks.library import WIDER, LibraryClassifier

# The last layer by its name, in the libraries and in what is derived from them.
_HEADS = ("fc", "head.fc", "head", "classifier", "classifier.6", "classifier.3", "classifier.2",
          "classifier.1", "heads.head")  # fmt: skip
_FIRSTS = ("conv1", "features.0", "features.0.0", "features.conv0", "layers.0", "stem.0",
           "stem.stem.0", "conv1.0", "patch_embed.proj", "patch_embed.proj.stem.0",
           "patch_embed.proj.0.0")  # fmt: skip
# A layer that tells the kind, and the architectures of that kind. Several sizes are tried in turn.
_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("features.denseblock1.denselayer1.norm1.weight",
     tuple(f"torchvision/densenet{depth}" for depth in (161, 121, 169, 201))),
    ("features.0.0.weight", ("torchvision/mobilenet_v2", "torchvision/mobilenet_v3_large",
                             "torchvision/mobilenet_v3_small", "torchvision/efficientnet_b0",
                             *(f"torchvision/convnext_{size}"
                               for size in ("tiny", "small", "base", "large")))),
    ("layers.8.0.layers.0.weight", tuple(f"torchvision/mnasnet{one}" for one in
                                         ("1_0", "0_5", "0_75", "1_3"))),
    ("stage2.0.branch1.0.weight", tuple(f"torchvision/shufflenet_v2_x{one}" for one in
                                        ("1_0", "0_5", "1_5", "2_0"))),
    ("classifier.6.weight", ("torchvision/vgg16_bn", "torchvision/vgg16", "torchvision/vgg19_bn",
                             "torchvision/vgg19", "torchvision/vgg13_bn", "torchvision/vgg13",
                             "torchvision/vgg11_bn", "torchvision/vgg11", "torchvision/alexnet")),
    ("stages.0.blocks.0.conv_dw.weight", tuple(f"timm/convnext_{one}" for one in
                                               ("tiny", "small", "base", "large"))),
    ("blocks.0.local_mp.conv1.weight", tuple(f"timm/xcit_{one}_p16_224" for one in
                                             ("small_12", "tiny_12", "nano_12", "small_24",
                                              "medium_24", "large_24"))),
    ("blocks.0.attn.qkv.weight", tuple(f"timm/vit_{one}_patch16_224" for one in
                                       ("small", "base", "tiny", "large"))),
    ("layers.0.blocks.0.attn.qkv.weight", tuple(f"timm/swin_{one}_patch4_window7_224" for one in
                                                ("tiny", "small", "base", "large"))),
)  # fmt: skip
_FIXED = re.compile(r"_(\d{3})$")  # the size of images, at the end of a name


def find_architecture(
    state: State, source: str = ""
) -> tuple[dict[str, Any], State, bool, int | None]:
    """Return the network, its weights, whether its activation is in doubt, and its size of images.

    Raises:
        InputError: No architecture fits strictly; the message says what the nearest lacks.
    """
    head = next((name for name in _HEADS if f"{name}.weight" in state), "")
    if not head or state[f"{head}.weight"].ndim != 2:
        names = ", ".join(map(shown, list(state)[:3]))
        raise InputError(
            f"no architecture is known with layers such as {names}; --as timm/NAME or "
            "--as torchvision/NAME says which it is"
        )
    sources = (source,) if source else _candidates(state)
    if not sources:
        names = ", ".join(map(shown, list(state)[:3]))
        raise InputError(
            f"no architecture is known with layers such as {names}; --as timm/NAME or "
            "--as torchvision/NAME says which it is"
        )
    firsts = (state.get(f"{one}.weight") for one in _FIRSTS)
    first = next((one for one in firsts if one is not None and one.ndim == 4), None)
    ends = {
        "in_channels": 3 if first is None else first.shape[1],
        "num_classes": state[f"{head}.weight"].shape[0],
    }
    nearest: tuple[int, str] | None = None
    for one in sources:
        network = {"name": "library", "source": one, **ends, **_stem(state)}
        arguments = {key: value for key, value in network.items() if key != "name"}
        blank = outline(lambda given=arguments: LibraryClassifier(**given), one)
        assert isinstance(blank, LibraryClassifier)
        renamed = _as_timm(state, blank.network) if one.startswith("timm/") else state
        faults = misfits(blank.network.state_dict(), renamed)
        if not faults:
            side = int(found[1]) if (found := _FIXED.search(one)) else None
            # The same architecture was published with GELU: in ARES-bench and revisiting-at.
            in_doubt = "resnet" in one
            return network, {f"network.{key}": x for key, x in renamed.items()}, in_doubt, side
        if nearest is None or len(faults) < nearest[0]:
            nearest = len(faults), f"{one}: {faults[0]}"
    assert nearest is not None
    more = f" (and {nearest[0] - 1} more)" if nearest[0] > 1 else ""
    raise InputError(f"the weights do not fit {nearest[1]}{more}")


def misfits(wanted: State | dict[str, Tensor], state: State) -> list[str]:
    """Return which layers are missing, surplus or of another shape, nearest the top first."""
    found = [
        f"{name} is of shape {list(state[name].shape)}, not {list(one.shape)}"
        for name, one in wanted.items()
        if name in state and one.shape != state[name].shape
    ]
    missing = [name for name in wanted if name not in state and not name.endswith(COUNTER)]
    found += [f"{name} is missing" for name in missing]
    return found + [f"{shown(name)} is left over" for name in state if name not in wanted]


def _candidates(state: State) -> tuple[str, ...]:
    if "layer1.0.conv1.weight" in state and "fc.weight" in state:
        return _resnets(state)
    return next((names for layer, names in _KINDS if layer in state), ())


def _resnets(state: State) -> tuple[str, ...]:
    counts: tuple[int, ...] = tuple(
        len({name.split(".")[1] for name in state if name.startswith(f"layer{stage}.")})
        for stage in (1, 2, 3, 4)
    )
    if "layer1.0.conv3.weight" not in state:
        names: dict[tuple[int, ...], str] = {(2, 2, 2, 2): "resnet18", (3, 4, 6, 3): "resnet34"}
        return (f"torchvision/{names[counts]}",) if counts in names else ()
    depths: dict[tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
    depth = depths.get(counts)
    inner = state["layer1.0.conv2.weight"].shape
    if depth is None or len(inner) != 4:
        return ()
    if inner[1] < inner[0]:  # groups
        grouped = ("resnext50_32x4d",) if depth == 50 else ("resnext101_32x8d", "resnext101_64x4d")
        return tuple(f"torchvision/{name}" for name in grouped)
    wide = inner[0] // 64
    if wide == 1:
        return (f"torchvision/resnet{depth}",)
    name = f"wide_resnet{depth}_{wide}"
    return (f"torchvision/{name}",) if wide == 2 or name in WIDER else ()


def _stem(state: State) -> dict[str, Any]:
    """Return which convolutional stem replaces the first convolution."""
    places = ("stem.stem", "patch_embed.proj.stem")
    place = next((one for one in places if f"{one}.0.weight" in state), "")
    if not place:
        return {}
    count = sum(name.startswith(place) and one.ndim == 4 for name, one in state.items())
    width = state[f"{place}.0.weight"].shape[0]
    kind = {2: "half", 3: "three", 5: "patch"}.get(count, "")
    if not kind:
        raise InputError(f"its stem of {count} convolutions is not known")
    return {"stem": kind, "stem_width": width}


def _as_timm(state: State, network: nn.Module) -> State:
    """Return weights under the names that timm gives them today."""
    module = importlib.import_module(type(network).__module__)
    rename = getattr(module, "checkpoint_filter_fn", None)
    if rename is None or not misfits(network.state_dict(), state):
        return state
    try:
        return dict(rename(dict(state), network))
    except Exception:  # of timm, for weights of another network
        return state
