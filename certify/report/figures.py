"""The figures of one record as a report shows them: judged, with their ceilings and where the rest went.

The judgement is that of ``certify`` where a centre is known, else that of the run rules (as after ``petaseal run``).
Pure functions of values.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import msgspec

from bench.errors import RefusedError
from bench.record import Campaign, DeviceModel, Figure, Grade, NodeRecord, Profile, Workload, digest
from bench.record.node import ReferenceFigure, ReferenceMeasurement
from bench.record.plan import ITEM_BYTES, operand_bytes
from bench.units import efficiency, launch_sixths
from certify.documents.statement import NotCounted
from certify.fleet.findings import FleetReading
from certify.fleet.readings import model_name, reading_of
from certify.judge.case import MeasurementPlan, Setting
from certify.judge.ceilings import LimitName, Step, bound_of
from certify.judge.identities import identity_codes, record_codes
from certify.judge.record import JudgedFigure, add_record, partition_codes
from certify.judge.rules import figures_of
from certify.judge.scope import Scope, check_belongs
from certify.judge.tally import Tally
from certify.policy.ratings import installed_ratings
from certify.report.losses import Ceiling, ClockUse, Lack, ceiling_of, clock_use, waves_ppm


class DrawnFigure(msgspec.Struct, frozen=True):
    """One device's figure in one workload, with everything that a report says of it."""

    reading: FleetReading  # node, device, model, workload, rates and the record's telemetry
    figure: Figure
    kernel: str
    shape: tuple[int, int, int]
    work_mflop: int  # of one launch times the launches
    intensity: float  # FLOP for each byte of operands and product, each moved once
    exposes: tuple[str, ...]  # what the source of telemetry can report
    source: str | None
    power_limit_mw: int | None
    nominal_mflop_s: int | None
    step: Step
    limit: tuple[LimitName | None, int | None]  # that binds, and its MFLOP/s
    codes: tuple[str, ...]
    blocking: tuple[str, ...]  # of the codes: those by which it counts 0
    grade: Grade | None
    ceiling: Ceiling | None
    lack: Lack | None  # what of its ceiling is not known
    use: ClockUse
    waves: tuple[int, int] | None
    length_ns: int  # of the core window

    @property
    def per_watt(self) -> int | None:
        """Sustained MFLOP/s for each watt of mean power in the window; None where the power is not known."""
        return efficiency(self.reading.sustained_mflop_s, self.figure.power_mean_mw)

    @property
    def kind(self) -> tuple[str, str]:
        """The model and the workload, within which figures are compared."""
        return self.reading.model, self.reading.workload


class DrawnReference(msgspec.Struct, frozen=True):
    """A reference measurement on one device: the rate of issue, the memory's bandwidth or a second path."""

    device: str
    model: str
    kernel: str
    role: str
    precision: str
    rate_mflop_s: int | None
    rate_mb_s: int | None
    trouble: str | None


class DrawnRecord(msgspec.Struct, frozen=True):
    """One record as a report shows it."""

    file: str
    node_id: str
    payload_sha256: str
    samples_sha256: str  # that the record binds
    tool_version: str
    started_at: str
    ended_at: str
    simulated: bool
    figures: tuple[DrawnFigure, ...]
    absent: tuple[NotCounted, ...]  # what was not measured, and why
    references: tuple[DrawnReference, ...]


class Judge(msgspec.Struct, frozen=True):
    """What records are judged against: a centre's scope, else a campaign and its profile alone."""

    campaign: Campaign
    campaign_sha256: str
    profile: Profile
    scope: Scope | None

    def drawn(self, record: NodeRecord, file: str, payload_sha256: str, samples_sha256: str) -> DrawnRecord:
        """Return a record as a report shows it.

        Raises:
            RefusedError: it belongs to another campaign, centre or profile.
        """
        self._check(record)
        judged = list(self._judged(record))
        failures = tuple(
            NotCounted(
                node_id=record.node_id,
                device=one.device,
                workload=str(Workload(one.precision, one.choice)),
                codes=(one.code,),
            )
            for one in record.failures
        )
        models = {device.device: record.models[device.model] for device in record.devices}
        return DrawnRecord(
            file=file,
            node_id=record.node_id,
            payload_sha256=payload_sha256,
            samples_sha256=samples_sha256,
            tool_version=record.tool.version,
            started_at=record.started_at,
            ended_at=record.ended_at,
            simulated=any(model.simulated for model in record.models),
            figures=tuple(self._figure(one) for one in judged),
            absent=failures,
            references=tuple(
                _reference(one, result, models[result.device]) for one in record.companions for result in one.figures()
            ),
        )

    def _check(self, record: NodeRecord) -> None:
        if self.scope is not None:
            check_belongs(record, self.scope)
            return
        # Without a centre only what binds the record to the campaign can be compared.
        for code, differs in (
            ("campaign-differs", record.campaign_sha256 != self.campaign_sha256),
            ("profile-differs", record.profile_sha256 != digest(self.profile)),
            ("node-not-expected", record.node_id not in {node.node_id for node in self.campaign.nodes}),
        ):
            if differs:
                what = f"the record is of another {code.partition('-')[0]}"
                raise RefusedError(code, what, where=record.node_id)

    def _judged(self, record: NodeRecord) -> Iterator[JudgedFigure]:
        if self.scope is not None:
            judged: list[JudgedFigure] = []
            add_record(record, self.scope, Tally(), judged.append)
            yield from judged
            return
        figures = figures_of(record, installed_ratings(), MeasurementPlan(self.campaign, self.profile))
        of_node = record_codes(record)
        for device in record.devices:
            crowded = ("too-many-parts",) if device.device in figures.crowded else ()
            codes = (*of_node, *identity_codes(device, record.models[device.model]), *crowded)
            for one in figures.judged[device.device].values():
                made = one.judgement
                every = (*made.codes, *codes)
                yield JudgedFigure(
                    *(record.node_id, record.pool or "", one.setting, one.figure, False, every),
                    *(made.grade, False, made.step, made.limit),
                )

    def _figure(self, judged: JudgedFigure) -> DrawnFigure:
        setting, figure = judged.setting, judged.figure
        m, model = setting.measurement, setting.model
        accept = self.scope.accept if self.scope else frozenset()
        # A solve reads its matrix and writes the factors, as a product of square matrices has an output.
        bytes_moved = operand_bytes(m.workload, m.m, m.n, m.k) + m.m * m.n * ITEM_BYTES[m.precision]
        work = Fraction(launch_sixths(m.choice, m.m, m.n, m.k), 6)
        codes = tuple(dict.fromkeys(judged.codes))
        ceiling = ceiling_of(setting, figure)
        return DrawnFigure(
            reading=reading_of(judged.node_id, model, m.workload, figure),
            figure=figure,
            kernel=m.kernel,
            shape=(m.m, m.n, m.k),
            work_mflop=int(work * figure.launches / 10**6),
            intensity=float(work / bytes_moved),
            exposes=model.exposes,
            source=model.source,
            power_limit_mw=model.power_limit_mw,
            nominal_mflop_s=setting.row.nominal_mflop_s(m.computed),
            step=judged.step,
            limit=bound_of(judged.limit),
            codes=codes,
            blocking=partition_codes(codes, accept)[1],
            grade=judged.grade,
            ceiling=ceiling if isinstance(ceiling, Ceiling) else None,
            lack=None if isinstance(ceiling, Ceiling) else ceiling,
            use=clock_use(setting, figure),
            waves=waves_ppm(m.m, m.n, model.units) if model.kind != "cpu" and model.units else None,
            length_ns=self.length_ns(setting),
        )

    def length_ns(self, setting: Setting) -> int:
        """Return the length of the core window that a measurement ran in, by the campaign, else by its profile."""
        workload = setting.measurement.workload
        window = next((one for one in self.campaign.windows if one.workload == workload), None)
        return window.closes_ns - window.opens_ns if window else self.profile.window_ns


def _reference(one: ReferenceMeasurement, result: ReferenceFigure, model: DeviceModel) -> DrawnReference:
    good = result.trouble is None and result.exact is not False
    return DrawnReference(
        device=result.device,
        model=model_name(model),
        kernel=one.kernel,
        role=one.role,
        precision=one.precision,
        rate_mflop_s=result.rate_mflop_s if good else None,
        rate_mb_s=result.rate_mb_s if good else None,
        trouble=result.trouble,
    )
