"""The committed statement of two simulated nodes keeps verifying, by petaseal and by the script that shares no code.

While v0.2 is a draft, a document format or rule that changed on purpose remakes it (a new table does not):

    .venv/bin/python -m tests.certify.golden.test_golden
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

from msgspec.structs import replace

from bench.record import Environment, NodeRecord
from bench.units import utc_ns, utc_text
from certify.verify import verifier as verify
from certify.verify.report import VerificationReport
from tests.bench.fleet import BEGIN_NS
from tests.certify.measured import measured, verify_request

HERE = Path(__file__).resolve().parent
AT = "2026-03-02T08:00:00.000000Z"
FILES = ("statement.dsse.json", "records.jsonl", "operator.pem.pub")
SAMPLES = ("gpu-00000.samples.csv.gz", "gpu-00001.samples.csv.gz")
NOWHERE = Environment(
    os="Linux",
    kernel="6",
    architecture="x86_64",
    python="3.11",
    virtualised=None,
    container=None,
    cpus=2,
    cpu_quota_mcpu=None,
    memory_limit_bytes=None,
    unset=(),
    libraries={},
    switches={"environment": "off"},
)


def report(**changes: object) -> VerificationReport:
    request = {
        "statement": HERE / "statement.dsse.json",
        "public_key": HERE / "operator.pem.pub",
        "records": HERE / "records.jsonl",
        "samples": HERE,
        "at_ns": utc_ns(AT),
        "accept_simulated": True,
        "require": ("audited",),
    }
    return verify.verify(verify_request(**{**request, **changes}))


def test_the_golden_statement_is_accepted_up_to_audited() -> None:
    found = report()
    assert found.refusal is None, f"{found.refusal}: see this module's docstring"
    assert (found.level, found.refused) == ("audited", False)
    assert found.statement is not None
    assert (found.statement.grade, found.statement.simulated, found.statement.records) == ("smoke", True, 2)
    assert found.statement.classes[0].counted.devices == 2


def test_the_golden_statement_is_a_simulated_one() -> None:
    refusal = report(accept_simulated=False).refusal
    assert refusal is not None
    assert refusal.code == "simulated"


def test_the_independent_script_accepts_the_golden_statement() -> None:
    script = HERE.parent.parent.parent / "docs" / "independent_verifier.py"
    files = (HERE / name for name in ("operator.pem.pub", "statement.dsse.json", "records.jsonl"))
    done = subprocess.run([sys.executable, str(script), *map(str, files)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_else_lies_here() -> None:
    code = {"__init__.py", "test_golden.py", "test_documents.py", "v0.2", "__pycache__"}
    assert {path.name for path in HERE.iterdir()} - code == {*FILES, *SAMPLES}


def remake() -> None:
    """Measure, sign and copy the set anew, as of `AT`; the private key is thrown away."""

    def nowhere(index: int, record: NodeRecord) -> NodeRecord:
        return replace(record, environment=NOWHERE)

    then = mock.patch("tests.certify.measured.BEGIN_NS", BEGIN_NS)  # not yesterday, as elsewhere
    with tempfile.TemporaryDirectory() as folder, then, mock.patch("time.time_ns", return_value=utc_ns(AT)):
        one = measured(Path(folder), 2, 1, "smoke", ("fp16",), nowhere)
        one.certify()
        for name in FILES:
            shutil.copy(one.public_key if name == "operator.pem.pub" else one.folder / "out" / name, HERE / name)
        for name in SAMPLES:
            shutil.copy(one.records / name, HERE / name)
    assert utc_text(BEGIN_NS) < AT


if __name__ == "__main__":
    remake()
