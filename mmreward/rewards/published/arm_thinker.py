"""ARM-Thinker (arXiv:2512.05111): Qwen2.5-VL-7B that judges answers, with tools to look closer.

Its turns are `<think>...</think>` and one call, or the judgement: `<answer>Overall Judgment: Answer 1 is
better</answer>` of two, `True` or `False` of one. Prompts, system message, declarations of the tools and the
words of their results are the publisher's, by their hashes. After the last call it is told to answer.

Upstream finds a document's pages by CLIP features that it does not publish; here they are found by their
words (`tools.ranked`), and `meta["pages"]` has these. It takes "True" from anywhere, and a call that cannot
be read for an answer; both are typed failures here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ... import models
from ...errors import Unscorable
from ...models.pinned import Pin, needed
from ...models.vlms.answers import Writer, shown_to
from ...registry import reward
from ...types import Sample, Score
from ...verifiers.response import read_or_wrong, reply_of
from .declaring import Judge, Look, answered, judged, judged_answers
from .grammar import answered_of
from .looking import Budget, Equipment, Terms
from .tools import CROP, PAGE, PAGES, SEARCH, Tool, case_of, renamed
from .votes import Marks, Options, PairMarks, by_verdict, final_between
from .wording import Prompt, Wording, worded

# --- what is published ------------------------------------------------------------------------------------


def _pin(path: str, symbol: str, sha256: str) -> Pin:
    return Pin("InternLM/ARM-Thinker", "96b1baf01697b57543cef2097b98ead24bce4d9c", path, symbol, sha256)


UTILS, TOOLS = "eval_utils/utils.py", "examples/self/multiturn/config/tool_config"
SYSTEM = _pin("arm_agent/system_template.py", "CommonSystemTemplate",
              "b64d13a8cd1a548c65ec7811a3b62ae841080db71ec59b29a7a93f1efefa23e8")  # fmt: skip
LAST = _pin("arm_agent/agent_verl.py", "NOT_ALLOWED_TOOL_CALL_MESSAGE",
            "606771336bff4082376d7f315b55a0d23df8cc181e293d9572c9b6ba6f554b34")  # fmt: skip
THINK = _pin(UTILS, "FIXED_COT_PROMPT", "44f81c2ce1c95f7364482a3132574899900dcbd3eeb0e1e237642d3b407a30c8")
PAIR = _pin(UTILS, "make_prompt_pair_rm.prompt",
            "50fe1206ef9cd6586014c3e104df7afcd5feec52a4b63784d7a302f4852f329b")  # fmt: skip
POINT = _pin(UTILS, "make_prompt_single_rm.prompt",
             "e19e41c9d9c2c3988309a8a84a1edbc64e4b5fe258e47488934e9423ffd36be6")  # fmt: skip
DOCUMENT = _pin("eval_utils/common/eval_vllm_api_agent_verl.py", "process_item.doc_id_prompt",
                "b92e452a8a8c576b25425ed24c422f8cce61a03e6b5c39346f88ae7769e55839")  # fmt: skip
ZOOM = _pin(f"{TOOLS}/image_zoom_in_tool_config.yaml", "",
            "67af722b0d33e50a4a823858b02b8822cc4a6fc713504eb75e7a64a92366d232")  # fmt: skip
RETRIEVAL = _pin(f"{TOOLS}/doc_page_retrieval_tool_config.yaml", "",
                 "b08a570b85235b1a26ee8d3487ac58f2127284d027eff5438627753a03b89feb")  # fmt: skip
ZOOMED = _pin("verl/tools/image_zoom_in_tool.py", "ImageZoomInTool.execute.response_text",
              "8599efba9b9e9006bfda129146aa40b35db005b5300ad65d23b6340cf807fd00")  # fmt: skip
FOUND = _pin("verl/tools/doc_page_tools.py", "DocPageSearchTool.execute.response_text",
             "c4d9de4ff955d4870c0ce88acc971bc3cd6a97b46693435d7ccdb399c2ecb12f")  # fmt: skip
OPENED = _pin("verl/tools/doc_page_tools.py", "DocPageByIndexTool.execute.response_text",
              "ab36c89414e6431ea93322035439ad854414fba68810d0f618bbf6310ba9d621")  # fmt: skip

SAYS: Mapping[str, tuple[Tool, Pin, Pin, Mapping[str, str]]] = {
    "image_zoom_in_tool": (
        CROP, ZOOM, ZOOMED, {"observation_{action_x + 1}": "{new}", "{image_key}": "{image}"}
    ),
    "doc_page_retrieval_by_query": (SEARCH, RETRIEVAL, FOUND, {"{pages_in_order}": "{pages}"}),
    "doc_page_retrieval_by_index": (PAGE, RETRIEVAL, OPENED, {"{idx}": "{page}"}),
}  # fmt: skip
"""Publisher's name of a tool -> ours, where it is declared, what it says, and its fields in ours."""
LINE = "The given image is `original_image`."
"""Sentence in the place of which a document is named."""


def _prompt(asked: Pin, fields: Mapping[str, str], own: str) -> Prompt:
    return Prompt(pins=(asked, THINK), fields=fields, make="\n\n".join, own=own)


def _of_document(asked: Pin, fields: Mapping[str, str], own: str) -> Prompt:
    def made(pieces: Sequence[str]) -> str:
        question, think, document = pieces
        return f"{question}\n\n{think.replace(LINE, document)}"

    fields = {**fields, "{doc_id_rm_pdf}": "document"}
    own = f"{own}\nThe document is called {{document}}."
    return Prompt(pins=(asked, THINK, DOCUMENT), fields=fields, make=made, own=own)


OWN_PAIR = (
    "Which of two responses is better? The correct one is; use tools to see. Think between <think> and "
    "</think>, then write <answer>Overall Judgment: Answer 1 is better</answer> or Answer 2.\n"
    "Question: {prompt}\nResponse 1: {first}\nResponse 2: {second}"
)
OWN_POINT = (
    "Is the response correct? Use tools to see. Think between <think> and </think>, then write "
    "<answer>Overall Judgment: True</answer> or False.\nQuestion: {prompt}\nResponse: {response}"
)
OF_TWO = {"{instruction}": "prompt", "{prediction1}": "first", "{prediction2}": "second"}
OF_ONE = {"{instruction}": "prompt", "{prediction}": "response"}

# --- grammar ----------------------------------------------------------------------------------------------


def _said(text: str) -> str:
    answer = " ".join(answered_of(text).answer.split()).strip(" .*`").casefold()
    return answer.removeprefix("overall judgment").lstrip(" :").strip()


def read_pair(text: str) -> PairMarks:
    """The better of two answers; a tie is not permitted.

    Raises:
        Unscorable: "unparsable" for anything else.
    """
    said = _said(text)
    for place in ("1", "2"):
        if said in (place, f"answer {place}", f"answer {place} is better", f"answer {place} is preferred"):
            return PairMarks({}, {}, place)
    raise Unscorable(f"the answer {said[:60]!r} names neither Answer 1 nor Answer 2", "unparsable")


def read_point(text: str) -> Marks:
    """True or False of one answer.

    Raises:
        Unscorable: "unparsable" for anything else.
    """
    said = _said(text)
    if said not in ("true", "false"):
        raise Unscorable(f"the answer {said[:60]!r} is neither True nor False", "unparsable")
    return Marks({}, float(said == "true"))


# --- rewards ----------------------------------------------------------------------------------------------


def shown() -> Look:
    """What is asked about; the pages of a document are looked up and not shown."""
    every = answered()

    def look(samples: Sequence[Sample]) -> Sequence[Any]:
        first = samples[0]
        if first.meta.get(PAGES) and len(first.inputs) == len(first.meta[PAGES]):
            return () if first.shown is None else (first.shown,)
        return every(samples)

    return look


def equipped(names: Sequence[str], words: str, budget: Budget) -> Equipment:
    """Tools and words of the loop, published or ours.

    Raises:
        ValueError: an unknown tool; a published text that is not here.
    """
    if unknown := [name for name in names if name not in SAYS]:
        raise ValueError(f"ARM-Thinker has no tool {unknown[0]!r}; there are {', '.join(SAYS)}")
    chosen = {name: SAYS[name] for name in names}
    if words != "published" and not Path(words).is_dir():
        tools = {name: replace(tool, name=name) for name, (tool, *_) in chosen.items()}
        return Equipment(tools, budget)
    folder = None if words == "published" else Path(words)
    if folder is None:
        pins = dict.fromkeys([SYSTEM, LAST, *(pin for _, *both, _ in chosen.values() for pin in both)])
        there = [needed(pin) for pin in pins]
        if not all(there):
            return Equipment({}, budget)  # only the names of files are asked for

    def text(pin: Pin) -> str:
        return pin.text(None if folder is None else folder / pin.path)

    tools = {}
    for name, (tool, declared, said, fields) in chosen.items():
        (schema,) = [one["tool_schema"] for one in yaml.safe_load(text(declared))["tools"]
                     if one["tool_schema"]["function"]["name"] == name]  # fmt: skip
        says = text(said)
        for theirs, ours in fields.items():
            says = says.replace(theirs, ours)
        tools[name] = renamed(tool, schema, f"{says}{{text}}" if "{text}" in tool.says else says)
    return Equipment(tools, budget, Terms(text(SYSTEM), text(LAST)))


class Armed:
    """What both forms do: words, tools and the judge; `score` of one or of two."""

    def __init__(
        self, asked: Pin, fields: Mapping[str, str], own: str, judge: str, words: str, dtype: str,
        tools: Sequence[str], budget: Budget, options: Options,
    ) -> None:  # fmt: skip
        self.of_image = worded(words, _prompt(asked, fields, own), "image")
        self.of_document = worded(words, _of_document(asked, fields, own), "document")
        self.equipped = equipped(tools, words, budget.checked())
        self.vlm = models.vlm(judge, dtype=dtype)
        self.options = options.checked()

    async def score(self, judge: Judge[Any], samples: Sequence[Sample]) -> Score:
        first = samples[0]
        wording: Wording = self.of_document if first.meta.get(PAGES) else self.of_image
        case = case_of(first, shown()(samples) if first.meta.get(PAGES) else shown_to(first))
        looking = self.equipped.on(self.vlm, case)
        writer: Writer = looking if self.equipped.tools else self.vlm
        run = judged if len(samples) == 1 else judged_answers
        score = await run(self.vlm, judge, wording, samples, self.options, writer=writer)
        return replace(score, note=looking.note + score.note)


IMAGE_TOOLS, ALL_TOOLS = ("image_zoom_in_tool",), tuple(SAYS)
LICENCE = "Apache-2.0 (ARM-Thinker's code and prompts; its data are CC BY-NC 4.0); the judge's own"


@reward("arm_thinker", needs=("prompt", "response"), optional=("shown", "inputs"),
        range=(0.0, 1.0), paper="arXiv:2512.05111",
        licence=LICENCE, example={"prompt": "What is shown?", "response": "A red circle."})  # fmt: skip
def arm_thinker(
    judge: str = "Qwen/Qwen2.5-VL-7B-Instruct",
    words: str = "published",
    tools: tuple[str, ...] = ALL_TOOLS,
    calls: int = 8,
    tokens: int = 16384,
    seconds: float = 300.0,
    max_tokens: int = 8192,
    temperature: float = 0.0,
    seed: int = 0,
    votes: int = 1,
    dtype: str = "float32",
) -> Any:
    """1 where a judge with tools finds the response correct, else 0; its calls and words are in the note.

    The judge sees the sample's picture and inputs, and cuts parts out of them. Where `meta["pages"]` has the
    texts of a document's pages it searches these instead; as many inputs are then the pages' pictures, and
    `meta["document"]` the document's name. A response that is empty or was cut off is worth 0 with
    `parts["parsed"]` 0; of the others, what follows the reasoning is judged. A call that cannot be read, or
    after the last one, and a judgement that is neither True nor False are "unparsable"; a budget of seconds
    that ends is a "timeout".

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one). The default is the base that
            ARM-Thinker was trained from; its own weights are in the hub's collection arm-thinker by
            ChrisDing1105.
        words: "published", "own", or a copy of the publisher's repository; see `published.wording.worded`.
        tools: of image_zoom_in_tool, doc_page_retrieval_by_query and doc_page_retrieval_by_index; () for
            none.
        calls: most calls, after which it is told to answer.
        tokens: most that the judge writes in all its turns.
        seconds: most that it takes.
        max_tokens: length at which one turn is cut off.
        temperature: of the sampling; 0 is greedy.
        seed: of the sampling; that of the first vote.
        votes: samples whose mean is taken; each has a budget of its own.
        dtype: of the judge.
    """
    budget, options = Budget(calls, tokens, seconds), Options(max_tokens, temperature, seed, votes)
    armed = Armed(POINT, OF_ONE, OWN_POINT, judge, words, dtype, tools, budget, options)
    form = Judge(prompt=_prompt(POINT, OF_ONE, OWN_POINT), shows=(shown(),), grammar=read_point,
                 aggregate=final_between(0, 1))  # fmt: skip

    async def score(sample: Sample) -> Score:
        found = read_or_wrong(lambda: reply_of(sample.response or ""), ("parsed",))
        if isinstance(found, Score):
            return found
        marked = await armed.score(form, (replace(sample, response=found),))
        return replace(marked, parts={"parsed": 1.0, **marked.parts})

    return score


@reward("arm_thinker_pair", needs=("prompt", "response"), optional=("shown", "inputs"),
        range=(0.0, 1.0), arity="pair",
        paper="arXiv:2512.05111", licence=LICENCE)  # fmt: skip
def arm_thinker_pair(
    judge: str = "Qwen/Qwen2.5-VL-7B-Instruct",
    words: str = "published",
    tools: tuple[str, ...] = ALL_TOOLS,
    calls: int = 8,
    tokens: int = 16384,
    seconds: float = 300.0,
    max_tokens: int = 8192,
    temperature: float = 0.0,
    seed: int = 0,
    votes: int = 1,
    dtype: str = "float32",
) -> Any:
    """1 where a judge with tools prefers the first of two responses to one question, 0 where the second.

    Both orders are asked, and `parts["swing"]` is their disagreement. One that is empty or cut off loses to
    one that is not; of the others, what follows the reasoning is judged. See also `arm_thinker`.

    Args:
        judge, words, tools, calls, tokens, seconds: see `arm_thinker`.
        max_tokens, temperature, seed, votes, dtype: see `arm_thinker`.
    """
    budget, options = Budget(calls, tokens, seconds), Options(max_tokens, temperature, seed, votes)
    armed = Armed(PAIR, OF_TWO, OWN_PAIR, judge, words, dtype, tools, budget, options)
    form = Judge(prompt=_prompt(PAIR, OF_TWO, OWN_PAIR), shows=(shown(),), grammar=read_pair,
                 aggregate=by_verdict)  # fmt: skip

    async def score(first: Sample, second: Sample) -> Score:
        return await armed.score(form, (first, second))

    return score
