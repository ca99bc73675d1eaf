"""What the client does when there is no answer, none that is good, or none that a registry gives."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from bench.errors import InputError, PetasealError, RefusedError
from certify.policy.centre import Bilingual
from certify.registry.api.common import ActAsk
from certify.registry.api.views import CapacityFeed, PoolCapacity
from certify.registry.client.client import RegistryClient
from certify.registry.client.feed import Changes, Feed
from certify.registry.client.transport import retry_after_s

URL = "http://registry.test"
SECRET = "ptr_" + "s3cret" * 7
AT = "2026-03-01T08:00:00.000000Z"
DECIDED = {"decision": "accepted", "at": AT, "code": None, "detail": None, "level": "trusted"}
ACCEPTED = {**DECIDED, "payload_sha256": "ab" * 32, "receipt": None}


def problem(status: int, code: str, headers: dict[str, str] | None = None) -> httpx.Response:
    content = {
        "type": f"urn:petaseal:reason:{code}",
        "title": code,
        "status": status,
        "detail": f"because of {code}",
        "code": code,
        "instance": "x",
    }
    told = {"content-type": "application/problem+json", **(headers or {})}
    return httpx.Response(status, content=json.dumps(content).encode(), headers=told)


class Script:
    """Answers one request after the other, and notes what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.asked, self.slept = list(answers), list[httpx.Request](), list[float]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def registry(self, **options: Any) -> RegistryClient:
        return RegistryClient(URL, transport=httpx.MockTransport(self), sleep=self.slept.append, **options)


def accepted() -> httpx.Response:
    return httpx.Response(201, json=ACCEPTED)


PASSING: list[Callable[[], httpx.Response | Exception]] = [
    lambda: httpx.ConnectError("refused"),
    lambda: httpx.ReadError("reset"),
    lambda: httpx.RemoteProtocolError("cut off"),
    lambda: httpx.Response(502, text="<html>"),
    lambda: problem(503, "unavailable", {"retry-after": "3"}),
    lambda: problem(429, "rate-limited", {"retry-after": "7"}),
]


@pytest.mark.parametrize("failure", PASSING)
def test_what_passes_is_waited_for(failure: Callable[[], httpx.Response | Exception]) -> None:
    script = Script(failure(), failure(), accepted())
    assert script.registry().submit_statement(b"envelope").decision == "accepted"
    assert [request.content for request in script.asked] == [b"envelope"] * 3
    assert len(script.slept) == 2


def test_a_server_says_how_long_to_wait() -> None:
    script = Script(problem(429, "rate-limited", {"retry-after": "7"}), accepted())
    script.registry().submit_statement(b"x")
    assert script.slept == [7.0]


def test_nobody_waits_for_an_hour() -> None:
    script = Script(problem(429, "rate-limited", {"retry-after": "3600"}))
    with pytest.raises(RefusedError) as refused:
        script.registry().submit_statement(b"x")
    assert refused.value.code == "rate-limited"
    assert script.slept == []


@pytest.mark.parametrize("failure", [httpx.ReadError("reset"), httpx.ReadTimeout("late"), httpx.Response(502)])
def test_what_may_have_arrived_is_done_once(failure: httpx.Response | Exception) -> None:
    script = Script(failure)
    ask = ActAsk(act="manage", centre_id="c", pool="p", reason="r")
    with pytest.raises(InputError) as refused:
        script.registry().act(ask)
    assert refused.value.code == "registry-unreachable"
    assert len(script.asked) == 1


def test_what_never_arrived_is_done_again() -> None:
    drawn = {"challenge": "ab", "centre_id": "c", "issued_at": AT, "expires_at": AT}
    script = Script(httpx.ConnectError("refused"), httpx.Response(201, json=drawn))
    assert script.registry().draw_challenge("c").challenge == "ab"


def test_it_gives_up() -> None:
    script = Script(*[httpx.ConnectError("refused") for _ in range(4)])
    with pytest.raises(InputError):
        script.registry().service()
    assert len(script.slept) == 3
    assert script.slept == sorted(script.slept)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415, 422])
def test_a_refusal_bears_the_code_of_the_registry(status: int) -> None:
    with pytest.raises(RefusedError) as refused:
        Script(problem(status, "some-code")).registry(token=SECRET).service()
    assert refused.value.code == "some-code"
    assert "because of some-code" in str(refused.value)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>It works!</html>"),
        httpx.Response(404, text="not here"),
        httpx.Response(302, headers={"location": "https://elsewhere.test/"}),
        httpx.Response(200, json={"name": 7}),
        httpx.Response(400, headers={"content-type": "application/problem+json"}, text="{"),
    ],
)
def test_what_is_no_registry(answer: httpx.Response) -> None:
    with pytest.raises(InputError) as refused:
        Script(answer).registry(token=SECRET).service()
    assert refused.value.code == "registry-answer-invalid"
    assert URL in str(refused.value)


def test_the_token_is_sent_and_never_told() -> None:
    script = Script(httpx.Response(200, json={}), httpx.ConnectError(SECRET[:0]), problem(401, "token-invalid"))
    registry = script.registry(token=SECRET, attempts=1)
    told = [repr(registry)]
    for _ in range(3):
        with pytest.raises(PetasealError) as error:
            registry.service()
        told += [str(error.value), repr(error.value)]
    assert {request.headers["authorization"] for request in script.asked} == {f"Bearer {SECRET}"}
    assert not any(SECRET in text for text in told)


@pytest.mark.parametrize(
    "url", ["registry.test", "ftp://x", "https://u:p@x", "https://x/?a=b", "https://", "http://x\x00"]
)
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(InputError) as refused:
        RegistryClient(url)
    assert refused.value.code == "url-invalid"
    assert "u:p" not in str(refused.value)


def test_a_token_is_not_sent_in_clear() -> None:
    with pytest.raises(InputError) as refused:
        RegistryClient("http://registry.test", SECRET)
    assert refused.value.code == "token-in-clear"
    for url in ("http://127.0.0.1:8600/v1", "http://[::1]:8600", "https://registry.test/"):
        RegistryClient(url, SECRET).close()


@pytest.mark.parametrize(("text", "expected"), [(None, None), ("12", 12.0), ("soon", None)])
def test_retry_after(text: str | None, expected: float | None) -> None:
    assert retry_after_s(text, 0.0) == expected


def test_retry_after_as_a_date() -> None:
    assert retry_after_s("Thu, 01 Jan 1970 00:01:40 GMT", 40.0) == 60.0
    assert retry_after_s("Thu, 01 Jan 1970 00:01:40 GMT", 400.0) == 0.0


def test_an_answer_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certify.registry.client.transport.ANSWER_BYTES", 1000)
    with pytest.raises(InputError) as refused:
        Script(httpx.Response(200, content=b"x" * 1001)).registry().service()
    assert refused.value.code == "registry-answer-invalid"


def test_pages_are_turned() -> None:
    def page(number: int, following: str | None) -> httpx.Response:
        alarm = {"id": number, "at": AT, "code": "x", "title": {"zh": "x", "en": "x"}, "centre_id": "c"}
        rest = {"payload_sha256": "ab" * 32, "other_centre_id": None, "other_sha256": None, "devices": 1, "what": "w"}
        return httpx.Response(200, json={"items": [{**alarm, **rest}], "next": following})

    script = Script(page(1, "next"), page(2, None))
    assert [alarm.id for alarm in script.registry().alarms(centre="c")] == [1, 2]
    assert [request.url.params.get("cursor") for request in script.asked] == [None, "next"]


# --- without a registry at the other end, for real --------------------------------------------------------------------


def test_nothing_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(InputError) as refused:
            RegistryClient(url, attempts=1).service()
    assert "connection refused" in str(refused.value)


def test_a_name_that_is_not_known() -> None:
    with pytest.raises(InputError) as refused:
        RegistryClient("http://registry.invalid", attempts=1).service()
    assert refused.value.code == "registry-unreachable"


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_no_answer_in_time(silent: int) -> None:
    with pytest.raises(InputError) as refused:
        RegistryClient(f"http://127.0.0.1:{silent}", timeout_s=0.2, attempts=1).service()
    assert "in time" in str(refused.value)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that nobody else vouches for, and its key."""
    pair = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    files = ["-out", str(pair[0]), "-keyout", str(pair[1])]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    return pair


def test_a_certificate_that_nobody_vouches_for(certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def shake_hands(listening: socket.socket) -> None:
        raw, _ = listening.accept()
        with raw:
            try:
                with context.wrap_socket(raw, server_side=True):
                    pass
            except OSError:  # the client hangs up
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=shake_hands, args=(server,))
        thread.start()
        with pytest.raises(InputError) as refused:
            RegistryClient(f"https://127.0.0.1:{server.getsockname()[1]}").service()  # once: it would not change
        thread.join()
    assert refused.value.code == "registry-not-trusted"


def test_authorities_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for file in ("ca.pem", "missing.pem"):
        with pytest.raises(InputError) as refused:
            RegistryClient("https://registry.test", ca=tmp_path / file)
        assert refused.value.code == "ca-invalid"


# --- following --------------------------------------------------------------------------------------------------------


def pool(name: str, sequence: int = 1, **changes: Any) -> PoolCapacity:
    base = PoolCapacity(
        centre_id="gz",
        project_id=None,
        pool=name,
        pool_class="intelligent",
        precision="fp16",
        choice="fixed",
        accumulate="fp32",
        state="certified",
        level="recomputed",
        grade="standard",
        simulated=False,
        statement=f"{sequence:064x}",
        sequence=sequence,
        issued_at=AT,
        valid_until=AT,
        ended_at=None,
        ended_code=None,
        district=None,
        devices=1,
        certified_mflop_s=1,
        certified_pflops="0",
        sustained_mflop_s=1,
        sustained_pflops="0",
        nominal_mflop_s=1,
        nominal_pflops="0",
        steps=(),
        never_scheduled_mflop_s=0,
        with_witness_mflop_s=0,
        witnessed=False,
        schedulable_mflop_s=0,
        schedulable_pflops="0",
        nodes=1,
        nodes_online=0,
        external_ids=(),
        alarms=0,
        name=Bilingual(zh="中心", en="Centre"),
        jurisdiction=None,
        city=None,
        devices_without_rating=0,
        models=(),
        models_left_out=0,
    )
    return msgspec.structs.replace(base, **changes)


class Server:
    """A feed by cursor."""

    def __init__(self, *answers: CapacityFeed | PetasealError) -> None:
        self.answers, self.asked = list(answers), list[str | None]()

    def __call__(self, *, since: str | None) -> CapacityFeed:
        self.asked.append(since)
        answer = self.answers.pop(0)
        if isinstance(answer, PetasealError):
            raise answer
        return answer


def feed(cursor: str, *items: PoolCapacity, changed: tuple[str, ...] | None = ("gz",)) -> CapacityFeed:
    return CapacityFeed(at=AT, next=cursor, changed=changed, items=items)


def steps(
    server: Server, count: int, since: str | None = None
) -> tuple[list[Changes], list[PetasealError], list[float]]:
    told: list[PetasealError] = []
    slept: list[float] = []
    following = Feed(server, since).follow(10.0, told.append, slept.append)
    return [next(following) for _ in range(count)], told, slept


def test_a_follower_applies_what_changes() -> None:
    other = pool("a", centre_id="wh")
    server = Server(
        feed("1", pool("a"), pool("b"), other, changed=None),
        feed("2", changed=()),
        feed("3", pool("a"), pool("b")),  # as they were
        feed("4", pool("a", state="expired"), pool("b")),
        feed("5", pool("a", 2), pool("c", 2)),
    )
    (first, second, third), _, slept = steps(server, 3)
    assert first.centres is None
    assert [item.pool for item in first.items] == ["a", "b", "a"]
    assert [(item.pool, item.state) for item in second.items] == [("a", "expired"), ("b", "certified")]
    assert second.gone == ()
    assert third.gone == (("gz", None, "b"),)
    assert third.centres == ("gz",)
    assert server.asked == [None, "1", "2", "3", "4"]
    assert slept == [10.0] * 4


def test_a_follower_knows_what_is_there() -> None:
    other = pool("a", centre_id="wh")
    known = Feed(Server(feed("1", pool("a"), other, changed=None), feed("2", pool("b", 2)), feed("3", changed=("wh",))))
    for _ in range(3):
        known.poll()
    assert known.pools == {("gz", None, "b"): pool("b", 2)}
    assert known.cursor == "3"


def test_a_follower_goes_on_where_it_was() -> None:
    (first,), _, _ = steps(Server(feed("8", changed=("gz",))), 1, since="7")
    assert (first.centres, first.items) == (("gz",), ())  # it cannot know what it knew: the centre is told all the same


def test_a_follower_outlives_a_restart() -> None:
    away = InputError("registry-unreachable", "is away")
    server = Server(feed("1", pool("a"), changed=None), away, away, feed("2", pool("a", state="revoked")))
    (_, second), told, slept = steps(server, 2)
    assert told == [away, away]
    assert server.asked == [None, "1", "1", "1"]
    assert second.cursor == "2"
    assert slept[1] < slept[2]


def test_a_cursor_that_is_not_known_begins_anew() -> None:
    unknown = RefusedError("cursor-invalid", "is not known")
    server = Server(unknown, feed("9", pool("a"), changed=None), feed("10", pool("a", state="revoked")))
    (first, _), told, _ = steps(server, 2, since="of-another-registry")
    assert server.asked == ["of-another-registry", None, "9"]
    assert first.centres is None
    assert told == []


def test_what_vanished_in_between_is_gone() -> None:
    lost = RefusedError("cursor-invalid", "no")
    server = Server(feed("1", pool("a"), pool("b"), changed=None), lost, feed("7", pool("b"), changed=None))
    (_, second), _, _ = steps(server, 2)
    assert second.centres is None
    assert second.gone == (("gz", None, "a"),)


def test_a_follower_does_not_outlive_a_no() -> None:
    with pytest.raises(RefusedError) as refused:
        steps(Server(RefusedError("token-invalid", "no")), 1)
    assert refused.value.code == "token-invalid"
