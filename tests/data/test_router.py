"""Mixed sources through one engine call: who is scored by what, and what is refused before a training."""

import asyncio
import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.toys import FakeNetwork, Item, network_reward, toy
from typer.testing import CliRunner

from mmreward import Engine, Sample, Score, cli
from mmreward.config import load_config
from mmreward.data.results import read
from mmreward.data.routing import PARTS, Router
from mmreward.data.rows import read_rows
from mmreward.limits import Limits

BOX = '<answer>[{"bbox_2d": [100, 100, 400, 400], "label": "cat"}]</answer>'
TRUTH = [{"bbox_2d": [100, 100, 400, 400], "label": "cat"}]


async def same(sample):
    """1 where the response is the target."""
    return Score(float(sample.response == sample.target), {"length": float(len(sample.response))})


async def upper(sample):
    return Score(float(sample.response.isupper()))


@pytest.fixture
def router():
    toy(same, "same", needs=("response", "target"))
    toy(upper, "upper", needs=("response",))
    return Router(
        {
            "det*": {"rewards": {"iou": {}}},
            "math": {"rewards": {"same": {}, "upper": {}}, "accuracy": {"same": 1}, "format": {"upper": 1}},
            "*": {"rewards": {"upper": {}}},
        }
    )


def test_every_sample_is_scored_by_its_source(engine, router):
    samples = [
        Sample(id="a", source="det_coco", response=BOX, target=TRUTH),
        Sample(id="b", source="math", response="X", target="X"),
        Sample(id="c", source="math", response="x", target="x"),
        Sample(id="d", source="other", response="UP"),
        Sample(id="e", source="det_coco", response="some boxes", target=TRUTH),
    ]
    routed = router.score(engine, samples)
    assert [total.value for total in routed.totals] == [1.0, 1.0, 0.5, 1.0, 0.0]
    assert [set(scores) for scores in routed.scores] == [
        {"iou"},
        {"same", "upper"},
        {"same", "upper"},
        {"upper"},
        {"iou"},
    ]
    assert routed.totals[4].parts["parsed"] == 0.0
    assert routed.scores[1]["same"].parts == {"length": 1.0}


def test_every_sample_has_the_same_parts_even_one_that_fails(engine, router):
    async def never(sample):
        await asyncio.sleep(60)

    toy(never, "never")
    router = Router({"slow": {"rewards": {"never": {}}}, "up": {"rewards": {"upper": {}}}})
    samples = [
        Sample(source="up", response="UP"),
        Sample(source="up"),
        Sample(source="slow"),
        Sample(source="unknown"),
    ]
    routed = router.score(engine, samples, timeout=0.2)
    assert [total.status for total in routed.totals] == ["ok", "missing", "timeout", "error"]
    assert {tuple(total.parts) for total in routed.totals} == {PARTS}
    assert all(math.isfinite(value) for total in routed.totals for value in total.parts.values())
    assert "source 'unknown': no route; there are slow, up" in routed.totals[3].note


def test_routes_share_the_engines_batches():
    """Samples of two sources that ask one network are in one batch."""
    network = FakeNetwork()
    network_reward(network, "asks")
    router = Router({name: {"rewards": {"asks": {}}, "accuracy": {"asks": 1}} for name in ("a", "b")})
    samples = [Sample(source="ab"[i % 2], target=Item(i)) for i in range(8)]
    with Engine("cpu") as engine:
        assert [total.value for total in router.score(engine, samples).totals] == [1.0] * 8
    assert len(network.batches) == 1 and sorted(network.computed) == list(range(8))


def test_a_samples_own_route_comes_first_as_a_mapping_or_as_json(engine, router):
    own = {"rewards": {"upper": {}}, "accuracy": {"upper": 2.0}, "format": None}
    samples = [
        Sample(source="det_coco", response="UP", meta={"route": own}),
        Sample(source="nowhere", response="UP", meta={"route": json.dumps(own)}),
        Sample(source="math", response="X", target="Y", meta={"route": None}),
    ]
    assert [total.value for total in router.score(engine, samples).totals] == [1.0, 1.0, 0.5]


def test_routes_whose_structs_arrow_merged_are_those_of_each_row(engine, tmp_path):
    """In Parquet every row has the keys of all; those of the others are null."""
    toy(upper, "upper", needs=("response",))
    routes = [
        {"rewards": {"iou": {"threshold": 0.5, "width": 0.5}}},
        {"rewards": {"up": {"reward": "upper"}}, "accuracy": {"up": 2.0}},
    ]
    rows = [{"id": str(i), "source": "s", "response": "UP", "route": route} for i, route in enumerate(routes)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    samples = [row.sample for row in read_rows(tmp_path / "rows.parquet")]
    assert samples[1].meta["route"]["rewards"]["iou"] is None
    router = Router({"declared": {"rewards": {"upper": {}}}})
    router.check(samples)
    assert [set(router.route(sample).rewards) for sample in samples] == [{"iou"}, {"up"}]
    assert router.score(engine, samples).totals[1].value == 1.0


def test_a_long_response_keeps_the_scores_behind_its_total(engine, router):
    """Its end is what rewards read, and the scores are those of its row."""
    samples = [
        Sample(source="math", response="x" * (Limits().text_characters + 1), target="y"),
        Sample(source="math", response="X", target="X"),
    ]
    for routed in (router.score(engine, samples), asyncio.run(router.ascore(engine, samples))):
        assert [set(scores) for scores in routed.scores] == [{"same", "upper"}] * 2
        assert routed.scores[0]["same"].parts == {"length": Limits().text_characters}


def test_the_exact_name_comes_before_globs_and_the_first_glob_wins():
    toy(same, "same")
    toy(upper, "upper")
    router = Router(
        {"a*": {"rewards": {"same": {}}}, "ab*": {"rewards": {"upper": {}}}, "abc": {"rewards": {"iou": {}}}}
    )
    found = {source: next(iter(router.route(Sample(source=source)).rewards)) for source in ("a", "ab", "abc")}
    assert found == {"a": "same", "ab": "same", "abc": "iou"}


def test_mistakes_of_all_sources_are_told_before_anything_is_scored():
    with pytest.raises(ValueError) as error:
        Router({"a": {"rewards": {"iuo": {}}}, "b": {"rewards": {"iou": {}}, "accuracy": {"iou": 0}}})
    assert "source 'a': rewards.iuo" in str(error.value) and "source 'b': accuracy, format" in str(
        error.value
    )


def test_check_finds_every_kind_of_mistake_once(router):
    router = Router({"math": {"rewards": {"same": {}}}})
    samples = [
        Sample(id="1", source="math"),
        Sample(id="2", source="maths"),
        Sample(id="3", source="maths"),
        Sample(id="4", source="own", meta={"route": {"rewards": {"iou": {"threshold": "high"}}}}),
        Sample(id="5", source="own", meta={"route": "{"}),
        Sample(id="6", source="own", meta={"route": 3}),
    ]
    router.check(samples[:1])
    with pytest.raises(ValueError) as error:
        router.check(samples)
    told = str(error.value).splitlines()
    assert len(told) == 4
    assert told[0].startswith("source 'maths': no route") and told[0].endswith("(sample '2')")
    assert "rewards.iou: threshold is 'high'" in told[1]
    assert "is not JSON" in told[2] and "int, not a mapping" in told[3]


def test_the_fingerprint_follows_what_the_routes_say():
    toy(upper, "upper")

    def fingerprint(**route):
        return Router(
            {"a": {"rewards": {"iou": {}, "upper": {}}, "accuracy": {"iou": 1}, **route}}
        ).reward.fingerprint

    one = fingerprint(format={"upper": 0.1})
    assert one == fingerprint(format={"upper": 0.1})
    assert one != fingerprint(format={"upper": 0.2})
    assert one != fingerprint(format={"upper": 0.1}, rewards={"iou": {"threshold": 0.9}, "upper": {}})


def test_awaited_and_called_are_the_same(engine, router):
    samples = [
        Sample(source="math", response="X", target="Y"),
        Sample(source="det", response=BOX, target=TRUTH),
    ]
    assert asyncio.run(router.ascore(engine, samples)) == router.score(engine, samples)


def test_the_command_scores_a_file_by_its_routes(tmp_path):
    rows = [
        {"id": "a", "source": "det", "response": BOX, "target": TRUTH},
        {"id": "b", "source": "boxes", "response": BOX, "truth": TRUTH},
        {"id": "c", "source": "det", "response": "nothing", "target": TRUTH},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "routes.yaml").write_text(
        "routes:\n  det: {rewards: {iou: }}\n  box*: {rewards: {iou: {columns: {target: truth}}}}\n"
    )
    out = tmp_path / "scores.jsonl"
    args = [
        "score",
        str(tmp_path / "rows.jsonl"),
        "--config",
        str(tmp_path / "routes.yaml"),
        "--out",
        str(out),
    ]
    result = CliRunner().invoke(cli.app, args)
    assert result.exit_code == 0, result.output
    assert [(row.id, row.reward, row.value) for row in read(out)] == [
        ("a", "routed", 1.0),
        ("b", "routed", 1.0),
        ("c", "routed", 0.0),
    ]


def test_a_mistake_in_a_file_of_routes_names_the_key(tmp_path):
    (tmp_path / "routes.yaml").write_text("routes:\n  det: {rewards: {iou: }, weight: 3}\n")
    with pytest.raises(ValueError, match=r"unknown key 'routes.det.weight'"):
        load_config(tmp_path / "routes.yaml")
