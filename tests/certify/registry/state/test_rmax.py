"""The highest HPL run that was brought for a pool: in the feed and with the statement, beside the sums, in none."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace as replaced
from pathlib import Path

from msgspec.structs import replace

from bench.record import Precision, encode
from certify.keys.files import load_private
from certify.registry.base.pool import VerificationPool
from certify.registry.base.registry import open_registry
from certify.registry.maintenance.integrity import check
from certify.registry.service.app import create_app
from certify.registry.state.feeds.models import rmax_by_pool
from certify.statement.brought.importing import ImportRequest, import_files
from tests.certify.evidence.outputs import Row, hpl, nccl
from tests.certify.registry.intake.test_ingest import OTHERS, submit_whole
from tests.certify.registry.laid import OTHER, lay_centre, lay_registry
from tests.certify.registry.within import Within
from tests.certify.statement.brought.bringing import IMPORTED_AT, IMPORTER, POOLS
from tests.certify.statement.brought.test_import import line

RUN = Row(n=60_000, seconds=41.5, p=2, q=2, start=None)


def test_a_pool_names_the_run_and_adds_it_to_nothing(tmp_path: Path, keys: Path) -> None:
    precisions: tuple[Precision, ...] = ("fp16", "fp64")
    folder = tmp_path / "centre"
    centre = lay_centre(folder, keys, OTHER, nodes=2, devices=2, profile="standard", precisions=precisions, pools=POOLS)
    evidence = tmp_path / "evidence"
    (tmp_path / "hpl.out").write_bytes(hpl(RUN, replaced(RUN, seconds=50.0)))
    (tmp_path / "buses.out").write_bytes(nccl())
    key = load_private(centre.key)
    for family, name in (("hpl", "hpl.out"), ("nccl-tests", "buses.out")):
        request = ImportRequest(family, (tmp_path / name,), centre.campaign, evidence)  # type: ignore[arg-type]
        import_files(request, [key], IMPORTER, IMPORTED_AT)
    statement = centre.certify(evidence=(evidence,)).statement
    assert len(statement.evidence) == 2
    place = lay_registry(tmp_path / "registry", keys, rehearsal=True, accept_simulated=False)
    opened = replaced(open_registry(place.root), verifier=VerificationPool(0))
    with closing(opened) as registry:
        decided = submit_whole(registry, centre, OTHERS)
        assert (decided.decision, decided.level) == ("accepted", "recomputed")
        client = Within(create_app(registry))
        (pool,) = client.get("/v1/capacity").json()["items"]
        detail = client.get(f"/v1/statements/{decided.payload_sha256}").json()
        as_csv = client.get("/v1/capacity?format=csv").text
        assert check(registry).problems == ()
    assert pool["rmax_mflop_s"] == 3_470_000
    assert pool["rmax_pflops"] == "0.003470"
    assert (pool["rmax"]["by"], pool["rmax"]["tool"], pool["rmax"]["n"], pool["rmax"]["nodes"]) == (
        "operator",
        "HPLinpack 2.3",
        60_000,
        2,
    )
    assert pool["certified_mflop_s"] == statement.classes[0].counted.certified_mflop_s
    assert sorted(one["kind"] for one in detail["evidence"]) == ["hpl", "nccl-tests"]
    assert "rmax_mflop_s" in as_csv.partition("\n")[0]


def test_the_highest_hpl_run_of_a_pool_is_taken() -> None:
    def row(pool: str, number: int, **changes: object) -> tuple[str, str, int, str]:
        return "s", pool, number, encode(replace(line(), **changes)).decode()

    shown = rmax_by_pool(
        [
            row("main", 0, rate_mflop_s=5),
            row("main", 1, rate_mflop_s=7, tool="HPLinpack 2.3"),
            row("main", 2, kind="hpl-mxp", rate_mflop_s=900),
            row("main", 3, kind="hpl", rate_mflop_s=None, runs=0),
            row("other", 4, kind="hpcg", rate_mflop_s=3),
            row("main", 5, kind="hpl", rate_mflop_s=900, codes=("evidence-node-without-record",)),
        ]
    )
    assert shown.keys() == {("s", "main")}
    assert (shown["s", "main"].rate_mflop_s, shown["s", "main"].tool) == (7, "HPLinpack 2.3")
