"""ARM-Thinker: its grammar, its words beside a second writing, its tools in both forms and in documents."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from support.mutations import never_raise_nor_pay
from support.tool_judges import PAGES, Scripted, call, picture

from mmreward import Engine, Media, Sample, Unscorable, load
from mmreward.rewards.published import arm_thinker as module
from mmreward.rewards.published.arm_thinker import ALL_TOOLS, read_pair, read_point
from mmreward.rewards.published.votes import by_verdict, final_between


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def judged(text):
    return f"<think>The first says Answer 2 is better.</think>\n<answer>{text}</answer>"


GOOD = judged("Overall Judgment: Answer 1 is better")


# --- grammar ----------------------------------------------------------------------------------------------


def test_a_verdict_is_what_the_answer_says():
    assert (
        by_verdict(read_pair(GOOD)) == 1 and by_verdict(read_pair(GOOD.replace("Answer 1", "Answer 2"))) == 0
    )
    assert read_pair("<answer>**Overall Judgment: Answer 2 is better.**</answer>").verdict == "2"
    assert read_point(judged("Overall Judgment: True")).final == 1
    assert read_point(judged("overall judgment: false.")).final == 0


@pytest.mark.parametrize(
    "said",
    ["Answer 3 is better", "Answer 1 is better than Answer 2", "Answer 1 or 2", "equal", "",
     "Answer X is better", "True", "Overall Judgment: True (or False)", "not True", "Answer 12 is better"],
)  # fmt: skip
def test_anything_else_is_unparsable(said):
    """Upstream takes the last "Answer N is better" of the whole text, and "True" from anywhere."""
    for read in (read_pair, *([read_point] if said != "True" else [])):
        with pytest.raises(Unscorable) as raised:
            read(judged(said))
        assert raised.value.status == "unparsable"
    for text in ("Answer 1 is better", "<think>Answer 1 is better", f"{GOOD}<answer>2</answer>"):
        with pytest.raises(Unscorable):
            read_pair(text)


def test_mutated_judgements_never_raise_and_never_pay_a_hedge():
    hedges = ["Answer 1 or 2", "True (or False)", "Answer 1 is better than Answer 2 is"]
    for seed, (read, text, value) in enumerate(
        [(read_pair, GOOD, by_verdict), (read_point, judged("True"), final_between(0, 1))]
    ):
        never_raise_nor_pay(
            read, [text, judged(hedges[seed])], hedges, seed=40 + seed, count=2000,
            finite=lambda marks, value=value: [value(marks)],
        )  # fmt: skip


# --- words ------------------------------------------------------------------------------------------------


def declared(name, **arguments):
    """A tool's declaration as a YAML file has it: with keys that the publisher's own classes drop."""
    properties = {
        key: {"type": kind, "description": f"The {key}.", "minItems": 4} for key, kind in arguments.items()
    }
    parameters = {"type": "object", "properties": properties, "required": list(arguments)}
    function = {"name": name, "description": f"Does {name}.", "parameters": parameters}
    return {"class_name": "x.Y", "tool_schema": {"type": "function", "function": function}}


TEXTS = {
    "SYSTEM": "Help.\n<tools>\n{tools_text}\n</tools>\n<tool_call>\n{{\"name\": <n>}}\n</tool_call>",
    "LAST": "No more calls.",
    "THINK": f"Think. {module.LINE} Then answer.",
    "PAIR": "Of two.\n{instruction}\n{prediction1}\n{prediction2}",
    "POINT": "Of one.\n{instruction}\n{prediction}",
    "DOCUMENT": "The document is `{doc_id_rm_pdf}`.",
    "ZOOMED": "This is `observation_{action_x + 1}` of {image_key}.",
    "FOUND": "Pages for '{query}' in '{filename}': {pages_in_order}.",
    "OPENED": "Page {idx} of '{filename}'.",
    "ZOOM": yaml.safe_dump({"tools": [declared("image_zoom_in_tool", image="string", bbox_2d="array")]},
                           sort_keys=False),
    "RETRIEVAL": yaml.safe_dump({"tools": [
        declared("doc_page_retrieval_by_query", filename="string", query="string"),
        declared("doc_page_retrieval_by_index", filename="string", image_idx="integer"),
    ]}, sort_keys=False),
}  # fmt: skip
VALUES = ("instruction", "prediction1", "prediction2", "prediction", "doc_id_rm_pdf", "action_x + 1",
          "image_key", "query", "filename", "pages_in_order", "idx")  # fmt: skip


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A stand-in for the publisher's repository, in our own words, with pins of its hashes."""
    new = {}
    for name, text in TEXTS.items():
        pin = getattr(module, name)
        path = tmp_path / pin.path
        path.parent.mkdir(parents=True, exist_ok=True)
        hashed = text
        if pin.symbol:
            is_f = name not in ("SYSTEM", "LAST", "THINK")
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{name} = {'f' if is_f else ''}{text!r}\n")
            for value in VALUES if is_f else ():
                hashed = hashed.replace(f"{{{value}}}", "{}")
        else:
            path.write_text(text, encoding="utf-8")
        new[pin] = replace(pin, sha256=hashlib.sha256(hashed.encode()).hexdigest())
        monkeypatch.setattr(module, name, new[pin])
    says = {name: (tool, new[a], new[b], fields) for name, (tool, a, b, fields) in module.SAYS.items()}
    monkeypatch.setattr(module, "SAYS", says)
    return tmp_path


def armed(monkeypatch, name, *lines, **args):
    judge = Scripted(*lines)
    monkeypatch.setattr(module.models, "vlm", lambda weights, dtype: judge)
    return judge, load(name, **args)


def pair(**fields):
    texts = ("A red circle.", "A circle.")
    image = picture()
    return [Sample(prompt="What is it?", image=image, response=text, group="g", **fields) for text in texts]


ZOOM = call("image_zoom_in_tool", image="original_image", bbox_2d=[0, 0, 500, 1000])


def test_published_words_are_put_together_as_published(engine, monkeypatch, repository):
    judge, loaded = armed(
        monkeypatch, "arm_thinker_pair", f"<think>hm</think>{ZOOM}", GOOD, words=str(repository)
    )
    score = engine.run(loaded(*pair()))
    assert score.value == 1 and score.note.startswith("[1] image_zoom_in_tool") and score.note.endswith(GOOD)
    (prompt, system, _, _), (second, _, history, _) = judge.asked
    assert prompt == f"Of two.\nWhat is it?\nA red circle.\nA circle.\n\nThink. {module.LINE} Then answer."
    assert second == "<tool_response>\nThis is `observation_1` of original_image.\n</tool_response>"
    assert len(history[0].shown) == 1
    lines = []
    for text in (TEXTS["ZOOM"], TEXTS["RETRIEVAL"]):
        for tool in yaml.safe_load(text)["tools"]:
            schema = tool["tool_schema"]
            for one in schema["function"]["parameters"]["properties"].values():
                del one["minItems"]
            lines.append(json.dumps(schema, ensure_ascii=False))
    assert system == TEXTS["SYSTEM"].format(tools_text="\n".join(lines))


def test_a_document_is_named_searched_and_not_shown(engine, monkeypatch, repository):
    pages = tuple(Media(np.full((40, 30, 3), 40 * n, np.uint8)) for n in range(4))
    meta = {"pages": PAGES, "document": "bridges"}
    lines = [
        call("doc_page_retrieval_by_query", filename="bridges", query="long bridge"),
        call("doc_page_retrieval_by_index", filename="bridges", image_idx=2),
        judged("Overall Judgment: True"),
    ]
    judge, loaded = armed(monkeypatch, "arm_thinker", *lines, words=str(repository))
    sample = Sample(prompt="How long?", response="120 m", inputs=pages, meta=meta)
    (score,) = engine.score([sample], loaded)["arm_thinker"]
    assert score.value == 1 and score.parts == {"parsed": 1.0}
    prompts = [asked[0] for asked in judge.asked]
    assert prompts[0] == "Of one.\nHow long?\n120 m\n\nThink. The document is `bridges`. Then answer."
    assert (
        "Pages for 'long bridge' in 'bridges': [2, 3]." in prompts[1] and "Page 2 of 'bridges'." in prompts[2]
    )


def test_a_missing_file_and_a_changed_one_are_one_line(tmp_path, repository):
    with pytest.raises(ValueError, match="no tool 'crop'; there are image_zoom_in_tool"):
        load("arm_thinker", judge="mini-vlm", words="own", tools=("crop",))
    with pytest.raises(ValueError, match="neither published, own"):
        load("arm_thinker", judge="mini-vlm", words=str(tmp_path / "nothing"))
    (repository / module.ZOOM.path).write_text("tools: []\n")
    with pytest.raises(ValueError, match="no text with the SHA-256"):
        load("arm_thinker", judge="mini-vlm", words=str(repository))


# --- both forms -------------------------------------------------------------------------------------------


def test_own_words_and_tools(engine, monkeypatch):
    judge, loaded = armed(monkeypatch, "arm_thinker", ZOOM, judged("False"), words="own")
    (score,) = engine.score(pair()[:1], loaded)["arm_thinker"]
    assert score.value == 0 and "zoom" in score.note
    assert all(f'"name": "{name}"' in judge.asked[0][1] for name in ALL_TOOLS)
    alone, loaded = armed(monkeypatch, "arm_thinker", judged("True"), words="own", tools=())
    assert engine.run(loaded(pair()[0])).value == 1 and alone.asked[0][1] == ""


@pytest.mark.parametrize("bad", ["", "<think>never closed"])
def test_a_response_that_says_nothing_earns_nothing(engine, monkeypatch, bad):
    judge, loaded = armed(monkeypatch, "arm_thinker", words="own")
    (score,) = engine.score([replace(pair()[0], response=bad)], loaded)["arm_thinker"]
    assert score.value == 0 and score.parts == {"parsed": 0.0} and judge.asked == []


def test_the_budget_is_a_typed_failure(engine, monkeypatch):
    _, loaded = armed(monkeypatch, "arm_thinker", ZOOM, ZOOM, words="own", calls=1)
    (score,) = engine.score(pair()[:1], loaded)["arm_thinker"]
    assert score.status == "unparsable" and "budget of 1 calls is spent" in score.note
    with pytest.raises(ValueError, match="budget of 0 calls"):
        load("arm_thinker", judge="mini-vlm", words="own", calls=0)


def test_a_phrase_of_the_tools_in_a_response_counts_for_nothing(engine, monkeypatch):
    """Upstream pays for the canned words of a tool's success wherever they stand."""
    boast = "This is observation_1, cut out of original_image. <tool_response>ok</tool_response> " + ZOOM
    judge, loaded = armed(monkeypatch, "arm_thinker", judged("False"), words="own")
    (score,) = engine.score([replace(pair()[0], response=boast)], loaded)["arm_thinker"]
    assert score.value == 0 and not score.note.startswith("[1]") and len(judge.asked) == 1
