"""Vision-language models in this process, batched over prompts that begin alike.

Start with `answers` (the `VLM` protocol: what can be asked and what is answered), then `handle` (what
`mmreward.models.vlm` returns) and `qwen` (the network). `vision` encodes pictures and clips once, `prompts`
merges common beginnings into trees, `decoding` writes text and serves models with recurrent layers,
`refilling` lets texts that wait take the room of those that have ended. `scalar` and `videoalign` are reward
models on a Qwen-VL; `tiled` is what those share that see a picture as tiles: `llava`, `internvl` and
`xcomposer`.
"""
