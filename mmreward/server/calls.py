"""Calls of the server: for both endpoints the model of a body, the batch it asks for, and the answer to its
totals.

The event loop and the process for large bodies go through the same steps, so that an answer does not depend
on who gave it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from ..adapters.openrlhf import answered, query_batch
from ..adapters.rows import Batch
from ..adapters.scorer import Failed, Scorer, flat
from ..data.routing import Routed
from .vtriune import Payload, UnknownVerifierError, refused, reply, sample_from

M = TypeVar("M", bound=BaseModel)


class Refused(Exception):  # noqa: N818 - reads as what it says at the raise
    """A request that is refused.

    Args:
        status: of the answer.
        reason: in words.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason[:2000]


class Queries(BaseModel):
    """Body of /get_reward, as OpenRLHF posts it."""

    query: list[str]
    prompts: list[str]
    labels: list[Any]


@dataclass(frozen=True)
class Call(Generic[M]):
    """Endpoint of the server.

    Args:
        name: of the endpoint.
        model: of a body.
        asked: makes a batch of it.
        paid: makes an answer of the scorer, the body and its totals, with what a failed total is paid.
    """

    name: str
    model: type[M]
    asked: Callable[[M], Batch]
    paid: Callable[[Scorer, M, Routed, Failed], dict[str, Any]]

    def batch(self, body: M) -> Batch:
        """The samples that are asked for.

        Raises:
            Refused: 404, no such verifier; 422, what makes no sense.
        """
        try:
            return self.asked(body)
        except UnknownVerifierError as error:
            raise Refused(404, str(error)) from None
        except (ValueError, RecursionError) as error:
            raise Refused(422, str(error)) from None

    def answer(self, scorer: Scorer, body: M, routed: Routed, failed: Failed) -> dict[str, Any]:
        """The answer's content.

        Raises:
            Refused: 503, a total failed and may not be called a number.
        """
        try:
            return self.paid(scorer, body, routed, failed)
        except RuntimeError as error:
            raise Refused(503, str(error)) from None


def _batch_from(queries: Queries) -> Batch:
    batch = query_batch(queries.query, queries.prompts, queries.labels)
    for row, sample in enumerate(batch.samples):
        if why := refused(sample):
            batch.problems[row] = why
    return batch


JUDGE: Call[Payload] = Call(
    "judge",
    Payload,
    lambda payload: Batch([sample_from(payload)], {}),
    lambda _, payload, routed, __: reply(payload, routed.totals[0], routed.scores[0]),
)
GET_REWARD: Call[Queries] = Call(
    "get_reward",
    Queries,
    _batch_from,
    lambda scorer, _, routed, failed: answered(flat(scorer, routed, failed, late=None)),
)
CALLS: dict[str, Call[Any]] = {call.name: call for call in (JUDGE, GET_REWARD)}
