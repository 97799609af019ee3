"""Every registered reward and argument is classed by `trust`: a row's to choose, or the operator's alone."""

import inspect

import pytest

from mmreward import trust
from mmreward.registry import find, list_rewards

NAMES = [info.name for info in list_rewards() if find(info.name).factory.__module__.startswith("mmreward.")]
NAMING = (
    "path",
    "url",
    "weights",
    "judge",
    "model",
    "python",
    "env",
    "key",
    "host",
    "code",
    "fitted",
    "file",
)
"""Parts of names of arguments that lead out of the data."""


@pytest.mark.parametrize("name", NAMES)
def test_a_new_reward_or_argument_needs_a_class(name):
    assert (name in trust.RULES) != (name in trust.JUDGED), f"put {name} into trust.RULES or trust.JUDGED"
    for argument in inspect.signature(find(name).factory).parameters:
        safe, operators = argument in trust.DATA_SAFE, argument in trust.OPERATOR_ONLY
        assert safe != operators, f"put {argument} into trust.DATA_SAFE or trust.OPERATOR_ONLY"


@pytest.mark.parametrize("name", sorted(trust.RULES))
def test_a_rule_has_no_network(name):
    """A row may name it, so nothing that it loads may come from elsewhere."""
    from mmreward import load

    assert {network.name for network in load(name).networks} <= {"math-verify"}  # a library, in a worker


def test_nothing_that_leads_out_of_the_data_is_safe():
    assert not {argument for argument in trust.DATA_SAFE for part in NAMING if part in argument.split("_")}
    assert {"python", "judge", "weights", "listener", "encoder", "classifier", "fitted", "system"}.isdisjoint(
        trust.DATA_SAFE
    )


def test_no_reward_is_listed_that_does_not_exist():
    assert set(NAMES) == trust.RULES | trust.JUDGED
