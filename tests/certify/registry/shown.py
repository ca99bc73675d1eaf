"""Hand-made values for the pages of the registry, and every page made of them."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from msgspec.structs import replace

from bench.units import MFLOP_PER_PFLOP as PFLOPS
from certify.documents.statement import CapacityStatement, CeilingLine
from certify.policy.capacity import Capacity
from certify.policy.centre import Bilingual
from certify.policy.policies import Policy, Threshold, load_policy
from certify.policy.thresholds import ClassEvidence, PolicyEvidence
from certify.policy.verdicts import evaluate
from certify.registry.api.cities import (
    AbsentCentre,
    AbsentClass,
    City,
    CityCondition,
    Component,
    Gap,
    Lifecycle,
    LifecycleLine,
    Missing,
)
from certify.registry.api.common import ENDED, REACHED, Rates
from certify.registry.api.nodes import ModelLine, StepSum
from certify.registry.api.oversight import AlarmGroup, AuditLine
from certify.registry.api.reached import OtherCondition, Reached, ReachedLine, Trend, TrendPoint
from certify.registry.api.views import (
    Alarm,
    AttemptLine,
    CentreDetail,
    CentreSummary,
    ClassCapacity,
    Decision,
    ExternalIdentifier,
    PoolCapacity,
    RecordTool,
    SharedKey,
    StatementDetail,
    StatementSummary,
)
from certify.registry.web import centre_list, pages
from certify.registry.web.wording import Frame, Lang, Site
from tests.certify.golden.test_golden import HERE as GOLDEN

NOW = "2026-06-01T08:00:00.000000Z"
ISSUED = "2026-03-02T08:00:00.000000Z"
UNTIL = "2027-03-02T08:00:00.000000Z"
NAME = Bilingual(zh="南沙智算中心", en="Nansha centre")


def frame(lang: Lang = "zh", path: str = "", *, trial: bool = False) -> Frame:
    site = Site(Bilingual(zh="广州算力登记平台", en="Guangzhou registry"), "0.1.0", "ab" * 32, trial)
    return Frame(site, lang, path, "", NOW)


def sha(number: int) -> str:
    return f"{number:064x}"


def line(pool_class: Any = "intelligent", precision: Any = "fp16", pflops: int = 2310, **changes: Any) -> Any:
    made = ClassCapacity(
        pool_class=pool_class,
        precision=precision,
        choice="fixed",
        devices=6144,
        certified_mflop_s=pflops * PFLOPS + 999_999,
        sustained_mflop_s=pflops * PFLOPS * 101 // 100,
        upper_mflop_s=None,
        nominal_mflop_s=pflops * PFLOPS * 6 // 5,
        never_scheduled_mflop_s=0,
        with_witness_mflop_s=0,
        untested_devices=8,
        nodes_missing=1,
    )
    return replace(made, **changes)


CEILING = CeilingLine(
    pool="main",
    precision="fp16",
    choice="fixed",
    vendor="Huawei",
    model="Ascend 910B2",
    step="rating",
    limit="best-known",
    least_mflop_s=377_200_000,
    figures=6150,
    counted=6144,
    certified_mflop_s=1_999_960_000_000,
)


def summary(number: int = 1, **changes: Any) -> StatementSummary:
    made = StatementSummary(
        payload_sha256=sha(number),
        centre_id="gz-nansha",
        name=NAME,
        project_id="P-1",
        sequence=number,
        previous_sha256=None,
        issued_at=ISSUED,
        valid_until=UNTIL,
        received_at=ISSUED,
        state="managed",
        ended_at=None,
        ended_code=None,
        level="recomputed",
        grade="certification",
        simulated=False,
        district="南沙",
        classes=(line(), line("supercomputing", "fp64", 41)),
        alarms=1,
    )
    return replace(made, **changes)


def history() -> tuple[StatementSummary, ...]:
    old = [
        summary(
            n,
            issued_at=f"2025-0{n * 2}-02T08:00:00.000000Z",
            state="superseded",
            classes=(line(pflops=1800 + 90 * n * n),),
        )
        for n in range(1, 4)
    ]
    return (summary(4, previous_sha256=sha(3)), *reversed(old))


MODEL = ModelLine(
    vendor="Huawei",
    model="Ascend 910B2",
    count_unit="package",
    devices=6144,
    nodes=768,
    devices_per_node=8,
    devices_per_node_most=8,
    memory_bytes=64 * 2**30,
    memory_bytes_most=64 * 2**30,
    devices_without_rating=16,
    steps=(StepSum(step="silicon", devices=6144, certified_mflop_s=1_999_960_000_000),),
)


def pool(**changes: Any) -> PoolCapacity:
    made = PoolCapacity(
        centre_id="gz-nansha",
        project_id="P-1",
        pool="main",
        pool_class="intelligent",
        precision="fp16",
        choice="fixed",
        accumulate="fp32",
        state="schedulable",
        level="recomputed",
        grade="certification",
        simulated=False,
        statement=sha(4),
        sequence=4,
        issued_at=ISSUED,
        valid_until=UNTIL,
        ended_at=None,
        ended_code=None,
        district="南沙",
        devices=6144,
        certified_mflop_s=1_999_960_000_000,
        certified_pflops="1999.960000",
        sustained_mflop_s=2_040_000_000_000,
        sustained_pflops="2040.000000",
        nominal_mflop_s=2_310_100_000_000,
        nominal_pflops="2310.100000",
        steps=(StepSum(step="silicon", devices=6144, certified_mflop_s=1_999_960_000_000),),
        never_scheduled_mflop_s=0,
        with_witness_mflop_s=0,
        witnessed=False,
        schedulable_mflop_s=1_500_000_000_000,
        schedulable_pflops="1500.000000",
        nodes=768,
        nodes_online=576,
        external_ids=("cn-suanli:0001",),
        alarms=0,
        name=NAME,
        jurisdiction="CN-440115",
        city="CN-440100",
        devices_without_rating=16,
        models=(MODEL,),
        models_left_out=0,
    )
    return replace(made, **changes)


def centre(centre_id: str = "gz-nansha", **changes: Any) -> CentreSummary:
    made = CentreSummary(
        centre_id=centre_id,
        name=NAME,
        operator="南沙算力运营有限公司",
        district="南沙",
        jurisdiction="CN-440115",
        tier="cluster_zone",
        domestic=True,
        state="schedulable",
        statements=4,
        in_force=1,
        simulated=False,
        valid_until=UNTIL,
        classes=(line(), line("supercomputing", "fp64", 41)),
        schedulable_mflop_s=1_500_000_000_000,
        alarms=1,
    )
    return replace(made, **changes)


def attempt(state: Any = "not-submitted", **changes: Any) -> AttemptLine:
    made = AttemptLine(
        centre_id="gz-nansha",
        challenge="ab" * 16,
        opened_at=ISSUED,
        expires_at=UNTIL,
        campaign_id="2026-02" if state != "open" else None,
        campaign_sha256=None,
        records=3,
        statement=sha(4) if state == "submitted" else None,
        state=state,
    )
    return replace(made, **changes)


def alarm(**changes: Any) -> Alarm:
    made = Alarm(
        id=1,
        at=NOW,
        code="device-claimed-twice",
        title=Bilingual(zh="同一设备出现在两份有效声明中", en="A device stands in two statements"),
        centre_id="gz-nansha",
        payload_sha256=sha(9),
        other_centre_id="gz-huangpu",
        other_sha256=sha(4),
        devices=128,
        what="claims uuid:GPU-1234abcd-0000 that gz-huangpu claims",
    )
    return replace(made, **changes)


def decision(**changes: Any) -> Decision:
    made = Decision(
        id=1,
        at=NOW,
        kind="statement",
        decision="refused",
        code="signature-invalid",
        detail="the signature of 12ab does not hold",
        level=None,
        payload_sha256=sha(8),
        centre_id="gz-nansha",
    )
    return replace(made, **changes)


def detail(**changes: Any) -> StatementDetail:
    made = StatementDetail(
        summary=summary(4),
        operator="南沙算力运营有限公司",
        measured_from=ISSUED,
        measured_until=ISSUED,
        campaign_id="2026-03",
        challenge_source="registry",
        records=768,
        signers=("cd" * 32,),
        verdicts=verdicts("guangzhou-2000p", "centre"),
        ceilings=(CEILING,),
        decisions=(decision(decision="accepted", code=None, detail=None, level="trusted"),),
        superseded_by=None,
        tools=(
            RecordTool(version="0.2.0", sha256="ab" * 32, records=760, known=True, release="0.2.0", note=None),
            RecordTool(version="0.2.0", sha256="ef" * 32, records=8, known=False, release=None, note="tool-unknown"),
        ),
        shared_keys=(SharedKey(keyid="cd" * 32, nodes=3),),
        links={"envelope": f"/v1/statements/{sha(4)}/envelope", "receipt": f"/v1/statements/{sha(4)}/receipt"},
    )
    return replace(made, **changes)


def verdicts(policy: str, scope: Any) -> Any:
    clean = Capacity(6144, 1_999_960_000_000, 2_040_000_000_000, 2_080_000_000_000, 2_310_100_000_000, 16)
    evidence = PolicyEvidence(
        classes={
            "intelligent": ClassEvidence(clean=clean),
            "supercomputing": ClassEvidence(clean=Capacity(16, 41 * PFLOPS)),
        },
        grade="certification",
        simulated=False,
        jurisdiction=load_policy(policy).jurisdiction,
        declarations=frozenset({"project", "park", "facility", "managed"}),
        baseline=None,
        newly_added={},
        scope=scope,
    )
    return evaluate(load_policy(policy), evidence)


def city(policy: str = "guangzhou-2027") -> City:
    document = load_policy(policy)

    def gaps(verdict: Any) -> tuple[Gap, ...]:
        share = verdict.threshold_ppm is not None
        return tuple(
            Gap(
                basis=one.basis,
                gap_mflop_s=None if share else max(0, verdict.threshold_mflop_s - one.observed_mflop_s),
                gap_ppm=max(0, verdict.threshold_ppm - (one.observed_ppm or 0)) if share else None,
                reached_ppm=999_999,
                least_mflop_s=None if share else one.observed_mflop_s,
                least_ppm=0 if share else None,
                most_ppm=10**6 if share else None,
            )
            for one in verdict.bases
        )

    rates = Rates(
        devices=6144,
        certified_mflop_s=1_999_960_000_000,
        sustained_mflop_s=2_040_000_000_000,
        nominal_mflop_s=2_310_100_000_000,
    )
    return City(
        policy=policy,
        title=document.title,
        document_status=document.document.status,
        jurisdiction=document.jurisdiction,
        at=NOW,
        conditions=tuple(
            CityCondition(
                title=condition.title,
                clause_text=condition.clause.text,
                verdict=verdict,
                gaps=gaps(verdict) if verdict.operator else (),
                target=condition.value if isinstance(condition, Threshold) else None,
                target_unit=condition.unit if isinstance(condition, Threshold) else None,
            )
            for condition, verdict in zip(document.judged, verdicts(policy, "city"), strict=True)
        ),
        components=(
            Component(
                pool_class="intelligent",
                precision="fp16",
                centres=3,
                counted=rates,
                managed=rates,
                schedulable_mflop_s=1,
            ),
        ),
        bookkeeping=rates,
        missing=(
            Missing(code="declared-only", statements=2, certified_mflop_s=PFLOPS, examples=("gz-huangpu",)),
            Missing(code="grade-too-low", statements=1, certified_mflop_s=0, examples=()),
        ),
        absent=(
            AbsentCentre(
                centre_id="gz-panyu",
                project_id="p2",
                code="expired",
                since=UNTIL,
                last_valid=sha(8),
                could_add=(
                    AbsentClass(pool_class="intelligent", at_most_mflop_s=7 * PFLOPS, at_most_nominal_mflop_s=None),
                ),
            ),
            AbsentCentre(
                centre_id="gz-zengcheng",
                project_id=None,
                code="never-submitted",
                since=None,
                last_valid=None,
                could_add=(AbsentClass(pool_class="intelligent", at_most_mflop_s=None, at_most_nominal_mflop_s=None),),
            ),
        ),
        tiers={"node": 1, "cluster_zone": 5},
        operators=3,
        domestic_ppm=812_345,
        devices_contested=128,
    )


def trend(policy: str = "guangzhou-2027") -> Trend:
    """Return three days of two classes; nothing was sampled on the first."""
    points = tuple(
        TrendPoint(
            at=f"2026-05-{29 + day}T23:59:59.999999Z",
            pool_class=pool_class,
            precision="fp64" if pool_class == "supercomputing" else "fp16",
            certified_mflop_s=(day + 1) * 1000 * PFLOPS,
            managed_mflop_s=day * 500 * PFLOPS,
            schedulable_mflop_s=day * 400 * PFLOPS if day else None,
        )
        for day in range(3)
        for pool_class in ("intelligent", "supercomputing")
    )
    return Trend(policy=policy, at=NOW, points=points)


def reached() -> Reached:
    """Return who reached 2000P: one did, one only says so, one is just below."""
    document = load_policy("guangzhou-2000p")
    condition = next(one for one in document.judged if isinstance(one, Threshold))
    own = verdicts("guangzhou-2000p", "centre")
    stated = next(one for one in own if one.condition == condition.condition)
    line = ReachedLine(
        centre_id="gz-nansha",
        project_id="p1",
        name=NAME,
        statement=sha(1),
        level="recomputed",
        state="managed",
        verdict="met",
        reason=None,
        bases=stated.bases,
        certified_mflop_s=2310 * PFLOPS,
        reached_ppm=1_155_000,
        conditions=tuple(
            OtherCondition(condition=one.condition, title=None, verdict=one.verdict, reason=one.reason) for one in own
        ),
    )
    return Reached(
        policy="guangzhou-2000p",
        title=document.title,
        document_status="draft",
        condition=condition.condition,
        condition_title=condition.title,
        target=condition.value,
        target_unit=condition.unit,
        at=NOW,
        met=(line,),
        declared_only=(replace(line, level="trusted"),),
        below=(replace(line, verdict="not_met", reached_ppm=999_999),),
        below_count=21,
        not_judged=3,
    )


def lifecycle() -> Lifecycle:
    lines = [
        LifecycleLine(
            state=state,
            pool_class=pool_class,
            precision="fp64" if pool_class == "supercomputing" else "fp16",
            pools=i + 1,
            own=Rates(devices=8, certified_mflop_s=(i + 1) * PFLOPS * 100),
            reached=Rates(devices=8, certified_mflop_s=(9 - i) * PFLOPS * 100),
        )
        for pool_class in ("supercomputing", "intelligent")
        for i, state in enumerate((*REACHED, *ENDED))
    ]
    return Lifecycle(at=NOW, lines=tuple(lines))


def golden() -> CapacityStatement:
    """Return the committed statement of two simulated nodes."""
    payload = base64.b64decode(msgspec.json.decode((GOLDEN / "statement.dsse.json").read_bytes())["payload"])
    return msgspec.convert(msgspec.json.decode(payload)["predicate"], CapacityStatement)


def policies() -> dict[str, Policy]:
    return {name: load_policy(name) for name in ("guangzhou-2000p", "guangzhou-2027", "wuhan-2025")}


def alarm_group() -> AlarmGroup:
    """Return alarms between two centres."""
    return AlarmGroup(
        code="device-claimed-twice",
        title=alarm().title,
        centre_id="gz-nansha",
        other_centre_id="wh-east",
        payload_sha256=None,
        alarms=3,
        open=2,
        devices=8,
        first_at=NOW,
        last_at=NOW,
        last_id=3,
    )


def audit_line(outcome: str = "done") -> AuditLine:
    """Return a line of the audit log."""
    fields: dict[str, Any] = {"token_id": None, "token": None, "action": "token.new", "target": "gz-nansha"}
    return AuditLine(id=1, at=NOW, outcome=outcome, request_id="0123456789abcdef", **fields)


def every_page(lang: Lang) -> dict[str, str]:
    """Return every page, by its name."""
    found = [
        centre(),
        centre("wh-east", name=Bilingual(zh="武汉东湖中心", en="Wuhan East Lake"), district="东湖", state="declared"),
        centre(
            "demo", name=Bilingual(zh="演示", en="Demo"), district=None, classes=(), valid_until=None, domestic=None
        ),
    ]
    pools_ = (pool(), pool(centre_id="demo", simulated=True), pool(pool="small", grade="smoke"))
    whole = CentreDetail(
        summary=centre(),
        pools=pools_,
        statements=(*history(), summary(5, simulated=True, grade="smoke")),
        attempts=tuple(attempt(state) for state in ("open", "submitted", "not-submitted")),
        external_ids=(ExternalIdentifier(scheme="cn-suanli", value="0001", centre_id="gz-nansha", source="platform"),),
    )
    attempts_ = [attempt(state) for state in ("submitted", "open", "not-submitted")]
    refusals = [decision(), decision(code="device-claimed-twice", detail="uuid:GPU-1234abcd-00 of gpu-00000/cuda:0")]
    return {
        "overview": pages.overview(frame(lang), (city(), city("wuhan-2025")), lifecycle(), (reached(),), (trend(),)),
        "centres": centre_list.centres(frame(lang, "centres"), found, pools_, centre_list.CentresAsk()),
        "centre": pages.centre(frame(lang, "centres/gz-nansha"), whole, (alarm(),)),
        "statement": pages.statement(frame(lang, f"statements/{sha(4)}"), detail(), golden(), policies()),
        "alarms": pages.alarms(frame(lang, "alarms"), (alarm(),), "abc"),
        "alarm-groups": pages.alarm_groups(frame(lang, "alarm-groups"), (alarm_group(),), None),
        "audit": pages.audit(frame(lang, "audit"), (audit_line(), audit_line("token-scope")), "abc"),
        "refused": pages.refused(frame(lang, "refused"), refusals, None),
        "attempts": pages.attempts(frame(lang, "attempts"), attempts_),
        "error": pages.error(frame(lang, "nothing"), 404, "not-found"),
    }
