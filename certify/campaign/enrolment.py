"""Enrolling the nodes' keys in a campaign: the operator says beforehand which key each node's record must bear.

A node makes its key on first use (`keys.node_key`); ``petaseal keys node`` writes the public half, and the operator
gathers these files, one for each node, before the campaign is opened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from bench.errors import InputError
from bench.record.roster import RosterNode
from certify.keys import files as keys
from certify.policy.policies import Policy

SUFFIX = ".pub"


def read_node_keys(folder: Path) -> dict[str, str]:
    """Return the key ids in a folder of public keys, by the node that each file ``NAME.pub`` is named after.

    Raises:
        InputError: `node-keys-invalid`, there is none, or one key stands there twice; or a code of `keys.load_public`.
        RefusedError: a key is weak or of an unsupported algorithm.
    """
    if not folder.is_dir():
        raise InputError("node-keys-invalid", "is not a folder of public keys", where=folder)
    files = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX) and not path.name.startswith("."))
    if not files:
        fix = "run on every node: petaseal keys node --out FOLDER/NODE.pub"
        raise InputError("node-keys-invalid", f"holds no file NODE{SUFFIX}", where=folder, fix=fix)
    keyids: dict[str, str] = {}
    holders: dict[str, str] = {}
    for path in files:
        keyid = keys.load_public(path, shared=True).keyid
        if (other := holders.setdefault(keyid, path.name)) != path.name:
            what = f"is the key of {other} too: every node has a key of its own"
            raise InputError("node-keys-invalid", what, where=path)
        keyids[path.name.removesuffix(SUFFIX)] = keyid
    return keyids


def enrolled_keys(
    nodes: Iterable[RosterNode], given: Mapping[str, str], left_out: Collection[str], policies: Iterable[Policy]
) -> dict[str, str]:
    """Return the enrolled key of each node by its id.

    Args:
        nodes: that take part.
        given: key ids by the engine's name of a node, or by its id.
        left_out: names and ids of nodes that do not take part, whose keys are of no use.
        policies: of the campaign.

    Raises:
        InputError: `node-unknown`, a key is of no such node; `node-keys-missing`, a policy demands one that is
            not there.
    """
    enrolled: dict[str, str] = {}
    known = set(left_out)
    demanding = next((policy.policy for policy in policies if policy.node_keys == "enrolled"), None)
    for node in nodes:
        known |= {node.name, node.node_id}
        if (keyid := given.get(node.name) or given.get(node.node_id)) is not None:
            enrolled[node.node_id] = keyid
        elif demanding is not None:
            what = f"demands an enrolled key for every node, and {node.name} has none"
            fix = "give the folder of the nodes' public keys with --node-keys"
            raise InputError("node-keys-missing", what, where=f"policy {demanding}", fix=fix)
    if unknown := sorted(given.keys() - known):
        raise InputError("node-unknown", f"there is no node {unknown[0]!r}", where="--node-keys")
    return enrolled
