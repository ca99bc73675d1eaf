"""What may be claimed: documents, signatures, policies, statements and their verification.

From ``bench`` this room may import ``bench.record``, ``bench.units`` and ``bench.errors`` only, so that a verifier
installs and runs without torch or numpy. The one exception is the room of commands (``certify.commands``), where the
command line of both rooms stands.
"""
