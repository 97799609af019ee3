"""A tiny LLaVA-OneVision with a reward head in its published format (`llava_qwen`), and a second writing of
its publisher's lines: the tower, the packing of tiles, the language model and the head, by the published
names in plain torch.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from .upstream import Args

SIDE, PATCH, WIDTH, LAYERS = 28, 7, 32, 2
GRID = SIDE // PATCH
HEADS, KEYS = 4, 2
Shapes = dict[str, tuple[int, ...]]
PROMPT = "Is it right? Say why.\n[Question]: {question}\n[Response]: {answer}\n\nIt is:"
CONFIG = {
    "model_type": "llava_qwen",
    "architectures": ["LlavaQwenForCausalLM"],
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEYS,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "max_position_embeddings": 2048,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "attention_dropout": 0.0,
    "eos_token_id": 1,
    "is_rm": True,
    "image_aspect_ratio": "anyres_max_4",
    "image_grid_pinpoints": "(1x1),...,(3x3)",
    "mm_patch_merge_type": "spatial_unpad",
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
}


def shapes(vocabulary: int) -> Shapes:
    """Published names and shapes."""
    found: Shapes = {}

    def linear(name: str, out: int, given: int, bias: bool = True) -> None:
        found[f"{name}.weight"] = (out, given)
        if bias:
            found[f"{name}.bias"] = (out,)

    own = "model.vision_tower.vision_tower.vision_model."
    found[f"{own}embeddings.patch_embedding.weight"] = (WIDTH, 3, PATCH, PATCH)
    found[f"{own}embeddings.patch_embedding.bias"] = (WIDTH,)
    found[f"{own}embeddings.position_embedding.weight"] = (GRID * GRID, WIDTH)
    for layer in range(LAYERS):
        block = f"{own}encoder.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{block}self_attn.{name}", WIDTH, WIDTH)
        linear(f"{block}mlp.fc1", 40, WIDTH)
        linear(f"{block}mlp.fc2", WIDTH, 40)
        for name in ("layer_norm1", "layer_norm2"):
            found[f"{block}{name}.weight"] = found[f"{block}{name}.bias"] = (WIDTH,)
    found[f"{own}post_layernorm.weight"] = found[f"{own}post_layernorm.bias"] = (WIDTH,)
    linear("model.mm_projector.0", WIDTH, WIDTH)
    linear("model.mm_projector.2", WIDTH, WIDTH)
    found["model.image_newline"] = (WIDTH,)
    found["model.embed_tokens.weight"] = found["lm_head.weight"] = (vocabulary, WIDTH)
    found["model.norm.weight"] = (WIDTH,)
    size = WIDTH // HEADS
    for layer in range(LAYERS):
        block = f"model.layers.{layer}."
        linear(f"{block}self_attn.q_proj", WIDTH, WIDTH)
        linear(f"{block}self_attn.k_proj", KEYS * size, WIDTH)
        linear(f"{block}self_attn.v_proj", KEYS * size, WIDTH)
        linear(f"{block}self_attn.o_proj", WIDTH, WIDTH, bias=False)
        for name, out, given in (("gate_proj", 48, WIDTH), ("up_proj", 48, WIDTH), ("down_proj", WIDTH, 48)):
            linear(f"{block}mlp.{name}", out, given, bias=False)
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"{block}{name}.weight"] = (WIDTH,)
    linear("rm_head.dense", WIDTH, WIDTH)
    linear("rm_head.out_proj", 1, WIDTH)
    return found


def drawn(shapes: Shapes, seed: int) -> dict[str, torch.Tensor]:
    """Random tensors that keep a signal's size."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        tensor = torch.randn(shape, generator=generator)
        scale = 0.3 if len(shape) == 1 else float(np.prod(shape[1:])) ** -0.5
        if "embed" in name and len(shape) == 2:
            scale = 1.0
        norm = "norm" in name and name.endswith("weight")
        state[name] = tensor * scale + float(norm)
    return state


def save_llava(folder: Path, seed: int = 5, **config: Any) -> Args:
    """A folder in the published format; the arguments of `mm_rlhf`."""
    from transformers import AutoTokenizer

    from mmreward.assets import ASSETS

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "mini-vlm")
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    state = drawn(shapes(len(tokenizer)), seed)
    state["lm_head.weight"] *= 3
    names = [f"model-{number:05d}-of-00002.safetensors" for number in (1, 2)]
    places = {name: names[name.startswith("model.layers.1")] for name in state}
    for name in names:
        part = {key: tensor for key, tensor in state.items() if places[key] == name}
        save_file(part, folder / name, {"format": "pt"})
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    stop = tokenizer.eos_token_id
    facts = CONFIG | {"vocab_size": len(tokenizer), "eos_token_id": stop} | config
    (folder / "config.json").write_text(json.dumps(facts))
    generation = {"eos_token_id": [stop, tokenizer.pad_token_id], "repetition_penalty": 1.05}
    (folder / "generation_config.json").write_text(json.dumps(generation | {"do_sample": True, "top_k": 20}))
    prompt = folder.parent / "mm_rlhf.txt"
    prompt.write_text(PROMPT)
    return {"weights": str(folder), "words": str(prompt)}


# --- the publisher's lines ----------------------------------------------------------------------------------


class NaiveLlava:
    """The publisher's evaluation of one picture, question and response."""

    def __init__(self, args: Args, whole: bool = True) -> None:
        from transformers import AutoTokenizer

        folder = Path(args["weights"])
        self.state: dict[str, torch.Tensor] = {}
        for file in folder.glob("*.safetensors"):
            self.state |= load_file(file)
        self.config = json.loads((folder / "config.json").read_text())
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.prompt = Path(args["words"]).read_text()
        self.whole = whole

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    # the picture

    def sheets(self) -> list[list[int]]:
        found = re.findall(r"\((\d+)x(\d+)\)", self.config["image_grid_pinpoints"])
        (a, b), (c, d) = [tuple(map(int, pair)) for pair in found]
        return [[i * SIDE, j * SIDE] for i in range(a, c + 1) for j in range(b, d + 1)]

    def best(self, size: tuple[int, int]) -> tuple[int, int]:
        fits = []
        for order, (width, height) in enumerate(self.sheets()):
            scale = min(width / size[0], height / size[1])
            kept = min(int(size[0] * scale) * int(size[1] * scale), size[0] * size[1])
            fits.append((-kept, width * height - kept, order, (width, height)))
        return min(fits)[-1]

    def views(self, picture: Image.Image) -> torch.Tensor:
        squares = [picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)]
        width, height = self.best(picture.size)
        across, down = width / picture.width, height / picture.height
        if across < down:
            size = (width, min(math.ceil(picture.height * across), height))
        else:
            size = (min(math.ceil(picture.width * down), width), height)
        sheet = Image.new("RGB", (width, height), (0, 0, 0))
        sheet.paste(
            picture.resize(size, Image.Resampling.BICUBIC), ((width - size[0]) // 2, (height - size[1]) // 2)
        )
        squares += [
            sheet.crop((x, y, x + SIDE, y + SIDE))
            for y in range(0, height, SIDE)
            for x in range(0, width, SIDE)
        ]
        values = np.stack([np.asarray(square, np.float32) / 255 for square in squares])
        return (torch.from_numpy(values).permute(0, 3, 1, 2) - 0.5) / 0.5

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (WIDTH,), self.state[f"{name}.weight"], self.state[f"{name}.bias"], 1e-6)

    def tower(self, pixels: torch.Tensor) -> torch.Tensor:
        own = "model.vision_tower.vision_tower.vision_model."
        kernel, bias = (self.state[f"{own}embeddings.patch_embedding.{n}"] for n in ("weight", "bias"))
        x = F.conv2d(pixels, kernel, bias, stride=PATCH).flatten(2).transpose(1, 2)
        x = x + self.state[f"{own}embeddings.position_embedding.weight"]
        for layer in range(LAYERS):
            block = f"{own}encoder.layers.{layer}."
            y = self.norm(f"{block}layer_norm1", x)
            q, k, v = (self.linear(f"{block}self_attn.{n}_proj", y) for n in "qkv")
            heads = []
            for at in range(0, WIDTH, WIDTH // 16):
                part = slice(at, at + WIDTH // 16)
                weights = (q[..., part] @ k[..., part].transpose(1, 2) * (WIDTH // 16) ** -0.5).softmax(-1)
                heads.append(weights @ v[..., part])
            x = x + self.linear(f"{block}self_attn.out_proj", torch.cat(heads, -1))
            y = self.linear(f"{block}mlp.fc1", self.norm(f"{block}layer_norm2", x))
            x = x + self.linear(f"{block}mlp.fc2", F.gelu(y, approximate="tanh"))
        return self.linear("model.mm_projector.2", F.gelu(self.linear("model.mm_projector.0", x)))

    def picture(self, picture: Image.Image) -> torch.Tensor:
        features = self.tower(self.views(picture))
        if self.whole:  # `images[0]` of a tensor
            return features[0]
        width, height = (side // SIDE for side in self.best(picture.size))
        rest = features[1:].view(height, width, GRID, GRID, -1).permute(4, 0, 2, 1, 3).contiguous()
        rest = rest.flatten(1, 2).flatten(2, 3)
        (w, h), (_, ch, cw) = picture.size, rest.shape
        if w / h > cw / ch:
            pad = (ch - int(h * (cw / w))) // 2
            rest = rest[:, pad : ch - pad, :]
        else:
            pad = (cw - int(w * (ch / h))) // 2
            rest = rest[:, :, pad : cw - pad]
        _, ch, cw = rest.shape
        most = int(self.config["image_aspect_ratio"].rpartition("_")[2])
        times = math.sqrt(ch * cw / (most * GRID**2))
        if times > 1.1:
            rest = F.interpolate(rest[None], [int(ch // times), int(cw // times)], mode="bilinear")[0]
        newline = self.state["model.image_newline"][:, None, None].expand(*rest.shape[:-1], 1)
        return torch.cat((features[0], torch.cat((rest, newline), -1).flatten(1, 2).transpose(0, 1)))

    # the language model

    def states(self, x: torch.Tensor) -> torch.Tensor:
        size, length = WIDTH // HEADS, len(x)
        hidden = torch.full((length, length), -torch.inf).triu(1)
        rates = 1000000.0 ** (-torch.arange(size // 2) * 2 / size)
        turns = torch.polar(torch.ones(length, size // 2), torch.arange(length)[:, None] * rates)

        def turned(y: torch.Tensor) -> torch.Tensor:
            whole = torch.complex(y[:, : size // 2], y[:, size // 2 :]) * turns
            return torch.cat([whole.real, whole.imag], 1)

        for layer in range(LAYERS):
            block = f"model.layers.{layer}."
            y = rms(x, self.state[f"{block}input_layernorm.weight"])
            q, k, v = (self.linear(f"{block}self_attn.{n}_proj", y) for n in "qkv")
            heads = []
            for head in range(HEADS):
                own = slice(head * size, head * size + size)
                shared = slice(head * KEYS // HEADS * size, (head * KEYS // HEADS + 1) * size)
                scores = turned(q[:, own]) @ turned(k[:, shared]).T / size**0.5
                heads.append((scores + hidden).softmax(-1) @ v[:, shared])
            x = x + self.linear(f"{block}self_attn.o_proj", torch.cat(heads, 1))
            y = rms(x, self.state[f"{block}post_attention_layernorm.weight"])
            y = F.silu(self.linear(f"{block}mlp.gate_proj", y)) * self.linear(f"{block}mlp.up_proj", y)
            x = x + self.linear(f"{block}mlp.down_proj", y)
        return rms(x, self.state["model.norm.weight"])

    def inputs(self, picture: Image.Image | None, question: str, response: str, critique: str) -> Any:
        asked = self.prompt.format(question=question, answer=response)
        if picture is not None:
            asked = "<image>\n" + asked.replace("<image>", "").strip()
        text = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        text += f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
        text += f"{critique}<|im_end|>\n" if critique else ""
        words = self.state["model.embed_tokens.weight"]
        parts = [words[self.tokenizer(part).input_ids] for part in text.split("<image>")]
        return torch.cat(parts if picture is None else [parts[0], self.picture(picture), parts[1]])

    def critique(self, picture: Image.Image | None, question: str, response: str, most: int) -> str:
        """Greedy search with the penalty over what has been written."""
        words = self.state["model.embed_tokens.weight"]
        written: list[int] = []
        x = self.inputs(picture, question, response, "")
        generation = json.loads((Path(self.tokenizer.name_or_path) / "generation_config.json").read_text())
        while len(written) < most:
            logits = self.states(x)[-1] @ self.state["lm_head.weight"].T
            for token in set(written):
                factor = generation["repetition_penalty"]
                logits[token] = logits[token] * factor if logits[token] < 0 else logits[token] / factor
            token = int(logits.argmax())
            if token in generation["eos_token_id"]:
                break
            written.append(token)
            x = torch.cat([x, words[token][None]])
        return str(self.tokenizer.decode(written, skip_special_tokens=True)).strip()

    def value(self, picture: Image.Image | None, question: str, response: str, critique: str = "") -> float:
        state = self.states(self.inputs(picture, question, response, critique))[-1]
        return float(self.linear("rm_head.out_proj", self.linear("rm_head.dense", state).tanh()))


def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight
