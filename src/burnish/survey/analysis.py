"""From answers to numbers: whose votes count, what they say, and how sure that is."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from burnish.survey.answers import Answer
from burnish.survey.distributions import coin_test
from burnish.survey.statistics import (
    Interval,
    bradley_terry,
    crossed_bootstrap,
    design_effect,
    intraclass_correlation,
    raters_needed,
    t_interval,
    wilson_interval,
)
from burnish.survey.study import Study, Trial

# Assumed where too few raters came to estimate it; the middle of four studies of people.
USUAL_CORRELATION = 0.05
ENOUGH_RATERS = 8
POWER_SHARES = (0.52, 0.55, 0.6, 0.65, 0.7)
STRENGTH_DRAWS = 1000


@dataclass(frozen=True)
class Vote:
    """A vote on a pair that counts."""

    rater: int
    trial: Trial
    choice: str
    seconds: float

    def score(self, system: str) -> float:
        """Return 1 for a vote for the system, 0 for one against it, 1/2 for "cannot tell"."""
        return 0.5 if self.choice == "tie" else float(getattr(self.trial, self.choice) == system)

    @property
    def systems(self) -> frozenset[str]:
        """The two systems."""
        return frozenset((self.trial.left, self.trial.right))


def analyze(study: Study, answers: Sequence[Answer]) -> dict[str, Any]:
    """Return what a study found, as plain values: the JSON of the report.

    Args:
        study: The study.
        answers: Its answers, all of them.
    """
    votes = [_vote(study, answer) for answer in answers if answer.choice != "join"]
    by_rater: dict[int, list[Vote]] = {}
    for vote in votes:
        by_rater.setdefault(vote.rater, []).append(vote)
    raters = [_rater(study, place, by_rater[place]) for place in sorted(by_rater)]
    counted = {row["rater"] for row in raters if not row["excluded"]}
    pairs = [v for v in votes if v.trial.kind == "pair" and v.rater in counted]
    contests = [_contest(pairs, *names) for names in combinations(study.systems, 2)]
    main = contests[len(study.systems) - 2]  # the first system and the last
    result: dict[str, Any] = {
        "study_sha256": study.values()["sha256"],
        "question": study.question,
        "systems": list(study.systems),
        "places": len(study.raters),
        "raters_came": len(raters),
        "raters_counted": len(counted),
        "votes": len(pairs),
        "contests": contests,
        "strengths": _strengths(study, pairs) if len(study.systems) > 2 and pairs else [],
        "classes": _classes(study, pairs) if len(study.systems) == 2 else [],
        "side": _side(pairs),
        **_correlation(study, pairs),
        "median_seconds": float(np.median([v.seconds for v in pairs])) if pairs else None,
        "raters": raters,
        "rules": vars(study.rules),
    }
    said, verdict = _words(main)
    return {**result, "power": _power(study, result), "verdict": verdict, "words": said}


def _vote(study: Study, answer: Answer) -> Vote:
    trial = study.raters[answer.rater].trials[answer.trial]
    return Vote(answer.rater, trial, answer.choice, answer.seconds)


def _rater(study: Study, place: int, own: Sequence[Vote]) -> dict[str, Any]:
    """Return what is known of a rater, and why the votes do not count."""
    pairs = [vote for vote in own if vote.trial.kind == "pair"]
    checks = [vote for vote in own if vote.trial.kind == "catch"]
    # Whoever cannot tell an image from noise has not looked.
    passed = sum(vote.choice not in (vote.trial.spoiled, "tie") for vote in checks)
    asked = sum(trial.kind == "pair" for trial in study.raters[place].trials)
    seconds = float(np.median([vote.seconds for vote in pairs])) if pairs else None
    rules, why = study.rules, []
    if not pairs or len(pairs) < rules.min_answered * asked:
        why.append(f"answered {len(pairs)} of {asked} pairs")
    if passed < rules.min_catch_share * len(checks):
        why.append(f"passed {passed} of {len(checks)} attention checks")
    if seconds is not None and seconds < rules.min_seconds:
        why.append(f"took {seconds:.2f} s a pair")
    last = study.systems[-1]
    scores = [vote.score(last) for vote in pairs if last in vote.systems]
    return {
        "rater": place, "pairs": len(pairs), "checks_passed": passed, "checks": len(checks),
        "median_seconds": seconds, "share": float(np.mean(scores)) if scores else None,
        "excluded": "; ".join(why),
    }  # fmt: skip


def _by_rater(votes: Sequence[Vote], system: str) -> list[list[float]]:
    """Return the scores of each rater."""
    found: dict[int, list[float]] = {}
    for vote in votes:
        found.setdefault(vote.rater, []).append(vote.score(system))
    return list(found.values())


def _over_raters(votes: Sequence[Vote], system: str) -> dict[str, Any]:
    """Return the mean of the raters' shares and its interval, as far as there is one."""
    shares = [float(np.mean(scores)) for scores in _by_rater(votes, system)]
    if not shares:
        return {"share": None, "low": None, "high": None, "raters": 0}
    found: Interval | None = t_interval(shares) if len(shares) > 1 else None
    if found and np.ptp(shares) == 0:
        # Raters who agree to the last vote would have an interval without a width.
        found = wilson_interval(sum(v.score(system) for v in votes), len(votes))
    low, high = (max(0.0, float(found.low)), min(1.0, float(found.high))) if found else (None,) * 2
    return {"share": float(np.mean(shares)), "low": low, "high": high, "raters": len(shares)}


def _contest(pairs: Sequence[Vote], against: str, system: str) -> dict[str, Any]:
    """Return what votes say about two systems."""
    votes = [vote for vote in pairs if vote.systems == {against, system}]
    scores = [vote.score(system) for vote in votes]
    row: dict[str, Any] = {
        "system": system, "against": against, **_over_raters(votes, system), "votes": len(votes),
        "for": scores.count(1.0), "cannot_tell": scores.count(0.5), "opposed": scores.count(0.0),
        "crossed": None, "if_independent": None,
    }  # fmt: skip
    if len(votes) > 1:
        raters, items = [vote.rater for vote in votes], [vote.trial.item for vote in votes]
        row["crossed"] = _bounds(crossed_bootstrap(raters, items, scores))
        row["if_independent"] = _bounds(wilson_interval(sum(scores), len(votes)))
    return row


def _bounds(interval: Interval) -> list[float]:
    return [float(interval.low), float(interval.high)]


def _classes(study: Study, pairs: Sequence[Vote]) -> list[dict[str, Any]]:
    names = study.facts.get("classes") or []
    labels = sorted({vote.trial.label for vote in pairs if vote.trial.label is not None})
    rows = []
    for label in labels:
        votes = [vote for vote in pairs if vote.trial.label == label]
        found = _over_raters(votes, study.systems[1])
        name = names[label] if 0 <= label < len(names) else str(label)
        rows.append({"label": label, "class": name, "votes": len(votes), **found})
    return rows


def _side(pairs: Sequence[Vote]) -> dict[str, Any]:
    """Return whether raters prefer a side, whatever it shows; systems change sides evenly."""
    count = Counter(vote.choice for vote in pairs)
    left, right = count["left"], count["right"]
    return {"left": left, "right": right, "p": coin_test(left, left + right)}


def _correlation(study: Study, pairs: Sequence[Vote]) -> dict[str, Any]:
    """Return how alike votes of one rater are, on the first contest, if enough raters came."""
    first, second = study.systems[0], study.systems[-1]
    scores = _by_rater([v for v in pairs if v.systems == {first, second}], second)
    if len(scores) < 2 or max(map(len, scores)) < 2:
        return {"correlation": None, "design_effect": None}
    found = intraclass_correlation(scores)
    size = float(np.mean([len(row) for row in scores]))
    return {"correlation": found, "design_effect": design_effect(found, size)}


def _power(study: Study, result: dict[str, Any]) -> dict[str, Any]:
    """Return how many raters would find a true share, by the likeness of votes found here."""
    found: float | None = result["correlation"]
    known = found is not None and result["raters_counted"] >= ENOUGH_RATERS
    correlation = max(0.0, found) if found is not None and known else USUAL_CORRELATION
    asked = sum(trial.kind == "pair" for trial in study.raters[0].trials)
    each = max(1, round(asked / len(result["contests"])))
    rows = [{"share": p, "raters": raters_needed(p, each, correlation)} for p in POWER_SHARES]
    return {"pairs": each, "correlation": correlation, "measured": known, "rows": rows}


def _strengths(study: Study, pairs: Sequence[Vote]) -> list[dict[str, Any]]:
    """Return Bradley-Terry strengths and percentile intervals over other raters."""
    place = {name: n for n, name in enumerate(study.systems)}
    raters = {rater: n for n, rater in enumerate(sorted({vote.rater for vote in pairs}))}
    wins = np.zeros((len(raters), len(place), len(place)))
    for vote in pairs:
        left, right, row = place[vote.trial.left], place[vote.trial.right], raters[vote.rater]
        score = vote.score(vote.trial.left)
        wins[row, left, right] += score
        wins[row, right, left] += 1 - score
    found = bradley_terry(wins.sum(0))
    count = len(raters)
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), STRENGTH_DRAWS)
    low, high = np.quantile(bradley_terry(np.tensordot(drawn, wins, 1)), [0.025, 0.975], axis=0)
    order = sorted(place, key=lambda name: -found[place[name]])
    return [
        {"system": name, "strength": float(found[n]), "low": float(low[n]), "high": float(high[n])}
        for name, n in ((name, place[name]) for name in order)
    ]


def _words(row: dict[str, Any]) -> tuple[str, str]:
    """Return what a contest found, in numbers and in a few words."""
    system, against, share = row["system"], row["against"], row["share"]
    if share is None:
        return "No votes count yet.", "Nothing is known yet"
    who = "One rater" if row["raters"] == 1 else f"{row['raters']} raters"
    said = f"{who} preferred {system} to {against} in {100 * share:.1f} % of their votes"
    said += f" ({'on average; ' * (row['raters'] > 1)}{row['votes']} votes"
    if row["low"] is None:
        return f"{said}). One rater is too few for an interval.", "One rater is not enough"
    said += f"; 95 % interval over raters {100 * row['low']:.1f} to {100 * row['high']:.1f} %)."
    better = system if row["low"] > 0.5 else against if row["high"] < 0.5 else ""
    return said, f"People prefer {better}" if better else "No clear preference"
