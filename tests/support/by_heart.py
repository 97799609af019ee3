"""Tiny checkpoints that know judgements by heart: random weights in the published formats, of which a chosen
part is written by hand so that they answer in a grammar, and which answer depends on what they are shown.

A whole judgement is one token of the vocabulary, and so is its cue, words of the question. Some coordinates
of the hidden state are kept apart from the random weights: one for each cue, which the first layer's first
head carries, as a plain mean over all places, to where the answer begins; and one that every judgement has,
behind which only the end can follow. Of the judgements for one cue the random rest chooses.
"""

import torch
from support.tiny_vlms import qwen2_5, qwen3
from tokenizers import AddedToken

from mmreward.mini import vlm_build

SPOKEN, TURN = 0, 1
"""Coordinates of every judgement, and of those that a second turn follows."""
FIRST_CUE = 2
MOST = 32
"""Coordinates that one head can carry."""
ARCHITECTURES = {"qwen3_vl": qwen3, "qwen2_5_vl": qwen2_5}


def save(folder, architecture, known, *, seed=6):
    """Save a checkpoint.

    Args:
        folder: where to.
        architecture: a key of `ARCHITECTURES`.
        known: cue -> the judgements of the first turn and of the second, which may be none.
    """
    assert FIRST_CUE + len(known) <= MOST
    processor = vlm_build.build_processor()
    tokenizer = processor.tokenizer
    said = [text for turns in known.values() for texts in turns for text in texts]
    added = dict.fromkeys([*known, *said])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in added if text not in ("yes", "no")])
    torch.manual_seed(seed)
    model, processor = ARCHITECTURES[architecture](processor, tie_word_embeddings=False)
    _write(model, tokenizer, known)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


@torch.no_grad()
def _write(model, tokenizer, known):
    language, held = model.model.language_model, FIRST_CUE + len(known)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.05 if "visual" in name else 0.15)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    for linear in _writers_of(model):
        linear.weight[:held] = 0
    for layer in language.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
            linear.weight[:, :held] = 0
        for linear in (attention.o_proj, mlp.down_proj):
            linear.weight[:held] = 0
    first = language.layers[0].self_attn
    first.q_proj.weight[: first.head_dim] = 0  # equal scores, so the head takes the mean of all places
    first.v_proj.weight[:held] = 0
    for place in range(TURN, held):
        first.v_proj.weight[place, place] = 1
        first.o_proj.weight[place, place] = 40
    embedding, head = language.embed_tokens.weight, model.lm_head.weight
    embedding.mul_(0.1)[:, :held] = 0  # what is read in the context counts for more than the last token
    head.mul_(0.1)[:, :held] = 0
    head[tokenizer.eos_token_id] = 0
    head[tokenizer.eos_token_id, SPOKEN] = 100
    index = tokenizer.convert_tokens_to_ids
    for place, (cue, turns) in enumerate(known.items(), FIRST_CUE):
        embedding[index(cue), place] = 50
        for turn, texts in enumerate(turns):
            for text in texts:
                token = index(text)
                embedding[token, SPOKEN] = 50
                embedding[token, TURN] = 50.0 * (turn == 0 and bool(turns[1]))
                head[token, held:] = 0.03 * torch.randn(head.shape[1] - held)
                head[token, place] = 5 if turn else 10
                head[token, TURN] = 20 if turn else 0


def _writers_of(model):
    """Layers whose output stands in the place of a token's embedding."""
    visual = model.model.visual
    mergers = [visual.merger, *getattr(visual, "deepstack_merger_list", ())]
    return [[one for one in merger.modules() if isinstance(one, torch.nn.Linear)][-1] for merger in mergers]
