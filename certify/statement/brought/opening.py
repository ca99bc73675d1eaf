"""Evidence documents, opened: who signed them, of which campaign they are, and whether the tool's output says the same.

A document and the output that it binds lie in one folder: ``NAME.evidence.dsse.json`` and ``NAME.output.txt``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from bench.errors import InputError, RefusedError
from bench.record import Campaign, digest, read_bytes
from bench.units import launch_sixths
from certify.documents.caps import CAPS
from certify.documents.evidence import BusRun, ImportedEvidence, SolveRun
from certify.documents.kinds import OpenedDocument, parse_payload
from certify.evidence.output import Family, ReaderOptions, ToolOutput, is_refused
from certify.judge.case import SOLVE_RESIDUAL_PPM
from certify.policy.centre import Centre
from certify.policy.reasons import reasons
from certify.statement.package import EVIDENCE, EVIDENCE_SUFFIX, NAME, OUTPUT_SUFFIX
from certify.trust.opening import Verifier, check_payload_type
from certify.trust.trusted_set import skewed

BUSES = ("nccl-tests", "hccl-test")
# What the records of the nodes say of a run, and no output does: a document may have been made without them.
OF_NODES = frozenset({"hpl-grid-does-not-fit", "hpl-memory-does-not-fit", "hpl-rate-above-rating"})
_TIME_HALF_MS = 6  # hundredths of a second are printed, and a document holds whole milliseconds
_RATE_HALF = Fraction(6, 10**4)  # of four digits, the fewest that count
OF_CAMPAIGN = frozenset({"evidence-outside-campaign"})


class Brought(NamedTuple):
    """One evidence document that was opened."""

    path: Path
    content: bytes  # its envelope
    opened: OpenedDocument[ImportedEvidence]

    @property
    def document(self) -> ImportedEvidence:
        """What it says."""
        return self.opened.predicate

    @property
    def sha256(self) -> str:
        """Payload digest, by which a statement names it."""
        return self.opened.payload_sha256

    @property
    def output(self) -> Path | None:
        """The copy of the tool's output that lies with it; None where none does."""
        path = output_of(self.path)
        return path if os.path.lexists(path) else None


class Belonging(NamedTuple):
    """What an evidence document must be of."""

    campaign: Campaign
    campaign_sha256: str
    centre: Centre
    issued_at: str  # of the statement


def output_of(path: Path) -> Path:
    """Return where the copy of a tool's output lies, of whose document this is the path."""
    return path.with_name(path.name.removesuffix(EVIDENCE_SUFFIX) + OUTPUT_SUFFIX)


def documents_in(places: Iterable[Path]) -> list[Path]:
    """Return the evidence documents that some paths name: files, and all that lie in folders.

    Raises:
        InputError: `file-missing`, there is no such path.
        RefusedError: `evidence-too-many`.
    """
    files: list[Path] = []
    for place in places:
        if place.is_dir():
            files += sorted(
                path for path in place.iterdir() if path.name.endswith(EVIDENCE_SUFFIX) and path.name[0] != "."
            )
        elif os.path.lexists(place):
            files.append(place)
        else:
            raise InputError("file-missing", "no such file", where=place)
        if len(files) > 2 * CAPS.package_evidence:
            what = f"there are more than {2 * CAPS.package_evidence} evidence documents"
            raise RefusedError("evidence-too-many", what, where=place)
    return files


def open_all(paths: Iterable[Path], verifier: Verifier, of: Belonging) -> tuple[Brought, ...]:
    """Return opened evidence documents by ascending digest, each once.

    Raises:
        InputError, RefusedError: with the code of the first fault.
    """
    opened = {one.sha256: one for one in (open_evidence(path, verifier, of) for path in paths)}
    return tuple(opened[sha256] for sha256 in sorted(opened))


def latest(brought: Sequence[Brought]) -> tuple[Brought, ...]:
    """Return one document for each output and role: the same file brought twice is one, as it was imported last.

    Raises:
        RefusedError: `evidence-too-many`.
    """
    chosen: dict[tuple[str, str], Brought] = {}
    for one in sorted(brought, key=lambda one: (one.document.imported_at, one.sha256)):
        chosen[one.document.file_sha256, one.document.by] = one
    if len(chosen) > CAPS.package_evidence:
        what = f"there are {len(chosen)} evidence documents, more than {CAPS.package_evidence}"
        raise RefusedError("evidence-too-many", what, fix="name those that matter with --evidence")
    return tuple(sorted(chosen.values(), key=lambda one: one.sha256))


def package_files(brought: Sequence[Brought], out: Path) -> dict[str, Iterable[bytes] | None]:
    """Return the files of evidence in a statement's folder by name; None: of a run that was killed, and not of this.

    Args:
        brought: that the statement binds.
        out: the statement's folder.
    """
    files: dict[str, Iterable[bytes] | None] = {}
    with contextlib.suppress(OSError):  # none is there, or the writing will say what is wrong with it
        names = [path.name for path in (out / EVIDENCE).iterdir()]
        files |= {f"{EVIDENCE}/{name}": None for name in names if name.endswith((EVIDENCE_SUFFIX, OUTPUT_SUFFIX))}
    for one in brought:
        stem = one.path.name.removesuffix(EVIDENCE_SUFFIX)
        if re.fullmatch(NAME, stem) is None or files.get(f"{EVIDENCE}/{stem}{EVIDENCE_SUFFIX}") is not None:
            stem = one.sha256[:16]  # of another folder, a document of the same name
        if one.output is not None:
            files[f"{EVIDENCE}/{stem}{OUTPUT_SUFFIX}"] = [read_bytes(one.output, CAPS.evidence_output_bytes)]
        files[f"{EVIDENCE}/{stem}{EVIDENCE_SUFFIX}"] = [one.content]
    return files


def open_evidence(path: Path, verifier: Verifier, of: Belonging) -> Brought:
    """Return one evidence document: signed by a key that may, of the campaign, true to its output if it is there.

    Raises:
        RefusedError: `evidence-campaign-differs`, `centre-differs`, `pool-differs`, `evidence-node-unknown`,
            `times-reversed`, `subject-wrong`, `evidence-invalid`, `evidence-file-differs`, `evidence-differs`, or a
            code of `Verifier.open`.
    """
    content = read_bytes(path, CAPS.evidence_bytes)
    brought = Brought(path, content, _opened(content, verifier, path))
    check_belongs(brought.document, of, path)
    if brought.opened.subject_digest != brought.document.file_sha256:
        raise RefusedError("subject-wrong", "its subject is another file than the one that it names", where=path)
    if (problem := next(_contradictions(brought.document), None)) is not None:
        raise RefusedError("evidence-invalid", problem, where=path)
    check_output(brought)
    # after the output, which says more of an edited figure where it is there
    if brought.document.kind == "hpl" and not all(_rate_fits(run) for run in brought.document.runs):
        what = "lists a run as passed whose rate is not what its N and time give"
        raise RefusedError("evidence-invalid", what, where=path)
    return brought


def _opened(content: bytes, verifier: Verifier, path: Path) -> OpenedDocument[ImportedEvidence]:
    """Return a verified document; one of a witness without signers, where the verifier was given no witness's key.

    What the operator's key alone can show of it is that the statement binds its bytes.
    """
    trust = verifier.trust
    if trust.level == "signature" and not any(one.role == "witness" for one in trust.delegations):
        envelope = verifier.envelope("evidence", content, path)
        check_payload_type(envelope, path)
        parsed: OpenedDocument[ImportedEvidence] = parse_payload("evidence", envelope.payload, path)
        if parsed.predicate.by == "witness":
            return parsed
    return verifier.open("evidence", content, path)


def check_belongs(document: ImportedEvidence, of: Belonging, where: object) -> None:
    """Refuse evidence of another campaign, centre or node.

    Raises:
        RefusedError: `evidence-campaign-differs`, `centre-differs`, `evidence-node-unknown`, `pool-differs`,
            `times-reversed`.
    """
    if document.campaign_sha256 != of.campaign_sha256:
        what = f"is of the campaign {document.campaign_sha256[:16]}…, not {of.campaign_sha256[:16]}…"
        raise RefusedError("evidence-campaign-differs", what, where=where, fix="import it for this campaign")
    if document.centre_id != of.centre.centre_id:
        raise RefusedError("centre-differs", f"is of the centre {document.centre_id}", where=where)
    if document.imported_at > skewed(of.issued_at):
        what = f"was imported at {document.imported_at}, after the statement was issued"
        raise RefusedError("times-reversed", what, where=where)
    pools = node_pools(of.campaign, of.centre)
    for node in document.nodes:
        if node not in pools:
            raise RefusedError("evidence-node-unknown", f"names {node}, which the campaign does not", where=where)
        if document.pool is not None and document.pool not in pools[node]:
            what = f"says that {node} is of the pool {document.pool}, and the campaign does not"
            raise RefusedError("pool-differs", what, where=where)


def node_pools(campaign: Campaign, centre: Centre) -> dict[str, tuple[str, ...]]:
    """Return the pools of each node of a campaign; where a node made it, those that the centre file has it in."""
    if not campaign.self_issued:
        return {node.node_id: node.pools for node in campaign.nodes}
    return {node.node_id: tuple(one.pool for one in centre.pools_of(node.node_id)) for node in campaign.nodes}


def _contradictions(document: ImportedEvidence) -> Iterator[str]:
    """Yield what no importer writes; what its numbers contradict is seen without the output."""
    if list(document.nodes) != sorted(set(document.nodes)):
        yield "its nodes are not in ascending order, each once"
    table = reasons()
    runs: tuple[SolveRun | BusRun, ...] = (*document.runs, *document.failed, *document.buses)
    if unknown := {*document.codes, *(code for one in runs for code in one.codes)} - table.keys():
        yield f"has the code {min(unknown)}, which there is not"
        return
    if is_refused(document.codes):
        yield "has a code of the whole file that refuses it"
    if document.kind in BUSES and (document.runs or document.failed):
        yield f"has solves of {document.kind}, which has none"
    if document.kind not in BUSES and document.buses:
        yield f"has bandwidths of {document.kind}, which has none"
    if not (document.runs or document.failed or document.buses):
        yield "has no run"
    for run in document.runs:
        if is_refused(run.codes):
            yield "lists a run as passed, with a code that refuses it"
        if run.residual_ppm is not None and run.residual_ppm >= SOLVE_RESIDUAL_PPM:
            yield "lists a run as passed whose residual is 16 or more"
        if run.residual_ppm is None and document.kind != "hpcg":
            yield "lists a run as passed without a residual"
    if any(not is_refused(run.codes) for run in document.failed):
        yield "lists a run as failed, without a code that refuses it"


def _rate_fits(run: SolveRun) -> bool:
    """Return whether a rate is what N and time give, to the hundredths of a second and four digits that are printed."""
    if run.n is None:
        return False
    work = Fraction(launch_sixths("solve", run.n, run.n, run.n), 6)
    time_ms, rate = run.elapsed_ms or 0, run.rate_mflop_s
    least = work / ((time_ms + _TIME_HALF_MS) * 1000)
    most = work / ((time_ms - _TIME_HALF_MS) * 1000) if time_ms > _TIME_HALF_MS else None
    return (rate + 1) * (1 + _RATE_HALF) >= least and (most is None or rate * (1 - _RATE_HALF) <= most)


def check_output(brought: Brought) -> None:
    """Parse the tool's output anew, where a copy lies with the document, and compare every run.

    Raises:
        RefusedError: `evidence-file-differs`, `evidence-differs`.
    """
    from certify.evidence.reading import read_output  # all parsers: most verifications need none

    path, document = brought.output, brought.document
    if path is None:
        return
    content = read_bytes(path, CAPS.evidence_output_bytes)
    if hashlib.sha256(content).hexdigest() != document.file_sha256 or len(content) != document.file_bytes:
        what = f"is not the output that {brought.path.name} binds: the digest differs"
        raise RefusedError("evidence-file-differs", what, where=path)
    options = ReaderOptions(document.utc_offset_minutes, document.collective, document.ranks)
    try:
        output = read_output(family_of(document), content, path, options)
    except InputError as error:
        what = f"its output is not what it says: {error.what} [{error.code}]"
        raise RefusedError("evidence-differs", what, where=brought.path) from None
    if (problem := next(_differences(document, output), None)) is not None:
        raise RefusedError("evidence-differs", f"its output has another {problem}", where=brought.path)


def family_of(document: ImportedEvidence) -> Family:
    """Return the word after ``petaseal import`` of a document's tool."""
    return {"nccl-tests": "nccl-tests", "hccl-test": "hccl-test"}.get(document.kind, "hpl")  # type: ignore[return-value]


def _differences(document: ImportedEvidence, output: ToolOutput) -> Iterator[str]:
    for name in ("kind", "tool", "is_per_device"):
        if getattr(document, name) != getattr(output, name):
            yield f"{name}: {getattr(output, name)!r}, not {getattr(document, name)!r}"
    if set(document.codes) != set(output.codes):
        yield f"set of notes: {', '.join(output.codes) or 'none'}"
    stated, printed = _runs(document), _runs(output)
    for one in printed - stated:
        yield f"run: {digest(one)[:16]}… with the rate {_rate(one)} is not in the document"
    for one in stated - printed:
        yield f"set of runs: the one with the rate {_rate(one)} is not in the output"


def _rate(run: SolveRun | BusRun) -> str:
    return f"{run.rate_mflop_s} MFLOP/s" if isinstance(run, SolveRun) else f"{run.algorithm_mb_s} MB/s"


def _runs(of: ImportedEvidence | ToolOutput) -> Counter[SolveRun | BusRun]:
    """Return all runs with the codes that the output alone gives them."""
    runs: list[SolveRun | BusRun] = [*of.runs, *of.failed, *of.buses]
    return Counter(replace(run, codes=tuple(sorted(set(run.codes) - OF_NODES - OF_CAMPAIGN))) for run in runs)
