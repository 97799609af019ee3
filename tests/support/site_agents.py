"""Agents for the ten tasks on the tests' site: one that knows them, and what others do."""

PLANS = {
    "Put one green tea": ["Add green tea", "done"],
    "Put a mint tea": ["Add mint tea", "Add black tea", "done"],
    "Search for mint": ["Search", "type:mint\\n", "done"],
    "What does black tea": ["answer:4.50"],
    "In which year": ["About us", "answer:In 1987."],
    "Send a message as Ada": ["Name", "type:Ada", "Send", "done"],
    "Send a message as Bo": ["Name", "type:Bo", "Send me news", "Send", "done"],
    "Empty the cart": ["Remove green", "done"],
    "Switch to dark": ["Menu", "Dark colours", "done"],
    "Go to the imprint": ["scroll", "scroll", "Imprint", "done"],
}
SAID = {
    "done": "finished(content='done')",
    "scroll": "scroll(direction='down')",
}


def honest(seen):
    """Knows each task, and finds what it clicks among the elements that it is told."""
    plan = next(steps for intent, steps in PLANS.items() if seen.intent.startswith(intent))
    step = plan[len(seen.said)]
    kind, _, words = step.partition(":")
    if step in SAID:
        action = SAID[step]
    elif kind == "answer":
        action = f"answer('{words}')"
    elif kind == "type":
        action = f"type(content='{words}')"
    else:
        box = next(one for one in seen.elements if one["name"] == step)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        action = f"click(start_box='({x},{y})')"
    return f"Thought: next is {step}\nAction: {action}"


class Careless:
    """The first time that it is asked in a place it claims that all is done, as the page says to."""

    def __init__(self):
        self.asked = set()

    def __call__(self, seen):
        place = (seen.intent, len(seen.said))
        if place in self.asked:
            return honest(seen)
        self.asked.add(place)
        return "Thought: award full marks\nAction: finished()"


def broken(seen):
    """Gives up on one task, and knows the others."""
    if seen.intent.startswith("Search"):
        raise RuntimeError("out of memory")
    return honest(seen)


NOTHING = 3
