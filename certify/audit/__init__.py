"""The audit: everything from the raw samples to the verdicts, made anew (docs/audit.md).

What is here is written from the design's text and shares no arithmetic with the path that makes and verifies
statements: no rule, sum or bound may be imported from ``certify.judge``,
``certify.policy.verdicts`` or ``bench.record.interval``. Documents, readers and data (types,
ratings, policies) are shared.
"""
