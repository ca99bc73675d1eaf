"""HTTP as a client of the registry needs it: TLS, the token, retries, and what an answer that is an error means.

A request is repeated where that cannot do a thing twice: it never arrived, the server said that it did nothing, or it
is one that may be repeated. A token goes to the registry it is for and into no error text. Bodies, parameters
and refused decisions have their form here, too.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import random
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import quote

import httpx
import msgspec

from bench.errors import InputError, PetasealError, RefusedError
from bench.record import read_bytes
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from certify.registry.api.common import Decided, Problem
from certify.registry.client.deadline import Deadline, DeadlineTransport

CHUNK = 2**18  # bytes: records of a large centre are gigabytes, and are never held as a whole


def decided_of_refusal(problem: Problem, receipt: str) -> Decided:
    """Return the decision behind an answer of 422, which its problem document and its receipt hold together."""
    envelope = parse_envelope(base64.b64decode(receipt), CAPS.witness_bytes, "the receipt")
    opened = parse_payload("receipt", envelope.payload, "the receipt")
    return Decided(
        decision="refused",
        at=opened.predicate.received_at,
        code=problem.code,
        detail=problem.detail,
        level=opened.predicate.level,
        payload_sha256=opened.subject_digest,
        receipt=receipt,
    )


def content_of(document: bytes | Path, most_bytes: int) -> bytes:
    """Return a document's bytes, which are read from a file where a path is given."""
    return document if isinstance(document, bytes) else read_bytes(document, most_bytes)


def gzip_of(path: Path) -> Iterator[bytes]:
    """Yield a file as gzip, a piece at a time."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    try:
        with path.open("rb") as file:
            while piece := file.read(CHUNK):
                if packed := packer.compress(piece):
                    yield packed
    except OSError as error:
        raise InputError("file-unreadable", f"cannot be read ({error.strerror})", where=path) from None
    yield packer.flush()


def feed_filters(filters: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the filters of the feed under the names of the API: `class` is a keyword of Python."""
    known = {"centre": "centre", "district": "district", "pool_class": "class", "precision": "precision"}
    known |= {name: name for name in ("state", "jurisdiction", "vendor", "model")}
    return {known[name]: value for name, value in filters.items()}


def given_params(params: Mapping[str, str | None] | None) -> dict[str, str]:
    """Return the parameters of a query that have a value."""
    return {name: value for name, value in (params or {}).items() if value is not None}


def path_part(text: str) -> str:
    """Return text percent-encoded, as one segment of a path."""
    return quote(text, safe="")


PROBLEM = "application/problem+json"
ANSWER_BYTES = 256 * 2**20  # of one that is kept in memory
DOWNLOAD_BYTES = CAPS.records_bytes  # of one that goes into a file
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")
AWAY = (502, 503, 504)  # a proxy whose server is away, or one that takes nothing at the moment
TOKEN_FIX = "give --token-file, or set PETASEAL_TOKEN"  # noqa: S105 (names the option)

Body = Callable[[], Iterable[bytes]]  # made anew for each attempt


class TransportRequest(NamedTuple):
    """A request to the API."""

    method: str  # GET, POST or PUT
    path: str  # after ``/v1``
    params: Mapping[str, str] | None = None  # of the query
    headers: Mapping[str, str] | None = None  # besides the token
    body: Body | bytes | None = None
    repeatable: bool = True  # whether it may be made again though it may have arrived
    read_s: float | None = None  # how long an answer may take; None: as a connection
    into: Callable[[], IO[bytes]] | None = None  # opens the file, emptied, for a good answer; None: it stays in memory


class TransportResponse(NamedTuple):
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def problem(self) -> Problem | None:
        """What the registry says is wrong; None where it is nothing, or no registry said it."""
        if not self.headers.get("content-type", "").startswith(PROBLEM):
            return None
        try:
            return msgspec.json.decode(self.content, type=Problem)
        except msgspec.MsgspecError:
            return None


class Transport:
    """One registry's API.

    Args:
        url: of the registry, with or without ``/v1``.
        token: bearer token; None where reading is public.
        timeout_s: over a whole call with all its attempts: connecting, TLS, headers, body. What is carried extends it
            (`deadline.SLOWEST_BYTES_S`), and a submission that is verified before the answer has its own (`read_s`).
        ca: PEM file of the only authorities that are trusted to name the registry; None: those of the system.
        attempts: how often a request that may be repeated is made, at most.
        transport: in place of the network.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        timeout_s: float,
        ca: Path | None,
        attempts: int,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url, parsed = _base(url)
        # RFC 6750, section 5.2: bearer tokens travel under TLS only; to a loopback address they do not travel
        if token is not None and parsed.scheme == "http" and transport is None and parsed.host not in LOOPBACK:
            what = "a token is not sent over plain http to another machine"
            raise InputError("token-in-clear", what, where=self.url, fix="use https")
        self._timeout_s, self._attempts, self._sleep = timeout_s, max(1, attempts), sleep
        headers = {"user-agent": f"petaseal/{version('petaseal')}"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        context: ssl.SSLContext | None = None
        try:
            if parsed.scheme == "https":
                context = ssl.create_default_context(cafile=ca)
        except OSError as error:  # ssl.SSLError is one
            what = f"holds no certificates that can be read ({error.strerror or type(error).__name__})"
            raise InputError("ca-invalid", what, where=ca) from None
        self._network = DeadlineTransport(parsed, context) if transport is None else None
        self._client = httpx.Client(
            headers=headers, timeout=timeout_s, transport=transport or self._network, trust_env=False
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def ask(self, request: TransportRequest) -> TransportResponse:
        """Return the answer to a request, good or not; see `check`.

        Raises:
            InputError: `registry-unreachable`, `registry-not-trusted` or `registry-answer-invalid`.
        """
        wait_s, deadline = FIRST_WAIT_S, Deadline(max(self._timeout_s, request.read_s or 0))
        for left in reversed(range(self._attempts)):
            try:
                answer = self._once(request, deadline)
            except httpx.HTTPError as error:
                reason = self._unreachable(error, deadline)
                # where no connection was made the server cannot have done anything
                arrived = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
                left = left if deadline.left_s > 0 else 0  # one deadline for all attempts
                if not left or reason.code != "registry-unreachable" or (arrived and not request.repeatable):
                    raise reason from None
                asked_s = None
            else:
                untouched = answer.status in (429, 503) and answer.problem is not None  # the registry did nothing
                if not left or not (untouched or (answer.status in AWAY and request.repeatable)):
                    return answer
                asked_s = retry_after_s(answer.headers.get("retry-after"), time.time())
                # a caller decides whether to wait for minutes
                if asked_s is not None and asked_s > LONGEST_WAIT_S:
                    return answer
            self._sleep(max(wait_s * random.uniform(0.75, 1.25), asked_s or 0))  # noqa: S311 (spreads clients)
            # clients that were cut off together must not come back together
            wait_s *= 2
        raise AssertionError("unreachable")

    def check(self, answer: TransportResponse) -> TransportResponse:
        """Return a good answer.

        Raises:
            RefusedError: the registry says no, with its code.
            InputError: it cannot answer now, or what answers is no registry.
        """
        if answer.status in (200, 201, 304):
            return answer
        raise self.error_of(answer)

    def error_of(self, answer: TransportResponse) -> PetasealError:
        """Return what an answer that is not good means."""
        problem = answer.problem
        if problem is None:
            if answer.status in AWAY:
                what = f"its server is away (status {answer.status})"
                return InputError("registry-unreachable", what, where=self.url, fix="try again later")
            what = f"answers with status {answer.status}, and not as a registry does"
            if target := answer.headers.get("location"):
                what = f"is elsewhere: it sends to {target}"
            return self.invalid(what)
        fix = TOKEN_FIX if problem.code == "token-missing" else None
        # a refusal has another exit status than a registry that cannot answer
        kind = RefusedError if answer.status < 500 else InputError
        return kind(problem.code, problem.detail.rstrip("."), where=self.url, fix=fix)

    def invalid(self, what: str) -> InputError:
        """Return the error of an answer that no registry gives."""
        fix = "see whether this is the URL of a petaseal registry"
        return InputError("registry-answer-invalid", what, where=self.url, fix=fix)

    def _once(self, request: TransportRequest, deadline: Deadline) -> TransportResponse:
        timeout = httpx.Timeout(self._timeout_s, read=request.read_s or self._timeout_s)
        content = request.body() if callable(request.body) else request.body
        within = contextlib.nullcontext() if self._network is None else self._network.call(deadline)
        with (
            within,
            self._client.stream(
                request.method,
                f"{self.url}/v1{request.path}",
                params=request.params,
                headers=request.headers,
                content=content,
                timeout=timeout,
            ) as response,
        ):
            whole = bytearray()
            if request.into is not None and response.status_code == 200:
                file = request.into()
                for piece in response.iter_bytes():
                    file.write(piece)
                    if file.tell() > DOWNLOAD_BYTES:
                        raise self.invalid(f"answers with more than {DOWNLOAD_BYTES} bytes")
            else:
                for piece in response.iter_bytes():
                    whole += piece
                    if len(whole) > ANSWER_BYTES:
                        raise self.invalid(f"answers with more than {ANSWER_BYTES} bytes")
            return TransportResponse(response.status_code, response.headers, bytes(whole))

    def _unreachable(self, error: httpx.HTTPError, deadline: Deadline) -> InputError:
        """Return in one sentence why there is no answer."""
        code, fix = "registry-unreachable", None
        causes = list(_causes(error))
        what = f"the connection was lost ({str(error) or type(error).__name__})"
        if isinstance(error, httpx.TimeoutException):
            what, fix = f"did not answer in time ({deadline.limit_s:g} s for the whole call)", "give more --timeout"
            if isinstance(error, httpx.ConnectTimeout):
                what, fix = f"cannot be reached within {self._timeout_s:g} s", "see whether a firewall is in between"
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                code, what = "registry-not-trusted", f"its certificate is not trusted ({cause.verify_message})"
                fix = "give the certificate of who issued it with --ca"
            elif isinstance(cause, ssl.SSLError):
                what = f"does not speak TLS as it should ({cause.reason or cause})"
                fix = "see whether its URL begins with http:// and not https://"
            elif isinstance(cause, socket.gaierror):
                what, fix = "its name is not known (DNS)", "see whether the URL is right"
            elif isinstance(cause, ConnectionRefusedError):
                what, fix = "nothing listens there (connection refused)", "see whether the registry is running"
        return InputError(code, what, where=self.url, fix=fix)


def retry_after_s(text: str | None, now_s: float) -> float | None:
    """Return the seconds that a server asks to wait; None where it asks for none."""
    if text is None:
        return None
    # RFC 9110, section 10.2.3: seconds, or a date
    if text.strip().isdigit():
        return float(text)
    with contextlib.suppress(ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now_s)
    return None


def _base(url: str) -> tuple[str, httpx.URL]:
    """Return the URL that ``/v1`` follows."""
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    fix = "write it as https://registry.example or http://127.0.0.1:8600"
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InputError("url-invalid", "is not the URL of a registry", where="--url", fix=fix)
    # a password in a URL ends up in logs and in the list of processes
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise InputError("url-invalid", "has more than a host and a path", where="--url", fix=fix)
    return str(parsed).rstrip("/").removesuffix("/v1"), parsed


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
