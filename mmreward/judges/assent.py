"""Training of a judge whose verdict is its probability of "yes": RewardDance's two forms (arXiv:2509.08826).

Against a reference, "is the second picture better?" is fitted by cross-entropy of the first token, in both
orders of every comparison, so that neither place is right more often. Alone, "is it a good picture?", the
probabilities of "yes" of both pictures are fitted by Bradley-Terry, with a little cross-entropy that keeps
them apart from each other's middle. What comes out is read by the rewards `rewarddance` and
`rewarddance_group`.

Needs torch and transformers alone: nothing is generated. `examined` asks a judge about held-out comparisons.
"""

from asyncio import gather
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.nn.functional import logsigmoid

from ..config import Positive, Strict
from ..errors import Unscorable
from ..evaluation import judge_both
from ..mini.loop import Plan, fit
from ..models.vlms.answers import YES_NO, Ask, Pictures, label_logprobs, label_sets, messages
from ..registry import Reward
from ..rewards.published.rewarddance import AGAINST, ALONE
from ..types import Sample
from .comparison import Comparison, both_orders
from .training import load_judge

# --- training ---------------------------------------------------------------------------------------------


class AssentPlan(Strict):
    """Options of a training.

    Args:
        steps: of the optimiser.
        batch: comparisons in a step; each is four questions.
        lr: the largest learning rate; it rises over a twentieth of the steps and falls along a cosine.
        alone: weight of the questions about one picture beside those about two.
        small: weight of their cross-entropy beside Bradley-Terry.
        seed: of the order of the comparisons.
    """

    steps: Positive = 120
    batch: Positive = 8
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3e-4
    alone: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    small: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    seed: int = 0


class Assent:
    """Log-probabilities of yes and no as a checkpoint's first word, with a gradient.

    Args:
        folder: name or folder of the weights, of a Qwen family.
        half: multiply in bfloat16, as is done in training; the weights stay in float32.
    """

    def __init__(self, folder: str, *, half: bool = True) -> None:
        self.half = half
        self.model, self.processor = load_judge(folder)
        self.model.float()
        chat = self._chat(Ask((), "?"), 0)
        self._sets = label_sets(self.processor.tokenizer, chat[chat.rindex("?") + 1 :], YES_NO)

    def __call__(self, asks: Sequence[Ask]) -> torch.Tensor:
        """(N, 2): yes and no, each over all of its spellings, of the whole vocabulary."""
        inputs = self.processor(
            text=[self._chat(ask, len(ask.media)) for ask in asks],
            images=[[picture.picture() for picture in ask.media] for ask in asks],
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        inputs = inputs.to(self.model.device)
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.half):
            logits = self.model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
        return label_logprobs(logits.float().log_softmax(-1), self._sets)

    def _chat(self, ask: Ask, pictures: int) -> str:
        turns = messages(ask, [[{"type": "image"}]] * pictures)
        text: str = self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return text

    def save(self, folder: Path) -> None:
        """Weights and processor, as `mmreward.models.vlm` loads them."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)


def asks_against(compared: Sequence[Comparison]) -> list[Ask]:
    """The question whether the second picture is better than the first, for each comparison."""
    return [Ask(one.pictures, AGAINST.own.format(prompt=one.request)) for one in compared]


def asks_alone(compared: Sequence[Comparison]) -> list[Ask]:
    """The questions about the better and the worse picture of each comparison, next to each other."""
    found = []
    for one in compared:
        ordered = one.pictures if one.better == "1" else one.pictures[::-1]
        found += [Ask((picture,), ALONE.own.format(prompt=one.request)) for picture in ordered]
    return found


def loss_against(logs: torch.Tensor, compared: Sequence[Comparison]) -> torch.Tensor:
    """Cross-entropy of the right word: yes where the second picture is better. `logs` are (N, 2)."""
    right = torch.tensor([0 if one.better == "2" else 1 for one in compared], device=logs.device)
    return -logs.gather(1, right[:, None]).mean()


def loss_alone(logs: torch.Tensor, small: float) -> torch.Tensor:
    """Bradley-Terry on P(yes) of the better and the worse, with `small` times the cross-entropy of the words.

    `logs` are (2 N, 2), better and worse in turn.
    """
    better, worse = logs[::2], logs[1::2]
    terry = -logsigmoid(better[:, 0].exp() - worse[:, 0].exp()).mean()
    return terry - small * (better[:, 0] + worse[:, 1]).mean() / 2


def train_assent(folder: str, compared: Sequence[Comparison], plan: AssentPlan, out: Path) -> Path:
    """Folder of the weights after training; `out` also keeps the checkpoint that a stopped run goes on from.

    Raises:
        ValueError: no comparisons.
    """
    if not compared:
        raise ValueError("there are no comparisons to learn from")
    torch.manual_seed(plan.seed)
    judge = Assent(folder)

    def loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, Mapping[str, float]]:
        drawn = [compared[index] for index in rng.integers(len(compared), size=plan.batch)]
        both = both_orders(drawn)
        logs = judge(asks_against(both))
        value = against = loss_against(logs, both)
        figures = {"against": against.item(), "right": _share_right(logs, both)}
        if plan.alone:
            alone = loss_alone(judge(asks_alone(drawn)), plan.small)
            value = against + plan.alone * alone
            figures["alone"] = alone.item()
        return value, figures

    options = Plan(steps=plan.steps, lr=plan.lr, warmup=max(1, plan.steps // 20), seed=plan.seed)
    fit(judge.model, loss, options, out / "assent.pt")
    judge.save(out / "judge")
    return out / "judge"


def _share_right(logs: torch.Tensor, compared: Sequence[Comparison]) -> float:
    said = (logs[:, 0] > logs[:, 1]).tolist()
    return float(np.mean([yes == (one.better == "2") for yes, one in zip(said, compared, strict=True)]))


# --- held-out comparisons ---------------------------------------------------------------------------------

Column = NDArray[np.float64]


class AssentExam(NamedTuple):
    """Figures of held-out comparisons, one entry each, 0 to 1.

    Args:
        right: share of the two orders in which "yes" is likelier than "no" exactly where it is true.
        margin: 1 where the better picture has the larger P(yes) when each is the other's reference, else 0.
        alone: 1 where the better picture has the larger P(yes) on its own, else 0; 0.5 for equal ones.
    """

    right: Column
    margin: Column
    alone: Column


async def examined(vlm: Any, compared: Sequence[Comparison]) -> AssentExam:
    """Exam of a judge; runs on the engine's loop: `Engine.run(examined(...))`.

    Raises:
        Unscorable: a question without an answer; an exam with holes compares with nothing.
    """
    both = both_orders(compared)

    async def yes(pictures: Pictures, text: str) -> tuple[float, float]:
        read = await vlm.read(pictures, text, YES_NO)
        return read.probs["yes"], read.probs["yes"] * read.mass

    against = await gather(*(yes(ask.media, ask.text) for ask in asks_against(both)))
    alone = np.array([p for _, p in await gather(*(yes(a.media, a.text) for a in asks_alone(compared)))])
    right = [(p > 0.5) == (one.better == "2") for (p, _), one in zip(against, both, strict=True)]
    absolute = np.array([p if one.better == "2" else -p for (_, p), one in zip(against, both, strict=True)])
    return AssentExam(
        right=np.array(right, float).reshape(-1, 2).mean(axis=1),
        margin=_won(absolute.reshape(-1, 2).sum(axis=1)),
        alone=_won(alone[::2] - alone[1::2]),
    )


def _won(differences: Column) -> Column:
    return np.where(differences == 0, 0.5, (differences > 0).astype(float))


async def verdicts(reward: Reward, compared: Sequence[Comparison]) -> Column:
    """Share of the two orders in which a written verdict (`preference`) is right; half for a tie, and nothing
    where it cannot be read.

    Raises:
        Unscorable: the judge did not answer.
    """

    async def share(one: Comparison) -> float:
        better, worse = one.pictures if one.better == "1" else one.pictures[::-1]
        pair = [Sample(prompt=one.request, image=picture, group=one.id) for picture in (better, worse)]
        forth, back = await judge_both(reward, pair[0], pair[1])
        for score in (forth, back):
            if not score.ok and score.status != "unparsable":
                raise Unscorable(score.note, score.status)
        return ((forth.value if forth.ok else 0.0) + (1 - back.value if back.ok else 0.0)) / 2

    return np.array(await gather(*map(share, compared)))
