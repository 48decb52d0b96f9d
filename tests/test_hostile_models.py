"""Models, references and settings that are broken or hostile: one line, exit code 2, no trace."""

import copy
import json
import math
import os
import pickle
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from burnish.checkpoint import save_model
from burnish.cli.main import main
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.unet import build_unet
from burnish.networks.build import build

RESNET = {"name": "resnet", "in_channels": 1, "num_classes": 3, "width": 4, "num_blocks": 1}
CONVNET = {"name": "convnet", "in_channels": 1, "num_classes": 3, "widths": [4], "num_features": 5}
DECODER = {"name": "decoder", "in_channels": 1, "num_classes": 3, "image_size": 8, "widths": [4]}
REALNESS = {"quantiles": [-1.0, 0.0, 1.0]}
NAN, INF = math.nan, math.inf


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The states of small models, and a folder with what the commands need besides."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("good")
    states = {one["name"]: build(one).state_dict() for one in (RESNET, CONVNET, DECODER)}
    save_model(folder / "features.safetensors", build(CONVNET), {"network": CONVNET})
    images = torch.randint(0, 256, (20, 8, 8, 1), dtype=torch.uint8).numpy()
    np.savez(folder / "samples.npz", arr_0=images, arr_1=np.arange(20) % 3)
    unet = build_unet(8, 1, 3, widths=(8,), norm_num_groups=4)
    ConsistencyModel(unet, card={"name": "tiny"}).save(folder / "generator")
    return states, folder


def refine(states, guide="guide.safetensors"):
    del states
    return ["refine", "samples.npz", "--guide", guide, "--eps", "1", "--out", "out.npz"]


def evaluate(states, reference="samples.npz", features="features.safetensors"):
    del states
    return ["evaluate", "samples.npz", "--reference", reference, "--features", features]


def sample(states, generator="generator"):
    del states
    return ["sample", generator, "--seeds", "0-1", "--out", "out.npz"]


def train(states):
    del states
    return ["train", "features", "it.yaml", "--dry-run"]


def measure(states):
    del states
    return ["measure", "it.yaml", "--real", "samples.npz", "--out", "out"]


def guide(network=None, state=None, metadata=None, **card):
    """Write a guide whose card or weights are changed; refine with it."""
    name = network.get("name") if isinstance(network, dict) else "resnet"

    def make(states):
        tensors = dict(states.get(str(name), states["resnet"]))
        tensors = tensors if state is None else state(tensors)
        entry = {**RESNET, **network} if isinstance(network, dict | None) and network else RESNET
        entry = entry if isinstance(network, dict | None) else network
        text = metadata or {"card": json.dumps({"network": entry, **card})}
        save_file({k: v.contiguous() for k, v in tensors.items()}, "guide.safetensors", text)
        return refine(states)

    return make


def features(state=None, network=CONVNET, **card):
    def make(states):
        tensors = dict(states["convnet"])
        tensors = tensors if state is None else state(tensors)
        text = {"card": json.dumps({"network": network, **card})}
        save_file(tensors, "features.safetensors", text)
        return evaluate(states)

    return make


def decoder(**card):
    def make(states):
        text = {"card": json.dumps({"network": DECODER, **card})}
        save_file(dict(states["decoder"]), "decoder.safetensors", text)
        return sample(states, "decoder.safetensors")

    return make


def changed(name, change):
    """Change one tensor of a state."""
    return lambda state: {**state, name: change(state[name])}


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


def raw(path, content, command):
    def make(states):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
        return command(states)

    return make


def instead(path, kind, command):
    """Put a pipe, a folder or a device where a file is expected."""

    def make(states):
        Path(path).unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            Path(path).mkdir()
        else:
            Path(path).symlink_to(kind)
        return command(states)

    return make


def edited(path, command=sample, **entries):
    """Change entries of a JSON file; None deletes."""

    def make(states):
        values = {**json.loads(Path(path).read_text()), **entries}
        Path(path).write_text(json.dumps(values))
        return command(states)

    return make


def reference(remove=(), command=None, **members):
    def make(states):
        sigma = np.eye(5)
        whole = {"mu": np.zeros(5), "sigma": sigma, **members}
        np.savez("reference.npz", **{k: v for k, v in whole.items() if k not in remove})
        return (command or evaluate)(states, "reference.npz")

    return make


def text(content, command=train):
    return raw("it.yaml", content, command)


class Touch:
    """Pickled, it makes a file when somebody unpickles it."""

    def __reduce__(self):
        return Path.touch, (Path("touched"),)


def planted(name, command, *files):
    """Put a pickle where a library keeps fetched weights."""

    def make(states):
        for file in files:
            path = Path(torch.hub.get_dir()) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".py":
                path.write_text("from pathlib import Path\nPath('touched').touch()\n")
            else:
                torch.save({"state": Touch()}, path)
        return command(states, name)

    return make


def by_features(states, name):
    return evaluate(states, features=name)


CLIP = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 20)
)
DEEP = "[" * 5000 + "]" * 5000
CONFIG, SCHEDULER = "generator/unet/config.json", "generator/scheduler/scheduler_config.json"
UNET = "generator/unet/diffusion_pytorch_model.safetensors"
BIAS, STD = "head.bias", "normalize.std"

FETCHED = {
    "torchvision": planted("torchvision/resnet18", refine, "checkpoints/resnet18-f37072fd.pth"),
    "vgg16": planted("vgg16", by_features, "checkpoints/vgg16-397923af.pth"),
    "clip": planted("clip-rn50", by_features, f"checkpoints/clip-rn50-{CLIP}.pt"),
    "inception": planted(
        "inception-v3-compat", by_features,
        "checkpoints/weights-inception-2015-12-05-6726825d.pth",
    ),
    "dinov2": planted("dinov2-vit-s-14", by_features, "facebookresearch_dinov2_main/hubconf.py"),
    "timm, offline": lambda states: refine(states, "timm/test_vit"),
    "torchvision, offline": lambda states: refine(states, "torchvision/resnet18"),
    "clip, offline": lambda states: evaluate(states, features="clip-rn50"),
    "guide of the hub, offline": lambda states: refine(states, "owner/name"),
    "features of the hub, offline": lambda states: evaluate(states, features="owner/name"),
    "generator of the hub, offline": lambda states: sample(states, "owner/name"),
}  # fmt: skip

WEIGHTS = {
    "NaN": guide(state=changed(BIAS, lambda v: v * NAN)),
    "infinity": guide(state=changed(BIAS, lambda v: v + INF)),
    "beyond float32": guide(state=changed(BIAS, lambda v: v.double() + 1e300)),
    "zero deviation": guide(state=changed(STD, lambda v: v * 0)),
    "negative deviation": guide(state=changed(STD, lambda v: -v)),
    "negative variance": guide(state=changed("stem.1.running_var", lambda v: v - 2)),
    "missing": guide(state=without(BIAS)),
    "surplus": guide(state=lambda state: {**state, "other": torch.zeros(1)}),
    "complex": guide(state=changed(BIAS, lambda v: v.to(torch.complex64))),
    "int8": guide(state=changed(BIAS, lambda v: v.to(torch.int8))),
    "bool": guide(state=changed(BIAS, lambda v: v > 0)),
    "float8": guide(state=changed(BIAS, lambda v: v.to(torch.float8_e4m3fn))),
    "other shape": guide(state=changed(BIAS, lambda v: v[:2].clone())),
    "scalar": guide(state=changed(BIAS, lambda v: v[0].clone())),
    "empty": guide(state=lambda state: {"x": torch.zeros(0)}),
    "counts as floats": guide(state=changed("stem.1.num_batches_tracked", lambda v: v.float())),
    "spectrum with NaN": guide(
        state=lambda s: {**s, "beside.real": torch.full((8, 8, 1, 1), NAN)}
    ),
    "spectrum of another shape": guide(state=lambda s: {**s, "beside.real": torch.ones(8, 8)}),
    "spectrum of another size": guide(
        state=lambda s: {**s, "beside.real": torch.ones(4, 4, 1, 1)}, image_shape=[1, 8, 8]
    ),
    "features with NaN": features(changed("head.1.bias", lambda v: v * NAN)),
    "features without a layer": features(without("head.1.bias")),
    "empty file": raw("guide.safetensors", b"", refine),
    "garbage": raw("guide.safetensors", bytes(range(256)) * 9, refine),
    "header of 10^18 bytes": raw("guide.safetensors", b"\xff" * 7 + b"\x0f{}", refine),
    "pickle": raw("guide.safetensors", pickle.dumps(Touch()), refine),
    "pipe": instead("guide.safetensors", "pipe", refine),
    "folder": instead("guide.safetensors", "folder", refine),
    "device": instead("guide.safetensors", "/dev/zero", refine),
    "features in a pipe": instead("features.safetensors", "pipe", evaluate),
    "generator in a pipe": instead("g.safetensors", "pipe", lambda s: sample(s, "g.safetensors")),
    "U-Net with NaN": None,
    "U-Net cut": None,
    "U-Net without a tensor": None,
}

CARDS = {
    "no card": guide(metadata={"format": "pt"}),
    "nested": guide(metadata={"card": DEEP}),
    "nested in a field": guide(metadata={"card": '{"network": ' + DEEP + "}"}),
    "no JSON": guide(metadata={"card": "{"}),
    "a list": guide(metadata={"card": "[]"}),
    "null": guide(metadata={"card": "null"}),
    "NaN in it": guide(note=NAN),
    "a key twice": guide(metadata={"card": '{"network": {}, "network": {}}'}),
    "an escape sequence": guide(name="\x1b[2J"),
    "half a character": guide(name="\ud800"),
    "large": guide(note="x" * 2**21),
    "many values": guide(note=[0] * 30_000),
    "huge number": guide(note=10**30),
    "network a list": guide(network=[]),
    "network a text": guide(network="resnet"),
    "unknown network": guide({"name": "resent"}),
    "network's name a list": guide({"name": ["resnet"]}),
    "unknown argument": guide({"depht": 3}),
    "width a text": guide({"width": "4"}),
    "width a half": guide({"width": 4.5}),
    "width a list": guide({"width": [4]}),
    "width true": guide({"width": True}),
    "width null": guide({"width": None}),
    "width 0": guide({"width": 0}),
    "width -1": guide({"width": -1}),
    "width 10^9": guide({"width": 10**9}),
    "width 8192": guide({"width": 8192}),
    "blocks 10^6": guide({"num_blocks": 10**6}),
    "classes 10^12": guide({"num_classes": 10**12}),
    "classes other": guide({"num_classes": 4}),
    "channels 7": guide({"in_channels": 7}),
    "mean a text": guide({"mean": "0.5"}),
    "mean of texts": guide({"mean": ["a"]}),
    "mean nested": guide({"mean": [[0.5]]}),
    "means of a million": guide({"mean": [0.5] * 10_000}),
    "std 0": guide({"std": [0.0]}),
    "depth 10^6": guide({"name": "wide_resnet", "depth": 10**6}),
    "a program": guide({"name": "os.system"}),
    "a pretrained network": guide(network={"name": "pretrained", "source": "../../x"}),
    "name a list": guide(name=["x"]),
    "name a mapping": guide(name={"x": 1}),
    "kind a number": guide(kind=3),
    "data a list": guide(data=["x"]),
    "generated a number": guide(generated=3),
    "sha256 a number": guide(sha256=3),
    "classifies a text": guide(classifies="yes"),
    "does not classify": guide(classifies=False),
    "energy unknown": guide(energy="logits"),
    "energy a list": guide(energy=["logit"]),
    "shape a number": guide(image_shape=8),
    "shape of two": guide(image_shape=[8, 8]),
    "shape of texts": guide(image_shape=["1", "8", "8"]),
    "shape negative": guide(image_shape=[1, -8, 8]),
    "shape other": guide(image_shape=[1, 28, 28]),
    "realness a list": guide(realness=[1, 2]),
    "realness null": guide(realness=None),
    "realness empty": guide(realness={}),
    "quantiles a number": guide(realness={"quantiles": 3}),
    "quantiles of texts": guide(realness={"quantiles": ["a", "b"]}),
    "quantiles of one": guide(realness={"quantiles": [1.0]}),
    "quantiles falling": guide(realness={"quantiles": [1.0, 0.0]}),
    "quantiles nested": guide(realness={"quantiles": [[1.0, 2.0]]}),
    "range of generated a text": guide(realness=REALNESS, realness_generated="x"),
    "refine a list": guide(realness=REALNESS, refine=[1]),
    "refine null": guide(realness=REALNESS, refine=None),
    "refine unknown": guide(realness=REALNESS, refine={"epsilon": 1}),
    "refine eps a text": guide(realness=REALNESS, refine={"step_size": "far"}),
    "refine eps negative": guide(realness=REALNESS, refine={"step_size": -1}),
    "refine steps a list": guide(realness=REALNESS, refine={"num_steps": [7]}),
    "refine norm a list": guide(realness=REALNESS, refine={"norm": ["l2"]}),
    "refine objective a number": guide(realness=REALNESS, refine={"objective": 3}),
    "refine keep_better a text": guide(realness=REALNESS, refine={"keep_better": "no"}),
    "refine quantile 2": guide(realness=REALNESS, refine={"stop_quantile": 2}),
    "tuning a text": guide(realness=REALNESS, tuning="leave"),
    "tuning of numbers": guide(realness=REALNESS, tuning={"verdict": 1, "words": 2}),
    "features' name a list": features(name=["x"]),
    "features' data a number": features(data=3),
    "features' classifies a number": features(classifies=1),
    "features' shape a text": features(image_shape="1x8x8"),
    "features of another size": features(image_shape=[1, 28, 28]),
    "features without a feature layer": lambda s: (
        guide()(s) and evaluate(s, features="guide.safetensors")
    ),
    "a generator's kind a list": decoder(kind=["vae"]),
    "a generator's name a number": decoder(name=3),
    "a guide as a generator": lambda s: guide()(s) and sample(s, "guide.safetensors"),
    "a generator as a guide": lambda s: decoder()(s) and refine(s, "decoder.safetensors"),
}

FOLDERS = {
    "config a list": raw(CONFIG, "[]", sample),
    "config no JSON": raw(CONFIG, "{", sample),
    "config nested": raw(CONFIG, DEEP, sample),
    "config in a pipe": instead(CONFIG, "pipe", sample),
    "config a device": instead(CONFIG, "/dev/zero", sample),
    "config of 2 MiB": raw(CONFIG, " " * 2**21, sample),
    "another class": edited(CONFIG, _class_name="UNet2DConditionModel"),
    "class a list": edited(CONFIG, _class_name=["UNet2DModel"]),
    "no size": edited(CONFIG, sample_size=None),
    "size a text": edited(CONFIG, sample_size="8"),
    "size of three": edited(CONFIG, sample_size=[8, 8, 8]),
    "size 10^9": edited(CONFIG, sample_size=10**9),
    "size 0": edited(CONFIG, sample_size=0),
    "widths a number": edited(CONFIG, block_out_channels=8),
    "width 10^9": edited(CONFIG, block_out_channels=[10**9]),
    "widths of a thousand": edited(CONFIG, block_out_channels=[8] * 1000),
    "other width": edited(CONFIG, block_out_channels=[16]),
    "layers 10^9": edited(CONFIG, layers_per_block=10**9),
    "layers a text": edited(CONFIG, layers_per_block="1"),
    "classes 10^12": edited(CONFIG, num_class_embeds=10**12),
    "classes -1": edited(CONFIG, num_class_embeds=-1),
    "channels 2^40": edited(CONFIG, in_channels=2**40),
    "other channels": edited(CONFIG, in_channels=3),
    "groups 0": edited(CONFIG, norm_num_groups=0),
    "groups 3": edited(CONFIG, norm_num_groups=3),
    "blocks unknown": edited(CONFIG, down_block_types=["os.system"]),
    "blocks a text": edited(CONFIG, down_block_types="DownBlock2D"),
    "activation unknown": edited(CONFIG, act_fn="boom"),
    "activation a list": edited(CONFIG, act_fn=["silu"]),
    "dropout 2": edited(CONFIG, dropout=2),
    "time embedding unknown": edited(CONFIG, time_embedding_type="x"),
    "size 4096": edited(CONFIG, sample_size=4096),
    "padding 10^9": edited(CONFIG, downsample_padding=10**9),
    "scale 0": edited(CONFIG, mid_block_scale_factor=0),
    "flip a text": edited(CONFIG, flip_sin_to_cos="x"),
    "scale shift a number": edited(CONFIG, resnet_time_scale_shift=3),
    "scheduler a list": raw(SCHEDULER, "[]", sample),
    "scheduler nested": raw(SCHEDULER, DEEP, sample),
    "sigma a text": edited(SCHEDULER, sigma_min="small"),
    "sigma 0": edited(SCHEDULER, sigma_min=0),
    "sigma a list": edited(SCHEDULER, sigma_max=[80]),
    "sigmas reversed": edited(SCHEDULER, sigma_max=0.001),
    "sigma huge": edited(SCHEDULER, sigma_max=1e300),
    "rho 0": edited(SCHEDULER, rho=0),
    "rho null": edited(SCHEDULER, rho=None),
    "card a list": raw("generator/card.json", "[]", sample),
    "card no JSON": raw("generator/card.json", "{", sample),
    "card nested": raw("generator/card.json", DEEP, sample),
    "card with NaN": raw("generator/card.json", '{"a": NaN}', sample),
    "card in a pipe": instead("generator/card.json", "pipe", sample),
    "kind a list": raw("generator/card.json", '{"kind": ["diffusion model"]}', sample),
    "diffusion model without levels": raw(
        "generator/card.json", '{"kind": "diffusion model"}', sample
    ),
    "diffusion model of texts": raw(
        "generator/card.json", '{"kind": "diffusion model", "scalings": {"rho": "x"}}', sample
    ),
    "empty folder": lambda s: Path("empty").mkdir() or sample(s, "empty"),
    "no weights": lambda s: Path(UNET).unlink() or sample(s),
    "pickled weights": lambda s: Path(UNET).rename(UNET[:-11] + "bin") and sample(s),
}

REFERENCES = {
    "sigma negated": reference(sigma=-np.eye(5)),
    "sigma indefinite": reference(sigma=np.diag([1.0, 1, 1, 1, -0.5])),
    "sigma not symmetric": reference(sigma=np.triu(np.ones((5, 5))) + 5 * np.eye(5)),
    "sigma with NaN": reference(sigma=np.full((5, 5), NAN)),
    "sigma infinite": reference(sigma=np.diag([INF] * 5)),
    "sigma of whole numbers": reference(sigma=np.eye(5, dtype=int)),
    "sigma complex": reference(sigma=np.eye(5) * 1j),
    "sigma of texts": reference(sigma=np.full((5, 5), "a")),
    "sigma of another size": reference(sigma=np.eye(4)),
    "sigma huge": reference(sigma=np.full((5, 5), 1e308)),
    "mu huge": reference(mu=np.full(5, 1e200)),
    "features huge": reference(features=np.full((9, 5), 1e300)),
    "sigma in 80 bits": reference(sigma=np.eye(5, dtype=np.longdouble)),
    "sigma a vector": reference(sigma=np.ones(5)),
    "no sigma": reference(remove=["sigma"]),
    "mu a matrix": reference(mu=np.zeros((5, 1))),
    "mu a number": reference(mu=np.float64(0)),
    "mu empty": reference(mu=np.zeros(0), sigma=np.zeros((0, 0))),
    "mu with NaN": reference(mu=np.full(5, NAN)),
    "mu pickled": reference(mu=np.array([None] * 5)),
    "sigma pickled": reference(sigma=np.full((5, 5), None)),
    "other dimension": reference(mu=np.zeros(6), sigma=np.eye(6)),
    "dimension of Inception": reference(mu=np.zeros(64), sigma=np.eye(64)),
    "features with NaN": reference(features=np.full((9, 5), NAN)),
    "features of another size": reference(features=np.zeros((9, 4))),
    "features a vector": reference(features=np.zeros(5)),
    "features none": reference(features=np.zeros((0, 5))),
    "features of whole numbers": reference(features=np.zeros((9, 5), int)),
    "features pickled": reference(features=np.full((9, 5), None)),
    "card no JSON": reference(card=np.array("{")),
    "card a list": reference(card=np.array("[]")),
    "card nested": reference(card=np.array(DEEP)),
    "card's number negative": reference(card=np.array('{"num_images": -5}')),
    "card's number a text": reference(card=np.array('{"num_images": "5"}')),
    "card's extractor a list": reference(card=np.array('{"feature_extractor": []}')),
    "card's hash a number": reference(card=np.array('{"extractor_sha256": 3}')),
    "of other weights": reference(card=np.array('{"extractor_sha256": "00"}')),
    "images of another size": reference(
        arr_0=np.zeros((9, 28, 28, 3), np.uint8), remove=["features"]
    ),
    "sigma of 10^12 numbers": None,
    "members cut": None,
    "a pipe": instead("reference.npz", "pipe", lambda s: evaluate(s, "reference.npz")),
    "a folder": instead("reference.npz", "folder", lambda s: evaluate(s, "reference.npz")),
    "not there": lambda s: evaluate(s, "none.npz"),
    "extractor misspelt": lambda s: evaluate(s, features="inception-v3-compa"),
    "extractor unknown": lambda s: evaluate(s, features="judge"),
    "extractor empty": lambda s: evaluate(s, features=""),
    "extractor of a long name": lambda s: evaluate(s, features="x" * 5000),
    "float16 of another": lambda s: evaluate(s, features="vgg16:float16"),
}

SETTINGS = {
    "billion laughs": text(LAUGHS),
    "recursive": text("a: &a [*a]"),
    "recursive keys": text("features: &a {x: *a}"),
    "nested": text("a: " + DEEP),
    "nested keys": text("{a: " * 5000),
    "python tag": text("name: !!python/object/apply:os.system [touch touched]"),
    "own tag": text("name: !mine x"),
    "timestamp": text("name: 2020-01-01"),
    "binary": text("name: !!binary aGk="),
    "key twice": text("name: a\nname: b"),
    "key a number": text("1: a"),
    "key true": text("features: {yes: {}}"),
    "key a list": text("? [a]\n: b"),
    "key null": text("~: a"),
    "2 MiB": text("#" * 2**21),
    "control characters": text('name: "\\e[2J"'),
    "no UTF-8": text(b"name: \xff\xfe\xfd"),
    "NUL": text(b"name: a\0b"),
    "two documents": text("name: a\n---\nname: b"),
    "a text": text("hello"),
    "a number": text("3"),
    "a pipe": instead("it.yaml", "pipe", train),
    "a folder": instead("it.yaml", "folder", train),
    "a device": instead("it.yaml", "/dev/zero", train),
    "extends itself": text("extends: it.yaml"),
    "extends a device": text("extends: /dev/zero"),
    "extends a number": text("extends: 3"),
    "tables: laughs": text(LAUGHS, measure),
    "tables: a list": text("[]", measure),
    **{
        f"{section}: {key}: {value}"[:60]: text(f"{section}: {{{key}: {value}}}")
        for section, key, values in [
            (
                "features",
                "plain",
                [
                    "3",
                    "[]",
                    "{network: 3}",
                    "{network: {name: evil}}",
                    "{network: {name: convnet, widths: 3}}",
                    "{task: x}",
                ],
            ),
            ("features", "../x", ["{}"]),
            ("features", "a/b", ["{}"]),
            ("features", ".x", ["{}"]),
            ("features", "'a b'", ["{}"]),
            (
                "consistency",
                "teacher",
                [
                    "{of: ../../x}",
                    "{of: /tmp/x}",
                    "{of: [x]}",
                    "{sigma_mean: .nan}",
                    "{sigma_std: -1}",
                ],
            ),
            ("consistency", "sigma_max", [".inf", ".nan", "-1", "x", "[1]", "1" + "0" * 400]),
            (
                "consistency",
                "training",
                [
                    "{num_steps: 1" + "0" * 30 + "}",
                    "{num_steps: 1.5}",
                    "{batch_size: 1" + "0" * 15 + "}",
                    "{seed: x}",
                    "{learning_rate: .inf}",
                    "{milestones: [x]}",
                ],
            ),
            ("joint", "generated_by", ["[../x]", "[/x]", "3", "[[x]]"]),
            ("joint", "generated_seed", ["-1", "1e3"]),
            ("joint", "weights", ["{bce_real: .nan}", "{bce_real: -1}", "[1]"]),
            ("joint", "network", ["{name: resnet, width: 1000000000}", "[]", "{}"]),
            ("joint", "refine", ["3", "{eps: .nan}", "{seed: 1" + "0" * 30 + "}"]),
            ("joint", "growth", ["{threshold: .nan}", "{max_steps: -1}"]),
            ("generator", "widths", ["[0]", "[]", "[1000000000]", "3", "[" + "8," * 99 + "8]"]),
            ("generator", "latent_size", ["0", "1000000000000"]),
        ]
        for value in values
    },
    **{
        f"name: {name}"[:60]: text(f"name: {name}")
        for name in ("../x", "/tmp/x", "..", "a/b", "'a b'", "x" * 101, "[a]", "3", ".5x")
    },
}


def _unet(change):
    def make(states):
        from safetensors.torch import load_file

        state = load_file(UNET)
        save_file(change(state), UNET)
        return sample(states)

    return make


def _cut(path, command):
    def make(states):
        if path == "reference.npz":
            reference()(states)
        whole = Path(path).read_bytes()
        Path(path).write_bytes(whole[: len(whole) // 2])
        return command(states)

    return make


def _declared(states):
    """A header that announces 8 TB, and no numbers."""
    with zipfile.ZipFile("reference.npz", "w") as archive:
        for name, shape in (("mu", (10**6,)), ("sigma", (10**6, 10**6))):
            with archive.open(f"{name}.npy", "w") as stream:
                header = {"descr": "<f8", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, header)
    return evaluate(states, "reference.npz")


LAST = "conv_out.bias"
WEIGHTS["U-Net with NaN"] = _unet(lambda state: {**state, LAST: state[LAST] * NAN})
WEIGHTS["U-Net without a tensor"] = _unet(without(LAST))
WEIGHTS["U-Net cut"] = _cut(UNET, sample)
REFERENCES["sigma of 10^12 numbers"] = _declared
REFERENCES["members cut"] = _cut("reference.npz", lambda s: evaluate(s, "reference.npz"))

CASES = [
    pytest.param(case, id=f"{kind}: {name}")
    for kind, cases in {
        "fetched": FETCHED, "weights": WEIGHTS, "cards": CARDS, "folders": FOLDERS,
        "references": REFERENCES, "settings": SETTINGS,
    }.items()
    for name, case in cases.items()
]  # fmt: skip


def tree(folder):
    return {path: path.lstat().st_size for path in folder.rglob("*")}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_in_one_line_and_leaves_nothing(case, good, tmp_path, monkeypatch, capfd):
    states, folder = good
    here, cache = tmp_path / "here", tmp_path / "cache"
    here.mkdir()
    os.system(f"cp -r {folder}/. {here}")
    monkeypatch.chdir(here)
    monkeypatch.setenv("TORCH_HOME", str(cache))
    monkeypatch.setattr("burnish.networks.fetched.unreachable", lambda url: "no network")
    arguments = case(copy.copy(states))
    before, began = tree(here), time.perf_counter()
    capfd.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    said = capfd.readouterr().err
    assert caught.value.code == 2, said
    assert said.startswith("burnish: ") and said.count("\n") == 1, said
    assert len(said) < 700 and "Traceback" not in said
    assert tree(here) == before
    assert time.perf_counter() - began < 20


def test_the_same_models_without_a_fault_are_accepted(good, tmp_path, monkeypatch):
    states, folder = good
    monkeypatch.chdir(tmp_path)
    os.system(f"cp -r {folder}/. {tmp_path}")
    for case in (
        guide(realness=REALNESS, anything={"else": [1]}), decoder(), sample, reference(),
        guide(state=lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()}),
        text("name: a_b-c.1"),
    ):  # fmt: skip
        main(case(states))
        for made in Path().glob("out.npz*"):
            made.unlink()
