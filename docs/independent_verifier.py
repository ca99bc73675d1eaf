"""Verify a petaseal statement without petaseal: Python and the `cryptography` package only.

    python independent_verifier.py KEY.pub statement.dsse.json records.jsonl

Written from docs/formats.md, not from petaseal's code. It checks the DSSE signature of the statement and of each
record, their kinds, the canonical form, that all are of one measurement, the RFC 6962 Merkle root, R9 recomputed from
the 30 sub-window times of each figure, that the counted figures add up to the totals of the pools, the pools to the
classes, and the classes to the bookkeeping, to the last integer. It does not judge the run rules, the policies or the
trust in a key, and it believes the list of what does not count: `petaseal verify` judges all that. What it leaves out
is printed as NOT CHECKED.
"""

import base64
import hashlib
import json
import sys
from itertools import pairwise
from math import isqrt
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

SOLVES = ("solve", "mixed")
CLASSES = ("intelligent", "supercomputing", "general", "edge")
IN_TOTO = ("application/vnd.in-toto+json", "https://in-toto.io/Statement/v1")
OF_STATEMENT = ("campaign_sha256", "profile_sha256", "rules", "starts_at")  # which its records have too
OF_CAMPAIGN = ("campaign_id", "centre_id", "challenge")
PARTS = ("counted", "existing", "with_witness", "untested")  # of a pool and of a class
NOT_CHECKED = (
    "trust: the key was given; its role, centre, validity and revocation are yours",
    "form: schemas, rules of text and times, caps; number, validity and age of the statement",
    "centre file, what the campaign says, windows, absent nodes, policies, profile and ratings",
    "run rules but R8 and R9: believed is what does not count, grade, findings, inventory, vendors, limits",
    "figures that are shown and not counted, but solves: these are no more than the records have good ones",
    "nominal rates, what was there before, what counts with a witness, what rests on accepted holds: only added up",
    "verdicts and their conditions",
    "witnesses, receipts, samples, baseline; other statements over the same devices",
)


def shown(text):
    """Everything in a document is somebody else's: no control, bidi or unassigned character reaches a terminal."""
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in str(text))


def refuse(why):
    sys.exit(f"REFUSED: {shown(why)}")


def no_float(text):
    refuse(f"a float: {text}")


def open_envelope(line, public_key, kind_of_document):
    """DSSE: the signature is over PAE(payloadType, payload); the key may come from the payload (None: see records)."""
    envelope = json.loads(line)
    payload = base64.b64decode(envelope["payload"], validate=True)
    kind = envelope["payloadType"].encode()
    pae = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    document = json.loads(payload, parse_float=no_float, parse_constant=no_float)
    if canonical(document) != payload:
        refuse("the payload is not canonical JSON")
    # else a key's signature under another kind of document would be one under this
    form = (envelope["payloadType"], document["_type"], document["predicateType"])
    if form != (IN_TOTO[0], IN_TOTO[1], f"urn:petaseal:{kind_of_document}/v0.2"):
        refuse(f"is no {kind_of_document} of format v0.2")
    if public_key is None:  # a record names the key that sealed it: integrity, not identity
        public_key = load_der_public_key(base64.b64decode(document["predicate"]["signer_spki"], validate=True))
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    mine = [s for s in envelope["signatures"] if s["keyid"] == hashlib.sha256(spki).hexdigest()]
    if len(mine) != 1:  # other keys may have signed too
        refuse("expected one signature of the given key")
    public_key.verify(base64.b64decode(mine[0]["sig"], validate=True), pae)
    return document, hashlib.sha256(payload).digest()


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def merkle_root(leaves):
    """RFC 6962 section 2.1 over the payload digests, which must be distinct and ascending."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + merkle_root(leaves[:split]) + merkle_root(leaves[split:])).digest()


def bounds(work_mflop, x):
    """R8 and R9 in exact integers: sustained, certified (lower 95 %), upper (95 %)."""
    total, n = sum(x), 30
    y = [n * value - total for value in x]
    d = sum(value * value for value in y)
    c = sum(a * b for a, b in pairwise(y))
    p, q = (34 * max(c, 0) + d, 30 * d) if d else (1, 30)
    if 10 * p > 9 * q:
        p, q = 9, 10
    num = 1_699_127**2 * n * d * (q + p)
    den = 10**12 * (n - 1) * n * n * (q - p)
    h = isqrt(num // den)
    h += h * h * den < num
    work = work_mflop * 10**9
    upper = None
    if h < total:  # the least integer U with U (S - h) >= W for the exact root h: between the two bounds, by bisection
        upper, high = -(-work // total), -(-work // (total - h))
        while upper < high:
            middle = (upper + high) // 2
            slack = middle * total - work
            if slack >= 0 and slack * slack * den >= middle * middle * num:
                high = middle
            else:
                upper = middle + 1
    return work // total, work // (total + h), upper


def check_figures(record):
    """Return {(device, precision, choice): (certified, sustained, upper)} of one record after recomputing each."""
    figures = {}
    for m in record["measurements"]:
        for i, device in enumerate(m["device"]):
            x = [m["subwindow_min_ns"][i] + over for over in m["subwindow_over_ns"][i]]
            work = work_of(m, i)
            stated = (m["sustained_mflop_s"][i], m["certified_mflop_s"][i], m["upper_mflop_s"][i])
            if len(x) != 30 or bounds(work, x) != stated:
                refuse(f"{record['node_id']}/{device} {m['precision']}: R9 does not give {stated}")
            workload = (device, m["precision"], m["choice"])
            if workload in figures:
                refuse(f"{record['node_id']}/{device} has two figures in {m['precision']}, {m['choice']} shape")
            if m["choice"] not in SOLVES or good_solution(m, i):
                figures[workload] = (stated[1], stated[0], stated[2])
    return figures


def work_of(m, i):
    """MFLOP of all launches, truncated once: 2mnk each, of a solve (2/3)n^3 + (3/2)n^2, which is no integer."""
    n = m["n"]
    sixths = n * n * (4 * n + 9) if m["choice"] in SOLVES else 12 * m["m"] * n * m["k"]
    return m["launches"][i] * sixths // (6 * 10**6)


def good_solution(m, i):
    """R15: the residual of a solve, in millionths, is there and below 16; a solve is of FP64 and of one order."""
    if m["precision"] != "fp64" or not m["m"] == m["n"] == m["k"]:
        refuse("a solve of another precision than fp64, or not of one order")
    residual = m["row_error_ppm"][i]
    return residual is not None and residual < 16 * 10**6


def added(rows):
    """The sum of each number over some rows; null, which is unbounded, makes the sum null."""
    names = {name for row in rows for name in row}
    if any(set(row) != names for row in rows):
        refuse("the lines of one kind have different fields")
    columns = {name: [row[name] for row in rows] for name in names}
    return {name: None if None in values else sum(values) for name, values in columns.items()}


def steps_of(rows):
    """Devices and certified sum on each step of evidence."""
    sums = {}
    for row in rows:
        devices, certified = sums.get(row["step"], (0, 0))
        sums[row["step"]] = (devices + row["devices"], certified + row["certified_mflop_s"])
    return sums


def check_classes(classes, pools):
    """Each class that has a pool has one line, in the order of the classes, with the sums of its pools."""
    wanted = [name for name in CLASSES if any(pool["pool_class"] == name for pool in pools)]
    if [line["pool_class"] for line in classes] != wanted or any(pool["pool_class"] not in CLASSES for pool in pools):
        refuse(f"the classes are not those of the pools: {wanted}")
    for line in classes:
        own = [pool for pool in pools if pool["pool_class"] == line["pool_class"]]
        for part in PARTS:
            if line[part] != (parts := added([pool[part] for pool in own])):
                refuse(f"class {line['pool_class']}: {part} is {line[part]}, its pools add up to {parts}")
        if any((pool["precision"], pool["choice"]) != (line["precision"], line["choice"]) for pool in own):
            refuse(f"class {line['pool_class']}: its pools count another workload")
        if steps_of(line["steps"]) != steps_of(step for pool in own for step in pool["steps"]):
            refuse(f"class {line['pool_class']}: its sums by step are not those of its pools")
    for line in (*pools, *classes):
        totals = [sum(values) for values in zip((0, 0), *steps_of(line["steps"]).values(), strict=True)]
        if totals != [line["counted"]["devices"], line["counted"]["certified_mflop_s"]]:
            refuse(f"{line.get('pool', line['pool_class'])}: the sums by step are not what counts")


def check_solves(shown, solved):
    """What is shown of solves is no more than the good ones of the records."""
    for line in shown:
        if line["choice"] in SOLVES:
            good = solved.get((line["pool"], line["choice"]), [])
            most = (len(good), sum(f[0] for f in good), sum(f[1] for f in good))
            stated = tuple(line["shown"][k] for k in ("devices", "certified_mflop_s", "sustained_mflop_s"))
            if any(a > b for a, b in zip(stated, most, strict=True)):
                refuse(f"pool {line['pool']}: shows solves of {stated}, and the records have good ones of {most} (R15)")


def check_bookkeeping(bookkeeping, classes):
    """The sum over the classes, which mixes precisions, and the share of intelligent compute in it, truncated."""
    counted = {line["pool_class"]: line["counted"] for line in classes}
    names = ("certified_mflop_s", "sustained_mflop_s", "nominal_mflop_s")
    wanted = {name: sum(part[name] for part in counted.values()) for name in names}
    whole, part = wanted["certified_mflop_s"], counted.get("intelligent", {"certified_mflop_s": 0})["certified_mflop_s"]
    wanted["intelligent_share_ppm"] = part * 10**6 // whole if whole else None
    if bookkeeping != wanted:
        refuse(f"the bookkeeping is {bookkeeping}, its classes give {wanted}")


def main(key_file, statement_file, records_file):
    key = load_pem_public_key(Path(key_file).read_bytes())
    document, _ = open_envelope(Path(statement_file).read_bytes(), key, "capacity-statement")
    statement = document["predicate"]
    pools = {pool["pool"]: pool for pool in statement["pools"]}
    if list(pools) != [pool["pool"] for pool in statement["centre"]["pools"]] or len(pools) != len(statement["pools"]):
        refuse("the pools are not those of the centre")
    excluded = {(e["node_id"], e["device"]) for e in statement["not_counted"]}
    nodes_of = {p["pool"]: (p["nodes"], p["devices"]) for p in statement["centre"]["pools"]}
    campaign = statement["campaign"]
    placed = {} if campaign["self_issued"] else {n["node_id"]: [n["pool"], *n["also"]] for n in campaign["nodes"]}
    sums = {name: [0, 0, 0, 0] for name in pools}
    found = {name: [] for name in pools}  # the node of each device
    solved = {}  # the good solves of each pool and choice
    digests = []
    with Path(records_file).open("rb") as lines:
        for line in lines:
            record, digest = open_envelope(line, None, "node-record")
            digests.append(digest)
            record = record["predicate"]
            if any(record[name] != statement[name] for name in OF_STATEMENT) or any(
                record[name] != campaign[name] for name in OF_CAMPAIGN
            ):
                refuse("a record is of another measurement than the statement")
            figures = check_figures(record)
            for device in (d["device"] for d in record["devices"]):
                for name, (nodes, devices) in nodes_of.items():
                    mine = (nodes == "all" or record["node_id"] in nodes) and (devices == "all" or device in devices)
                    mine = mine and name in placed.get(record["node_id"], [name])
                    if mine:
                        found[name].append(record["node_id"])
                        for choice in SOLVES:
                            if (device, "fp64", choice) in figures:
                                solved.setdefault((name, choice), []).append(figures[device, "fp64", choice])
                    if mine and (record["node_id"], device) not in excluded:
                        counted = (device, pools[name]["precision"], pools[name]["choice"])
                        if counted not in figures:
                            refuse(f"{record['node_id']}/{device} counts without a figure, or by a wrong one (R15)")
                        certified, sustained, upper = figures[counted]
                        for place, value in enumerate((1, certified, sustained, upper or 0)):
                            sums[name][place] += value
    if not digests or digests != sorted(set(digests)) or len(digests) != statement["records"]:
        refuse("the records are not the distinct, ascending list that the statement counts")
    root = merkle_root(digests).hex()
    if [subject["name"] for subject in document["subject"]] != ["records.jsonl"]:
        refuse("the statement is about something else than records.jsonl")
    if root != statement["records_root"] or root != document["subject"][0]["digest"]["rfc6962-sha256"]:
        refuse("the Merkle root differs")
    check_solves(statement["shown"], solved)
    for name, total in sums.items():
        counted = pools[name]["counted"]
        stated = [counted[k] for k in ("devices", "certified_mflop_s", "sustained_mflop_s", "upper_mflop_s")]
        if total[:3] != stated[:3] or (stated[3] is not None and total[3] != stated[3]):
            refuse(f"pool {name}: the records add up to {total}, the statement says {stated}")
        there = (pools[name]["devices_found"], pools[name]["nodes_recorded"], pools[name]["untested"]["devices"])
        if there != (len(found[name]), len(set(found[name])), len(found[name]) - total[0]):
            refuse(f"pool {name}: the records do not show the devices and nodes {there}")
        print(shown(f"pool {name}: {total[0]} devices, certified {total[1]} MFLOP/s, sustained {total[2]} MFLOP/s"))
    check_classes(statement["classes"], list(pools.values()))
    check_bookkeeping(statement["bookkeeping"], statement["classes"])
    for what in NOT_CHECKED:
        print(f"NOT CHECKED: {what}")
    print(f"OK: {len(digests)} record(s), Merkle root {root}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a terminal that shows ASCII only still shows an answer
    try:
        main(*sys.argv[1:])
    except InvalidSignature:
        refuse("a signature does not hold")
    except UnsupportedAlgorithm:
        print(
            "NOT CHECKED: anything. Only Ed25519 is checked here; for SM2 use openssl (docs/verification.md)",
            file=sys.stderr,
        )
        sys.exit(2)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, OSError) as error:
        refuse(f"cannot be read: {type(error).__name__}: {error!s:.200}")
