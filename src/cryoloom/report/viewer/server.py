"""A server, for this machine alone, of the interactive page of a run."""

import json
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
        title=title.replace("<", "&lt;"), style=style, script=room.joinpath("viewer", "viewer.js").read_text()
    )


def serve(answers: Answers, port: int) -> ThreadingHTTPServer:
    """A server of the page on 127.0.0.1, not yet running. Raises InputError where the port is taken."""
    page = viewer_page(answers.run.resolve().name)

    class Handler(BaseHTTPRequestHandler):
        """Answers GET: the page, plotly, points, maps."""

        def do_GET(self) -> None:
            # A page of another site that resolves to this address must not read a user's data.
            if self.headers.get("Host", "").rsplit(":", 1)[0] not in (HOST, "localhost"):
                self._send(403, "text/plain", "only this machine")
                return
            asked = urlsplit(self.path)
            if asked.path == "/":
                self._send(200, "text/html", page)
            elif asked.path == "/plotly.js":
                self._send(200, "text/javascript", get_plotlyjs())
            elif asked.path == "/points":
                self._json(answers.points)
            elif asked.path == "/map":
                self._json(lambda: answers.map(_particle(asked.query)))
            else:
                self._send(404, "text/plain", "there is no such page")

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
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing of each request."""

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise InputError(f"port {port} of {HOST} cannot be used ({error.strerror}): give another --port.") from error


def _particle(query: str) -> int | None:
    given = parse_qs(query).get("particle")
    if not given:
        return None
    if not given[0].isdecimal():
        raise InputError(f"{given[0]!r} is no particle: expected a row of particles.star, from 0.")
    return int(given[0])
