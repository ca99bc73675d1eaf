"""What a device can expect of a measurement, for people and machines: what bounds it, where it counts, what is missing.

Nothing is computed here; that is `certify.judge.expectation`. What can be done about a code stands in
``configs/doctor.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from bench.record import Device, DeviceModel, Precision, config_names
from bench.record.judged import DeviceOutlook
from certify.judge.ceilings import bound_of
from certify.judge.expectation import Demand, Expectation, Prospect, demands_of, expectations
from certify.judge.plausibility import row_of
from certify.judge.telemetry import exposed_of
from certify.policy.policies import load_policy
from certify.policy.rating import Rating
from certify.policy.ratings import Ratings, installed_ratings, load_ratings
from certify.policy.reasons import mending, reasons
from certify.policy.sources import Quantity
from certify.statement.bounds import bound_text


class Outlook(NamedTuple):
    """What is known of one device's figures before they are measured."""

    model: DeviceModel
    rating: Rating | None  # of the whole unit that it is, or is a part of
    nominal_mflop_s: dict[Precision, int]
    tdp_mw: int | None  # of the device's share of it
    expected: tuple[Expectation, ...]
    exposed: tuple[str, ...]  # what R13 wants of its source's readings, in the order of the table
    is_ours: bool = True  # whether the table is: of another one rates are nominal and bound nothing

    @property
    def against(self) -> tuple[str, ...]:
        """The codes that keep a figure from counting somewhere, each once."""
        codes = (code for one in self.expected for prospect in one.prospects for code in prospect.against)
        return tuple(dict.fromkeys(codes))

    def lines(self) -> list[str]:
        """Return the outlook as printed lines."""
        nominal_only = "" if self.is_ours or self.rating is None else "; nominal alone: the file bounds nothing"
        lines = [f"  rating: {row_text(self.model, self.rating)}{nominal_only}"]
        for one in self.expected:
            lines.append(f"  {one.precision}: {bound_text(one.step, *bound_of(one.limit))}")
            lines += [f"    {text}" for text in prospect_texts(one.prospects)]
        for code in self.against:
            lines.append(f"  missing: {code}: {reasons()[code].en}")
            lines += [f"    {mending()[code].en}"] if code in mending() else []
        if noted := dict.fromkeys(code for one in self.expected for code in one.notes):
            lines.append(f"  noted: {', '.join(noted)}; see petaseal explain CODE")
        return lines

    def as_json(self) -> dict[str, object]:
        """Return the outlook as a JSON value of ``--json`` (docs/devices.md)."""
        return {
            "row": None if self.rating is None else self.rating.accelerator,
            "confidence": None if self.rating is None else self.rating.confidence,
            "nominal_only": not self.is_ours,
            "precisions": [
                {
                    "precision": one.precision,
                    "step": one.step,
                    "limit": None if one.limit is None else one.limit.name,
                    "limit_mflop_s": None if one.limit is None else one.limit.mflop_s,
                    "nominal_mflop_s": one.nominal_mflop_s,
                    "notes": list(one.notes),
                    "counting": [
                        {
                            "policies": list(prospect.demand.policies),
                            "class": prospect.demand.pool_class,
                            "grade": prospect.demand.grade,
                            "can_count": prospect.can_count,
                            "codes": list(prospect.against),
                        }
                        for prospect in one.prospects
                    ],
                }
                for one in self.expected
            ],
            "missing": [missing_json(code) for code in self.against],
        }


def outlook_of(model: DeviceModel, device: Device, ratings: Ratings, demands: Iterable[Demand]) -> Outlook:
    """Return what a device's figures can expect (see `expectations`).

    Only petaseal's own tables bound a figure: a row of another one is shown, and its rates stand there as nominal.
    """
    row = row_of(model, ratings)
    rated: Iterable[Precision] = () if row.rating is None else row.rating.rates
    nominal = {precision: rate for precision in rated if (rate := row.nominal_mflop_s(precision)) is not None}
    expected = expectations(model, device, ratings if ratings.is_ours else installed_ratings(), demands)
    if not ratings.is_ours:
        expected = tuple(one._replace(nominal_mflop_s=nominal.get(one.precision)) for one in expected)
    exposed = exposed_of(device.device, model)[0]
    ordered = tuple(quantity for quantity in get_args(Quantity) if quantity in exposed)
    return Outlook(model, row.rating, nominal, row.tdp_mw, expected, ordered, ratings.is_ours)


def foresee(policies: Sequence[str], ratings_file: Path | None) -> Callable[[DeviceModel, Device], DeviceOutlook]:
    """Return what says what a device's figures can expect under some policies, by default every installed one."""
    table = load_ratings(ratings_file)
    demands = [demand for name in policies or config_names("policies") for demand in demands_of(load_policy(name))]

    def outlook(model: DeviceModel, device: Device) -> DeviceOutlook:
        expected = outlook_of(model, device, table, demands)
        return DeviceOutlook(
            expected.nominal_mflop_s,
            expected.tdp_mw,
            expected.exposed,
            expected.lines(),
            expected.as_json(),
        )

    return outlook


def row_text(model: DeviceModel, rating: Rating | None) -> str:
    """Return what the ratings know of a device, as far as a figure is bounded by it."""
    if model.kind == "cpu":
        return "none is needed: a processor is bounded by its instruction set, cores and clock"
    if rating is None:
        memory = "" if model.memory_bytes is None else f" with {model.memory_bytes / 1e9:.0f} GB"
        seen = f'the name "{model.model}"{memory} of the vendor "{model.vendor}"'
        return f"none: no row is certainly that of {seen}; docs/ratings.md says who adds a row, and with what evidence"
    rated = ", ".join(sorted(rating.rates)) or "nothing"
    facts = [f"confidence {rating.confidence}"]
    facts += [] if rating.units is None else [f"{rating.units} units"]
    facts += [] if rating.memory_bytes is None else [f"{rating.memory_bytes / 1e9:.0f} GB"]
    return f"{rating.accelerator} ({', '.join(facts)}), rates {rated}"


def prospect_texts(prospects: Sequence[Prospect]) -> list[str]:
    """Return where a figure can count and where not; classes and policies of one answer together."""
    classes: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for one in prospects:
        classes.setdefault((one.demand.grade, one.against, one.demand.policies), []).append(one.demand.pool_class)
    policies: dict[tuple[str, tuple[str, ...], str], list[str]] = {}
    for (grade, against, names), kinds in classes.items():
        policies.setdefault((grade, against, ", ".join(kinds)), []).extend(names)
    texts = []
    for (grade, against, all_classes), under in policies.items():
        what = f"counts 0 ({', '.join(against)})" if against else f"can count at {grade}"
        texts.append(f"{what} as {all_classes} under {', '.join(under)}")
    return texts


def missing_json(code: str) -> dict[str, object]:
    """Return what a code means, and who can do what about it, in both languages."""
    entry, mended = reasons()[code], mending().get(code)
    mend = None if mended is None else {"en": mended.en, "zh": mended.zh}
    return {"code": code, "effect": entry.effect, "en": entry.en, "zh": entry.zh, "mend": mend}
