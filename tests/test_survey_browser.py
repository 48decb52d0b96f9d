"""The page of raters in a real browser: vote, reload, go on, finish; on a phone, too."""

import threading
from collections import Counter

import pytest
from browser import Browser
from survey_setup import make_small

from burnish.survey.answers import read_answers
from burnish.survey.serve import Survey
from burnish.web.server import Server


@pytest.fixture
def study(tmp_path):
    return make_small(tmp_path, raters=2, pairs_per_rater=20)


@pytest.fixture
def served(study):
    """The server of a study, and the paths that were asked for, in order."""
    survey, asked, lock = Survey(study), [], threading.Lock()

    class Recording(Server):
        def reply(self, method, target, headers, body, client):
            with lock:
                asked.append(target)
            return super().reply(method, target, headers, body, client)

    with Recording(survey.routes) as server:
        yield server, asked
    survey.close()


def vote(browser, number, press, what):
    browser.wait(f"open && state.next === {number}")
    press(what)
    browser.wait(f"state.next === {number + 1}")


def test_a_rater_votes_reloads_goes_on_and_finishes(study, served):
    server, asked = served
    rater = study.raters[0]
    keys = {"left": "ArrowLeft", "right": "ArrowRight", "tie": " "}
    choices = [("left", "right", "tie", "right")[n % 4] for n in range(len(rater.trials))]
    with Browser() as browser:
        browser.open(f"{server.url}r/{rater.token}")
        browser.wait("!document.getElementById('welcome').hidden")
        assert "You will see 23 pairs" in browser.text()
        browser.press("ArrowLeft")  # nothing to vote on yet
        browser.click("#start")
        for number, choice in enumerate(choices):
            if number == 11:
                browser.reload()
            press, what = browser.press, keys[choice]
            if number % 3 == 0:
                press, what = browser.click, f"#{choice}"
            vote(browser, number, press, what)
        browser.wait("document.getElementById('pair').hidden")
        assert "Thank you" in browser.text()
        browser.reload()
        browser.wait("document.body.innerText.includes('Thank you')")
        assert not browser.complaints()
    answers = read_answers(study)[0]
    assert [answer.choice for answer in answers] == choices
    assert all(0 < answer.seconds < 30 for answer in answers)
    # Each image once; twice at most those that the reload asked for again.
    shown = Counter(path.rpartition("/")[2][:-4] for path in asked if path.endswith(".png"))
    assert shown.keys() == {name for trial in rater.trials for name in trial.images}
    again = {name for name, count in shown.items() if count == 2}
    assert max(shown.values()) <= 2
    assert again <= {name for trial in rater.trials[11:13] for name in trial.images}


def test_both_images_fit_a_phone_at_one_size_on_whole_pixels(study, served):
    server, _ = served
    with Browser(375, 667, phone=True) as browser:
        browser.open(f"{server.url}r/{study.raters[1].token}")
        browser.wait("!document.getElementById('welcome').hidden")
        browser.click("#start")
        browser.wait("open")
        sizes = browser.run(
            "return ['left', 'right'].map(side => {"
            " const box = document.getElementById(side + '-image').getBoundingClientRect();"
            " return [box.width, box.height, box.bottom, box.right]; })"
        )
        tie = browser.run("return document.getElementById('tie').getBoundingClientRect().bottom")
        (left, right), side = sizes, sizes[0][0]
        assert left[:2] == right[:2] == [side, side] and side >= 128
        assert 2 * side % 16 == 0  # images of 16 x 16, two dots of the screen per CSS pixel
        assert max(left[2], right[2], tie) <= 667 and max(left[3], right[3]) <= 375
        browser.click("#right")
        browser.wait("state.next === 1")
        assert not browser.complaints()


def test_whoever_opens_the_bare_address_gets_a_place_and_reads_the_language(tmp_path):
    study = make_small(tmp_path, raters=1, language="de")
    survey = Survey(study, join=True)
    with Server(survey.routes) as server, Browser() as browser:
        browser.open(server.url)
        browser.wait("!document.getElementById('welcome').hidden")
        assert "Sie sehen 9 Bildpaare" in browser.text()
        browser.click("#start")
        browser.wait("location.pathname.length > 1 && open")
        assert browser.run("return [document.documentElement.lang, document.title]") == [
            "de", study.question,
        ]  # fmt: skip
        vote(browser, 0, browser.press, "ArrowRight")
        browser.open(server.url)
        browser.wait("!document.getElementById('welcome').hidden")
        browser.click("#start")
        browser.wait("document.body.innerText.includes('vergeben')")
    survey.close()
    assert [a.choice for a in read_answers(study)[0]] == ["join", "right"]


def test_a_lost_connection_loses_no_vote_and_makes_no_second_one(study, served):
    server, _ = served
    with Browser() as browser:
        browser.open(f"{server.url}r/{study.raters[0].token}")
        browser.wait("!document.getElementById('welcome').hidden")
        browser.click("#start")
        browser.wait("open")
        # The vote arrives, its reply does not.
        browser.run(
            "const real = window.fetch; let lost = false;"
            "window.fetch = async (...all) => { const reply = await real(...all);"
            " if (!lost) { lost = true; throw new TypeError('offline'); } return reply; }"
        )
        vote(browser, 0, browser.press, "ArrowRight")
        vote(browser, 1, browser.press, "ArrowLeft")
    answers = read_answers(study)[0]
    assert [(answer.trial, answer.choice) for answer in answers] == [(0, "right"), (1, "left")]
