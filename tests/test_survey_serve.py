"""Serving a study: what raters can tell, what is refused, and that no answer is ever lost."""

import errno
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from survey_setup import make_small

from burnish.errors import InputError
from burnish.survey import serve
from burnish.survey.answers import AnswerFile, read_answers
from burnish.survey.serve import open_survey
from burnish.web.server import Server


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_small(tmp_path_factory.mktemp("made"))


@pytest.fixture
def study(made):
    """A study without answers."""
    yield made
    for name in ("answers.jsonl", "answers.torn", "refused.log"):
        (made.folder / name).unlink(missing_ok=True)


@pytest.fixture
def server(study):
    survey, server = open_survey(study.folder, port=0)
    with server:
        yield server
    survey.close()


def ask(server, method, path, body=None, **headers):
    """Return status, body and headers; ``server`` has a host and a port."""
    client = http.client.HTTPConnection(server.host, server.port, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, dict):
        body, named = json.dumps(body), {"Content-Type": "application/json", **named}
    client.request(method, path, body, named)
    reply = client.getresponse()
    found = reply.status, reply.read(), dict(reply.headers)
    client.close()
    return found


def get(server, path):
    status, body, _ = ask(server, "GET", path)
    assert status == 200, body
    return json.loads(body)


def vote(trial: Any = 0, choice: Any = "left", nonce: Any = "nonce-0000", seconds: Any = 1.5):
    return {"trial": trial, "choice": choice, "seconds": seconds, "nonce": nonce}


def send(server, token, **values):
    status, body, _ = ask(server, "POST", f"/r/{token}/answer", vote(**values))
    return status, json.loads(body)["next"] if status == 200 else body.decode()


def link(study, rater=0):
    return f"/r/{study.raters[rater].token}"


def test_a_rater_votes_leaves_and_comes_back(study, server):
    token, asked = study.raters[0].token, len(study.raters[0].trials)
    for trial in range(asked):
        assert get(server, f"/r/{token}/state")["next"] == trial
        assert send(server, token, trial=trial, nonce=f"nonce-{trial:04}") == (200, trial + 1)
    assert send(server, token, trial=asked)[0] == 409
    answers, torn = read_answers(study)
    assert [(a.rater, a.trial, a.choice, a.seconds) for a in answers] == [
        (0, trial, "left", 1.5) for trial in range(asked)
    ]
    assert not torn and get(server, link(study, 1) + "/state")["next"] == 0


def test_nothing_but_random_names_tells_two_images_apart(study, server):
    pages, heads, lengths = set(), set(), set()
    secret = re.compile(r"baseline|refined|catch|spoil|blur|noise|label|item|\.npz|practi[^c]")
    for rater in study.raters:
        page = ask(server, "GET", f"/r/{rater.token}")
        state = get(server, f"/r/{rater.token}/state")
        assert state.keys() == {
            "question", "texts", "practice", "total", "enlargement", "trials", "next",
        }  # fmt: skip
        assert state["trials"] == [list(trial.images) for trial in rater.trials]
        told = json.dumps({k: v for k, v in state.items() if k not in ("texts", "practice")})
        assert not secret.search(told)
        pages.add(page[1])
        for trial in rater.trials:
            for name in trial.images:
                assert re.fullmatch("[0-9a-f]{32}", name)
                status, body, headers = ask(server, "GET", f"/r/{rater.token}/{name}.png")
                assert status == 200 and body == study.image(name).read_bytes()
                heads.add(tuple(headers.items()))
                lengths.add(len(body))
    assert len(pages) == len(heads) == len(lengths) == 1
    assert not secret.search(pages.pop().decode())
    assert not any(name in ("Date", "Last-Modified", "ETag", "Server") for name, _ in heads.pop())


def test_the_same_vote_twice_is_one_vote_and_another_one_is_refused(study, server):
    token = study.raters[0].token
    assert send(server, token) == (200, 1)
    assert send(server, token) == (200, 1)
    assert send(server, token, choice="right")[0] == 409
    assert send(server, token, nonce="another-one")[0] == 409
    assert send(server, token, trial=2)[0] == 409
    assert len(read_answers(study)[0]) == 1


def row(rater, trial, **values):
    """Return a line of the file of answers."""
    return json.dumps({"rater": rater, **vote(trial, **values), "time": ""})


def hostile(study):
    me, other = study.raters[0], study.raters[1]
    answer, mine = f"/r/{me.token}/answer", {name for t in me.trials for name in t.images}
    foreign = next(name for t in other.trials for name in t.images if name not in mine)
    json_type = {"Content_Type": "application/json"}
    return [
        ("GET", "/r/" + "0" * 32, None, {}, 404),
        ("GET", "/r/..", None, {}, 404),
        ("GET", "/r/%2e%2e/%2e%2e/study.json", None, {}, 404),
        ("GET", "/../study.json", None, {}, 404),
        ("GET", "/study.json", None, {}, 404),
        ("GET", "/answers.jsonl", None, {}, 404),
        ("GET", "/", None, {}, 404),
        ("GET", "/entrance", None, {}, 404),
        ("POST", "/join", {}, {}, 403),
        ("GET", f"/r/{me.token}/{foreign}.png", None, {}, 404),
        ("GET", f"/r/{me.token}/..%2fstudy.json.png", None, {}, 404),
        ("GET", f"/r/{me.token}/" + "0" * 32 + ".png", None, {}, 404),
        ("GET", answer, None, {}, 405),
        ("DELETE", f"/r/{me.token}", None, {}, 405),
        ("PUT", answer, vote(), {}, 405),
        ("POST", "/r/" + "0" * 32 + "/answer", vote(), {}, 404),
        ("POST", answer, b"x" * 2001, json_type, 413),
        ("POST", answer, b"choice=left", {"Content_Type": "text/plain"}, 415),
        ("POST", answer, b"{", json_type, 400),
        ("POST", answer, b"[" * 1900, json_type, 400),
        ("POST", answer, b'{"trial": 0, "trial": 1}', json_type, 400),
        ("POST", answer, {**vote(), "rater": 1}, {}, 400),
        ("POST", answer, vote(choice="<script>alert(1)</script>"), {}, 400),
        ("POST", answer, vote(choice="join"), {}, 400),
        ("POST", answer, vote(choice=["left"]), {}, 400),
        ("POST", answer, vote(nonce="<b>\n\r12345"), {}, 400),
        ("POST", answer, vote(nonce="short"), {}, 400),
        ("POST", answer, vote(nonce=12345678), {}, 400),
        ("POST", answer, vote(trial=True), {}, 400),
        ("POST", answer, vote(trial=0.0), {}, 400),
        ("POST", answer, vote(trial=-1), {}, 409),
        ("POST", answer, vote(trial=10**30), {}, 409),
        ("POST", answer, vote(seconds=-1), {}, 400),
        ("POST", answer, vote(seconds=float("nan")), {}, 400),
        ("POST", answer, vote(seconds=10**400), {}, 400),
        ("POST", answer, vote(seconds="1"), {}, 400),
        ("POST", answer, vote(), {"Origin": "http://evil.example"}, 403),
        ("POST", answer, vote(), {"Host": "evil.example"}, 421),
    ]  # fmt: skip


def test_hostile_requests_are_refused_and_logged_and_nothing_is_lost(study, server):
    token = study.raters[0].token
    requests = hostile(study)
    for method, path, body, headers, status in requests:
        assert ask(server, method, path, body, **headers)[0] == status, (method, path, body)
    log = [json.loads(line) for line in (study.folder / "refused.log").read_text().splitlines()]
    assert [row["status"] for row in log] == [status for *_, status in requests]
    assert all(row["client"] == "127.0.0.1" and len(row["path"]) <= 300 for row in log)
    assert read_answers(study) == ([], b"")
    assert send(server, token) == (200, 1)


def test_the_log_of_refusals_fills_no_disk(study, server, monkeypatch):
    monkeypatch.setattr(serve, "MAX_LOG", 1000)
    for _ in range(20):
        ask(server, "GET", "/" + "x" * 1000)
    assert 1000 < (study.folder / "refused.log").stat().st_size < 2000


def test_of_votes_at_the_same_time_one_counts(study, server):
    tokens = [rater.token for rater in study.raters]
    start = threading.Barrier(12)

    def race(n):
        start.wait()
        return send(server, tokens[n % 4], nonce=f"nonce-{n:04}")[0]

    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(race, range(12)))
    assert sorted(statuses) == [200] * 4 + [409] * 8
    assert sorted(answer.rater for answer in read_answers(study)[0]) == [0, 1, 2, 3]


def test_a_vote_that_cannot_be_written_is_not_acknowledged(study, server, monkeypatch):
    token, write = study.raters[0].token, os.write
    send(server, token)

    def full(file, data):
        write(file, data[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("burnish.survey.answers.os.write", full)
        assert send(server, token, trial=1)[0] == 503
    assert get(server, f"/r/{token}/state")["next"] == 1
    assert send(server, token, trial=1) == (200, 2)
    assert [answer.trial for answer in read_answers(study)[0]] == [0, 1]


def test_a_vote_is_on_the_disk_before_it_is_acknowledged(study, server, monkeypatch):
    token, sync, sizes = study.raters[0].token, os.fsync, []

    def recorded(file):
        sizes.append(os.fstat(file).st_size)
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr("burnish.survey.answers.os.fsync", recorded)
        assert send(server, token) == (200, 1)
        assert sizes == [study.answers.stat().st_size]

        def fail(file):
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr("burnish.survey.answers.os.fsync", fail)
        assert send(server, token, trial=1)[0] == 503
    assert len(read_answers(study)[0]) == 1


def test_a_line_that_was_cut_off_is_set_aside(study):
    line = row(rater=0, trial=0) + "\n"
    study.answers.write_text(line + line[:30])
    file = AnswerFile(study)
    file.close()
    assert study.answers.read_text() == line
    assert (study.folder / "answers.torn").read_text() == line[:30] + "\n"
    survey, server = open_survey(study.folder, port=0)
    with server:
        assert get(server, link(study) + "/state")["next"] == 1
    survey.close()


@pytest.mark.parametrize(
    "line",
    [
        "nonsense", "{}", "[]", "[" * 100_000, row(4, 0), row(0, 1), row(0, -1),
        row(0, 0, nonce=[]),
    ],
    ids=range(8),
)  # fmt: skip
def test_answers_that_are_not_of_the_study_are_not_skipped(study, line):
    study.answers.write_text(f"{line}\n")
    with pytest.raises(InputError, match="line 1"):
        open_survey(study.folder, port=0)
    assert study.answers.read_text() == f"{line}\n"


def test_a_study_is_served_by_one_process(study, server):
    with pytest.raises(InputError, match="another process"):
        open_survey(study.folder, port=0)


def test_places_are_given_out_where_that_is_wanted(study):
    survey, server = open_survey(study.folder, port=0, join=True)
    with server:
        assert ask(server, "GET", "/")[0] == 200
        assert "trials" not in get(server, "/entrance")
        assert send(server, study.raters[1].token) == (200, 1)
        links = [json.loads(ask(server, "POST", "/join", {})[1])["link"] for _ in range(4)]
    survey.close()
    assert links == [link(study, 0), link(study, 2), link(study, 3), None]
    survey, server = open_survey(study.folder, port=0, join=True)
    with server:
        assert json.loads(ask(server, "POST", "/join", {})[1])["link"] is None
    survey.close()


def test_raters_may_come_by_the_name_of_a_proxy(study):
    survey, server = open_survey(study.folder, port=0, url="https://survey.example.org")
    with server:
        host = {"Host": "survey.example.org", "Origin": "https://survey.example.org"}
        assert ask(server, "POST", link(study) + "/answer", vote(), **host)[0] == 200
    survey.close()


@pytest.mark.parametrize(
    "url",
    [
        "survey.example.org", "ftp://a.example", "http://[", "http://a:b", "http://a:0",
        "http://a:65536", "https://a.example/survey", "https://a.example/?x", "http://me@a", "http://",
        " http://a",
    ],
)  # fmt: skip
def test_what_is_no_address_of_a_proxy_is_refused(study, url):
    with pytest.raises(InputError, match="give scheme and host only"):
        open_survey(study.folder, port=0, url=url)
    assert not study.answers.exists()


def test_a_port_that_cannot_be_had_leaves_nothing(study):
    with Server([]) as other:
        for port in (other.port, 70_000, -1):
            with pytest.raises(InputError, match="cannot serve"):
                open_survey(study.folder, port=port)
    assert not study.answers.exists()


class Process:
    """``burnish survey serve`` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "burnish", "survey", "serve", str(folder), "--port=0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.lines = []
        while not self.lines or "so far" not in self.lines[-1]:
            self.lines.append(self.process.stdout.readline())
            assert self.lines[-1], "the server has ended"
        self.host, port = re.findall(r"http://([\d.]+):(\d+)/r/", self.lines[1])[0]
        self.port = int(port)

    def end(self, number):
        self.process.send_signal(number)
        self.process.communicate(timeout=20)
        return self.process.returncode


def test_a_killed_process_loses_no_acknowledged_answer(study):
    server, acknowledged = Process(study.folder), [[] for _ in study.raters]
    enough = threading.Event()

    def rate(place):
        rater = study.raters[place]
        for trial in range(len(rater.trials)):
            try:
                status, following = send(server, rater.token, trial=trial, nonce=f"n-{trial:08}")
            except (OSError, http.client.HTTPException):
                return
            assert (status, following) == (200, trial + 1)
            acknowledged[place].append(trial)
            if sum(map(len, acknowledged)) > 12:
                enough.set()

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(rate, place) for place in range(4)]
        assert enough.wait(20)
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        [one.result() for one in done]
    kept = {(answer.rater, answer.trial) for answer in read_answers(study)[0]}
    assert kept >= {(place, trial) for place, own in enumerate(acknowledged) for trial in own}
    assert sum(map(len, acknowledged)) > 12
    # The next process goes on, and a vote whose reply got lost may be sent again.
    server = Process(study.folder)
    token, count = study.raters[0].token, len([place for place, _ in kept if place == 0])
    assert get(server, f"/r/{token}/state")["next"] == count
    assert send(server, token, trial=count - 1, nonce=f"n-{count - 1:08}") == (200, count)
    assert server.end(signal.SIGINT) != 0
    assert f"{len(kept)} votes by" in server.lines[-1]
