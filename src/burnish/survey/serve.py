"""Serve a study to its raters."""

import json
import re
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from burnish.errors import InputError
from burnish.survey.answers import CHOICES, NONCE, Answer, AnswerFile, is_duration, now
from burnish.survey.study import Study, load_study
from burnish.web.message import Refused, Reply, Request, Route
from burnish.web.server import Server

MAX_LOG = 10_000_000
_PROXY = re.compile(
    r"https?://(?P<name>[a-z0-9][a-z0-9._-]*|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?/?", re.I
)


class Survey:
    """What raters can ask of a study; safe to use from several threads.

    All pages are one page, and all that it shows comes as JSON: nothing but random names tells
    the two images of a pair apart, and nothing tells a check from a pair.

    Args:
        study: The study, with its images checked.
        join: Whether the bare address gives out places; otherwise raters need their own links.

    Raises:
        InputError: Another process serves the study, or its answers are not of it.
    """

    def __init__(self, study: Study, join: bool = False) -> None:
        self.study, self.join = study, join
        self._places = {rater.token: place for place, rater in enumerate(study.raters)}
        self._shown = [{n for t in one.trials for n in t.images} for one in study.raters]
        self._file = AnswerFile(study)
        self._votes: list[list[Answer]] = [[] for _ in study.raters]
        self._joined = set()
        for answer in self._file.answers:
            self._remember(answer)
        self._locks = [threading.Lock() for _ in study.raters]
        self._join_lock, self._log_lock = threading.Lock(), threading.Lock()
        self._assets = {
            name: (files("burnish.survey") / "page" / name).read_bytes()
            for name in ("survey.html", "survey.css", "survey.js")
        }

    @property
    def routes(self) -> list[Route]:
        """The routes of the server."""
        return [
            Route("GET", "/", self._entrance),
            Route("GET", "/survey.css", self._asset("survey.css", "text/css")),
            Route("GET", "/survey.js", self._asset("survey.js", "text/javascript")),
            Route("GET", "/entrance", self._entrance_texts),
            Route("POST", "/join", self._take_place),
            Route("GET", "/r/{token}", self._page),
            Route("GET", "/r/{token}/state", self._state),
            Route("POST", "/r/{token}/answer", self._answer),
            Route("GET", "/r/{token}/{image}.png", self._image),
        ]

    def count(self) -> tuple[int, int]:
        """Return the number of votes, and of raters who have voted."""
        return sum(map(len, self._votes)), sum(map(bool, self._votes))

    def close(self) -> None:
        """Close the file of answers."""
        self._file.close()

    def log_refused(self, client: str, method: str, path: str, status: int, reason: str) -> None:
        """Append to ``refused.log``, up to a size that fills no disk; hostile text is escaped."""
        row = {
            "time": now(), "client": client, "method": method[:20], "path": path[:300],
            "status": status, "reason": reason[:300],
        }  # fmt: skip
        path_of_log = self.study.folder / "refused.log"
        # A log that cannot be written must not stop votes.
        with suppress(OSError), self._log_lock, path_of_log.open("a", encoding="ascii") as file:
            if file.tell() < MAX_LOG:
                file.write(json.dumps(row) + "\n")

    def _asset(self, name: str, kind: str) -> Callable[[Request], Reply]:
        return lambda request: Reply(self._assets[name], f"{kind}; charset=utf-8")

    def _entrance(self, request: Request) -> Reply:
        if not self.join:
            raise Refused(404, "please open the link that you were given")
        return Reply.of_html(self._assets["survey.html"].decode())

    def _entrance_texts(self, request: Request) -> Reply:
        if not self.join:
            raise Refused(404, "places are not given out here")
        return Reply.of_json(self._words())

    def _take_place(self, request: Request) -> Reply:
        if not self.join:
            raise Refused(403, "places are not given out here")
        request.json()
        with self._join_lock:
            for place, rater in enumerate(self.study.raters):
                if place in self._joined or self._votes[place]:
                    continue
                self._save(Answer(place, -1, "join", 0, secrets.token_hex(8), now()))
                return Reply.of_json({"link": f"/r/{rater.token}"})
        return Reply.of_json({"link": None})

    def _words(self) -> dict[str, Any]:
        trials = self.study.raters[0].trials
        practice = sum(trial.kind == "practice" for trial in trials)
        return {
            "question": self.study.question, "texts": self.study.texts,
            "practice": practice, "total": len(trials), "enlargement": self.study.enlargement,
        }  # fmt: skip

    def _place(self, request: Request) -> int:
        place = self._places.get(request.values["token"])
        if place is None:
            raise Refused(404, "this link is not valid")
        return place

    def _page(self, request: Request) -> Reply:
        self._place(request)
        return Reply.of_html(self._assets["survey.html"].decode())

    def _state(self, request: Request) -> Reply:
        place = self._place(request)
        trials = [trial.images for trial in self.study.raters[place].trials]
        return Reply.of_json({**self._words(), "trials": trials, "next": len(self._votes[place])})

    def _image(self, request: Request) -> Reply:
        name = request.values["image"]
        if name not in self._shown[self._place(request)]:
            raise Refused(404, "there is no such image")
        return Reply(self.study.image(name).read_bytes(), "image/png")

    def _answer(self, request: Request) -> Reply:
        place, vote = self._place(request), request.json()
        if vote.keys() != {"trial", "choice", "seconds", "nonce"}:
            raise Refused(400, "a vote has trial, choice, seconds and nonce")
        trial, choice, seconds, nonce = (vote[k] for k in ("trial", "choice", "seconds", "nonce"))
        if type(trial) is not int or choice not in CHOICES or not is_duration(seconds):
            raise Refused(400, "the vote is not one that the page sends")
        if not isinstance(nonce, str) or not NONCE.fullmatch(nonce):
            raise Refused(400, "the nonce is not one that the page draws")
        votes, asked = self._votes[place], len(self.study.raters[place].trials)
        with self._locks[place]:
            if 0 <= trial < len(votes):
                if (votes[trial].nonce, votes[trial].choice) != (nonce, choice):
                    raise Refused(409, "there is a vote on this pair already")
            elif trial != len(votes) or trial >= asked:
                raise Refused(409, "this pair is not the next one")
            else:
                self._save(Answer(place, trial, choice, round(float(seconds), 3), nonce, now()))
            return Reply.of_json({"next": len(votes)})

    def _save(self, answer: Answer) -> None:
        try:
            self._file.append(answer)
        except OSError as error:
            raise Refused(503, "the answer could not be saved; please try again") from error
        self._remember(answer)

    def _remember(self, answer: Answer) -> None:
        if answer.choice == "join":
            self._joined.add(answer.rater)
        else:
            self._votes[answer.rater].append(answer)


def open_survey(
    folder: Path, host: str = "127.0.0.1", port: int = 8000, url: str = "", join: bool = False
) -> tuple[Survey, Server]:
    """Return a survey and the server that serves it once asked to.

    Args:
        folder: A study.
        host: Address to listen on.
        port: Its port; 0 for a free one.
        url: The address under which raters come, if a proxy is in front, e.g.
            ``https://survey.example.org``.
        join: Whether whoever opens the bare address gets a place.

    Raises:
        InputError: The study or the address cannot be used.
    """
    names, study = _names(url), load_study(folder, images=True)
    # The port first: one that cannot be had leaves nothing in the folder.
    server = Server([], host, port, names, max_body=2000)
    try:
        survey = Survey(study, join)
    except BaseException:
        server.close()
        raise
    server.routes, server.refused = survey.routes, survey.log_refused
    return survey, server


def _names(url: str) -> list[str]:
    """Return the name of the host under which raters come, if one is given."""
    found = _PROXY.fullmatch(url)
    if url and (not found or int(found["port"] or 1) not in range(1, 2**16)):
        raise InputError(
            f"{url!r} is no address of a proxy; give scheme and host only, such as "
            "https://survey.example.org"
        )
    return [found["name"].strip("[]")] if found else []
