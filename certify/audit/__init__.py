"""The audit: a statement compared with its raw samples, every fault named (docs/audit.md).

The rules, sums and verdicts are the product's own, on figures rebuilt from samples; what judges independently of them
stands in ``tests/oracle`` and, in another language, in ``verifier.mjs``.
"""
