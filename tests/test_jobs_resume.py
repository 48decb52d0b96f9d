"""Jobs that are killed, shared or broken: the same command ends in the same bytes.

A kill is a state of the disk: the tests copy the folder before every operation that changes names,
and give the command again in each copy.
"""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from burnish.errors import InputError
from burnish.files import ledger_path
from burnish.generators.base import Generator
from burnish.jobs import engines, job, refine_plan
from burnish.jobs.evaluate import plan_evaluate
from burnish.jobs.options import JobOptions
from burnish.jobs.refine import plan_refine
from burnish.jobs.sample import plan_sample
from burnish.jobs.shares import Share, find_share
from burnish.metrics.features import NetworkExtractor
from burnish.samples import Samples
from burnish.storage.formats import open_samples, write_samples

SHAPE, COUNT = (1, 8, 8), 11
SAFE = {
    "device": "cpu", "batch_size": 2, "precision": "float32", "compile": "never",
    "eps": 1.0, "num_steps": 2,
}  # fmt: skip


def write(path, seed=1):
    images = torch.rand(COUNT, *SHAPE, generator=torch.Generator().manual_seed(seed))
    return write_samples(path, [Samples(images, torch.arange(COUNT) % 4, 5 + torch.arange(COUNT))],
                         COUNT)  # fmt: skip


class Noise(Generator):
    """Noise of each seed."""

    num_classes, image_shape = 3, SHAPE

    def draw(self, noise, count, labels):
        return noise.normal(SHAPE).sigmoid()


class Flat(nn.Module):
    """Features that are some of the pixels."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward_features(self, images):
        return images.flatten(1)[:, :4] * self.weight

    forward_head = forward_features


def here(**changes):
    return JobOptions(**{"shard_size": 4, **changes})


@pytest.fixture
def plan_of(guide, monkeypatch):
    """Make the plan of a command in a folder of ``source.npz``, ``real.npz`` and ``more.npz``."""

    def refine(folder, out="out.npz", options=None, labels="given", **settings):
        monkeypatch.chdir(folder)  # what the cards say of paths is the same everywhere
        return plan_refine(Path("source.npz"), guide, Path(out), labels=labels,
                           job=options or here(), **{**SAFE, **settings})  # fmt: skip

    def sample(folder, options=None):
        monkeypatch.chdir(folder)
        torch.manual_seed(0)  # its weights are hashed
        generator = Noise(nn.Linear(1, 1), 1, {})
        return plan_sample(generator, "3-13", Path("out.parquet"), batch_size=2, device="cpu",
                           job=options or here())  # fmt: skip

    def evaluate(folder, options=None):
        monkeypatch.chdir(folder)
        features = NetworkExtractor(Flat(), "flat", "0")
        return plan_evaluate(Path("source.npz"), "real.npz", features,
                             out=Path("out.json"), save_reference=Path("kept.npz"),
                             validation="more.npz",
                             batch_size=4, device="cpu", job=options or here())  # fmt: skip

    return {
        "refine": refine,
        "refine a folder by quotas": lambda at: refine(at, "out", labels="quotas"),
        "sample": sample,
        "evaluate": evaluate,
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("refine_plan", "sample", "evaluate"):  # it asks git, for each of many cards
        monkeypatch.setattr(f"burnish.jobs.{name}.provenance", dict)
    place = tmp_path / "place"
    place.mkdir()
    write(place / "source.npz")
    write(place / "real.npz", 2)
    write(place / "more.npz", 3)
    return place


def everything(folder):
    """Return all bytes; of cards, all but the seconds."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found[str(path.relative_to(folder))] = path.read_bytes()
        if path.suffix == ".json" and path.parent == folder:
            card = json.loads(path.read_text())
            found[path.name] = card | {"seconds": None}
    return found


def states_of(folder, action, monkeypatch):
    """Do something, and return copies of the folder from before each change of names in it."""
    copies, busy = [], False

    def watched(change):
        def call(*args, **kwargs):
            nonlocal busy
            if not busy and folder.exists():
                busy = True
                copies.append(folder.with_name(f"copy{len(copies)}"))
                shutil.copytree(folder, copies[-1])
                busy = False
            return change(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("rename", "replace", "link", "mkdir", "rmdir", "unlink"):
            patch.setattr(os, name, watched(getattr(os, name)))
        action()
    return copies


def some(copies):
    """Return few of the states of making and of deleting, which are alike, and all between."""
    kept = [copy for copy in copies if not any(copy.glob(".*.job.*"))]
    return [*dict.fromkeys(copies[::7] + kept[-22:])]


KINDS = ["refine", "refine a folder by quotas", "sample", "evaluate"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_killed_anywhere_ends_in_the_same_bytes_and_leaves_nothing(
    kind, folder, plan_of, monkeypatch
):
    copies = states_of(folder, lambda: plan_of[kind](folder).run(), monkeypatch)
    wanted = everything(folder)
    assert len(copies) > 20 and len(wanted) > 2
    assert not [name for name in wanted if name.startswith(".") or ".job" in name]
    for copy in some(copies):
        assert plan_of[kind](copy).run()
        assert everything(copy) == wanted


def test_replacing_an_output_survives_a_kill_at_any_moment(folder, plan_of, monkeypatch):
    again = here(force=True)
    plan_of["refine"](folder, "out").run()
    run = plan_of["refine"](folder, "out", again, eps=0.5).run
    copies = states_of(folder, run, monkeypatch)
    wanted = everything(folder)
    for copy in some(copies):
        plan_of["refine"](copy, "out", again, eps=0.5).run()
        assert everything(copy) == wanted


def test_shards_change_no_byte_and_lose_no_image(folder, plan_of):
    whole = plan_of["refine"](folder, "whole.npz", here(shard_size=100)).run()
    card = plan_of["refine"](folder).run()
    names = ("whole.npz", "out.npz")
    images = [(folder / name).read_bytes() for name in names]
    ledgers = [ledger_path(folder / name).read_bytes() for name in names]
    assert images[0] == images[1] and ledgers[0] == ledgers[1]
    assert open_samples(folder / "out.npz").ids.tolist() == list(range(5, 5 + COUNT))
    assert pq.read_table(ledger_path(folder / "out.npz"))["id"].to_pylist() == [*range(5, 16)]
    same = ("mean_num_steps", "share_real_enough", "num_worse", "num_kept", "num_images")
    assert [card[key] for key in same] == [whole[key] for key in same]


@pytest.mark.parametrize("order", [["0/1"], ["1/2", "0/2"], ["3/4", "1/4", "0/4", "2/4"]], ids=str)
def test_shares_may_be_done_in_any_order_and_the_last_writes_the_output(order, folder, plan_of):
    cards = [plan_of["refine"](folder, options=here(share=share)).run() for share in order]
    assert cards[-1] and not any(cards[:-1])
    plan_of["refine"](folder, "whole.npz", here(shard_size=100)).run()
    assert (folder / "out.npz").read_bytes() == (folder / "whole.npz").read_bytes()
    assert not (folder / "out.npz.job").exists()


def after_shards(count, monkeypatch, error):
    """Raise an error when so many shards are finished."""
    rename, left = job._rename, [count]

    def then_fail(*paths):
        rename(*paths)
        left[0] -= 1
        if not left[0]:
            raise error

    monkeypatch.setattr(job, "_rename", then_fail)


def stop_after(count, folder, plan_of, monkeypatch, error, **changes):
    with monkeypatch.context() as patch, pytest.raises(type(error)) as caught:
        after_shards(count, patch, error)
        plan_of["refine"](folder, **changes).run()
    return "; ".join(getattr(caught.value, "__notes__", []))


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "no space left")], ids=str
)
def test_a_stopped_job_says_how_to_go_on_and_makes_no_shard_twice(
    error, folder, plan_of, monkeypatch
):
    note = stop_after(2, folder, plan_of, monkeypatch, error)
    assert note == "2 of 3 shards are kept in out.npz.job; give the same command to go on"
    made = []
    writing = job.Job.writing
    monkeypatch.setattr(
        job.Job, "writing", lambda self, shard: (made.append(shard.start), writing(self, shard))[1]
    )
    assert plan_of["refine"](folder).run()
    assert made == [8]


def test_a_job_stopped_before_its_first_shard_leaves_nothing(folder, plan_of, monkeypatch):
    before = everything(folder)
    monkeypatch.setattr(refine_plan, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        plan_of["refine"](folder).run()
    assert everything(folder) == before


OTHERS = {
    "settings.eps": {"eps": 0.5},
    "batch_size": {"batch_size": 3},
    "shard_size": {"options": here(shard_size=6)},
    "labels": {"labels": "pseudo"},
}


@pytest.mark.parametrize("field", [*OTHERS, "input_sha256"])
def test_another_command_is_refused_with_the_field_that_differs(
    field, folder, plan_of, monkeypatch
):
    stop_after(1, folder, plan_of, monkeypatch, KeyboardInterrupt())
    if field == "input_sha256":
        write(folder / "source.npz", 3)
    with pytest.raises(InputError, match=rf"another job, whose {field} is .* --restart"):
        plan_of["refine"](folder, **OTHERS.get(field, {}))  # found in planning
    assert (folder / "out.npz.job/00000000-00000003").exists()


def test_restart_forgets_all_of_the_other_job(folder, plan_of, monkeypatch):
    stop_after(1, folder, plan_of, monkeypatch, KeyboardInterrupt(), labels="balanced")
    (folder / "out.npz.job/plan.json").write_text('{"cut')  # whatever its state
    with pytest.raises(InputError, match=r"plan\.json.*--restart begins anew"):
        plan_of["refine"](folder, labels="quotas")
    plan_of["refine"](folder, options=here(restart=True), labels="quotas").run()
    plan_of["refine"](folder, "other.npz", labels="quotas").run()
    assert (folder / "out.npz").read_bytes() == (folder / "other.npz").read_bytes()


def test_a_finished_job_is_not_done_again_and_another_needs_force(folder, plan_of, monkeypatch):
    first = plan_of["refine"](folder, "out").run()
    again = plan_of["refine"](folder, "out")
    monkeypatch.setattr(engines, "run", lambda plan: pytest.fail("it ran again"))
    assert again.run() == first
    monkeypatch.undo()
    with pytest.raises(InputError, match="--force replaces it"):
        plan_of["refine"](folder, "out", eps=0.5)
    changed = plan_of["refine"](folder, "out", here(force=True), eps=0.5).run()
    assert changed["settings"]["eps"] == 0.5


@pytest.mark.parametrize("what", ["out.npz", "out.npz.ledger.parquet"])
@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b""), lambda p: p.unlink()])
def test_an_output_that_has_changed_is_not_taken_for_done(what, damage, folder, plan_of):
    plan_of["refine"](folder).run()
    whole = (folder / what).read_bytes()
    damage(folder / what)
    if what == "out.npz" and not (folder / what).exists():
        (folder / "out.npz.card.json").unlink()
        (folder / "out.npz.ledger.parquet").unlink()
        plan_of["refine"](folder).run()
    else:
        with pytest.raises(InputError, match=r"out\.npz exists; --force replaces it"):
            plan_of["refine"](folder)
        plan_of["refine"](folder, options=here(force=True)).run()
    assert (folder / what).read_bytes() == whole


@pytest.mark.parametrize("name", ["out.npz.ledger.parquet", "out.npz.card.json"])
def test_a_ledger_or_card_of_something_else_is_not_replaced_unasked(name, folder, plan_of):
    (folder / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name} exists; --force replaces it"):
        plan_of["refine"](folder)
    assert (folder / name).read_text() == "mine"


def test_a_folder_of_something_else_is_not_taken_for_a_job(folder, plan_of):
    (folder / "out.npz.job").mkdir()
    (folder / "out.npz.job/thesis.txt").touch()
    with pytest.raises(InputError, match="the folder of something else"):
        plan_of["refine"](folder).run()
    assert (folder / "out.npz.job/thesis.txt").exists()


def test_a_name_that_is_no_text_is_refused_before_anything_is_written(folder, guide):
    source = folder / os.fsdecode(b"x\xff.npz")
    write(source)
    before = sorted(folder.iterdir())
    with pytest.raises(InputError, match=r"input '.*\\udcff\.npz' is no text"):
        plan_refine(source, guide, folder / "out.npz", job=here(), **SAFE)
    assert sorted(folder.iterdir()) == before


def test_force_replaces_no_folder_that_burnish_has_not_made(folder, plan_of):
    (folder / "out").mkdir()
    (folder / "out/thesis.txt").touch()
    with pytest.raises(InputError, match="not empty"):
        plan_of["refine"](folder, "out", here(force=True))


def test_a_bad_image_costs_its_own_shard_alone_until_it_is_mended(folder, guide):
    images = folder / "images"
    write(images)
    bad = images / (open_samples(images).names or [])[5]
    whole = bad.read_bytes()

    def plan():
        return plan_refine(images, guide, folder / "out.npz", job=here(), **SAFE)

    wanted = plan_refine(images, guide, folder / "wanted.npz", job=here(), **SAFE)
    wanted.run()
    begun = plan()
    bad.write_bytes(whole[:60])
    with pytest.raises(
        InputError, match=rf"1 of 3 shards failed; 00000004-00000007: .*{bad.name}"
    ):
        begun.run()
    done = {path.name for path in (folder / "out.npz.job").glob("0*")}
    assert done == {"00000000-00000003", "00000008-00000010"}
    bad.write_bytes(whole)
    plan().run()
    assert (folder / "out.npz").read_bytes() == (folder / "wanted.npz").read_bytes()


def truncate(path):
    path.write_bytes(path.read_bytes()[:20])


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


DAMAGES = [
    (truncate, "images.npz"), (zero, "ledger.parquet"), (Path.unlink, "ledger.parquet"),
    (zero, "record.json"), (Path.unlink, "record.json"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "name"), DAMAGES)
def test_a_shard_that_a_loss_of_power_has_damaged_is_made_again(
    damage, name, folder, plan_of, monkeypatch
):
    stop_after(2, folder, plan_of, monkeypatch, KeyboardInterrupt())
    damage(folder / "out.npz.job/00000000-00000003" / name)
    (folder / "out.npz.job/notes.txt").write_text("of somebody")
    (folder / "out.npz.job/strange").mkdir()
    plan_of["refine"](folder).run()
    plan_of["refine"](folder, "other.npz").run()
    assert (folder / "out.npz").read_bytes() == (folder / "other.npz").read_bytes()
    assert not (folder / "out.npz.job").exists()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_of_a_job_is_left_alone(kind, folder, plan_of):
    place = folder / "out.npz.job"
    (folder / "elsewhere").mkdir()
    if kind == "file":
        place.touch()
    else:
        place.symlink_to(folder / "elsewhere")
    before = everything(folder)
    with pytest.raises(InputError, match=f"out.npz.job is a {kind}, and no folder of a job"):
        plan_of["refine"](folder).run()
    assert everything(folder) == before


TASKS = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "5"}
POOL = {"SKYPILOT_JOB_RANK": "1", "SKYPILOT_NUM_JOBS": "3"}
RANK = {"RANK": "1", "WORLD_SIZE": "2"}
SHARES = [
    ("", {}, Share(0, 1)),
    ("2/5", RANK, Share(2, 5)),
    ("", RANK, Share(1, 2)),
    ("", TASKS | POOL, Share(0, 1)),
    ("auto", TASKS, Share(2, 4)),
    ("auto", TASKS | RANK, Share(2, 4)),
    ("auto", {key: TASKS[key] for key in list(TASKS)[:2]} | {"SLURM_ARRAY_TASK_ID": "3"},
     Share(3, 4)),
    ("auto", TASKS | {"SLURM_ARRAY_TASK_ID": "13", "SLURM_ARRAY_TASK_STEP": "4"}, Share(2, 4)),
    ("auto", POOL, Share(1, 3)),
    ("auto", RANK, Share(1, 2)),
    ("auto", {}, "the environment names no share"),
    ("auto", TASKS | {"SLURM_ARRAY_TASK_ID": "9"}, "says 4/4"),
    ("auto", TASKS | {"SLURM_ARRAY_TASK_ID": "4"}, "says -1/4"),
    ("", {"RANK": "x", "WORLD_SIZE": "2"}, "says x/2"),
    ("\uff11/3", {}, "I/N"),  # a wide digit
    ("2/2", {}, "I from 0 to N - 1"),
    ("1", {}, "I/N"), ("-1/2", {}, "I/N"), ("1/0", {}, "I/N"), ("a/b", {}, "I/N"),
]  # fmt: skip


@pytest.mark.parametrize(("share", "environment", "found"), SHARES, ids=str)
def test_shares_are_found(share, environment, found, monkeypatch):
    for name in (*TASKS, *POOL, *RANK):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if isinstance(found, Share):
        assert find_share(share) == found
    else:
        with pytest.raises(InputError, match=re.escape(found)):
            find_share(share)
