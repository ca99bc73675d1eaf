"""Makes ``registry.tar.xz``: a registry of the tables' first revision, filled by the release that had it last.

Run with that release's checkout as the working directory, PostgreSQL installed. The formats are drafts until 0.2.0 is
released: where documents got fields since, that checkout needs them too, with their defaults (`git apply`):

    python .../storage/first/make.py OUT

The archive holds a backup of the registry (SQLite, objects, settings, state), the same database as PostgreSQL's own
dump, the registry's key (a throw-away one of these tests), and what the API answered at one moment, to whom.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path.cwd()))  # that release's packages, and not those of this file

from bench.record import Tool
from bench.units import utc_text
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, Heartbeat, Witness, make_document
from certify.keys.signers import spki_text
from certify.registry.base import tokens
from certify.registry.base.registry import open_registry
from certify.registry.intake import presence
from certify.registry.maintenance.backup import backup, restore
from certify.registry.service.init import open_store
from certify.registry.storage import tables
from tests.certify.registry import laid as laying
from tests.certify.registry.laid import CENTRE, OTHER, Laid, certified, lay_keys, lay_registry
from tests.certify.registry.postgres import USER, Postgres, binaries
from tests.certify.registry.serving import new_token, serving

THIRD, FOURTH = "sz-test", "bj-test"
DSSE, LINES = "application/vnd.petaseal.dsse+json", "application/jsonl"
laying.PEOPLE["other"] = ("operator", (OTHER, THIRD, FOURTH))
laying.PEOPLE["other-node"] = ("node", (OTHER, THIRD, FOURTH))


class Filling:
    """A registry that is being filled over HTTP."""

    def __init__(self, url: str, secrets: dict[str, str]) -> None:
        self.http = httpx.Client(base_url=url, timeout=120)
        self.secrets = secrets

    def send(self, who: str, method: str, path: str, content: bytes, kind: str, wanted: int) -> dict[str, Any]:
        """Send a document as somebody; the answer must be the one that is wanted."""
        headers = {"Authorization": f"Bearer {self.secrets[who]}", "Content-Type": kind}
        answer = self.http.request(method, path, content=content, headers=headers)
        assert answer.status_code == wanted, (path, answer.status_code, answer.text)
        value: dict[str, Any] = answer.json()
        return value

    def submit(self, who: str, out: Path, records: int = 201) -> str:
        """Submit a statement and, unless 0, its records."""
        done = self.send(who, "POST", "/v1/statements", (out / "statement.dsse.json").read_bytes(), DSSE, 201)
        sha256 = str(done["payload_sha256"])
        if records:
            content = (out / "records.jsonl").read_bytes()
            self.send(who, "PUT", f"/v1/statements/{sha256}/records", content, LINES, records)
        return sha256

    def ask(self, path: str, who: str | None) -> dict[str, Any]:
        """Return what a path answers to somebody."""
        headers = {} if who is None else {"Authorization": f"Bearer {self.secrets[who]}"}
        answer = self.http.get(path, headers=headers)
        body = base64.b64encode(answer.content).decode()
        return {"path": path, "who": who, "status": answer.status_code, "body": body}


def fill(place: Laid, folder: Path, filling: Filling) -> dict[str, str]:
    """Submit everything; return the digests of statements by name."""
    centre, _ = certified(folder / "one", place.keys)
    again = centre.certify(folder / "again", sequence=2, previous=centre.folder / "out" / "statement.dsse.json")
    other, _ = certified(folder / "two", place.keys, OTHER, nodes=2, first=100, jurisdiction="CN-420100")
    third, _ = certified(folder / "three", place.keys, THIRD, devices=2, first=200, project_id=None)
    fourth, _ = certified(folder / "four", place.keys, FOURTH)  # the devices of the first
    campaign = (centre.folder / "campaign.dsse.json").read_bytes()
    filling.send("operator", "POST", "/v1/campaigns", campaign, DSSE, 201)
    named = {"first": filling.submit("operator", centre.folder / "out")}
    with open_store(place.root).reading() as connection:
        (shown,) = connection.execute(tables.campaigns.select()).all()
    path = f"/v1/campaigns/{shown.campaign_sha256}/records"
    filling.send("operator", "POST", path, centre.record(0).read_bytes(), DSSE, 201)
    named["second"] = filling.submit("operator", again.out)
    named["revoked"] = filling.submit("other", other.folder / "out")
    named["declared"] = filling.submit("third", third.folder / "out", records=0)
    named["contested"] = filling.submit("fourth", fourth.folder / "out", records=422)
    said = Witness(
        centre_id=CENTRE,
        witnessed_at=utc_text(time.time_ns()),
        level="recomputed",
        checks=("records",),
        tool=Tool(version="0.1.0", sha256="ab" * 32),
    )
    witness = dsse.seal(make_document("witness", said, named["second"]), PAYLOAD_TYPE, [place.key("witness")])
    filling.send("operator", "POST", "/v1/witnesses", witness, DSSE, 201)
    revoked = place.revocations(statements=(named["revoked"],))
    filling.send("platform", "POST", "/v1/revocations", revoked, DSSE, 201)
    for content in (b"{}", campaign):
        filling.send("platform", "POST", "/v1/statements", content, DSSE, 422)
    filling.send("operator", "POST", "/v1/challenges", json.dumps({"centre_id": CENTRE}).encode(), JSON, 201)
    for act in ("register", "manage"):
        ask = {"act": act, "centre_id": CENTRE, "project_id": f"P-{CENTRE}", "pool": "main", "reason": "contract 17"}
        if act == "register":
            ask["external_ids"] = [{"scheme": "suanli", "value": "0001"}]  # type: ignore[assignment]
        filling.send("platform", "POST", "/v1/acts", json.dumps(ask).encode(), JSON, 201)
    return named


JSON = "application/json"


def beat(place: Laid) -> None:
    """Let the first centre's node be heard of, and one of the second."""
    registry = open_registry(place.root)
    for centre, node, key in ((CENTRE, "gpu-00000", "node"), (OTHER, "gpu-00100", "other-node")):
        with registry.store.reading() as connection:
            lines = connection.execute(tables.node_lines.select().where(tables.node_lines.c.node_id == node)).all()
        heard = Heartbeat(
            centre_id=centre,
            node_id=node,
            nonce=presence.nonce(registry, centre, node).nonce,
            sent_at=registry.now,
            devices_sha256=lines[-1].devices_sha256,
            signer_spki=spki_text(place.key(key).public),
        )
        presence.beat(registry, dsse.seal(make_document("heartbeat", heard), PAYLOAD_TYPE, [place.key(key)]))
    registry.close()


def paths(named: dict[str, str]) -> list[tuple[str, str | None]]:
    """Return everything that is asked, and by whom."""
    public = ["", "/capacity", "/capacity?format=csv", "/lifecycle", "/cities", "/centres", "/statements"]
    public += ["/alarms", "/decisions", "/attempts", "/identifiers/suanli/0001"]
    public += [f"/centres/{centre}" for centre in (CENTRE, OTHER, THIRD)]
    for sha256 in named.values():
        public += [f"/statements/{sha256}", f"/statements/{sha256}/envelope", f"/statements/{sha256}/receipt"]
    own = [f"/statements/{sha256}/nodes" for sha256 in named.values()] + ["/alarms", "/decisions"]
    own += [f"/statements/{sha256}/records" for sha256 in named.values()]
    return [(f"/v1{path}", None) for path in public] + [
        (f"/v1{path}", who) for path in own for who in ("platform", "operator")
    ]


def tokens_of(root: Path) -> dict[str, str]:
    """Make everybody's tokens, and further ones that were revoked or rotated."""
    secrets = {"operator": new_token(root), "platform": new_token(root, "platform")}
    secrets |= {name: new_token(root, "operator", of) for name, of in (("other", OTHER), ("third", THIRD))}
    secrets["fourth"] = new_token(root, "operator", FOURTH)
    store = open_store(root)
    with store.writing() as connection:
        now = utc_text(time.time_ns())
        ended, _ = tokens.create_token(connection, "ended", "reader", None, now, 30)
        tokens.revoke_token(connection, ended.id, now)
        rotated, _ = tokens.create_token(connection, "rotated", "metrics", None, now, 30)
        tokens.rotate_token(connection, rotated.id, now, 30)
    store.close()
    return secrets


def dump(postgres: Postgres, programs: Path, source: Path, folder: Path) -> bytes:
    """Return PostgreSQL's own dump of the registry, restored into it by that release."""
    name = postgres.new_database()
    restore(source, folder / "as-postgresql", postgres.url(name))
    command = [str(programs / "pg_dump"), "-h", "127.0.0.1", "-p", str(postgres.port), "-U", USER, "--no-owner", name]
    told = subprocess.run(command, check=True, capture_output=True).stdout
    # a later psql's own commands, which an older one does not know
    return b"\n".join(line for line in told.split(b"\n") if not line.startswith((b"\\restrict", b"\\unrestrict")))


def main(out: Path) -> None:
    """Make the archive."""
    programs = binaries()
    assert programs is not None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        place = lay_registry(folder / "registry", lay_keys(folder / "keys"))
        open_store(place.root).close()
        secrets = tokens_of(place.root)
        with serving(place.root) as url:
            named = fill(place, folder, Filling(url, secrets))
        beat(place)
        registry = open_registry(place.root)
        kept = backup(registry, folder / "backup")
        now = registry.now
        registry.close()
        answers = asked(place.root, now, paths(named), secrets)
        written = {"at": now, "named": named, "secrets": secrets, "answers": answers}
        (folder / "answers.json").write_text(json.dumps(written, ensure_ascii=False))
        (folder / "registry.pem").write_bytes(place.file("registry").read_bytes())
        postgres = Postgres(programs)
        try:
            postgres.start()
            (folder / "postgresql.sql").write_bytes(dump(postgres, programs, kept.folder, folder))
        finally:
            postgres.remove()
        with tarfile.open(out, "w:xz", preset=9) as archive:
            for name in ("backup", "answers.json", "registry.pem", "postgresql.sql"):
                archive.add(folder / name, name)


def asked(root: Path, now: str, wanted: list[tuple[str, str | None]], secrets: dict[str, str]) -> list[dict[str, Any]]:
    """Return what the API answers at one moment."""
    import threading

    import uvicorn

    from bench.units import utc_ns
    from certify.registry.service.app import create_app

    registry = open_registry(root, lambda: utc_ns(now))
    server = uvicorn.Server(uvicorn.Config(create_app(registry), port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    asking = Filling(f"http://127.0.0.1:{port}", secrets)
    answers = [asking.ask(path, who) for path, who in wanted]
    server.should_exit = True
    thread.join()
    registry.close()
    return answers


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
