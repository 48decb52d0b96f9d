"""Images of shards: written while they are made, and read to be joined."""

from collections.abc import Iterable, Iterator

from burnish.jobs.job import Job
from burnish.jobs.plan import Plan, Tick
from burnish.samples import Samples
from burnish.storage.formats import open_samples

IMAGES = "images.npz"
# Images per batch when shards are joined.
READ_SIZE = 256


def joined(plan: Plan, job: Job) -> Iterator[Samples]:
    """Yield the images of all shards, in order."""
    for shard in plan.shards():
        yield from open_samples(job.folder / shard.name / IMAGES, READ_SIZE)


def ticked(batches: Iterable[Samples], tick: Tick) -> Iterator[Samples]:
    """Yield batches, and say how many images are done."""
    for batch in batches:
        yield batch
        tick(len(batch))
