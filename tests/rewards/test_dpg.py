"""DPG's graph of questions with the miniature's judge, against upstream's own pass over the lines."""

import random

import pytest

from mmreward import Engine, Media, Sample, Unscorable, load, models
from mmreward.mini.world import Scene, Thing, render
from mmreward.models.vlms.answers import Read
from mmreward.rewards.pictures.dpg import SUFFIX, Proposition, graph_of, passing

PICTURE = render(Scene((Thing("red", "circle", 0.3, 0.4, 0.15), Thing("blue", "square", 0.7, 0.6, 0.15))), 64)


def line(number, question, parents="0", kind="entity - whole (x)"):
    return {
        "proposition_id": number,
        "dependency": parents,
        "question_natural_language": question,
        "tuple": kind,
    }


LINES = [
    line(1, "Is there a circle?"),
    line(2, "Is there a triangle?"),
    line(3, "Is the circle red?", "1", "attribute - color (circle, red)"),
    line(4, "Is the circle left of the triangle?", "1, 2", "relation - spatial (circle, triangle, left)"),
]


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def upstream(graph, right):
    """One pass in the order of the lines, on scores that it changes as it goes."""
    scores = {number: float(right[number]) for number in right}
    for one in graph:
        if any(parent != 0 and scores[parent] == 0 for parent in one.parents):
            scores[one.number] = 0
    return scores


def drawn(rng, shuffled=False):
    """A graph whose parents have smaller numbers."""
    size = rng.randint(1, 12)
    graph = []
    for number in range(1, size + 1):
        parents = tuple(rng.sample(range(1, number), min(number - 1, rng.randint(0, 2)))) or (0,)
        graph.append(Proposition(number, "?", parents, ""))
    if shuffled:
        rng.shuffle(graph)
    return graph, {one.number: rng.random() < 0.7 for one in graph}


def test_the_graph_is_upstreams_where_parents_stand_first():
    rng = random.Random(0)
    for _ in range(300):
        graph, right = drawn(rng)
        assert passing(graph, right) == {n: bool(s) for n, s in upstream(graph, right).items()}


def test_the_order_of_the_lines_does_not_matter():
    """Upstream lets a child through that stands before its failed parent's parent."""
    rng = random.Random(1)
    differ = 0
    for _ in range(300):
        graph, right = drawn(rng, shuffled=True)
        found = passing(graph, right)
        assert found == {one.number: found[one.number] for one in graph}
        ordered = sorted(graph)
        assert found == passing(ordered, right)
        differ += found != {n: bool(s) for n, s in upstream(graph, right).items()}
    assert differ > 0


def test_a_row_of_the_published_file(engine):
    reward = load("dpg", judge="mini-vlm", min_mass=0.0)
    (score,) = engine.score([Sample(image=Media(PICTURE), meta={"dpg": LINES})], reward)["dpg"]
    judge = models.vlm("mini-vlm")
    graph = graph_of({"dpg": LINES})
    reads = [engine.run(judge.read(Media(PICTURE), one.question + SUFFIX, ("yes", "no"))) for one in graph]
    right = {one.number: read.answer == "yes" for one, read in zip(graph, reads, strict=True)}
    scores = upstream(graph, right)
    assert score.value == pytest.approx(sum(scores.values()) / len(scores))
    assert score.parts["asked"] == pytest.approx(sum(right.values()) / len(right))
    assert score.parts["entity - whole"] == pytest.approx((right[1] + right[2]) / 2)


def test_a_child_of_a_failed_parent_counts_as_wrong(engine, monkeypatch):
    async def read(media, question, labels, *, system="", places=()):
        yes = "triangle?" not in question or "left" in question
        return Read({"yes": float(yes), "no": float(not yes)}, 0.0 if "red" in question else 1.0)

    reward = load("dpg", judge="mini-vlm")
    monkeypatch.setattr(models.vlm("mini-vlm"), "read", read, raising=True)
    (score,) = engine.score([Sample(image=Media(PICTURE), meta={"dpg": LINES})], reward)["dpg"]
    assert score.value == 0.25 and score.parts["asked"] == 0.5
    assert score.note == "not answered, counted as wrong: 3"
    assert score.parts["relation - spatial"] == 1.0


def test_values_do_not_depend_on_the_batch(engine):
    reward = load("dpg", judge="mini-vlm", min_mass=0.0)
    samples = [
        Sample(id=str(n), image=Media(PICTURE.resize((32 + 16 * n, 64))), meta={"dpg": LINES[: n + 1]})
        for n in range(4)
    ]
    together = [score.value for score in engine.score(samples, reward)["dpg"]]
    with Engine("cpu", cache_bytes=0) as other:
        assert [other.score([s], reward)["dpg"][0].value for s in samples] == together


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "asks nothing"),
        ([], "not a list of questions"),
        ("[", "dpg is not JSON"),
        ([3], "dpg.0. is '3', not an object"),
        ([line(1, " ")], "has no question_natural_language"),
        ([line("one", "?")], "proposition_id is 'one', which is no number"),
        ([line(0, "?")], "they begin with 1"),
        ([line(1, "?"), line(1, "?")], "two questions of proposition_id 1"),
        ([line(1, "?", "2")], "question 1 hangs on 2, which is not there"),
        ([line(1, "?", "x")], "dependency is 'x'"),
        ([line(n, "?") for n in range(1, 200)], "199 questions; the limit is 128"),
    ],
)
def test_what_is_no_graph_says_why(given, said):
    with pytest.raises(Unscorable, match=said):
        graph_of({"dpg": given})


def test_a_circle_is_refused():
    graph = graph_of({"dpg": [line(1, "?", "2"), line(2, "?", "1"), line(3, "?")]})
    with pytest.raises(Unscorable, match="1, 2 hang on one another"):
        passing(graph, {1: True, 2: True, 3: True})
