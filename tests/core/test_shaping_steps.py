"""Every shaping step through `combine`, by a recipe and by roles, as YAML names it."""

import math

import pytest
from pydantic import TypeAdapter

from mmreward import Sample, Score, load
from mmreward.compose import Recipe, Roles, combine, facts_of, total_of
from mmreward.config import ComposeConfig, RouteConfig, ShapingSteps, load_config
from mmreward.data.routing import load_route
from mmreward.shaping import consistent, evidence_bonus, hybrid, length_scaled, length_shares, trusted
from mmreward.shaping_steps import STEPS, AnyStep

LATE = Score.failed("timeout", "late")
ANSWER = [1.0, 1.0, 0.0, 0.0, None]
OTHER = [0.2, 0.4, 0.9, 0.7, 0.6]
LENGTHS = [100, 300, 200, 50, 70]
SAMPLES = [
    Sample(group="g", response="x", meta={"tokens": length, "progress": 0.5, "confidence": 0.25})
    for length in LENGTHS
]
GROUPS = ["g"] * 5


def scores(values):
    return [LATE if value is None else Score(value) for value in values]


def values(scored):
    return [score.value if score.ok else score.status for score in scored]


def step_of(name, **options):
    (step,) = TypeAdapter(ShapingSteps).validate_python([{"name": name, **options}])
    return step


COLUMNS = {"answer": scores(ANSWER), "other": scores(OTHER)}
KNOWN = COLUMNS["answer"][:4]
SHARES = length_shares(LENGTHS[:4], KNOWN, GROUPS[:4])
CASES = {
    "trusted": (
        {"accuracy": "answer", "thinking": "other"},
        trusted(*COLUMNS.values(), GROUPS, [0.5] * 5),
        (0.0, 1.3),
    ),
    "evidence_bonus": (
        {"accuracy": "answer", "evidence": "other", "grounded": 0.3},
        evidence_bonus(*COLUMNS.values(), grounded=0.3),
        (0.0, 1.3),
    ),
    "consistent": (
        {"accuracy": "answer", "consistency": "other"},
        consistent(*COLUMNS.values()),
        (0.0, 1.5),
    ),
    "hybrid": (
        {"rule": "answer", "model": "other"},
        hybrid(*COLUMNS.values(), [0.25] * 5),
        (0.0, 1.0),
    ),
    "length_scaled": (
        {"accuracy": "answer", "limit": 400},
        length_scaled(COLUMNS["answer"], LENGTHS, limit=400),
        (-0.5, 1.0),
    ),
    "length_shares": (
        {"accuracy": "answer", "weight": 0.2},
        [*(Score(a.value + 0.2 * share) for a, share in zip(KNOWN, SHARES, strict=True)), LATE],
        (-0.1, 1.1),
    ),
}


def test_every_step_has_a_case_and_a_class():
    assert (
        tuple(CASES) == STEPS == tuple(step.__dataclass_fields__["name"].default for step in AnyStep.__args__)
    )


@pytest.mark.parametrize("name", STEPS)
def test_a_recipe_sums_what_the_function_gives(name):
    options, wanted, _ = CASES[name]
    recipe = Recipe(weights={"answer": 2.0}, shaping=[step_of(name, **options)])
    totals = total_of(COLUMNS, recipe, SAMPLES)
    assert values(totals) == pytest.approx([2 * s.value if s.ok else s.status for s in wanted])
    assert totals[4].status == "timeout" and totals[4].note.startswith("answer: ")


@pytest.mark.parametrize("name", STEPS)
def test_roles_bring_it_to_the_unit_interval_by_its_own_range(name):
    options, wanted, (low, high) = CASES[name]
    step = step_of(name, **options)
    ranges = {"answer": (0.0, 1.0), "other": (0.0, 1.0)}
    assert step.range(ranges) == pytest.approx((low, high))
    roles = Roles(accuracy={"answer": 1.0}, ranges=ranges, shaping=[step])
    totals = total_of(COLUMNS, roles, SAMPLES)
    assert values(totals) == pytest.approx(
        [(s.value - low) / (high - low) if s.ok else s.status for s in wanted]
    )
    # The part accuracy stays a measurement: bonuses and lengths are in the total alone.
    measured = wanted if name == "hybrid" else COLUMNS["answer"]
    assert [t.parts["accuracy"] for t in totals] == pytest.approx(
        [s.value if s.ok else 0.0 for s in measured]
    )


@pytest.mark.parametrize("name", STEPS)
def test_values_stay_inside_the_range_a_step_states(name):
    low, high = CASES[name][2]
    assert all(low <= score.value <= high for score in CASES[name][1] if score.ok)


def test_steps_apply_in_order_and_gates_look_at_raw_values():
    shaping = [
        step_of("hybrid", rule="answer", model="other", confidence=0.0),
        step_of("evidence_bonus", accuracy="answer", evidence="other", bonus=1.0),
    ]
    recipe = Recipe(weights={"answer": 1.0}, gates={"answer": 0.5}, shaping=shaping)
    totals = total_of({name: column[:4] for name, column in COLUMNS.items()}, recipe, SAMPLES[:4])
    assert values(totals) == pytest.approx([0.2, 0.4, 0.0, 0.0])
    totals = total_of(
        {name: column[:4] for name, column in COLUMNS.items()},
        Recipe(weights={"answer": 1.0}, shaping=shaping),
        SAMPLES[:4],
    )
    assert values(totals) == pytest.approx([0.2, 0.4, 1.9, 1.7])


def test_a_rule_of_no_weight_may_fail():
    recipe = Recipe(
        weights={"answer": 1.0}, shaping=[step_of("hybrid", rule="answer", model="other", confidence=0)]
    )
    assert total_of(COLUMNS, recipe, SAMPLES)[4].value == 0.6


@pytest.mark.parametrize(
    ("name", "lacking", "said"),
    [
        ("trusted", {"progress": None}, "progress"),
        ("trusted", {"group": None}, "this sample has none"),
        ("length_shares", {"group": None}, "this sample has none"),
        ("length_shares", {"tokens": None}, "tokens"),
        ("length_scaled", {"tokens": None}, "tokens"),
        ("hybrid", {"confidence": None}, "confidence"),
    ],
)
def test_a_sample_without_what_a_step_needs_costs_itself_alone(name, lacking, said):
    odd = Sample(group=lacking.get("group", "g"), meta={**SAMPLES[0].meta, **lacking})
    recipe = Recipe(weights={"answer": 1.0}, shaping=[step_of(name, **CASES[name][0])])
    columns = {key: [column[0], *column[:4]] for key, column in COLUMNS.items()}
    first, *rest = total_of(columns, recipe, [odd, *SAMPLES[:4]])
    assert first.status == "missing" and said in first.note
    alone = total_of({key: column[:4] for key, column in COLUMNS.items()}, recipe, SAMPLES[:4])
    assert values(rest) == values(alone)


def test_a_confidence_that_is_no_share_is_an_error():
    recipe = Recipe(weights={"answer": 1.0}, shaping=[step_of("hybrid", rule="answer", model="other")])
    odd = [Sample(meta={"confidence": given}) for given in (2, "much", True, math.nan)]
    totals = total_of({key: column[:4] for key, column in COLUMNS.items()}, recipe, odd)
    assert [total.status for total in totals] == ["error"] * 4


def test_progress_of_your_own_is_for_samples_without_any():
    step = step_of("trusted", accuracy="answer", thinking="other", progress=0.0)
    assert step.fact(Sample()).value == 0.0 and step.fact(SAMPLES[0]).value == 0.5
    assert step.fact(Sample(meta={"step": 3})).status == "missing"


def test_rows_and_facts_must_match():
    recipe = Recipe(
        weights={"answer": 1.0}, shaping=[step_of("trusted", accuracy="answer", thinking="other")]
    )
    facts = [facts_of(recipe, sample) for sample in SAMPLES]
    with pytest.raises(ValueError, match="5 rows and the facts of 0"):
        combine(COLUMNS, recipe, GROUPS)
    with pytest.raises(ValueError, match="5 rows and 0 groups"):
        combine(COLUMNS, recipe, (), facts)
    assert [score.status for score in facts_of(recipe, None)] == ["missing"]


def test_without_shaping_nothing_changes():
    plain = Recipe(weights={"answer": 1.0, "other": 0.5})
    assert total_of(COLUMNS, plain, SAMPLES) == combine(COLUMNS, plain)


MISTAKES = [
    (
        {"name": "trusted", "accuracy": "a", "thinking": "b", "alfa": 1},
        "unknown key .*alfa': did you mean 'alpha'",
    ),
    ({"name": "trused", "accuracy": "a"}, "no shaping named 'trused': did you mean 'trusted'"),
    ({"accuracy": "a"}, "no shaping named None: there are trusted, evidence_bonus"),
    ({"name": "trusted", "accuracy": "a"}, "thinking: "),
    ({"name": "trusted", "accuracy": "a", "thinking": "b", "alpha": -1}, "alpha is -1.0"),
    ({"name": "trusted", "accuracy": "a", "thinking": "b", "progress": 2}, "progress is 2.0"),
    ({"name": "evidence_bonus", "accuracy": "a", "evidence": "b", "bonus": -1}, "bonus is -1.0"),
    ({"name": "evidence_bonus", "accuracy": "a", "evidence": "b", "failed": "zero"}, "failed: "),
    ({"name": "consistent", "accuracy": "a", "consistency": "b", "weight": 2}, "weight is 2.0"),
    ({"name": "hybrid", "rule": "a", "model": "b", "confidence": 2}, "confidence is 2.0"),
    ({"name": "length_scaled", "accuracy": "a", "limit": 0}, "limit is 0"),
    ({"name": "length_scaled", "accuracy": "a", "limit": 9, "unit": "miles"}, "unit: "),
    ({"name": "length_shares", "accuracy": "a", "weight": -1}, "weight is -1.0"),
]


@pytest.mark.parametrize(("step", "message"), MISTAKES)
def test_mistakes_in_a_step_are_named(tmp_path, step, message):
    text = f"rewards: {{}}\ncompose: {{weights: {{a: 1}}, shaping: [{step}]}}\n"
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(tmp_path / "run.yaml")


def test_a_step_over_rewards_that_are_not_there_or_not_summed_is_refused():
    rewards = {"answer": load("choice"), "other": load("choice")}
    step = {"name": "consistent", "accuracy": "answer", "consistency": "thinking"}
    wrong = ComposeConfig(weights={"answer": 1.0}, shaping=[step]).build()
    with pytest.raises(ValueError, match="compose: no reward named thinking"):
        wrong.check(rewards)
    idle = ComposeConfig(weights={"other": 1.0}, shaping=[{**step, "consistency": "other"}]).build()
    with pytest.raises(ValueError, match="rewrites answer, which has no weight"):
        idle.check(rewards)
    route = {"rewards": {"answer": {"reward": "choice"}}, "accuracy": {"answer": 1}, "shaping": [step]}
    with pytest.raises(
        ValueError, match=r"source 's': shaping\.0: no reward named 'thinking'; there are answer"
    ):
        load_route("s", route)


def test_nulls_in_a_step_are_options_left_out():
    step = {"name": "trusted", "accuracy": "answer", "thinking": "other", "alpha": None, "limit": None}
    (read,) = RouteConfig.model_validate({"rewards": {"answer": None}, "shaping": [step]}).shaping
    assert read.alpha == 0.3
