"""The gallery's data: the right numbers and pixels, paths that end where they should."""

import base64
import io
import json
import os
import re
import shlex

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from gallery_setup import COUNT, IDS, write, write_folder, write_refined
from PIL import Image

from burnish.checkpoint import save_model
from burnish.cli.main import main
from burnish.errors import InputError
from burnish.files import card_path
from burnish.gallery.app import Gallery, open_pairs
from burnish.gallery.climbs import Climbs
from burnish.gallery.commands import commands, guide_source
from burnish.gallery.export import export
from burnish.gallery.nearest import Nearest
from burnish.gallery.sprites import Sprites
from burnish.gallery.store import Store, stamp
from burnish.gallery.table import Changes, describe
from burnish.guide.load import load_guide
from burnish.jobs.refine import plan_refine
from burnish.networks.residual import Residual
from burnish.refinement.learned import guide_sha256
from burnish.refinement.settings import RefineSettings
from burnish.report.pairs import read_pairs
from burnish.samples import to_uint8
from burnish.schema import plain
from burnish.storage.formats import open_samples


@pytest.fixture(scope="module")
def refined(tmp_path_factory):
    return write_refined(tmp_path_factory.mktemp("refined"))


@pytest.fixture
def pairs(refined):
    return open_pairs([refined])


def column(data, key):
    (values,) = [one["values"] for one in data["columns"] if one["key"] == key]
    return np.frombuffer(base64.b64decode(values), "<f4")


def pixels(data):
    return np.array(Image.open(io.BytesIO(data)))


def test_columns_are_those_of_the_ledger_in_the_order_of_the_images(pairs, refined):
    data = describe(pairs, Sprites(pairs, Store()))
    ledger = pq.read_table(refined.with_name("refined.npz.ledger.parquet")).to_pydict()
    assert data["ids"] == IDS.tolist() == ledger["id"]
    gain = np.array(ledger["realness_after"]) - np.array(ledger["realness_before"])
    np.testing.assert_allclose(column(data, "gain"), gain, atol=1e-5)
    np.testing.assert_allclose(column(data, "change"), ledger["l2_moved"], atol=1e-5)
    stops = [data["stops"][int(code)] for code in column(data, "stopped")]
    assert stops == ledger["stopped"] and len(set(stops)) > 1
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_a_sprite_holds_the_pixels_of_its_rows_in_their_order(pairs, refined):
    files = (refined.with_name("source.npz"), refined)
    before, after = (np.load(path)["arr_0"][..., 0] for path in files)
    rows = [*range(59, 29, -1), 3]
    sheet = pixels(Sprites(pairs, Store()).sprite(rows))
    assert sheet.shape == (3 * 2 * 28, 12 * 28)
    for place, row in enumerate(rows):
        top, left = place // 12 * 56, place % 12 * 28
        cell = sheet[top : top + 56, left : left + 28]
        np.testing.assert_array_equal(cell, np.concatenate([before[row], after[row]]))


def test_large_images_are_reduced_in_sprites_and_whole_by_themselves(tmp_path):
    paths = [write(tmp_path / f"{n}.npz", 3, (3, 96, 192), seed=n) for n in range(2)]
    pairs = read_pairs(*paths)
    sprites = Sprites(pairs, Store())
    assert not sprites.exact and sprites.size == (64, 128)
    sheet = pixels(sprites.sprite([2, 0])) / 255
    small = torch.nn.functional.interpolate(
        pairs.read([0])[1].images, (64, 128), mode="bilinear", antialias=True
    )
    assert np.abs(sheet[64:, 128:] - small[0].permute(1, 2, 0).numpy()).mean() < 0.01
    whole = to_uint8(pairs.read([2])[0].images)[0].permute(1, 2, 0)
    np.testing.assert_array_equal(pixels(sprites.picture(2, 0)), whole)


def test_folders_are_paired_by_name_and_what_has_no_partner_is_left_out(tmp_path):
    names = ["a.png", "b.png", "c.png", "<i>d.png"]
    before = write_folder(tmp_path / "before", names)
    after = write_folder(tmp_path / "after", [*names[1:], "e.png"], shift=0.05)
    pairs = read_pairs(before, after)
    data = describe(pairs, Sprites(pairs, Store()))
    assert data["names"] == ["<i>d.png", "b.png", "c.png"] and data["left_out"] == [1, 1]
    changes = Changes(pairs, store := Store())
    changes.run()
    first, second = (side.images for side in pairs.read(range(3)))
    wanted = (second - first).flatten(1).norm(dim=1).numpy()
    np.testing.assert_allclose(changes.values, wanted, atol=1e-5)
    assert changes.share == 1 and wanted.min() > 0
    # Kept, and found again.
    again = Changes(pairs, store)
    again._find = lambda: pytest.fail("not kept")
    again.run()
    np.testing.assert_array_equal(again.values, changes.values)


def test_ids_that_javascript_cannot_count_are_texts(tmp_path):
    ids = torch.tensor([2**53 + 1, 2, 3])
    paths = [write(tmp_path / f"{n}.npz", 3, ids=ids) for n in range(2)]
    pairs = read_pairs(*paths)
    assert describe(pairs, Sprites(pairs, Store()))["ids"] == [str(2**53 + 1), "2", "3"]


def test_the_store_is_bounded_and_a_disk_that_cannot_be_written_is_no_fault(monkeypatch, tmp_path):
    store = Store(max_bytes=2000)
    monkeypatch.setattr("burnish.gallery.store.PRUNE_EVERY", 1)
    for number in range(5):
        assert store.get(str(number), lambda: b"x" * 600) == b"x" * 600
        os.utime(store.path(str(number)), (number, number))
    assert [store.path(str(number)).exists() for number in range(5)] == [0, 0, 1, 1, 1]
    assert store.get("4", lambda: b"other") == b"x" * 600
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "file"))
    assert Store().get("key", lambda: b"made") == b"made"


def test_what_is_kept_is_made_anew_when_a_file_changes(tmp_path):
    path = write(tmp_path / "a.npz", 3)
    before = stamp([path])
    assert stamp([path]) == before
    os.utime(path, (1, 1))
    assert stamp([path]) != before
    folder = write_folder(tmp_path / "folder", ["a.png", "b.png"])
    before = stamp([folder])
    os.utime(folder / "a.png", (1, 1))
    assert stamp([folder]) != before


def test_a_path_ends_at_the_stored_image_and_climbs_as_the_ledger_says(pairs):
    climbs = Climbs(pairs)
    assert climbs.source == "fashion_mnist"
    rows = [0, 17, 59]
    for row, path in zip(rows, climbs(rows), strict=True):
        assert path["same"] and path["levels"] == 0
        steps = int(pairs.ledger["num_steps"][row])
        assert len(path["objective"]) == len(path["l2"]) == steps + 1
        for end, name in ((0, "before"), (-1, "after")):
            known = pairs.ledger[f"objective_{name}"][row]
            assert path["objective"][end] == pytest.approx(known, abs=1e-3)
        assert path["l2"][-1] == pytest.approx(pairs.ledger["l2_moved"][row], abs=1e-4)
        sheet = pixels(base64.b64decode(path["sprite"].partition(",")[2]))
        ends = [to_uint8(side.images)[0, 0].numpy() for side in pairs.read([row])]
        np.testing.assert_array_equal(sheet[:, :28], ends[0])
        np.testing.assert_array_equal(sheet[:, -28:], ends[1])


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"settings": None}, "no card"),
        ({"guide": {"name": "mine", "sha256": "0" * 64}}, "--guide"),
        ({"settings": {"eps": "wide"}}, "eps"),
        ({"settings": {"eps": 1.0, "num_steps": 10**12}}, "1,000 steps"),
        ({"settings": {"objective": "mine", "eps": 1.0}}, "objective"),
        ({"settings": {"eps": 1.0}}, "step_size"),
        ({"guide": {"name": "timm/nope", "sha256": None}}, "--guide"),
        ({"refiner": "none.safetensors", "refiner_sha256": "0"}, "one pass of a learned refiner"),
        ({"refiner": "x" * 5000, "refiner_sha256": None}, "one pass of a learned refiner"),
    ],
)
def test_a_path_that_cannot_be_found_says_why(pairs, tmp_path, change, missing):
    pairs.card.update(change)
    climbs = Climbs(pairs)
    with pytest.raises(InputError, match=missing):
        climbs([0])
    gallery = Gallery(pairs)
    assert isinstance(gallery.data()["commands"]["lines"], list)
    export(gallery, tmp_path / "out")
    text = (tmp_path / "out" / "files" / "data.js").read_text().partition(" = ")[2]
    data = json.loads(text.removesuffix(";\n"))
    assert re.search(missing, data["no_path"]) and data["num_details"] == 0


def test_a_card_is_no_reason_to_fetch_a_network(pairs, monkeypatch):
    monkeypatch.setattr("burnish.gallery.climbs.load_guide", lambda _: pytest.fail("loaded"))
    pairs.card["guide"] = {"name": "timm/resnet 50", "kind": "classifier"}
    gallery = Gallery(pairs)
    gallery.climbs.prepare()
    (line,) = gallery.data()["commands"]["lines"]
    assert gallery.climbs.missing and "--guide 'timm/resnet 50'" in line


@pytest.fixture
def passed(tmp_path):
    """Images that a learned refiner has refined in one pass, nearer than it has learned."""
    source, path = write(tmp_path / "source.npz", 9, ids=IDS[:9]), tmp_path / "r1.safetensors"
    network = {"name": "residual", "in_channels": 1, "width": 6, "depth": 3}
    settings = RefineSettings(eps=3.0, step_size=0.5, num_steps=10)
    card = {"guide_sha256": guide_sha256(load_guide("fashion_mnist")), "settings": plain(settings)}
    torch.manual_seed(0)
    model = Residual(1, width=6, depth=3)
    torch.nn.init.normal_([*model.parameters()][-2])
    save_model(path, model, {"network": network, **card})
    options = {"precision": "float32", "batch_size": 8, "device": "cpu", "eps": 0.5}
    plan_refine(source, "fashion_mnist", tmp_path / "out.npz", refiner=str(path), **options).run()
    return tmp_path / "out.npz"


def test_what_a_learned_refiner_made_is_passed_through_it_again(passed, monkeypatch):
    monkeypatch.chdir(passed.parent)
    gallery = Gallery(open_pairs([passed]))
    for path in gallery.climbs([0, 7]):
        assert path["same"] and len(path["l2"]) == 2 and path["l2"][1] > 0.1
    data = gallery.data()
    assert data["card"]["refiner"] and not data["no_path"]
    (line,) = data["commands"]["lines"]
    assert f"--refiner {passed.parent / 'r1.safetensors'}" in line
    main(shlex.split(line)[1:])
    again, wanted = (np.load(path)["arr_0"] for path in ("again.npz", passed))
    np.testing.assert_array_equal(again, wanted)
    # Another network under its name has not made these images.
    (passed.parent / "r1.safetensors").write_bytes(b"another")
    gallery = Gallery(open_pairs([passed]))
    assert "one pass of a learned refiner" in gallery.data()["no_path"]
    assert "is another one" in gallery.data()["commands"]["note"]


def test_the_tiles_of_a_grid_and_own_labels_are_in_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    levels = np.random.default_rng(0).integers(1, 256, (2 * 31 + 3, 3 * 31 + 3), np.uint8)
    Image.fromarray(levels).save("grid.png")
    (tmp_path / "own.txt").write_text("1\n2\n3\n4\n5\n6\n")
    options = {"tile": 28, "padding": 3, "labels": "own.txt", "batch_size": 4, "num_steps": 1}
    plan_refine(tmp_path / "grid.png", "fashion_mnist", tmp_path / "out.npz", **options).run()
    pairs = open_pairs([tmp_path / "out.npz"])
    assert len(pairs) == 6 and Climbs(pairs)([4])[0]["same"]
    (line,) = commands(pairs, "fashion_mnist")["lines"]
    assert "--tile 28 --padding 3 --labels own.txt" in line
    main(shlex.split(line)[1:])
    np.testing.assert_array_equal(*(np.load(name)["arr_0"] for name in ("again.npz", "out.npz")))
    for own, number in (("3", 1), ("own.txt", 0)):
        pairs.card.update(own_labels=own, tile=None)
        monkeypatch.setattr("burnish.gallery.commands._sampling", lambda _: "burnish sample")
        assert len(commands(pairs, "fashion_mnist")["lines"]) == 1 + number


@pytest.mark.parametrize(
    "change",
    [
        {"guide": ["<b>"]},
        {"guide": {"name": 3, "sha256": 4, "refine": {"no": "such"}, "realness": {}}},
        {"settings": [1]},
        {"batch_size": "many", "precision": 3, "labels": {}, "compile": "<i>"},
        {"threshold": "x", "num_steps": {}},
    ],
)
def test_a_strange_card_takes_nothing_away_but_the_path(pairs, change):
    pairs.card.update(change)
    gallery = Gallery(pairs)
    assert gallery.data()["count"] == COUNT
    assert isinstance(gallery.climbs.missing, str)


def test_another_guide_than_that_of_the_card_is_refused(pairs):
    with pytest.raises(InputError, match="not the guide that refined"):
        Climbs(pairs, "cifar10")


def test_the_commands_make_the_image_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["sample", "fashion_mnist", "--seeds", "5-8", "--out", "base.npz"])
    flags = "--eps 0.7 --num-steps 2 --precision float32 --batch-size 4 --compile never"
    line = f"refine base.npz --guide fashion_mnist {flags} --out better.npz"
    main(shlex.split(line))
    pairs = open_pairs([tmp_path / "better.npz"])
    lines = commands(pairs, guide_source(pairs.card))["lines"]
    assert len(lines) == 2
    for line in lines:
        main(shlex.split(line.replace("{id}", "7"))[1:])
    again, wanted = (open_samples(tmp_path / name) for name in ("again.npz", "better.npz"))
    assert again.ids.tolist() == [7]
    assert torch.equal(again.read([0]).images, wanted.read([2]).images)


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        ({"stop_quantile": None}, "--preset golan24-pgd"),
        ({"objective": "logsumexp"}, "--objective logsumexp"),
        ({"keep_better": True}, "--keep-better"),
        ({"norm": "none", "eps": None, "update": "sgld", "step_size": 0.5}, "--norm none"),
    ],
)
def test_commands_name_what_the_guide_does_not_recommend(refined, pairs, settings, flags):
    pairs.card["settings"].update(settings)
    (line,) = commands(pairs, "fashion_mnist")["lines"]
    assert flags in line and "None" not in line
    assert "--eps" in line or "--norm none" in line


def test_images_without_a_card_have_no_commands(tmp_path):
    pairs = read_pairs(*[write(tmp_path / f"{n}.npz", 3) for n in range(2)])
    found = commands(pairs, None)
    assert found["lines"] == [] and "no card" in found["note"]


@pytest.mark.parametrize("features", [None, "fashion_mnist/plain"])
def test_the_nearest_real_image_of_an_image_is_itself(pairs, refined, features):
    nearest = Nearest(pairs, refined, features, store := Store())
    found = nearest(7)
    assert found[0]["id"] == str(int(IDS[7]))
    assert found[0]["distance"] == pytest.approx(0, abs=1e-4) and found[1]["distance"] > 0.01
    assert [one["distance"] for one in found] == sorted(one["distance"] for one in found)
    if features is None:
        after = pairs.read(range(COUNT))[1].images.flatten(1).double()
        distances = (after - after[7]).norm(dim=1).sort().values[:3]
        assert [one["distance"] for one in found] == pytest.approx(distances.tolist(), abs=1e-4)
    assert Nearest(pairs, refined, features, store)(7) == found


def test_faults_of_input_are_one_line(tmp_path, refined):
    for paths, words in [
        ([tmp_path / "none.npz"], "no such file"),
        ([refined.with_name("source.npz")], "no card of burnish refine"),
        ([refined] * 3, "3 files"),
        ([refined, write(tmp_path / "other.npz", 3, (1, 8, 8))], "of shape"),
        ([refined, write(tmp_path / "far.npz", 3, ids=torch.tensor([7, 8, 9]))], "same ids"),
    ]:
        with pytest.raises(InputError, match=words) as caught:
            open_pairs(paths)
        assert "\n" not in str(caught.value)
    pairs = open_pairs([refined])
    with pytest.raises(InputError, match="of shape"):
        Nearest(pairs, write(tmp_path / "real.npz", 3, (1, 8, 8)), None, Store())
    with pytest.raises(InputError, match="give --real"):
        Gallery(pairs, features="fashion_mnist/plain")
    card = card_path(refined)
    content = json.loads(card.read_text())
    moved = tmp_path / "moved.npz"
    moved.write_bytes(refined.read_bytes())
    for lost in ("nowhere/lost.npz", "x" * 5000, "x/" * 2500):
        card_path(moved).write_text(json.dumps({**content, "input": lost}))
        with pytest.raises(InputError, match=r"put it beside moved\.npz") as caught:
            open_pairs([moved])
        assert len(str(caught.value)) < 500
