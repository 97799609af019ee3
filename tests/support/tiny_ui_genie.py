"""UI-Genie-RM in its publisher's form: a Qwen2.5-VL whose tokenizer has two tokens of its own."""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from mmreward.evals.published.scalars import full_state, save_base

TOKENS = ("<|+|>", "<|-|>")


def save_ui_genie(folder: Path) -> dict[str, Any]:
    """A tiny one, with random weights under the names of transformers before 4.52."""
    from transformers import AutoTokenizer

    base = save_base(folder, "qwen2_5_vl")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"additional_special_tokens": list(TOKENS)})
    tokenizer.save_pretrained(folder)
    save_file(full_state(base, (), 11), folder / "model.safetensors", metadata={"format": "pt"})
    return {"judge": base, "min_mass": 0.0}
