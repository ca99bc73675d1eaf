"""Fuzzing: every parser of what somebody else sends, fed with bytes that nobody means.

``make fuzz`` runs each target of `tests.fuzz.targets` under a coverage-guided fuzzer, from the seeds in ``corpus``;
``python -m tests.fuzz.seeds`` makes the seeds anew where a format has changed.
"""
