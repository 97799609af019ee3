"""Judgements in the published grammars, in our own words: golden transcripts, and a server that writes them.

Each function is one grammar as its family's prompt lays it out, without a line of anybody's code.
"""

import hashlib
import json

from support.chatserver import ChatServer, Reply, completion

RR_NAMES = {
    "t2i": ("Text Faithfulness", "Physical and Visual Quality", "Text Rendering"),
    "edit": ("Text Faithfulness", "Image Faithfulness", "Physical and Visual Quality", "Text Rendering"),
}


def rational(*marks, task="t2i"):
    """RationalRewards of one picture."""
    blocks = "".join(
        f"{number}. {name}:\n## Justification: There is a 3 in this sentence, and a hat.\n## Score: {mark}\n"
        for number, (name, mark) in enumerate(zip(RR_NAMES[task], marks, strict=True), 1)
    )
    return (
        "# User Request Analysis\nText Rendering: nothing to write. Score: 4 would be bold.\n"
        f"# Detailed Judgement\n{blocks}# Summary: Text Faithfulness is fine.\n\n# User Request Refinement:\n"
        "## Refinement Comments: name the hat\n## Refined Request: a dog with a red hat\n## Score: 4.0"
    )


def rational_pair(*marks, winners=None, task="t2i"):
    """RationalRewards of two pictures; `marks` are (a, b)."""
    said = winners or [
        "N/A" if a == "N/A" else "Image A" if a > b else "Image B" if b > a else "It's a tie"
        for a, b in marks
    ]
    blocks = "".join(
        f"{number}. {name}:\n## Justification: A has two dogs, B one.\n## Score A: {a}\n## Score B: {b}\n"
        f"## Winner: {winner}\n"
        for number, (name, (a, b), winner) in enumerate(zip(RR_NAMES[task], marks, said, strict=True), 1)
    )
    return f"# User Request Analysis\nOne dog.\n# Detailed Judgement\n{blocks}# Summary: It is close."


# --- a server ---------------------------------------------------------------------------------------------


def numbers_of(request):
    """A number from 0 to 1 for each picture that a request shows, by its content, and the text."""
    parts = [
        part for m in request.body["messages"] if isinstance(m["content"], list) for part in m["content"]
    ]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    text = "".join(part["text"] for part in parts if part["type"] == "text")
    return [hashlib.sha256(url.encode()).digest()[0] / 255 for url in urls], text


WRITERS = {}
"""Words that occur in a prompt of ours -> what answers it, given the pictures' numbers."""


def scripted(request):
    """The app of `ChatServer`: a judge that marks a picture by its content, in the grammar asked for."""
    if request.path != "/v1/chat/completions":
        return Reply({"object": "list", "data": []})
    numbers, text = numbers_of(request)
    try:
        words = _answer(numbers, text)
    except (IndexError, ValueError):  # a prompt that lacks a picture or an answer: no judge would know
        words = "I cannot say."
    return Reply(completion(words))


def _answer(numbers, text):
    for mark, write in CHOOSERS.items():
        if mark in text:
            return write(_of_answers(text))
    return next((write(numbers) for mark, write in WRITERS.items() if mark in text), "I cannot say.")


def _rr(numbers):
    return rational(*(round(1 + 3 * number, 2) for number in (numbers[-1], numbers[-1] / 2)), "N/A")


def _rr_pair(numbers):
    a, b = (round(1 + 3 * number, 2) for number in numbers[-2:])
    return rational_pair((a, b), (b, b), ("N/A", "N/A"))


WRITERS[", which was made for the request"] = _rr
WRITERS["Compare two pictures made for the request"] = _rr_pair


class ScriptedJudge:
    """One server for a whole test session; `name` is what a reward calls it by."""

    def __init__(self):
        self.server = ChatServer(scripted).__enter__()
        self.name = f"judge@{self.server.url}"


# --- UnifiedReward ----------------------------------------------------------------------------------------


def ur_final(mark, elements=(("dog (animal)", 1), ("red hat (object)", 0))):
    """Version 1 of a picture."""
    return "\n".join(f"{name}: {there}" for name, there in elements) + f"\nFinal Score: {mark}"


def ur_clip(mark, *axes):
    """Version 1 of a clip."""
    names = (
        "visual quality",
        "temporal consistency",
        "dynamic degree",
        "text-to-video alignment",
        "factual consistency",
    )
    return (
        "\n".join(f"{name}: {one}" for name, one in zip(names, axes, strict=True)) + f"\nFinal Score: {mark}"
    )


def ur_axes(*marks, names=("Alignment", "Coherence", "Style")):
    """Version 2.0."""
    return "\n".join(f"{name} Score (1-5): {mark}" for name, mark in zip(names, marks, strict=True)) + "\n"


def ur_shares(*marks, noun="Image"):
    """Version 2.0 of two: `marks` are (first, second) by axis."""
    names = ("Alignment", "Coherence", "Style")
    return "\n\n".join(
        f"{name} Score:\n {noun} 1: {a}\n {noun} 2: {b}" for name, (a, b) in zip(names, marks, strict=True)
    )


def ur_think(first, second, verdict, noun="Image", totals=None):
    """Think: marks of ten by dimension, totals, answer."""
    names = ("Semantic consistency", "Aesthetics", "Authenticity", "Layout")
    blocks = "".join(
        f"{number}. {name}: \n    {noun} 1 ({a}/10) - it has the dog; \n    {noun} 2 ({b}/10) - no dog\n"
        for number, (name, a, b) in enumerate(zip(names, first, second, strict=False), 1)
    )
    sums = totals or (sum(first), sum(second))
    added = "\n".join(
        f"{noun} {place}: {'+'.join(map(str, marks))}={total}"
        for place, marks, total in zip("12", (first, second), sums, strict=True)
    )
    return f"<think>\n{blocks}Total score:\n{added}\n</think>\n<answer>{verdict}</answer>"


def ur_flex(*categories, winner="Image 1", noun="Image"):
    """Flex: each category is a list of (first, second) marks, or (marks, winner)."""
    shown = []
    for number, category in enumerate(categories):
        marks, said = category if isinstance(category, tuple) else (category, "")
        first, second = (sum(column) for column in zip(*marks, strict=True))
        dims = [
            {"name": f"d{n}", "reason_1": "a dog", "reason_2": "none", "score_1": a, "score_2": b}
            for n, (a, b) in enumerate(marks)
        ]
        best = said or f"{noun} {1 if first >= second else 2}"
        shown.append({"name": f"c{number}", "dims": dims, "cat_reason": "so", "cat_winner": best})
    body = {"prompt": "a dog", "categories": shown, "reason": "so", "winner": winner}
    return f"```json\n{json.dumps(body, indent=2)}\n```"


def vie(*marks, reasoning="The hat is red, as asked."):
    """VIEScore, EditScore and UnifiedReward-Edit of one picture."""
    return f'{{\n"reasoning" : "{reasoning}",\n"score" : [{", ".join(map(str, marks))}]\n}}'


def _think(numbers):
    a, b = (1 + round(9 * number) for number in numbers[-2:])
    return ur_think((a, 5), (b, 5), f"Image {'1' if a >= b else '2'} is better")


def _shares(numbers):
    share = round(numbers[0] / (sum(numbers) or 1), 4)
    return ur_shares(*((share, round(1 - share, 4)),) * 3)


WRITERS["Alignment Score (1-5): a number"] = lambda numbers: ur_axes(*(round(1 + 4 * numbers[0], 4),) * 3)
WRITERS["mark from 0 to 100"] = lambda numbers: "It is right.\nFinal Score: 85"
WRITERS["`Final Score: `"] = lambda numbers: ur_final(round(1 + 4 * numbers[0], 1))
WRITERS["and a final one from 1 to 10"] = lambda numbers: ur_clip(6, 4, 4, 3, 1, 2)
WRITERS["between <answer>"] = _think
WRITERS["Judge an edit for the request"] = lambda numbers: rational(
    *(round(1 + 3 * number, 2) for number in numbers), 3, "N/A", task="edit"
)
WRITERS["Compare two edits for the request"] = lambda numbers: rational_pair(
    tuple(round(1 + 3 * number, 2) for number in numbers[1:]), (3, 3), (2, 2), ("N/A", "N/A"), task="edit"
)
WRITERS["Answer with `Image 1 is better.`"] = lambda n: f"Image {1 if n[-2] > n[-1] else 2} is better."
WRITERS["which may be below 0"] = lambda numbers: f"Image 1: {numbers[1] - 0.5}\nImage 2: {numbers[2] - 0.5}"
WRITERS["with the sum 10"] = lambda numbers: (
    ur_flex([(6, 4)]) if numbers[0] > numbers[1] else ur_flex([(4, 6)], winner="Image 2")
)
WRITERS["a share"] = _shares
WRITERS["two numbers from 0 to 25"] = lambda numbers: vie(round(25 * numbers[-1]), 20)


def video2(*marks, thought="It is sharp. visual quality: 2"):
    """VideoScore2, whose own model repeats the descriptors of its prompt."""
    names = (
        "visual quality \u2013 clarity, smoothness, artifacts",
        "text-to-video alignment \u2013 fidelity to the prompt",
        "physical/common-sense consistency \u2013 naturalness and physics plausibility",
    )
    lines = [f"({n}) {name}: {mark}" for n, (name, mark) in enumerate(zip(names, marks, strict=True), 1)]
    return f"<think>{thought}</think>\n" + "\n".join(lines)


WRITERS["two numbers from 0 to 10"] = lambda numbers: vie(round(10 * numbers[-1], 1), 9)
WRITERS["whole marks"] = lambda numbers: video2(*(1 + round(4 * numbers[0]),) * 3)


WRITERS["Mark how the episode ends"] = lambda numbers: f"ANSWER: {1 + round(4 * numbers[-1])}"
WRITERS["It begins like this, at 0 percent"] = lambda numbers: json.dumps(
    [
        {"frame_number": number, "task_completion_percentage": round(100 * far)}
        for number, far in enumerate(numbers[1:], 1)
    ]
)


def _reagent(numbers):
    mark = round(10 * numbers[-1], 1)
    return {"success_or_failure": {"score": int(mark > 5)}, "overall_assessment": {"score": mark}}


for _stance in ("Keep the answer unless", "Correct the answer where", "Doubt the answer"):
    WRITERS[_stance] = lambda numbers: json.dumps({"final_answer": _reagent(numbers), "confidence": 0.9})
WRITERS["Did it succeed, and how well did it go?"] = lambda numbers: json.dumps(_reagent(numbers))
WRITERS["By how many percent of the way"] = lambda numbers: str(round(100 * (numbers[1] - numbers[0])))
WRITERS["How much further is it after"] = lambda numbers: (
    f"<score>{round(100 * (numbers[-1] - numbers[2])):+d}%</score>"
)


def _of_answers(text):
    """A choice of two by their lengths, then by their words: the same in both orders."""
    lines = [
        line.partition(": ")[2]
        for line in text.splitlines()
        if line.startswith(("Answer ", "Response ", "[0] "))
    ]
    first, second = lines[-2:]
    return "1" if (len(first), first) > (len(second), second) else "2"


def arbitrated(place, criteria="The element exists (0.6); progress (0.4).", analysis="1 is a detour."):
    """WebArbiter."""
    return (
        f"<think>Let me see.</think>\n<Criteria>{criteria}</Criteria>\n<Analysis>{analysis}</Analysis>\n"
        f"<Answer>Response {place}</Answer>"
    )


def planned(winner, reasoning="It uses the right tool."):
    """Plan-RewardBench."""
    return json.dumps({"reasoning": reasoning, "winner": f"[[{winner}]]"})


def _armed(numbers):
    """ARM-Thinker of one answer: a look at the upper half, then a judgement."""
    if len(numbers) == 1:
        arguments = {"image": "original_image", "bbox_2d": [0, 0, 1000, 500]}
        named = {"name": "image_zoom_in_tool", "arguments": arguments}
        return f"<think>Let me see.</think><tool_call>{json.dumps(named)}</tool_call>"
    said = numbers[0] > 0.5
    return f"<think>The half shows it.</think><answer>Overall Judgment: {said}</answer>"


WRITERS["Judgment: True</answer> or False"] = _armed


def brrm(*abilities, first="None identified", second="it counts wrongly"):
    """First turn of BR-RM."""
    focus = ", ".join(abilities or ("Logical Reasoning",))
    blocks = "\n".join(
        f"[Quality Analysis for Response {n}]\n- Critical Issues: {issue}\n"
        f"[End of Quality Analysis for Response {n}]"
        for n, issue in ((1, first), (2, second))
    )
    return f"[Quality Assessment Focus]\n{focus}\n[End of Quality Assessment Focus]\n{blocks}"


def brrm_ranking(place):
    """Second turn of BR-RM."""
    analysis = "".join(
        f"[The Begin of Analysis on Response {n}]\nIt says \\boxed{{3}}.\n"
        f"[The End of Analysis on Response {n}]\n"
        for n in (1, 2)
    )
    return f"{analysis}[The Begin of Ranking Score]\n\\boxed{{{place}}}\n[The End of Ranking Score]"


CHOOSERS = {
    "Look again at what you found": brrm_ranking,
    "Which of two next actions": arbitrated,
    "Compare two trajectories": lambda place: planned("AB"[int(place) - 1]),
    "between [Quality Assessment Focus] and": lambda place: brrm(),
    "Compare two answers to a question": lambda place: f"<think>So.</think>\\boxed{{Answer {place}}}",
    "Judgment: Answer 1 is better</answer> or": lambda place: (
        f"<think>One says more.</think><answer>Overall Judgment: Answer {place} is better</answer>"
    ),
    "<answer>1</answer> or": lambda place: f"<think>The first says less.</think><answer>{place}</answer>",
    "Write `Answer 1 is better.`": lambda place: f"Answer {place} is better.",
    "Compare two answers": lambda place: ur_think(
        *(((9, 8), (7, 8)) if place == "1" else ((7, 8), (9, 8))), f"Answer {place} is better", noun="Answer"
    ),
}
"""Words that occur in a prompt of ours about two answers -> what a judge writes that prefers this one."""


def _agent(numbers):
    """AgentRewardBench's judge, by the last screenshot."""
    well = numbers[-1] > 0.5
    return (
        f"<reasoning>It ends so.</reasoning>\n<success>{'Successful' if well else 'Unsuccessful'}</success>\n"
        f"<side>{'No' if well else 'Yes'}</side>\n<optimal>{3 if well else 2}</optimal>\n<loop>No</loop>"
    )


WRITERS["A web agent was asked"] = _agent


# --- MagicGUI-RMS -----------------------------------------------------------------------------------------


def corrected(correct=True, action=None, reason="It is there."):
    """The specialist."""
    return json.dumps({"correct": correct, "reason": reason, "corrected": action})


def preferred_by(score, valid=True, complete=False):
    """The generalist."""
    return json.dumps({"valid": valid, "complete": complete, "score": score})


WRITERS["You know this device"] = lambda numbers: corrected()
WRITERS["Judge this next action"] = lambda numbers: preferred_by(round(10 * numbers[-1], 1))


# --- ReAgent-V --------------------------------------------------------------------------------------------


def criticised(*marks):
    """Its critic: five marks from 0 to 5."""
    names = ("visual_alignment", "temporal_accuracy", "option_disambiguation", "reasoning_specificity",
             "linguistic_precision")  # fmt: skip
    scores = {name: {"value": mark, "reason": "so"} for name, mark in zip(names, marks, strict=True)}
    total = sum(mark for mark in marks if isinstance(mark, int | float))
    return json.dumps(
        {"structured_feedback": "fine", "scores": scores, "total_score": total, "scalar_reward": total / 25}
    )


WRITERS["on five dimensions from 0 to 5"] = lambda numbers: criticised(round(5 * numbers[-1], 1), 4, 3, 2, 1)
