from __future__ import annotations

import contextlib
import json
import os
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from remote_gpu.discovery import GatewayRecord
from remote_gpu.errors import GatewayUnavailable, NotAllowed, RemoteGpuError, UnknownSession
from remote_gpu.gateway import Gateway

SESSION = {
    "id": "abc",
    "name": "default",
    "cluster": "local",
    "state": "running",
    "gpus": [],
    "kernel": None,
    "started": None,
    "new_field": 1,
}


class FakeGateway(socketserver.ThreadingUnixStreamServer):
    """A gateway that answers what a test put into `answers` and remembers what it was asked."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, str, Any]] = []
        self.connections = 0
        self.hang_up_after_answer = False
        self.secret = "s3cret"
        super().__init__(str(path), FakeHandler)


class FakeHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeGateway

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.asked.append((self.command, self.path, body))
        status, content = self.server.answers.get(f"{self.command} {self.path.partition('?')[0]}", (404, None))
        if self.headers["Authorization"] != f"remote-gpu {self.server.secret}":
            status, content = 403, {"message": "Forbidden"}
        text = b"" if content is None else content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        self.close_connection = self.server.hang_up_after_answer

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass

    def address_string(self) -> str:
        return "client"


@pytest.fixture
def fake(places):
    server = FakeGateway(places.folder / "g.sock")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def gateway(fake, places):
    record = GatewayRecord(places.runtime / "x.json", places.folder / "g.sock", "s3cret", os.getpid(), None, "1", "server")
    with Gateway(record) as client:
        yield client


def test_sessions_come_as_frozen_values_and_unknown_fields_are_left_out(fake, gateway):
    fake.answers["GET /remote-gpu/sessions"] = (200, {"sessions": [SESSION]})
    (session,) = gateway.sessions()
    assert (session.id, session.cluster, session.kernel, session.started, session.over) == ("abc", "local", {}, "", False)
    with pytest.raises(AttributeError):
        session.name = "other"


def test_all_sessions_are_asked_of_the_clusters_too_and_which_could_not_be_asked_is_told(fake, gateway):
    fake.answers["GET /remote-gpu/sessions"] = (200, {"sessions": [SESSION], "problems": ["montreal: it did not answer."]})
    (session,), problems = gateway.all_sessions()
    assert (session.id, problems) == ("abc", ("montreal: it did not answer.",))
    assert fake.asked[-1][1] == "/remote-gpu/sessions?discover=true"


def test_clusters_come_with_their_pools(fake, gateway):
    pools = [{"name": "gpu", "gpus_total": 4, "odd": True}]
    fake.answers["GET /remote-gpu/clusters"] = (200, {"clusters": [{"name": "local", "kind": "local", "pools": pools}]})
    (cluster,) = gateway.clusters()
    assert cluster.pools[0].gpus_total == 4


def test_an_attachment_says_where_its_connection_file_is(fake, gateway):
    answer = {"id": "a1", "connection_file": "/tmp/x/c.json", "session": SESSION, "head": 17}
    fake.answers["POST /remote-gpu/sessions/abc/attachments"] = (201, answer)
    attachment = gateway.attach("abc", after=3, claims=["m1"], name="cell")
    assert (attachment.connection_file, attachment.head, attachment.session.name) == (Path("/tmp/x/c.json"), 17, "default")
    assert fake.asked[-1][2] == {"after": 3, "claims": ["m1"], "name": "cell"}


def test_one_connection_serves_many_calls(fake, gateway):
    fake.answers["GET /remote-gpu/sessions"] = (200, {"sessions": []})
    for _ in range(5):
        gateway.sessions()
    assert fake.connections == 1


def test_a_connection_that_the_gateway_closed_is_opened_again(fake, gateway):
    fake.answers["GET /remote-gpu/sessions"] = (200, {"sessions": []})
    fake.hang_up_after_answer = True
    gateway.sessions()
    assert gateway.sessions() == ()
    assert fake.connections == 2


def test_an_error_is_raised_as_the_class_that_the_gateway_raised(fake, gateway):
    problem = UnknownSession("There is no session x.", hint="Try y.", near="y").problem()
    fake.answers["GET /remote-gpu/sessions/x"] = (404, problem)
    with pytest.raises(UnknownSession, match=r"no session x\. Try y\.") as caught:
        gateway.session("x")
    assert caught.value.details == {"near": "y"}


def test_an_answer_that_is_no_problem_is_still_told_in_words(fake, gateway):
    fake.answers["GET /remote-gpu/clusters"] = (500, b"<html>oops")
    with pytest.raises(RemoteGpuError, match="status 500"):
        gateway.clusters()


def test_a_wrong_secret_is_refused_in_words(fake, gateway):
    fake.secret = "another"
    with pytest.raises(NotAllowed, match="403"):
        gateway.sessions()


def test_a_gateway_that_is_gone_is_unavailable(fake, gateway, places):
    places.folder.joinpath("g.sock").unlink()
    with pytest.raises(GatewayUnavailable, match="does not answer"):
        gateway.sessions()


def test_a_gateway_that_hangs_is_unavailable_after_the_time_and_the_next_call_gets_its_own_answer(fake, gateway, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr("remote_gpu.gateway._ANSWER_TIME", 0.2)

    def slow(handler: FakeHandler) -> None:
        gate.wait(10)
        with contextlib.suppress(OSError):
            FakeHandler.answer(handler)

    fake.answers["GET /remote-gpu/sessions"] = (200, {"sessions": []})
    fake.answers["GET /remote-gpu/clusters"] = (200, {"clusters": []})
    monkeypatch.setattr(FakeHandler, "do_GET", slow)
    with pytest.raises(GatewayUnavailable, match="in time"):
        gateway.sessions()
    gate.set()
    assert gateway.clusters() == ()


def test_a_long_poll_says_what_was_seen_and_how_long(fake, gateway):
    fake.answers["GET /remote-gpu/sessions/abc"] = (200, SESSION)
    gateway.session("abc", wait=5, seen="pending")
    assert fake.asked[-1][1] == "/remote-gpu/sessions/abc?wait=5&seen=pending"


def test_names_with_odd_characters_stay_one_part_of_the_path(fake, gateway):
    fake.answers["DELETE /remote-gpu/sessions/a%2Fb%20c"] = (204, None)
    gateway.stop_session("a/b c")
    assert fake.asked[-1][0] == "DELETE"


def test_a_choice_is_read_and_set_for_a_kernel(fake, gateway):
    fake.answers["GET /remote-gpu/choice"] = (200, {"notebook": "n.ipynb", "cluster": "auto"})
    fake.answers["PUT /remote-gpu/choice"] = (200, {"notebook": "n.ipynb", "cluster": "local"})
    assert gateway.choice(kernel_id="k") == "auto"
    assert gateway.set_choice("local", kernel_id="k") == "local"
    assert fake.asked[-1] == ("PUT", "/remote-gpu/choice?kernel_id=k", {"cluster": "local"})


PROMPT = {"id": "p1", "host": "h", "text": "Password:", "kind": "secret", "asked": "2026-01-01T00:00:00Z", "new_field": 1}
LOGIN = {"host": "h", "clusters": ["c"], "state": "trying", "detail": "", "expires": None, "prompts": [PROMPT], "stamp": "s1"}


def test_a_session_says_its_end_its_stamp_and_what_its_login_asks(fake, gateway):
    more = {"state": "pending", "ends": "2026-01-01T00:00:00Z", "prompts": [PROMPT], "stamp": "s1", "problem": None}
    fake.answers["GET /remote-gpu/sessions/abc"] = (200, SESSION | more)
    session = gateway.session("abc")
    assert (session.ends, session.stamp, session.pending, session.problem) == ("2026-01-01T00:00:00Z", "s1", True, {})
    assert [(each.id, each.kind) for each in session.prompts] == [("p1", "secret")]
    hash(session.prompts)


def test_a_login_is_begun_waited_for_and_ended(fake, gateway):
    fake.answers["POST /remote-gpu/logins/c"] = (202, LOGIN)
    fake.answers["GET /remote-gpu/logins/c"] = (200, LOGIN | {"state": "in", "prompts": []})
    fake.answers["GET /remote-gpu/logins"] = (200, {"logins": [LOGIN]})
    fake.answers["DELETE /remote-gpu/logins/c"] = (204, None)
    assert gateway.begin_login("c").prompts[0].text == "Password:"
    assert gateway.login("c", wait=5, seen="s1").state == "in"
    assert fake.asked[-1][1] == "/remote-gpu/logins/c?wait=5&seen=s1"
    assert gateway.logins()[0].clusters == ("c",)
    gateway.end_login("c")
    assert fake.asked[-1][0] == "DELETE"


def test_an_answer_goes_in_the_body_and_a_refusal_is_a_delete(fake, gateway):
    fake.answers["POST /remote-gpu/prompts/p1"] = (204, None)
    fake.answers["DELETE /remote-gpu/prompts/p1"] = (204, None)
    gateway.answer("p1", "secret ü")
    assert fake.asked[-1] == ("POST", "/remote-gpu/prompts/p1", {"answer": "secret ü"})
    gateway.refuse("p1")
    assert fake.asked[-1][0] == "DELETE"


def test_an_end_is_moved_by_seconds(fake, gateway):
    fake.answers["POST /remote-gpu/sessions/abc/extend"] = (200, SESSION | {"ends": "2026-01-01T01:00:00Z"})
    assert gateway.extend("abc", 3600).ends == "2026-01-01T01:00:00Z"
    assert fake.asked[-1][2] == {"seconds": 3600}
