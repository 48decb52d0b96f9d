"""The gallery in a real browser: what a person does, and what a link brings back."""

import numpy as np
import pytest
from browser import Browser
from gallery_setup import COUNT, IDS, write_folder, write_refined

from burnish.gallery.app import Gallery, open_pairs
from burnish.gallery.export import export
from burnish.report.pairs import read_pairs
from burnish.web.server import Server

HOSTILE = "<img src=x onerror=document.title='hacked'>.png"
TILES = "[...grid.tiles.values()]"
SHOWN = f"{TILES}.sort((a, b) => a.place - b.place).map((tile) => tile.first.textContent)"
OPEN = "document.querySelector('dialog').open"
PAINTED = f"grid.tiles.size > 0 && {TILES}.every((tile) => tile.painted)"


@pytest.fixture(scope="module")
def browser():
    with Browser(1280, 800) as one:
        yield one


@pytest.fixture(scope="module")
def refined(tmp_path_factory):
    return write_refined(tmp_path_factory.mktemp("refined"))


@pytest.fixture(scope="module")
def server(refined):
    with Server(Gallery(open_pairs([refined]), real=refined).routes()) as one:
        yield one


@pytest.fixture
def page(browser, server):
    browser.open("about:blank")
    browser.open(server.url)
    browser.wait(f"typeof view === 'object' && {PAINTED}")
    yield browser
    assert browser.complaints() == []


def go(page, server, view):
    page.open("about:blank")
    page.open(f"{server.url}#{view}")
    page.wait(f"typeof view === 'object' && {PAINTED}")


def ledger_of(refined):
    ledger = open_pairs([refined]).ledger
    assert ledger is not None
    return ledger


def address(page):
    return page.run("return location.hash.slice(1)")


def choose(page, name, value):
    script = "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
    page.run(f"{script} e.dispatchEvent(new Event('change'))", name, value)


def drag(page, selector, start, end):
    """Drag over an element with the mouse, from one share of its width to another."""
    box = "const b = document.querySelector(arguments[0]).getBoundingClientRect();"
    left, top, width, height = page.run(
        f"{box} return [b.left, b.top, b.width, b.height]", selector
    )
    common = {"y": top + height / 2, "button": "left", "clickCount": 1}
    for kind, at, held in [("Pressed", start, 1), ("Moved", end, 1), ("Released", end, 0)]:
        values = {**common, "type": f"mouse{kind}", "x": left + at * width, "buttons": held}
        page.tool("Input.dispatchMouseEvent", **values)


def test_sorting_puts_the_largest_gain_first_and_filters_leave_a_class(page, refined):
    pairs = open_pairs([refined])
    assert pairs.labels is not None
    ledger, labels = ledger_of(refined), pairs.labels.numpy()
    gain = ledger["realness_after"] - ledger["realness_before"]
    assert page.run(f"return {SHOWN}")[0] == f"id {IDS[0]} · class 0"
    choose(page, "sort", "gain")
    order = np.argsort(-gain.astype("f4"), kind="stable")
    wanted = [f"id {IDS[row]} · class {labels[row]}" for row in order]
    shown = page.run(f"return {SHOWN}")
    assert shown == wanted[: len(shown)] and len(shown) > 10
    page.click("#filter-toggle")
    choose(page, "label", "1")
    shown = page.run(f"return {SHOWN}")
    assert shown == [name for name in wanted if name.endswith("class 1")][: len(shown)]
    assert page.run("return document.getElementById('found').textContent") == "20 of 60 pairs"
    page.click("#direction")
    assert page.run(f"return {SHOWN}")[0] == [n for n in wanted if n.endswith("class 1")][-1]
    choose(page, "stop", "real enough")
    count = int(((ledger["stopped"] == "real enough") & (labels == 1)).sum())
    assert page.run("return view.rows.length") == count
    page.click("#reset")
    assert page.run("return view.rows.length") == COUNT


def test_a_range_is_dragged_on_a_histogram_and_comes_back_by_its_link(page, server, refined):
    page.click("#filter-toggle")
    drag(page, "#ranges .range:nth-child(2) svg", 0.5, 0.95)
    ledger = ledger_of(refined)
    gain = ledger["realness_after"] - ledger["realness_before"]
    low, high = page.run("return view.limits.gain")
    middle = (gain.min() + gain.max()) / 2
    assert low == pytest.approx(middle, abs=0.02 * np.ptp(gain)) and high > low
    kept = int(((gain >= low) & (gain <= high)).sum())
    assert page.run("return view.rows.length") == kept < COUNT
    page.reload()
    page.wait(PAINTED)
    assert page.run("return view.rows.length") == kept


def test_only_the_tiles_in_sight_exist(page):
    there = "return document.querySelectorAll('.tile').length"
    most = page.run(there)
    for _ in range(5):
        page.run("document.getElementById('scroller').scrollBy(0, 300)")
        page.wait(PAINTED)
        assert page.run(there) <= most + 16 and page.run("return grid.spare.length") <= 100
    assert most < COUNT


def test_keys_walk_the_grid_open_a_pair_and_close_it(page, server):
    columns = page.run("return grid.columns")
    page.press("ArrowRight")
    page.press("ArrowRight")
    page.press("ArrowDown")
    assert page.run("return document.activeElement.place") in (1 + columns, 2 + columns)
    place = page.run("return document.activeElement.place")
    page.press("Enter")
    page.wait(OPEN)
    assert f"pair={IDS[place]}" in address(page)
    page.press("ArrowRight")
    assert f"pair={IDS[place + 1]}" in address(page)
    page.press("ArrowLeft")
    page.press("Escape")
    page.wait(f"!{OPEN}")
    assert page.run("return document.activeElement.place") == place
    assert page.run("return location.href") == server.url  # not even a bare #
    page.press("d")
    assert "show=difference" in address(page)


def test_the_divider_follows_the_mouse_and_d_shows_the_difference(page, server):
    go(page, server, f"pair={IDS[4]}")
    page.wait(OPEN)
    drag(page, "#stage .frame", 0.5, 0.25)
    clip = "return getComputedStyle(document.querySelector('#stage .after')).clipPath"
    assert page.run(clip) == "inset(0px 0px 0px 25%)"
    page.press("d")
    assert "mode=difference" in address(page)
    look = (
        "const s = getComputedStyle(document.querySelector(arguments[0])); return s[arguments[1]]"
    )
    factor = page.run("return view.factor")
    assert page.run(look, "#stage .frame", "filter") == f"brightness({factor})"
    assert page.run(look, "#stage .after", "mixBlendMode") == "difference"
    assert f"times {factor}" in page.text()


def test_the_difference_on_the_screen_is_that_of_the_pixels(page, server, refined, tmp_path):
    import io

    from PIL import Image

    before, after = open_pairs([refined]).read([4])
    levels = [np.round(side.images[0, 0].numpy() * 255) for side in (before, after)]
    go(page, server, f"pair={IDS[4]}&mode=difference&factor=4")
    page.wait(OPEN)
    box = "const b = document.querySelector('#stage .frame').getBoundingClientRect();"
    left, top, width = page.run(f"{box} return [b.left, b.top, b.width]")
    page.run("return new Promise((done) => setTimeout(done, 300))")
    page.screenshot(tmp_path / "seen.png")
    seen = np.array(Image.open(io.BytesIO((tmp_path / "seen.png").read_bytes())).convert("L"))
    scale = int(width) // 28
    middle = (np.arange(28) * scale + scale // 2).astype(int)
    part = seen[np.ix_(middle + round(top), middle + round(left))].astype(float)
    wanted = np.minimum(255, 4 * np.abs(levels[1] - levels[0]))
    assert np.abs(part - wanted).max() <= 4 and wanted.max() > 20


def test_a_path_is_drawn_and_its_steps_can_be_looked_at_and_linked(page, server, refined):
    steps = int(ledger_of(refined)["num_steps"][0])
    go(page, server, f"pair={IDS[0]}&step=1")
    page.wait("document.querySelectorAll('.chart circle').length > 0")
    assert page.run("return document.querySelectorAll('.chart circle').length") == steps + 1
    assert "The last image is the stored one, bit by bit." in page.text()
    assert page.run("return document.querySelector('.tag.right').textContent") == "step 1"
    assert f"{steps} steps up the logit of " in page.text()
    page.run("data.facts.card.refiner = true; climb.draw(); introduce()")
    assert "One pass of a learned refiner, made again" in page.text()
    assert "one pass" in page.run("return document.getElementById('subtitle').textContent")
    page.run("document.querySelector('.strip button').click()")
    assert "step=0" in address(page)
    page.wait("document.querySelectorAll('#nearest img').length === 3")
    assert f"{IDS[0]} · class 0 · distance 0" in page.text()
    command = page.run("return document.querySelector('#command pre').textContent")
    assert command.startswith("burnish refine ") and "--guide fashion_mnist" in command


def test_links_that_make_no_sense_show_what_they_can(page, server):
    nonsense = "sort=constructor&show=x&mode=y&pair=nobody&gain=a..b&label=77&step=x&__proto__=1"
    page.open("about:blank")
    page.open(f"{server.url}#{nonsense}")
    page.wait("document.getElementById('found').textContent === '0 of 60 pairs'")
    assert page.run("return view.rows.length") == 0
    assert "There is no pair nobody here." in page.text()
    page.click("#reset")
    assert page.run("return view.rows.length") == COUNT


def test_static_files_do_the_same_when_opened_from_a_folder(browser, refined, tmp_path):
    export(Gallery(open_pairs([refined])), tmp_path / "out", num_paths=2)
    address_of = (tmp_path / "out" / "index.html").as_uri()
    browser.open("about:blank")
    browser.open(f"{address_of}#sort=gain&descending=1&pair={IDS[1]}")
    browser.wait("document.querySelectorAll('.chart circle').length > 0")
    browser.press("Escape")
    browser.wait(f"!{OPEN} && {PAINTED}")
    url = browser.run("return grid.tiles.get(0).pictures[0].style.backgroundImage")
    assert "files/sprite-" in url
    loads = "const i = new Image(); i.src = arguments[0]; return i.decode().then(() => i.width)"
    assert browser.run(loads, url.split('"')[1]) == 12 * 28
    browser.run("large.open(30)")
    browser.wait("document.getElementById('climb').textContent.includes('first 2 only')")
    browser.run("large.close(); change({ sort: '', descending: '' })")
    assert browser.run("return location.href") == address_of
    assert browser.complaints() == []


def test_names_are_text_and_distances_come_while_the_page_is_shown(browser, tmp_path):
    names = [HOSTILE.replace("/", ""), "b.png", "c.png"]
    folders = [write_folder(tmp_path / "a", names), write_folder(tmp_path / "b", names)]
    pairs = read_pairs(*folders)
    # The middle one has moved most.
    with Server(Gallery(pairs).routes()) as server:
        browser.open("about:blank")
        browser.open(server.url)
        browser.wait("typeof data === 'object' && data.columns.change")
        assert names[0] in browser.run(f"return {SHOWN}")
        browser.run("large.open(0)")
        browser.wait(OPEN)
        assert browser.run("return document.getElementById('large-title').textContent") == names[0]
        assert (
            browser.run("return document.querySelectorAll('#grid img, dialog h2 img').length") == 0
        )
        assert browser.run("return document.title") == "b · burnish view"
        assert "There is no card" in browser.text()
    assert browser.complaints() == []


def test_on_a_phone_nothing_is_wider_than_the_screen_and_a_finger_moves_the_divider(server):
    with Browser(360, 700, phone=True) as phone:
        for view in ("", "#show=difference", f"#pair={IDS[4]}"):
            phone.open("about:blank")
            phone.open(server.url + view)
            phone.wait(f"typeof view === 'object' && {PAINTED}")
            for part in ("document.documentElement", "document.querySelector('header')"):
                assert phone.run(f"return {part}.scrollWidth") <= 360, view
        phone.wait(OPEN)
        assert phone.run("return document.querySelector('.body').scrollWidth") <= 360
        box = "const b = document.querySelector('#stage .frame').getBoundingClientRect();"
        left, top, width = phone.run(f"{box} return [b.left, b.top, b.width]")
        for kind, at in [("Start", 0.5), ("Move", 0.6), ("Move", 0.75), ("End", None)]:
            points = [] if at is None else [{"x": left + at * width, "y": top + 50}]
            phone.tool("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=points)
        split = float(phone.run("return stage.split"))
        assert split == pytest.approx(0.75, abs=0.02)
        assert phone.complaints() == []
