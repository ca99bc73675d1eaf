"""A city of 300 centres for the pages: every state, class and vendor, long names, and lists with many lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.units import DAY_NS, utc_ns, utc_text
from certify.policy.policies import load_policy
from certify.registry.base import tokens
from certify.registry.storage import city_tables, node_tables, tables, upkeep
from tests.certify.golden.test_golden import HERE as GOLDEN
from tests.certify.registry import rows
from tests.certify.registry.rows import PFLOPS, T0, PoolOf, after
from tests.certify.registry.served import SECRET
from tests.certify.registry.state.test_trend import state_verdicts

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from certify.registry.storage.store import Store

CENTRES = 300
LONGEST = "gz-" + "a1b2c3d4e5" * 6  # 63 letters: the most that an id has
PLACES = (
    ("CN-440115", "南沙区"),
    ("CN-440112", "黄埔区"),
    ("CN-440106", "天河区"),
    ("CN-420111", "洪山区"),
    ("CN-310115", None),
)
VENDORS = (("NVIDIA", "NVIDIA H20"), ("Huawei", "Ascend 910B3"), ("Hygon", "K100_AI"), ("Cambricon", "MLU590-M9"))
CLASSES = ("intelligent", "intelligent", "intelligent", "supercomputing", "general", "edge")
NAME_ZH = "广州市南沙区粤港澳大湾区人工智能与科学计算融合创新公共算力服务中心（一期）"
NAME_EN = "Greater Bay Area Public Service Centre for Converged Intelligent and Scientific Computing (Phase I)"
COMPANY = "广州粤港澳大湾区算力基础设施投资建设运营管理集团股份有限公司"


def fill_crowd(store: Store) -> dict[str, str]:
    """Store the city; return the digests of statements by what is shown with them."""
    golden = store.objects.put((GOLDEN / "statement.dsse.json").read_bytes())
    with store.writing() as connection:
        statements = [_centre(connection, number, golden) for number in range(CENTRES)]
        _reached(connection, statements)
        _alarms(connection, statements)
        _decisions(connection, statements)
        _attempts(connection)
        _operations(connection)
        _, secret = tokens.create_token(connection, "platform", "platform", None, T0, 1)
    return {
        "token": secret,
        "a": statements[0],
        "revoked": statements[1],
        "simulated": statements[4],
        "expired": statements[2],
    }


def centre_name(number: int) -> str:
    """Return the id of a centre."""
    return LONGEST if number == 0 else f"gz-{number:03d}"


def _centre(connection: Connection, number: int, golden: str) -> str:
    """Store a centre, whose number says in which state it is."""
    centre_id, (place, district), (vendor, model) = centre_name(number), PLACES[number % 5], VENDORS[number % 4]
    kind = CLASSES[number % 6]
    pool = PoolOf(
        pool="main" if number else "zone-a.row-17.training-accelerators",
        pool_class=kind,
        certified_mflop_s=(1 + number * 7919 % 400) * PFLOPS * (1 if kind == "intelligent" else 10**5) // 10**5
        if number % 7
        else (3 + number) * PFLOPS,
        nodes=1 + number % 5,
        vendor=vendor,
        model=model,
        untested_devices=number % 3,
        nodes_missing=number % 2,
        missing_at_most_mflop_s=PFLOPS if number % 4 else None,
        never_scheduled_mflop_s=0 if number else PFLOPS // 4,
        with_witness_mflop_s=0 if number else PFLOPS // 8,
    )
    pools = (pool,) if number else (pool, PoolOf(pool="hpc", pool_class="supercomputing", certified_mflop_s=41 * 10**9))
    columns: dict[str, Any] = {"jurisdiction": place, "district": district, "envelope_sha256": golden}
    columns |= {"tier": ("city_dc", "cluster_zone", "node", "edge")[number % 4], "operator": f"运营公司 {number % 23}"}
    columns |= {"level": "trusted" if number % 8 == 3 else "recomputed", "simulated": number % 40 == 4}
    if number % 11 == 0:
        columns |= {"name_zh": NAME_ZH, "name_en": NAME_EN, "operator": COMPANY}
    for earlier in range(24 if number == 0 else 1 if number % 9 == 0 else 0, 0, -1):
        at = utc_text(utc_ns(T0) - (30 * earlier + 7) * DAY_NS)
        rows.add_statement(connection, centre_id, pools, at=at, valid_days=60, **columns)
    expired = number % 10 == 2
    at = utc_text(utc_ns(T0) - (40 if expired else number % 37) * DAY_NS)
    statement = rows.add_statement(connection, centre_id, pools, at=at, valid_days=20 if expired else 366, **columns)
    if number % 20 == 1:
        rows.add_end(connection, statement, at=T0, effective_at=T0)
    elif columns["level"] == "recomputed" and not expired:
        for act in ("register", "manage")[: number % 3]:
            rows.add_act(connection, act, centre_id, pool.pool)
        if number % 3 == 2 or number == 0:
            if number == 0:
                rows.manage(connection, centre_id, pool.pool)
            for node_id in rows.node_ids(pool)[: 1 + number % 2]:
                rows.beat(connection, centre_id, node_id, at=T0)
    if number == 0:
        rows.add_external_id(connection, centre_id, "suanli-440115-0001-" + "9" * 40, pool=pool.pool)
    return statement


def _reached(connection: Connection, statements: list[str]) -> None:
    policy = load_policy("guangzhou-2000p")
    for number in range(5, CENTRES, 6):
        state_verdicts(connection, statements[number], (1900 + number) * PFLOPS, policy)
    state_verdicts(connection, statements[0], 2_345 * PFLOPS + 678, policy)
    for days in range(30):
        for kind, rate in (("intelligent", 20 + days), ("supercomputing", days)):
            row = {"at": after(T0, (days - 30) * 86_400), "policy": "guangzhou-2027", "pool_class": kind}
            connection.execute(city_tables.schedulable_samples.insert(), row | {"schedulable_mflop_s": rate * PFLOPS})


def _alarms(connection: Connection, statements: list[str]) -> None:
    codes = ("device-claimed-twice", "duplicate-device", "key-reused")
    for number in range(130):
        one, other = number % 13, 20 + number % 17
        rows.add_alarm(
            connection,
            statements[one],
            statements[other],
            centre_name(one),
            centre_name(other),
            devices=number * 97 + 1,
            code=codes[0] if number % 4 else codes[1],
            at=after(T0, number),
        )
    for alarm in range(1, 60, 2):
        row = {
            "at": T0,
            "alarm_id": alarm,
            "acknowledged": True,
            "reason": "已与双方核对，设备已迁移",
            "token_id": None,
        }
        connection.execute(upkeep.acknowledgements.insert(), row)


def _decisions(connection: Connection, statements: list[str]) -> None:
    codes = ("device-claimed-twice", "signature-invalid", "records-missing", "schema-invalid", "key-not-trusted")
    whole: dict[str, Any] = {"object_sha256": None, "receipt": b'{"payload": ""}', "token_id": 1, "level": None}
    for number in range(140):
        row: dict[str, Any] = {
            "at": after(T0, number),
            "kind": ("statement", "records", "campaign")[number % 3],
            "decision": "refused",
        }
        row |= {"code": codes[number % 5], "detail": SECRET, "payload_sha256": rows.sha("refused", number)}
        row |= {"centre_id": centre_name(number % 31) if number % 6 else None}
        connection.execute(tables.decisions.insert(), whole | row)
    accepted: dict[str, Any] = {
        "at": T0,
        "kind": "statement",
        "decision": "accepted",
        "code": None,
        "detail": None,
        "level": "trusted",
    }
    accepted |= {"payload_sha256": statements[0], "centre_id": centre_name(0)}
    connection.execute(tables.decisions.insert(), whole | accepted)
    for number in range(2):
        row = {"statement": statements[0], "number": number, "version": f"0.{number}.0", "sha256": rows.sha(number)}
        connection.execute(node_tables.tool_lines.insert(), row | {"records": 3})


def _attempts(connection: Connection) -> None:
    for number in range(60):
        challenge, centre_id = f"{number:032x}", centre_name(number % 7)
        at = after(T0, -86_400 * (number % 40))
        drawn: dict[str, Any] = {"challenge": challenge, "centre_id": centre_id, "issued_at": at, "token_id": 1}
        connection.execute(tables.challenges.insert(), drawn | {"expires_at": after(at, 86_400 * 20)})
        if number % 3:
            shown: dict[str, Any] = {
                "campaign_sha256": rows.sha(challenge),
                "campaign_id": f"2026-{number:02d}-{'acceptance' * (number % 5)}",
            }
            shown |= {"centre_id": centre_id, "series": "2026", "challenge": challenge, "challenge_source": "registry"}
            shown |= {"issued_at": at, "received_at": at, "expires_at": after(at, 86_400 * 21), "nodes": 4}
            connection.execute(tables.campaigns.insert(), shown | {"envelope_sha256": rows.sha(number)})


def _operations(connection: Connection) -> None:
    for number in range(120):
        row: dict[str, Any] = {"at": after(T0, number), "token_id": number % 3 or None, "request_id": f"{number:036d}"}
        row |= {
            "action": ("statements.submit", "alarms.acknowledge", "pools.act")[number % 3],
            "target": centre_name(number),
        }
        connection.execute(tables.audit.insert(), row | {"outcome": "done" if number % 4 else "token-not-allowed"})
