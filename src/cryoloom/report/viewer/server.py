"""A server, for this machine alone, of the interactive page of a run."""

import json
import secrets
import sys
from html import escape
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from string import Template
from typing import Any
from urllib.parse import parse_qs, urlsplit

from plotly.offline import get_plotlyjs

from cryoloom.errors import InputError
from cryoloom.report.viewer.answers import Answers

HOST = "127.0.0.1"


def viewer_page(title: str) -> str:
    """The page's HTML; it asks the server for the rest."""
    room = files("cryoloom.report")
    style = room.joinpath("style.css").read_text() + room.joinpath("viewer", "viewer.css").read_text()
    return Template(room.joinpath("viewer", "page.html").read_text()).substitute(
        title=escape(title), style=style, script=room.joinpath("viewer", "viewer.js").read_text()
    )


class _Server(ThreadingHTTPServer):
    """A server that many may ask at once, and that takes no notice of those who leave before the answer."""

    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Show a fault, unless the other side has closed the connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def serve(answers: Answers, port: int, token: str = "") -> ThreadingHTTPServer:
    """A server of the page on 127.0.0.1, not yet running. Raises InputError where the port is taken.

    token: what the address must end with, `/?token=…`, as every user of a machine reaches its 127.0.0.1; "" for none.
    """
    page = viewer_page(answers.run.resolve().name)

    class Handler(BaseHTTPRequestHandler):
        """Answers GET: the page, plotly, points, maps."""

        def do_GET(self) -> None:
            # A page of another site that resolves to this address must not read a user's data.
            if self.headers.get("Host", "").rsplit(":", 1)[0] not in (HOST, "localhost"):
                self._send(403, "text/plain", "only this machine")
                return
            asked = urlsplit(self.path)
            if asked.path != "/plotly.js" and not self._knows_token(asked.query):
                self._send(403, "text/plain", "open the whole address that cryoloom view printed, with its token")
            elif asked.path == "/":
                self._send(200, "text/html", page)
            elif asked.path == "/plotly.js":
                self._send(200, "text/javascript", get_plotlyjs())
            elif asked.path == "/points":
                self._json(answers.points)
            elif asked.path == "/map":
                self._json(lambda: answers.map(_particle(asked.query)))
            else:
                self._send(404, "text/plain", "there is no such page")

        def _knows_token(self, query: str) -> bool:
            """Whether the address has the token, or the cookie that the page came with."""
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(self._cookie())
            given = [*parse_qs(query).get("token", []), *([cookie.value] if cookie else [])]
            return not token or any(secrets.compare_digest(word.encode(), token.encode()) for word in given)

        def _cookie(self) -> str:
            # Cookies know no ports: two pages on one machine have one each.
            return f"cryoloom_{self.connection.getsockname()[1]}"

        def _json(self, answer: Any) -> None:
            try:
                self._send(200, "application/json", json.dumps(answer()))
            except InputError as error:
                self._send(400, "application/json", json.dumps({"error": str(error)}))

        def _send(self, code: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            if token and code == 200 and kind == "text/html":
                self.send_header("Set-Cookie", f"{self._cookie()}={token}; HttpOnly; SameSite=Strict")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing of each request."""

    try:
        return _Server((HOST, port), Handler)
    except OSError as error:
        raise InputError(f"port {port} of {HOST} cannot be used ({error.strerror}): give another --port.") from error


def _particle(query: str) -> int | None:
    given = parse_qs(query).get("particle")
    if not given:
        return None
    if not (given[0].isascii() and given[0].isdecimal() and len(given[0]) < 16):
        raise InputError(f"{given[0][:20]!r} is not a particle: expected a row of particles.star, from 0.")
    return int(given[0])
