"""Wrong solves in signed records (R15): every verifier refuses a statement that shows or counts them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from bench.record import Measurement, columns, config_path
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, parse_payload
from certify.keys.signers import spki_text
from certify.policy.policies import load_policy
from certify.statement.describe import class_name, describe_statement
from certify.verify.report import VerificationReport
from tests.certify import attacks
from tests.certify.attacks import CAP, Package
from tests.certify.judge.test_solves import SOLVE, as_products
from tests.certify.measured import Measured, measured
from tests.certify.signed import new_key
from tests.certify.verify.test_javascript import ask, case_of
from tests.certify.verify.test_pools import SCRIPT
from tests.oracle import whole as oracle

HPC = {"pool": "hpc", "class": "supercomputing", "nodes": "all", "devices": "all"}
LIES: dict[str, dict[str, Any]] = {
    "a tampered solution": {"row_error_ppm": 2**53 - 1},
    "a residual of 16": {"row_error_ppm": 16 * 10**6},
    "a NaN, or a stale solution": {"row_error_ppm": None},
}


def solves_counted(place: Path) -> Path:
    """Return a policy of its own that counts solves in supercomputing pools."""
    policy = yaml.safe_load(config_path("policies", "guangzhou-2000p.yaml").read_text(encoding="utf-8"))
    policy["policy"] = "solves"
    policy["counting"]["supercomputing"] |= {"precision": "fp64", "choice": "solve", "accumulate": "fp64"}
    file = place / "solves.yaml"
    file.write_text(yaml.safe_dump(policy, allow_unicode=True), encoding="utf-8")
    return file


@pytest.fixture(scope="module", params=["shown", "counted"])
def centre(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    place = tmp_path_factory.mktemp(request.param)
    found = measured(place, 2, 2, "smoke", ("fp64", "fp64-solve", "fp64-mixed"), pools=[HPC])
    policies: dict[str, Any] = {"policies": (str(solves_counted(place)),)} if request.param == "counted" else {}
    statement = found.certify(**policies).statement
    assert [line.choice for line in statement.shown] == (["fixed", "mixed"] if policies else ["mixed", "solve"])
    assert statement.pools[0].counted.devices == 4
    return found


def with_solve(centre: Measured, change: Any) -> Package:
    """Return a package whose first record has another solve; node and operator seal it, and its sums stay."""

    def wrong(lines: list[bytes], _: Measured) -> list[bytes]:
        record = parse_payload("node-record", dsse.parse_envelope(lines[0], CAP).payload).predicate
        changed = tuple(change(m) if m.workload == SOLVE else m for m in record.measurements)
        return [attacks.resealed(lines[0], measurements=changed), *lines[1:]]

    return attacks.records(wrong, bound=True)(centre)


def as_lied(lie: dict[str, Any]) -> Any:
    def change(m: Measurement) -> Measurement:
        first, *others = m.figures()
        return replace(m, **columns([first._replace(**lie), *others]))

    return change


def script(centre: Measured, place: Path, package: Package) -> subprocess.CompletedProcess[str]:
    (place / "s.json").write_bytes(package.statement)
    (place / "r.jsonl").write_bytes(package.records)
    files = (centre.public_key, place / "s.json", place / "r.jsonl")
    return subprocess.run([sys.executable, SCRIPT, *files], capture_output=True, text=True, check=False)


def first(centre: Measured, place: Path, package: Package) -> tuple[str | None, VerificationReport]:
    """Return the code with which our verifier refuses a package, if it does, and its report."""
    (place / "statement.dsse.json").write_bytes(package.statement)
    (place / "records.jsonl").write_bytes(package.records)
    file = centre.folder / "solves.yaml"
    report = centre.verify(place, policies=(str(file),) if file.exists() else ())
    return report.refusal.code if report.refusal else None, report


def test_an_honest_statement_with_solves_is_accepted_by_all(centre: Measured, tmp_path: Path) -> None:
    code, report = first(centre, tmp_path, attacks.package(centre))
    assert code is None
    assert report.statement is not None
    files = {"solves": str(centre.folder / "solves.yaml")}
    policies = tuple(load_policy(files.get(one.policy, one.policy)) for one in report.statement.policies)
    assert not oracle.judge(centre, report.statement, policies).issues
    assert [a["code"] for a in ask([case_of(centre, attacks.package(centre)).second()])] == [None]
    done = script(centre, tmp_path, attacks.package(centre))
    assert (done.returncode, done.stderr) == (0, "")


def test_wrong_solves_are_refused_by_all(centre: Measured, tmp_path: Path) -> None:
    lies = {name: as_lied(lie) for name, lie in LIES.items()} | {"the work of products": as_products}
    packages = {name: with_solve(centre, change) for name, change in lies.items()}
    cases = {name: case_of(centre, package) for name, package in packages.items()}
    assert {answer["code"] for answer in ask(case.second() for case in cases.values())} == {"statement-differs"}
    for name, package in packages.items():
        assert first(centre, tmp_path, package)[0] == "statement-differs", name
        done = script(centre, tmp_path, package)
        assert (done.returncode, done.stdout) == (1, ""), name
        assert done.stderr.startswith("REFUSED: "), name


def test_a_solve_that_is_none_has_no_record(centre: Measured, tmp_path: Path) -> None:
    """Written past the types, which refuse it too."""
    packages = {}
    for name, change in (("m", 64), ("k", 64), ("precision", "fp32"), ("rms_error_ppm", [1, 1])):

        def wrong(lines: list[bytes], _: Measured, name: str = name, change: Any = change) -> list[bytes]:
            value, key = attacks.payload_of(lines[0]), new_key()
            value["predicate"]["signer_spki"] = spki_text(key.public)
            solve = next(m for m in value["predicate"]["measurements"] if m["choice"] == "solve")
            solve[name] = change
            return [dsse.seal(attacks.canonical(value), PAYLOAD_TYPE, [key]), *lines[1:]]

        packages[name] = attacks.records(wrong, bound=True)(centre)
    assert {first(centre, tmp_path, package)[0] for package in packages.values()} == {"schema-invalid"}
    cases = [case_of(centre, package).second() for package in packages.values()]
    assert {answer["code"] for answer in ask(cases)} == {"schema-invalid"}


def test_a_solve_is_called_what_it_is(centre: Measured) -> None:
    statement = parse_payload(
        "capacity-statement",
        dsse.parse_envelope((centre.folder / "out" / "statement.dsse.json").read_bytes(), CAP).payload,
    ).predicate
    page = (centre.folder / "out" / "statement.html").read_text(encoding="utf-8")
    for names in (("node-level, HPL-like", "节点级，类 HPL"), ("HPL-MxP-like, never counted", "从不计入")):
        assert all(name in page for name in names)
        for name, lang in zip(names, ("en", "zh"), strict=True):
            assert any(name in line for line in describe_statement(statement, lang=lang))  # type: ignore[arg-type]
    shown = {line.choice: line for line in statement.shown}
    assert "fixed" in shown or "solve" in shown  # DGEMM and the solve stand beside each other
    assert class_name("supercomputing", "fp64", "fixed", "en") == "supercomputing fp64"
