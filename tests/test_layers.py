"""kernels <- bench <- certify: nothing imports against the arrow, and nothing heavy is imported at module level.

The rooms of `certify` stand in one order (`ROOMS`), and an import leads downwards only: late imports and those under
``TYPE_CHECKING`` count. What still leads upwards is listed by name, and an entry that nothing needs fails.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import importing
from tests.house import House, circles
from tests.importing import Import

ROOT = Path(__file__).resolve().parent.parent
OURS = ("kernels", "bench", "certify")
CERTIFY_MAY_IMPORT = {
    "bench.errors",
    "bench.host.python_start",
    "bench.language",
    "bench.record",
    "bench.terminal.summary",
    "bench.units",
}
COMMANDS = "certify/commands/"
ROOMS = (
    "commands",
    "registry",
    "report",
    "fleet",
    "audit",
    "campaign",
    "verify",
    "statement",
    "samples",
    "trust",
    "judge",
    "evidence",
    "documents",
    "policy",
    "keys",
    "offline",
    "workers",
)
REGISTRY_ROOMS = ("service", "web", "maintenance", "intake", "state", "base", "storage", "client", "api")
MOST_FILES = 16  # of one folder, `__init__.py` left out
UPWARDS: dict[str, set[str]] = {}  # module -> what it imports against the order; each goes with the split of a room
CIRCLES: set[frozenset[str]] = set()  # modules that all lead to one another
HEAVY = {"torch", "cupy", "pynvml"}


def imports(path: Path) -> tuple[Import, ...]:
    """Return everything that a file of ours imports."""
    return importing.imports(path.read_text(), path.relative_to(ROOT).as_posix())


def module_of(path: Path) -> str:
    """Return the import name of a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for room in OURS for path in sorted((ROOT / room).rglob("*.py"))}


def imported(path: Path) -> set[str]:
    """Return which of our own modules a file imports."""
    names = {name for name, _ in imports(path)}
    return {name if name in MODULES else name.rpartition(".")[0] for name in names if name.split(".")[0] in OURS}


def allowed(room: str, file: str, module: str) -> bool:
    target = module.split(".")[0]
    if target not in OURS or target == room or file.startswith(COMMANDS):
        return True
    if room == "bench":
        return target == "kernels"
    return room == "certify" and any(f"{module}.".startswith(f"{name}.") for name in CERTIFY_MAY_IMPORT)


@pytest.mark.parametrize("room", OURS)
def test_imports_follow_the_arrow(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        file = path.relative_to(ROOT).as_posix()
        for module, _ in imports(path):
            assert allowed(room, file, module), f"{file} imports {module}"


def floor(module: str, rooms: tuple[str, ...], depth: int) -> int | None:
    """Return how far down a module's room stands, or None for what belongs to no room."""
    parts = module.split(".")
    return rooms.index(parts[depth]) if len(parts) > depth and parts[depth] in rooms else None


def upwards(prefix: str, rooms: tuple[str, ...]) -> dict[str, set[str]]:
    """Return each module under a package with what it imports from a room above its own."""
    depth = len(prefix.split("."))
    found: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        if module.startswith(f"{prefix}.") and (own := floor(module, rooms, depth)) is not None:
            for other in imported(path):
                there = floor(other, rooms, depth) if other.startswith(f"{prefix}.") else None
                if there is not None and there < own:
                    found.setdefault(module, set()).add(other)
    return found


def test_the_rooms_of_certify_stand_in_their_order() -> None:
    assert upwards("certify", ROOMS) == UPWARDS


def test_the_rooms_of_the_registry_stand_in_their_order() -> None:
    assert upwards("certify.registry", REGISTRY_ROOMS) == {}


def test_the_circles_that_are_left_are_known() -> None:
    assert House(ROOT).circles() == CIRCLES


def test_every_module_of_certify_stands_in_a_room() -> None:
    outside = {module for module in MODULES if module.startswith("certify.") and floor(module, ROOMS, 1) is None}
    assert outside == {"certify.__main__"}
    inside = [module for module in MODULES if module.startswith("certify.registry.")]
    assert all(floor(module, REGISTRY_ROOMS, 2) is not None for module in inside)


def test_no_folder_of_certify_is_crowded() -> None:
    folders = [path for path in (ROOT / "certify").rglob("*") if path.is_dir() and path.name != "__pycache__"]
    assert folders
    for folder in folders:
        files = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= MOST_FILES, f"{folder.relative_to(ROOT)} holds {len(files)} modules"


def test_tests_stand_where_their_modules_stand() -> None:
    rooms = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests" / "certify").rglob("test_*.py")}
    missing = {room for room in rooms if room.name != "golden" and not (ROOT / room).is_dir()}
    assert not missing


@pytest.mark.parametrize("room", OURS)
def test_heavy_libraries_are_imported_where_they_are_needed(room: str) -> None:
    for path in sorted((ROOT / room).rglob("*.py")):
        for module, at_top in imports(path):
            assert not (at_top and module.split(".")[0] in HEAVY), f"{path} imports {module} at module level"


def test_the_check_would_notice() -> None:
    assert not allowed("kernels", "kernels/x.py", "bench.units")
    assert not allowed("bench", "bench/x.py", "certify.keys")
    assert not allowed("certify", "certify/x.py", "bench.engine.node")
    assert not allowed("certify", "certify/x.py", "kernels.gemm_numpy")
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {frozenset("bc")}
    assert floor("certify.trust.root", ROOMS, 1) == ROOMS.index("trust")
    assert floor("certify.keys.signers.sm2", ROOMS, 1) == ROOMS.index("keys")
    assert {"bench.record", "certify.policy.ratings"} <= imported(MODULES["certify.judge.plausibility"])


@pytest.mark.parametrize(
    "module",
    ["certify.verify.verifier", "certify.statement.build", "certify.statement.records", "certify.commands.root"],
)
def test_a_verifier_never_imports_numpy_or_torch(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('numpy', 'torch', 'cupy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
