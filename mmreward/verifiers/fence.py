"""What a policy wrote, quoted for a judge so that it stays a quotation.

A response may try to end the quotation, to close the judge's turn with a chat template's own token and answer
in its place, or to name a picture's placeholder so that the prompt is refused and no bad mark is given.
"""

OPENED, CLOSED = "<<<", ">>>"


def defused(text: str) -> str:
    """The text with every `<|` of a special token broken up, so that a tokenizer reads plain characters."""
    return text.replace("<|", "< |")


def fenced(text: str) -> str:
    """The text between lines of marks that it cannot contain itself; special tokens are broken up."""
    inner = defused(text).replace("<<", "< <").replace(">>", "> >")  # leaves no three in a row
    return f"{OPENED}\n{inner.strip()}\n{CLOSED}"
