"""What `--precision auto` measures and takes, on this processor and on those it can emulate.

    python benchmarks/precision.py

Milliseconds for one gradient of 32 images, as burnish measures them before a job. The variable
ONEDNN_MAX_CPU_ISA keeps the library from instructions that the processor has.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

GUIDES = ("fashion_mnist", "cifar10-all")
LIMITS = ("", "AVX512_CORE_AMX", "AVX512_CORE_BF16", "AVX512_CORE", "AVX2")
MEASURE = """
import sys, torch
from burnish.guide.load import load_guide
from burnish.refinement.speed import choose_precision
torch.set_num_threads(int(sys.argv[2]))
guide = load_guide(sys.argv[1])
print(choose_precision(guide, tuple(guide.card["image_shape"]), 32))
"""


def measure(guide, limit, threads):
    """Return what was taken, and the milliseconds of each precision if they were measured."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "BURNISH_CACHE": cache}
        if limit:
            environment["ONEDNN_MAX_CPU_ISA"] = limit
        command = [sys.executable, "-W", "ignore", "-c", MEASURE, guide, str(threads)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        kept = Path(cache) / "speed.json"
        found = next(iter(json.loads(kept.read_text()).values())) if kept.exists() else {}
    return done.stdout.strip(), {name: 1000 * seconds for name, seconds in found.items()}


def main():
    print("| guide | threads | instructions | float32 | bfloat16 | taken |")
    print("|---|---|---|---|---|---|")
    for guide in GUIDES:
        for threads in (1, 2):
            for limit in LIMITS:
                taken, times = measure(guide, limit, threads)
                cells = [f"{times[name]:.1f}" if times else "" for name in ("float32", "bfloat16")]
                print(
                    f"| {guide} | {threads} | {limit or 'all'} | {' | '.join(cells)} | {taken} |"
                )


if __name__ == "__main__":
    main()
