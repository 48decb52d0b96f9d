"""What a page's code sees of the web: a request comes in, a reply or a refusal goes out."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# What may stand for a placeholder of a route: no slash, no escape, no dot in front.
_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}"

# A page may load from its own server alone, and runs no script that is written into it.
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Refused(Exception):
    """A request that is not served; the client gets the status and the reason as plain text.

    Args:
        status: HTTP status, 400 to 599.
        reason: One line, for the client and the log.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class Request:
    """A request whose host, length and route have been checked.

    Args:
        method: ``GET`` or whatever the route says; a HEAD request is served as GET.
        path: The path as sent, without the query.
        values: What stood for the placeholders of the route.
        query: The query, decoded; of a repeated key the last value.
        headers: Header fields by lower-case name.
        body: At most the server's ``max_body`` bytes.
        client: The address of the client, or of the proxy before it.
    """

    method: str
    path: str
    values: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    client: str

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        Raises:
            Refused: 415 if the content type is not JSON (a form of another site cannot send that
                without asking first), 400 if the body is no JSON object.
        """
        if self.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Refused(415, "the content type must be application/json")
        try:
            values = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise Refused(400, "the body is not JSON") from error
        if not isinstance(values, dict):
            raise Refused(400, "the body is not a JSON object")
        return values


@dataclass(frozen=True)
class Reply:
    """What is sent back.

    Args:
        body: The bytes; their number is always announced.
        kind: The content type.
        status: HTTP status.
        headers: Further header fields; they win over the server's own (security, no storing).
    """

    body: bytes
    kind: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_json(cls, values: Mapping[str, Any], status: int = 200) -> "Reply":
        """Return values as JSON."""
        return cls(json.dumps(values, allow_nan=False).encode(), "application/json", status)

    @classmethod
    def of_html(cls, text: str) -> "Reply":
        """Return a page."""
        return cls(text.encode(), "text/html; charset=utf-8")


class Route:
    """Requests of one method and form of path, and the function that answers them.

    Args:
        method: ``GET`` or ``POST``.
        pattern: A path such as ``/image/{name}``. A placeholder stands for one part of the path:
            up to 128 letters, digits and ``_ - .``, not beginning with a dot.
        answer: Gets the request, returns the reply, or raises :class:`Refused`. Called from
            several threads at once.
    """

    def __init__(self, method: str, pattern: str, answer: Callable[[Request], Reply]) -> None:
        self.method, self.pattern, self.answer = method, pattern, answer
        parts = re.split(r"\{(\w+)\}", pattern)
        texts = [
            f"(?P<{one}>{_SEGMENT})" if n % 2 else re.escape(one) for n, one in enumerate(parts)
        ]
        self._regex = re.compile("".join(texts), re.ASCII)

    def match(self, path: str) -> dict[str, str] | None:
        """Return what stands for the placeholders; None if the path has another form."""
        found = self._regex.fullmatch(path)
        return found.groupdict() if found else None
