"""The house's rules about imports, read off the folders: layers, no circles, rooms free of torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"mmreward": "mmreward", "generators": "mmreward.generators", "evals": "mmreward.evals"}
LAYERS = (
    ("core",),  # the files directly in mmreward/
    ("engine",),
    ("models", "isolation"),
    ("verifiers",),
    ("data",),
    ("monitor",),
    ("rewards",),
    ("adapters", "mini", "cluster", "tune"),
    ("search", "judges", "server", "generators"),
    ("evals", "cli"),
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
DATA = ("assets", "configs")
"""Packages of files, which any layer may read."""
CLIMBING = {
    ("registry", "rewards"): "finding a reward by its name",
    ("loading", "isolation"): "`python=` loads a reward in another interpreter",
    ("loading", "engine"): "`frames=` scores clips, whose decoded frames the engine keeps",
    ("engine.engine", "cluster"): "an engine's description may ask for Ray",
    ("rewards.oracle", "mini"): "the miniature's reward without a learned model",
    ("rewards.pictures.geneval", "mini"): "the same eyes in place of a detector",
}
"""The lazy imports that point upwards, each with its reason."""
LIGHT = ("core", "engine", "isolation", "verifiers", "data", "rewards", "adapters", "cluster", "server")
HEAVY = (
    "torch",
    "torchvision",
    "transformers",
    "open_clip",
    "diffusers",
    "accelerate",
    "peft",
    "trl",
    "PIL",
    "av",
    "ray",
)
ABOUT_TENSORS = {
    "generator": "the protocol of generators",
    "sampling": "draws from a generator",
    "media_tensors": "media on a device",
    "data.pair_folder": "re-encodes pictures",
    "adapters.trl_gate": "a trainer, which is a subclass of TRL's",
    "adapters.trl_sources": "the same",
    "adapters.trl_stable": "the same",
}
"""Modules of light rooms whose business is tensors or pictures."""


def modules() -> Iterator[tuple[str, Path]]:
    """(name without the leading "mmreward.", file) of everything that is installed."""
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            yield name.removeprefix("mmreward").removeprefix("."), path


def room_of(name: str) -> str:
    """The room of a module; a file that stands directly in mmreward/ is of the core."""
    first = name.split(".")[0]
    if first == "__main__":  # `python -m mmreward`
        return "cli"
    return first if first in RANK or ((ROOT / "mmreward" / first).is_dir() and first) else "core"


@cache
def imports(path: Path) -> tuple[tuple[str, bool], ...]:
    """(absolute name, whether it is imported together with the file) of every import, types only left out."""
    folder = path.relative_to(ROOT).parts[0]
    package = [*FOLDERS[folder].split("."), *path.relative_to(ROOT / folder).parent.parts]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy: set[int] = set()
    types: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lazy.update(map(id, ast.walk(node)))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            types.update(map(id, ast.walk(node)))
    found = []
    for node in ast.walk(tree):
        if id(node) in types:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            found += [(f"{stem}.{alias.name}", id(node) not in lazy) for alias in node.names]
    return tuple(found)


def ours(path: Path) -> Iterator[tuple[str, bool]]:
    """The imports of our own modules, without the leading "mmreward."."""
    for name, at_the_top in imports(path):
        head, _, rest = name.partition(".")
        if head == "mmreward" and rest.split(".")[0] not in DATA:
            yield rest, at_the_top


def test_every_room_has_a_layer():
    rooms = {room_of(name) for name, path in modules()}
    assert rooms <= set(RANK), f"name the layer of {sorted(rooms - set(RANK))} in LAYERS"


def test_no_import_points_upwards():
    """The package's face is exempt: it names what users import. `cli` stands on top of everything."""
    found = []
    for name, path in modules():
        if name:
            for target, at_the_top in ours(path):
                here, there = room_of(name), room_of(target)
                allowed = not at_the_top and (name, there) in CLIMBING
                if RANK[there] > RANK[here] and not allowed:
                    found.append(f"{name} ({here}) imports {target} ({there})")
    assert not found


def test_every_exception_is_in_use():
    used = {(name, room_of(target)) for name, path in modules() for target, _ in ours(path)}
    assert set(CLIMBING) <= used
    names = {name for name, _ in modules()}
    assert set(ABOUT_TENSORS) <= names


def test_no_packages_import_each_other_in_a_circle():
    known = {name for name, _ in modules()}
    packages = {name for name, path in modules() if path.name == "__init__.py"}
    edges: dict[str, set[str]] = {}
    for name, path in modules():
        here = name if name in packages else name.rpartition(".")[0]
        for target, at_the_top in ours(path):
            while target and target not in known:
                target = target.rpartition(".")[0]
            there = target if target in packages else target.rpartition(".")[0]
            inside = here == there or here.startswith(f"{there}.") or there == ""
            if at_the_top and not inside:
                edges.setdefault(here, set()).add(there)
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        pytest.fail(f"packages in a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("room", LIGHT)
def test_light_rooms_import_no_torch(room):
    found = [
        f"{name} imports {target}"
        for name, path in modules()
        if room_of(name) == room and name not in ABOUT_TENSORS and name != "cli"
        for target, at_the_top in imports(path)
        if at_the_top and target.split(".")[0] in HEAVY
    ]
    assert not found


def test_importing_and_listing_pull_in_no_torch():
    code = (
        "import sys, mmreward; mmreward.list_rewards(); "
        "print([m for m in ('torch', 'transformers', 'open_clip', 'pydantic') if m in sys.modules])"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


def test_modules_are_of_a_size_to_be_read():
    """None above 450 lines; a module below 60 is a reward, a worker or a package's face."""
    long = [f"{name}: {lines}" for name, lines in sizes() if lines > 450]
    assert not long


def sizes() -> list[tuple[str, int]]:
    return [(name, path.read_text(encoding="utf-8").count("\n")) for name, path in modules()]
