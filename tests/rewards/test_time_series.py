"""TimeMaster's sections: the class after the thinking, and the form around it."""

import pytest

from mmreward import Engine, Sample, load
from mmreward.rewards.rules.classification import sections

THINK = "<think>The motor units fire late, with long polyphasic waves.</think>"
LABELS = ["healthy", "myopathy", "neuropathy"]


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def scored(engine, response, target="Neuropathy", labels=LABELS, **args):
    sample = Sample(response=response, target=target, meta={"labels": labels})
    return engine.score([sample], load("time_series", **args))["time_series"][0]


@pytest.mark.parametrize(
    ("response", "value"),
    [
        (f"{THINK}\n<class>Neuropathy</class>", 1.0),
        (f"{THINK}<class>healthy</class>", 0.1),
        (f"{THINK}<class>fine</class>", 0.0),
        (f"{THINK} so <class>neuropathy</class>", 0.9),
        ("<class>neuropathy</class>", 0.9),
        ("<think></think><class>neuropathy</class>", 0.9),
        (f"{THINK}<class>neuropathy, myopathy</class>", 0.0),
        (f"{THINK}<class></class>", 0.0),
        (f"{THINK}<class>neuropathy</class><class>myopathy</class>", 0.0),
        ("<think>maybe <class>neuropathy</class></think><class>healthy</class>", 0.0),
        ("<think>late waves <class>neuropathy</class>", 0.0),
        ("neuropathy", 0.0),
    ],
)
def test_class_and_form_by_hand(engine, response, value):
    score = scored(engine, response)
    assert score.value == pytest.approx(value)
    assert list(score.parts) == ["parsed", "correct", "known", "form"]


def test_the_extension_is_part_of_the_form_where_it_is_asked_for(engine):
    short = f"{THINK}<class>neuropathy</class>"
    full = f"{short}<extension>Nerve conduction studies of both legs, within the week.</extension>"
    assert scored(engine, full, extension=True).value == pytest.approx(1)
    for response in (short, f"{short}<extension>rest</extension>"):
        assert scored(engine, response, extension=True).value == pytest.approx(0.9)
    assert scored(engine, full).parts["form"] == 0, "not asked for"


def test_without_classes_any_label_has_its_form(engine):
    assert scored(engine, f"{THINK}<class>fine</class>", labels=None).value == pytest.approx(0.1)
    assert scored(engine, f"{THINK}<class>fine</class>", target="").status == "missing"
    assert scored(engine, f"{THINK}<class>fine</class>", target="fine").status == "error"
    with pytest.raises(ValueError, match="at least 1"):
        load("time_series", min_chars=0)


def test_sections_in_order():
    assert sections("<a>1</a> <b> 2 </b>", ("a", "b")) == {"a": "1", "b": "2"}
    for text in (
        "<b>2</b><a>1</a>",
        "<a>1</a>",
        "<a>1</a><b>2</b>x",
        "<a><b>1</a></b>",
        "<a>1<a></a><b></b>",
    ):
        assert sections(text, ("a", "b")) is None
