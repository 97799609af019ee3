"""The miniature's rewards through Ray: the same scores as in this process, also when an actor is killed."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("ray")

from mmreward import Engine, Media, Sample
from mmreward.cluster import RayPlacement
from mmreward.engine.batching import Budget
from mmreward.mini.world import describe, render, sample_scene

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(200)]

REWARDS = {
    "match": {"reward": "clipscore", "weights": "mini-clip"},
    "clean": {"reward": "artifact", "classifier": "mini-artifact"},
    "checklist": {"judge": "mini-vlm"},
}
GRANTS = {"mini-vlm": {"actors": 2}}


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Pictures as files, bytes and arrays; one file is not there."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    made = []
    for index in range(12):
        scene = sample_scene(rng)
        picture = render(scene, 48)
        picture.save(path := folder / f"{index}.png")
        source = (path, path.read_bytes(), np.asarray(picture))[index % 3]
        made.append(Sample(id=str(index), prompt=str(describe(scene)), image=Media(source)))
    made.append(Sample(id="gone", prompt="a red circle", image=Media(folder / "gone.png")))
    return made


def equal(ours, theirs):
    for name, column in theirs.items():
        for one, other in zip(ours[name], column, strict=True):
            assert (one.status, one.note) == (other.status, other.note)
            if one.ok:
                assert one.value == pytest.approx(other.value, abs=1e-5)
                assert dict(one.parts) == pytest.approx(dict(other.parts), abs=1e-5)


def test_scores_equal_those_in_process_and_survive_a_killed_actor(samples):
    with Engine("cpu") as engine:
        expected = engine.score(samples, REWARDS)
    assert [score.status for score in expected["match"]] == ["ok"] * 12 + ["missing"]
    placement = RayPlacement(actors=1, num_cpus=0.25, networks=GRANTS, restarts=0)
    # Small batches and no cache, so that there is something under way when the actor is killed.
    with Engine(placement=placement, budget=Budget(items=2), cache_bytes=0) as engine:
        equal(engine.score(samples, REWARDS), expected)
        stats = engine.stats()
        assert stats.resident_bytes > 1_000_000
        assert all(entry.forward_seconds > 0 for entry in stats.networks.values())
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(engine.score, samples * 4, {"checklist": REWARDS["checklist"]})
            while engine.stats().networks["mini-vlm"].batches == stats.networks["mini-vlm"].batches:
                time.sleep(0.005)
            os.kill(pid_of_a_judge(placement), signal.SIGKILL)
            again = running.result(120)
        equal(again, {"checklist": expected["checklist"] * 4})
        assert engine.stats().lost > 0


def pid_of_a_judge(placement):
    import ray

    (judges,) = [pool for pool in placement._pools.values() if pool.network.name == "mini-vlm"]
    place = next(place for place in judges.places if place.ready)
    state = ray._private.state.actors(place.actor._actor_id.hex())
    return state["Pid"]
