"""Signing a baseline inventory: the devices that a centre had before the ones it claims as newly added."""

from __future__ import annotations

import os
from pathlib import Path

from bench.errors import InputError
from bench.record import read_yaml, write_atomic
from certify.documents import PAYLOAD_TYPE, Baseline, make_document
from certify.dsse import seal
from certify.sealing import load_signing_key


def sign_baseline(inventory: Path, key: Path, passphrase_file: Path | None, out: Path) -> int:
    """Sign a YAML inventory and return the number of its devices.

    Raises:
        InputError, RefusedError: the inventory or the key is not acceptable, or `out` exists.
    """
    if os.path.lexists(out):
        raise InputError("output-exists", "exists already", where=out, fix="choose another file")
    baseline = read_yaml(inventory, Baseline)
    payload = make_document("baseline", baseline)
    write_atomic(out, seal(payload, PAYLOAD_TYPE, [load_signing_key(key, passphrase_file)]))
    return len(baseline.devices)
