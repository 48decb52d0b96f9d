"""The whole flow through the command line, as a user would type it."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from burnish.cli.main import main
from burnish.storage.formats import open_samples

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "digits.yaml"


def run(*arguments: object) -> None:
    main([str(argument) for argument in arguments])


def test_demo_improves_unseen_seeds_and_writes_what_it_promises(tmp_path, capsys):
    out = tmp_path / "demo"
    run("demo", "--out", out, "--num-images", 300)

    result = json.loads((out / "result.json").read_text())
    for sides in (result, result["second_features"]):
        assert sides["refined"]["fid"] < 0.9 * sides["baseline"]["fid"]
        assert sides["refined"]["recall"] > sides["baseline"]["recall"] - 0.06
    wanted = {"feature_extractor", "num_images", "fid", "kid", "inception_score"}
    wanted |= {"precision", "recall"}
    assert wanted <= result["baseline"].keys() & result["refined"].keys()
    assert result["baseline"]["num_images"] == 300
    for name in ("generated.npz", "refined.npz"):
        with np.load(out / name) as file:
            assert file["arr_0"].shape == (300, 28, 28, 1) and file["arr_0"].dtype == np.uint8
    page = (out / "report.html").read_text()
    assert "data:image/png;base64," in page and "http" not in page.split("<body")[1]
    assert "FID" in capsys.readouterr().out


def test_the_bytes_of_an_image_depend_on_no_other_image_and_no_steps_give_the_input(tmp_path):
    base = tmp_path / "base.npz"
    run("sample", "fashion_mnist", "--seeds", "5-20", "--out", base)
    for name, seeds in (("all", "5-20"), ("some", "9,7,18")):
        run("sample", "fashion_mnist", "--seeds", seeds, "--out", tmp_path / f"{name}.npz")
        run("refine", tmp_path / f"{name}.npz", "--guide", "fashion_mnist",
            "--out", tmp_path / f"{name}.parquet")  # fmt: skip
    everything, some = (open_samples(tmp_path / f"{name}.parquet") for name in ("all", "some"))
    assert some.ids.tolist() == [9, 7, 18]
    expected = everything.read([4, 2, 13]).images
    assert np.array_equal(some.read([0, 1, 2]).images, expected)
    assert not np.array_equal(open_samples(base).read([4, 2, 13]).images, expected)
    # Images and ledger share suffix and folder here, and must not share the name.
    ledger = pq.read_table(tmp_path / "all.parquet.ledger.parquet")
    assert ledger["id"].to_pylist() == list(range(5, 21))
    for flag in ("--eps", "--num-steps"):
        run("refine", base, "--guide", "fashion_mnist", "--out", tmp_path / "same.npz", flag, 0,
            "--force")  # fmt: skip
        assert (tmp_path / "same.npz").read_bytes() == base.read_bytes()


def test_labels_survive_folders_in_which_a_class_is_missing(tmp_path):
    base, once, twice = tmp_path / "base.npz", tmp_path / "once", tmp_path / "twice"
    run("sample", "fashion_mnist", "--seeds", "5-7", "--out", base)
    run("refine", base, "--guide", "fashion_mnist", "--num-steps", 1, "--out", once)
    run("refine", once, "--guide", "fashion_mnist", "--num-steps", 1, "--out", twice)
    labels = [open_samples(path).labels for path in (base, twice)]
    assert labels[0] is not None and labels[1] is not None
    assert labels[0].tolist() == labels[1].tolist()


def test_folders_called_by_numbers_are_labels_and_other_names_are_counted(tmp_path):
    image = Image.new("L", (28, 28))
    for kind, names in (("numbers", ("3", "07")), ("words", ("dog", "cat"))):
        for name in names:
            (tmp_path / kind / name).mkdir(parents=True)
            image.save(tmp_path / kind / name / f"{name}.png")
    for kind, expected in (("numbers", [3, 7]), ("words", [0, 1])):
        labels = open_samples(tmp_path / kind).labels
        assert labels is not None and sorted(labels.tolist()) == expected


def test_outputs_of_one_stem_keep_their_own_ledgers_and_cards(tmp_path):
    base = tmp_path / "r.npz"
    run("sample", "fashion_mnist", "--seeds", "5-7", "--out", base)
    card = (tmp_path / "r.npz.card.json").read_text()
    for out, steps in (("r.parquet", 1), ("r", 2)):
        run("refine", base, "--guide", "fashion_mnist", "--num-steps", steps,
            "--out", tmp_path / out)  # fmt: skip
    assert (tmp_path / "r.npz.card.json").read_text() == card
    asked = [
        json.loads((tmp_path / f"{name}.card.json").read_text())["settings"]["num_steps"]
        for name in ("r.parquet", "r")
    ]
    assert asked == [1, 2]


FAULTS = {
    "missing file": (["refine", "nowhere.npz", "--guide", "fashion_mnist"], "nowhere.npz"),
    "misspelt guide": (["refine", "base.npz", "--guide", "fashion_mnits"], "did you mean"),
    "misspelt norm": (
        ["refine", "base.npz", "--guide", "fashion_mnist", "--norm", "l1"],
        "choose from: l2",
    ),
    "no labels, dry": (
        ["refine", "bare.npz", "--guide", "fashion_mnist", "--dry-run"],
        "--labels pseudo",
    ),
    "misspelt preset": (
        ["refine", "base.npz", "--guide", "fashion_mnist", "--preset", "bigrock"],
        "did you mean 'bigroc'",
    ),
    "negative eps": (["refine", "base.npz", "--guide", "fashion_mnist", "--eps", "-1"], "eps"),
    "broken npz": (["refine", "broken.npz", "--guide", "fashion_mnist"], "broken.npz"),
    "wrong channels": (["refine", "rgb.npz", "--guide", "fashion_mnist"], "not [3, 28, 28]"),
    "labels out of range": (["refine", "labels.npz", "--guide", "fashion_mnist"], "label 10"),
    "no labels": (["refine", "bare.npz", "--guide", "fashion_mnist"], "--labels pseudo"),
    "backward seeds": (["sample", "fashion_mnist", "--seeds", "9-3"], "backwards"),
    "misspelt extractor": (
        ["evaluate", "base.npz", "--reference", "fashion_mnist/plain",
         "--features", "inception-v3-compt"],
        "did you mean",
    ),
    "misspelt reference": (
        ["evaluate", "base.npz", "--reference", "fashion_mnist/plian"],
        "did you mean 'fashion_mnist/plain'",
    ),
    "missing reference": (
        ["evaluate", "base.npz", "--reference", "nowhere.npz"],
        "there is no nowhere.npz",
    ),
    "scores over their input": (
        ["evaluate", "base.npz", "--reference", "fashion_mnist/plain", "--json", "base.npz"],
        "base.npz would replace",
    ),
    "statistics over some rows of their input": (
        ["evaluate", "base.npz", "--reference", "rgb.npz[0-3]", "--save-reference", "rgb.npz"],
        "rgb.npz would replace",
    ),
    "no output name": (["refine", "base.npz", "--guide", "fashion_mnist", "--out", "."], "'.'"),
    "wrong channels for a feature extractor": (
        ["evaluate", "rgb.npz", "--reference", "fashion_mnist/plain"],
        "not [3, 28, 28]",
    ),
    "output below a file": (
        ["refine", "base.npz", "--guide", "fashion_mnist", "--out", "bare.npz/x.npz"],
        "bare.npz is a file",
    ),
    "misspelt update": (
        ["refine", "base.npz", "--guide", "fashion_mnist", "--update", "sgdl"],
        "did you mean 'sgld'",
    ),
    "misspelt command": (["refin", "base.npz"], "did you mean 'refine'"),
    "misspelt flag": (["refine", "base.npz", "--gide", "fashion_mnist"], "--guide"),
    "missing flag": (["refine", "base.npz"], "--guide"),
    "no number": (["refine", "base.npz", "--guide", "fashion_mnist", "--eps", "far"], "--eps"),
    "too large a quantile": (
        ["refine", "base.npz", "--guide", "fashion_mnist", "--stop-quantile", "2"],
        "at most 1",
    ),
    "misspelt training": (["train", "joints", str(EXPERIMENT)], "did you mean 'joint'"),
    "missing experiment": (["train", "joint", "nowhere.yaml"], "nowhere.yaml"),
    "report over images": (["report", "base.npz", "--out", "rgb.npz"], "rgb.npz exists"),
    "nothing to report": (["report", "nowhere"], "nowhere"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_bad_input_gets_one_line_exit_code_2_and_no_file(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = np.zeros((4, 28, 28, 1), np.uint8)
    np.savez("base.npz", arr_0=images, arr_1=np.arange(4))
    np.savez("bare.npz", arr_0=images)
    np.savez("labels.npz", arr_0=images, arr_1=np.array([0, 1, 2, 10]))
    np.savez("rgb.npz", arr_0=images.repeat(3, 3), arr_1=np.arange(4))
    Path("broken.npz").write_bytes(Path("base.npz").read_bytes()[:200])
    before = sorted(tmp_path.rglob("*"))
    arguments, fragment = FAULTS[name]

    with pytest.raises(SystemExit) as stopped:
        main(arguments)

    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("burnish: ")]
    assert stopped.value.code == 2
    assert len(lines) == 1 and fragment in lines[0] and "Traceback" not in error
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_digits_from_nothing_to_a_smaller_distance(tmp_path):
    runs = tmp_path / "runs"
    run("train", "all", EXPERIMENT, "--out", runs)
    base, refined = tmp_path / "base.npz", tmp_path / "refined.npz"
    run("sample", runs / "digits/consistency/pipeline", "--seeds", "0-999", "--out", base)
    run("refine", base, "--guide", runs / "digits/joint/model.safetensors", "--out", refined)
    found = {}
    for path in (base, refined):
        scores = path.with_suffix(".json")
        features = runs / "digits/features-plain/model.safetensors"
        run("evaluate", path, "--reference", "digits[1500-1796]", "--json", scores,
            "--features", features)  # fmt: skip
        found[path] = json.loads(scores.read_text())
    assert found[refined]["fid"] < 0.9 * found[base]["fid"]
    assert found[refined]["kid"] < found[base]["kid"]
    run("report", runs / "digits/joint", "--out", tmp_path / "report.html")
