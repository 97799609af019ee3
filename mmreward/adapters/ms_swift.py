"""For ms-swift (seen at 0431a5d): a class in the form of its outcome reward models.

    # plugin.py, given as --external_plugins plugin.py --reward_funcs mmreward
    from swift.rewards import orms      # in 3.x: from swift.plugin import orms
    from mmreward.adapters.ms_swift import orm
    orms["mmreward"] = orm("routes.yaml")

None means "not applicable", as in TRL, from which its GRPO trainer descends.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .scorer import Given, Scorer
from .trl import Function, Grading


def orm(
    rewards: Given = None,
    *,
    weights: Mapping[str, float] | None = None,
    columns: Mapping[str, str] | None = None,
    name: str = "Mmreward",
    timeout: float | None = None,
) -> type:
    """A class with the signature of `swift.rewards.orm.ORM`, which ms-swift instantiates and calls.

    Args:
        rewards: see `Scorer`; the other arguments as for `trl.reward`.
        weights: of several rewards.
        columns: field of Sample -> column of the data set.
        name: of the class, under which ms-swift logs it.
        timeout: seconds one score may take.

    Raises:
        ValueError: rewards or weights that make no sense.
    """
    grade = Function(Grading(Scorer(rewards, weights=weights, timeout=timeout), name, columns or {}), name)

    class Orm:
        def __init__(self, args: Any = None, **_: Any) -> None:
            self.args = args

        def __call__(self, completions: Sequence[str], **row_columns: Any) -> list[float | None]:
            messages = row_columns.pop("messages", [""] * len(completions))
            return grade(completions=list(completions), prompts=messages, **row_columns)

    Orm.__name__ = Orm.__qualname__ = name
    return Orm
