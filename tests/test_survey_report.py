"""What a report says: whose votes count, and the numbers that follow from known votes."""

import csv
import json
from dataclasses import asdict

import pytest
from survey_setup import make_small

from burnish.cli.main import main
from burnish.errors import InputError
from burnish.survey.analysis import analyze
from burnish.survey.answers import Answer, read_answers
from burnish.survey.report import write_report


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_small(tmp_path_factory.mktemp("made"), raters=10, pairs_per_rater=10, catch=4)


@pytest.fixture
def study(made):
    yield made
    made.answers.unlink(missing_ok=True)


def side_of(trial, system):
    return "left" if trial.left == system else "right"


def answers_of(study, rater, wins, ties=0, failed=0, seconds=1.5, stop=None):
    """Answers of a rater who prefers the last system in the first ``wins`` pairs, then ties."""
    rows, pairs, checks = [], 0, 0
    for place, trial in enumerate(study.raters[rater].trials[:stop]):
        if trial.kind == "pair":
            winner = study.systems[-1 if pairs < wins else 0]
            choice = "tie" if wins <= pairs < wins + ties else side_of(trial, winner)
            pairs += 1
        elif trial.kind == "catch":
            good = {"left": "right", "right": "left"}[trial.spoiled]
            choice = ("tie" if checks % 2 else trial.spoiled) if checks < failed else good
            checks += 1
        else:
            choice = "tie"
        rows.append(Answer(rater, place, choice, seconds, f"nonce-{place:04}", "now"))
    return rows


def all_answers(study):
    return [
        *answers_of(study, 0, wins=6),
        *answers_of(study, 1, wins=8),
        *answers_of(study, 2, wins=6, ties=2),  # 7 of 10
        *answers_of(study, 3, wins=0, failed=2),
        *answers_of(study, 4, wins=0, seconds=0.2),
        *answers_of(study, 5, wins=0, stop=6),
        *answers_of(study, 6, wins=7, failed=1),
        Answer(7, -1, "join", 0, "nonce-join", "now"),
    ]


def test_the_share_and_its_interval_follow_from_the_raters_that_count(study):
    found = analyze(study, all_answers(study))
    (contest,) = found["contests"]
    assert (found["places"], found["raters_came"], found["raters_counted"]) == (10, 7, 4)
    assert contest["share"] == pytest.approx(0.7)
    half = 3.18245 * (0.02 / 3) ** 0.5 / 2  # t of 3 degrees, s of .6 .8 .7 .7, root of 4
    assert (contest["low"], contest["high"]) == pytest.approx((0.7 - half, 0.7 + half), abs=1e-5)
    assert (contest["for"], contest["cannot_tell"], contest["opposed"]) == (27, 2, 11)
    assert contest["votes"] == found["votes"] == 40
    assert found["side"]["left"] + found["side"]["right"] == 38
    assert sum(row["votes"] for row in found["classes"]) == 40
    assert found["power"]["measured"] is False and found["power"]["pairs"] == 10
    assert found["verdict"] == "People prefer refined"
    assert (
        "4 raters preferred refined to baseline in 70.0 % of their votes (on average; 40"
        in found["words"]
    )


def test_raters_who_do_not_count_are_named_with_the_reason(study):
    found = analyze(study, all_answers(study))
    why = {row["rater"]: row["excluded"] for row in found["raters"]}
    assert why == {
        0: "", 1: "", 2: "", 6: "",
        3: "passed 2 of 4 attention checks",
        4: "took 0.20 s a pair",
        5: "answered 4 of 10 pairs",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wins", "verdict"),
    [
        ([], "Nothing is known yet"),
        ([9], "One rater is not enough"),
        ([9, 8, 9], "People prefer refined"),
        ([1, 2, 1], "People prefer baseline"),
        ([1, 9, 5], "No clear preference"),
    ],
)
def test_the_verdict_is_where_the_interval_is(study, wins, verdict):
    answers = [a for rater, count in enumerate(wins) for a in answers_of(study, rater, count)]
    assert analyze(study, answers)["verdict"] == verdict


def test_raters_who_agree_to_the_last_vote_do_not_make_the_interval_a_point(study):
    answers = [a for rater in range(3) for a in answers_of(study, rater, wins=10)]
    (contest,) = analyze(study, answers)["contests"]
    assert contest["share"] == contest["high"] == 1 and 0.85 < contest["low"] < 0.95


def test_more_than_two_systems_get_strengths(tmp_path):
    study = make_small(tmp_path, ("a", "b", "c"), raters=6, pairs_per_rater=12)
    rows = []
    for rater in range(6):
        for place, trial in enumerate(study.raters[rater].trials):
            best = max(trial.left, trial.right)
            choice = {"left": "right", "right": "left"}.get(trial.spoiled) or side_of(trial, best)
            rows.append(Answer(rater, place, choice, 1.0, f"nonce-{place:04}", "now"))
    found = analyze(study, rows)
    assert [row["system"] for row in found["strengths"]] == ["c", "b", "a"]
    assert [(r["against"], r["system"], r["share"]) for r in found["contests"]] == [
        ("a", "b", 1.0), ("a", "c", 1.0), ("b", "c", 1.0),
    ]  # fmt: skip
    assert found["classes"] == [] and found["verdict"] == "People prefer c"


def test_the_command_writes_a_page_a_table_and_numbers(study, tmp_path, monkeypatch, capsys):
    answers = all_answers(study)
    lines = [json.dumps(asdict(answer)) + "\n" for answer in answers]
    study.answers.write_text("".join(lines) + lines[0][:20])  # a vote is just being written
    assert len(read_answers(study)[0]) == len(answers)
    monkeypatch.chdir(tmp_path)
    command = ["survey", "report", str(study.folder), "--out", "page.html"]
    main([*command, "--csv", "votes.csv", "--json", "numbers.json"])
    assert "70.0 % of their votes" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers == json.loads(json.dumps(analyze(study, answers)))
    rows = list(csv.DictReader((tmp_path / "votes.csv").open()))
    assert len(rows) == len(answers) - 1  # one only joined
    chosen = [row["chosen"] for row in rows if row["kind"] == "pair" and not row["excluded"]]
    assert (chosen.count("refined"), chosen.count(""), chosen.count("baseline")) == (27, 2, 11)
    page = (tmp_path / "page.html").read_text()
    for said in ("People prefer refined", "70.0 %", "passed 2 of 4 attention checks", "<svg"):
        assert said in page
    assert "http" not in page and "<script" not in page


@pytest.mark.parametrize("flag", ["--out", "--csv", "--json"])
def test_a_file_that_exists_is_replaced_only_by_force(study, tmp_path, monkeypatch, capsys, flag):
    monkeypatch.chdir(tmp_path)
    name = {"--out": "survey.html", "--csv": "votes.csv", "--json": "numbers.json"}[flag]
    (tmp_path / name).write_text("mine")
    command = ["survey", "report", str(study.folder)]
    command += [] if flag == "--out" else [flag, name]  # survey.html is the default
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert f"{name} exists already" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    main([*command, "--force"])
    assert (tmp_path / name).read_text() != "mine"


def test_markup_in_names_and_questions_stays_text(tmp_path):
    evil = "<script>alert(1)</script>"
    study = make_small(tmp_path, ("baseline", evil), question=f"{evil}?")
    rows = [a for rater in range(2) for a in answers_of(study, rater, wins=3 + rater)]
    study.answers.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))
    write_report(study.folder, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert evil not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("page.txt", None, None), "suffix must be .html"),
        (("page.html", "votes.txt", None), "suffix must be .csv"),
        (("page.html", None, "study/study.json"), "replace its own input"),
    ],
)
def test_targets_that_cannot_be_are_refused_before_anything_is_written(study, names, said):
    folder = study.folder.parent
    out, table, numbers = (name and folder / name for name in names)
    with pytest.raises(InputError, match=said):
        write_report(study.folder, out, table, numbers)
    assert not (folder / "page.html").exists()
