"""A cluster this process started is gone when the engine is closed; one it joined is left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")

SCRIPT = """
import asyncio, sys
from cluster.networks import Travelling
from support.toys import Item
from mmreward import Engine
from mmreward.cluster import RayPlacement

options = {"actors": 1, "num_cpus": 0.5, "address": "local"}
with Engine(placement=RayPlacement(**options)) as engine, Engine(placement=RayPlacement(**options)) as second:
    for one in (engine, second):
        async def ask():
            return await one.submit(Travelling(), "op", Item(1))
        print(one.run(ask())[1])
    second.close()
    import ray
    print("still", ray.is_initialized())
print("left", ray.is_initialized())
"""


@pytest.mark.timeout(120)
def test_no_process_of_ray_is_left_after_close():
    mark = f"MMREWARD_TEST={os.getpid()}"
    tests = str(Path(__file__).parents[1])
    done = python(SCRIPT, env={**os.environ, "PYTHONPATH": tests, "MMREWARD_TEST": str(os.getpid())})
    assert done.stdout.split() == ["1", "1", "still", "True", "left", "False"], done.stderr
    assert not marked(mark)


def python(code, env=None):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=110, check=False)


def marked(variable):
    """Processes with this in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                if variable.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((entry / "cmdline").read_bytes())
            except OSError:  # it has ended since, or is not ours to look at
                continue
    return found


def test_without_ray_the_error_says_what_to_install():
    code = "import sys; sys.modules['ray'] = None\n"
    code += "from mmreward.cluster import RayPlacement\nfrom mmreward import Engine\n"
    code += "try: Engine(placement=RayPlacement())\nexcept ValueError as error: print(error)"
    done = python(code)
    assert done.stdout.strip() == 'this needs Ray: pip install "mmreward[ray]"', done.stderr
