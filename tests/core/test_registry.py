"""Finding, loading and naming rewards; what importing the package may and may not pull in."""

import sys
from pathlib import Path

import pytest
from support.toys import FakeNetwork, toy

import mmreward
from mmreward import Reward, list_rewards, load, registry, reward
from mmreward.loading import resolve
from mmreward.registry import find, record_network

PACKAGE = Path(mmreward.__file__).parent
BUILT_IN = ("artifact", "checklist", "clipscore", "critique", "iou", "listener", "oracle")


async def nothing(sample):
    pass


def declare(name="mine", doc="Mine.", fn=nothing, **facts):
    def factory(size: int = 3, words: tuple[str, ...] = (), exact: bool = False):
        return fn

    factory.__doc__ = doc
    return reward(name, **{"needs": (), "range": (0, 1), **facts})(factory)


def test_the_built_in_rewards_are_listed_with_what_is_true_of_them():
    infos = {info.name: info for info in list_rewards()}
    assert set(BUILT_IN) <= set(infos)
    for info in infos.values():
        assert info.summary and info.range[0] < info.range[1] and info.arity in ("point", "pair", "group")
    assert [info.name for info in list_rewards("clip*")] == ["clip_i", "clipscore"]


@pytest.mark.parametrize(
    ("name", "near"), [("clipscor", "clipscore"), ("IOU", "did you mean .iou."), ("critic", "critique")]
)
def test_a_misspelt_name_gets_a_suggestion(name, near):
    with pytest.raises(ValueError, match=near):
        load(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".iou", "a.b.c", "foo.bar", "x/y", "a b", "\u00fc", "iou.score"]
)
def test_a_strange_name_is_no_reward_rather_than_an_import_error(name):
    with pytest.raises(ValueError, match="no reward named"):
        find(name)


def test_a_misspelt_argument_gets_a_suggestion():
    declare()
    with pytest.raises(ValueError, match=r"'siz'.*did you mean 'size'"):
        load("mine", siz=3)
    with pytest.raises(ValueError, match="it takes size, words, exact"):
        load("mine", zzz=3)


def test_an_argument_that_is_left_out_is_named():
    with pytest.raises(ValueError, match=r"^d2_align: missing a required argument: 'fitted'"):
        load("d2_align", weights="mini-clip")


@pytest.mark.parametrize("args", [{"size": "many"}, {"words": 5}, {"exact": "perhaps"}, {"size": None}])
def test_an_argument_of_the_wrong_type_is_named(args):
    declare()
    with pytest.raises(ValueError, match=next(iter(args))):
        load("mine", **args)


def test_a_taken_name_is_refused_and_a_reload_is_not():
    declare(doc="One.")
    declare(doc="Two.")

    def factory():
        "Another."

    with pytest.raises(ValueError, match="exists already"):
        reward("mine", needs=(), range=(0, 1))(factory)


def test_a_plugin_cannot_take_a_name_by_calling_its_function_the_same():
    find("iou")

    def iou():
        "Not ours."

    iou.__qualname__ = "iou"
    with pytest.raises(ValueError, match=r"exists already, in mmreward\.rewards\.rules\.boxes"):
        reward("iou", needs=(), range=(0, 1))(iou)


def test_a_reward_without_a_docstring_or_without_an_async_function_is_refused():
    with pytest.raises(ValueError, match="docstring"):
        declare("undocumented", doc="")
    declare("sync", fn=lambda sample: None)
    with pytest.raises(ValueError, match="async"):
        load("sync")


def test_a_reward_that_is_not_differentiable_says_so():
    with pytest.raises(ValueError, match="not differentiable"):
        toy(nothing).score_tensor(None, [])


# --- fingerprints ---------------------------------------------------------------------------------


def test_the_fingerprint_follows_arguments_but_not_their_order():
    declare()
    declare("other")
    plain = load("mine").fingerprint
    assert plain == load("mine").fingerprint
    assert load("mine", size=4, exact=True).fingerprint == load("mine", exact=True, size=4).fingerprint
    different = [plain, load("mine", size=4).fingerprint, load("mine", exact=True).fingerprint]
    assert len({*different, load("other").fingerprint}) == 4


def test_the_fingerprint_follows_the_networks():
    network = FakeNetwork("v1")

    def factory():
        "Uses a network."
        record_network(network)
        return nothing

    reward("networked", needs=(), range=(0, 1))(factory)
    first = load("networked")
    before = first.fingerprint
    assert first.networks == (network,)
    network.fingerprint = "v2"
    assert load("networked").fingerprint != before


def test_the_fingerprint_follows_the_columns():
    declare()
    columns = resolve({"mine": {"columns": {"target": "gold"}}})["mine"]
    assert columns.fingerprint != load("mine").fingerprint


# --- many rewards at once -------------------------------------------------------------------------


def test_rewards_are_given_in_many_forms():
    mine, other = toy(nothing, "mine"), toy(nothing, "other")
    assert list(resolve("mine")) == ["mine"] and list(resolve(mine)) == ["mine"]
    assert list(resolve([mine, "other"])) == ["mine", "other"]
    named = resolve({"a": mine, "b": "other", "c": {"reward": "mine"}, "mine": {}})
    assert [one.info.name for one in named.values()] == ["mine", "other", "mine", "mine"]
    assert all(isinstance(one, Reward) for one in named.values()) and other.info.name == "other"


@pytest.mark.parametrize("given", [[], {}, ()])
def test_no_rewards_are_refused(given):
    with pytest.raises(ValueError, match="no rewards"):
        resolve(given)


def test_the_same_reward_twice_needs_names():
    toy(nothing, "mine")
    with pytest.raises(ValueError, match="twice"):
        resolve(["mine", "mine"])


# --- entry points ---------------------------------------------------------------------------------


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """An installed package with the entry points given as {name: target}, and a module `plug_in`."""

    def install(points, code):
        (tmp_path / "plug_in.py").write_text(code)
        info = tmp_path / "plug_in-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 1.0\n")
        listed = "".join(f"{name} = {target}\n" for name, target in points.items())
        (info / "entry_points.txt").write_text(f"[mmreward.rewards]\n{listed}")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "plug_in", raising=False)

    yield install
    registry._logged.clear()
    sys.modules.pop("plug_in", None)


CODE = """
from mmreward import Score, reward

@reward("plugged", needs=(), range=(0, 1))
def plugged(size: int = 1):
    "From a plug-in."
    async def score(sample):
        return Score(0.5)
    return score
"""


def test_an_installed_plugin_is_found_listed_and_suggested(plugin):
    plugin({"plugged": "plug_in:plugged"}, CODE)
    assert load("plugged", size=2).info.summary == "From a plug-in."
    assert "plugged" in {info.name for info in list_rewards()}
    with pytest.raises(ValueError, match="did you mean 'plugged'"):
        load("pluged")


BROKEN = {
    "not installed": "import a_package_that_is_not_there",
    "a syntax error": "def broken(:",
    "exits": "raise SystemExit(3)",
    "raises": "raise RuntimeError('one\\nand two')",
    "has no such name": "x = 1",
    "declares a taken name": (
        "from mmreward import reward\n@reward('iou', needs=(), range=(0, 1))\ndef broken():\n    'x'"
    ),
}


@pytest.mark.parametrize("code", BROKEN.values(), ids=BROKEN)
def test_a_plugin_that_cannot_be_loaded_is_named_in_one_line_and_the_others_are_listed(plugin, code, caplog):
    plugin({"broken": "plug_in:broken"}, code)
    assert {"iou", "clipscore"} <= {info.name for info in list_rewards()}
    (line,) = [record.getMessage() for record in caplog.records if record.name == "mmreward.registry"]
    assert line.startswith("the reward 'broken' (plug_in:broken) cannot be loaded: ") and "\n" not in line
    assert load("iou"), "a broken plug-in does not stop the others"
    with pytest.raises(ValueError, match=r"'broken' \(plug_in:broken\) cannot be loaded"):
        load("broken")
    with pytest.raises(ValueError, match="no reward named 'brok'"):
        load("brok")


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        (lambda sample: 1.0, "@mmreward.reward"),
        ([lambda sample: 1.0], "@mmreward.reward"),
        ({"mine": lambda sample: 1.0}, "@mmreward.reward"),
        ({"mine": 3}, "not int"),
        (3, "not int"),
    ],
)
def test_what_is_no_reward_is_refused_with_the_fix(given, fix):
    with pytest.raises(ValueError, match=f"a reward is a name.*{fix}"):
        resolve(given)
