"""What evaluate says of sides that share images, and that errors without remedy leave no job."""

import json

import numpy as np
import pytest

from burnish.errors import InputError
from burnish.jobs.evaluate import plan_evaluate
from burnish.metrics.metric import METRICS

IMAGES = np.random.default_rng(0).integers(0, 256, (120, 28, 28, 1), np.uint8)
IMAGES[:, :, 14:] //= 4
MADE, REAL, MORE = IMAGES[:40], IMAGES[40:80], IMAGES[80:]
NAN = REAL[..., 0] / np.float32(255)
NAN[-1, 0, 0] = np.nan


def write(folder, name, images):
    np.savez(folder / f"{name}.npz", arr_0=images)
    return folder / f"{name}.npz"


def plan(folder, made=MADE, real=REAL, more=None, **options):
    validation = "" if more is None else str(write(folder, "more", more))
    return plan_evaluate(
        write(folder, "made", made), str(write(folder, "real", real)), "fashion_mnist/plain",
        out=folder / "scores.json", validation=validation, device="cpu",
        **{"batch_size": 16, **options},
    )  # fmt: skip


def mixed(*parts):
    return {name: part for name, part in zip(("made", "real", "more"), parts, strict=False)}


SHARED = {
    "nothing shared": (mixed(MADE, REAL, MORE), []),
    "validation in the reference": (
        mixed(MADE, REAL, np.concatenate([MORE, REAL[:7]])),
        ["7 of 47 validation images are among the reference"],
    ),
    "validation in the generated": (
        mixed(MADE, REAL, np.concatenate([MADE[5:8], MORE])),
        ["3 of 43 validation images are among the generated"],
    ),
    "generated in the reference": (
        mixed(np.concatenate([MADE, REAL[:9]]), REAL),
        ["9 of 49 generated images are among the reference"],
    ),
    "generated is the reference": (
        mixed(REAL[::-1], REAL), ["all 40 generated images are among the reference"],
    ),
    "repeated": (mixed(MADE.repeat(2, 0), REAL), ["40 of 80 generated images repeat"]),
    "one image": (
        mixed(MADE[:1].repeat(40, 0), REAL),
        ["the generated images do not vary", "no width"],
    ),
    "one real image": (mixed(MADE, REAL[:1].repeat(40, 0)), ["the reference images do not vary"]),
}  # fmt: skip


@pytest.mark.parametrize("case", SHARED)
def test_shared_and_repeated_images_are_counted_in_a_note(case, tmp_path):
    sides, said = SHARED[case]
    result = plan(tmp_path, **sides).run()
    notes = [one for one in result["warnings"] if "poorly determined" not in one]
    notes = [one for one in notes if "FIDs of fewer images" not in one]
    assert len(notes) == len(said) and all(map(str.__contains__, notes, said)), notes
    assert json.loads((tmp_path / "scores.json").read_text())["warnings"] == result["warnings"]
    for metric in METRICS:
        if found := result["intervals"].get(metric.key):
            least, most = metric.range
            assert least <= found["low"] <= found["value"] <= found["high"] <= most, metric.key


REFUSED = {
    "validation is the generated": (mixed(MADE, REAL, MADE), "images are the generated;"),
    "of the generated, turned": (mixed(MADE, REAL, MADE[::-1]), "more.npz' are generated im"),
    "some generated": (mixed(MADE, REAL, MADE[3:9]), "are all among generated images"),
    "validation is the reference": (mixed(MADE, REAL, REAL), "are those of the reference;"),
    "of the reference, turned": (mixed(MADE, REAL, REAL[::-1]), "more.npz. are those of the ref"),
    "some of the reference": (mixed(MADE, REAL, REAL[3:9]), "all among those of the reference"),
    "one validation image": (mixed(MADE, REAL, MORE[:1]), "more.npz: metrics need at least 2"),
    "one real image": (mixed(MADE, REAL[:1]), "real.npz: metrics need at least 2"),
    "one image": (mixed(MADE[:1], REAL), "made.npz: metrics need at least 2"),
    "colored": (mixed(MADE, REAL, MORE.repeat(3, 3)), r"more.npz: .* takes .*not \[3, 28, 28\]"),
    "colored reference": (mixed(MADE, REAL.repeat(3, 3)), r"real.npz: .* takes images"),
    "NaN": (mixed(MADE, REAL, NAN[..., None]), "more.npz: arr_0 must lie in"),
    "two images for a line": (mixed(MADE[:2], REAL) | {"fid_infinity": True}, "at least 3 gene"),
}  # fmt: skip
LATE = ("of the generated, turned", "some", "of the reference, turned", "NaN", "two")


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_mended_leaves_no_job(case, tmp_path):
    options, said = REFUSED[case]
    with pytest.raises(InputError, match=said) as error:
        begun = plan(tmp_path, **options)
        assert case.startswith(LATE), "seen before any image is scored"
        begun.run()
    assert not hasattr(error.value, "__notes__")
    assert {path.suffix for path in tmp_path.iterdir()} == {".npz"}


def test_statistics_are_not_saved_where_the_scores_are_refused(tmp_path):
    with pytest.raises(InputError):
        plan(tmp_path, more=REAL[3:9], save_reference=tmp_path / "kept.npz").run()
    assert not (tmp_path / "kept.npz").exists()


@pytest.mark.parametrize("name", ["scores", "scores.v2", "scores.npz"])
def test_results_are_json(name, tmp_path):
    made, real = write(tmp_path, "made", MADE), write(tmp_path, "real", REAL)
    with pytest.raises(InputError, match=r"results are kept as \.json"):
        plan_evaluate(made, str(real), "fashion_mnist/plain", out=tmp_path / name)
