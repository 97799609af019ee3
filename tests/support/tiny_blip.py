"""A BLIP of random weights under the names of its publisher's file, and a BERT tokenizer of a few words."""

from pathlib import Path

import torch
from transformers import BertTokenizer

WIDTH, WIDE, LAYERS, SIDE, PATCH, HEADS = 128, 96, 2, 48, 16, 2
WORDS = ["a", "an", "the", "red", "blue", "circle", "square", "fox", "two", "squares", "yes", "no", "?"]
DEC = 5 + len(WORDS)
"""First token of an answer; the next one, [ENC], begins a question."""


def save_tokenizer(folder: Path) -> str:
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


def save_blip(folder: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """The file, with its tensors under the key `model`, and the tensors."""
    state = tensors()
    torch.save({"model": state}, folder / "model_base_vqa_capfilt_large.pth")
    return str(folder / "model_base_vqa_capfilt_large.pth"), state


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    state, words = {}, DEC + 2
    state["visual_encoder.cls_token"] = torch.randn(1, 1, WIDTH)
    state["visual_encoder.pos_embed"] = torch.randn(1, (SIDE // PATCH) ** 2 + 1, WIDTH)
    state["visual_encoder.patch_embed.proj.weight"] = torch.randn(WIDTH, 3, PATCH, PATCH) / 20
    state["visual_encoder.patch_embed.proj.bias"] = torch.randn(WIDTH)
    for layer in range(LAYERS):
        own = f"visual_encoder.blocks.{layer}"
        norm(state, f"{own}.norm1")
        norm(state, f"{own}.norm2")
        linear(state, f"{own}.attn.qkv", 3 * WIDTH, WIDTH, 2.0)
        linear(state, f"{own}.attn.proj", WIDTH, WIDTH)
        linear(state, f"{own}.mlp.fc1", WIDE, WIDTH)
        linear(state, f"{own}.mlp.fc2", WIDTH, WIDE)
    norm(state, "visual_encoder.norm")
    bert(state, "text_encoder", words)
    bert(state, "text_decoder.bert", words)
    head = "text_decoder.cls.predictions"
    linear(state, f"{head}.transform.dense", WIDTH, WIDTH)
    norm(state, f"{head}.transform.LayerNorm")
    state[f"{head}.bias"] = torch.zeros(words)
    state[f"{head}.decoder.weight"] = state["text_decoder.bert.embeddings.word_embeddings.weight"]
    state[f"{head}.decoder.bias"] = state[f"{head}.bias"]
    return state


def linear(state, name, out, inner, scale=1.0):
    state[f"{name}.weight"] = scale * torch.randn(out, inner) / inner**0.5
    state[f"{name}.bias"] = 0.1 * torch.randn(out)


def norm(state, name):
    state[f"{name}.weight"], state[f"{name}.bias"] = 1 + 0.1 * torch.randn(WIDTH), 0.1 * torch.randn(WIDTH)


def bert(state, prefix, words):
    state[f"{prefix}.embeddings.word_embeddings.weight"] = torch.randn(words, WIDTH) / 8
    state[f"{prefix}.embeddings.position_embeddings.weight"] = torch.randn(40, WIDTH)
    state[f"{prefix}.embeddings.position_ids"] = torch.arange(40)[None]
    norm(state, f"{prefix}.embeddings.LayerNorm")
    for layer in range(LAYERS):
        own = f"{prefix}.encoder.layer.{layer}"
        for kind in ("attention", "crossattention"):
            for part in ("query", "key", "value"):
                linear(state, f"{own}.{kind}.self.{part}", WIDTH, WIDTH, 2.0)
            linear(state, f"{own}.{kind}.output.dense", WIDTH, WIDTH)
            norm(state, f"{own}.{kind}.output.LayerNorm")
        linear(state, f"{own}.intermediate.dense", WIDE, WIDTH)
        linear(state, f"{own}.output.dense", WIDTH, WIDE)
        norm(state, f"{own}.output.LayerNorm")
