"""What can work for no row is one error before the first row, by Python as by the command; what is a row's
own fault stays its own."""

import math
import re
import socket
import sys

import pytest
from support.toys import FakeNetwork, Item, toy

from mmreward import Engine, Sample, Score, Unscorable, load
from mmreward.data.run import score_file
from mmreward.engine.engine import current
from mmreward.errors import Unavailable
from mmreward.loading import resolve

ROWS = [Sample(id=str(number), prompt="a", response="x", target="x") for number in range(20)]


def breaking(error, where=lambda sample: True):
    """A reward that counts its calls, and raises where it is told to."""
    calls = []

    async def score(sample):
        calls.append(sample.id)
        if where(sample):
            raise error
        return Score(1.0)

    return toy(score), calls


def heard(engine, reward, samples=ROWS):
    """What `progress` was told, and the scores; or the error."""
    told = []
    try:
        scores = engine.score(samples, reward, progress=lambda *one: told.append(one))
    except Exception as error:
        return told, error
    return told, scores["toy"]


# --- doors ----------------------------------------------------------------------------------------


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        ({"clipscore": {"weights": "./nowhere"}}, "no weights at ./nowhere"),
        ({"clipscore": {"weights": "mini-clop"}}, "there are "),
        ({"clipscore": {"weights": "nobody/nothing-at-all"}}, "nobody/nothing-at-all cannot be loaded"),
        ("clipscor", "did you mean"),
        ({"label": {"columns": {"target": "tarket"}}}, "none of 3 rows has: did you mean 'market'?"),
    ],
)
def test_what_is_not_there_is_one_error_and_no_score(engine, png, monkeypatch, reward, words):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told = []
    samples = [Sample(id=i, prompt="a", response="x", image=png, meta={"market": "y"}) for i in "abc"]
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        engine.score(samples, reward, progress=lambda *one: told.append(one))
    assert "\n" not in str(error.value) and not told


@pytest.mark.parametrize("device", ["cudda", "cuda:99", "cpuu"])
def test_a_device_that_is_not_there_is_told_by_the_engine_itself(device):
    with pytest.raises(ValueError, match=r"device.*(did you mean|use cpu|there are|the last is)"):
        Engine(device)


def test_a_package_that_is_not_there_is_named_with_what_installs_it(engine, monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx2", None)
    for name in [name for name in sys.modules if name.startswith("mmreward.models.served")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(Unavailable, match="checklist: httpx2 is not installed: pip install httpx2"):
        engine.score(ROWS, {"checklist": {"judge": "m@http://127.0.0.1:9/v1"}})
    late, calls = breaking(ModuleNotFoundError("No module named 'sympy.abc'", name="sympy.abc"))
    told, error = heard(engine, late)
    assert "sympy is not installed: pip install sympy" in str(error) and not told and calls


def test_an_extra_that_is_not_there_is_named(engine, monkeypatch):
    from importlib.metadata import PackageNotFoundError

    from mmreward.verifiers import algebra

    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(algebra, "version", version)
    with pytest.raises(ValueError, match=r"pip install 'mmreward\[math\]'"):
        engine.score(ROWS, "math")


def test_a_server_that_is_not_there_is_looked_for_once_and_before_any_row(engine, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    address = free_address()
    judge = load("checklist", judge=f"m@http://{address}/v1")
    with pytest.raises(Unavailable, match=rf"checklist: no server at {address} .*; start it, or mend"):
        engine.score([Sample(prompt="a", image="x.png")], judge)
    with pytest.raises(Unavailable, match="no server at"):
        engine.check(ROWS, judge)


def test_a_data_set_scored_from_python_stops_before_its_first_row(engine, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "a.jsonl").write_text('{"id": "a", "market": "x", "response": "x"}\n' * 1)
    wrong = {"label": {"columns": {"target": "tarket"}}, "good": {"reward": "repetition"}}
    with pytest.raises(ValueError, match="label: `columns:` takes target from 'tarket'"):
        score_file(tmp_path / "a.jsonl", resolve(wrong), tmp_path / "out.jsonl", engine)
    reward, _ = breaking(OSError("disk"))
    with pytest.raises(Unavailable, match="toy can be computed for no row"):
        score_file(tmp_path / "a.jsonl", {"toy": reward}, tmp_path / "out.jsonl", engine)
    assert not (tmp_path / "out.jsonl").exists() and not list(tmp_path.glob("out.jsonl.parts/*"))


# --- what a trial believes ------------------------------------------------------------------------


def test_a_reward_that_is_unavailable_for_all_is_one_error(engine):
    reward, calls = breaking(OSError("disk"))
    told, error = heard(engine, reward)
    assert isinstance(error, Unavailable) and str(error).endswith(
        "toy can be computed for no row, so nothing was scored: OSError: disk"
    )
    assert not told and len(calls) >= 4


def test_a_network_that_does_not_load_is_one_error(engine):
    class Broken(FakeNetwork):
        def load(self, device):
            raise FileNotFoundError("no such weights")

    network = Broken()

    async def score(sample):
        await current().submit(network, "op", Item(int(sample.id)))
        return Score(1.0)

    told, error = heard(engine, toy(score))
    assert isinstance(error, Unavailable) and "no such weights" in str(error) and not told


def test_it_is_left_to_the_rows_when_that_is_asked_for(engine):
    reward, _ = breaking(OSError("disk"))
    scores = engine.score(ROWS, reward, check=False)["toy"]
    assert all(score.note == "unavailable here: OSError: disk" for score in scores)
    scores = engine.begin(ROWS, reward).result(30)["toy"]
    assert all(score.status == "error" for score in scores)


@pytest.mark.parametrize("bad", [{"0", "1", "2", "3"}, {"0"}, {str(number) for number in range(19)}])
def test_rows_that_fail_for_reasons_of_their_own_say_nothing(engine, bad):
    reward, _ = breaking(Unscorable("my own fault"), lambda sample: sample.id in bad)
    told, scores = heard(engine, reward)
    assert sum(score.ok for score in scores) == 20 - len(bad) and len(told) == 20
    assert {index for index, _, _ in told} == set(range(20))


def test_all_rows_may_fail_for_reasons_of_their_own(engine):
    reward, _ = breaking(Unscorable("my own fault"))
    told, scores = heard(engine, reward)
    assert all(math.isnan(score.value) for score in scores) and len(told) == 20


def test_one_row_without_memory_among_good_ones_is_its_own(engine):
    reward, _ = breaking(MemoryError("large"), lambda sample: sample.id == "2")
    told, scores = heard(engine, reward)
    assert [score.ok for score in scores].count(False) == 1 and len(told) == 20


def test_what_has_worked_once_is_not_tried_again(engine):
    """A server that goes away in a training costs its rows, and not the training."""
    down = []
    reward, _ = breaking(ConnectionResetError("gone"), lambda sample: bool(down))
    heard(engine, reward)
    down.append(True)
    told, scores = heard(engine, reward)
    assert len(told) == 20 and all("unavailable here" in score.note for score in scores)


def test_a_good_reward_beside_a_broken_one_is_not_blamed(engine):
    broken, _ = breaking(OSError("disk"))
    with pytest.raises(Unavailable, match="broken can be computed for no row"):
        engine.score(ROWS, {"good": "repetition", "broken": broken})
    assert all(score.ok for score in engine.score(ROWS, "repetition")["repetition"])


def test_a_group_reward_is_tried_by_its_groups(engine):
    async def compare(samples):
        raise OSError("disk")

    samples = [Sample(id=str(number), group=str(number // 3)) for number in range(9)]
    with pytest.raises(Unavailable, match="toy can be computed for no row"):
        engine.score(samples, toy(compare, arity="group"))


def test_no_samples_are_no_trial(engine):
    reward, calls = breaking(OSError("disk"))
    assert engine.score([], reward) == {"toy": []} and not calls
