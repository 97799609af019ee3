"""Better samples without training: draw more, keep the good ones early, or lean on a gradient.

Everything is generic over `Sampler` (see `sampler`), spends a counted number of network evaluations, and asks
any reward through one callable (see `rewarding`).
"""

from .best_of_n import best_of_n, expected_max, kl_bound, soft_best_of_n
from .fk import Affordable, fk_steering
from .flow_sampler import GeneratorSampler, generator_sampler
from .found import Found, Spent
from .judges import Question, VlmJudge
from .nrg import LatentTerm, PixelTerm, RewardGuided
from .pruning import Judge, prune
from .rewarding import RewardFn, engine_reward
from .sampler import Kernel, Sampler
from .tree_search import tree_search

__all__ = [
    "Affordable",
    "Found",
    "GeneratorSampler",
    "Judge",
    "Kernel",
    "LatentTerm",
    "PixelTerm",
    "Question",
    "RewardFn",
    "RewardGuided",
    "Sampler",
    "Spent",
    "VlmJudge",
    "best_of_n",
    "engine_reward",
    "expected_max",
    "fk_steering",
    "generator_sampler",
    "kl_bound",
    "prune",
    "soft_best_of_n",
    "tree_search",
]
