"""An operator's options for Kubernetes: texts "name=value", each checked for its form before anything is made of it.

Pure. A form that Kubernetes would refuse is refused here, since a Job that can never start looks like one that waits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bench.errors import InputError

STATE_DIR = "/var/lib/petaseal"
MACHINE = "/etc/machine-id"
WRITABLE = ("/", "/tmp", STATE_DIR)  # noqa: S108 (what the pod mounts itself)
VENDORS = "vendor"  # stands for the host's paths that the table of vendors lists
RESERVED = ("HOME", "PETASEAL_STATE", "PETASEAL_NODE")
LABELS = "app.kubernetes.io/"
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
KEY = re.compile(rf"(?:{SUBDOMAIN.pattern.replace('(?=.{1,253}$)', '')}/)?{VALUE.pattern}")
MAX_VALUE = 4096  # characters of an annotation or a variable
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


class Toleration(NamedTuple):
    """A taint that a gang's pods tolerate."""

    key: str
    value: str | None
    effect: str

    def manifest(self) -> dict[str, str]:
        """Return it as Kubernetes writes it."""
        if self.value is None:
            return {"key": self.key, "operator": "Exists", "effect": self.effect}
        return {"key": self.key, "operator": "Equal", "value": self.value, "effect": self.effect}


class Options(NamedTuple):
    """What an operator says of the cluster: each field is an option "name=value", with "-" for "_"."""

    image: str
    claim: str  # a PersistentVolumeClaim (ReadWriteMany) with the file system that holds the campaign's folder
    mount: str  # where that file system is mounted, on the operator's host and so in the pods
    program: str = "petaseal"  # the program inside the image; it takes the place of a command's first word
    namespace: str | None = None
    user: str | None = None  # "UID:GID" of the pods; the image's own without it
    # Further group ids, such as those of the device files; without any the vendor's, where its number is known
    group: tuple[str, ...] = ()
    toleration: tuple[str, ...] = ()
    node_selector: tuple[str, ...] = ()  # labels that a gang's nodes must bear beside the partition's
    label: tuple[str, ...] = ()
    annotation: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    # What a gang's pods see of their hosts, read-only at the same path; "vendor" stands for the vendor's list
    host_path: tuple[str, ...] = ()
    scheduler: str | None = None
    runtime_class: str | None = None
    pull_secret: str | None = None
    # A folder of every host that keeps the node's own key; without it each pod makes one for itself
    state: str | None = None
    # Requests of a gang's pod; by default 2 cores and 4 GiB a device: one without any is the last to run
    cpu: str | None = None
    memory: str | None = None
    seccomp: str = "RuntimeDefault"


def is_path(text: str) -> bool:
    """Return whether a text is an absolute path that Kubernetes can mount: no "..", no colon."""
    return re.fullmatch(r"(/[^/:\0]+)+", text) is not None and not {".", ".."} & set(text.split("/"))


def is_toleration(text: str) -> bool:
    """Return whether a text is "KEY:EFFECT" or "KEY=VALUE:EFFECT"."""
    taint, _, effect = text.rpartition(":")
    return effect in EFFECTS and is_label(taint if "=" in taint else f"{taint}=x")


def is_label(text: str) -> bool:
    """Return whether a text is "KEY=VALUE" of a label."""
    key, equals, value = text.partition("=")
    return bool(equals and KEY.fullmatch(key) and (not value or VALUE.fullmatch(value)))


def is_annotation(text: str) -> bool:
    """Return whether a text is "KEY=VALUE" of an annotation."""
    key, equals, value = text.partition("=")
    return bool(equals and KEY.fullmatch(key) and value.isprintable() and len(value) <= MAX_VALUE)


def is_variable(text: str) -> bool:
    """Return whether a text is "NAME=VALUE" of an environment variable that the manifest does not set itself."""
    name, equals, value = text.partition("=")
    known = name not in RESERVED and re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII)
    return bool(equals and known and value.isprintable() and len(value) <= MAX_VALUE)


def matches(pattern: str) -> Callable[[str], bool]:
    """Return whether a whole text has a form."""
    return lambda text: re.fullmatch(pattern, text) is not None


QUANTITY = matches(r"[1-9]\d*(m|[kMGT]i?)?")
NAME = matches(SUBDOMAIN.pattern)
ACCEPT: dict[str, tuple[Callable[[str], bool], str]] = {  # the form of each option, and an example of it
    "image": (matches(r"[A-Za-z0-9][\w./:@-]*"), "REPOSITORY/petaseal:0.2.0"),
    "claim": (NAME, "campaigns"),
    "mount": (lambda text: is_path(text) and text not in WRITABLE, "/lustre/campaigns"),
    "program": (matches(r"[\w./+-]+"), "/usr/local/bin/petaseal"),
    "namespace": (matches(LABEL.pattern), "hpc"),
    "user": (matches(r"\d{1,9}:\d{1,9}"), "1000:1000"),
    "group": (matches(r"\d{1,9}"), "44"),
    "toleration": (is_toleration, "dedicated=hpc:NoSchedule"),
    "label": (
        lambda text: is_label(text) and not text.startswith((LABELS, "batch.kubernetes.io/")),
        "kueue.x-k8s.io/queue-name=hpc",
    ),
    "node-selector": (is_label, "accelerator-type=module-910b-8"),
    "annotation": (is_annotation, "huawei.com/schedule_policy=chip8-node8"),
    "env": (is_variable, "LD_LIBRARY_PATH=/usr/local/Ascend/driver/lib64"),
    "host-path": (
        lambda text: text == VENDORS or (is_path(text) and text not in (*WRITABLE, MACHINE)),
        "/usr/local/Ascend/driver/lib64",
    ),
    "scheduler": (NAME, "volcano"),
    "runtime-class": (NAME, "nvidia"),
    "pull-secret": (NAME, "registry"),
    "state": (is_path, "/var/lib/petaseal"),
    "cpu": (QUANTITY, "64"),
    "memory": (QUANTITY, "512Gi"),
    "seccomp": (lambda text: text in ("RuntimeDefault", "Unconfined"), "Unconfined"),
}
REPEATED = ("group", "toleration", "node-selector", "label", "annotation", "env", "host-path")
KEYED = ("node-selector", "label", "annotation", "env")  # of which each key can be given once
NEEDED = ("image", "claim", "mount")


def parse_options(given: Sequence[str]) -> Options:
    """Return an operator's options for Kubernetes.

    Args:
        given: texts "name=value".

    Raises:
        InputError: one is unknown, has another form or is given twice, or one that is needed is missing.
    """
    single: dict[str, str] = {}
    several: dict[str, list[str]] = {name: [] for name in REPEATED}
    for text in given:
        name, equals, value = text.partition("=")
        if name not in ACCEPT or not equals:
            fix = f"choose from {', '.join(f'{one}=...' for one in ACCEPT)}"
            raise InputError("option-unknown", f"there is no option {text!r} for Kubernetes", fix=fix)
        check(name, value)
        if name in several:
            several[name].append(value)
        elif name in single:
            raise InputError("option-invalid", "is given twice", where=name)
        else:
            single[name] = value
    for name in KEYED:
        keys = [text.partition("=")[0] for text in dict.fromkeys(several[name])]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise InputError("option-invalid", f"{twice[0]} is given twice", where=name)
    if missing := [name for name in NEEDED if name not in single]:
        what = f"Kubernetes needs the option{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        fix = " ".join(f"--engine-option {name}={ACCEPT[name][1]}" for name in missing)
        raise InputError("option-missing", what, fix=f"such as {fix}")
    fields: dict[str, Any] = {**single, **{name: tuple(dict.fromkeys(texts)) for name, texts in several.items()}}
    return Options(**{name.replace("-", "_"): value for name, value in fields.items()})


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """Return texts "KEY=VALUE" as what they say."""
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def parse_tolerations(texts: Sequence[str]) -> tuple[Toleration, ...]:
    """Return the taints that are to be tolerated.

    Args:
        texts: "KEY:EFFECT" (whatever its value) or "KEY=VALUE:EFFECT".

    Raises:
        InputError: one has another form.
    """
    tolerations = []
    for text in texts:
        check("toleration", text)
        taint, _, effect = text.rpartition(":")
        key, equals, value = taint.partition("=")
        tolerations.append(Toleration(key, value if equals else None, effect))
    return tuple(tolerations)


def parse_partition(partition: str) -> tuple[str, str]:
    """Return the node label that stands for a partition, which Kubernetes does not have.

    Args:
        partition: such as "pool=a800".

    Raises:
        InputError: it has another form.
    """
    if not is_label(partition):
        fix = "give a label of the nodes, such as pool=a800"
        raise InputError("partition-unknown", "is no label of Kubernetes nodes", where=partition, fix=fix)
    key, _, value = partition.partition("=")
    return key, value


def check(name: str, value: str) -> None:
    """Refuse an option's value of another form.

    Raises:
        InputError: it has another form.
    """
    accepts, example = ACCEPT[name]
    if not accepts(value):
        raise InputError("option-invalid", f"{value!r} cannot be used", where=name, fix=f"such as {name}={example}")
