"""A stand-in for the judge of Qwen-Image-Bench, whose requests can be looked at."""

from mmreward.evals.published.marking import answered


def marked(request):
    """The app of a `ChatServer` that marks a picture by its content on whatever list it is asked about."""
    from support.chatserver import Reply, completion

    if request.path != "/v1/chat/completions":
        return Reply({"object": "list", "data": []})
    return Reply(completion(answered(request.body["messages"][-1]["content"])))


class MarkingJudge:
    """One server for a whole test session; `name` is what a reward calls it by."""

    def __init__(self):
        from support.chatserver import ChatServer

        self.server = ChatServer(marked).__enter__()
        self.name = f"judge@{self.server.url}"
