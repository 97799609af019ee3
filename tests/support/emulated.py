"""An emulated vLLM: the chat API over a plain transformers model, one request at a time.

It shares nothing with the code under test but the weights. Fields and endpoints as in vLLM 0.33
(entrypoints/openai/chat_completion, entrypoints/serve/tokenize).
"""

import base64
import io
from copy import deepcopy

import torch
from PIL import Image
from support.chatserver import Reply, completion
from transformers import AutoModelForImageTextToText, AutoProcessor


class EmulatedVLLM:
    """An app for `ChatServer`. `owner` is whose server it claims to be; only "vllm" knows tokens by id.

    Args:
        folder: the weights.
        owner: "vllm", "sglang", or "" for a server that says nothing.
        aside: whether /tokenize and /detokenize can be reached.
        top: the most tokens it shows.
    """

    def __init__(self, folder, owner="vllm", *, aside=True, top=20):
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        self.tokenizer = self.processor.tokenizer
        self.owner, self.aside, self.top = owner, aside, top

    def __call__(self, request):
        if request.path == "/v1/models":
            return Reply({"object": "list", "data": [{"id": "judge", "owned_by": self.owner}]})
        if request.path == "/v1/chat/completions":
            return Reply(self.chat(request.body))
        if request.path == "/tokenize" and self.aside:
            return Reply({"tokens": self.tokenize(request.body), "max_model_len": 2048})
        if request.path == "/detokenize" and self.aside:
            return Reply({"prompt": self.tokenizer.decode(request.body["tokens"])})
        return Reply({"detail": "Not Found"}, 404)

    def tokenize(self, body):
        text = body["prompt"] if "prompt" in body else self.rendered(body["messages"], True)
        return self.tokenizer.encode(text, add_special_tokens=False)

    def rendered(self, messages, add_generation_prompt, continue_final_message=False):
        return self.processor.apply_chat_template(
            deepcopy(messages),  # transformers 5.18 rewrites the pictures' addresses in place
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
        )

    @torch.inference_mode()
    def chat(self, body):
        ends = body.get("add_generation_prompt", True)
        text = self.rendered(body["messages"], ends, body.get("continue_final_message", False))
        inputs = self.processor(text=[text], images=self.pictures(body) or None, return_tensors="pt")
        self.model.model.rope_deltas = None
        limit = body["max_completion_tokens"]
        ids = self.model.generate(**inputs, max_new_tokens=limit, do_sample=False)[0]
        fresh = ids[inputs["input_ids"].shape[1] :].tolist()
        stopped = fresh[-1] == self.tokenizer.eos_token_id
        words = self.tokenizer.decode(fresh[: len(fresh) - stopped], skip_special_tokens=False)
        answer = completion(words, "stop" if stopped else "length")
        answer["usage"]["completion_tokens"] = len(fresh) - stopped
        self.model.model.rope_deltas = None
        rows = self.model(**inputs).logits[0].log_softmax(-1)
        if body.get("logprobs"):
            answer["choices"][0]["logprobs"] = {"content": [self.position(rows[-1], fresh[0], body)]}
        if "prompt_logprobs" in body:
            prompt = inputs["input_ids"][0].tolist()
            picked = [
                {str(one): {"logprob": float(row[one])}} for row, one in zip(rows, prompt[1:], strict=False)
            ]
            answer["prompt_logprobs"], answer["prompt_token_ids"] = [None, *picked], prompt
        return answer

    def position(self, row, sampled, body):
        asked = body.get("logprob_token_ids") if self.owner == "vllm" else None
        best = row.topk(min(self.top, body["top_logprobs"])).indices.tolist()
        ids = list(dict.fromkeys([sampled, *asked] if asked else best))
        by_id = self.owner == "vllm" and body.get("return_tokens_as_token_ids")

        def shown(one):
            token = f"token_id:{one}" if by_id else self.tokenizer.decode([one])
            return {"token": token, "logprob": max(float(row[one]), -9999.0), "bytes": None}

        return {**shown(sampled), "top_logprobs": [shown(one) for one in ids]}

    def pictures(self, body):
        parts = [part for m in body["messages"] if isinstance(m["content"], list) for part in m["content"]]
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        return [
            Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB") for url in urls
        ]
