"""Who sees what: pairs for each rater, the side of each system, the places of checks; seeded.

Pairs are fresh for each rater as far as they go, since an interval over raters covers the choice
of pairs only if raters see different ones. Each rater sees an image once, each system equally
often on either side, and each two systems equally often, up to one.
"""

from itertools import combinations, pairwise
from typing import Literal, NamedTuple

import numpy as np

SPOILERS = ("noise", "blur")
MAX_DRAWS = 20  # until the places of a rater's checks are new


class Picture(NamedTuple):
    """One image that somebody sees; item and system are indices."""

    item: int
    system: int
    spoiler: str = ""
    """How it is spoiled, one of :data:`SPOILERS`, or not at all."""


class Planned(NamedTuple):
    """A trial whose images have no names yet."""

    kind: Literal["practice", "pair", "catch"]
    left: Picture
    right: Picture


class Comparison(NamedTuple):
    """Two systems side by side on one image; all are indices."""

    item: int
    left: int
    right: int


def plan_trials(
    num_items: int, num_systems: int, raters: int, pairs: int, practice: int, catch: int, seed: int
) -> list[list[Planned]]:
    """Return the trials of each rater: practice, then pairs with attention checks among them.

    Images of practice and of checks are the same for all raters, and in no pair that counts.

    Args:
        num_items: Images that all systems have; at least pairs + practice + catch.
        num_systems: 2 or more.
        raters: How many lists.
        pairs: Comparisons that count, for each rater.
        practice: Comparisons before them.
        catch: Checks among them: an image beside itself, spoiled.
        seed: Of all that is random.
    """
    rng = np.random.default_rng(seed)
    order = [int(item) for item in rng.permutation(num_items)]
    drills, checks, pool = (
        order[:practice],
        order[practice : practice + catch],
        order[practice + catch :][: raters * pairs],  # more could not be shown
    )
    first = [
        _pair("practice", drills, one) for one in deal(practice, num_systems, 1, practice, rng)[0]
    ]
    rows, taken = [], set()
    for comparisons in deal(len(pool), num_systems, raters, pairs, rng):
        row = [_pair("pair", pool, one) for one in comparisons]
        caught = [
            _check(item, n, left, num_systems)
            for n, (item, left) in enumerate(zip(checks, balanced_sides(catch, rng), strict=True))
        ]
        turns = rng.permutation(catch)
        places = _fresh_places(pairs, catch, taken, rng)
        for place, turn in zip(reversed(places), turns, strict=True):
            row.insert(place, caught[int(turn)])
        rows.append([*first, *row])
    return rows


def _pair(kind: Literal["practice", "pair"], pool: list[int], one: "Comparison") -> Planned:
    return Planned(kind, Picture(pool[one.item], one.left), Picture(pool[one.item], one.right))


def _check(item: int, n: int, left: bool, num_systems: int) -> Planned:
    whole = Picture(item, n % num_systems)
    spoiled = whole._replace(spoiler=SPOILERS[n // num_systems % len(SPOILERS)])
    return Planned("catch", spoiled, whole) if left else Planned("catch", whole, spoiled)


def deal(
    num_items: int, num_systems: int, num_raters: int, num_pairs: int, rng: np.random.Generator
) -> list[list[Comparison]]:
    """Return the pairs of each rater.

    Args:
        num_items: Images that all systems have; at least ``num_pairs``.
        num_systems: 2 or more.
        num_raters: How many lists.
        num_pairs: Comparisons in each list.
        rng: Everything random is drawn from it.
    """
    contests = list(combinations(range(num_systems), 2))
    used, total = np.zeros((len(contests), num_items), int), np.zeros(num_items, int)
    dealt = []
    for rater in range(num_raters):
        turns = (rater * num_pairs + np.arange(num_pairs)) % len(contests)
        flips = rng.integers(2, size=len(contests))
        free = np.ones(num_items, bool)
        row = []
        for turn in turns:
            # Of the images that this rater has not seen: the least used, then by chance.
            rank = total + (used[turn] + rng.random(num_items)) / 4096
            item = int(np.argmin(np.where(free, rank, np.inf)))
            free[item] = False
            used[turn, item] += 1
            total[item] += 1
            first, second = contests[turn]
            flips[turn] += 1
            sides = (second, first) if flips[turn] % 2 else (first, second)
            row.append(Comparison(item, *sides))
        dealt.append([row[i] for i in rng.permutation(num_pairs)])
    return dealt


def spread(num_pairs: int, num_checks: int, rng: np.random.Generator) -> list[int]:
    """Return the places of checks among pairs: each in a stretch of its own, by chance within it.

    Returns:
        For each check the number of pairs before it, ascending, at least 1.
    """
    edges = np.linspace(0, num_pairs, num_checks + 1)
    return [
        int(rng.integers(int(low) + 1, max(int(high), int(low) + 1) + 1))
        for low, high in pairwise(edges)
    ]


def _fresh_places(
    pairs: int, catch: int, taken: set[tuple[int, ...]], rng: np.random.Generator
) -> tuple[int, ...]:
    """Return places of checks that no rater has yet, if a few draws find such."""
    # Raters who talk could tell each other where the checks are.
    places, draws = tuple(spread(pairs, catch, rng)), 1
    while catch and places in taken and draws < MAX_DRAWS:
        places, draws = tuple(spread(pairs, catch, rng)), draws + 1
    taken.add(places)
    return places


def balanced_sides(count: int, rng: np.random.Generator) -> list[bool]:
    """Return True for the left and False for the right, equally often up to one, in any order."""
    return [bool(one) for one in rng.permutation((np.arange(count) + rng.integers(2)) % 2)]
