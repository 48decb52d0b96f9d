"""Does a guide that has seen many generators help one that it has not seen?

    python experiments/leave_one_out.py IMAGES OUT results/cifar10-leave-one-out.json

trains guides from the shipped ``cifar10-all`` on equal shares of several families of generated
CIFAR-10 images, all but those left out, refines test images of every family with each guide, and
scores them. OUT holds the guides; what is in the results already is not done again.

IMAGES holds ``NAME-train.npz`` and ``NAME-test.npz`` of each family, ``real-train.npz`` and
``real-reference.npz`` (the real images of CIFAKE, rows 0-9999 and 10000-12499), and
``real-train-own.npz`` (their originals in CIFAR-10). All but the images of CIFAKE were encoded by
PIL as CIFAKE's are (JPEG, quality 75, 4:2:0) and decoded, so that no guide learns to tell JPEG
from PNG. Seeds are 3000000-3005999 for training and 4000000-4001999 for testing; networks were
trained on rows 0-44999 of the CIFAR-10 training set:

* ct, ct2: ``burnish sample cifar10 --seeds SEEDS``, ct2 with ``--num-steps 2`` (test only).
* gaussian, gan, vae: ``burnish train generator experiments/cifar10-FAMILY.yaml``, the GAN for
  1,900 and the VAE for 1,500 steps, then ``burnish sample``.
* diffusion: the teacher of ``burnish train consistency experiments/cifar10.yaml`` after 750 steps,
  sampled in 6 steps; 3,000 training images.
* sd: the generated images of CIFAKE (Stable Diffusion), rows 0-5999 and 12000-13999.
* damage (train only): CIFAR-10 rows 0-5999, each blurred, noised, recompressed, resampled or with
  other contrast or saturation.
* ddpm, infomaxgan, dcgan (test only; 256, 64 and 64 images): grids of images that others
  published, labeled by the guide ``cifar10-robust``. Too few for a distance.
"""

# ruff: noqa: B019  (one study lives as long as the process)

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from burnish.ascent.spectrum import measure_spectrum
from burnish.files import provenance, write_json
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.metrics.features import INCEPTION, load_extractor
from burnish.metrics.moments import Array
from burnish.refinement.presets import settings_for
from burnish.refinement.refiner import Refiner
from burnish.samples import from_uint8, to_uint8
from burnish.schema import plain
from burnish.seeds import stream
from burnish.storage.datasets import Dataset, load_dataset
from burnish.studies.adapt_options import AdaptOptions, training_of
from burnish.studies.dose.scorer import Scorer, Scores, look
from burnish.training.recipes.joint import JointData, train_guide
from burnish.training.run import Stage

START, SEED, PRECISION = "cifar10-all", 1, "bfloat16"
NUM_STEPS, NUM_PER_FAMILY, NUM_HELD_OUT = 300, 3000, 1000
FAMILIES = ("ct", "gan", "vae", "gaussian", "diffusion", "sd", "damage")
# ct and diffusion share seeds and a teacher, so they are left out together.
LEFT_OUT = {"without-sd": ("sd",), "all": (), "without-ct": ("ct", "diffusion"),
            "without-gan": ("gan",)}  # fmt: skip
# Not trained here: by its own L2 steps, and by steps along the preconditioned gradient.
SHIPPED, SHIPPED_SPECTRUM = "shipped", "shipped, spectrum"
GUIDES = (*LEFT_OUT, SHIPPED, SHIPPED_SPECTRUM)
TESTED = ("sd", "ct2", "ct", "diffusion", "gan", "vae", "gaussian")
GRIDS = ("ddpm", "infomaxgan", "dcgan")
SETTINGS = {"num_steps": 5, "objective": "logit", "precondition": "spectrum", "stop_quantile": 1.0}
SMALL = ("cifar10/plain", "cifar10/wide", "cifar10/views")
# Guide and family of what Inception scores, on the first 1,000 images.
BY_INCEPTION = (("without-sd", "sd"), ("all", "sd"), ("without-ct", "ct2"),
                (SHIPPED_SPECTRUM, "sd"))  # fmt: skip


def mixture(images: Path, left_out: tuple[str, ...]) -> JointData:
    """Return equal shares of the families that are not left out, and real images as encoded."""
    families = [family for family in FAMILIES if family not in left_out]
    parts = [_some(load_dataset(str(images / f"{family}-train.npz")), NUM_PER_FAMILY)
             for family in families]  # fmt: skip
    generated = _some(_joined(parts, f"{images}: {', '.join(families)}"))
    real = load_dataset(str(images / "real-train-own.npz"))
    if "sd" in families:  # whose images another encoder wrote, that of real-train
        real = _joined([load_dataset(str(images / "real-train.npz"))[:5000], real[5000:]],
                       f"{images}: real-train, real-train-own")  # fmt: skip
    real = _some(real)
    held_out, seen = slice(NUM_HELD_OUT), slice(NUM_HELD_OUT, None)
    return JointData(real[seen], real[held_out], generated[seen], generated[held_out])


def _some(data: Dataset, count: int | None = None) -> Dataset:
    """Return that many images in random order, or all."""
    order = torch.randperm(len(data), generator=stream(SEED, "leave-one-out"))
    return data[order[:count]]


def _joined(parts: list[Dataset], source: str) -> Dataset:
    images, labels = (
        torch.cat([p.images_uint8 for p in parts]),
        torch.cat([p.labels for p in parts]),
    )
    return Dataset(images, labels, source)


def train(images: Path, out: Path, name: str) -> Path:
    """Train the guide of that name, unless it was trained; return its file."""
    data = mixture(images, LEFT_OUT[name])
    options = AdaptOptions(match_spectrum=False, seed=SEED)
    facts = {
        "data": data.real.source, "data_sha256": data.real.sha256(),
        "generated": data.generated.source, "generated_sha256": data.generated.sha256(),
    }  # fmt: skip
    return train_guide(
        training_of(options, START, 1.0, NUM_STEPS, PRECISION), data, Stage(out / name),
        name=f"cifar10-{name}", facts=facts,
    )  # fmt: skip


class Study:
    """Guides, test images and scores of one folder of images; each is made once."""

    def __init__(self, images: Path, out: Path) -> None:
        self.images, self.out = images, out

    @cache
    def guide(self, name: str) -> Guide:
        """Return a guide by its name in GUIDES or by one of a shipped guide."""
        if name in LEFT_OUT:
            trained = self.out / name / "model.safetensors"
            return load_guide(trained if trained.exists() else train(self.images, self.out, name))
        if name != SHIPPED_SPECTRUM:
            return load_guide(START if name == SHIPPED else name)
        given, real = load_guide(START), self.data("real-train")
        parts = (from_uint8(part) for part in real.images_uint8.split(500))
        return Guide(given.network, given.card, given.energy_name,
                     {"real": measure_spectrum(parts)}).eval()  # fmt: skip

    @cache
    def data(self, name: str) -> Dataset:
        """Return images by the name of their file."""
        return load_dataset(str(self.images / f"{name}.npz"))

    def refined(self, name: str, eps: float, data: Dataset) -> tuple[Tensor, dict[str, Any]]:
        """Return refined images, uint8, and how they were refined."""
        guide = self.guide(name)
        chosen = {} if name == SHIPPED else SETTINGS
        settings = settings_for(guide, "joint", **{**chosen, "eps": eps})
        refiner = Refiner(guide, settings, precision=PRECISION)
        parts = list(refiner(_batches(data), data.labels))
        keys = ("realness_before", "realness_after", "l2_moved", "num_steps")
        means = {}
        for key in keys:
            values = torch.cat([getattr(part.ledger, key) for part in parts])
            means[key] = values.float().mean().item()
        images = torch.cat([to_uint8(part.samples.images) for part in parts])
        return images, {"settings": plain(settings), "means": means}

    @cache
    def before(self, family: str, features: tuple[str, ...], count: int) -> dict[str, Scores]:
        """Return the scores of a family as it is."""
        return {name: self.scorer(name)(self.features(f"{family}-test", name, count))
                for name in features}  # fmt: skip

    def after(self, images: Tensor, features: tuple[str, ...]) -> dict[str, Scores]:
        """Return the scores of refined images ``[N, C, H, W]``."""
        extractors = [_extractor(name) for name in features]
        found = look(images.split(100), extractors).features
        return {name: self.scorer(name)(found[_extractor(name).name]) for name in features}

    @cache
    def scorer(self, name: str) -> Scorer:
        """Return what scores features of one extractor against the reference."""
        return Scorer(self.features("real-reference", name))

    def features(self, images: str, name: str, count: int | None = None) -> Array:
        """Return the features of images as they are; they are kept."""
        kept = self.out / f"{images}-{count}-{name.replace('/', '-')}.npy"
        if not kept.exists():
            parts = self.data(images)[:count].images_uint8.split(100)
            (found,) = look(parts, [_extractor(name)]).features.values()
            np.save(kept, found)
        return np.load(kept)

    def row(self, name: str, eps: float, family: str, features: tuple[str, ...]) -> dict[str, Any]:
        """Return the scores of a family as it is, and refined by a guide."""
        count = 1000 if INCEPTION in features else 2000
        data = self.data(f"{family}-test")[:count]
        before = self.before(family, features, count)
        images, facts = self.refined(name, eps, data)
        after = self.after(images, features)
        return {
            "num_images": count, **facts,
            "before": {key: one.values for key, one in before.items()},
            "after": {key: one.since(before[key]) for key, one in after.items()},
        }  # fmt: skip

    def grid(self, name: str, eps: float, family: str) -> dict[str, Any]:
        """Return how real other guides find a small set before and after; draw 8 pairs."""
        data = self.data(f"{family}-test")
        images, _ = self.refined(name, eps, data)
        after, others = Dataset(images, data.labels, ""), {}
        for other in (*LEFT_OUT, SHIPPED, "cifar10-robust"):
            trained = self.out / other / "model.safetensors"
            if other != name and (other not in LEFT_OUT or trained.exists()):
                sets = {"real": self.data("real-reference-own")[:500], "before": data}
                sets["after"] = after
                others[other] = {key: _realness(self.guide(other), one)
                                 for key, one in sets.items()}  # fmt: skip
        pairs = torch.cat([torch.cat([*side[:8]], 2) for side in (data.images_uint8, images)], 1)
        picture = Image.fromarray(pairs.permute(1, 2, 0).numpy())
        picture.resize((1024, 256), Image.Resampling.NEAREST).save(
            self.out / f"{family}-{name}.png"
        )
        return {"num_images": len(data), "realness_by_others": others}


def _batches(data: Dataset) -> Iterator[Any]:
    return (data.samples(slice(start, start + 100)) for start in range(0, len(data), 100))


@torch.no_grad()
def _realness(guide: Guide, data: Dataset) -> float:
    parts = [guide.realness(part.images, part.labels) for part in _batches(data)]
    return torch.cat(parts).mean().item()


@cache
def _extractor(name: str) -> Any:
    return load_extractor(name)


def cells(guides: tuple[str, ...]) -> Iterator[tuple[str, float, str, tuple[str, ...]]]:
    """Yield guide, radius, family and feature extractors, the most important first."""
    inception = [one for one in BY_INCEPTION if one[0] in guides]
    yield from ((name, 1.0, TESTED[0], SMALL) for name in guides)
    yield from ((name, 1.0, family, (INCEPTION,)) for name, family in inception)
    yield from (("all", 1.0, family, ()) for family in GRIDS if "all" in guides)
    yield from ((name, 1.0, family, SMALL) for family in TESTED[1:] for name in guides)
    yield from ((name, 0.5, family, SMALL) for name in guides for family in TESTED)


def main(images: str, out: str, results: str, *guides: str) -> None:
    """Fill in the results, cell by cell; of some guides only if they are named."""
    study, path = Study(Path(images), Path(out)), Path(results)
    found = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    for name, eps, family, features in cells(guides or GUIDES):
        by = "inception" if INCEPTION in features else "small" if features else "guides"
        key = f"{name} | {eps} | {family} | {by}"
        if key in found["rows"]:
            continue
        row = study.row(name, eps, family, features) if features else study.grid(name, eps, family)
        seen = name in LEFT_OUT and family in FAMILIES and family not in LEFT_OUT[name]
        found["rows"][key] = {"guide": name, "eps": eps, "family": family, "seen": seen, **row}
        write_json(path, {
            "command": f"python experiments/leave_one_out.py IMAGES OUT {path.name}",
            "seed": SEED, "precision": PRECISION, "num_steps": NUM_STEPS, "families": FAMILIES,
            "images_per_family": NUM_PER_FAMILY, "left_out": LEFT_OUT, **found, **provenance(),
        })  # fmt: skip
        print(key, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
