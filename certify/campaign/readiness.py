"""What a centre file still lacks before it is measured: for the operator who fills it in.

Refused is what can only be a mistake (a template that nobody filled in, a digest of nothing, a baseline that is not
there); what is merely not declared leaves conditions of a policy open, and is said condition by condition.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from bench.errors import InputError
from bench.record import config_path, read_yaml
from certify.documents.kinds import Baseline
from certify.policy.centre import Centre, load_centre
from certify.policy.missing import Lack, Reach, missing, reach_of
from certify.policy.policies import Policy, load_policy
from certify.statement.baseline import baseline_path, read_baseline

TEMPLATE_FIELDS = ("centre_id", "name", "operator")  # what no centre shares with the template
OF_NOTHING = hashlib.sha256(b"").hexdigest()


class ConditionReach(NamedTuple):
    """A condition with the best verdict that it can get, and the fields of the centre file that it lacks."""

    policy: str
    condition: str
    title_zh: str
    title_en: str
    reach: Reach
    gaps: tuple[Lack, ...]

    @property
    def text(self) -> str:
        """The condition as a printed line."""
        best = f"{self.reach.verdict}{f': {self.reach.reason}' if self.reach.reason else ''} at best"
        remark = f" ({self.reach.remark})" if self.reach.remark else ""
        first = f"  {self.condition} {self.title_zh} {self.title_en}: "
        if not self.gaps:
            return f"{first}{best}{remark}"
        return f"{first}OPEN, lacks {', '.join(dict.fromkeys(gap.field or '' for gap in self.gaps))}"


class Readiness(NamedTuple):
    """A centre file with its baseline, and the best verdict of each condition of some policies."""

    file: str
    centre: Centre
    policies: tuple[Policy, ...]
    baseline: Baseline | None
    conditions: tuple[ConditionReach, ...]

    @property
    def gaps(self) -> tuple[Lack, ...]:
        """Every field that a condition lacks in the centre file."""
        return tuple(gap for one in self.conditions for gap in one.gaps)

    def lines(self) -> list[str]:
        """Return the centre file and its conditions as printed lines."""
        centre = self.centre
        lines = [f"{centre.centre_id}: {centre.name.zh} {centre.name.en}"]
        for pool in centre.pools:
            nodes = "all nodes" if pool.nodes == "all" else f"{len(pool.nodes)} node(s)"
            devices = "all devices" if pool.devices == "all" else ", ".join(pool.devices)
            lines.append(f"  pool {pool.pool}: {pool.pool_class}, {nodes}, {devices}")
        lines += _baseline_lines(self.baseline)
        for policy in self.policies:
            draft = ', read "if issued as drafted"' if policy.document.status == "draft" else ""
            lines.append(f"{policy.policy}{draft}:")
            lines += [one.text for one in self.conditions if one.policy == policy.policy]
        return [*lines, *self._last_lines()]

    def _last_lines(self) -> list[str]:
        names = " ".join(f"--policy {shlex.quote(policy.policy)}" for policy in self.policies)
        if gaps := {gap.field: gap for gap in self.gaps}:
            lines = [
                text
                for gap in gaps.values()
                for text in (f"  {gap.field}: lacks {gap.what} [{gap.code}]", f"    {gap.how}")
            ]
            again = f"petaseal centre check {shlex.quote(self.file)}{f' {names}' if self.policies else ''}"
            return ["what the centre file lacks:", *lines, f"next       fill it in, then: {again}"]
        nodes = "--nodes slurm " if any(pool.nodes == "all" for pool in self.centre.pools) else ""
        words = f"{names} {nodes}--key operator.pem --out campaign"
        create = f"petaseal campaign create --centre {shlex.quote(self.file)} {words}"
        return ["complete   no condition lacks anything that the centre file can give", f"next       {create}"]

    def as_json(self) -> dict[str, Any]:
        """Return the centre file and its conditions as the JSON value of ``--json``."""
        conditions = [
            {
                "policy": one.policy,
                "condition": one.condition,
                "at_best": one.reach.verdict,
                "reason": one.reach.reason,
                "missing": [{**gap._asdict(), "how": gap.how} for gap in one.gaps],
            }
            for one in self.conditions
        ]
        return {**msgspec.to_builtins(self.centre), "conditions": conditions}


def readiness_of(file: str, policies: Sequence[str]) -> Readiness:
    """Return how a centre file stands to policies, before anything is measured.

    Args:
        file: centre file, or the name of an installed one.
        policies: names or files.

    Raises:
        InputError: the file is not acceptable, is the template in places, or its baseline is not there.
        RefusedError: its baseline is damaged, or of another centre or day.
    """
    centre = load_centre(file)
    check_filled_in(centre, file)
    baseline = _read_baseline(file, centre)
    judged = tuple(load_policy(name) for name in policies)
    conditions = tuple(one for policy in judged for one in conditions_of(centre, policy))
    return Readiness(file, centre, judged, baseline, conditions)


def conditions_of(centre: Centre, policy: Policy) -> Iterator[ConditionReach]:
    """Yield how a centre file stands to each condition of a policy. Pure."""
    lacks = [lack for lack in missing(centre, (policy,), ()) if lack.field is not None]
    for condition in policy.judged:
        gaps = tuple(lack for lack in lacks if lack.condition == condition.condition)
        title = condition.title
        yield ConditionReach(policy.policy, condition.condition, title.zh, title.en, reach_of(policy, condition), gaps)


def check_filled_in(centre: Centre, where: str) -> None:
    """Refuse a centre file with fields of the template that were not filled in.

    Raises:
        InputError: `centre-template`, `digest-of-nothing`.
    """
    # Compared with the template as it is installed: what it says in a field may change from release to release.
    template = read_yaml(config_path("centres", "template.yaml"), Centre)
    if left := [name for name in TEMPLATE_FIELDS if getattr(centre, name) == getattr(template, name)]:
        shown = ", ".join(f"{name} ({_text(getattr(centre, name))})" for name in left)
        what = f"still has the template's {shown}"
        raise InputError("centre-template", what, where=where, fix="write the centre's own")
    for name, sha256 in _digests(centre):
        # Sixty-four equal digits are what people type to get past a required field.
        if len(set(sha256)) == 1 or sha256 == OF_NOTHING:
            what = f"{name} is the digest of {'an empty file' if sha256 == OF_NOTHING else 'no paper'}"
            raise InputError("digest-of-nothing", what, where=where, fix="write what sha256sum PAPER prints")


def _digests(centre: Centre) -> Iterator[tuple[str, str]]:
    if centre.park is not None:
        yield "park.evidence_sha256", centre.park.evidence_sha256
    if centre.facility is not None:
        yield "facility.evidence_sha256", centre.facility.evidence_sha256
    for one in centre.other_subsidies:
        yield f"other_subsidies, {one.name}", one.evidence_sha256
    for name, sha256 in centre.evidence.items():
        yield f"evidence.{name}", sha256


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{value.zh} {value.en}"


def _read_baseline(file: str, centre: Centre) -> Baseline | None:
    """Return the baseline beside a centre file; by whose key it is signed is looked at when a statement is made."""
    path = baseline_path(file, centre)
    if path is None:
        return None
    if not os.path.lexists(path):
        what = f"the baseline of {centre.baseline_date} that the centre file names is not there"
        fix = "make it with petaseal centre baseline, or write null for baseline and baseline_date until then"
        raise InputError("baseline-missing", what, where=path, fix=fix)
    return read_baseline(path, centre)[1]


def _baseline_lines(baseline: Baseline | None) -> list[str]:
    if baseline is None:
        return []
    held = f"{len(baseline.devices)} device(s)"
    if baseline.nothing_before is not None:
        held = f"nothing, as is declared: {baseline.nothing_before.evidence}"
    return [f"  baseline of {baseline.taken_at[:10]}: {held}"]
