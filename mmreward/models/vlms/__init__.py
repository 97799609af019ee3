"""Vision-language models in this process, batched over prompts that begin alike.

Start with `answers` (the `VLM` protocol: what can be asked and what is answered), then `handle` (what
`mmreward.models.vlm` returns) and `qwen` (the network). `vision` encodes pictures and clips once, `prompts`
merges common beginnings into trees, `decoding` writes text and serves models with recurrent layers.
"""
