"""Print every ratio: ``make perf`` (some minutes). One part alone:

python -m tests.perf commands
python -m tests.perf harness
python -m tests.perf network
python -m tests.perf hpcc
python -m tests.perf telemetry
python -m tests.perf records 100000
python -m tests.perf campaign 10000 100000
python -m tests.perf verify 12600
python -m tests.perf audit 4
python -m tests.perf paper 10000
python -m tests.perf report
python -m tests.perf registry
python -m tests.perf heartbeats
python -m tests.perf.first_gpu --device cuda:0 --out results/local
python -m tests.perf accelerator --device cuda:0 --seconds 60 --out results/local
"""

from __future__ import annotations

import sys

from tests.perf import (
    accelerator,
    audit,
    campaign,
    commands,
    harness,
    hpcc,
    network,
    paper,
    records,
    report,
    telemetry,
    verify,
)
from tests.perf.rig import Setup, alone

PARTS = (
    *("all", "commands", "harness", "network", "hpcc", "telemetry", "records", "campaign", "verify", "audit"),
    *("paper", "report", "registry", "heartbeats"),
)


def main(arguments: list[str]) -> int:
    """Run all parts but those that want a device, or the one that is named."""
    wanted, rest = (arguments[0], arguments[1:]) if arguments else ("all", [])
    if wanted == "accelerator":
        return accelerator.main(rest)
    if wanted not in PARTS:
        print(__doc__, file=sys.stderr)
        return 2
    if wanted in ("all", "commands"):
        commands.measure()
    if wanted in ("all", "harness"):
        for n in (1024, 2048):
            print(*alone(harness.measure, Setup("cpu", "fp64", 4.0), n).lines, sep="\n")
        print(*alone(harness.measure, Setup("cpu", "fp64", 4.0), 2048, harness.ROUNDS, "solve").lines, sep="\n")
    if wanted in ("all", "network"):
        for setup, n in ((Setup("cpu", "fp64", 4.0), 512), (Setup("fake:1", "fp16", 4.0), 4096)):
            print(*alone(network.measure, setup, n).lines, sep="\n")
        print(network.shown())
    if wanted in ("all", "hpcc"):
        hpcc.measure()
    if wanted in ("all", "telemetry"):
        telemetry.measure()
    if wanted in ("all", "records"):
        records.measure(int(rest[0]) if rest else 10_000, runs=3)
    if wanted in ("all", "verify"):
        verify.measure(int(rest[0]) if rest else verify.NODES, runs=3)
        verify.measure_ranks(runs=3)
    if wanted in ("all", "audit"):
        audit.measure(int(rest[0]) if rest else 2, runs=3)
    if wanted in ("all", "paper"):
        paper.measure(int(rest[0]) if rest else paper.NODES)
    if wanted in ("all", "report"):
        report.measure(*map(int, rest))
    if wanted in ("all", "registry"):
        from tests.perf import registry  # needs petaseal[registry], which a machine with an accelerator may lack

        registry.measure(*map(int, rest))
    if wanted == "heartbeats":  # a part of the registry's figures, alone
        from tests.perf import presence

        presence.measure()
    if wanted in ("all", "campaign"):
        campaign.measure([int(nodes) for nodes in rest] or [campaign.NODES])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
