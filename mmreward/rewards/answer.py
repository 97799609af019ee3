"""Whether a short answer is the true one: text, number, sequence or mathematics, as the target is."""

from collections.abc import Mapping
from typing import Any, Literal

from ..failures import Unscorable
from ..registry import reward, uses
from ..types import Sample, Score
from ..verifiers.algebra import Library, require_math_verify
from ..verifiers.answer import boxed, segment
from ..verifiers.match import PARTS, Kind, Wanted, match, wanted
from ..verifiers.math import answer_of, settle, truth_of
from ..verifiers.numbers import Likeness, Relax
from ..verifiers.verdict import Verdict, verified
