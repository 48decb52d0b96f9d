"""What the tests of the gallery share: a small refinement by a guide that ships."""

import torch

from burnish.jobs.refine import plan_refine
from burnish.samples import Samples
from burnish.storage.formats import open_samples, write_samples

COUNT = 60  # more than a sprite holds
IDS = torch.arange(COUNT).flip(0) + 100


def write(path, count=COUNT, shape=(1, 28, 28), seed=0, ids=None, labels=True, names=None):
    """Write random images, smooth enough to be told apart by eye."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, shape[0], 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear")
    classes = torch.arange(count) % 3 if labels else None
    ids = torch.arange(count) if ids is None else ids
    return write_samples(path, [Samples(images, classes, ids)], count, names)


def write_refined(folder, count=COUNT):
    """Refine some images in a folder; return the path of the refined ones."""
    source = write(folder / "source.npz", count, ids=IDS[:count])
    settings = {"eps": 2.0, "num_steps": 3, "stop_quantile": 0.05}
    options = {"precision": "float32", "compile": "never", "batch_size": 8, "device": "cpu"}
    plan_refine(source, "fashion_mnist", folder / "refined.npz", **settings, **options).run()
    return folder / "refined.npz"


def write_folder(path, names, shift=0.0, shape=(3, 8, 12)):
    """Write a folder of images with these names; images of one name have one color, plus shift."""
    shades = torch.linspace(0.1, 0.8, len(names)) + shift
    images = shades.view(-1, 1, 1, 1).expand(-1, *shape).contiguous()
    samples = Samples(images, None, torch.arange(len(names)))
    write_samples(path, [samples], len(names), names)
    assert len(open_samples(path)) == len(names)
    return path
