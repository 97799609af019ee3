"""LLaVA-Critic-R1 (arXiv:2509.00676): a policy of Qwen2.5-VL's size trained as a critic of two answers.

Asked as its authors ask on VL-RewardBench: think, then `\\boxed{}`; or without thinking, where the judgement
ends with "Overall Judgment: Answer 1 is better". LLaVA-Critic itself (arXiv:2410.02712) has no published
prompt that was found.
"""

import re
from typing import Any

from ... import models
from ...errors import Unscorable
from ...models.pinned import Pin
from ...registry import reward
from ...types import Sample, Score
from ...verifiers.response import closing_brace, inside_box
from ...verifiers.text import nfkc
from .declaring import Judge, answered, judged_answers
from .grammar import OPEN, body_of, verdict_in
from .votes import Options, PairMarks, by_verdict
from .wording import Prompt, worded


def _pin(symbol: str, sha256: str) -> Pin:
    commit, path = "6fd42d1ff9279c85d06f9598a7f837a7286f67d1", "eval_llama32v/model_vlreward_llama32v.py"
    return Pin("si0wang/LLaVA-Critic-R1", commit, path, symbol, sha256)


ASKED = _pin("prompt.prompt_str", "7ff2cc777e8ffa8d96429e8890ba6b67439611a2808fc9badce0885844ea9a00")
THINK = _pin("instruct_prompt", "ce8dbcf37ba747f35b4951d2f267615c7621d8c4d20ffc9524202081ed98bf5f")
FIELDS = {"{data_obj['query']}": "prompt", "{answers[0]}": "first", "{answers[1]}": "second"}
SYSTEM = "You are a helpful assistant."
NAMED = re.compile(
    r"(?:(?:overall judgment|final answer)\s*:?\s*)?(?:answer\s*)?([12])(?:\s*is\s*better)?\.?"
)
ENDING = " \n\t}.$*`"
DRESS = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}")


def read_boxed(text: str) -> PairMarks:
    """The answer in a box after the thinking; a tie is not permitted.

    Without a tag that closes the thinking, as behind a server that keeps the thinking back, the box must end
    the text: one with more behind it may be from a thought whose tags are lost.

    Raises:
        Unscorable: "missing" without a box; "unparsable" for two, for a choice in a brace of another macro,
            or for what names neither answer.
    """
    body = body_of(text)
    if body.count("\\boxed") + body.count("\\fbox") > 1 or OPEN.search(body):
        raise Unscorable(f"two boxes in: {body.strip()[-200:]}", "unparsable")
    if (inside := inside_box(body)) is None:
        raise Unscorable(f"no \\boxed{{}} in: {body.strip()[-200:]}", "missing")
    closing = closing_brace(body, body.index("{", max(body.find("\\boxed"), body.find("\\fbox"))))
    if len(body) == len(text) and body[closing:].strip(ENDING):
        raise Unscorable(f"the box is not at the end, nor behind thinking: {body[-200:]}", "unparsable")
    bare = " ".join(DRESS.sub(r"\1", nfkc(inside[:200])).casefold().split())
    if (named := NAMED.fullmatch(bare)) is None:
        raise Unscorable(f"the box has {inside[:60]!r}, which names neither answer", "unparsable")
    return PairMarks({}, {}, named[1])


def read_stated(text: str) -> PairMarks:
    """The sentence that says which answer is better.

    Raises:
        Unscorable: see `grammar.verdict_in`; "unparsable" for a tie.
    """
    verdict = verdict_in(body_of(text), "answer")
    if not verdict:
        raise Unscorable("a tie, which is not permitted", "unparsable")
    return PairMarks({}, {}, verdict)


OWN = (
    "Compare two answers to a question about the picture. {how}\nQuestion: {prompt}\nAnswer 1: {first}\n"
    "Answer 2: {second}"
)
THINKING = Judge(
    prompt=Prompt(
        pins=(ASKED, THINK),
        fields=FIELDS,
        own=OWN.replace("{how}", "Think between <think> and </think>, then write \\boxed{1} or \\boxed{2}."),
        own_system=SYSTEM,
    ),
    shows=(answered(),),
    grammar=read_boxed,
    aggregate=by_verdict,
)
STATING = Judge(
    prompt=Prompt(
        pins=(ASKED,),
        fields=FIELDS,
        own=OWN.replace("{how}", "Say why; end with `Overall Judgment: Answer 1 is better.` or 2."),
        own_system=SYSTEM,
    ),
    shows=(answered(),),
    grammar=read_stated,
    aggregate=by_verdict,
)
LICENCE = "none stated (LLaVA-Critic-R1's prompts); the judge's own"


@reward("llava_critic", needs=("prompt", "response"), optional=("shown", "inputs"),
        range=(0.0, 1.0), arity="pair",
        paper="arXiv:2509.00676", licence=LICENCE)  # fmt: skip
def llava_critic(
    judge: str = "lmms-lab/LLaVA-Critic-R1-7B",
    think: bool = True,
    words: str = "published",
    max_tokens: int = 4096,
    temperature: float = 0.0,
    seed: int = 0,
    votes: int = 1,
    dtype: str = "float32",
) -> Any:
    """1 where the judge prefers the first of two responses to one question, 0 where the second.

    Both orders are asked, and `parts["swing"]` is their disagreement. The pictures or the clip of the
    question are shown; of a response, what follows its reasoning. One that is empty or cut off loses to one
    that is not. Upstream asks in one order, drawn at random.

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one).
        think: ask it to think, and to answer in a box.
        words: "published", "own", or a file; see `published.wording.worded`.
        max_tokens: length at which a judgement is cut off.
        temperature: of the sampling; 0 is greedy.
        seed: of the sampling; that of the first vote.
        votes: samples whose mean is taken.
        dtype: of the judge.
    """
    options = Options(max_tokens, temperature, seed, votes).checked()
    form = THINKING if think else STATING
    wording = worded(words, form.prompt)._replace(system=SYSTEM)
    vlm = models.vlm(judge, dtype=dtype)

    async def score(first: Sample, second: Sample) -> Score:
        return await judged_answers(vlm, form, wording, (first, second), options)

    return score
