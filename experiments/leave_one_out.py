"""What makes a guide help with images of a generator that it has not seen?

    python experiments/leave_one_out.py IMAGES OUT RESULTS train GUIDE
    python experiments/leave_one_out.py IMAGES OUT RESULTS score GUIDE FAMILY PART FEATURES ...
    python experiments/leave_one_out.py IMAGES OUT RESULTS choose GUIDE,GUIDE FAMILY PART

trains a guide on equal shares of several families of generated CIFAR-10 images, all but those left
out (``LEFT_OUT``); scores what a guide makes of test images of one family by feature extractors
(names with commas between them); or says which of several guides ``burnish refine`` would take for
them. GUIDE may be the path of any other guide, too. After FEATURES come settings of refinement, as
KEY=VALUE. PART is ``choose``, for choosing settings, or ``confirm``, for reporting.

IMAGES holds ``NAME-train.npz`` and ``NAME-choose.npz``, which ``burnish sample`` made of seeds
3000000-3002999 and 4000000-4001999, and ``NAME-confirm.npz``, of seeds 5000000-5001999, of

* ``ct``: the shipped generator ``cifar10`` in one step; ``ct2``, in two, for testing only;
* ``gan``, ``vae``, ``gaussian``: ``burnish train generator experiments/cifar10-NAME.yaml``, the
  VAE for 1,500 steps;
* ``diffusion``, ``cd``: ``burnish train consistency`` of a file that extends ``cifar10.yaml`` with
  750 steps of the teacher and 400 of distillation; the teacher in 6 steps, and what was distilled.

Images of ``sd`` (Stable Diffusion 1.4, as JPEG), and real ones, are read from ``../shared/data``;
``damage`` are real images with synthetic damage. One half of all other images for training, real
ones included, is encoded as JPEG, so that no guide learns to tell JPEG from PNG.
"""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from damage import damaged, encoded
from torch import Tensor

from burnish.ascent.spectrum import measure_spectrum, transport
from burnish.files import provenance, write_json
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.metrics.features import load_extractor
from burnish.metrics.moments import Array
from burnish.refinement.choice import auc_of, spread
from burnish.refinement.presets import settings_for
from burnish.refinement.refiner import Refiner
from burnish.samples import to_uint8
from burnish.schema import plain
from burnish.seeds import stream
from burnish.storage.datasets import Dataset, load_dataset
from burnish.studies.adapt_options import AdaptOptions, training_of
from burnish.studies.dose.scorer import Scorer, look
from burnish.training.recipes.joint import JointData, train_guide
from burnish.training.run import Stage

DATA = Path("../shared/data")
TRAIN, TEST = (str(DATA / f"cifar10/{split}-*.parquet") for split in ("train", "test"))
SD, REAL_JPEG = (str(DATA / f"cifake/{side}-*.parquet") for side in ("generated", "real"))
SEED, NUM_PER_FAMILY, NUM_HELD_OUT = 1, 3000, 1000
FAMILIES = ("ct", "cd", "diffusion", "gan", "vae", "gaussian", "sd", "damage")
# ct, cd and diffusion are of one architecture, so they are left out together.
LEFT_OUT = {
    "all": (), "without-sd": ("sd",), "without-consistency": ("ct", "cd", "diffusion"),
    "without-gan": ("gan",), "damage-only": FAMILIES[:-1],
    # Weak generators only, from weights that have seen no generator, and without the filter.
    "weak": ("sd", "damage"), "weak-without-gan": ("sd", "damage", "gan"),
    "weak-without-consistency": ("sd", "damage", "ct", "cd", "diffusion"),
    "weak-without-vae": ("sd", "damage", "vae"),
    "weak-without-gaussian": ("sd", "damage", "gaussian"),
}  # fmt: skip
SETTINGS = {"eps": 1.0, "num_steps": 5, "objective": "logit", "precondition": "spectrum",
            "stop_quantile": 1.0}  # fmt: skip

load = cache(load_dataset)


@cache
def images_of(folder: Path, family: str, part: str) -> Dataset:
    """Return images of a family for training (``train``), choosing (``choose``) or ``confirm``."""
    if family == "sd":
        rows = {"train": (0, 6000), "choose": (12_000, 14_000), "confirm": (14_000, 19_000)}
        return load(SD)[slice(*rows[part])]
    if family == "damage":
        real = load(TRAIN)[40_000:45_000]
        return Dataset(damaged(real.images_uint8, stream(SEED, "damage")), real.labels, "damaged")
    return load_dataset(str(folder / f"{family}-{part}.npz"))


def reference(family: str, part: str) -> Dataset:
    """Return real images, encoded as those of the family are, that no training has seen."""
    if family == "sd":
        rows = (10_000, 12_500) if part == "choose" else (15_000, 20_000)
        return load(REAL_JPEG)[slice(*rows)]
    return load(TRAIN)[45_000:47_500] if part == "choose" else load(TEST)[:2500]


def mixture(folder: Path, name: str) -> JointData:
    """Return equal shares of the families that are not left out, and real images."""
    families = [one for one in FAMILIES if one not in LEFT_OUT[name]]
    real = half_encoded(some(load(TRAIN)[:40_000], 10_000))
    if "sd" in families:  # whose encoder is not PIL's
        real = joined([real, load(REAL_JPEG)[:1000]], "CIFAR-10")
    spectrum = measure_spectrum(real.measured())
    parts = []
    for family in families:
        part = some(images_of(folder, family, "train"), NUM_PER_FAMILY)
        part = part if family == "sd" else half_encoded(part)
        parts.append(part if name.startswith("weak") else matched(part, spectrum))
    return held_out(some(real), some(joined(parts, f"{folder}: {', '.join(families)}")))


def damage_of_all() -> JointData:
    """Return 45,000 real images, and 40,000 of them with synthetic damage."""
    real = load(TRAIN)[:45_000]
    images = damaged(real.images_uint8[-40_000:], stream(SEED, "damage"))
    worse = Dataset(images, real.labels[-40_000:], "real images with synthetic damage")
    return held_out(half_encoded(some(real)), half_encoded(some(worse)))


def held_out(real: Dataset, generated: Dataset) -> JointData:
    """Return both sides, with the first images of each for validation."""
    unseen, seen = slice(NUM_HELD_OUT), slice(NUM_HELD_OUT, None)
    return JointData(real[seen], real[unseen], generated[seen], generated[unseen])


def some(data: Dataset, count: int | None = None) -> Dataset:
    """Return that many images in random order, or all."""
    order = torch.randperm(len(data), generator=stream(SEED, "leave-one-out"))
    return data[order[:count]]


def joined(parts: list[Dataset], source: str) -> Dataset:
    """Return one data set of several."""
    images = torch.cat([part.images_uint8 for part in parts])
    return Dataset(images, torch.cat([part.labels for part in parts]), source)


def half_encoded(data: Dataset) -> Dataset:
    """Return the images with every second one encoded as JPEG and decoded."""
    images = data.images_uint8.clone()
    images[::2] = encoded(images[::2])
    return Dataset(images, data.labels, data.source)


def matched(data: Dataset, real: Tensor) -> Dataset:
    """Return images that a filter has given the spectrum ``real``."""
    match = transport(measure_spectrum(data.measured()), real)
    images = torch.cat([to_uint8(match(part).clamp(0, 1)) for part in data.measured()])
    return Dataset(images, data.labels, data.source)


def train(folder: Path, out: Path, name: str) -> Path:
    """Train the guide of that name, unless it was trained; return its file."""
    data = damage_of_all() if name == "damage-of-all" else mixture(folder, name)
    fresh = name == "damage-of-all" or name.startswith("weak")
    start = "cifar10-robust" if fresh else "cifar10-all"
    num_steps = 1500 if name == "damage-of-all" else 400
    options = AdaptOptions(match_spectrum=False, seed=SEED)
    facts = {
        "data": data.real.source, "data_sha256": data.real.sha256(),
        "generated": data.generated.source, "generated_sha256": data.generated.sha256(),
    }  # fmt: skip
    return train_guide(
        training_of(options, start, 1.0, num_steps, "bfloat16"), data, Stage(out / name),
        name=f"cifar10-{name}", facts=facts,
    )  # fmt: skip


def refined(path: str, data: Dataset, chosen: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Return refined images, uint8, and how they were refined.

    ``match_spectrum`` filters by the spectrum of these very images.
    """
    guide = load_guide(path)
    spectra = dict(guide.spectra)
    spectra.setdefault("real", measure_spectrum(load(TRAIN)[:10_000].measured()))
    spectra["generated"] = measure_spectrum(data.measured())
    guide = Guide(guide.network, guide.card, guide.energy_name, spectra).eval()
    settings = settings_for(guide, "joint", **{**SETTINGS, **chosen})
    batches = [data.samples(slice(start, start + 100)) for start in range(0, len(data), 100)]
    parts = list(Refiner(guide, settings, precision="bfloat16")(batches, data.labels))
    keys = ("realness_before", "realness_after", "l2_moved", "num_steps")
    means = {key: torch.cat([getattr(part.ledger, key) for part in parts]).float().mean().item()
             for key in keys}  # fmt: skip
    images = torch.cat([to_uint8(part.samples.images) for part in parts])
    return images, {"settings": plain(settings), "means": means, "sha256": guide.card["sha256"]}


def features(kept: Path, images: Tensor, name: str) -> Array:
    """Return the features of images; they are kept in a file."""
    if not kept.exists():
        extractor = load_extractor(name)
        np.save(kept, look(images.split(100), [extractor]).features[extractor.name])
    return np.load(kept)


def score(
    folder: Path, out: Path, guide: str, family: str, part: str, names: list[str],
    chosen: dict[str, Any], count: int,
) -> dict[str, Any]:  # fmt: skip
    """Return the scores of a family as it is, and refined by a guide, with their changes."""
    data, real = images_of(folder, family, part)[:count], reference(family, part)
    images, facts = refined(guide, data, chosen)
    row = {"num_images": len(data), "num_reference_images": len(real), **facts}
    for name in names:
        extractor, tag = load_extractor(name), f"{part}-{name.replace('/', '-')}.npy"
        kind = "jpeg" if family == "sd" else "png"
        scorer = Scorer(features(out / f"real-{kind}-{tag}", real.images_uint8, name))
        before = scorer(features(out / f"{family}-{count}-{tag}", data.images_uint8, name))
        after = scorer(look(images.split(100), [extractor]).features[extractor.name])
        row[name] = {"before": before.values, "after": after.since(before)}
    return row


def choose(folder: Path, out: Path, names: str, family: str, part: str) -> dict[str, float]:
    """Return how well each guide tells images of a family from real ones, as AUC."""
    data = images_of(folder, family, part)
    some = data.samples(torch.tensor(spread(len(data))))
    trained = {name: out / name / "model.safetensors" for name in names.split(",")}
    return {
        name: auc_of(load_guide(str(path) if path.exists() else name), some, some.labels)
        for name, path in trained.items()
    }


def main(images: str, out: str, results: str, what: str, name: str, *rest: str) -> None:
    """Train a guide, or add a row to the results."""
    folder, kept, path = Path(images), Path(out), Path(results)
    if what == "train":
        print(train(folder, kept, name))
        return
    if what == "choose":
        found = json.loads(path.read_text()) if path.exists() else {"rows": {}}
        aucs = choose(folder, kept, name, *rest)
        found.setdefault("aucs", {})[" | ".join(rest)] = aucs
        write_json(path, found)
        print(*rest, aucs)
        return
    family, part, names, *given = rest
    chosen = {key: json.loads(value) for key, value in (one.split("=") for one in given)}
    count = chosen.pop("count", 1000)
    trained = kept / name / "model.safetensors"
    guide = str(trained if trained.exists() else name)
    key = " | ".join([name, family, part, str(count), *given])
    found = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    rows = found["rows"].setdefault(key, {})
    missing = [one for one in names.split(",") if one not in rows]
    if missing:
        new = score(folder, kept, guide, family, part, missing, chosen, count)
        found = json.loads(path.read_text()) if path.exists() else {"rows": {}}
        found["rows"].setdefault(key, {}).update(new)
        script = "python experiments/leave_one_out.py IMAGES OUT RESULTS"
        write_json(path, {"command": script, "left_out": LEFT_OUT, **found, **provenance()})
    row = json.loads(path.read_text())["rows"][key]
    for one in names.split(","):
        for side in ("before", "after"):
            values = {k: round(v, 4) for k, v in row[one][side].items() if isinstance(v, float)}
            print(key, one, side, values, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
