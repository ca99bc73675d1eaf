"""A new registry's folder: its settings with a word on each, its database, and the trust root that it begins with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from bench.errors import InputError, RefusedError
from bench.record import parse_yaml, read_given, refuse_existing, write_atomic
from bench.record.files import state_dir
from certify.documents.caps import CAPS
from certify.keys.loading import load_signing_key
from certify.policy.centre import Bilingual
from certify.registry.base.registry import FILE, RegistryFolder, Settings, load_place
from certify.registry.base.rehearsal import check_root_name, settle_kind
from certify.registry.storage.opening import open_database
from certify.registry.storage.store import Store
from certify.trust.root import read_versions
from certify.trust.store import Memory, accept_files

TEMPLATE = """\
# A registry of computing centres' capacity statements. Paths are relative to this folder.
# Serve it with: petaseal registry serve {root}

name: {{zh: {zh}, en: {en}}}

# Whose signatures count (petaseal trust). Put the next version in its place: it is accepted by the keys of this one.
trust: {trust}

# The registry's own key, which signs receipts; its role in the trust root is registry.
key: {key}
{passphrase}
# sqlite is a file in this folder; or a PostgreSQL server: postgresql+psycopg://user@host/name
database: {database}

# City policies that are rolled up, and further policy and profile files that statements may be judged by.
cities: [guangzhou-2027, wuhan-2025]
policies: []
profiles: []

# A centre that a city expects and that never submitted leaves its verdicts open. All with an operator's key in the
# trust root are expected in every city that is not listed here (guangzhou-2027: [gz-nansha, gz-huangpu]). Of `closed`
# ones nothing is expected, though their last statement has expired.
expected: {{}}
closed: []

public_read: true  # false: reading needs a token
accept_simulated: {simulated}  # simulated statements are for trying things out, and in no sum
rehearsal: {rehearsal}  # simulated statements alone, and they add up: it proves nothing. It is fixed for good
stale_after_s: 300  # a node that was not heard of for so long is not schedulable
trust_grace_s: 2592000  # how long the last good trust root is followed after it expired: 30 days
challenge_s: 2592000  # how long a challenge may be answered: 30 days

# Bodies of refused submissions are dropped after so many days, and the oldest of them beyond so many bytes. What was
# decided of them stays, with their digests.
refused_days: 90
refused_bytes: 10737418240

limits:
  requests_per_minute: 20000  # of one token, or of one address without a token
  burst: 1000
  submissions_per_hour: 600  # of one token: each costs a verification
  upload_bytes: 4294967296  # of one body, after it is unpacked
  body_idle_s: 30
  header_s: 20
  verifying: 1  # statements that are verified at once, each in a process
"""


class InitOptions(NamedTuple):
    """The options that a new registry is made with."""

    root: Path
    key: Path
    trust: Path
    fingerprint: str | None
    name: Bilingual
    passphrase_file: Path | None = None
    database: str = "sqlite"
    simulated: bool = False
    rehearsal: bool = False


class InitResult(NamedTuple):
    """A registry that was made, with the key and trust root that it begins with."""

    settings: Path
    keyid: str
    trust_id: str
    fingerprint: str
    not_checked: tuple[str, ...]


def init_registry(options: InitOptions, now: str) -> InitResult:
    """Make a registry's folder: settings last, so that what went wrong before can be done again.

    Raises:
        InputError: `output-exists`, `settings-invalid`, `database-unavailable`, or a file cannot be read or written.
        RefusedError: the trust root is not accepted, or the key is no registry's in it (`key-not-trusted`).
    """
    root = options.root
    file = root / FILE
    refuse_existing(file, "edit it, or choose another folder")
    # `load_place` asks the same, but would speak of a file that does not exist yet
    if options.database != "sqlite" and not options.database.startswith("postgresql"):
        fix = "give sqlite, or postgresql+psycopg://user@host/name"
        raise InputError("settings-invalid", "is neither sqlite nor a PostgreSQL server", where="--database", fix=fix)
    keyid = load_signing_key(options.key, options.passphrase_file).public.keyid
    content = settings_text(options)
    settings = parse_yaml(content, Settings, file)
    fingerprint = options.fingerprint or known_fingerprint(options.trust)
    # without a memory: a root that is refused must leave nothing in the folder
    checked = accept_files((options.trust,), now, None, fingerprint)
    if checked.trusted.role_of(keyid) != "registry":
        what = f"the key {keyid} has not the role of a registry in the trust root"
        fix = "petaseal trust add --role registry"
        raise RefusedError("key-not-trusted", what, where=options.key, fix=fix)
    assert checked.root is not None
    check_root_name(checked.root.root.trust_id, options.rehearsal, options.trust)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("output-not-writable", f"cannot be made ({error.strerror})", where=root) from None
    place = RegistryFolder(root.resolve(), settings)
    # and now remembered: from here on only its successors are accepted
    accepted = accept_files((options.trust,), now, place.state, fingerprint)
    assert accepted.root is not None
    store = open_database(place.url, place.objects, place.root / FILE)
    try:
        settle_kind(store, options.rehearsal, now, file)
    finally:
        store.close()
    write_atomic(file, content, 0o600, new=True)  # the URL of a database may hold a password
    return InitResult(file, keyid, accepted.root.root.trust_id, accepted.root.fingerprint, accepted.not_checked)


def open_store(root: Path) -> Store:
    """Return the database of a registry's folder, at this version's tables; its key is not needed.

    Raises:
        InputError: `file-missing`, `database-unavailable`, or a code of its settings.
    """
    place = load_place(root)
    return open_database(place.url, place.objects, place.root / FILE)


def settings_text(options: InitOptions) -> bytes:
    """Return the text of the settings file."""
    passphrase = ""
    if options.passphrase_file is not None:
        passphrase = f"passphrase_file: {_path(options.passphrase_file, options.root)}\n"
    return TEMPLATE.format(
        root=options.root,
        zh=_text(options.name.zh),
        en=_text(options.name.en),
        trust=_path(options.trust, options.root),
        key=_path(options.key, options.root),
        passphrase=passphrase,
        database=_text(options.database),
        simulated=str(options.simulated or options.rehearsal).lower(),
        rehearsal=str(options.rehearsal).lower(),
    ).encode()


def known_fingerprint(trust: Path) -> str | None:
    """Return the fingerprint of a root that this user accepted before, None where it is another or unknown."""
    versions = read_versions(read_given(trust, CAPS.trust_chain_bytes), trust)
    known = Memory(state_dir() / "trust", versions[0].root.trust_id).root()
    return next(
        (one.fingerprint for one in versions if known is not None and known.fingerprint == one.fingerprint), None
    )


def _path(path: Path, root: Path) -> str:
    """Return a path as the settings name it: relative where it lies in the registry's folder."""
    absolute, base = path.resolve(), root.resolve()
    return _text(str(absolute.relative_to(base) if absolute.is_relative_to(base) else absolute))


def _text(text: str) -> str:
    # a JSON string is a YAML string, whatever stands in it
    return json.dumps(text, ensure_ascii=False)
