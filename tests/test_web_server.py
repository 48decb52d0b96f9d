"""The web server: what it serves, what it refuses, and how long it can be held up."""

import http.client
import json
import socket
import threading
import time

import pytest

from burnish.errors import InputError
from burnish.web.connection import MAX_HEAD
from burnish.web.message import SECURITY, Refused, Reply, Request, Route
from burnish.web.server import Server


def echo(request: Request) -> Reply:
    return Reply.of_json({"values": dict(request.values), "query": dict(request.query)})


def fail(request: Request) -> Reply:
    raise RuntimeError("a bug")


def store(request: Request) -> Reply:
    return Reply.of_json(request.json())


def refuse(request: Request) -> Reply:
    raise Refused(410, "gone for good")


ROUTES = [
    Route("GET", "/", lambda request: Reply.of_html("<p>Hello")),
    Route("GET", "/a.b/{name}/{part}", echo),
    Route("GET", "/fail", fail),
    Route("GET", "/refuse", refuse),
    Route("POST", "/store", store),
]


@pytest.fixture
def seen():
    return []


@pytest.fixture
def server(seen):
    log = lambda *entry: seen.append(entry)  # noqa: E731
    with Server(
        ROUTES, names=["Survey.example.org"], max_body=1000, seconds=5, refused=log
    ) as one:
        yield one


def ask(server, method="GET", path="/", body=None, **headers):
    client = http.client.HTTPConnection(server.host, server.port, timeout=5)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    client.request(method, path, body, named)
    reply = client.getresponse()
    return reply.status, reply.read(), dict(reply.headers)


def raw(server, data, wait=5.0):
    """Send bytes as they are and return all that comes back until the server hangs up."""
    with socket.create_connection((server.host, server.port), timeout=wait) as client:
        client.sendall(data)
        parts = []
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_routes_get_what_stands_for_their_placeholders(server):
    status, body, headers = ask(server, path="/a.b/one/x-_.9?q=%26&q=2")
    assert status == 200
    assert json.loads(body) == {"values": {"name": "one", "part": "x-_.9"}, "query": {"q": "2"}}
    assert headers.items() >= {**SECURITY, "Cache-Control": "no-store"}.items()
    assert "Server" not in headers


def test_a_head_request_gets_the_head_alone(server):
    status, body, headers = ask(server, "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", "8")


JSON = {"Content_Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/nothing", None, {}, 404),
        ("GET", "/a.b/one/..", None, {}, 404),
        ("GET", "/a.b/%2e%2e/x", None, {}, 404),
        ("GET", "/a.b/one/" + "x" * 129, None, {}, 404),
        ("GET", "/axb/one/two", None, {}, 404),
        ("GET", "http://127.0.0.1/", None, {}, 404),
        ("GET", "/?" + "&".join(["a=b"] * 101), None, {}, 400),
        ("POST", "/", b"", {}, 405),
        ("DELETE", "/", None, {}, 405),
        ("GET", "/store", None, {}, 405),
        ("GET", "/refuse", None, {}, 410),
        ("POST", "/store", b"{}", {}, 415),
        ("POST", "/store", b"{", JSON, 400),
        ("POST", "/store", b"[]", JSON, 400),
        ("POST", "/store", b"[" * 900, JSON, 400),
        ("POST", "/store", b"x" * 1001, JSON, 413),
        ("POST", "/store", b"{}", {**JSON, "Origin": "http://evil.example"}, 403),
        ("POST", "/store", b"{}", {**JSON, "Origin": "null"}, 403),
        ("GET", "/", None, {"Host": "evil.example:80"}, 421),
        ("GET", "/", None, {"Host": "127.0.0.1.evil.example"}, 421),
        ("GET", "/", None, {"Host": "[::"}, 421),
    ],
)
def test_a_request_is_refused_and_told_to_the_log(
    server, seen, capsys, method, path, body, headers, status
):
    got, reason, fields = ask(server, method, path, body, **headers)
    assert got == status and reason.endswith(b"\n") and fields["Connection"] == "close"
    assert fields["Content-Type"].startswith("text/plain")
    assert [(entry[0], entry[1], entry[3]) for entry in seen] == [("127.0.0.1", method, status)]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("host", ["localhost:1", "192.0.2.7", "[::1]:80", "survey.EXAMPLE.org"])
def test_known_names_and_addresses_are_answered(server, host):
    assert ask(server, Host=host)[0] == 200
    headers = {**JSON, "Host": host, "Origin": f"https://{host}"}
    assert ask(server, "POST", "/store", b'{"a": 1}', **headers)[:2] == (200, b'{"a": 1}')


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET / HTTP/7.1\r\nHost: localhost\r\n\r\n", b"505"),
        (b"nonsense with too many words\r\n\r\n", b""),
        (b"GET /" + b"x" * MAX_HEAD + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"POST /store HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"POST /store HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: [::1]\r\nContent-Length: " + b"9" * 99 + b"\r\n\r\n", b"413"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"431"),
    ],
)  # fmt: skip
def test_malformed_requests_are_refused(server, seen, data, status):
    assert status in raw(server, data).partition(b"\r\n")[0]
    assert len(seen) == 1


def test_a_client_that_dribbles_is_cut_off(seen):
    log = lambda *entry: seen.append(entry)  # noqa: E731
    with Server(ROUTES, seconds=0.4, refused=log) as server:
        begun = time.monotonic()
        with socket.create_connection((server.host, server.port), timeout=5) as client:
            client.sendall(b"GET / HTTP/1.1\r\n")
            try:
                for _ in range(40):
                    client.sendall(b"a")
                    if not select_quiet(client):
                        break
            except OSError:
                pass
        assert time.monotonic() - begun < 2
        assert ask(server)[0] == 200
    assert [entry[3] for entry in seen] == [408]


def select_quiet(client):
    """Wait 0.1 s; return False if the server has hung up."""
    client.settimeout(0.1)
    try:
        return bool(client.recv(1))
    except TimeoutError:
        return True


def test_a_connection_serves_many_requests(server):
    client = http.client.HTTPConnection(server.host, server.port, timeout=5)
    client.connect()
    first = client.sock
    for _ in range(3):
        client.request("GET", "/")
        assert client.getresponse().read() == b"<p>Hello"
    assert client.sock is first


def test_more_connections_than_allowed_are_closed(seen):
    with Server(ROUTES, max_connections=2, refused=lambda *e: seen.append(e)) as server:
        held = [socket.create_connection((server.host, server.port), timeout=5) for _ in range(2)]
        deadline = time.monotonic() + 5
        while threading.active_count() < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(OSError):
            if not raw(server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"):
                raise ConnectionError
        for one in held:
            one.close()
        assert eventually_served(server)
    assert (503, "too many connections") in [entry[3:] for entry in seen]


def eventually_served(server):
    """Return whether a request is answered within five seconds, tried again and again."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            return ask(server)[0] == 200
        except (OSError, http.client.HTTPException):
            time.sleep(0.01)
    return False


def test_a_fault_of_a_route_is_an_error_of_the_server_and_not_its_end(server, capsys):
    assert ask(server, path="/fail")[0] == 500
    assert ask(server)[0] == 200
    assert "a bug" in capsys.readouterr().err


def test_a_port_that_is_taken_is_bad_input(server):
    with pytest.raises(InputError, match="choose another"):
        Server(ROUTES, port=server.port)
