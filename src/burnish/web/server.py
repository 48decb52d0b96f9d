"""A threaded HTTP server on the standard library, for a page on this machine or behind a proxy.

It is bound to 127.0.0.1 unless told otherwise, and checks each request before any route sees it:

* The ``Host`` must be an IP address, ``localhost`` or a name given. A page of another site that
  lets its own name point here (DNS rebinding) cannot send that.
* The ``Origin``, if there is one, must be the host: other sites cannot post.
* Head and body have limits of size, and one deadline together. A client that sends a byte now and
  then holds its thread no longer than that.
* Replies announce their length and carry :data:`~burnish.web.message.SECURITY`. Nothing is cached
  unless a reply says so.

It has no encryption and no accounts. For the open internet, put a proxy with TLS in front.

Example::

    server = Server([Route("GET", "/", lambda request: Reply.of_html("<p>Hello"))], port=8000)
    print(server.url)
    server.serve()          # until stop(); or `with server:` to serve in a thread
"""

import errno
import ipaddress
import threading
from collections.abc import Callable, Sequence
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from burnish.errors import InputError
from burnish.web.connection import Http
from burnish.web.message import Refused, Reply, Request, Route

# Gets client, method, path, status and reason.
Log = Callable[[str, str, str, int, str], None]


class Server:
    """Serves routes.

    Args:
        routes: The first one that matches answers.
        host: The address to listen on; ``0.0.0.0`` for all of this machine.
        port: 0 for a free one.
        names: Further host names under which clients may come, such as a proxy's.
        max_body: Largest body of a request, in bytes.
        seconds: For one request to arrive and for one reply to leave; also how long an idle
            connection is kept.
        max_connections: Connections beyond this number are closed at once.
        refused: Told of each request that is refused.

    Raises:
        InputError: The port is taken, or the address is not of this machine.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        host: str = "127.0.0.1",
        port: int = 0,
        names: Sequence[str] = (),
        max_body: int = 65_536,
        seconds: float = 15,
        max_connections: int = 512,
        refused: Log | None = None,
    ) -> None:
        self.routes, self.max_body, self.seconds = list(routes), max_body, seconds
        self.names = {"localhost", *(name.lower() for name in names)}
        self.refused: Log = refused or (lambda *_: None)
        try:
            self._http = Http(self, host, port, max_connections)
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            why = "something listens there already" if taken else str(error)
            raise InputError(f"cannot serve at {host}:{port} ({why}); choose another") from error
        self.host, self.port = str(self._http.server_address[0]), self._http.server_address[1]

    @property
    def url(self) -> str:
        """The address of the server, with a slash at the end."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"

    def serve(self) -> None:
        """Serve until :meth:`stop` is called from another thread, or until interrupted."""
        try:
            self._http.serve_forever(poll_interval=0.1)
        finally:
            self._http.server_close()

    def stop(self) -> None:
        """End :meth:`serve`; requests that are being answered are finished by their threads."""
        self._http.shutdown()

    def close(self) -> None:
        """Free the port of a server that never served."""
        self._http.server_close()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join()

    def reply(
        self, method: str, target: str, headers: dict[str, str], body: bytes, client: str
    ) -> Reply:
        """Return the reply to a request that has arrived; raises :class:`Refused`."""
        try:
            parts = urlsplit(target)
            query = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=100))
        except ValueError as error:
            raise Refused(400, "the address is malformed or has too many fields") from error
        found = [(route, route.match(parts.path)) for route in self.routes]
        found = [(route, values) for route, values in found if values is not None]
        if not found or not target.startswith("/"):
            raise Refused(404, "there is no such page")
        wanted = "GET" if method == "HEAD" else method
        for route, values in found:
            if route.method == wanted:
                return route.answer(
                    Request(wanted, parts.path, values, query, headers, body, client)
                )
        raise Refused(405, f"{method} is not for this page")

    def check_host(self, hosts: list[str], origin: str | None) -> None:
        """Refuse a request that was meant for another host or comes from another site's page."""
        if len(hosts) != 1:
            raise Refused(400, "a request names one host")
        try:
            name = urlsplit(f"//{hosts[0]}").hostname or ""
        except ValueError:
            name = ""
        if name not in self.names and not _is_address(name):
            raise Refused(421, "this server does not answer for that host")
        if origin is not None and origin.partition("//")[2].lower() != hosts[0].lower():
            raise Refused(403, "the request comes from the page of another site")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
