"""One record compared with its samples: its times and telemetry computed anew, and every contradiction reported.

`verify` and `audit` both read samples here and nowhere else. What a figure is worth is judged in `certify.judge`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from bench.errors import InputError, RefusedError
from bench.record import Campaign, Figure, Measurement, NodeRecord, Profile, Workload, columns
from bench.units import work_mflop
from certify.documents.kinds import OpenedDocument
from certify.judge.ceilings import WHOLE, most_flop_per_clock
from certify.judge.plausibility import row_of
from certify.policy.rating import plain
from certify.policy.ratings import Ratings
from certify.samples.copies import fingerprint_of
from certify.samples.observed import Observed, observe, series, watched
from certify.samples.summary import FigureFingerprint, Samples, TelemetrySummary
from certify.samples.table import SAMPLES_SUFFIX, bound_samples, figures
from certify.samples.telemetry import About, implausible

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
UTC_READING_NS = 50_000_000  # as R11; and 1 in 1,000 of the warm-up, before which the clocks were tied together
LOAD_SLACK_NS = 2 * 10**9  # between the start of a load and the first reading or rate of it
WITHOUT_SAMPLES = "records without samples of theirs: judged by their own numbers"
SIMULATED = "plausibility of telemetry: the device is simulated"
NO_SILICON = "each sub-window against its clock: FLOP per clock of the device is not known"
NO_POWER = "power against energy, smoothness, copies: the device exposes no power"

Key = tuple[str, Workload]  # device, workload


class FigureSamples(NamedTuple):
    """The rows of one figure, and the telemetry that they give."""

    rows: Observed
    watched: TelemetrySummary


@dataclass(frozen=True)
class Inspector:
    """Compares records with their samples; is pickled to worker processes."""

    folders: tuple[Path, ...]  # where samples may lie, in the order in which they are looked for
    campaign: Campaign
    profile: Profile
    ratings: Ratings
    audit: bool = False  # what cannot be read is an issue too

    def inspect(self, opened: OpenedDocument[NodeRecord], result: Samples) -> dict[Key, FigureSamples]:
        """Compare a record with its samples, and return what they hold of each figure; nothing where they are unusable.

        Args:
            opened: the record, whose seal was verified.
            result: takes everything in which it differs from its samples, and what no device gives.

        Raises:
            InputError: the samples cannot be read, and this is no audit. (What refuses them is an issue in any case.)
        """
        record = opened.predicate
        node, of_record = record.node_id, Samples()
        paths = (folder / f"{node}{SAMPLES_SUFFIX}" for folder in self.folders)
        path = next((path for path in paths if path.exists()), self.folders[0] / f"{node}{SAMPLES_SUFFIX}")
        result.figures += sum(len(m.device) for m in record.measurements)
        try:
            content = bound_samples(opened, path)
            seen = self._read(record, content, path)
        except (RefusedError, InputError) as error:  # one node's files: those of the other nodes are read all the same
            if isinstance(error, InputError) and not self.audit:
                raise
            result.issues.report(error.code, node, error.what)
            result.not_checked[WITHOUT_SAMPLES] += 1
            return {}
        of_record.records = 1
        for code, what in self._contradictions(record, seen):
            of_record.issues.report(code, node, what)
        for measurement in record.measurements:
            for figure in measurement.figures():
                self._plausible(record, measurement, figure, seen.get((figure.device, measurement.workload)), of_record)
        result.add(of_record)
        return seen

    def _read(self, record: NodeRecord, content: bytes, path: Path) -> dict[Key, FigureSamples]:
        """Return what the samples hold of each figure; the rows of one figure are in memory at a time."""
        known = {(name, str(m.workload)): m.workload for m in record.measurements for name in m.device}
        figures_read = {}
        for rows in figures(content, path):
            seen = observe(rows)
            if (workload := known.get((rows.device, rows.workload))) is None:
                if seen.marks:  # without a window they are of a trial or a failed figure, which has no times to compare
                    what = f"hold a window of {rows.device} in {rows.workload} that the record has not"
                    raise RefusedError("samples-differ", what, where=path)
                continue
            length = self.length_ns(workload) or 0
            if (name := rows.misplaced(length)) is not None:
                what = f"hold {name} of {rows.device} in {rows.workload} in another phase than its time says"
                raise RefusedError("samples-invalid", what, where=path)
            figures_read[rows.device, workload] = FigureSamples(seen, watched(seen, length))
        return figures_read

    def length_ns(self, workload: Workload) -> int | None:
        """Return how long the core window of a workload is."""
        lengths = (w.closes_ns - w.opens_ns for w in self.campaign.windows if w.workload == workload)
        return next(lengths, None)

    def _contradictions(self, record: NodeRecord, seen: dict[Key, FigureSamples]) -> Iterator[tuple[str, str]]:
        """Yield a code and a sentence for each fact in which a record differs from its samples."""
        for measurement in record.measurements:
            reasons: set[str] = set()
            for figure in measurement.figures():
                where = f"{figure.device} in {measurement.workload}"
                if (one := seen.get((figure.device, measurement.workload))) is None:
                    yield "samples-differ", f"the samples hold nothing of {where}"
                    continue
                reasons |= one.watched.reasons
                yield from ((code, f"{where}: {what}") for code, what in _times(figure, one.rows))
                yield from (("telemetry-differs", f"{where}: {what}") for what in _telemetry(figure, one.watched))
                if (late := self._late_load(figure, one.rows)) is not None:
                    yield "telemetry-differs", f"{where}: {late}"
            if reasons != set(measurement.throttle_reasons):
                stated = "+".join(measurement.throttle_reasons) or "none"
                what = f"{measurement.workload}: throttle reasons {stated}, and the samples have others"
                yield "telemetry-differs", what

    def _late_load(self, f: Figure, seen: Observed) -> str | None:
        """Return a sentence on a warm-up whose first rates come too late for its stated begin; None where they do not.

        A longer warm-up than was run would hide that the chip had not warmed up (R6).
        """
        first = int(series(seen.warmup_rates)[:, 0].min(initial=0))
        loaded = f.opened_ns - f.warmup_ns
        if first <= loaded + f.warmup_ns // 4 + LOAD_SLACK_NS + 2 * self.profile.telemetry_interval_ns:
            return None
        return f"the load began {-loaded} ns before the window by the record, and its rates {-first} ns before it"

    def _plausible(
        self, record: NodeRecord, m: Measurement, figure: Figure, seen: FigureSamples | None, result: Samples
    ) -> None:
        """Report telemetry that no honest device gives, and add the figure's fingerprint, by which copies are seen."""
        device = next(device for device in record.devices if device.device == figure.device)
        model, length = record.models[device.model], self.length_ns(m.workload)
        if model.simulated:
            result.not_checked[SIMULATED] += 1
            return
        if seen is None or length is None or seen.rows.gap() is not None or min(seen.rows.times_ns) <= 0:
            return
        row = row_of(model, self.ratings)
        work = work_mflop(m.choice, m.m, m.n, m.k, figure.launches)
        about = About(
            accelerator=model.kind != "cpu",
            length_ns=length,
            first=[w.workload for w in self.campaign.windows_of(record.node_id)[:1]] == [m.workload],
            work_mflop=work,
            sustained_mflop_s=work * 10**9 // sum(seen.rows.times_ns),
            flop_per_clock=most_flop_per_clock(m.computed, model.units, row.rating, row.share or WHOLE)
            if row.rating and row.rating.silicon_is_certain(m.computed)
            else None,
            counter_is_trusted=plain(model.vendor) != "amd",
        )
        if about.flop_per_clock is None:
            result.not_checked[NO_SILICON] += 1
        if not len(seen.rows.inside("power_mw", length)):
            result.not_checked[NO_POWER] += 1
        where = f"{record.node_id}/{figure.device} {m.workload}"
        for finding in implausible(seen.rows, about):
            result.issues.report(finding.code, where, finding.detail)
        parts = model.count_unit in ("die", "slice") and device.parent is not None
        board = f"{record.node_id}/{device.parent}/{m.workload}" if parts else None
        result.fingerprints.append(FigureFingerprint(where, fingerprint_of(seen.rows, length), board))


def rebuilt(record: NodeRecord, seen: dict[Key, FigureSamples]) -> NodeRecord:
    """Return a record with the times and telemetry of its samples; its stated rates stay, for R9 to compare."""

    def figure_of(m: Measurement, f: Figure) -> Figure:
        one = seen.get((f.device, m.workload))
        if one is None:
            return f
        if one.watched.samples:
            f = f._replace(**{column: getattr(one.watched, column) for column in COLUMNS})
        f = f._replace(
            ecc_uncorrected=_at_least(f.ecc_uncorrected, one.watched.ecc_seen),
            foreign_processes=_at_least(f.foreign_processes, one.watched.others_seen),
        )
        times = one.rows.times_ns
        if len(times) != len(f.subwindow_over_ns) or min(times) <= 0:
            return f
        return f._replace(subwindow_min_ns=min(times), subwindow_over_ns=tuple(x - min(times) for x in times))

    return replace(
        record,
        measurements=tuple(replace(m, **columns(figure_of(m, f) for f in m.figures())) for m in record.measurements),
    )


def _at_least(stated: int | None, seen: int | None) -> int | None:
    """Return a count that also rests on a reading before the load: what the samples hold nothing of is unknown."""
    if stated is None or seen is None:
        return (stated or seen) or None  # a stated 0 without a reading in the samples shows nothing
    return max(stated, seen)


def _times(f: Figure, seen: Observed) -> Iterator[tuple[str, str]]:
    if (gap := seen.gap()) is not None:
        yield "samples-differ", gap
    elif list(seen.times_ns) != f.subwindow_ns:
        i = next(i for i, (a, b) in enumerate(zip(seen.times_ns, f.subwindow_ns, strict=True)) if a != b)
        yield (
            "samples-differ",
            f"sub-window {i + 1} took {seen.times_ns[i]} ns, and the record says {f.subwindow_ns[i]}",
        )
    elif abs(f.opened_ns - seen.opened_ns) > UTC_READING_NS + f.warmup_ns // 1000:  # R11 looks at what comes after
        yield "samples-differ", f"opened at {f.opened_ns} ns by the record, at {seen.opened_ns} ns by the samples"


def _telemetry(f: Figure, w: TelemetrySummary) -> Iterator[str]:
    differing = [column for column in COLUMNS if getattr(f, column) != getattr(w, column)]
    if not w.samples and differing in ([], ["samples"]):
        return  # a device that exposes nothing leaves readings without a row
    for column in differing:
        yield f"{column} is {getattr(f, column)}, and the samples give {getattr(w, column)}"
    # These also rest on a reading from before the load, which the samples do not hold: they may say more, never less.
    for column, least in (("ecc_uncorrected", w.ecc_seen), ("foreign_processes", w.others_seen)):
        stated = getattr(f, column)
        if least and least > 0 and (stated is None or stated < least):
            yield f"{column} is {stated}, and the samples show at least {least}"
        elif stated == 0 and least is None:
            yield f"{column} is 0, and the samples hold no reading of it"
