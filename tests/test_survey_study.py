"""Reading a study: names that are no plain text, and files that somebody else wrote."""

import hashlib
import json

import pytest
import torch
from survey_setup import SMALL, make_small

from burnish.errors import InputError
from burnish.samples import Samples
from burnish.storage.formats import write_samples
from burnish.survey.language import load_texts
from burnish.survey.make import make_study
from burnish.survey.options import SurveyOptions
from burnish.survey.study import load_study


def test_names_that_are_no_plain_text_are_escaped_and_the_study_can_be_read(tmp_path):
    odd = "\x1b[31m\udcff"
    names = [f"{odd}{n}.png" for n in range(12)]
    for folder in ("a", f"b{odd}"):
        samples = Samples(torch.rand(12, 3, 8, 8), None, torch.arange(12))
        write_samples(tmp_path / folder, [samples], 12, names)
    (tmp_path / f"{odd}.yaml").write_text(json.dumps(load_texts("en")))
    options = SurveyOptions(**SMALL, language=str(tmp_path / f"{odd}.yaml"))
    made = make_study({"a": tmp_path / "a", "b": tmp_path / f"b{odd}"}, tmp_path / "s", options)
    study = load_study(tmp_path / "s", images=True)
    assert study == made
    assert study.facts["sources"]["b"]["path"] == ascii(str(tmp_path / f"b{odd}"))
    assert {t.item for t in study.raters[0].trials} <= set(map(ascii, names))


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    return json.loads(
        (make_small(tmp_path_factory.mktemp("made")).folder / "study.json").read_text()
    )


TRIAL = "raters", 0, "trials", 0


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("systems",), ["baseline"], "two or more systems"),
        (("systems",), ["baseline", "refined", "refined"], "two or more systems"),
        (("raters",), [], "raters, each"),
        (("raters", 0, "trials"), [], "trials for each"),
        (("raters", 0, "token"), "other", "each with its own token"),
        ((*TRIAL, "left"), "unknown", "known systems"),
        ((*TRIAL, "images"), [], "expected 2 values"),
        ((*TRIAL, "kind"), "bogus", "unknown choice"),
        (("enlargement",), 0, "enlargement must be at least 1"),
        (("rules", "min_seconds"), -1, "min_seconds must be at least 0"),
        (("question",), " ", "a question"),
        (("texts",), {}, "all texts"),
        (("facts", "classes"), 5, "names of classes"),
    ],
)
def test_a_forged_study_is_refused_in_one_line(values, tmp_path, where, value, said):
    forged = json.loads(json.dumps(values))
    *path, last = where
    part = forged
    for key in path:
        part = part[key]
    part[last] = forged["raters"][1]["token"] if value == "other" else value
    del forged["sha256"]
    text = json.dumps(forged, sort_keys=True, separators=(",", ":"))
    forged["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (tmp_path / "study.json").write_text(json.dumps(forged))
    with pytest.raises(InputError, match=said) as refused:
        load_study(tmp_path)
    assert "\n" not in str(refused.value)
