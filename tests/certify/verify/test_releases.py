"""A statement of one release under the next: its tables changed, one of them is withdrawn, and then the rules change.

The next release is a copy of this tree, run as a command of its own; `make release-tables` is run in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certify.keys.files import load_private
from certify.policy.policies import load_policy
from certify.policy.released import current, index
from tests.certify import signed
from tests.certify.measured import Measured, measured
from tests.certify.verify.test_verifier import People

ROOT = Path(__file__).resolve().parents[3]
POLICIES = ("guangzhou-2000p", "guangzhou-2027", "wuhan-2025")  # as it was, changed since, withdrawn since
WHY = "its share counted CPUs twice"
ROW = """  - id: later-x1
    name: Later X1
    vendor: Later
    match: [{name: X1}]
    count_unit: card
    dies_per_unit: 1
    tflops: {fp16: "100"}
    confidence: low
    sources: [a data sheet]
    notes: ""
"""
Run = Callable[..., dict[str, Any]]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, (path, old)
    path.write_text(text.replace(old, new))


def run(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a Python command in a tree, with that tree's own packages."""
    env = {**os.environ, "PYTHONPATH": str(tree), "PETASEAL_STATE": str(tree / "state")}
    return subprocess.run([sys.executable, *command], cwd=tree, env=env, capture_output=True, text=True)


def release(tree: Path) -> set[str]:
    """Run what `make release-tables` runs, and return what it says that it added."""
    done = run(tree, "docs/release_tables.py")
    assert done.returncode == 0, done.stderr
    return {" ".join(line.split()[1:3]) for line in done.stderr.splitlines()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Return a centre with a statement by each policy, made by this release."""
    found = measured(tmp_path_factory.mktemp("centre"), 1, 1, "smoke", ("fp16",))
    for name in POLICIES:
        found.certify(found.folder / name, policies=(name,))
    return found


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the next release: a row more, a policy changed, another withdrawn and changed."""
    tree = tmp_path_factory.mktemp("later")
    for name in ("bench", "kernels", "certify", "configs"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "release_tables.py", tree / "docs")
    (tree / "pyproject.toml").write_text(
        re.sub(r'^version = ".*"$', 'version = "99.0.0"', (ROOT / "pyproject.toml").read_text(), flags=re.M)
    )
    with (tree / "configs" / "accelerators.yaml").open("a") as table:
        table.write(ROW)
    for name, demand in (("guangzhou-2027", "valid_days_max: 300"), ("wuhan-2025", "valid_days_max: 200")):
        edit(tree / "configs" / "policies" / f"{name}.yaml", "minimum_grade:", f"{demand}\nminimum_grade:")
    (old,) = (table for table in current() if table.name == "wuhan-2025")
    edit(tree / "configs" / "released" / "index.yaml", f'"{old.sha256}"', f'"{old.sha256}", withdrawn: "{WHY}"')
    return tree


@pytest.fixture(scope="module")
def verified(centre: Measured, later: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return what verifies a statement with the next release's command, as a verifier who has a trust root."""
    place = tmp_path_factory.mktemp("trust")
    root = People(place, [load_private(centre.key)], [signed.new_key(), signed.new_key()]).write()

    def verify(name: str, *more: str, status: int = 0) -> dict[str, Any]:
        files = (str(centre.folder / name), "--trust", str(root), "--fingerprint", signed.fingerprint(root))
        done = run(later, "-m", "certify", "verify", *files, "--accept-simulated", "--json", *more)
        assert done.returncode == status, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return verify


@pytest.mark.long
def test_a_statement_is_recomputed_with_the_tables_that_it_binds(later: Path, verified: Run) -> None:
    kept = contents(later / "configs" / "released")
    assert release(later) == {"ratings accelerators", "policy guangzhou-2027", "policy wuhan-2025"}
    added = contents(later / "configs" / "released")
    assert added.pop("index.yaml").startswith(kept.pop("index.yaml"))
    assert added.items() >= kept.items()
    assert release(later) == set()
    same, changed, withdrawn = (verified(name, "--require", "trusted") for name in POLICIES)
    assert [answer["level"] for answer in (same, changed, withdrawn)] == ["recomputed", "recomputed", "trusted"]
    ratings, policy = ({"name": name, "release": "0.2.0"} for name in ("accelerators", "guangzhou-2027"))
    told = [[{key: one[key] for key in ("name", "release")} for one in answer["tables"]] for answer in (same, changed)]
    assert told == [[ratings], [ratings, policy]]
    assert same["trusted_at_most"] == changed["trusted_at_most"] == []
    what = f"binds the policy wuhan-2025 of petaseal 0.2.0, which is withdrawn: {WHY}"
    assert withdrawn["trusted_at_most"] == [{"code": "table-withdrawn", "what": what}]
    assert f"records, rules, sums and verdicts: {what} [table-withdrawn]" in withdrawn["not_checked"]
    unmet = verified("wuhan-2025", "--require", "recomputed", status=1)
    assert unmet["code"] == "requirement-unmet"


def test_a_new_statement_is_made_with_the_new_tables(centre: Measured, later: Path, tmp_path: Path) -> None:
    release(later)
    policies = {name: tmp_path / name for name in POLICIES[:2]}
    for name, out in policies.items():
        given = ("--centre", centre.centre, "--key", centre.key, "--campaign", centre.campaign, "--out", out)
        command = ("certify", centre.records, *given, "--policy", name, "--valid-days", 300)
        done = run(later, "-m", "certify", *map(str, command), "--json")
        assert done.returncode == 0, done.stderr
        ratings = json.loads(done.stdout)["predicate"]["ratings_sha256"]
        assert ratings not in index()
    for name, code in (("guangzhou-2000p", "ratings-unknown"), ("guangzhou-2027", "policy-unknown")):
        refusal = centre.verify(policies[name]).refusal  # by this release, which has neither
        assert refusal is not None
        assert refusal.code == code
    file = str(later / "configs" / "released" / f"{ratings}.json")
    assert centre.verify(policies["guangzhou-2000p"], ratings=(file,)).level == "recomputed"


def test_an_earlier_policy_may_be_given_under_its_own_name(centre: Measured, later: Path) -> None:
    release(later)
    (old,) = (table.sha256 for table in current() if table.name == "guangzhou-2027")
    kept = (ROOT / "configs" / "released" / f"{old}.json").read_text()
    for content, status in ((kept, 0), (kept.replace('"certification"', '"standard"'), 2)):
        file = later / "given.yaml"
        file.write_text(content)
        files = (str(centre.folder / "guangzhou-2027"), "--public-key", str(centre.public_key), "--policy", str(file))
        done = run(later, "-m", "certify", "verify", *files, "--accept-simulated")
        assert done.returncode == status, done.stderr
    assert "[policy-altered]" in done.stderr


def test_by_other_rules_nothing_is_judged(later: Path, verified: Run) -> None:
    release(later)
    rules = later / "bench" / "record" / "node.py"
    text = rules.read_text()
    rules.write_text(re.sub(r'^RULES_VERSION = ".*"$', 'RULES_VERSION = "petaseal-rules/99"', text, flags=re.M))
    answer = verified("guangzhou-2000p", "--require", "recomputed", status=1)
    rules.write_text(text)
    assert (answer["level"], answer["accepted"]) == ("trusted", False), answer
    assert [limit["code"] for limit in answer["trusted_at_most"]] == ["rules-differ"]


def test_what_the_tests_change_is_there() -> None:
    assert load_policy("guangzhou-2027").valid_days_max == load_policy("wuhan-2025").valid_days_max == 366
