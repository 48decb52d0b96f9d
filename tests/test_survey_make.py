"""Making a study: who sees what, what raters can tell from the files, and what is refused."""

import json
import struct
import zlib
from collections import Counter
from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from survey_setup import SMALL, make_small, write_images

from burnish.cli.main import main
from burnish.errors import InputError
from burnish.samples import Samples
from burnish.storage.formats import open_samples, write_samples
from burnish.storage.image_file import read_pixels
from burnish.survey.design import deal, plan_trials
from burnish.survey.language import SHIPPED, load_texts
from burnish.survey.make import make_study
from burnish.survey.options import SurveyOptions
from burnish.survey.study import load_study


@pytest.mark.parametrize(("systems", "pairs"), [(2, 10), (2, 7), (3, 9), (4, 8)])
def test_pairs_are_fresh_and_balanced(systems, pairs):
    raters = 6
    dealt = deal(100, systems, raters, pairs, np.random.default_rng(0))
    contests, lefts = Counter(), Counter()
    for row in dealt:
        assert len({one.item for one in row}) == len(row) == pairs
        counts = Counter(frozenset((one.left, one.right)) for one in row)
        assert max(counts.values()) - min(counts.values()) <= 1 or len(counts) < systems
        contests.update(counts)
        mine = Counter((min(one.left, one.right), max(one.left, one.right)) for one in row)
        for pair, count in mine.items():
            left = sum(one.left == pair[0] and one.right == pair[1] for one in row)
            assert abs(2 * left - count) <= 1
        lefts.update(one.left for one in row)
    assert max(contests.values()) - min(contests.values()) <= 1
    used = Counter(one.item for row in dealt for one in row)
    assert set(used.values()) == {1}  # 100 images are enough


def test_pairs_are_used_equally_often_where_they_run_out():
    dealt = deal(10, 2, 5, 6, np.random.default_rng(0))
    used = Counter(one.item for one in chain(*dealt))
    assert len(used) == 10 and set(used.values()) == {3}


def test_checks_are_at_other_places_for_each_rater():
    # Of 8 ^ 2 places.
    for seed in range(3):
        rows = plan_trials(60, 2, raters=30, pairs=16, practice=1, catch=2, seed=seed)
        places = {tuple(n for n, one in enumerate(row) if one.kind == "catch") for row in rows}
        assert len(places) == 30


def test_checks_are_spread_and_practice_comes_first():
    for row in plan_trials(60, 2, raters=20, pairs=20, practice=3, catch=4, seed=1):
        kinds = [trial.kind for trial in row]
        assert kinds[:3] == ["practice"] * 3 and kinds[3] == "pair"
        places = [n for n, kind in enumerate(kinds) if kind == "catch"]
        assert len(places) == 4 and all(b - a > 1 for a, b in pairwise(places))
        spoiled = [(t.left.spoiler, t.right.spoiler) for t in row if t.kind == "catch"]
        assert sum(bool(left) for left, _ in spoiled) == 2
        assert {left or right for left, right in spoiled} == {"noise", "blur"}
        reserved = {t.left.item for t in row if t.kind != "pair"}
        assert not reserved & {t.left.item for t in row if t.kind == "pair"}


def outline(study):
    return [[replace(trial, images=()) for trial in rater.trials] for rater in study.raters]


def test_a_seed_decides_all_but_the_names(tmp_path):
    studies = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        (tmp_path / name).mkdir()
        studies.append(make_small(tmp_path / name, seed=seed))
    one, same, other = studies
    assert outline(one) == outline(same) != outline(other)
    assert not one.images.keys() & same.images.keys()
    assert one.raters[0].token != same.raters[0].token


def test_images_are_those_of_their_systems_enlarged(tmp_path):
    study = make_small(tmp_path)
    files = {name: open_samples(tmp_path / f"{n}.npz") for n, name in enumerate(study.systems)}
    assert study.enlargement == 16
    for trial in study.raters[1].trials:
        for side, name, image in zip(
            ("left", "right"), (trial.left, trial.right), trial.images, strict=True
        ):
            shown = read_pixels(study.image(image), image, (3, 256, 256))
            wanted = (files[name].read([int(trial.item)]).images[0] * 255).round()
            small = shown[:, 8::16, 8::16].float()
            assert torch.equal(
                shown, shown[:, ::16, ::16].repeat_interleave(16, 1).repeat_interleave(16, 2)
            )
            assert torch.equal(small, wanted) == (trial.spoiled != side)
            if trial.spoiled == side:
                assert (small - wanted).abs().mean() > 10
        assert trial.label == int(trial.item) % 3


def chunks(png):
    place, found = 8, []
    while place < len(png):
        length, kind = struct.unpack_from(">I4s", png, place)
        data = png[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", png, place + 8 + length)[0] == zlib.crc32(kind + data)
        found.append((kind, data))
        place += 12 + length
    return found


def test_files_of_images_differ_in_names_and_pixels_alone(tmp_path):
    study = make_small(tmp_path)
    files = {path.stem: path.read_bytes() for path in (study.folder / "images").iterdir()}
    assert files.keys() == study.images.keys()
    assert len({len(data) for data in files.values()}) == 1
    assert {len(name) for name in files} == {32}
    heads, kinds = set(), set()
    for data in files.values():
        parts = chunks(data)
        kinds.add(tuple(kind for kind, _ in parts))
        heads.add(parts[0][1])
    assert kinds == {(b"IHDR", b"IDAT", b"paDd", b"IEND")} and len(heads) == 1
    # The lengths that are hidden would have told which is which.
    bare = {name: len(dict(chunks(data))[b"IDAT"]) for name, data in files.items()}
    pairs = [t for r in study.raters for t in r.trials if t.kind == "pair"]
    smooth = [t.images[t.left != "baseline"] for t in pairs]
    noisy = [t.images[t.left == "baseline"] for t in pairs]
    assert max(bare[name] for name in smooth) < min(bare[name] for name in noisy)


def test_a_study_that_was_changed_is_refused(tmp_path):
    study = make_small(tmp_path)
    path = study.folder / "study.json"
    kept = path.read_text()
    values = json.loads(kept)
    values["rules"]["min_catch_share"] = 0.0
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="was changed"):
        load_study(study.folder)
    path.write_text(kept)
    image = study.image(study.raters[0].trials[0].images[0])
    image.write_bytes(image.read_bytes()[:-20])
    with pytest.raises(InputError, match="missing or was changed"):
        load_study(study.folder, images=True)
    with pytest.raises(InputError, match="no study there"):
        load_study(tmp_path / "nothing")


@pytest.fixture
def inputs(tmp_path):
    write_images(tmp_path / "a.npz", 0)
    write_images(tmp_path / "b.npz", 1)
    write_images(tmp_path / "few.npz", 1, count=5)
    write_images(tmp_path / "gray.npz", 1, channels=1)
    write_images(tmp_path / "large.npz", 1, side=32)
    shifted = Samples(torch.rand(30, 3, 16, 16), (torch.arange(30) + 1) % 3, torch.arange(30))
    write_samples(tmp_path / "shifted.npz", [shifted], 30)
    (tmp_path / "full").mkdir()
    (tmp_path / "poor.yaml").write_text("code: fr\nquestion: Laquelle ?\n")
    (tmp_path / "rich.yaml").write_text("bogus: 1\n" + open_text("en"))
    return tmp_path


def open_text(code):
    return "".join(f"{key}: {json.dumps(text)}\n" for key, text in load_texts(code).items())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("a=a.npz", "two or more systems"),
        ("a=a.npz b", "write NAME=FILE"),
        ("a=a.npz a=b.npz", "two systems are called"),
        ("a=a.npz =b.npz", "cannot name a system"),
        ("a=a.npz b=none.npz", "no such file"),
        ("a=a.npz b=gray.npz", "images of shape"),
        ("a=a.npz b=large.npz", "images of shape"),
        ("a=a.npz b=shifted.npz", "has labels"),
        ("a=a.npz b=few.npz", "5 images in common"),
        ("a=a.npz b=b.npz --pairs-per-rater 28", "ask for fewer pairs"),
        ("a=a.npz b=b.npz --raters 0", "raters must be"),
        ("a=a.npz b=b.npz --raters 2000 --pairs-per-rater 100", "at most 100000"),
        ("a=a.npz b=./a.npz", "a and b are the same images"),
        ("a=a.npz b=b.npz --seed -1", "seed must be at least 0"),
        ("a=a.npz b=b.npz --question \x1b[31mBetter?", "the question is blank or holds"),
        ("a=a.npz b=b.npz --question Better\udcff?", "the question is blank or holds"),
        ("a=a.npz b=b.npz --question \N{NO-BREAK SPACE}", "the question is blank"),
        ("a=a.npz b=b.npz --language fr", "no language"),
        ("a=a.npz b=b.npz --language poor.yaml", "must be a text"),
        ("a=a.npz b=b.npz --language rich.yaml", "unknown key"),
        ("a=a.npz b=b.npz --out full", "never replaced"),
        ("a=a.npz b=b.npz --out a.npz/x", "cannot be written"),
    ],
)
def test_bad_input_ends_in_one_line_and_leaves_nothing(
    inputs, monkeypatch, capsys, arguments, said
):
    monkeypatch.chdir(inputs)
    before = sorted(inputs.rglob("*"))
    sizes = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    with pytest.raises(SystemExit) as stopped:
        main(["survey", "make", "--out", "study", *sizes, *arguments.split(" ")])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1
    assert sorted(inputs.rglob("*")) == before


def test_a_failure_while_images_are_written_leaves_nothing(inputs, monkeypatch):
    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("burnish.survey.make.padded", fail)
    before = sorted(inputs.rglob("*"))
    files = {"a": inputs / "a.npz", "b": inputs / "b.npz"}
    with pytest.raises(OSError):
        make_study(files, inputs / "study", SurveyOptions(**SMALL))
    assert sorted(inputs.rglob("*")) == before


def test_folders_are_paired_by_name(tmp_path):
    rng = torch.Generator().manual_seed(0)
    names = {
        "a": [f"x/{n}.png" for n in range(12)],
        "b": [f"x/{n}.png" for n in range(11, -1, -1)],
    }
    for folder, own in names.items():
        samples = Samples(torch.rand(12, 3, 8, 8, generator=rng), None, torch.arange(12))
        write_samples(tmp_path / folder, [samples], 12, own)
    files = {name: tmp_path / name for name in names}
    make_study(files, tmp_path / "study", SurveyOptions(**SMALL))
    study = load_study(tmp_path / "study")
    assert {t.item for r in study.raters for t in r.trials} <= set(names["a"])


def test_a_study_that_cannot_be_read_again_is_not_made(inputs, monkeypatch):
    monkeypatch.setattr("burnish.survey.make._facts", lambda *_: {"commit": "\x1b"})
    before = sorted(inputs.rglob("*"))
    with pytest.raises(InputError, match="control characters"):
        make_study(
            {"a": inputs / "a.npz", "b": inputs / "b.npz"}, inputs / "s", SurveyOptions(**SMALL)
        )
    assert sorted(inputs.rglob("*")) == before


def test_every_language_has_the_same_gaps_to_fill():
    gaps = [
        {
            key: sorted(part.split("}")[0] for part in text.split("{")[1:])
            for key, text in texts.items()
        }
        for texts in map(load_texts, SHIPPED)
    ]
    assert all(one == gaps[0] for one in gaps)
