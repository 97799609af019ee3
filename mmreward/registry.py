"""Registry of rewards: declaration (`@reward`), lookup by name, listing, and the fingerprint of a loaded
reward.

A reward is a file in `mmreward/rewards/` (or a function behind an entry point of the group
"mmreward.rewards") with a factory under `@reward`. That is all it takes to be listed, documented and tested.
Nothing here imports a network: `find` and `list_rewards` import the files of rewards, which import no torch
either.
"""

import hashlib
import importlib
import inspect
import json
import logging
import pkgutil
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points, version
from typing import TYPE_CHECKING, Any, Protocol

from .errors import TOLERANCE
from .other_names import meant_by
from .types import Arity, RewardInfo, Sample

if TYPE_CHECKING:
    import torch

ScoreFn = Callable[..., Awaitable[Any]]
Factory = Callable[..., Any]


class Fingerprinted(Protocol):
    """A network or service, or a handle that knows with which options a reward uses one."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str:
        """Text that changes with everything that changes its numbers."""


_recorded: ContextVar[list[Fingerprinted] | None] = ContextVar("recorded", default=None)
"""Networks of the reward that is being loaded; None outside of `recording_networks`, and where a network
builds its own parts."""


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Reward:
    """A loaded reward: `await reward(sample)` inside an engine gives a Score (see `RewardInfo.arity`).

    >>> import mmreward
    >>> loaded = mmreward.load("iou")
    >>> loaded.info.needs
    ('response', 'target')
    """

    info: RewardInfo
    args: Mapping[str, Any]
    fn: ScoreFn
    tensor_fn: "Callable[[torch.Tensor, Sequence[str]], torch.Tensor] | None" = None
    networks: tuple[Fingerprinted, ...] = field(default=(), repr=False)
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field of Sample -> the key of `meta` it is taken from, for data whose columns have other names."""
    release: str = ""
    """Version of mmreward in the interpreter that computes it; empty for this one."""
    close: Callable[[], None] = field(default=_nothing, repr=False, compare=False)
    """Release what the reward uses outside this process; its samples fail from then on. It is released by
    itself when nothing refers to the reward any more."""

    def view(self, sample: Sample) -> Sample:
        """The sample with the fields of `columns` taken from `meta`; a column that is absent leaves its field
        None."""
        if not self.columns:
            return sample
        changes: dict[str, Any] = {name: sample.meta.get(column) for name, column in self.columns.items()}
        return replace(sample, **changes)

    def make(self) -> None:
        """Make networks that are made when first used, on this thread: an engine's loop would wait for the
        import of torch."""
        for network in self.networks:
            make: Callable[[], None] | None = getattr(network, "make", None)
            if make is not None:
                make()

    def __call__(self, *samples: Any) -> Awaitable[Any]:
        return self.fn(*samples)

    def score_tensor(self, pixels: "torch.Tensor", prompts: Sequence[str]) -> "torch.Tensor":
        """Differentiable scores: float pixels (N, 3, H, W) in [0, 1] and N prompts -> tensor (N,).

        Raises:
            ValueError: this reward cannot be differentiated, the shapes disagree, or pixels lie outside
                [0, 1], such as those of a VAE in [-1, 1] or of a file in 0 to 255.
        """
        if self.tensor_fn is None:
            raise ValueError(
                f"{self.info.name} is not differentiable with these arguments; `mmreward show "
                f"{self.info.name}` says whether it is with others"
            )
        if pixels.ndim != 4 or pixels.shape[1] != 3 or len(prompts) != len(pixels):
            raise ValueError(
                f"expected pixels (N, 3, H, W) and N prompts, got {tuple(pixels.shape)} and {len(prompts)}"
            )
        low, high = (float(end) for end in pixels.detach().aminmax()) if pixels.numel() else (0.0, 1.0)
        if low < -TOLERANCE or high > 1 + TOLERANCE:
            fix = "divide by 255" if high > 2 else "pixels / 2 + 0.5 brings [-1, 1] to [0, 1]"
            raise ValueError(f"pixels lie in [0, 1], not from {low:.3g} to {high:.3g}: {fix}")
        return self.tensor_fn(pixels, prompts)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that changes the numbers: name, arguments, columns, the networks' fingerprints,
        version."""
        made_of = [network.fingerprint for network in self.networks]
        facts = [
            self.info.name,
            dict(self.args),
            dict(self.columns),
            made_of,
            self.release or version("mmreward"),
        ]
        return hashlib.blake2b(
            json.dumps(facts, sort_keys=True, default=str).encode(), digest_size=8
        ).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered factory, and the facts that hold for every reward it makes."""

    info: RewardInfo
    factory: Factory


_entries: dict[str, Entry] = {}
_logged: set[str] = set()
"""Lines about broken entry points that have been logged."""


def reward(
    name: str,
    *,
    needs: tuple[str, ...],
    optional: tuple[str, ...] = (),
    range: tuple[float, float],
    higher_is_better: bool = True,
    arity: Arity = "point",
    differentiable: bool = False,
    uses_prompt: bool = True,
    paper: str = "",
    licence: str = "",
    example: Mapping[str, Any] | None = None,
) -> Callable[[Factory], Factory]:
    """Register a factory. Its arguments are the reward's options; it returns `async def score(sample) ->
    Score`.

    A `pair` reward's function takes two samples and returns the probability-like Score of the first being
    better; a `group` reward's takes a list and returns a list. A differentiable reward returns the pair
    `(score, score_tensor)`, and `(score, None)` for arguments that leave it without a gradient. The first
    line of the factory's docstring becomes the summary.

    >>> import mmreward
    >>> @mmreward.reward("brevity", needs=("response",), range=(0.0, 1.0))
    ... def brevity(words: int = 10):
    ...     "1 for a response of at most so many words, else 0."
    ...     async def score(sample):
    ...         return mmreward.Score(float(len(sample.response.split()) <= words))
    ...     return score
    >>> mmreward.score({"response": "It is 4."}, "brevity:words=2")["brevity"][0].value
    0.0

    Raises:
        ValueError: the name is taken, or the docstring is missing.
    """

    def register(factory: Factory) -> Factory:
        known = _entries.get(name)
        if known is not None and _place(known.factory) != _place(factory):
            raise ValueError(f"a reward named {name!r} exists already, in {known.factory.__module__}")
        if not factory.__doc__:
            raise ValueError(f"the factory of {name!r} needs a docstring: range, paper and arguments")
        info = RewardInfo(
            name=name,
            needs=needs,
            optional=optional,
            range=range,
            higher_is_better=higher_is_better,
            arity=arity,
            differentiable=differentiable,
            uses_prompt=uses_prompt,
            paper=paper,
            licence=licence,
            example=example or {},
            summary=inspect.getdoc(factory).split("\n")[0],  # type: ignore[union-attr]
        )
        _entries[name] = Entry(info, factory)
        return factory

    return register


def _place(factory: Factory) -> tuple[str, str]:
    return factory.__module__, factory.__qualname__


def record_network(network: Fingerprinted) -> None:
    """Add a network to the fingerprint of the reward that is being loaded; `models` calls it for each
    handle."""
    networks = _recorded.get()
    if networks is not None and network not in networks:
        networks.append(network)


_amended: ContextVar[dict[str, Any] | None] = ContextVar("amended", default=None)
"""Facts of the reward that is being loaded that its arguments decide."""


def amend(**facts: Any) -> None:
    """Set fields of the `RewardInfo` of the reward that is being loaded, where its arguments decide them:
    needs, range, direction; a factory calls it."""
    if (amended := _amended.get()) is not None:
        amended |= facts


@contextmanager
def amending() -> Iterator[dict[str, Any]]:
    """Facts that a factory sets with `amend` inside the block, as a mapping that fills."""
    facts: dict[str, Any] = {}
    token = _amended.set(facts)
    try:
        yield facts
    finally:
        _amended.reset(token)


@contextmanager
def recording_networks() -> "Iterator[list[Fingerprinted]]":
    """Networks that a factory asks for inside the block, as a list that fills."""
    networks: list[Fingerprinted] = []
    token = _recorded.set(networks)
    try:
        yield networks
    finally:
        _recorded.reset(token)


@contextmanager
def not_recorded() -> Iterator[None]:
    """Block in which networks are parts of another one, whose own fingerprint covers them."""
    token = _recorded.set(None)
    try:
        yield
    finally:
        _recorded.reset(token)


def find(name: str) -> Entry:
    """Look up a reward: among our own first, then behind an entry point of that name.

    Raises:
        ValueError: no such reward; the message offers the nearest names. Or one behind an entry point that
            cannot be loaded; the message says why.
    """
    if name not in _entries:
        _import_own()
    if name not in _entries:
        for point in entry_points(group="mmreward.rewards"):
            if point.name == name and (trouble := _trouble(point)):
                raise ValueError(trouble)
    if name not in _entries:
        _discover()
    if name not in _entries:
        raise ValueError(f"no reward named {name!r}: {meant_by(name, _entries)}")
    return _entries[name]


def list_rewards(glob: str = "*") -> list[RewardInfo]:
    """Facts of every reward whose name matches the glob, sorted by name; imports no network.

    >>> [info.name for info in list_rewards("clips*")]
    ['clipscore']

    An entry point that cannot be loaded is logged in one line (on stderr, unless logging is set up), and is
    not listed.
    """
    _discover()
    return [_entries[name].info for name in sorted(_entries) if fnmatchcase(name, glob)]


def only_own() -> bool:
    """True where every reward is in the files of `mmreward/rewards/`: no other package offers one, and none
    has been declared in this process."""
    return not _entries and not entry_points(group="mmreward.rewards")


def _discover() -> None:
    """Import every file of `mmreward/rewards/` and every entry point; one that breaks is logged, once."""
    _import_own()
    for point in entry_points(group="mmreward.rewards"):
        if point.name not in _entries and (trouble := _trouble(point)) and trouble not in _logged:
            _logged.add(trouble)
            logging.getLogger(__name__).warning(trouble)


def _trouble(point: EntryPoint) -> str:
    """Load an entry point; the reason in one line where that fails, which other people's code may do in any
    way."""
    try:
        point.load()
    except (Exception, SystemExit) as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        return f"the reward {point.name!r} ({point.value}) cannot be loaded: {words}"
    return ""


@cache
def _import_own() -> None:
    """Import every file in the rooms of `mmreward/rewards/`; none of them imports torch."""
    import mmreward.rewards

    for module in pkgutil.walk_packages(mmreward.rewards.__path__, "mmreward.rewards."):
        importlib.import_module(module.name)
