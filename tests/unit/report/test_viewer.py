"""The interactive page: what it is given, and that it answers this machine alone."""

import json
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cryoloom.errors import InputError
from cryoloom.report.viewer.answers import Answers
from cryoloom.report.viewer.server import serve

from .conftest import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("viewer") / "run", 300)


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    """A page that is being served."""
    server = serve(Answers(run), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def get(address: str, path: str, host: str | None = None) -> tuple[int, str]:
    request = urllib.request.Request(address + path, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_page_asks_nobody_else(address):
    code, page = get(address, "/")
    assert code == 200
    assert "http://" not in page
    assert "https://" not in page
    assert "<h1>run</h1>" in page
    assert "${" not in page.split("<script>")[0]
    assert "Plotly" in get(address, "/plotly.js")[1]


def test_particles_without_conformations_are_drawn_by_their_poses(address):
    points = json.loads(get(address, "/points")[1])
    assert points["particles"] == list(range(300))
    assert len(points["coordinates"]["rot (°)"]) == len(points["colours"]["rotation_sigma_deg"]) == 300


def test_maps(address):
    whole = json.loads(get(address, "/map")[1])
    assert len(whole["vertices"]) == len(whole["faces"]) == 3
    assert len(whole["images"]) == 6
    one = json.loads(get(address, "/map?particle=7")[1])
    assert ["particle", "7"] in one["facts"]
    assert any(name == "rot, tilt, psi" for name, _ in one["facts"])


@pytest.mark.parametrize("asked", ["300", "-1", "x", "9" * 5000, "%D9%A3"])
def test_a_particle_that_is_not_there(address, asked):
    code, answer = get(address, f"/map?particle={asked}")
    assert code == 400
    assert "particle" in json.loads(answer)["error"]


def test_other_pages_and_other_machines_are_refused(address):
    assert get(address, "/etc/passwd")[0] == 404
    assert get(address, "/points", host="evil.example:80")[0] == 403


def test_a_port_that_is_taken_and_a_run_without_a_map(address, run, tmp_path):
    with pytest.raises(InputError, match="another --port"):
        serve(Answers(run), int(address.rsplit(":", 1)[1]))
    with pytest.raises(InputError, match="does not exist"):
        Answers(tmp_path)


def test_without_the_token_nothing_is_shown(run):
    server = serve(Answers(run), 0, "secret")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        own = f"http://127.0.0.1:{server.server_port}"
        assert [get(own, path)[0] for path in ("/", "/points", "/map", "/?token=other")] == [403] * 4
        with urllib.request.urlopen(f"{own}/?token=secret", timeout=30) as answer:
            cookie = answer.headers["Set-Cookie"].split(";")[0]
        request = urllib.request.Request(f"{own}/points", headers={"Cookie": cookie})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
        assert get(own, "/points")[0] == 403
    finally:
        server.shutdown()
        server.server_close()


def test_a_client_that_leaves_is_no_fault(address, capfd):
    host, port = address.removeprefix("http://").split(":")
    for _ in range(3):
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"GET /plotly.js HTTP/1.0\r\nHost: localhost\r\n\r\n")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert get(address, "/points")[0] == 200
    assert "Traceback" not in capfd.readouterr().err
