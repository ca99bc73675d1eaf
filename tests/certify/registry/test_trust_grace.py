"""A trust root that is missing, mistyped, skipped, foreign or expired drains nobody, and gives nobody anything."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from bench.errors import PetasealError
from bench.units import DAY_NS, utc_text
from certify.commands.registry.show import trust_lines
from certify.documents import dsse
from certify.documents.kinds import parse_payload
from certify.keys.files import load_public, new_key, public_path
from certify.registry.api.common import Beat
from certify.registry.base.pool import VerificationPool
from certify.registry.base.registry import open_registry
from certify.registry.base.tokens import Token
from certify.registry.base.verifying import VerificationJob, VerificationOutcome
from certify.registry.intake import ingest, presence
from certify.registry.intake.campaigns import submit_campaign
from certify.registry.maintenance.watch import TrustNews, report_trust
from certify.registry.service.app import create_app
from certify.registry.storage import tables
from certify.trust import editing
from certify.trust.revocations import Revocation
from certify.trust.root import read_root
from certify.trust.trusted_set import TrustRoot
from tests.certify.measured import Measured
from tests.certify.registry import rows
from tests.certify.registry.intake.test_ingest import OPERATOR, PLATFORM, UNTIL, count, statement_of
from tests.certify.registry.intake.test_presence import heartbeat
from tests.certify.registry.laid import CENTRE, OTHER, SINCE, Laid
from tests.certify.registry.within import Within

if TYPE_CHECKING:
    from certify.registry.base.registry import Registry

OTHER_OPERATOR = Token(2, "other", "operator", OTHER, UNTIL)
SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def root_of(place: Laid) -> TrustRoot:
    return read_root(place.trust.read_bytes()).root


def following(place: Laid, versions: int = 1, **changes: Any) -> bytes:
    """Return a later version of the trust root, signed by its keeper."""
    root = root_of(place)
    now = utc_text(time.time_ns())
    made = structs.replace(root, version=root.version + versions, **{"issued_at": now, **changes})
    return editing.sealed("trust-root", made, [place.key("root")])


def stranger(place: Laid, trust_id: str, version: int) -> bytes:
    """Return a root of somebody else's keys, whole in itself, in which he is the operator of the centre."""
    for name in ("stranger", "strange-operator"):
        if not (place.root / f"{name}.pem").exists():
            new_key(place.root / f"{name}.pem", None)
    key, operator = (load_public(public_path(place.root / f"{name}.pem")) for name in ("stranger", "strange-operator"))
    valid = editing.Validity(utc_text(time.time_ns()), 300)
    made = editing.first(trust_id, [key], 1, valid, valid)
    made = editing.with_key(made, operator, "operator", [CENTRE], None, valid)
    signer = Laid(place.root, place.root).key("stranger")
    return editing.sealed("trust-root", structs.replace(made, version=version), [signer])


def without(path: Path) -> None:
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def folder(place: Laid) -> None:
    without(place.trust)
    place.trust.mkdir()


def pipe(place: Laid) -> None:
    without(place.trust)
    os.mkfifo(place.trust)


def written(make: Callable[[Laid], bytes]) -> Callable[[Laid], None]:
    def write(place: Laid) -> None:
        place.trust.write_bytes(make(place))

    return write


# What an attacker, or a keeper's slip, can put in the place of version 2, and the code that every view bears then.
BAD_ROOTS: dict[str, tuple[Callable[[Laid], None], str]] = {
    "it is missing": (lambda place: without(place.trust), "file-missing"),
    "it cannot be read": (folder, "not-regular-file"),
    "it is a pipe that nobody writes into": (pipe, "file-empty"),
    "it is empty": (written(lambda place: b""), "file-empty"),
    "it is garbage": (written(lambda place: b"\x00\xff not a root"), "json-invalid"),
    "it is cut off": (written(lambda place: place.trust.read_bytes()[:-40]), "json-invalid"),
    "it has too many versions": (
        written(lambda place: place.trust.read_bytes() * 65),
        "trust-root-chain",
    ),
    "it is a registry's own key": (written(lambda place: (place.root / "registry.pem").read_bytes()), "json-invalid"),
    "it is older": (written(lambda place: (place.root / "first.json").read_bytes()), "trust-root-rollback"),
    "it is another version of the same number": (
        written(lambda place: following(place, 0, expires_at="2090-01-01T00:00:00.000000Z")),
        "trust-root-forked",
    ),
    "a version was skipped": (written(lambda place: following(place, 2)), "trust-root-skipped"),
    "a stranger signed the next version": (
        written(lambda place: stranger(place, "cn-test", 3)),
        "trust-root-signatures",
    ),
    "it is a stranger's, of another id": (written(lambda place: stranger(place, "cn-other", 3)), "trust-root-other"),
    "it was issued in the future": (
        written(lambda place: following(place, issued_at=utc_text(time.time_ns() + DAY_NS))),
        "trust-root-not-yet-valid",
    ),
    # last: it is the keeper's, and what it says holds from then on
    "it has expired": (
        written(
            lambda place: following(
                place,
                issued_at=utc_text(time.time_ns() - 2 * 10**9),
                expires_at=utc_text(time.time_ns() - 10**9),
            )
        ),
        "trust-root-expired",
    ),
}


@pytest.fixture
def managed(registry: Registry, place: Laid) -> Registry:
    """A registry with one pool that is schedulable, under version 2 of its trust root, which revokes nothing."""
    (place.root / "first.json").write_bytes(place.trust.read_bytes())
    place.trust.write_bytes(following(place, issued_at="2026-01-02T00:00:00.000000Z"))
    pool = rows.PoolOf(keyids=(place.keyid("node"),))
    with registry.store.writing() as connection:
        rows.add_statement(connection, CENTRE, [pool], at=registry.now)
        rows.manage(connection, CENTRE, at=registry.now)
    beat(registry, place)
    return registry


def beat(registry: Registry, place: Laid) -> Beat:
    """Have the node of the pool heard of."""
    (node_id,) = rows.node_ids(rows.PoolOf())
    nonce = presence.nonce(registry, CENTRE, node_id).nonce
    return presence.beat(registry, heartbeat(registry, place.key("node"), node_id=node_id, nonce=nonce))


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(PetasealError) as caught:
        act()
    return caught.value.code


def shown(registry: Registry) -> tuple[str, dict[str, Any]]:
    """Return the state of the one pool, and what the feed says of the trust root."""
    answer = Within(create_app(registry)).get("/v1/capacity").json()
    (pool,) = answer["items"]
    return pool["state"], answer["trust"]


def later_list(place: Laid, root: bytes, before: bytes, keyid: str) -> bytes:
    """Return the revocation list after another one, signed by the keeper."""
    known = read_root(root).root
    first = parse_payload("revocations", dsse.parse_envelope(before, 2**20).payload)
    now = utc_text(time.time_ns())
    made = editing.listed(known, first.predicate, (keyid,), {}, SINCE, "stolen", editing.Validity(now, 30))
    return editing.sealed("revocations", made, [place.key("root")])


def test_what_lies_in_the_roots_place_drains_nobody_and_gives_nothing(
    managed: Registry, place: Laid, other_centre: Measured
) -> None:
    """Nodes go on, what was revoked stays revoked, and nothing new is taken in: not even as refused."""
    good = place.trust.read_bytes()
    listed = place.revocations(keyids=(place.keyid("witness"),))
    assert ingest.submit_revocations(managed, listed, PLATFORM).decision == "accepted"
    decided = count(managed, tables.decisions)
    for name, (make, code) in BAD_ROOTS.items():
        make(place)
        assert beat(managed, place).online, name
        state, trust = shown(managed)
        assert (state, trust["code"]) == ("schedulable", code), name
        assert trust["state"] == ("in-grace" if code == "trust-root-expired" else "file-refused"), name
        trusted = managed.last_trust().trusted
        assert trusted.keys.keys() == read_root(good).root.keys.keys(), name
        assert place.keyid("witness") in trusted.revoked, name
        for claim in (
            partial(ingest.submit_statement, managed, statement_of(other_centre), OTHER_OPERATOR),
            partial(ingest.submit_supporting, managed, "baseline", b"{}", OPERATOR),
            partial(submit_campaign, managed, b"{}", OPERATOR),
            managed.trust,
        ):
            assert refusal(claim) == "trust-not-current", name
        assert count(managed, tables.decisions) == decided, name
        if code != "trust-root-expired":
            without(place.trust)
            place.trust.write_bytes(good)
            assert shown(managed)[1]["state"] == "good", name
    # under the last good version a list is taken, and what it revokes ends at once
    again = later_list(place, good, listed, place.keyid("node"))
    assert ingest.submit_revocations(managed, again, PLATFORM).decision == "accepted"
    assert refusal(lambda: beat(managed, place)) == "key-revoked"
    assert shown(managed)[0] == "revoked"


def test_an_expired_root_is_followed_for_its_grace_and_no_longer(managed: Registry, place: Laid) -> None:
    """Who stops the renewal gains the grace; what the platform decided stays."""
    expires_ns = time.time_ns() + 40 * DAY_NS
    place.trust.write_bytes(following(place, expires_at=utc_text(expires_ns)))
    second = 10**9
    seen = []
    for moment_ns in (
        time.time_ns(),
        expires_ns - 30 * DAY_NS,
        expires_ns - 7 * DAY_NS,
        expires_ns - DAY_NS,
        expires_ns,
        expires_ns + 30 * DAY_NS - second,
    ):
        then = replace(managed, clock_ns=partial(int, moment_ns))
        assert beat(then, place).online
        state, trust = shown(then)
        assert state == "schedulable"
        seen.append((trust["state"], trust["warn_days"], trust["code"]))
    expected = [("good", None, None), *(("expiring", days, None) for days in (30, 7, 1))]
    assert seen == [*expected, *[("in-grace", 0, "trust-root-expired")] * 2]
    over = replace(managed, clock_ns=partial(int, expires_ns + 30 * DAY_NS))
    assert refusal(lambda: beat(over, place)) == "trust-not-current"
    assert refusal(lambda: ingest.submit_revocations(over, b"{}", PLATFORM)) == "trust-not-current"
    silent = replace(managed, clock_ns=partial(int, expires_ns + 30 * DAY_NS + 300 * second))
    state, trust = shown(silent)
    assert (state, trust["state"]) == ("managed", "ended")
    assert Within(create_app(silent)).get("/readyz").status_code == 503
    # the next version ends it at once
    place.trust.write_bytes(following(place, issued_at=silent.now, expires_at=utc_text(expires_ns + 400 * DAY_NS)))
    assert beat(silent, place).online
    assert shown(silent)[0] == "schedulable"


@SQLITE
def test_every_view_says_how_it_stands(managed: Registry, place: Laid) -> None:
    expires_ns = time.time_ns() + 40 * DAY_NS
    place.trust.write_bytes(following(place, expires_at=utc_text(expires_ns)))
    managed.trust()
    later = replace(managed, clock_ns=partial(int, expires_ns + DAY_NS))
    client = Within(create_app(later))
    said = [client.get(path).json()["trust"] for path in ("/v1", "/v1/capacity", "/v1/lifecycle", "/readyz")]
    said += [one["trust"] for one in client.get("/v1/cities").json()]
    said.append(client.get("/v1/cities/guangzhou-2027").json()["trust"])
    assert all(one == said[0] for one in said)
    assert said[0]["expires_at"] == utc_text(expires_ns)
    assert said[0]["grace_until"] == utc_text(expires_ns + 30 * DAY_NS)
    assert (said[0]["state"], said[0]["version"], said[0]["trust_id"]) == ("in-grace", 3, "cn-test")
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["status"], ready.json()["checks"]["trust"]) == (
        200,
        "ok",
        "trust-root-expired",
    )
    assert client.get("/v1/capacity", headers={"accept": "text/csv"}).headers["petaseal-trust"] == "in-grace"
    for lang, words in (("en", "expired at"), ("zh", "宽限期")):
        page = client.get(f"/{lang}/").text
        assert words in page
        assert "trust-root-expired" in page
    metrics = client.get("/metrics").text
    assert 'petaseal_registry_trust_state{state="in-grace"} 1.0' in metrics
    assert "petaseal_registry_trust_expires_seconds -86400.0" in metrics
    # who polls the feed is not answered "nothing changed" when it comes to rest on an expired root
    before = Within(create_app(replace(managed, clock_ns=partial(int, expires_ns - second_ns(1)))))
    tag = before.get("/v1/capacity").headers["etag"]
    after = Within(create_app(replace(managed, clock_ns=partial(int, expires_ns))))
    assert after.get("/v1/capacity", headers={"if-none-match": tag}).status_code == 200


def second_ns(count: int) -> int:
    return count * 10**9


@SQLITE
def test_the_log_says_it_once_for_each_threshold(
    managed: Registry, place: Laid, caplog: pytest.LogCaptureFixture
) -> None:
    expires_ns = time.time_ns() + 40 * DAY_NS
    place.trust.write_bytes(following(place, expires_at=utc_text(expires_ns)))
    assert ingest.submit_revocations(managed, place.revocations((place.keyid("witness"),)), PLATFORM).code is None
    said: TrustNews | None = None
    lines = []
    with caplog.at_level(logging.INFO, "petaseal.registry"):
        for hour in range(24 * 75):
            caplog.clear()
            then = replace(managed, clock_ns=partial(int, expires_ns - 40 * DAY_NS + hour * 3600 * 10**9))
            said = report_trust(then.trust_status(), said)
            lines += [(hour // 24, record.levelname, record.message) for record in caplog.records]
    # the list lives 30 days, and warns from its first day: at 30, 7 and 1 days, and when it has expired
    assert [day for day, _, _ in lines] == [0, 0, 10, 23, 29, 30, 33, 39, 40, 70]
    assert lines[-1][1:] == ("WARNING", "trust root ended")


@SQLITE
def test_a_restart_in_the_grace_is_no_end(managed: Registry, place: Laid) -> None:
    place.trust.rename(place.root / "away.json")
    again = open_registry(place.root)
    assert beat(again, place).online
    assert again.trust_status().code == "file-missing"
    again.close()
    # a registry that never accepted anything says at once what is missing
    for file in (place.root / "state").rglob("*.json"):
        file.unlink()
    assert refusal(lambda: open_registry(place.root)) == "file-missing"


@SQLITE
def test_a_registry_that_was_away_for_two_rotations_catches_up_from_one_file(managed: Registry, place: Laid) -> None:
    versions = [place.trust.read_bytes()]
    for _ in range(2):
        place.trust.write_bytes(following(place))
        versions.append(place.trust.read_bytes())
    assert managed.trust_status().code == "trust-root-skipped"
    place.trust.write_bytes(b"".join(versions))
    assert (managed.trust_status().state, managed.trust_status().version) == ("good", 4)
    # in another order they lead nowhere
    place.trust.write_bytes(b"".join([versions[2], versions[1]]))
    assert managed.trust_status().code == "trust-root-rollback"


@SQLITE
def test_what_a_missed_and_expired_version_revokes_is_revoked_in_the_grace(managed: Registry, place: Laid) -> None:
    now_ns = time.time_ns()
    revoked = (Revocation(keyid=place.keyid("witness"), revoked_at=utc_text(now_ns), reason="stolen"),)
    issued: dict[str, Any] = {"issued_at": utc_text(now_ns - 2 * 10**9), "expires_at": utc_text(now_ns - 10**9)}
    place.trust.write_bytes(following(place, revocations=revoked, **issued))
    assert managed.trust_status().state == "in-grace"
    assert set(managed.last_trust().trusted.revoked) == {place.keyid("witness")}


@SQLITE
@pytest.mark.parametrize("grace_s", [0, 86_400])
def test_the_grace_is_a_setting(managed: Registry, place: Laid, grace_s: int) -> None:
    settings = place.root / "registry.yaml"
    settings.write_text(f"{settings.read_text()}trust_grace_s: {grace_s}\n")
    issued = time.time_ns() - 3600 * 10**9
    place.trust.write_bytes(following(place, expires_at=utc_text(time.time_ns() - 10**9), issued_at=utc_text(issued)))
    opened = open_registry(place.root)
    assert opened.trust_status().state == ("in-grace" if grace_s else "ended")
    opened.close()


@SQLITE
def test_a_root_that_goes_bad_during_a_verification_refuses_no_statement(
    registry: Registry, place: Laid, centre: Measured
) -> None:
    good = place.trust.read_bytes()

    class Slipping(VerificationPool):
        def verify(self, job: VerificationJob) -> VerificationOutcome:
            place.trust.write_bytes(b"a slip")
            return super().verify(job)

    slipping = replace(registry, verifier=Slipping(0))
    assert refusal(lambda: ingest.submit_statement(slipping, statement_of(centre), OPERATOR)) == "trust-not-current"
    assert count(registry, tables.decisions) == 0
    place.trust.write_bytes(good)
    assert ingest.submit_statement(registry, statement_of(centre), OPERATOR).decision == "accepted"


@SQLITE
def test_what_is_printed_of_a_registry_says_how_its_root_stands(managed: Registry, place: Laid) -> None:
    assert trust_lines(managed.trust_status()) == []
    assert trust_lines(None) == []
    place.trust.unlink()
    (line,) = trust_lines(managed.trust_status())
    assert "file-refused (file-missing): expires at " in line
