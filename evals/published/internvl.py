"""Tiny InternVLs in their publisher's format (`internvl_chat`), with an InternLM2 as VisualPRM-8B or a Qwen2
as VisualPRM-8B-v1_1 and ArtiMuse, and a second writing of the publisher's lines in plain torch.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from .llava import Shapes, drawn, rms
from .pieces import save_pieces, tokenizer
from .upstream import Args

SIDE, PATCH, SEES, WIDTH, LAYERS = 28, 7, 32, 32, 2
GRID = SIDE // PATCH
HEADS, KEYS, HIDDEN = 4, 2, 48
SYSTEM = "You see shapes."
QUESTION = "\n  How many of 100, in two letters? \n"
ADDED = ("<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
LETTERS = [a + chr(97 + n) for a, count in zip("acde", (26, 25, 25, 25), strict=True) for n in range(count)]
VISION = {
    "hidden_size": SEES,
    "intermediate_size": 40,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": PATCH,
    "layer_norm_eps": 1e-6,
    "hidden_act": "gelu",
}
SPEAKS = {
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEYS,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000000,
    "max_position_embeddings": 1024,
    "rope_scaling": {"factor": 2.0, "type": "dynamic"},
}


def shapes(kind: str, vocabulary: int) -> Shapes:
    """Published names and shapes."""
    own = "vision_model."
    found: Shapes = {}
    found[f"{own}embeddings.class_embedding"] = (1, 1, SEES)
    found[f"{own}embeddings.patch_embedding.weight"] = (SEES, 3, PATCH, PATCH)
    found[f"{own}embeddings.patch_embedding.bias"] = (SEES,)
    found[f"{own}embeddings.position_embedding"] = (1, GRID * GRID + 1, SEES)
    for layer in range(LAYERS):
        block = f"{own}encoder.layers.{layer}."
        found[f"{block}attn.qkv.weight"] = (3 * SEES, SEES)
        found[f"{block}attn.proj.weight"], found[f"{block}attn.proj.bias"] = (SEES, SEES), (SEES,)
        found[f"{block}mlp.fc1.weight"], found[f"{block}mlp.fc1.bias"] = (40, SEES), (40,)
        found[f"{block}mlp.fc2.weight"], found[f"{block}mlp.fc2.bias"] = (SEES, 40), (SEES,)
        found[f"{block}ls1"] = found[f"{block}ls2"] = (SEES,)
        found[f"{block}norm1.weight"] = found[f"{block}norm2.weight"] = (SEES,)
        if kind == "internlm2":
            found[f"{block}attn.qkv.bias"] = (3 * SEES,)
            found[f"{block}norm1.bias"] = found[f"{block}norm2.bias"] = (SEES,)
        else:
            found[f"{block}attn.q_norm.weight"] = found[f"{block}attn.k_norm.weight"] = (SEES,)
    found["mlp1.0.weight"] = found["mlp1.0.bias"] = (4 * SEES,)
    found["mlp1.1.weight"], found["mlp1.1.bias"] = (WIDTH, 4 * SEES), (WIDTH,)
    found["mlp1.3.weight"], found["mlp1.3.bias"] = (WIDTH, WIDTH), (WIDTH,)
    own, size = "language_model.model.", WIDTH // HEADS
    words, norms = ("embed_tokens", ("input_layernorm", "post_attention_layernorm"))
    if kind == "internlm2":
        words, norms = "tok_embeddings", ("attention_norm", "ffn_norm")
    found[f"{own}{words}.weight"] = (vocabulary, WIDTH)
    found["language_model.output.weight" if kind == "internlm2" else "language_model.lm_head.weight"] = (
        vocabulary,
        WIDTH,
    )
    found[f"{own}norm.weight"] = (WIDTH,)
    for layer in range(LAYERS):
        block = f"{own}layers.{layer}."
        for name in norms:
            found[f"{block}{name}.weight"] = (WIDTH,)
        if kind == "internlm2":
            found[f"{block}attention.wqkv.weight"] = ((HEADS + 2 * KEYS) * size, WIDTH)
            found[f"{block}attention.wo.weight"] = (WIDTH, WIDTH)
            for name, shape in (("w1", (HIDDEN, WIDTH)), ("w3", (HIDDEN, WIDTH)), ("w2", (WIDTH, HIDDEN))):
                found[f"{block}feed_forward.{name}.weight"] = shape
        else:
            for name, out in (("q", HEADS), ("k", KEYS), ("v", KEYS)):
                found[f"{block}self_attn.{name}_proj.weight"] = (out * size, WIDTH)
                found[f"{block}self_attn.{name}_proj.bias"] = (out * size,)
            found[f"{block}self_attn.o_proj.weight"] = (WIDTH, WIDTH)
            for name, shape in (
                ("gate", (HIDDEN, WIDTH)),
                ("up", (HIDDEN, WIDTH)),
                ("down", (WIDTH, HIDDEN)),
            ):
                found[f"{block}mlp.{name}_proj.weight"] = shape
    return found


def save_internvl(folder: Path, kind: str = "internlm2", seed: int = 7, **config: Any) -> Args:
    """A folder in the published format; the arguments of `visualprm`, and of `artimuse` for a Qwen2."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vision = VISION | {"norm_type": "layer_norm", "qkv_bias": True, "qk_normalization": False}
    if kind == "internlm2":
        names = save_pieces(folder / "tokenizer.model")
        added = {token: len(names) + place for place, token in enumerate(ADDED)}
        (folder / "added_tokens.json").write_text(json.dumps(added))
        settings = {"tokenizer_class": "InternLM2Tokenizer", "bos_token": "<s>", "eos_token": "</s>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        count = len(names) + len(added)
        speaks = SPEAKS | {"architectures": ["InternLM2ForCausalLM"], "bias": False}
    else:
        from transformers import AutoTokenizer

        from mmreward.assets import ASSETS

        made = AutoTokenizer.from_pretrained(ASSETS / "mini-vlm")
        made.add_tokens(list(ADDED[2:]), special_tokens=True)
        made.add_tokens([word for word in LETTERS if word not in made.get_vocab()])
        made.save_pretrained(folder)
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        count = len(made)
        vision |= {"norm_type": "rms_norm", "qkv_bias": False, "qk_normalization": True}
        speaks = SPEAKS | {"architectures": ["Qwen2ForCausalLM"]}
    state = drawn(shapes(kind, count), seed)
    head = "language_model.output.weight" if kind == "internlm2" else "language_model.lm_head.weight"
    state[head] *= 4
    for name in state:
        if name.endswith(("attention.wo.weight", "o_proj.weight")):
            state[name] *= 12  # else every picture has nearly the same score
    state[
        "language_model.model." + ("tok_embeddings" if kind == "internlm2" else "embed_tokens") + ".weight"
    ] *= 5
    shards = [f"model-{number:05d}-of-00002.safetensors" for number in (1, 2)]
    places = {name: shards[name.startswith("language_model.")] for name in state}
    for shard in shards:
        part = {key: tensor for key, tensor in state.items() if places[key] == shard}
        save_file(part, folder / shard, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    facts = {
        "model_type": "internvl_chat",
        "architectures": ["InternVLRewardModel"],
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": SIDE,
        "ps_version": "v2",
        "select_layer": -1,
        "template": "internvl2_5",
        "auto_map": {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig"},
        "use_thumbnail": True,
        "max_dynamic_patch": 12,
        "vision_config": vision,
        "llm_config": speaks | {"vocab_size": count},
    }
    (folder / "config.json").write_text(json.dumps(facts | config))
    words = folder.parent / f"{folder.name}-words"
    words.mkdir(exist_ok=True)
    (words / "system.txt").write_text(SYSTEM)
    (words / "question.txt").write_text(QUESTION)
    return {"weights": str(folder), "words": str(words)}


# --- the publisher's lines ----------------------------------------------------------------------------------


class NaiveInternVL:
    """One row, one head at a time."""

    def __init__(self, args: Args) -> None:
        folder = Path(args["weights"])
        self.state: dict[str, torch.Tensor] = {}
        for file in folder.glob("*.safetensors"):
            self.state |= load_file(file)
        self.config = json.loads((folder / "config.json").read_text())
        self.old = (folder / "tokenizer.model").is_file()
        if self.old:
            self.tokenizer = tokenizer()
            self.added = json.loads((folder / "added_tokens.json").read_text()) | {"<s>": 1, "</s>": 2}
            self.known = self.tokenizer.get_vocab()
        else:
            from transformers import PreTrainedTokenizerFast

            self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
            self.known = self.tokenizer.get_vocab()

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def ids(self, text: str) -> list[int]:
        if not self.old:
            return list(self.tokenizer(text, add_special_tokens=False).input_ids)
        found, rest = [], text
        while rest:
            at, token = min(((rest.find(t), t) for t in self.added if t in rest), default=(len(rest), ""))
            if at:
                found += self.tokenizer.encode(rest[:at]).ids
            found += [self.added[token]] if token else []
            rest = rest[at + len(token) :]
        return found

    def views(self, picture: Image.Image, most: int) -> torch.Tensor:
        width, height = picture.size
        ratios = {
            (i, j)
            for n in range(1, most + 1)
            for i in range(1, n + 1)
            for j in range(1, n + 1)
            if i * j <= most and i * j >= 1
        }
        best, least = (1, 1), float("inf")
        for ratio in sorted(ratios, key=lambda x: x[0] * x[1]):
            apart = abs(width / height - ratio[0] / ratio[1])
            if apart < least:
                best, least = ratio, apart
            elif apart == least and width * height > 0.5 * SIDE * SIDE * ratio[0] * ratio[1]:
                best = ratio
        resized = picture.resize((SIDE * best[0], SIDE * best[1]), Image.Resampling.BICUBIC)
        parts = []
        for i in range(best[0] * best[1]):
            x, y = i % best[0] * SIDE, i // best[0] * SIDE
            parts.append(resized.crop((x, y, x + SIDE, y + SIDE)))
        if len(parts) != 1:
            parts.append(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        values = torch.from_numpy(np.stack([np.asarray(p, np.float32) / 255 for p in parts])).permute(
            0, 3, 1, 2
        )
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        return (values - mean[:, None, None]) / std[:, None, None]

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if f"{name}.bias" in self.state:
            return F.layer_norm(
                x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], 1e-6
            )
        return rms(x, self.state[f"{name}.weight"])

    def picture(self, picture: Image.Image, most: int) -> torch.Tensor:
        own = "vision_model."
        kernel, bias = (self.state[f"{own}embeddings.patch_embedding.{n}"] for n in ("weight", "bias"))
        x = F.conv2d(self.views(picture, most), kernel, bias, stride=PATCH).flatten(2).transpose(1, 2)
        x = torch.cat([self.state[f"{own}embeddings.class_embedding"].expand(len(x), 1, -1), x], 1)
        x = x + self.state[f"{own}embeddings.position_embedding"]
        for layer in range(LAYERS):
            block = f"{own}encoder.layers.{layer}."
            q, k, v = self.linear(f"{block}attn.qkv", self.norm(f"{block}norm1", x)).chunk(3, -1)
            if f"{block}attn.q_norm.weight" in self.state:
                q, k = self.norm(f"{block}attn.q_norm", q), self.norm(f"{block}attn.k_norm", k)
            heads, size = [], SEES // 4
            for at in range(0, SEES, size):
                part = slice(at, at + size)
                weights = (q[..., part] * size**-0.5 @ k[..., part].transpose(1, 2)).softmax(-1)
                heads.append(weights @ v[..., part])
            x = x + self.linear(f"{block}attn.proj", torch.cat(heads, -1)) * self.state[f"{block}ls1"]
            y = F.gelu(self.linear(f"{block}mlp.fc1", self.norm(f"{block}norm2", x)))
            x = x + self.linear(f"{block}mlp.fc2", y) * self.state[f"{block}ls2"]
        x = x[:, 1:].reshape(len(x), GRID, GRID, -1)
        n, w, h, c = x.shape  # the publisher's pixel_shuffle, step by step
        x = x.view(n, w, h // 2, c * 2).permute(0, 2, 1, 3).contiguous()
        x = x.view(n, h // 2, w // 2, c * 4).permute(0, 2, 1, 3).reshape(n, -1, 4 * c)
        x = F.layer_norm(x, x.shape[-1:], self.state["mlp1.0.weight"], self.state["mlp1.0.bias"])
        return self.linear("mlp1.3", F.gelu(self.linear("mlp1.1", x))).flatten(0, 1)

    def layer(self, block: str, x: torch.Tensor) -> Any:
        """Normed input to queries, keys and values, each (T, heads of it, size)."""
        size = WIDTH // HEADS
        if not self.old:
            return [self.linear(f"{block}self_attn.{n}_proj", x).view(len(x), -1, size) for n in "qkv"]
        mixed = self.linear(f"{block}attention.wqkv", x).view(len(x), KEYS, HEADS // KEYS + 2, size)
        return mixed[:, :, :-2].reshape(len(x), HEADS, size), mixed[:, :, -2], mixed[:, :, -1]

    def logits(self, query: str, pictures: Sequence[Image.Image], most: int) -> Any:
        """Of every token of a query, and its ids with -1 for pictures'."""
        own = "language_model.model."
        words = self.state[f"{own}{'tok_embeddings' if self.old else 'embed_tokens'}.weight"]
        rows, ids = [], []
        for place, part in enumerate(query.split("<image>", len(pictures))):
            text = ("</img>" if place else "") + part + ("<img>" if place < len(pictures) else "")
            known = ([1] if self.old and not place else []) + self.ids(text)
            rows.append(words[known])
            ids += known
            if place < len(pictures):
                rows.append(self.picture(pictures[place], most))
                ids += [-1] * len(rows[-1])
        x = torch.cat(rows)
        size, length = WIDTH // HEADS, len(x)
        hidden = torch.full((length, length), -torch.inf).triu(1)
        rates = 1000000.0 ** (-torch.arange(size // 2) * 2 / size)
        turns = torch.polar(torch.ones(length, size // 2), torch.arange(length)[:, None] * rates)

        def turned(y: torch.Tensor) -> torch.Tensor:
            whole = torch.complex(y[:, : size // 2], y[:, size // 2 :]) * turns
            return torch.cat([whole.real, whole.imag], 1)

        names: tuple[str, ...] = (
            "attention_norm",
            "attention.wo",
            "ffn_norm",
            "feed_forward.w1",
            "feed_forward.w3",
            "feed_forward.w2",
        )
        if not self.old:
            names = ("input_layernorm", "self_attn.o_proj", "post_attention_layernorm")
            names += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")

        def normed(name: str, y: torch.Tensor) -> torch.Tensor:
            return y * (y.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * self.state[f"{name}.weight"]

        for layer in range(LAYERS):
            first, out, second, gate, up, down = (f"{own}layers.{layer}.{name}" for name in names)
            q, k, v = self.layer(f"{own}layers.{layer}.", normed(first, x))
            heads = []
            for head in range(HEADS):
                shared = head * KEYS // HEADS
                scores = turned(q[:, head]) @ turned(k[:, shared]).T / size**0.5
                heads.append((scores + hidden).softmax(-1) @ v[:, shared])
            x = x + self.linear(out, torch.cat(heads, 1))
            y = normed(second, x)
            x = x + self.linear(down, F.silu(self.linear(gate, y)) * self.linear(up, y))
        last = "language_model.output" if self.old else "language_model.lm_head"
        return self.linear(last, normed(f"{own}norm", x)), ids

    def soft(
        self,
        question: str,
        steps: Sequence[str],
        pictures: Sequence[Image.Image],
        most: int = 12,
        system: str = SYSTEM,
    ) -> list[float]:
        """`generate_steps_with_soft_score`: one forward pass for each step."""
        if pictures and "<image>" not in question:
            question = "<image>\n" + question
        history, found = f"<|im_start|>system\n{system}<|im_end|>\n", []
        for number, step in enumerate(steps):
            asked = f"### Question:\n{question}\n\n### Solution Process:\n{step}" if number == 0 else step
            history += f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
            logits, _ = self.logits(history, pictures, most)
            found.append(float(logits[-1, [self.known["+"], self.known["-"]]].softmax(-1)[0]))
            history += "+<|im_end|>\n"
        return found

    def beauty(self, picture: Image.Image, system: str) -> float:
        """ArtiMuse's `score`."""
        query = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n<image>\n{QUESTION}<|im_end|>\n"
        logits, _ = self.logits(query + "<|im_start|>assistant\n", [picture], 1)
        return float(logits[-1, [self.known[word] for word in LETTERS]].softmax(-1) @ torch.arange(101.0))
