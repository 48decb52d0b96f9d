"""The demo: what it writes, and what it says."""

import json

import pytest

from burnish.errors import InputError
from burnish.studies.demo import demo, table


def test_the_demo_compares_images_before_and_after(tmp_path):
    result = demo(tmp_path / "demo", num_images=20)
    written = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {"generated.npz", "refined.npz", "result.json", "report.html"} <= written
    assert json.loads((tmp_path / "demo" / "result.json").read_text()) == result
    assert result["seeds"] == "0-19"
    for sides in (result, result["second_features"]):
        assert {"baseline", "refined"} <= set(sides)
        assert sides["refined"]["fid"] != sides["baseline"]["fid"]
    text = table(result)
    assert text.count("FID ↓") == 2 and "fashion_mnist/wide, 20 images" in text
    # Refined once more, the images already look real: the page and the text show the warning.
    note = text.splitlines()[-1]
    assert note.startswith("Refining the refined images once more: burnish warns that ")
    assert f"FID goes from {result['refined']['fid']:.2f} to " in note
    assert note in (tmp_path / "demo" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"data": "fashion"}, "did you mean 'fashion_mnist'"), ({"num_images": 9}, "at least 10")],
)
def test_what_the_demo_cannot_show_is_refused(tmp_path, arguments, said):
    with pytest.raises(InputError, match=said):
        demo(tmp_path / "demo", **arguments)
    assert not (tmp_path / "demo").exists()
