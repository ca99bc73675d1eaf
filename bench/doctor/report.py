"""What the doctor says of a node, or of the nodes of a campaign together: equal findings once, the gravest first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Any, NamedTuple

from bench.doctor.fleet_checks import FLEET_CHECKS, FleetView
from bench.doctor.names import device_names, node_names
from bench.doctor.table import WEIGHT, DoctorRow, Moves, doctor_table
from bench.errors import one_line
from bench.language import LANGUAGES, Message, messages_of
from bench.record import DeviceModel
from bench.record.status import DoctorFinding, Examination
from bench.units import full_name

THIS_NODE = ""


class ReportedFinding(NamedTuple):
    """One finding of a check, with the nodes and devices that it concerns.

    Args:
        check: id of its row.
        row: of the table.
        values: that its sentence names.
        devices: such as cuda:0; none: the nodes themselves.
        nodes: names of nodes; none: this node, or the campaign.
        counts_0: whether devices of it count 0.
    """

    check: str
    row: DoctorRow
    values: Mapping[str, str]
    devices: tuple[str, ...]
    nodes: tuple[str, ...]
    counts_0: bool

    @property
    def moves(self) -> Moves:
        """What it does: as its row says, but where it makes nothing count 0 under this profile."""
        return "zero" if self.counts_0 else "figure" if self.row.moves == "zero" else self.row.moves

    @property
    def where(self) -> str:
        """The nodes and devices that it concerns, as a shortened list."""
        return " ".join(filter(None, (node_names(self.nodes), device_names(self.devices))))

    def sentence(self, language: str) -> str:
        """Return what was found, in a language."""
        return filled(self.row.finding, self.values)[language]

    def as_json(self) -> dict[str, Any]:
        """Return the finding as a JSON value of ``--json`` (docs/node.md)."""
        texts = {name: getattr(self.row, name) for name in ("title", "finding", "why", "do")}
        return {
            "check": self.check,
            "moves": self.moves,
            "code": self.row.code,
            "rule": self.row.rule,
            "nodes": list(self.nodes),
            "devices": list(self.devices),
            "values": dict(self.values),
            **{name: filled(text, self.values) for name, text in texts.items()},
        }


def filled(message: Message, values: Mapping[str, str]) -> dict[str, str]:
    """Return a text in each language with values for the names in its braces."""
    return {one: message.in_language(one).format_map(values) for one in LANGUAGES}


def lacks(message: Message, values: Mapping[str, str]) -> bool:
    """Return whether values lack for a name of a text: a node of another release sent them."""
    return any(name is not None and name not in values for _, name, _, _ in Formatter().parse(message.en))


VERSIONS = ("driver", "firmware", "library", "source_version")  # of a model, that say what it runs with


class ReportedModel(NamedTuple):
    """Devices of one model: how many there are, and the versions that they run."""

    name: str
    devices: int
    versions: Mapping[str, tuple[str, ...]]

    @property
    def described(self) -> str:
        """The model with its versions, on one line."""
        known = "; ".join(f"{what.replace('_', ' ')} {', '.join(texts)}" for what, texts in self.versions.items())
        return f"{self.devices} x {self.name}{f' ({known})' if known else ''}"


def models_of(devices: Iterable[tuple[DeviceModel, int]]) -> tuple[ReportedModel, ...]:
    """Return the models of some devices, by their full names.

    Args:
        devices: models, each with how many of it.
    """
    known: dict[str, list[tuple[DeviceModel, int]]] = {}
    for model, count in devices:
        known.setdefault(one_line(full_name(model.vendor, model.model)), []).append((model, count))
    return tuple(
        ReportedModel(
            name,
            sum(count for _, count in alike),
            {
                what: tuple(sorted({one_line(text) for text in texts}))
                for what in VERSIONS
                if (texts := [text for model, _ in alike if (text := getattr(model, what)) is not None])
            },
        )
        for name, alike in known.items()
    )


class DoctorReport(NamedTuple):
    """The results of all checks, over one node or many.

    Args:
        rows: of the table, and of the codes that are known beforehand.
        findings: the gravest first.
        fine: checks that were made everywhere and found nothing.
        unread: checks that could not be made somewhere, and found nothing elsewhere, each with why (a key).
        absent: checks of what no node has.
        nodes: how many were looked at.
        models: of the devices.
        is_campaign: whether these are the nodes of a campaign.
    """

    rows: Mapping[str, DoctorRow]
    findings: tuple[ReportedFinding, ...]
    fine: tuple[str, ...]
    unread: Mapping[str, str]
    absent: tuple[str, ...]
    nodes: int
    models: tuple[ReportedModel, ...] = ()
    is_campaign: bool = False

    @property
    def counts_0(self) -> bool:
        """Whether a device would count 0."""
        return any(one.counts_0 for one in self.findings)

    def number(self, moves: Moves) -> int:
        """Return the number of findings with one effect."""
        return sum(one.moves == moves for one in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return the report as the JSON value of ``--json``; each text in both languages."""
        whys = messages_of("unread")
        return {
            "nodes": self.nodes,
            "models": [
                {
                    "model": one.name,
                    "devices": one.devices,
                    **{what: list(one.versions.get(what, ())) for what in VERSIONS},
                }
                for one in self.models
            ],
            "counts_0": self.counts_0,
            "findings": [one.as_json() for one in self.findings],
            "fine": list(self.fine),
            "unread": [
                {"check": check, "why": {one: whys[why].in_language(one) for one in LANGUAGES}}
                for check, why in self.unread.items()
            ],
            "absent": list(self.absent),
        }


def report_of(
    rows: Mapping[str, DoctorRow],
    examinations: Mapping[str, Examination],
    further: Iterable[tuple[DoctorFinding, tuple[str, ...]]] = (),
    models: tuple[ReportedModel, ...] = (),
    fleet: FleetView | None = None,
) -> DoctorReport:
    """Return the results of all nodes' checks as one report.

    Args:
        rows: of the table, and of the codes that are known beforehand.
        examinations: node -> what its checks came to; one node alone has the name `THIS_NODE`.
        further: findings of the whole, each with its nodes.
        models: of the devices.
        fleet: the nodes, to be compared with each other; None for one node alone.
    """
    single = [(one, (node,)) for node, its in examinations.items() for one in its.findings]
    across = [] if fleet is None else _across(fleet)
    grouped: dict[tuple[Any, ...], list[str]] = {}
    for one, nodes in (*single, *further, *across):
        row = rows.get(one.check)
        if row is None or lacks(row.finding, one.values) or lacks(row.do, one.values):
            continue
        values = tuple(sorted((name, one_line(value)) for name, value in one.values.items()))
        key = (one.check, values, tuple(map(one_line, one.devices)), one.counts_0)
        grouped.setdefault(key, []).extend(map(one_line, filter(None, nodes)))
    findings = [
        ReportedFinding(check, rows[check], dict(values), devices_, tuple(dict.fromkeys(nodes)), counts_0)
        for (check, values, devices_, counts_0), nodes in grouped.items()
    ]
    order = {check: place for place, check in enumerate(rows)}
    findings.sort(key=lambda one: (WEIGHT[one.moves], order[one.check], one.nodes, one.devices))
    noisy = {one.check for one in findings}
    fine, unread, absent = _quiet(rows, examinations, noisy)
    fine += [check for check in FLEET_CHECKS if fleet is not None and check not in noisy]
    return DoctorReport(
        rows, tuple(findings), tuple(fine), unread, tuple(absent), len(examinations), models, fleet is not None
    )


def _across(fleet: FleetView) -> list[tuple[DoctorFinding, tuple[str, ...]]]:
    """Return what differs between nodes."""
    names, table = fleet.names, doctor_table().checks
    return [
        (
            DoctorFinding(check, case.values, (), table[check].moves == "zero"),
            tuple(names[node] for node in case.nodes),
        )
        for check, compare in FLEET_CHECKS.items()
        for case in compare(fleet)
    ]


def _quiet(
    rows: Mapping[str, DoctorRow], examinations: Mapping[str, Examination], noisy: set[str]
) -> tuple[list[str], dict[str, str], list[str]]:
    """Return the checks that found nothing anywhere: fine, not to be made somewhere (with why), and absent."""
    fine, absent = [], []
    unread: dict[str, str] = {}
    for check in rows:
        if check in noisy:
            continue
        whys = [why for its in examinations.values() if (why := its.unread.get(check)) is not None]
        if whys:
            unread[check] = whys[0] if whys[0] in messages_of("unread") else "not-reported"
        elif any(check in its.fine for its in examinations.values()):
            fine.append(check)
        elif any(check in its.absent for its in examinations.values()):
            absent.append(check)
    return fine, unread, absent
