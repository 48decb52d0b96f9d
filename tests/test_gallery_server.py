"""The gallery's server and its static files: what they serve, and what they refuse."""

import http.client
import io
import json
import re

import numpy as np
import pytest
from gallery_setup import COUNT, IDS, write, write_folder, write_refined
from PIL import Image

from burnish.cli.main import main
from burnish.errors import InputError
from burnish.gallery.app import PAGE, Gallery, open_pairs
from burnish.gallery.export import export
from burnish.report.pairs import read_pairs
from burnish.web.server import Server

HOSTILE = "</script><img src=x onerror=alert(1)>.png".replace("/", "_")


@pytest.fixture(scope="module")
def refined(tmp_path_factory):
    return write_refined(tmp_path_factory.mktemp("refined"))


@pytest.fixture(scope="module")
def server(refined):
    with Server(Gallery(open_pairs([refined]), real=refined).routes()) as one:
        yield one


def ask(server, path, method="GET", **headers):
    client = http.client.HTTPConnection(server.host, server.port, timeout=20)
    client.request(method, path, headers=headers)
    reply = client.getresponse()
    body = reply.read()
    client.close()
    return reply.status, body, dict(reply.headers)


def test_everything_that_the_page_asks_for_is_there(server):
    assert server.host == "127.0.0.1"
    for name, kind in PAGE.items():
        status, body, headers = ask(server, f"/{name}")
        assert (status, headers["Content-Type"]) == (200, kind) and body
    assert ask(server, "/")[1] == ask(server, "/index.html")[1]
    data = json.loads(ask(server, "/data.json")[1])
    assert data["count"] == COUNT and data["ids"] == IDS.tolist() and data["nearest"] == "pixels"
    status, body, headers = ask(server, "/sprite?rows=7,3-5&v=1")
    assert status == 200 and "max-age" in headers["Cache-Control"]
    assert Image.open(io.BytesIO(body)).size == (4 * 28, 2 * 28)
    assert Image.open(io.BytesIO(ask(server, "/image/after/59.png")[1])).size == (28, 28)
    assert json.loads(ask(server, "/path/3.json")[1])["found"]["same"] is True
    (first, *_) = json.loads(ask(server, "/nearest/3.json")[1])["found"]
    assert first["id"] == str(int(IDS[3]))
    assert json.loads(ask(server, "/change.json")[1])["share"] == 1


def test_nothing_comes_from_elsewhere_and_no_text_becomes_markup(server):
    for name in PAGE:
        text = ask(server, f"/{name}")[1].decode()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
        links = re.findall(r"(?:src|href)=\"([^\"]*)\"|https?://([^\s\"']*)", text)
        for local, other in links:
            assert local in PAGE or other == "www.w3.org/2000/svg", (
                name,
                local,
                other,
            )
    policy = ask(server, "/")[2]["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "/sprite", "/sprite?rows=", "/sprite?rows=60", "/sprite?rows=-1", "/sprite?rows=a",
        "/sprite?rows=1e1", "/sprite?rows=5-3", "/sprite?rows=0-59", "/sprite?rows=1,,2",
        "/sprite?rows=0-999999999", f"/sprite?rows={','.join(['1'] * 49)}",
        "/sprite?rows=99999999999999999999", "/sprite?rows=%D9%A1",
        "/image/after/60.png", "/image/after/-1.png", "/image/other/1.png", "/image/after/x.png",
        "/image/..%2f..%2fetc/1.png", "/image/after/..%2f1.png", "/path/60.json",
        "/path/..%2F..%2Fdata.json", "/nearest/1e1.json", "/../pyproject.toml", "/%2e%2e/app.py",
        "/app.py", "/page", "/style.css/", "//etc/passwd", "/store.py", "/index.html%00.png",
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused(server, path):
    status, body, _ = ask(server, path)
    assert status == 404 and len(body) < 100


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_changed(server, method):
    assert ask(server, "/data.json", method)[0] in (405, 501)


def test_pages_of_other_sites_get_nothing(server):
    assert ask(server, "/data.json", Host="evil.example")[0] == 421
    assert ask(server, "/data.json", Origin="http://evil.example")[0] == 403
    assert ask(server, "/data.json")[2]["Cross-Origin-Resource-Policy"] == "same-origin"


def test_an_image_that_cannot_be_read_is_an_error_of_its_own(tmp_path):
    names = ["a.png", "b.png", "c.png"]
    folders = [write_folder(tmp_path / side, names) for side in ("before", "after")]
    pairs = read_pairs(*folders)
    whole = (folders[1] / "b.png").read_bytes()
    (folders[1] / "b.png").write_bytes(whole[:50])
    with Server(Gallery(pairs).routes()) as server:
        status, body, _ = ask(server, "/sprite?rows=0-2")
        assert status == 500 and b"b.png" in body and body.count(b"\n") == 1
        assert ask(server, "/sprite?rows=0,2")[0] == 200
        reply = json.loads(ask(server, "/path/0.json")[1])
        assert reply["found"] is None and "no card" in reply["error"]


def test_static_files_hold_all_that_the_page_needs(refined, tmp_path):
    out = tmp_path / "out"
    gallery = Gallery(open_pairs([refined]), real=refined)
    export(gallery, out, num_paths=2)
    html = (out / "index.html").read_text()
    assert '<script src="files/data.js" defer>' in html
    assert {path.name for path in out.iterdir()} == {*PAGE, "files"}
    text = (out / "files" / "data.js").read_text()
    data = json.loads(text.removeprefix("window.GALLERY = ").removesuffix(";\n"))
    assert data["static"] and data["num_details"] == 2 and not data["pending"]
    sprites = [Image.open(out / "files" / f"sprite-{n}.png") for n in range(2)]
    assert [one.size for one in sprites] == [(12 * 28, 8 * 28), (12 * 28, 2 * 28)]
    after = np.load(refined)["arr_0"][..., 0]
    np.testing.assert_array_equal(np.array(sprites[1])[28:, :28], after[48])
    detail = (out / "files" / "detail-1.js").read_text().partition(" = ")
    assert detail[0] == "window.DETAILS[1]"
    found = json.loads(detail[2].removesuffix(";\n"))
    assert found["path"]["same"] and found["nearest"][0]["id"] == str(int(IDS[1]))
    assert not (out / "files" / "detail-2.js").exists()
    with pytest.raises(InputError, match="not an empty folder"):
        export(gallery, out)


def test_static_files_of_two_folders_know_distances_and_escape_names(tmp_path):
    names = ["a.png", HOSTILE]
    folders = [write_folder(tmp_path / "a", names), write_folder(tmp_path / "b", names, 0.1)]
    export(Gallery(read_pairs(*folders)), tmp_path / "out")
    text = (tmp_path / "out" / "files" / "data.js").read_text()
    data = json.loads(text.removeprefix("window.GALLERY = ").removesuffix(";\n"))
    assert data["change"] and data["names"][0] == HOSTILE
    assert HOSTILE not in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.npz"], "no such file"),
        (["source.npz"], "no card of burnish refine"),
        (["refined.npz", "--features", "fashion_mnist/plain"], "give --real"),
        (["refined.npz", "--real", "none.npz"], "none.npz"),
        (["refined.npz", "--guide", "none"], "none"),
        (["refined.npz", "--export", "full"], "not an empty folder"),
        (["refined.npz", "--export", "a.html"], "the name of a folder"),
        (["refined.npz", "--port", "99999"], "--port"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(refined, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(refined.parent)
    (refined.parent / "full").mkdir(exist_ok=True)
    (refined.parent / "full" / "a").touch()
    before = sorted(refined.parent.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        main(["view", *arguments, "--no-open"])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and words in error and error.count("\n") == 1
    assert sorted(refined.parent.rglob("*")) == before


def test_the_command_writes_static_files(refined, tmp_path, capsys):
    other = write(tmp_path / "other.npz", ids=IDS, seed=1)
    main(
        ["view", str(other), str(refined.with_name("source.npz")), "--export", str(tmp_path / "o")]
    )
    assert capsys.readouterr().out == f"{tmp_path / 'o' / 'index.html'}: {COUNT} pairs\n"
    one = str(write(tmp_path / "one.npz", 1))
    main(["view", one, one, "--export", str(tmp_path / "p")])
    assert capsys.readouterr().out.endswith(": 1 pair\n")
