"""Below the routes: connections, their threads and limits, and HTTP on them."""

import io
import socket
import sys
import threading
import time
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any

from burnish.web.message import SECURITY, Refused, Reply

if TYPE_CHECKING:
    from burnish.web.server import Server

MAX_HEAD = 16_384


class Http(ThreadingHTTPServer):
    """One thread for each connection, and no more of them than allowed."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, owner: "Server", host: str, port: int, max_connections: int) -> None:
        self.owner, self._free = owner, threading.Semaphore(max_connections)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind, and look up no names."""
        # HTTPServer would ask the name service for this machine's full name, which may take long.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = map(str, self.server_address[:2])  # type: ignore

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection, or close it."""
        if self._free.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except BaseException:  # no thread could be started
                self._free.release()
                raise
            return
        self.owner.refused(str(client_address[0]), "", "", 503, "too many connections")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print faults of burnish; that clients hang up is no news."""
        if not isinstance(sys.exception(), OSError):
            traceback.print_exc()


class _Deadline(io.RawIOBase):
    """Reads a socket until a time and up to a number of bytes, both set anew for each request."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._until, self._left = connection, 0.0, 0
        self.begun = False

    def start(self, seconds: float, size: int) -> None:
        self._until, self._left, self.begun = time.monotonic() + seconds, size, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining = self._until - time.monotonic()
        if remaining <= 0 or self._left <= 0:
            raise TimeoutError("the request takes too long, or is too long")
        self._connection.settimeout(remaining)
        count = self._connection.recv_into(buffer)
        self._left -= count
        self.begun = self.begun or count > 0
        return count


class _Handler(BaseHTTPRequestHandler):
    """Reads requests within their limits, and writes replies."""

    protocol_version = default_request_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or the second packet of a reply waits for the client
    wbufsize = 65_536
    server: Http  # type: ignore[assignment]

    def setup(self) -> None:
        super().setup()
        self._raw = _Deadline(self.connection)
        self.rfile = io.BufferedReader(self._raw)
        self._refusing = False

    def finish(self) -> None:
        """Send what is left; after a refusal, wait a moment for the client to read it.

        Closing a connection on which unread bytes lie would take the reply away again.
        """
        super().finish()
        if not self._refusing:
            return
        try:
            self.connection.shutdown(socket.SHUT_WR)
            self._raw.start(min(1.0, self.server.owner.seconds), 1_000_000)
            while self._raw.read(65_536):
                pass
        except OSError:
            pass

    def handle_one_request(self) -> None:
        """Read one request and answer it; the connection stays open if all went well."""
        owner = self.server.owner
        self._raw.start(owner.seconds, MAX_HEAD + owner.max_body)
        self.close_connection, self.command, self.path = True, "", ""
        try:
            self.raw_requestline = self.rfile.readline(MAX_HEAD + 1)
            if not self.raw_requestline:
                return
            if len(self.raw_requestline) > MAX_HEAD:
                self.request_version = "HTTP/1.1"
                self.send_error(414, "the address is too long")
            elif self.parse_request():
                self._answer()
            self.wfile.flush()
        except TimeoutError as error:
            self.close_connection = True
            if self._raw.begun:  # else it was idle
                self._log(408, str(error))
        except OSError:
            self.close_connection = True

    def _answer(self) -> None:
        owner, client = self.server.owner, str(self.client_address[0])
        try:
            owner.check_host(self.headers.get_all("host") or [], self.headers.get("origin"))
            body = self._body()
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = owner.reply(self.command, self.path, headers, body, client)
        except Refused as error:
            self.send_error(error.status, error.reason)
            return
        except OSError:
            raise
        except Exception:
            traceback.print_exc()
            self.send_error(500, "something is wrong with this server")
            return
        self._send(reply)

    def _body(self) -> bytes:
        """Return the body; after a refusal the connection is closed, as it may hold the rest."""
        lengths = self.headers.get_all("content-length") or ["0"]
        if self.headers.get("transfer-encoding"):
            raise Refused(411, "a body needs a length")
        if len(lengths) != 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
            raise Refused(400, "the length of the body is not a number")
        if len(lengths[0]) > 12 or int(lengths[0]) > self.server.owner.max_body:
            raise Refused(413, f"the body is larger than {self.server.owner.max_body} bytes")
        body = self.rfile.read(int(lengths[0]))
        if len(body) < int(lengths[0]):
            raise ConnectionError("the client has gone")
        return body

    def send_error(
        self, code: int, message: str | None = None, explain: str | None = None
    ) -> None:
        """Answer in plain text, tell the log, and close the connection."""
        reason = message or HTTPStatus(code).phrase
        self._log(int(code), reason)
        self.close_connection = self._refusing = True
        self._send(Reply(f"{reason}\n".encode(), status=int(code)))

    def _send(self, reply: Reply) -> None:
        fields = {
            "Content-Type": reply.kind,
            "Cache-Control": "no-store",
            **SECURITY,
            **reply.headers,
            "Content-Length": str(len(reply.body)),
            "Connection": "close" if self.close_connection else "keep-alive",
        }
        self.connection.settimeout(self.server.owner.seconds)
        self.send_response_only(reply.status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def _log(self, status: int, reason: str) -> None:
        self.server.owner.refused(
            str(self.client_address[0]), self.command or "", self.path or "", status, reason
        )

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: refusals go to the log, and answers are no news."""
