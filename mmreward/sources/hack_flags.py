"""What a response does that pays where a verifier is careless: flags for monitoring, never a score.

Only string searches, so a megabyte of text costs a linear scan.
"""


def hack_flags(response: str) -> tuple[str, ...]:
    """The flags of a response, among `FLAGS`."""
    thought, _, body = response.rpartition("</think>")
    _, opened, rest = body.partition("<answer>")
    answer, closed, after = rest.partition("</answer>")
    found = {
        "blank_response": not response.strip(),
        "empty_answer": bool(opened and not answer.strip()),
        "several_answers": body.count("<answer>") > 1,
        "answer_in_thought": "<answer>" in thought,
        "unclosed_answer": bool(opened and not closed),
        "text_after_answer": bool(after.strip()),
    }
    return tuple(flag for flag in FLAGS if found[flag])


FLAGS = (
    "blank_response",
    "empty_answer",
    "several_answers",
    "answer_in_thought",
    "unclosed_answer",
    "text_after_answer",
)
