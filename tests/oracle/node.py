"""One record before the oracle: figures as the samples have them, the rules anew, and whether each device counts."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import InputError, RefusedError
from bench.record import RULES_VERSION, Device, Figure, Measurement, NodeRecord, Workload, identifier
from certify.documents.kinds import OpenedDocument
from certify.policy.centre import Pool
from certify.policy.reasons import effect_of
from certify.samples.table import SAMPLES_SUFFIX, bound_samples
from tests.oracle.bounds import Interval, N, interval
from tests.oracle.ceilings import Facts, Piece, rows_of
from tests.oracle.ground import GROUND_CODES, Added, Bounds, Ground, Group, Part
from tests.oracle.judging import CODES, SOLVES, Case, judge
from tests.oracle.observed import Observed, Watched, figures, observe, watched

# Columns of a figure that its samples give whole. The others of its telemetry also rest on a reading before the load.
COLUMNS = (
    "samples",
    "clock_samples",
    "clock_gap_ns",
    "power_samples",
    "power_gap_ns",
    "power_mean_mw",
    "power_counter_mw",
    "temperature_max_c",
    "clock_mean_mhz",
    "clock_max_mhz",
    "throttled_ppm",
)

Key = tuple[str, str]  # device, workload


class Row(NamedTuple):
    """A figure, what it is of, and what its samples say."""

    measurement: Measurement
    figure: Figure
    seen: Observed | None = None
    watched: Watched | None = None


def audit_record(opened: OpenedDocument[NodeRecord], folders: tuple[Path, ...], ground: Ground, part: Part) -> None:
    """Judge one record, and add it to `part`. What contradicts its samples is the product's to find.

    Args:
        opened: the record.
        folders: where its samples may lie.
        ground: what it is audited against.
        part: takes what is found.
    """
    record = opened.predicate
    node = record.node_id
    part.records += 1
    part.digests.append(opened.payload_sha256)
    part.nodes.append(node)
    for code, what in _foreign(record, ground):
        part.tell(code, node, what)
    rows = {
        (figure.device, str(measurement.workload)): Row(measurement, figure)
        for measurement in record.measurements
        for figure in measurement.figures()
    }
    part.figures += len(rows)
    path = next((found for folder in folders if (found := folder / f"{node}{SAMPLES_SUFFIX}").exists()), None)
    try:
        if path is None:
            raise RefusedError("samples-missing", "there are no samples of this record")
        rows |= _observed(rows, bound_samples(opened, path), path, ground)
    except (RefusedError, InputError) as error:  # one node's files: the others are audited all the same
        rows = {key: Row(row.measurement, row.figure) for key, row in rows.items()}
        part.tell(error.code, node, error.what)
    _Node(opened, rows, ground, part).audit()


def _foreign(record: NodeRecord, ground: Ground) -> Iterator[tuple[str, str]]:
    """Yield what shows that a record is of another campaign."""
    s = ground.statement
    for code, mine, wanted in (
        ("rules-differ", record.rules, RULES_VERSION),
        ("campaign-differs", (record.campaign_id, record.campaign_sha256), (s.campaign.campaign_id, s.campaign_sha256)),
        ("start-differs", record.starts_at, s.starts_at),
        ("challenge-differs", record.challenge, s.campaign.challenge),
        ("profile-differs", record.profile_sha256, s.profile_sha256),
        ("centre-differs", record.centre_id, s.campaign.centre_id),
    ):
        if mine != wanted:
            yield code, f"holds {mine}, and the statement {wanted}"
    if record.node_id not in ground.places:
        yield "node-not-expected", "is of a node that the campaign does not name"
    elif moved := [device.device for device in record.devices if ground.misplaced(record.node_id, device.device)]:
        code = "node-in-two-pools" if s.campaign.self_issued else "pool-differs"
        yield code, f"holds {moved[0]}, which campaign and centre file have in different pools"


def _observed(rows: dict[Key, Row], content: bytes, path: Path, ground: Ground) -> dict[Key, Row]:
    """Return the figures with what their samples say; one device's rows are held at a time."""
    found = {}
    for key, lines in figures(content):
        seen = observe(lines)
        if (row := rows.get(key)) is None:
            if seen.marks:
                raise RefusedError("samples-differ", f"hold a window of {' in '.join(key)} that the record has not")
            continue
        length = ground.length_ns(row.measurement.workload)
        found[key] = Row(row.measurement, row.figure, seen, watched(seen, length or 0))
    return found


def _watched(row: Row) -> dict[str, Any]:
    """Return the columns of a figure's telemetry that its samples give."""
    watch = row.watched
    return {column: getattr(watch, column) for column in COLUMNS} if watch is not None and watch.samples else {}


def row_model(record: NodeRecord, name: str) -> int:
    """Return the number of a device's model."""
    return next(device.model for device in record.devices if device.device == name)


class _Node:
    """One record's devices: judged, counted, added up."""

    def __init__(self, opened: OpenedDocument[NodeRecord], rows: dict[Key, Row], ground: Ground, part: Part) -> None:
        self.record = opened.predicate
        self.rows, self.ground, self.part = rows, ground, part
        self.key_codes = ground.key_codes(self.record.node_id, sha256(b64decode(self.record.signer_spki)).hexdigest())
        if self.record.identities_replaced:
            self.key_codes += ("identities-replaced",)
        self.key_codes += ground.clock_codes(self.record)
        campaign = ground.statement.campaign
        place = ground.places.get(self.record.node_id, 0)
        self.slot_ns = campaign.ramp_ns * place // len(campaign.nodes) if campaign.nodes else 0
        self.rates = {key: self._rates(row) for key, row in rows.items()}
        self.models = rows_of(self.record, ground.ratings)
        self.figures = {
            (name, row.measurement.workload): row.figure._replace(**_watched(row)) for (name, _), row in rows.items()
        }
        self.bounds: dict[str, list[Bounds]] = {}
        self.failed = {(f.device, str(Workload(f.precision, f.choice))): f.code for f in self.record.failures}

    def audit(self) -> None:
        """Audit every device."""
        pools = set()
        for place, device in enumerate(self.record.devices):
            where = f"{self.record.node_id}/{device.device}"
            self.part.simulated |= self.record.models[device.model].simulated
            pool = self.ground.pool_of(self.record.node_id, device.device)
            if pool is None:
                self.part.findings["no-pool", "-"] += 1
                self._compare(where, ["no-pool"], frozenset({"no-pool"}))
                continue
            pools.add(pool.pool)
            self.bounds.setdefault(pool.pool, []).append(self._device(device, place, pool, where))
        for name in set(self.ground.expected_in(self.record.node_id)) - pools:
            self.part.bare.setdefault(name, set()).add(self.record.node_id)
        for name in pools:
            self.part.nodes_in[name] += 1
            self.part.machines.setdefault(name, []).append(self.bounds[name])

    def _rates(self, row: Row) -> Interval | None:
        m, f = row.measurement, row.figure
        times = f.subwindow_ns if row.seen is None else row.seen.times_ns
        if len(times) != N or min(times) <= 0:
            return None
        each = (
            Fraction(2, 3) * m.n**3 + Fraction(3, 2) * m.n**2 if m.choice in SOLVES else Fraction(2 * m.m * m.n * m.k)
        )
        return interval(int(each * f.launches / 10**6), times)

    def _device(self, device: Device, place: int, pool: Pool, where: str) -> Bounds:
        part, ground = self.part, self.ground
        model = self.record.models[device.model]
        piece = Piece(device, model, self.models[device.model], None)
        part.found[pool.pool] += 1
        existing = self._existing(device)
        part.existing += existing
        counted = ground.counting[pool.pool_class].workload
        counts, upper = False, None
        for row in (row for (name, _), row in self.rows.items() if name == device.device):
            case = self._case(row, device, place)
            codes, grade = judge(case)
            codes = [*self.key_codes, *ground.shape_codes(row.measurement, model), *codes]
            workload = row.measurement.workload
            part.findings.update((code, str(workload)) for code in codes)
            said: tuple[str, ...] = ()
            if workload == counted:
                holds = [code for code in codes if effect_of(code) == "hold"]
                blocking = [code for code in codes if effect_of(code) == "void"]
                blocking += [code for code in holds if code not in ground.accept]
                rates = self.rates[device.device, str(workload)]
                if rates is not None and not any(effect_of(code) == "void" for code in codes):
                    upper = rates.upper_mflop_s
                said = self._compare(where, blocking, CODES | GROUND_CODES)
                counts = not blocking and not said
                if counts:
                    self._count(pool, where, row, bool(holds), existing, piece)
                    fallback = model.kind == "cpu" and pool.pool_class == "intelligent"
                    part.grades.add("smoke" if grade is None or fallback else grade)
        failed = {workload: code for (name, workload), code in self.failed.items() if name == device.device}
        part.findings.update((code, workload) for workload, code in failed.items())
        if (device.device, str(counted)) not in self.rows:
            code = failed.get(str(counted), "untested")
            part.findings["untested", str(counted)] += code == "untested"
            self._compare(where, [code], frozenset({code}))
        nominal = piece.nominal_mflop_s(counted.precision)
        if not counts:
            untested = Added(devices=1, nominal_mflop_s=nominal or 0, without_rating=nominal is None)
            part.sums.setdefault(Group(pool.pool, False, False, existing), Added()).add(untested)
        return upper, nominal

    def _case(self, row: Row, device: Device, place: int) -> Case:
        ground, workload = self.ground, row.measurement.workload
        return Case(
            record=self.record,
            measurement=row.measurement,
            figure=self.figures[device.device, workload],
            rates=self.rates[device.device, str(workload)],
            device=device,
            model=self.record.models[device.model],
            facts=Facts(self.record, self.models, row.measurement, device, self.figures, ground.profile),
            campaign=ground.statement.campaign,
            profile=ground.profile,
            slot_ns=self.slot_ns,
            place=place,
        )

    def _compare(self, where: str, mine: list[str], judged: frozenset[str]) -> tuple[str, ...]:
        """Compare why a device counts 0 with the statement's reasons; return those that are not recomputed."""
        node, _, device = where.partition("/")
        entry = self.ground.excluded.get((node, device))
        told = entry.codes if entry else ()
        if set(mine) != {code for code in told if code in judged}:
            what = f"counts 0 for {', '.join(mine)}" if mine else "nothing speaks against it"
            says = f"for {', '.join(told)}" if told else "that it counts"
            self.part.tell("codes-differ", where, f"{what} by the samples, and the statement says {says}")
        return tuple(code for code in told if code not in judged)

    def _count(self, pool: Pool, where: str, row: Row, on_hold: bool, existing: bool, piece: Piece) -> None:
        rates = self.rates[row.figure.device, str(row.measurement.workload)]
        assert rates is not None  # else it would be void
        nominal = piece.nominal_mflop_s(row.measurement.precision)
        mine = Added(
            devices=1,
            certified_mflop_s=rates.certified_mflop_s,
            sustained_mflop_s=rates.sustained_mflop_s,
            upper_mflop_s=rates.upper_mflop_s or 0,
            unbounded=rates.upper_mflop_s is None,
            nominal_mflop_s=nominal or 0,
            without_rating=nominal is None,
        )
        self.part.sums.setdefault(Group(pool.pool, True, on_hold, existing), Added()).add(mine)
        vendor = self.record.models[row_model(self.record, row.figure.device)].vendor
        self.part.vendors.setdefault((pool.pool, vendor), Added()).add(mine)

    def _existing(self, device: Device) -> bool:
        known = self.ground.existing
        if not known:
            return False
        told = (device.uuid, device.serial, device.die_id, device.parent)
        return any(identifier(text) in known for text in told)
