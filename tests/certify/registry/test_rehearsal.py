"""A registry that is a rehearsal: simulated centres add up, every view says so, and nothing makes it a real one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from msgspec import structs

from bench.errors import InputError, RefusedError
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE
from certify.policy.centre import Bilingual
from certify.registry.base.pool import VerificationPool
from certify.registry.base.registry import FILE, Registry, open_registry
from certify.registry.base.rehearsal import kind_of
from certify.registry.intake import ingest
from certify.registry.service.app import create_app
from certify.registry.service.init import InitOptions, init_registry
from certify.registry.state.cache import current_snapshot
from certify.registry.storage.tables import decisions
from certify.trust import editing as trust_edit
from certify.trust.root import read_root
from tests.certify.attacks import canonical, payload_of
from tests.certify.measured import Measured
from tests.certify.registry.intake.test_ingest import OPERATOR, statement_of, submit_whole
from tests.certify.registry.laid import Laid, lay_registry
from tests.certify.registry.within import Within


@pytest.fixture
def rehearsal(tmp_path: Path, keys: Path, database: str) -> Iterator[Registry]:
    place = lay_registry(tmp_path / "rehearsal", keys, database, accept_simulated=False, rehearsal=True)
    opened = replace(open_registry(place.root), verifier=VerificationPool(0))
    yield opened
    opened.close()


def test_simulated_centres_add_up_and_every_view_is_marked(rehearsal: Registry, centre: Measured) -> None:
    assert submit_whole(rehearsal, centre).decision == "accepted"
    (latest,) = current_snapshot(rehearsal.store, rehearsal.now, rehearsal.settings).latest_statements
    assert (latest.facts.simulated, latest.in_sums) == (True, True)
    client = Within(create_app(rehearsal))
    for path in (
        "/v1",
        "/v1/lifecycle",
        "/v1/capacity",
        "/v1/cities/guangzhou-2027",
        "/v1/cities/guangzhou-2027/trend",
    ):
        answer = client.get(path)
        assert answer.json()["rehearsal"] is True, path
        assert answer.headers["petaseal-rehearsal"] == "proves nothing"
    assert {one["rehearsal"] for one in client.get("/v1/reached").json()} == {True}
    lines = client.get("/v1/lifecycle").json()["lines"]
    assert sum(line["own"]["certified_mflop_s"] for line in lines if line["state"] == "certified") > 0
    for path, column in (("/v1/capacity", "simulated"), ("/v1/cities/guangzhou-2027/trend", "rehearsal")):
        answer = client.get(f"{path}?format=csv")
        assert 'filename="rehearsal-' in answer.headers["content-disposition"]
        assert column in answer.text.splitlines()[0]
    for lang, mark in (
        ("zh", "演练：本平台只接收模拟设备的声明"),
        ("en", "Nothing here proves anything about capacity"),
    ):
        assert mark in client.get(f"/{lang}/").text
        assert mark in client.get(f"/{lang}/centres").text


def test_a_real_statement_is_refused_by_a_rehearsal(rehearsal: Registry, centre: Measured, keys: Path) -> None:
    """It says nothing of real devices, whoever signs that they are."""
    payload = payload_of(statement_of(centre))
    payload["predicate"]["simulated"] = False
    sealed = dsse.seal(canonical(payload), PAYLOAD_TYPE, [Laid(keys, keys).key("operator")])
    decided = ingest.submit_statement(rehearsal, sealed, OPERATOR)
    assert (decided.decision, decided.code) == ("refused", "rehearsal-only")
    assert current_snapshot(rehearsal.store, rehearsal.now, rehearsal.settings).latest_statements == ()


@pytest.mark.parametrize("rehearsal_first", [True, False])
def test_no_line_makes_one_of_the_other(tmp_path: Path, keys: Path, database: str, rehearsal_first: bool) -> None:
    place = lay_registry(tmp_path / "registry", keys, database, rehearsal=rehearsal_first)
    open_registry(place.root).close()
    _set(place.root / FILE, rehearsal=not rehearsal_first)
    with pytest.raises(InputError, match="for good") as refused:
        open_registry(place.root)
    assert refused.value.code == "settings-invalid"
    _set(place.root / FILE, rehearsal=rehearsal_first)
    open_registry(place.root).close()


def test_what_took_something_in_before_there_were_kinds_is_a_registry(registry: Registry, database: str) -> None:
    """The row is missing where the first tables were upgraded: then what was taken in decides."""
    from certify.registry.base.rehearsal import settle_kind

    row = {"at": registry.now, "kind": "statement", "decision": "refused"}
    with registry.store.writing() as connection:
        assert kind_of(connection) == "registry"
        connection.execute(decisions.insert(), row)
    with pytest.raises(InputError, match="that of a registry"):
        settle_kind(registry.store, rehearsal=True, at=registry.now, where="registry.yaml")


def test_a_rehearsal_signs_under_a_root_of_its_own_name(place: Laid, tmp_path: Path) -> None:
    """A receipt of it holds under no root that others take for real, and a real registry under none of rehearsals."""
    root = read_root(place.trust.read_bytes()).root
    named = tmp_path / "rehearsal-root.json"
    document = trust_edit.sealed("trust-root", structs.replace(root, trust_id="rehearsal-cn-test"), [place.key("root")])
    named.write_bytes(document)
    for trust, rehearsal in ((place.trust, True), (named, False)):
        with pytest.raises(RefusedError) as refused:
            init_registry(_options(tmp_path / "no", place, trust, rehearsal), "2026-06-01T00:00:00.000000Z")
        assert refused.value.code == "key-not-trusted"
        assert not (tmp_path / "no").exists()
    init_registry(_options(tmp_path / "yes", place, named, True), "2026-06-01T00:00:00.000000Z")
    opened = open_registry(tmp_path / "yes")
    with opened.store.reading() as connection:
        assert kind_of(connection) == "rehearsal"
    opened.close()


def _options(folder: Path, place: Laid, trust: Path, rehearsal: bool) -> InitOptions:
    fingerprint = read_root(trust.read_bytes()).fingerprint
    name = Bilingual(zh="演练", en="Rehearsal")
    return InitOptions(folder, place.file("registry"), trust, fingerprint, name, rehearsal=rehearsal)


def _set(file: Path, **values: bool) -> None:
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **values}, allow_unicode=True))
