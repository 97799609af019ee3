"""An engine whose batches run in Ray actors: real processes that are killed, and all calls answered."""

import asyncio
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pace import allowed
from support.toys import Item

pytest.importorskip("ray")

from cluster.networks import Homebound, Travelling, Unwilling

from mmreward import Engine, Unscorable
from mmreward.cluster import Grant, RayPlacement
from mmreward.cluster.pool import rendezvous
from mmreward.config import load_config
from mmreward.engine.batching import Budget

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(90)]


NAMES = st.lists(st.tuples(st.text(), st.integers()), min_size=1)


def ray_engine(budget=None, **options):
    return Engine(placement=RayPlacement(**{"num_cpus": 0.5, **options}), budget=budget)


@pytest.fixture(scope="module")
def engine():
    with ray_engine() as engine:
        yield engine


@pytest.fixture(scope="module")
def network(engine):
    """Its two actors are up."""
    network = Travelling()
    while len({pid for pid, _ in ask(engine, network, [Item(i) for i in range(20)])}) < 2:
        time.sleep(0.05)
    return network


def ask(engine, network, items, *, share=None, timeout=60):
    async def gathered():
        async with asyncio.timeout(timeout):
            calls = [engine.submit(network, "op", item, share=share and share(item)) for item in items]
            return await asyncio.gather(*calls, return_exceptions=True)

    return engine.run(gathered())


def ids(results):
    return [result[1] if isinstance(result, tuple) else result for result in results]


# --- routing --------------------------------------------------------------------------------------


def test_batches_run_in_other_processes_and_work_is_spread(engine, network):
    results = ask(engine, network, [Item(i) for i in range(100)])
    assert ids(results) == list(range(100))
    counts = [sum(pid == one for pid, _ in results) for one in {pid for pid, _ in results}]
    assert os.getpid() not in {pid for pid, _ in results} and counts == [50, 50]
    assert engine.stats().networks["travelling"].forward_seconds > 0
    assert engine.stats().resident_bytes == 14


def test_calls_with_one_share_meet_in_one_actor_and_come_back_to_it(engine, network):
    items = [Item(i) for i in range(60)]
    first = ask(engine, network, items, share=lambda item: f"picture {item.id % 6}")
    again = ask(engine, network, items[::-1], share=lambda item: f"picture {item.id % 6}")[::-1]
    homes = [{pid for pid, i in first + again if i % 6 == picture} for picture in range(6)]
    assert all(len(home) == 1 for home in homes) and len(set.union(*homes)) == 2


@given(
    names=st.lists(st.tuples(st.text(), st.integers()), min_size=1), count=st.integers(2, 6), gone=st.data()
)
def test_only_the_names_of_the_one_that_goes_are_moved(names, count, gone):
    slots = list(range(count))
    lost = gone.draw(st.sampled_from(slots))
    rest = [slot for slot in slots if slot != lost]
    for name in names:
        before = rendezvous(name, slots, int)
        assert before == lost or rendezvous(name, rest, int) == before


# --- failures -------------------------------------------------------------------------------------


def test_a_poison_item_fails_alone_with_its_own_error(engine, network):
    poisons = {3: "forward", 7: "refuse", 9: "stranger"}
    results = ask(engine, network, [Item(i, poison=poisons.get(i, "")) for i in range(20)])
    assert isinstance(results[3], ValueError) and str(results[3]) == "forward 3"
    assert isinstance(results[7], Unscorable) and results[7].status == "out_of_range"
    assert isinstance(results[9], RuntimeError) and str(results[9]) == "Stranger: stranger 9"
    assert [i for i in ids(results) if isinstance(i, int)] == [i for i in range(20) if i not in poisons]


def test_an_item_that_cannot_be_sent_fails_alone(engine, network):
    items = [Item(i, poison="" if i != 4 else threading.Lock()) for i in range(10)]
    results = ask(engine, network, items)
    assert isinstance(results[4], Exception) and ids(results[:4] + results[5:]) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_a_lack_of_memory_in_an_actor_halves_the_batch(engine):
    small = Travelling("small", capacity=3)
    assert ids(ask(engine, small, [Item(i) for i in range(40)])) == list(range(40))
    assert engine.stats().out_of_memory > 0


def test_an_item_that_kills_its_actor_is_blamed_and_the_others_survive():
    with ray_engine() as engine:
        results = ask(engine, Travelling(), [Item(i, poison="exit" if i == 5 else "") for i in range(12)])
        again = ask(engine, Travelling(), [Item(1)])
    assert isinstance(results[5], Unscorable) and "places died" in str(results[5])
    assert ids(results[:5] + results[6:]) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert ids(again) == [1]


def test_an_actor_killed_in_the_middle_loses_nothing_and_is_replaced(engine, network):
    victim = ask(engine, network, [Item(0)])[0][0]
    lost = engine.stats().lost
    with ThreadPoolExecutor(1) as pool:
        items = [Item(i, poison="slow", tokens=2000) for i in range(100)]
        running = pool.submit(ask, engine, network, items)
        while engine.stats().calls < 100:
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(victim, signal.SIGKILL)
        assert ids(running.result(60)) == list(range(100))
    assert engine.stats().lost > lost
    deadline = time.monotonic() + 30
    while len(pids := {pid for pid, _ in ask(engine, network, [Item(i) for i in range(10)])}) < 2:
        assert time.monotonic() < deadline, "it was not replaced"
        time.sleep(0.05)
    assert victim not in pids


def test_with_no_restarts_left_calls_fail_at_once_and_say_why():
    with ray_engine(actors=1, restarts=0) as engine:
        network = Travelling()
        ((pid, _),) = ask(engine, network, [Item(0)])
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while not isinstance((result := ask(engine, network, [Item(1)])[0]), Unscorable):
            assert time.monotonic() < deadline
        begun = time.monotonic()
        (late,) = ask(engine, network, [Item(2)])
        assert time.monotonic() - begun < allowed(1, time.monotonic)
    assert "no actor of travelling is left" in str(result) and "died" in str(late).lower()


def test_actors_that_never_come_up_are_named_with_what_they_want_and_what_there_is():
    with ray_engine(num_gpus=3, ready_seconds=0.5) as engine:
        begun = time.monotonic()
        results = ask(engine, Travelling(), [Item(i) for i in range(10)])
        assert time.monotonic() - begun < allowed(20, time.monotonic)
    assert all(isinstance(result, Unscorable) for result in results)
    assert "wants CPU 0.5, GPU 3; the cluster has CPU 4" in str(results[0])


def test_where_only_some_actors_come_up_the_others_do_their_work():
    with ray_engine(actors=3, num_cpus=1.5, ready_seconds=10) as engine:
        results = ask(engine, Travelling(), [Item(i) for i in range(30)], share=lambda item: str(item.id))
    assert ids(results) == list(range(30))


@pytest.mark.parametrize(
    ("kind", "reason"), [(Unwilling, "other weights lie here"), (Homebound, "cannot be sent")]
)
def test_a_network_that_cannot_be_sent_is_a_typed_error(engine, kind, reason):
    results = ask(engine, kind(), [Item(0), Item(1)])
    assert all(isinstance(result, Unscorable) and reason in str(result) for result in results)


# --- life cycle -----------------------------------------------------------------------------------


def test_sleep_unloads_in_the_actors_and_wake_loads_again(engine, network):
    ask(engine, network, [Item(i) for i in range(20)])
    resident = engine.stats().resident_bytes
    engine.sleep()
    assert resident > 0 and engine.stats().resident_bytes == 0 and engine.stats().swaps > 0
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, engine, network, [Item(5)])
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        engine.wake()
        assert ids(waiting.result(30)) == [5]
    assert engine.stats().resident_bytes == resident


def test_closing_kills_the_actors_and_leaves_others_ray_running(cluster):
    with ray_engine() as engine:
        ((pid, _),) = ask(engine, Travelling(), [Item(0)])
    deadline = time.monotonic() + 20
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert cluster.is_initialized()


def test_closing_with_calls_under_way_ends_them():
    engine = ray_engine(actors=1, budget=Budget(items=1))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, engine, Travelling(), [Item(i, poison="slow") for i in range(2000)])
        while engine.stats().calls < 2000:
            time.sleep(0.01)
        engine.close()
        with pytest.raises(BaseException):  # noqa: B017 - cancelled, whichever way it is spelt
            running.result(20)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_network_can_be_granted_more_than_the_others():
    placement = RayPlacement(actors=2, num_cpus=0.5, networks={"big": {"actors": 1, "num_cpus": 0.25}})
    with Engine(placement=placement) as engine:
        big = ask(engine, Travelling("big"), [Item(i) for i in range(10)])
    assert len({pid for pid, _ in big}) == 1


@pytest.mark.parametrize("wrong", [{"actors": 0}, {"num_gpus": -1}, {"restarts": -1}, {"ready_seconds": 0}])
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"actors|GPU|restarts|ready_seconds"):
        RayPlacement(**wrong)


def test_a_grant_names_what_it_wants():
    assert Grant(num_gpus=0.5, resources={"a100": 1}).wanted == {"CPU": 1.0, "GPU": 0.5, "a100": 1}


def test_the_ray_section_of_a_config_makes_such_an_engine(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(
        "rewards: {oracle: {}}\n"
        "engine: {items: 4, ray: {actors: 3, num_cpus: 0.5, networks: {travelling: {actors: 1}}}}\n"
    )
    with Engine.from_config(load_config(config).engine) as engine:
        results = ask(engine, Travelling(), [Item(i) for i in range(10)])
        assert engine.stats().networks["travelling"].batches == 3
    assert ids(results) == list(range(10)) and len({pid for pid, _ in results}) == 1
    assert os.getpid() not in {pid for pid, _ in results}
