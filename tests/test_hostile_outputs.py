"""Outputs and what is resumed: whatever is there, it ends in one line and nothing is changed.

Each case is a name, what is done to a small folder first, the command line, and a word of the
message. The commands run in this process and fail while they plan.
"""

import contextlib
import json
import math
import os
import pickle
import signal
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from training_setup import real_images

from burnish.checkpoint import save_model
from burnish.cli.main import main
from burnish.errors import InputError
from burnish.files import check_target, read_json
from burnish.networks.build import build
from burnish.storage.formats import open_samples, write_samples
from burnish.training.experiment import load_experiment
from burnish.training.train import train

LIMIT = 20  # seconds: a pipe that is read would never end
EXPERIMENT = """
name: tiny
data: {source: real.npz, train: 0-31, validation: 32-47}
features:
  plain:
    network: {name: convnet, widths: [4]}
    training: {num_steps: 2, batch_size: 8, precision: float32}
"""
TABLES = """
data: tiny
features: {plain: runs/plain.safetensors}
seeds: [0-9]
tables: {one: {rows: {plain: {generator: fashion_mnist}}}}
"""
STATE = "runs/tiny/features-plain/state.pt"
CONFIG = "runs/tiny/features-plain/config.json"
SCORES = {"feature_extractor": "some/plain", "fid": 8.0, "num_images": 20}
RESULT = {"baseline": SCORES, "refined": SCORES}
TURNED = {"value": 8.0, "std_error": 1.0, "low": 9.0, "high": 7.0}
VALUE = {"mean": 1.0, "std": 0.0}
MEASURED = {
    "data": "tiny", "table": "one", "place": 0, "title": "one", "rank_correlation": {},
    "rows": {"base": {"generator": "g"}}, "summary": {"plain": {"base": {"fid": VALUE}}},
    "results": [{
        "row": "base", "seeds": "0-9", "features": "plain", "feature_extractor": "plain",
        "num_images": 10, "num_reference_images": 10, "reference": "some",
    }],
}  # fmt: skip
TUNING = {"chosen": {"eps": 1.0}, "verdict": "use", "words": "Use them."}
ADAPT = {"num_steps": 5, "precision": "float32"}
LEDGER = {
    "id": range(48), "label": [0] * 48, "realness_before": [0.0] * 48,
    "realness_after": [1.0] * 48, "l2_moved": [0.5] * 48, "num_steps": [3] * 48,
    "stopped": ["all steps made"] * 48,
}  # fmt: skip


def write(path, content):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text)


def write_ledger(**columns):
    pq.write_table(pa.table({**LEDGER, **columns}), "refined.npz.ledger.parquet")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Make a folder with one of everything that a command reads."""
    folder = tmp_path_factory.mktemp("world")
    real_images(folder / "real.npz")
    with contextlib.chdir(folder):
        write("exp.yaml", EXPERIMENT)
        write("tables.yaml", TABLES)
        train("features", load_experiment(Path("exp.yaml")))
        network = {
            "name": "resnet",
            "in_channels": 1,
            "num_classes": 4,
            "width": 4,
            "num_blocks": 1,
        }
        save_model(Path("runs/tiny/joint/model.safetensors"), build(network), {"network": network})
        for name in ("samples", "refined"):
            write_samples(f"{name}.npz", open_samples("real.npz"), 48)
        write("refined.npz.card.json", {"input": "samples.npz", "settings": {}})
        write_ledger()
        write("result.json", RESULT)
        write("results/one.json", MEASURED)
        write("tuning.json", TUNING)
        write("mine/adapt.json", ADAPT)
        write("demo/demo.json", {"data": "fashion_mnist"})
        write("other/file.txt", "something else")
        write_samples("images", [open_samples("real.npz").read([0, 1])], 2)
        write("parts/a.json", RESULT)
        write("parts/b.json", RESULT)
    return folder


# Command lines that read a file of JSON, and the file.
ADAPTING = "adapt samples.npz --real real.npz --guide runs/tiny/joint/model.safetensors --out mine"
TRAINING = "train features exp.yaml"
READERS = {
    "result.json": "report result.json --out page.html",
    "refined.npz.card.json": "report refined.npz --out page.html",
    "results/one.json": "report results --out page.md",
    CONFIG: TRAINING,
    "mine/adapt.json": ADAPTING,
    "tuning.json": "pack runs/tiny --out packed --tuning tuning.json",
    "demo/demo.json": "demo --out demo --num-images 10",
}


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def sparse(path):
    with path.open("wb") as file:
        file.truncate(2**26 + 2)


BAD_JSON = {
    "empty": b"", "half": b'{"a": ', "list": b"[1]", "null": b"null", "word": b'"text"',
    "binary": b"\x00\xff\xfe\x80", "latin": b'{"a": "\xe9"}', "deep": b"[" * 100_000,
    "deep keys": b'{"a":' * 50 + b"1" + b"}" * 50, "nan": b'{"a": NaN}', "inf": b'{"a": 1e999}',
    "digits": b'{"a": ' + b"9" * 5000 + b"}", "twice": b'{"a": 1, "a": 2}',
    "escape": b'{"a": "\\u001b[2J"}', "other": b"{}", "folder": Path.mkdir, "pipe": pipe,
    "device": device, "huge": sparse,
}  # fmt: skip


def put(path, content):
    """Return what replaces a file by bytes, or by what a function makes."""

    def act():
        Path(path).unlink()
        content(Path(path)) if callable(content) else Path(path).write_bytes(content)

    return act


def changed(path, base, **values):
    """Return what replaces fields of JSON."""
    return put(path, json.dumps({**base, **values}).encode())


def state(change):
    """Return what changes the saved state of a training; ``change`` may return another one."""

    def act():
        found = torch.load(STATE, weights_only=True)
        found = change(found) or found
        torch.save(found, STATE)

    return act


def last(tree):
    return list(tree)[-1]


def moments(found):
    return found["optimizer"]["state"][0]


class Code:
    def __reduce__(self):
        return (os.mkdir, ("owned",))


def set_(tree, key, value):
    tree[key] = value


STATES = {
    "no numbers": state(lambda s: [1]), "no keys": state(lambda s: {"a": 1}),
    "step text": state(lambda s: set_(s, "step", "1")),
    "step below": state(lambda s: set_(s, "step", -1)),
    "step beyond": state(lambda s: set_(s, "step", 3)),
    "step true": state(lambda s: set_(s, "step", True)),
    "nan weight": state(lambda s: set_(s["model"], last(s["model"]), torch.tensor(math.nan))),
    "inf average": state(lambda s: set_(s["ema"], last(s["ema"]), torch.tensor(math.inf))),
    "other shape": state(lambda s: set_(s["model"], last(s["model"]), torch.zeros(7))),
    "lost weight": state(lambda s: s["model"].clear()),
    "model a list": state(lambda s: set_(s, "model", [1, 2])),
    "optimizer a number": state(lambda s: set_(s, "optimizer", 3)),
    "moments of other weights": state(lambda s: set_(moments(s), "exp_avg", torch.zeros(1))),
    "moments lost": state(lambda s: moments(s).clear()),
    "best a text": state(lambda s: set_(s, "best", "none")),
    "best of nothing": state(lambda s: set_(s, "best", {})),
    "best weights": state(lambda s: set_(s, "best_state", {"a": torch.zeros(1)})),
    "code": lambda: Path(STATE).write_bytes(pickle.dumps(Code())),
    "empty": put(STATE, b""), "text": put(STATE, b"state"), "zeros": put(STATE, bytes(1000)),
    "half": lambda: os.truncate(STATE, os.path.getsize(STATE) // 2),
    "pipe": put(STATE, pipe), "device": put(STATE, device), "folder": put(STATE, Path.mkdir),
}  # fmt: skip

TUNE = "tune samples.npz --guide cifar10 --real real.npz --out"
DOCTOR = "doctor runs/tiny/joint/model.safetensors --samples samples.npz --real real.npz --out"
MEASURE = "measure tables.yaml one --real real.npz --out"
REPORT = "report result.json --out"
LONG = "n" * 256


def exists(path):
    return lambda: write(path, "old")


def nothing():
    pass


def loop():
    os.symlink("loop", "loop")


# Outputs: every command that names a file, and every way in which it cannot be that file.
OUTPUTS = [
    (f"{command.split()[0]}: {why}", act, f"{command} {out}", said)
    for command, end in ((TUNE, ".json"), (DOCTOR, ".json"), (MEASURE, ".json"), (REPORT, ".html"))
    for why, act, out, said in [
        ("exists", exists(f"o{end}"), f"o{end}", "--force"),
        ("exists as a dead link", lambda end=end: os.symlink("lost", f"o{end}"), f"o{end}",
         "--force"),
        ("below a file", nothing, f"real.npz/o{end}", "is a file"),
        ("a folder", lambda end=end: os.mkdir(f"o{end}"), f"o{end}", "is a folder"),
        ("a pipe", lambda end=end: os.mkfifo(f"o{end}"), f"o{end}", "a device or a pipe"),
        ("a device", lambda end=end: os.symlink("/dev/null", f"o{end}"), f"o{end}",
         "a device or a pipe"),
        ("too long", nothing, f"{LONG}{end}", "no name of a file"),
        ("nowhere to write", nothing, f"/proc/o{end}", "cannot be written"),
        ("below a loop of links", loop, f"loop/o{end}", "is a link to nothing"),
    ]
]  # fmt: skip
OUTPUTS += [
    ("adapt: a loop of links", loop, ADAPTING.replace("real.npz", "loop"), "no such file"),
    ("adapt: into a loop", loop, ADAPTING.replace("mine", "loop"), "is a link to nothing"),
    ("tune: its curve exists", exists("o.png"), f"{TUNE} o.json", "--force"),
    ("tune: its settings exist", exists("o.settings.yaml"), f"{TUNE} o.json", "--force"),
    ("tune: another suffix", nothing, f"{TUNE} o.npz", "is a .json"),
    ("tune: card of its input", nothing, "tune refined.npz --guide cifar10 --real real.npz "
     "--force --out refined.npz.card.json", "its own input"),
    ("doctor: its samples", nothing, f"{DOCTOR} samples.npz --force", "its own input"),
    ("doctor: its guide", nothing, f"{DOCTOR} runs/tiny/joint/model.safetensors --force",
     "its own input"),
    ("doctor: rows of its samples", nothing, "doctor fashion_mnist --samples samples.npz[0-9] "
     "--force --out samples.npz", "its own input"),
    ("doctor: a part of a pattern", nothing, "doctor fashion_mnist --samples parts/*.json "
     "--force --out parts/b.json", "its own input"),
    ("doctor: an image of the folder", nothing, "doctor fashion_mnist --samples images "
     "--force --out images/00000/000000.png", "its own input"),
    ("measure: its tables", nothing, f"{MEASURE} tables.yaml --force", "its own input"),
    ("measure: its real images", nothing, f"{MEASURE} real.npz --force", "its own input"),
    ("measure: a link to them", lambda: os.symlink("real.npz", "o.json"),
     f"{MEASURE} o.json --force", "its own input"),
    ("measure: a hard link to them", lambda: os.link("real.npz", "o.json"),
     f"{MEASURE} o.json --force", "its own input"),
    ("report: its input", lambda: os.rename("result.json", "r.html"),
     "report r.html --out r.html --force", "its own input"),
    ("report: by another way", lambda: os.symlink(".", "here"),
     "report refined.npz --out here/refined.npz --force", "its own input"),
    ("report: the card", nothing, "report refined.npz --out refined.npz.card.json --force",
     "its own input"),
    ("report: the ledger", nothing, "report refined.npz --out refined.npz.ledger.parquet --force",
     "its own input"),
    ("report: a result in its folder", nothing, "report demo --out demo/result.json", "suffix"),
    ("report: an image of its folder", nothing,
     "report images images --out images/00000/000000.png --force", "its own input"),
    ("report: no name", nothing, f"{REPORT} .", "no file name"),
    ("report: above", nothing, f"{REPORT} ..", "no file name"),
    ("pack: its guide exists", exists("packed/guide.safetensors"),
     "pack runs/tiny --out packed", "--force"),
    ("pack: features exist", exists("packed/features-plain.safetensors"),
     "pack runs/tiny --out packed --real real.npz", "--force"),
    ("pack: a generator exists", exists("packed/generator/card.json"),
     "pack runs/tiny --out packed --real real.npz", "--force"),
    ("pack: names that leave", nothing,
     "pack runs/tiny --out packed --real real.npz --features ../up", "plain name"),
    ("pack: a file as its folder", nothing, "pack runs/tiny --out real.npz", "is a file"),
    ("pack: no tuning", nothing, "pack runs/tiny --out packed --tuning lost.json", "lost.json"),
    ("pack: nothing chosen", changed("tuning.json", TUNING, chosen=None),
     "pack runs/tiny --out packed --tuning tuning.json", "chose no setting"),
    ("demo: another demo", nothing, "demo cifar10 --out demo", "a demo of fashion_mnist"),
    ("demo: something else", nothing, "demo --out other", "something else"),
    ("demo: a file", nothing, "demo --out real.npz", "is a file"),
    ("demo: too few", nothing, "demo --out new --num-images 9", "at least 10"),
    ("demo: a name like the demo's", lambda: os.mkfifo("demo/result.json"), "demo --out demo",
     "a device or a pipe"),
    ("adapt: something else", nothing, ADAPTING.replace("mine", "other"), "something else"),
    ("adapt: a file", nothing, ADAPTING.replace("mine", "real.npz"), "is a file"),
    ("adapt: the folder of its input", nothing, ADAPTING.replace("mine", "."), "something else"),
    ("train: a file", nothing, f"{TRAINING} --out real.npz", "is a file"),
    ("train: a file, dry", nothing, f"{TRAINING} --out real.npz --dry-run", "is a file"),
    ("train: unknown, dry", nothing, "train everything exp.yaml --dry-run", "everything"),
    ("train: only what is not", nothing, f"{TRAINING} --only wide --dry-run", "wide"),
    ("train: nowhere", nothing, f"{TRAINING} --out /proc/runs --dry-run", "cannot be written"),
    ("train: its log is a pipe", put("runs/tiny/features-plain/log.jsonl", pipe), TRAINING,
     "a device or a pipe"),
    ("train: its log is a folder", put("runs/tiny/features-plain/log.jsonl", Path.mkdir),
     TRAINING, "is a folder"),
    ("train: no config beside the state", lambda: os.remove(CONFIG), TRAINING, "damaged or lost"),
    ("train: no state beside the model", lambda: (os.remove(STATE), os.remove(CONFIG)), TRAINING,
     "damaged or lost"),
    ("train: another run", lambda: write("exp.yaml", EXPERIMENT.replace("[4]", "[8]")), TRAINING,
     "other settings"),
    ("train: other data", lambda: real_images(Path("real.npz"), num_classes=3), TRAINING,
     "other settings"),
    ("train: a name that leaves", lambda: write("exp.yaml", EXPERIMENT.replace("tiny", "../up")),
     TRAINING, "name"),
]  # fmt: skip
OUTPUTS += [
    (f"torchrun: {command.split()[0]}", lambda: os.environ.update(WORLD_SIZE="2"), command,
     "runs as one process")
    for command in (TRAINING, ADAPTING, f"{TUNE} o.json", f"{DOCTOR} o.json", f"{MEASURE} o.json",
                    "demo --out new", "pack runs/tiny --out packed", f"{REPORT} o.html")
]  # fmt: skip

LEDGERS = {
    "lost column": lambda: pq.write_table(pa.table({"id": [1]}), "refined.npz.ledger.parquet"),
    "text as id": lambda: write_ledger(id=["1"] * 48),
    "ids of others": lambda: write_ledger(id=range(1, 49)),
    "id twice": lambda: write_ledger(id=[0] * 48),
    "realness a text": lambda: write_ledger(realness_after=["1"] * 48),
    "realness a list": lambda: write_ledger(realness_after=[[1.0]] * 48),
    "realness lost": lambda: write_ledger(realness_before=pa.nulls(48)),
    "steps a half": lambda: write_ledger(num_steps=[0.5] * 48),
    "steps below 0": lambda: write_ledger(num_steps=[-1] * 48),
    "steps without end": lambda: write_ledger(num_steps=[10**12] * 48),
    "reason a number": lambda: write_ledger(stopped=[1] * 48),
    "no parquet": put("refined.npz.ledger.parquet", b"PAR1"),
    "half": lambda: os.truncate("refined.npz.ledger.parquet", 900),
}
FIELDS = [
    ("result.json", changed("result.json", RESULT, **{key: value}), said)
    for key, value, said in [
        ("baseline", [1], "no result"), ("baseline", SCORES | {"fid": "8"}, "fid must be"),
        ("baseline", SCORES | {"kid": [1]}, "kid must be"),
        ("refined", SCORES | {"fid": True}, "fid must be"),
        ("refined", SCORES | {"num_images": 1.5}, "num_images must be"),
        ("refined", SCORES | {"warnings": "none"}, "warnings must be"),
        ("refined", SCORES | {"intervals": {"fid": TURNED}}, "fid: low is above high"),
        ("refined", SCORES | {"inception_score_std": "x"}, "inception_score_std must be"),
        ("refine", "joint", "refine must be"), ("refine", {"stop_quantile": "x"}, "stop_quantile"),
        ("second_features", {"baseline": 1}, "no result"),
    ]
]  # fmt: skip
CARD = {"input": "samples.npz"}
FIELDS += [
    ("refined.npz.card.json", changed("refined.npz.card.json", CARD, **{key: value}), said)
    for key, value, said in [
        ("input", 3, "names no input"), ("input", "lost.npz", "not there"),
        ("settings", [1], "settings must be"), ("threshold", "x", "threshold must be"),
        ("guide", {"realness": {"quantiles": "x"}}, "quantiles must be"),
        ("guide", {"realness": {"quantiles": [None, 1]}}, "quantiles must be"),
        ("guide", {"realness": {"quantiles": [1, -1]}}, "quantiles must be"),
        ("guide", {"realness": {"quantiles": [0, 1e308]}}, "quantiles must be"),
    ]
]  # fmt: skip
FIELDS += [
    ("results/one.json", changed("results/one.json", MEASURED, **{key: value}), said)
    for key, value, said in [
        ("data", "../up", "plain name"), ("table", "", "plain name"), ("place", "x", "place"),
        ("rows", [1], "rows"), ("rows", {}, "rows"), ("rows", {"base": 1}, "keys and values"),
        ("rows", {"base": {}}, "base lacks generator"),
        ("rows", {"base": {"generator": "g", "sweep": {"eps": [1, 2]}}}, "one value"),
        ("summary", {}, "nothing was measured"), ("summary", {"x": {}}, "has not the rows"),
        ("summary", {"plain": {"base": {"fid": 1}}}, "keys and values"),
        ("summary", {"plain": {"base": {"fid": {"std": 1.0}}}}, "fid lacks mean"),
        ("results", [], "has not the rows"), ("results", 5, "results"),
        ("results", [{"row": "base"}], "results lacks seeds"),
        ("rank_correlation", {"a": {"b": VALUE}}, "unknown metrics"),
    ]
]  # fmt: skip
FIELDS += [
    ("tuning.json", changed("tuning.json", TUNING, **{key: value}), said)
    for key, value, said in [
        ("chosen", 5, "keys and values"), ("chosen", {"eps": "x"}, "eps"),
        ("chosen", {"eps": -1}, "eps"), ("chosen", {"epsilon": 1}, "epsilon"),
        ("chosen", {}, "no settings"), ("words", None, "no result of burnish tune"),
    ]
]  # fmt: skip
FIELDS += [
    ("tuning.json", put("tuning.json", b'{"verdict": "use", "words": "Use."}'), "no result of"),
    ("mine/adapt.json", put("mine/adapt.json", b'{"num_steps": 5}'), "damaged"),
]
FIELDS += [
    ("mine/adapt.json", changed("mine/adapt.json", ADAPT, **{key: value}), "damaged")
    for key, value in [
        ("num_steps", "5"), ("num_steps", 0), ("num_steps", True), ("num_steps", 2.5),
        ("precision", "float8"), ("precision", ["float32"]), ("precision", None),
    ]
]  # fmt: skip

CASES = [
    *OUTPUTS,
    *((f"{path}: {name}", put(path, content), READERS[path], "")
      for path in READERS for name, content in BAD_JSON.items()
      if not (name == "other" and path == "demo/demo.json")),
    *((f"state: {name}", act, TRAINING, "state.pt") for name, act in STATES.items()),
    *((f"ledger: {name}", act, "report refined.npz --out page.html", "ledger.parquet")
      for name, act in LEDGERS.items()),
    *((f"{path}: field {i}", act, READERS[path], said)
      for i, (path, act, said) in enumerate(FIELDS)),
]  # fmt: skip


def listing(folder):
    """Return everything in a folder: kind, bytes, time of the last change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        small = path.is_file() and status.st_size < 2**22
        found[str(path)] = (status.st_mode, status.st_mtime_ns, small and path.read_bytes())
    return found


def too_long(*_):
    raise AssertionError("it waits for something")


@pytest.fixture
def copied(world, tmp_path, monkeypatch):
    """Give a copy of the world to spoil, and go there."""
    for path in sorted(world.rglob("*")):
        copy = tmp_path / path.relative_to(world)
        copy.mkdir() if path.is_dir() else copy.write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "1")
    return tmp_path


@pytest.mark.parametrize(("act", "command", "said"), [c[1:] for c in CASES],
                         ids=[c[0] for c in CASES])  # fmt: skip
def test_a_hostile_output_or_record_ends_in_one_line(copied, capsys, act, command, said):
    act()
    before, began = listing(copied), time.perf_counter()
    kept = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LIMIT)
    try:
        with pytest.raises(SystemExit) as stopped:
            main(command.split())
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, kept)
    err = capsys.readouterr().err
    assert stopped.value.code == 2, err
    assert err.count("\n") == 1 and err.startswith("burnish: ") and said in err, err
    assert len(err) < 1500 and time.perf_counter() - began < LIMIT
    assert listing(copied) == before


def test_the_table_is_long_and_the_world_itself_is_sound(copied, capsys):
    assert len(CASES) > 120
    for command in (READERS["result.json"], f"{READERS['refined.npz.card.json']} --force",
                    READERS["results/one.json"], READERS["tuning.json"], TRAINING):  # fmt: skip
        main(command.split())


def test_names_of_every_kind_are_written_and_read(tmp_path):
    """240 characters, bytes that are no text, markup: a target takes it, and nothing is left."""
    from burnish.files import write_json

    for name in ("n" * 240, "<b>|$x", "a\nb", os.fsdecode(b"\xff\xfe"), "é" * 120):
        path = tmp_path / name
        check_target(path, force=False)
        write_json(path, {"a": 1})
        assert read_json(path) == {"a": 1}
        with pytest.raises(InputError, match="--force"):
            check_target(path, force=False)
        path.unlink()
    assert not list(tmp_path.iterdir())
