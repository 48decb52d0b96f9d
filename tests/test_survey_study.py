"""Reading a study: names that are no plain text, and files that somebody else wrote."""

import json

import torch
from survey_setup import SMALL

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
