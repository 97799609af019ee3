"""Preconditions: what cannot work for any row is refused once, and is not the failure of every row.

What can be known without computing is asked first: does a served model's port answer, does any sample have
the column that a reward reads. Weights, packages and devices show themselves in the first scores: a `Trial`
watches those of rewards that have never worked on an engine, and stops the scoring where a reward is
unavailable for each of them. `mmreward score`, `score_file`, `score_dataset` and `Engine.score` all get here.
"""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from ..errors import UNAVAILABLE, Unavailable
from ..registry import Reward
from ..scoring import Progress, refuse_others
from ..types import Sample, Score

FIRST = 4
"""Samples whose scores say whether a reward can be computed at all, and GROWTH times as many as long as they
failed for reasons of their own."""
GROWTH = 4


def check_rewards(rewards: Mapping[str, Reward]) -> None:
    """Refuse rewards with a network that says it cannot be used, before minutes of retries say so.

    A network may have a method `check` that raises `Unavailable`; a served model looks for its server.

    Args:
        rewards: by the name their scores are stored under.

    Raises:
        Unavailable: names the reward, what is not there, and the fix.
    """
    seen: set[str] = set()
    for name, reward in rewards.items():
        for network in reward.networks:
            check: Callable[[], None] | None = getattr(network, "check", None)
            if check is not None and network.fingerprint not in seen:
                seen.add(network.fingerprint)
                try:
                    check()
                except Unavailable as error:
                    raise Unavailable(f"{name}: {_reason(str(error))}") from None


def check_columns(samples: Sequence[Sample], rewards: Mapping[str, Reward]) -> None:
    """Refuse a reward that reads a field from a column that none of the samples has.

    Args:
        samples: of a whole data set, or as many as are there.
        rewards: by name.

    Raises:
        ValueError: names the reward, the column, and the nearest one there is.
    """
    for name, reward in rewards.items():
        for field, column in reward.columns.items():
            if samples and not any(column in sample.meta for sample in samples):
                known = sorted({key for sample in samples for key in map(str, sample.meta)})
                near = get_close_matches(column, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known) or 'none'}"
                raise ValueError(
                    f"{name}: `columns:` takes {field} from {column!r}, a column that none of "
                    f"{len(samples)} rows has: {hint}"
                )


class Known:
    """Knowledge of one engine about rewards: which have passed the checks, and which have given a score, so
    that nothing is asked about them again."""

    def __init__(self) -> None:
        self._checked: set[str] = set()
        self._working: set[str] = set()

    def works(self, reward: Reward) -> None:
        self._working.add(_key(reward))

    def check(self, samples: Sequence[Sample], rewards: Mapping[str, Reward]) -> None:
        """Check rewards that have not been checked.

        Raises:
            Unavailable, ValueError: as `check_rewards` and `check_columns`.
        """
        new = {name: one for name, one in rewards.items() if _key(one) not in self._checked | self._working}
        if new and samples:
            check_rewards(new)
            check_columns(samples, new)
            self._checked.update(map(_key, new.values()))

    def begin(
        self, samples: Sequence[Sample], rewards: Mapping[str, Reward], progress: Progress | None
    ) -> "Trial | None":
        """Check the rewards, and return the trial of those that have not worked yet; None for none.

        Raises:
            TypeError: samples that are none.
            Unavailable, ValueError: as `check`.
        """
        refuse_others(samples)
        self.check(samples, rewards)
        fresh = {name: one for name, one in rewards.items() if _key(one) not in self._working}
        return Trial(self, fresh, len(samples), progress) if fresh and samples else None


class Trial:
    """Listener to a scoring's progress that ends it where a reward is unavailable for all samples that tell.

    Scores of a reward on trial are held back until one is a value, so that of one that fails nobody hears.
    Samples that fail for a reason of their own say nothing about a reward, so the next ones are looked at.

    Args:
        known: is told of rewards that work.
        rewards: on trial, by name.
        rows: how many samples there are.
        progress: told of the scores, as `Engine.score` says.
    """

    def __init__(
        self, known: Known, rewards: Mapping[str, Reward], rows: int, progress: Progress | None
    ) -> None:
        self._known, self._progress, self._rows = known, progress, rows
        self._open = dict(rewards)
        self._held: dict[str, dict[int, Score]] = {name: {} for name in rewards}
        self._first = dict.fromkeys(rewards, 0)
        self._size = dict.fromkeys(rewards, min(FIRST, rows))

    def __call__(self, index: int, name: str, score: Score) -> None:
        """Take note of a score.

        Raises:
            Unavailable: the reward can be computed for no row; with the first reason.
        """
        if name not in self._open:
            self._tell(index, name, score)
            return
        held = self._held[name]
        held[index] = score
        if score.ok:
            self._known.works(self._open.pop(name))
            self._let_go(name)
        else:
            self._look(name, held)

    def end(self) -> None:
        """Tell of what is still held back: scores of rewards that gave no value and were never unavailable
        for all."""
        for name in list(self._open):
            del self._open[name]
            self._let_go(name)

    def _look(self, name: str, held: Mapping[int, Score]) -> None:
        while self._settled(name, held) >= self._size[name]:
            first = [held[index] for index in range(self._size[name])]
            troubles = [one.note for one in first if one.status == "error" and UNAVAILABLE in one.note]
            if troubles:
                reason = _reason(troubles[0])
                raise Unavailable(f"{name} can be computed for no row, so nothing was scored: {reason}")
            if self._size[name] == self._rows:
                return
            self._size[name] = min(GROWTH * self._size[name], self._rows)

    def _settled(self, name: str, held: Mapping[int, Score]) -> int:
        """Number of samples, from the first one on, that have a score of this reward."""
        while self._first[name] in held:
            self._first[name] += 1
        return self._first[name]

    def _let_go(self, name: str) -> None:
        for index, score in self._held.pop(name).items():
            self._tell(index, name, score)

    def _tell(self, index: int, name: str, score: Score) -> None:
        if self._progress is not None:
            self._progress(index, name, score)


def _key(reward: Reward) -> str:
    """Name of a reward with its arguments, columns and networks, without reading the weights."""
    networks = [getattr(network, "name", "") for network in reward.networks]
    return repr((reward.info.name, reward.args, reward.columns, networks, reward.release))


def _reason(note: str) -> str:
    return " ".join(note.replace(UNAVAILABLE, "").split())
