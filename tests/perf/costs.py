"""What a figure costs beside its window: set-up and verification as a share of 600 s, and the duty cycle."""

from __future__ import annotations

from bench.record import MINIMUM_WINDOW_NS
from tests.perf.rig import SECOND_NS, Part, Rig, Setup, profile_of

WINDOW_S = MINIMUM_WINDOW_NS["certification"] / SECOND_NS
SHARE_LIMIT, DUTY_LIMIT = 0.03, 0.99


class Costs(Part, frozen=True, kw_only=True):
    """Seconds of each step, and what they are of a window that counts 600 s: the number of checks is the same there."""

    shape: str
    operand_sets: int
    operand_bytes: int
    verified_launches: int
    operands_s: float
    references_s: float  # trials of shapes among them
    checks_s: float
    conclude_s: float
    share: float
    share_limit: float = SHARE_LIMIT
    duty: float  # in 600 s
    duty_limit: float = DUTY_LIMIT
    duty_ppm_here: int  # of the window that was measured


def measure(setup: Setup) -> Costs:
    """Return the costs of one workload, as the profile ``certification`` verifies it."""
    rig = Rig(setup, profile_of(setup))
    facts = rig.prepare()
    run = rig.run()
    f = run.figure
    checks_s = (10**6 - f.duty_ppm) / 10**6 * sum(f.subwindow_ns) / SECOND_NS
    share = (rig.prepare_s + checks_s + run.conclude_s) / WINDOW_S
    duty = 1 - checks_s / WINDOW_S
    lines = (
        f"set-up and verification, {setup.precision} {run.shape}, {facts.operand_sets} operand sets: operands"
        f" {rig.operands_s:.2f} s, trials and references {rig.prepare_s - rig.operands_s:.2f} s,"
        f" {f.verified_launches} checks in the window {checks_s:.3f} s, check on the host {run.conclude_s:.2f} s:"
        f" {share:.2%} of {WINDOW_S:.0f} s (limit {SHARE_LIMIT:.0%})",
        f"duty cycle, {setup.precision}: {duty:.3%} of {WINDOW_S:.0f} s (limit {DUTY_LIMIT:.0%});"
        f" {f.duty_ppm / 10_000:.2f} % of the {sum(f.subwindow_ns) / SECOND_NS:.1f} s measured here",
    )
    return Costs(
        part="costs",
        precision=setup.precision,
        lines=lines,
        shape=run.shape,
        operand_sets=facts.operand_sets,
        operand_bytes=facts.operand_bytes,
        verified_launches=f.verified_launches,
        operands_s=rig.operands_s,
        references_s=rig.prepare_s - rig.operands_s,
        checks_s=checks_s,
        conclude_s=run.conclude_s,
        share=share,
        duty=duty,
        duty_ppm_here=f.duty_ppm,
    )
