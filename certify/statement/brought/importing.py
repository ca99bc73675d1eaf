"""``petaseal import``: from the output of another tool to a signed evidence document, which binds it by its digest."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from bench.errors import InputError, RefusedError
from bench.record import Campaign, NodeRecord, Tool, digest, read_bytes, read_given, refuse_existing, write_atomic
from bench.record.folder import Folder, check_belongs
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope, seal
from certify.documents.evidence import ImportedEvidence
from certify.documents.kinds import PAYLOAD_TYPE, RECORD_SUFFIX, make_document, parse_payload
from certify.evidence.facts import check_against
from certify.evidence.lines import MOST_BYTES, too_large
from certify.evidence.output import Family, ReaderOptions, ToolOutput, is_refused
from certify.evidence.reading import read_output
from certify.judge.nodes import NodeMeans, facts_of, means_of
from certify.judge.plausibility import row_of
from certify.keys.signers import PrivateKey
from certify.policy.centre import Centre, load_centre
from certify.policy.hostlists import expand
from certify.policy.ratings import installed_ratings
from certify.statement.brought.opening import node_pools
from certify.statement.campaign import parsed_campaign
from certify.statement.package import EVIDENCE_SUFFIX, OUTPUT_SUFFIX

_NOT_IN_NAMES = re.compile(r"[^a-z0-9._-]+")
MOST_NAME = 40  # letters of a document's name that come from that of the output


@dataclass(frozen=True)
class ImportRequest:
    """What ``petaseal import`` was asked for."""

    family: Family
    files: tuple[Path, ...]
    campaign: Path  # signed, or the folder of one, or the record of a node that measured alone
    out: Path
    by: Literal["operator", "witness"] = "operator"
    centre: str | None = None
    nodes: tuple[str, ...] = ()  # host lists; none: all of the pool, or of the campaign
    pool: str | None = None
    options: ReaderOptions = field(default_factory=ReaderOptions)


class Imported(NamedTuple):
    """One output of a tool, and the document that was made of it."""

    file: Path
    output: ToolOutput  # with what the records of the nodes say of its runs, where they are at hand
    document: ImportedEvidence
    path: Path | None  # of the document; None: no run passed, and none was made
    copy: Path | None  # of the output; None: it is too large, and bound by its digest alone

    @property
    def has_passed(self) -> bool:
        """Whether anything of it counts as evidence."""
        return bool(self.output.runs) or any(not is_refused(one.codes) for one in self.output.buses)

    def as_json(self) -> dict[str, Any]:
        """Return the result as the JSON value of ``--json``."""
        return {
            "file": str(self.file),
            "document": None if self.path is None else str(self.path),
            "output": None if self.copy is None else str(self.copy),
            "passed": self.has_passed,
            "predicate": msgspec.to_builtins(self.document),
        }


class Imports(NamedTuple):
    """What an import knows of its campaign."""

    campaign: Campaign
    centre_id: str
    nodes: tuple[str, ...]
    means: dict[str, NodeMeans]  # of those of the nodes whose records are at hand


def import_files(request: ImportRequest, keys: Sequence[PrivateKey], importer: Tool, now: str) -> list[Imported]:
    """Read, check, sign and write evidence; nothing is written where one file is refused.

    Args:
        request: what was asked for.
        keys: that sign.
        importer: this petaseal.
        now: the present.

    Raises:
        InputError, RefusedError: with the code of the first fault.
    """
    known = _known(request)
    contents = [(path, _content(path)) for path in dict.fromkeys(request.files)]
    made, names = [], set[str]()
    for path, content in contents:
        one = _imported(request, known, path, content, importer, now)
        if one.has_passed:
            name = _name(path, names)
            out, copy = request.out / f"{name}{EVIDENCE_SUFFIX}", request.out / f"{name}{OUTPUT_SUFFIX}"
            is_small = len(content) <= CAPS.evidence_output_bytes
            one = one._replace(path=out, copy=copy if is_small else None)
            for target in (out, copy):
                refuse_existing(target, "choose another folder with --out")
        made.append(one)
    sealed = [
        seal(make_document("evidence", one.document, one.document.file_sha256), PAYLOAD_TYPE, keys) for one in made
    ]
    for one, envelope, (_, content) in zip(made, sealed, contents, strict=True):
        if one.copy is not None:
            write_atomic(one.copy, content, new=True)
        if one.path is not None:  # last: whoever finds a document finds what it binds
            write_atomic(one.path, envelope, new=True)
    return made


def _imported(request: ImportRequest, known: Imports, path: Path, content: bytes, importer: Tool, now: str) -> Imported:
    output = read_output(request.family, content, path, request.options)
    facts = facts_of(known.nodes, known.means, known.campaign, is_per_device=output.is_per_device)
    output = check_against(output, facts)
    options = request.options
    document = ImportedEvidence(
        kind=output.kind,
        by=request.by,
        centre_id=known.centre_id,
        campaign_sha256=digest(known.campaign),
        pool=request.pool,
        nodes=known.nodes,
        tool=output.tool,
        is_per_device=output.is_per_device,
        utc_offset_minutes=options.utc_offset_minutes,
        collective=options.collective,
        ranks=options.ranks,
        file_sha256=hashlib.sha256(content).hexdigest(),
        file_bytes=len(content),
        imported_at=now,
        importer=importer,
        codes=output.codes,
        runs=output.runs,
        failed=output.failed,
        buses=output.buses,
    )
    return Imported(path, output, document, None, None)


def _content(path: Path) -> bytes:
    try:
        return read_given(path, MOST_BYTES)
    except InputError as error:
        if error.code != "file-too-large":
            raise
        raise too_large(path) from None


def _name(path: Path, taken: set[str]) -> str:
    """Return what a document is named after its output: a name that is not taken yet."""
    stem = _NOT_IN_NAMES.sub("-", path.stem.lower()).strip("._-")[:MOST_NAME] or "output"
    name = next(one for one in _numbered(stem) if one not in taken)
    taken.add(name)
    return name


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    number = 2
    while True:
        yield f"{stem}-{number}"
        number += 1


def _known(request: ImportRequest) -> Imports:
    """Return the campaign that evidence is imported for, and what is known of the nodes that are named.

    Raises:
        InputError, RefusedError: `centre-missing`, `centre-differs`, `evidence-node-unknown`, `pool-differs`, or the
            campaign cannot be read.
    """
    campaign = campaign_at(request.campaign)
    centre = None if request.centre is None else load_centre(request.centre)
    centre_id = campaign.centre_id or (centre.centre_id if centre else None)
    if centre_id is None:
        raise InputError("centre-missing", "a node made this campaign, which names no centre", fix="give --centre")
    if centre is not None and centre.centre_id != centre_id:
        raise RefusedError("centre-differs", f"is of the centre {centre_id}", where=request.campaign)
    nodes = _nodes(request, campaign, centre)
    return Imports(campaign, centre_id, nodes, dict(_means(request.campaign, nodes, digest(campaign))))


def _nodes(request: ImportRequest, campaign: Campaign, centre: Centre | None) -> tuple[str, ...]:
    """Return the nodes on which the tool ran, ascending: those that are named, else all of the pool or campaign."""
    if centre is not None:
        pools = node_pools(campaign, centre)
    else:
        pools = {node.node_id: node.pools for node in campaign.nodes}
    known = {pool for of_node in pools.values() for pool in of_node}
    if request.pool is not None and request.pool not in known:
        what = f"has no node in a pool {request.pool}"
        raise RefusedError("pool-differs", what, where=request.campaign, fix=f"choose from {', '.join(sorted(known))}")
    ids = _engine_names(request.campaign, campaign)
    named = [ids.get(name.lower(), name.lower()) for name in expand(request.nodes, "--nodes")]
    for name in named:
        if name not in pools:
            what = f"names {name}, which the campaign does not"
            raise RefusedError("evidence-node-unknown", what, where="--nodes")
        if request.pool is not None and request.pool not in pools[name]:
            what = f"names {name}, which is of {', '.join(pools[name]) or 'no pool'}, not of {request.pool}"
            raise RefusedError("pool-differs", what, where="--nodes")
    chosen = named or [name for name, of in pools.items() if request.pool is None or request.pool in of]
    return tuple(sorted(set(chosen)))


def _engine_names(place: Path, campaign: Campaign) -> dict[str, str]:
    """Return the nodes' ids by the names that the centre's engine has for them: no document names a machine.

    Raises:
        InputError, RefusedError: the roster in the campaign's folder is damaged, or of another campaign.
    """
    folder = Folder(place if place.is_dir() else place.parent)
    if not folder.roster_file.exists():
        return {}
    roster = folder.roster()
    check_belongs(folder, roster, campaign)
    return {node.name.lower(): node.node_id for node in roster.nodes}


def campaign_at(place: Path) -> Campaign:
    """Return a campaign by its form: evidence binds its digest, and ``certify`` checks who signed it.

    Args:
        place: the signed campaign, the folder of one, or the record (or folder of it) of a node that measured alone.

    Raises:
        InputError: `campaign-missing`: there is none.
        RefusedError: it is no campaign.
    """
    if place.is_dir():
        folder = Folder(place)
        if os.path.lexists(folder.campaign):
            return parsed_campaign(folder.campaign, shared=True)
        records = sorted(path for path in place.iterdir() if path.name.endswith(RECORD_SUFFIX))
        if len(records) != 1:
            fix = "give the signed campaign, its folder, or the record of a node that measured alone"
            raise InputError("campaign-missing", "holds no campaign", where=place, fix=fix)
        place = records[0]
    if not place.name.endswith(RECORD_SUFFIX):
        return parsed_campaign(place)
    record = _record(place)
    if record.campaign is None:
        what = f"belongs to the campaign {record.campaign_id} and does not hold it"
        raise InputError("campaign-missing", what, where=place, fix="give the signed campaign with --campaign")
    return record.campaign


def _record(path: Path) -> NodeRecord:
    envelope = parse_envelope(read_bytes(path, CAPS.record_bytes), CAPS.record_bytes, path)
    record: NodeRecord = parse_payload("node-record", envelope.payload, path).predicate
    return record


def _means(place: Path, nodes: Sequence[str], campaign_sha256: str) -> Iterator[tuple[str, NodeMeans]]:
    """Yield what records by the campaign say of its nodes: an early warning, since ``certify`` asks all records.

    Records lie in the campaign's folder, or together with the campaign's file.
    """
    root = place if place.is_dir() else place.parent
    folder = Folder(root)
    ratings = installed_ratings()
    for node in nodes:
        file = f"{node}{RECORD_SUFFIX}"
        places = (root / file, folder.collected / file, root / "records" / file, folder.records(node) / file)
        if (path := next((one for one in places if one.is_file()), None)) is not None:
            record = _record(path)
            if record.campaign_sha256 == campaign_sha256 and record.node_id == node:
                yield node, means_of(record, [row_of(model, ratings) for model in record.models])
