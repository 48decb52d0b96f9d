"""One stream of random numbers per (seed, purpose), the same on every device.

Each image draws from streams of its own, one per purpose (``"noise"``, ``"label"``, ``"sgld"``,
...), so that it depends on no other image and the noise of the refiner never repeats that of the
generator. Numbers are drawn on the CPU, then moved.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from burnish.errors import InputError


def stream(seed: int, purpose: str) -> torch.Generator:
    """Return the random generator of a (seed, purpose), on the CPU; the same for the same pair."""
    digest = hashlib.sha256(f"{purpose}:{int(seed)}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


class Streams:
    """The streams of a batch of images, one per id ``[B]``, for one purpose."""

    def __init__(self, ids: Iterable[int], purpose: str) -> None:
        self.generators = [stream(int(i), purpose) for i in ids]

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Draw standard normal numbers ``[B, *shape]``, float32 on the CPU."""
        return torch.stack([torch.randn(*shape, generator=g) for g in self.generators])

    def integers(self, high: int) -> Tensor:
        """Draw one integer in ``0 .. high - 1`` per image, int64 ``[B]`` on the CPU."""
        return torch.cat([torch.randint(high, (1,), generator=g) for g in self.generators])


@contextmanager
def global_numbers(seed: int) -> Iterator[Callable[[], bool]]:
    """Set torch's global random numbers for a while; yield whether any were drawn since."""
    devices = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    # Left to itself, fork_rng would begin to use every GPU of the machine.
    with torch.random.fork_rng(devices if torch.cuda.is_available() else None):
        torch.manual_seed(seed)

        def states() -> list[torch.Tensor]:
            return [torch.get_rng_state(), *(torch.cuda.get_rng_state(n) for n in devices)]

        before = states()
        yield lambda: not all(map(torch.equal, before, states()))


def parse_seeds(text: str) -> list[int]:
    """Read seeds such as ``"0-999"`` or ``"1,2,5-10"``, both ends included, in the given order."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise InputError(f"cannot read the seeds {text!r}; write e.g. 0-999 or 1,2,5-10")
        first, last = int(match[1]), int(match[2] or match[1])
        if last >= 2**63 or last - first >= 10**8:  # int64, and what memory can list
            raise InputError(f"the seeds {part.strip()!r} are too large or too many")
        if last < first:
            raise InputError(f"the seed range {part.strip()!r} runs backwards")
        seeds.extend(range(first, last + 1))
    if len(set(seeds)) != len(seeds):
        raise InputError(f"a seed occurs twice in {text!r}")
    return seeds
