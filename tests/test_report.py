"""Reports: right numbers in honest words, the right images, nothing from outside the page."""

import base64
import io
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from burnish.errors import InputError
from burnish.report.charts import run_charts
from burnish.report.figures import amplification, difference, pairs_grid, write_pairs
from burnish.report.page import write_report
from burnish.report.pairs import read_pairs
from burnish.report.results_page import write_results_page
from burnish.samples import Samples, to_uint8
from burnish.storage.formats import write_samples

HOSTILE = "<script>alert(1)</script>|x"
NUM = 30


def evaluation(fid, features="some/plain", **more):
    return {
        "feature_extractor": features, "feature_extractor_sha256": "3f" * 32, "num_images": 1000,
        "reference": "test set", "num_reference_images": 10000, "num_neighbors": 5, "fid": fid,
        "kid": 0.01234567, "inception_score": None, "inception_score_std": None,
        "precision": 0.71251, "recall": None, "warnings": ["only a thousand images"], **more,
    }  # fmt: skip


def comparison(baseline=8.004, refined=6.7231, guide="some-guide", **more):
    return {
        "guide": guide, "generator": "some-generator", "baseline": evaluation(baseline),
        "refined": evaluation(refined), "refine": {"eps": 1.25, "num_steps": 7}, "seeds": "0-999",
        "burnish": "0.1.0", "commit": "abc", **more,
    }  # fmt: skip


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def demo(folder, result=None, sure_gain=False):
    """Write a demo folder: ids from 100 on, and a ledger whose rows are in another order."""
    write_json(folder / "result.json", result or comparison())
    images = torch.rand(NUM, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    ids, labels = torch.arange(100, 100 + NUM), torch.arange(NUM) % 10
    moved = torch.full((NUM, 1, 8, 8), 0.01)
    write_samples(folder / "generated.npz", [Samples(images, labels, ids)], NUM)
    write_samples(folder / "refined.npz", [Samples(images + moved, labels, ids)], NUM)
    gain = torch.linspace(0.5, 3, NUM).double()
    gain[17], gain[23] = 9.0, 0.125 if sure_gain else -2.5
    rows = torch.arange(NUM).flip(0)
    ledger = {
        "id": ids[rows], "label": labels[rows], "objective_before": gain[rows] * 0,
        "objective_after": gain[rows], "realness_before": gain[rows] * 0 - 1,
        "realness_after": gain[rows] - 1, "l2_moved": (rows == 5) * 0.9 + 0.08,
        "linf_moved": gain[rows] * 0 + 0.01, "num_steps": rows % 8,
        "stopped": ["real enough" if row % 2 else r"all steps $\made$" for row in rows.tolist()],
    }  # fmt: skip
    columns = {k: v if isinstance(v, list) else v.numpy() for k, v in ledger.items()}
    pq.write_table(pa.table(columns), folder / "refined.npz.ledger.parquet")
    guide = {"name": "g", "realness": {"quantiles": np.linspace(-3, 4, 101).tolist()}}
    card = {"guide": guide, "settings": {"eps": 1.25, "stop_quantile": 0.5}}
    write_json(folder / "refined.npz.card.json", {"input": "elsewhere/generated.npz", **card})
    return folder


def page(tmp_path, *results):
    return write_report(results, tmp_path / "report.html").read_text(encoding="utf-8")


def ids_under(html, title):
    shelf = html.split(f"<h3>{title}</h3>")[1].split("<h3>")[0]
    return [int(found) for found in re.findall(r"<p>id (\d+) ", shelf)]


def test_page_of_a_demo(tmp_path):
    html = page(tmp_path, demo(tmp_path / "demo", comparison(guide=HOSTILE)))
    assert "lowers the FID from 8.00 to 6.72, by 16.0%, with features of some/plain." in html
    assert "<td>0.713</td>" in html and "0.0123" in html and "0.01234567" not in html
    assert "1,000 images against 10,000 reference images; num_neighbors 5" in html
    assert html.count("only a thousand images") == 1
    order = [
        "Refinement lowers", "Unpicked", "Largest gains", "Made worse", "<table",
        "Realness before and after", "Steps taken, and", ">Settings<", ">Provenance<",
    ]  # fmt: skip
    places = [html.index(text) for text in order]
    assert places == sorted(places)
    # Nothing from outside, and nothing that runs.
    links = re.findall(r"(?:src|srcset|href)\s*=\s*\"([^\"]*)\"", html)
    assert links and all(link.startswith("data:image/png;base64,") for link in links)
    assert not re.search(r"https?://|file:|url\(|@import|<script|<link", html)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;|x" in html
    for link in links:
        Image.open(io.BytesIO(base64.b64decode(link.split(",")[1]))).verify()


@pytest.mark.parametrize(
    ("baseline", "refined", "said"),
    [
        # Of the rounded numbers the change would be 10.0%.
        (1.0049, 1.0951, "raises the FID, which is worse, from 1.00 to 1.10, by 9.0%"),
        (5.001, 5.004, "leaves the FID at 5.00, with"),
        (5.0, None, "not both known"),
    ],
)
def test_headline_says_when_the_fid_is_worse_the_same_or_unknown(
    tmp_path, baseline, refined, said
):
    second = {"baseline": evaluation(4.0, "some/wide"), "refined": evaluation(3.0, "some/wide")}
    result = comparison(baseline, refined, second_features=second)
    html = page(tmp_path, write_json(tmp_path / "r.json", result))
    assert said in html
    assert "lowers" not in html
    if refined is not None:
        assert (
            "some/wide, does not agree: the FID goes from 4.00 to 3.00 (\N{MINUS SIGN}25.0%)"
            in html
        )
        assert (">worse<" in html) == (baseline < 5)
    agreeing = comparison(9.0, 8.0, second_features=second)
    assert "some/wide, agrees" in page(tmp_path, write_json(tmp_path / "r.json", agreeing))


@pytest.mark.parametrize(
    ("key", "after", "said"),
    [  # of 1,000 images, two standard errors of the difference are 0.040; of 10,000, 0.013
        ("precision", 0.70851, "unclear"), ("precision", 0.67, "worse"), ("recall", 0.71, "worse"),
        ("recall", 0.74, "better"), ("kid", 0.01, "better"),
    ],
)  # fmt: skip
def test_a_difference_that_may_be_chance_is_not_called_better_or_worse(tmp_path, key, after, said):
    sides = {"baseline": evaluation(8.0, recall=0.725), "refined": evaluation(8.0, recall=0.725)}
    sides["refined"][key] = after
    html = page(tmp_path, write_json(tmp_path / "r.json", comparison() | sides))
    assert f">{said}<" in html
    assert not any(f">{other}<" in html for other in {"unclear", "better", "worse"} - {said})


def test_picked_images(tmp_path):
    html = page(tmp_path, demo(tmp_path / "demo"))
    assert ids_under(html, "Unpicked") == list(range(100, 112))
    assert ids_under(html, "Largest gains")[:3] == [117, 129, 128]
    assert ids_under(html, "Made worse") == [123]
    assert "1 of 30 images lost realness" in html
    assert ids_under(html, "Moved farthest")[0] == 105
    # The ledger's rows are found by id: they are in another order than the images.
    assert "id 117 · label 7 · 1 step<" in html
    assert "realness \N{MINUS SIGN}1.00 → 8.00 · L2 moved 0.08" in html
    html = page(tmp_path, demo(tmp_path / "demo", sure_gain=True))
    assert ids_under(html, "Smallest gains")[0] == 123
    assert "Made worse" not in html


def test_parts_may_be_missing(tmp_path):
    folder = demo(tmp_path / "demo")
    (folder / "refined.npz.ledger.parquet").unlink()
    assert ids_under(page(tmp_path, folder), "Unpicked") == list(range(100, 112))
    (folder / "refined.npz").unlink()
    html = page(tmp_path, folder)
    assert "Unpicked" not in html and "lowers the FID" in html


def test_overview_of_several_results(tmp_path):
    one = write_json(tmp_path / "one.json", evaluation(12.3456, "inception"))
    two = write_json(tmp_path / "two.json", comparison(guide=HOSTILE))
    html = page(tmp_path, one, two).split("Results side by side")[1].split("</table>")[0]
    rows = [
        re.findall(r"<t[dh] [^>]*>(.*?)</t[dh]>|<td>(.*?)</td>", row) for row in html.split("<tr>")
    ]
    assert [["".join(cell) for cell in row] for row in rows[1:]] == [
        ["Images", "Features", "Number", "Neighbors", "FID ↓", "KID ↓", "Precision ↑"],
        ["one", "inception", "1,000", "5", "12.35", "0.0123", "0.713"],
        ["some-generator", "some/plain", "1,000", "5", "8.00", "0.0123", "0.713"],
        [
            "some-generator, refined by &lt;script&gt;alert(1)&lt;/script&gt;|x", "some/plain",
            "1,000", "5", "6.72 (\N{MINUS SIGN}16.0%)", "0.0123", "0.713",
        ],
    ]  # fmt: skip


def test_page_of_refined_samples_and_their_card(tmp_path):
    folder = demo(tmp_path / "demo")
    (folder / "result.json").unlink()
    for end in ("", ".card.json", ".ledger.parquet"):
        (folder / f"refined.npz{end}").rename(folder / f"better.npz{end}")
    html = page(tmp_path, folder / "better.npz")
    assert "30 images refined by g." in html
    assert "Median realness goes from \N{MINUS SIGN}1.00 to " in html
    assert ids_under(html, "Largest gains")[:3] == [117, 129, 128]
    assert html.count("<picture>") == 2 and "stop_quantile" in html
    # The images before are where the card says, or else beside the refined ones.
    (folder / "generated.npz").rename(tmp_path / "moved.npz")
    with pytest.raises(InputError, match=r"put it beside better\.npz"):
        page(tmp_path, folder / "better.npz")
    write_json(folder / "better.npz.card.json", {"input": str(tmp_path / "moved.npz")})
    assert "Largest gains" in page(tmp_path, folder / "better.npz")
    write_json(folder / "better.npz.card.json", {"seeds": "0-29"})
    with pytest.raises(InputError, match="names no input"):
        page(tmp_path, folder / "better.npz")


def test_pairs_of_ones_own_need_no_card_and_no_certain_name(tmp_path):
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([4, 2, 9, 7, 1])
    # The second file holds another image, lacks one, and has another order.
    others = torch.tensor([1, 7, 2, 4, 30])
    write_samples(tmp_path / "a.npz", [Samples(images, ids % 3, ids)], 5)
    write_samples(tmp_path / "b.npz", [Samples(images.flip(0), None, others)], 5)
    pairs = read_pairs(tmp_path / "a.npz", tmp_path / "b.npz")
    assert pairs.ids.tolist() == [4, 2, 7, 1] and len(pairs) == 4
    assert [side.ids.tolist() for side in pairs.read([2, 0])] == [[7, 4], [7, 4]]
    html = page(tmp_path, tmp_path / "a.npz", tmp_path / "b.npz")
    assert ids_under(html, "Unpicked") == [4, 2, 7, 1]
    assert "a.npz and b.npz" in html
    with pytest.raises(InputError, match="or give images before and after"):
        page(tmp_path, tmp_path / "a.npz")
    write_samples(tmp_path / "c.npz", [Samples(torch.rand(5, 1, 8, 9), None, ids)], 5)
    with pytest.raises(InputError, match=r"shape \[1, 8, 9\]"):
        page(tmp_path, tmp_path / "a.npz", tmp_path / "c.npz")


def test_large_images_are_shown_whole_and_the_page_stays_small(tmp_path):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(9, 3, 12, 18, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (400, 600), mode="bilinear")
    for name, shift in (("a.npz", 0), ("b.npz", 0.01)):
        samples = Samples((images + shift).clamp(0, 1), torch.zeros(9).long(), torch.arange(9))
        write_samples(tmp_path / name, [samples], 9)
    html = page(tmp_path, tmp_path / "a.npz", tmp_path / "b.npz")
    shown = re.findall(r"data:image/jpeg;base64,([^\"]*)", html)
    assert len(shown) == 6 * 3
    first, second = (Image.open(io.BytesIO(base64.b64decode(one))) for one in shown[:2])
    assert first.size == second.size == (512, 341)
    wanted = torch.nn.functional.interpolate(
        images[:1], (341, 512), mode="bilinear", antialias=True
    )[0]
    off = np.array(first) / 255 - wanted.permute(1, 2, 0).numpy()
    assert np.abs(off).mean() < 0.01
    assert "Reduced from 600 to 512 pixels; as JPEG, which is not exact." in html
    assert len(html) < 3_000_000


def log_lines(joint):
    rows = []
    for step in range(50, 5001, 50):
        numbers = {"attack_steps": 1, "attack_steps_made": 0.5, "realness_real": 1.0}
        rows.append({"step": step, "loss": 1 / step, **(numbers if joint else {})})
        if step % 1000 == 0:
            score = 1 - abs(step - 3000) / 1e4
            rows.append({"step": step, "validation/score": score, "validation/auc_clean": 0.9})
    return rows


@pytest.mark.parametrize("joint", [False, True])
def test_page_of_a_run_draws_what_was_logged(tmp_path, joint):
    rows = log_lines(joint)
    titles = [chart.title.split()[0] for chart in run_charts(rows)]
    assert titles == (["Realness", "Held", "Growth"] if joint else ["Loss", "Validation"])
    run = write_json(tmp_path / "run" / "config.json", {"training": {"num_steps": 6000}}).parent
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "log.jsonl").write_text(text + '{"step": 50')  # killed while writing
    html = page(tmp_path, run)
    assert "logged up to step 5,000." in html
    assert "Best validation score: 1.0000 at step 3,000." in html
    assert html.count("<picture>") == len(titles) and "training.num_steps" in html
    (run / "log.jsonl").write_text("{oops\n" + text)
    with pytest.raises(InputError, match="line 1: not JSON"):
        page(tmp_path, run)


def test_grid_and_difference():
    before = torch.rand(7, 3, 4, 6, generator=torch.Generator().manual_seed(0)) * 0.5
    after = before + torch.linspace(0, 0.04, 7).view(-1, 1, 1, 1)
    picture = Image.open(io.BytesIO(pairs_grid(before, after, num_columns=4, scale=2)))
    assert picture.mode == "RGBA" and picture.size == (4 * 12 + 3, 2 * (2 * 8) + 3)
    pixels = np.array(picture)
    levels = to_uint8(after[5]).permute(1, 2, 0).numpy()  # second strip, second column
    np.testing.assert_array_equal(pixels[19 + 8 : 19 + 16 : 2, 13:25:2, :3], levels)
    assert pixels[:, 12, 3].max() == 0  # the gap is transparent
    assert amplification(before, after) == 10
    changed = difference(before, after, 10)
    assert to_uint8(changed[0]).unique().tolist() == [128]
    torch.testing.assert_close(changed[6], torch.full_like(changed[6], 0.9))
    with pytest.raises(InputError, match="one shape"):
        pairs_grid(before, after[:3])


def test_picture_of_pairs_finds_images_by_id(tmp_path):
    folder = demo(tmp_path / "demo")
    files, out = (folder / "generated.npz", folder / "refined.npz"), tmp_path / "pairs.png"
    write_pairs(*files, out, seeds="103,101")
    pixels = np.array(Image.open(out))[::2, ::2, 0]  # each pixel of an image is four
    wanted = np.load(files[0])["arr_0"][[3, 1], :, :, 0]
    np.testing.assert_array_equal(pixels[:8, [*range(8), *range(9, 17)]], np.hstack([*wanted]))
    with pytest.raises(InputError, match="no image of seed 99"):
        write_pairs(*files, out, seeds="99-101")
    write_pairs(*files, out)  # all 30, though none has the id 0
    with Image.open(out) as picture:
        assert picture.size == (10 * 17 - 1, 3 * (2 * 16 + 3) - 3)


def measured(folder, data="some", features="plain", fid_change=-0.25):
    """Write a table of a generator as it is, refined, and swept over eps."""
    refined = {"settings": {"eps": 1.0}, "guide": "runs/some/joint/model.safetensors"}
    rows = {"one step": {"settings": None, "guide": ""}, HOSTILE: refined}
    for eps in (0.5, 1.0, 2.0, 3.0):
        rows[f"far, eps {eps}"] = {**refined, "sweep": {"eps": [eps]}}
    fixed = {"generator": "runs/g", "num_steps": 1, "baseline": None, "published": "", "sweep": {}}
    values = {"fid": 8.5, "kid": 0.01, "recall": 0.5, "fid_change": fid_change, "nfe": 7.0}
    found = {key: {"mean": value, "std": abs(value) / 10} for key, value in values.items()}
    result = {"features": features, "row": "one step", "seeds": "0-9", **evaluation(8.5), "nfe": 0}
    table = {
        "data": data, "table": "t", "place": 0, "title": "a title", "note": "a <b>note</b>",
        "rows": {label: {**fixed, **row} for label, row in rows.items()}, "commit": "c" * 40,
        "summary": {features: dict.fromkeys(rows, found)}, "command": "burnish study",
        "rank_correlation": {"plain, wide": {"fid": {"mean": 0.9, "std": 0.0}}},
        "results": [result],
    }  # fmt: skip
    return write_json(folder / f"{data}-t.json", table)


def test_results_page(tmp_path):
    folder, out = tmp_path / "results", tmp_path / "docs" / "results.md"
    measured(folder)
    measured(folder, "some-inception", "inception", -0.1)
    write_json(folder / "other.json", {"rows": []})
    write_results_page(folder, out)
    text = out.read_text(encoding="utf-8")
    head, first, second = text.split("\n## some")
    # One row per generator and guide, with all feature extractors side by side.
    minus = "\N{MINUS SIGN}"
    assert f"| some: one step | some | {minus}25.0 ± 2.5 % | {minus}10.0 ± 1.0 % |" in head
    assert head.count("| some: ") == 1
    for column in ("FID ↓", "KID ↓", "Recall ↑", "change", "NFE", "plain", "inception"):
        assert f"**{column}**" in head
    assert "**Precision ↑**" not in head  # no table has it
    assert "| one step | 8.50 ± 0.85 |  |  |" in first
    assert "(../results/some-t.json), commit cccccccccccc: `burnish study`" in first
    assert "FID 0.90" in first
    assert "![FID and recall over eps](images/some-t.png)" in first
    assert Image.open(tmp_path / "docs" / "images" / "some-t.png").width > 300
    # Names are text: they make no tags and no columns.
    assert "<script" not in text and "<b>" not in text
    assert "&lt;script>alert(1)&lt;/script>\\|x |" in second
    with pytest.raises(InputError, match="no tables"):
        write_results_page(tmp_path / "docs", out)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("[1]", "expected keys and values"),
        ("{", "not JSON"),
        ('{"fid": 1.0}', "no result of burnish"),
        (json.dumps({"baseline": evaluation(1.0)}), "no result of burnish"),
        (json.dumps(evaluation("12.3")), "fid must be a number"),
        (json.dumps(comparison(refined=1.0) | {"refined": evaluation(1.0, "b")}), "compared"),
    ],
)
def test_faults_of_results(tmp_path, content, message):
    path = tmp_path / "result.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        page(tmp_path, path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_faults_of_folders(tmp_path):
    with pytest.raises(InputError, match=r"neither result\.json nor log\.jsonl"):
        page(tmp_path, tmp_path)
    folder = demo(tmp_path / "demo")
    with pytest.raises(InputError, match="a folder"):
        write_report([folder], tmp_path)
    with pytest.raises(InputError, match="nothing to report"):
        write_report([], tmp_path / "report.html")
    with pytest.raises(InputError, match="cannot be written"):
        write_report([folder / "result.json"], folder / "result.json" / "report.html")
    ids = torch.arange(NUM)
    write_samples(folder / "refined.npz", [Samples(torch.zeros(NUM, 1, 8, 8), None, ids)], NUM)
    with pytest.raises(InputError, match="same ids"):
        page(tmp_path, folder)
    write_samples(folder / "generated.npz", [Samples(torch.zeros(NUM, 1, 8, 8), None, ids)], NUM)
    with pytest.raises(InputError, match="its ids are not those"):
        page(tmp_path, folder)
    (folder / "refined.npz.ledger.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="no readable parquet"):
        page(tmp_path, folder)
