"""Networks shared among rewards: one per distinct arguments, and one dual encoder per content and dtype.

Imports no torch before a network is made.
"""

from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from inspect import signature
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from ..registry import Fingerprinted, not_recorded, record_network
from .wants import note_call, noting

if TYPE_CHECKING:
    from .encoders import DualEncoder

_dual_encoders: "dict[tuple[str, str, str, bool, bool], DualEncoder]" = {}


class Nothing:
    """Stands for a network and its attributes where only names are asked for, see `wants`."""

    def __getattr__(self, name: str) -> "Nothing":
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()


P = ParamSpec("P")
N = TypeVar("N", bound=Fingerprinted)


def shared(make: Callable[P, N]) -> Callable[P, N]:
    """One network per distinct arguments, noted in the fingerprint of the reward that asks for it."""
    networks: dict[tuple[Any, ...], N] = {}
    parameters = signature(make)

    @wraps(make)
    def get(*args: P.args, **kwargs: P.kwargs) -> N:
        bound = parameters.bind(*args, **kwargs)
        bound.apply_defaults()  # a default spelled out is no other network
        if noting():
            note_call(make.__name__, bound.arguments)
            return cast(N, Nothing())
        key = tuple(bound.arguments.items())
        if key not in networks:
            with not_recorded():  # else they would be recorded the first time only
                networks[key] = make(*args, **kwargs)
        record_network(networks[key])
        return networks[key]

    return get


def dual_encoder(
    weights: str, dtype: str, *, architecture: str = "", letterbox: bool = False, unit: bool = True
) -> "DualEncoder":
    """The network of these arguments, shared by all names of equal content."""
    from .encoders import DualEncoder, UnscaledEncoder
    from .weights import weights_key

    kind = DualEncoder if unit else UnscaledEncoder
    network = kind(weights, dtype=dtype, architecture=architecture, letterbox=letterbox)
    key = (weights_key(network.source), dtype, architecture, letterbox, unit)
    return _dual_encoders.setdefault(key, network)


def need_package(what: str, extra: str, package: str) -> None:
    """Look for a package without importing it, so that one that is missing is known before the first row."""
    for module in (package, "onnxruntime"):
        if find_spec(module) is None:
            raise ValueError(f'{what} needs {module}: pip install "mmreward[{extra}]"')
