"""Jobs on Ray: the same bytes whatever dies, and batches of Ray Data."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

import burnish
from burnish.errors import InputError
from burnish.jobs.evaluate import plan_evaluate
from burnish.jobs.job import Job, cut
from burnish.jobs.options import JobOptions
from burnish.jobs.plan import job_path
from burnish.jobs.refine import plan_refine
from burnish.ray_data import Refine
from burnish.samples import Samples, from_uint8, to_uint8
from burnish.storage.formats import write_samples

# Below ``uv run``, Ray would pack up the project and install it anew for every worker.
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"

OPTIONS = {
    "guide": "fashion_mnist", "num_steps": 2, "precision": "float32", "compile": "never",
    "batch_size": 8, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    """A Ray cluster of this machine, with room for two actors."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("burnish.jobs.ray_cluster.MAX_CPUS", 1)
        patch.setenv("BURNISH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(
                "local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False,
                logging_level="ERROR", object_store_memory=100 * 2**20,
            )  # fmt: skip
            ray.get(ray.remote(lambda: None).remote(), timeout=90)
        except Exception as error:  # no sockets, no shared memory, no room for a worker, ...
            pytest.skip(f"Ray does not start here: {error}")
        yield ray
        ray.shutdown()


def source(path, count):
    images, labels = torch.rand(count, 1, 28, 28), torch.arange(count) % 10
    return write_samples(path, [Samples(images, labels, torch.arange(count))], count)


def plan_of(samples, out, **job):
    return plan_refine(samples, out=out, job=JobOptions(shard_size=8, **job), **OPTIONS)


def wait_for(condition, seconds=120):
    latest = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < latest
        time.sleep(0.05)


def actors(parent=None):
    """Processes below one in which an actor lives."""
    for process in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            # One that has ended and was not waited for has no command line.
            if "".join(process.cmdline()[:1]).startswith("ray::Worker"):
                yield process


def test_a_killed_actor_changes_no_byte(ray, tmp_path, monkeypatch):
    from burnish.jobs import engines

    samples = source(tmp_path / "source.npz", 44)
    plan_of(samples, tmp_path / "here.npz").run()
    killed, work = [], engines._engine(plan_of(samples, tmp_path / "x.npz", engine="ray"))

    def engine(plan, job, shards, tick):
        def kill(count):
            tick(count)
            if count and not killed:
                killed.append(next(actors()))
                os.kill(killed[0].pid, signal.SIGKILL)

        work(plan, job, shards, kill)

    monkeypatch.setattr(engines, "_engine", lambda _: engine)
    plan_of(samples, tmp_path / "there.npz", engine="ray").run()
    assert killed
    for suffix in ("", ".ledger.parquet"):
        here, there = (tmp_path / f"{name}.npz{suffix}" for name in ("here", "there"))
        assert here.read_bytes() == there.read_bytes()
    assert not job_path(tmp_path / "there.npz").exists()


def test_a_bad_image_is_reported_and_the_other_shards_are_made(ray, tmp_path):
    folder = source(tmp_path / "folder", 24)
    bad = next(folder.rglob("000011.png"))
    bad.write_bytes(bad.read_bytes()[:60])
    plan = plan_evaluate(
        folder, "fashion_mnist/plain", out=tmp_path / "out.json", batch_size=8, device="cpu",
        job=JobOptions(engine="ray", workers=1, shard_size=8),
    )  # fmt: skip
    with pytest.raises(
        InputError, match=f"^1 of 3 shards failed; 00000008-00000015: .*{bad.name}"
    ):
        plan.run()
    made = {path.name for path in job_path(plan.out).iterdir()}
    assert {"00000000-00000007", "00000016-00000023"} <= made and not plan.out.exists()


@pytest.mark.slow
def test_lost_nodes_and_a_killed_driver_change_no_byte(tmp_path, monkeypatch):
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    samples = source(tmp_path / "source.npz", 400)
    plan_of(samples, tmp_path / "here.npz").run()
    out, job = tmp_path / "there.npz", job_path(tmp_path / "there.npz")
    options = [(f"--{name.replace('_', '-')}", str(value)) for name, value in OPTIONS.items()]
    command = [
        *(sys.executable, "-m", "burnish", "refine", str(samples), "--out", str(out)),
        *(word for option in options for word in option),
        *("--shard-size", "8", "--engine", "ray"),
    ]

    def num_made():
        return len(list(job.glob("*/record.json")))

    cluster = cluster_utils.Cluster()
    try:
        try:
            cluster.add_node(num_cpus=0, include_dashboard=False)
            nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        except Exception as error:  # it gives a node 30 seconds
            pytest.skip(f"Ray does not start here: {error}")
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        driver = subprocess.Popen(command)
        wait_for(lambda: num_made() > 3)
        cluster.remove_node(nodes[0], allow_graceful=False)
        made = num_made()
        wait_for(lambda: num_made() > made + 3)
        driver.kill()
        driver.wait()
        assert not out.exists() and num_made() < 45
        driver = subprocess.Popen(command)
        joined = cluster.add_node(num_cpus=1)
        raylet = joined.all_processes["raylet"][0].process.pid
        wait_for(lambda: any(actors(raylet)))
        assert driver.wait(300) == 0
    finally:
        cluster.shutdown()
    for suffix in ("", ".ledger.parquet"):
        here, there = (tmp_path / f"{name}.npz{suffix}" for name in ("here", "there"))
        assert here.read_bytes() == there.read_bytes()
    assert not job.exists()


def worker(faults):
    """An actor that needs no images, and does to a shard what ``faults`` says."""
    from pathlib import Path

    class Worker:
        def open(self, folder, plan):
            import ray

            self.folder = Path(folder)
            return ray.get_runtime_context().get_node_id(), faults.get("open", "")

        def make(self, number):
            fault = faults.get(number)
            if fault == "dies":
                os._exit(1)
            if fault == "raises":
                raise RuntimeError("no memory\nand more")
            if fault == "busy" and not (self.folder / "busy").exists():
                (self.folder / "busy").touch()
                return "busy", ""
            if isinstance(fault, list):
                return "failed", fault[0]
            name = self.folder / f"{number:08d}-{number:08d}"
            name.mkdir()
            (name / "record.json").touch()
            return "made", ""

    return Worker


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (
            {0: "busy", 1: "raises", 2: "dies", 3: ["bad"]},
            "3 of 4 shards failed; 00000001-00000001: 3 workers broke: RuntimeError: no memory$",
        ),
        pytest.param(
            dict.fromkeys(range(4), "dies"), "Ray workers keep breaking", marks=pytest.mark.slow
        ),
        ({"open": "node x does not see y"}, "^node x does not see y$"),
    ],
    ids=["some", "all", "unseen"],
)
def test_what_actors_do_wrong(faults, message, ray, tmp_path, monkeypatch):
    from burnish.jobs import ray_engine

    monkeypatch.setattr(ray_engine, "Worker", worker(faults))
    shards, ticks = cut(4, 1), []
    plan: Any = SimpleNamespace(device="cpu", job=JobOptions(engine="ray", workers=1))
    with Job(tmp_path / "out.job", {}) as job:
        with pytest.raises(InputError, match=message):
            ray_engine.work_on_ray(plan, job, shards, ticks.append)
        made = [shard.number for shard in shards if job.is_done(shard)]
    some = 0 in faults and faults[0] == "busy"
    assert made == ([0] if some else []) and sum(ticks) == (4 if some else 0)
    wait_for(lambda: not any(actors()))


def test_a_node_that_lacks_the_folder_says_so(ray, tmp_path):
    from burnish.jobs.ray_engine import Worker

    for folder, plan in ((tmp_path / "x.job", {}), (tmp_path, {"kind": "other"})):
        (tmp_path / "plan.json").write_text("{}")
        _, wrong = Worker().open(str(folder), plan)
        assert "does not see" in wrong and "that all nodes share" in wrong


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'burnish\[ray\]'"):
        JobOptions(engine="ray")


def test_no_more_actors_than_find_room(monkeypatch):
    from burnish.jobs.ray_cluster import needs, room

    monkeypatch.setattr("burnish.jobs.ray_cluster.MAX_CPUS", 8)

    nodes = {"head": {"CPU": 0.0}, "a": {"CPU": 16.0, "GPU": 2.0}, "b": {"CPU": 6.0, "GPU": 0.5}}
    assert needs(nodes, "cpu") == {"CPU": 6} and room(nodes, {"CPU": 6}) == 3
    assert needs(nodes, "cuda") == {"CPU": 1, "GPU": 1} and room(nodes, {"CPU": 1, "GPU": 1}) == 2
    assert needs({"big": {"CPU": 64.0}}, "cpu") == {"CPU": 8} and needs({}, "cpu") == {"CPU": 1}


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere", "x:y"])
def test_a_cluster_that_is_not_there_is_named_at_once(address):
    from burnish.jobs.ray_cluster import reach

    with pytest.raises(InputError, match=rf"no Ray cluster answers at {address} \(RAY_ADDRESS\)"):
        reach(address)


def columns(count, **more):
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
    return {"image": images, "label": np.arange(count) % 10, "id": np.arange(count), **more}


def refined(batch, **options):
    pixels = from_uint8(torch.from_numpy(batch["image"]).permute(0, 3, 1, 2))
    labels, ids = (torch.from_numpy(batch[name]) for name in ("label", "id"))
    out = burnish.refine(pixels, guide="fashion_mnist", labels=labels, ids=ids, **options)
    return to_uint8(out).permute(0, 2, 3, 1).numpy()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # noise looks like no image that it knows
def test_a_dataset_is_refined_as_tensors_are(ray):
    data = pytest.importorskip("ray.data")
    data.DataContext.get_current().enable_progress_bars = False
    batch = columns(7, name=np.array(list("abcdefg")))
    items = [{name: batch[name][i] for name in batch} for i in range(7)]
    options = {"preset": "golan24-sgld", "noise_std": 0.01, "num_steps": 2, "batch_size": 8}
    found = (
        data.from_items(items)
        .map_batches(
            Refine, fn_constructor_kwargs={"guide": "fashion_mnist", **options},
            batch_size=3, concurrency=1,
        )
        .take_all()
    )  # fmt: skip
    found.sort(key=lambda row: row["id"])
    assert "".join(row["name"] for row in found) == "abcdefg"
    assert np.array_equal(np.stack([row["image"] for row in found]), refined(batch, **options))
    assert all(row["realness_after"] > row["realness_before"] for row in found)


def test_batches_keep_their_form():
    batch, refine = columns(3, other=np.ones(3)), Refine("fashion_mnist", num_steps=2)
    whole = refine(batch)
    assert set(whole) == {*batch, "realness_before", "realness_after"}
    assert whole["image"].dtype == np.uint8 and whole["realness_after"].dtype == np.float32
    gray = refine({**batch, "image": batch["image"][..., 0]})
    assert gray["image"].shape == (3, 28, 28)
    assert np.array_equal(gray["image"], whole["image"][..., 0])
    empty = refine({name: values[:0] for name, values in batch.items()})
    assert empty["image"].shape == (0, 28, 28, 1) and empty["realness_after"].shape == (0,)


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        ({"labels": "quotas"}, {}, "quotas"),
        ({"epz": 1}, {}, "did you mean 'eps'"),
        ({"image": "img"}, {}, 'no column "img" among id, image, label'),
        ({}, {"image": np.zeros((3, 28, 28, 1))}, r"must be uint8 .* not float64"),
        ({}, {"image": np.zeros((3, 28, 28, 3), np.uint8)}, r"not \[3, 28, 28\]"),
        ({}, {"label": np.array(["a", "b", "c"])}, 'labels="pseudo"'),
        ({}, {"label": np.array([0, 1, 10])}, "label 10"),
        ({"preset": "golan24-sgld"}, {"id": np.array(["a", "b", "c"])}, 'column "id"'),
    ],
)
def test_faults_of_batches(options, changes, message):
    with pytest.raises(InputError, match=message):
        Refine("fashion_mnist", **options)({**columns(3), **changes})
