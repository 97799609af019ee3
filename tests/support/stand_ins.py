"""Stand-ins, in our own words, for texts that others published and that are fetched and not kept here."""

import json

BENCH = {
    "Quality": "## Real\n- Weight: does it stand?\n- Cloth: is it woven?\n## Fine\n- Grain: is it clean?",
    "Aesthetics": "## Layout\n- Layout: is it balanced?",
    "Alignment": "## Things\n- Number: as many?\n- Hue: as named?\n## Scene\n- Place: where it should be?",
    "Real-world Fidelity": "## Safe\n- Safe: is it harmless?",
    "Creative Generation": "## New\n- New: is it new?\n## Feature Matching\n- Feature Matching: seamless?",
}
TEMPLATE = (
    "# Wish\n{prompt}\n\n# Shown\n<image>\n\n# Side\n{level1_dim}\n# List\n{format_checklist}\n"
    '# Answer in JSON\n{{"{{heading}}": {{"{{criterion}}": {{"score": 0|1|2}}}}}}'
)


def write_bench(folder):
    """A file of the form of Qwen-Image-Bench's texts: arguments of `qwen_image_bench`."""
    own = {"system": "Mark pictures.", "template": TEMPLATE, "lists": BENCH}
    (folder / "bench.json").write_text(json.dumps(own))
    return {"questions": str(folder / "bench.json")}


def marked(request):
    """The app of a `ChatServer` that marks a picture by its content on whatever list it is asked about."""
    from hashlib import sha256

    from support.chatserver import Reply, completion

    if request.path != "/v1/chat/completions":
        return Reply({"object": "list", "data": []})
    parts = request.body["messages"][-1]["content"]
    (url,) = (part["image_url"]["url"] for part in parts if part["type"] == "image_url")
    text = "".join(part["text"] for part in parts if part["type"] == "text")
    dimension = next(name for name in BENCH if f"# Side\n{name}\n" in text)
    answer, heading, number = {}, "", sha256(url.encode()).digest()[0]
    for line in BENCH[dimension].splitlines():
        if line.startswith("## "):
            heading = answer.setdefault(line[3:], {})
        else:
            number = number * 7 + 3
            heading[line[2:].partition(":")[0]] = {"score": (0, 1, 2, "N/A")[number // 4 % 4]}
    first = next(iter(answer.values()))
    first[next(iter(first))] = {"score": 1}  # something always applies
    return Reply(completion(f"<think>{{}} hm</think>\n{json.dumps(answer)}"))


class MarkingJudge:
    """One server for a whole test session; `name` is what a reward calls it by."""

    def __init__(self):
        from support.chatserver import ChatServer

        self.server = ChatServer(marked).__enter__()
        self.name = f"judge@{self.server.url}"
