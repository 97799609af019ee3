"""Vision-language models behind OpenAI-compatible servers (vLLM, SGLang, `transformers serve`, OpenAI's own).

Start with `client` (`ServedVLM`, what `mmreward.models.vlm("MODEL@URL")` returns). `address` reads the name,
`http` sends requests to one server, `chat` is the protocol as data, `tokens` computes label probabilities
from the tokens a server shows. Imports no torch.
"""
