"""VideoScore as it is released: a tiny random Idefics2 with its head, tokenizer and processor."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from . import scalars

SMALL = {"shortest_edge": 32, "longest_edge": 64}


def config_of(vocabulary: int, picture: int) -> Any:
    from transformers import Idefics2Config

    return Idefics2Config(
        image_token_id=picture,
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 8,
        },
        perceiver_config={
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 8,
            "num_key_value_heads": 1,
            "hidden_size": 32,
        },
        text_config={
            "model_type": "mistral",
            "vocab_size": vocabulary,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 2048,
            "pad_token_id": 0,
        },
    )


def save_videoscore(folder: Path, seed: int = 23) -> dict[str, Any]:
    """The folder's arguments of the reward: files of TIGER-Lab/VideoScore-v1.1, and a text in place of its
    prompt."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import Idefics2Model, PreTrainedTokenizerFast
    from transformers.models.idefics2.image_processing_pil_idefics2 import Idefics2ImageProcessorPil

    folder.mkdir(parents=True, exist_ok=True)
    own = ["<unk>", "<s>", "</s>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*own, *letters])}
    plain = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    plain.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain,
        unk_token="<unk>",
        pad_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=own[3:],
    )
    tokenizer.save_pretrained(folder)
    sizing = Idefics2ImageProcessorPil(size=SMALL, do_image_splitting=False)
    sizing.save_pretrained(folder)
    (folder / "processor_config.json").write_text(
        json.dumps({"image_seq_len": 4, "processor_class": "Idefics2Processor"})
    )
    config = config_of(len(vocabulary), vocabulary["<image>"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Idefics2Model(config)
        for tensor in model.parameters():
            if tensor.ndim > 1:
                torch.nn.init.normal_(tensor, std=1.5 * tensor[0].numel() ** -0.5)
        head = torch.nn.Linear(32, 5)
    state = {f"model.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    state |= {f"score.{name}": tensor.contiguous() for name, tensor in head.state_dict().items()}
    names = sorted(state)
    files = [f"model-{number:05d}-of-00002.safetensors" for number in (1, 2)]
    parts = {files[0]: names[: len(names) // 2], files[1]: names[len(names) // 2 :]}
    for file, members in parts.items():
        save_file({name: state[name] for name in members}, folder / file)
    places = {name: file for file, members in parts.items() for name in members}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    config.architectures = ["Idefics2ForSequenceClassification"]
    config.num_labels = 5
    config.save_pretrained(folder)
    return {"weights": str(folder), "words": scalars.worded(folder, prompt=scalars.FRAMES)}
