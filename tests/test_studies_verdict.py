"""The rule of tune on plain rows: published tables replayed, and eyes that cannot be outvoted."""

import pytest

from burnish.studies.dose.conclusion import conclude
from burnish.studies.dose.verdict import Rule, choose, harms, shortfalls, too_much

# Ganz & Elad 2023, "BIGRoC", https://arxiv.org/abs/2108.03702: outputs of the released notebook
# for ImageNet 256 (https://github.com/royg27/BIGRoC), 50,000 images, guided-diffusion's evaluator
# with Inception. eps: Inception Score, FID, sFID, precision, recall. eps 0 is no refinement.
ADM_G_PSEUDO = {
    0: (186.70, 4.587, 5.247, 0.815, 0.522),
    1.5: (214.63, 4.103, 5.113, 0.840, 0.503),
    3: (239.62, 4.072, 5.022, 0.855, 0.492),
    5: (275.65, 4.450, 4.919, 0.867, 0.474),
}
ADM_G_U_GIVEN = {
    0: (215.84, 3.943, 6.140, 0.827, 0.530),
    1: (246.45, 3.659, 6.081, 0.844, 0.519),
    1.5: (260.02, 3.628, 6.060, 0.851, 0.513),
    3: (299.27, 3.820, 5.971, 0.868, 0.487),
    5: (346.33, 4.460, 5.808, 0.881, 0.462),
}


def replay(table):
    names = ("inception_score", "fid", "sfid", "precision", "recall")
    return [
        {
            "settings": {"eps": float(eps)} if eps else None,
            "scores": {"inception": dict(zip(names, values, strict=True))},
        }
        for eps, values in table.items()
    ]


@pytest.mark.parametrize("max_recall_loss", [0.02, 0.04, 1.0])
@pytest.mark.parametrize("table", [ADM_G_PSEUDO, ADM_G_U_GIVEN], ids=["ADM-G", "ADM-G+U"])
def test_published_tables_are_best_at_eps_1_5_to_3_and_5_is_too_much(table, max_recall_loss):
    rows, rule = replay(table), Rule(["inception"], max_recall_loss)
    chosen = choose(rows, rule)
    assert chosen is not None and 1.5 <= chosen["settings"]["eps"] <= 3
    assert "eps 5 is too much" in too_much(rows[-1], rows, rule)
    assert not too_much(chosen, rows, rule)
    scores = [row["scores"]["inception"]["inception_score"] for row in rows]
    assert max(scores) == scores[-1]
    # Nothing else changes when it is the Inception Score that says so.
    for row in rows:
        row["scores"]["inception"]["inception_score"] = 0
    assert choose(rows, rule) is chosen


def row(eps, error=0.02, **fids):
    """Return a row of FD relative to 1 as they are, with KID in proportion."""
    scores = {}
    for name, value in fids.items():
        fid, kid = value if isinstance(value, tuple) else (value, value)
        scores[name] = {"fid": fid, "kid": kid / 100, "precision": 0.6, "recall": 0.5}
        for key, scale in (("fid", 1), ("kid", 100)):
            difference, width = scores[name][key] - 1 / scale, 1.96 * error / scale
            scores[name][f"{key}_change"] = {
                "difference": difference, "std_error": error / scale,
                "low": difference - width, "high": difference + width,
            }  # fmt: skip
    return {"settings": {"eps": eps} if eps else None, "scores": scores}


BEFORE = row(0, plain=1, views=1, inception=1)
RULE = Rule(["inception"])


def verdict(*rows, confirmation=(), rule=RULE):
    return conclude([BEFORE, *rows], confirmation, rule)


def test_small_networks_do_not_outvote_the_independent_extractor():
    gamed = row(1.0, plain=0.4, views=0.5, inception=1.3)
    assert choose([BEFORE, gamed], RULE) is None
    found, words = verdict(gamed)
    assert found == "disagree" and "probably add grain" in words
    assert "falls by plain, views" in words and "rises by inception" in words
    # A lower FD does not excuse a higher KID.
    found, _ = verdict(row(1.0, plain=0.4, views=0.5, inception=(0.94, 1.14)))
    assert found == "disagree"
    # Nor is it enough that the independent one sees no harm.
    unmoved = row(1.0, plain=0.4, views=0.5, inception=(0.99, 0.99))
    found, words = verdict(unmoved)
    assert found == "leave" and "FD by inception is not certain to fall" in words
    # Alone it is not enough, either; and any extractor can veto.
    assert shortfalls(row(1.0, plain=1.0, views=1.0, inception=0.8), BEFORE, RULE)
    assert harms(row(1.0, plain=0.8, views=1.2, inception=0.8), BEFORE, RULE)
    assert not harms(row(1.0, plain=0.8, views=1.03, inception=0.8), BEFORE, RULE)
    # Where none is independent, all decide.
    assert choose([BEFORE, row(1.0, plain=0.4, views=0.99, inception=0.5)], Rule()) is None


def test_harm_by_most_is_no_disagreement():
    found, words = verdict(row(0.5, plain=1.2, views=0.9, inception=1.1))
    assert found == "leave" and "of 1 settings none" in words and "rises" in words


def test_the_gentlest_setting_within_one_standard_error_is_chosen():
    rows = [
        row(eps, plain=value, views=value, inception=value)
        for eps, value in ((0.5, 0.9), (1.0, 0.815), (1.5, 0.80), (3.0, 0.85))
    ]
    chosen = choose([BEFORE, *rows], RULE)
    assert chosen is rows[1]
    exact = [
        row(r["settings"]["eps"], error=0.002, **{k: v["fid"] for k, v in r["scores"].items()})
        for r in rows
    ]
    assert choose([BEFORE, *exact], RULE) is exact[2]


@pytest.mark.parametrize("key", ["precision", "recall"])
def test_floors_hold_for_every_extractor(key):
    good = row(1.0, plain=0.8, views=0.8, inception=0.8)
    assert choose([BEFORE, good], RULE) is good
    for name in good["scores"]:
        worse = row(1.0, plain=0.8, views=0.8, inception=0.8)
        worse["scores"][name][key] -= 0.03
        assert any(f"{key} by {name}" in said for said in harms(worse, BEFORE, RULE))
        assert choose([BEFORE, worse], Rule(["inception"], 0.04, 0.04)) is worse


def test_a_choice_that_does_not_hold_on_the_other_half_is_not_used():
    good = row(1.0, plain=0.8, views=0.8, inception=0.8)
    found, words = verdict(good, confirmation=[BEFORE, good])
    assert found == "use" and "from 1 to 0.8 (-20.0%, 95 % interval -23.9% to -16.1%)" in words
    for failed in (0.98, (0.8, 1.1)):
        after = row(1.0, plain=0.8, views=0.8, inception=failed)
        found, words = verdict(good, confirmation=[BEFORE, after])
        assert found == "leave" and "does not hold on the other" in words
