"""Sequences of one length attend together: the values are those of each alone, in fewer calls."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from mmreward import models
from mmreward.models import varlen
from mmreward.models.varlen import NAME, attend_by_length, attention

HEADS, WIDTH, SCALE = 2, 8, 0.3


def bounds_of(lengths):
    return torch.tensor([0, *lengths]).cumsum(0)


def one_by_one(query, key, value, lengths):
    parts = zip(*(part.split(lengths, dim=2) for part in (query, key, value)), strict=True)
    return torch.cat([scaled_dot_product_attention(*part, scale=SCALE) for part in parts], 2).transpose(1, 2)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_sequences_of_any_lengths_attend_as_each_alone(lengths):
    torch.manual_seed(len(lengths))
    parts = torch.randn(3, 1, HEADS, sum(lengths), WIDTH)
    found, weights = attention(torch.nn.Identity(), *parts, None, SCALE, cu_seq_lens_q=bounds_of(lengths))
    assert weights is None
    assert torch.allclose(found, one_by_one(*parts, lengths), atol=1e-6)


def test_the_gradient_is_that_of_each_alone():
    lengths = [3, 5, 3, 1, 5]
    mine, plain = (torch.randn(3, 1, HEADS, 17, WIDTH, requires_grad=True) for _ in range(2))
    plain.data.copy_(mine.data)
    want = one_by_one(*plain, lengths)
    found, _ = attention(torch.nn.Identity(), *mine, None, SCALE, cu_seq_lens_q=bounds_of(lengths))
    pull = torch.randn_like(want)
    want.backward(pull)
    found.backward(pull)
    assert torch.allclose(mine.grad, plain.grad, atol=1e-6)


@pytest.fixture
def calls(monkeypatch):
    """Shapes of the queries of every call of PyTorch's attention."""
    found = []

    def counted(query, *given, **options):
        found.append(tuple(query.shape))
        return scaled_dot_product_attention(query, *given, **options)

    monkeypatch.setattr(varlen, "scaled_dot_product_attention", counted)
    return found


def tower():
    config = Qwen2_5_VLVisionConfig(
        depth=2,
        hidden_size=32,
        intermediate_size=48,
        num_heads=2,
        out_hidden_size=16,
        fullatt_block_indexes=[1],
    )
    torch.manual_seed(0)
    return Qwen2_5_VisionTransformerPretrainedModel._from_config(config, attn_implementation="sdpa").eval()


@pytest.mark.parametrize(
    ("grids", "windowed", "whole"),
    [
        # Windows are 8 x 8 patches, and narrower at the right and at the bottom.
        ([[1, 8, 8]], [(1, 64)], [(1, 64)]),
        ([[1, 16, 16]] * 3, [(12, 64)], [(3, 256)]),
        ([[1, 12, 10]] * 2, [(2, 8), (2, 16), (2, 32), (2, 64)], [(2, 120)]),
        (
            [[1, 12, 10], [1, 8, 8], [3, 8, 4]],
            [(1, 8), (1, 16), (4, 32), (2, 64)],
            [(3, 32), (1, 64), (1, 120)],
        ),
    ],
    ids=["one", "three alike", "with narrow windows", "unlike, and a clip"],
)
def test_a_tower_with_windows_is_the_usual_one_in_fewer_calls(calls, grids, windowed, whole):
    plain, own, grid = tower(), attend_by_length(tower()), torch.tensor(grids)
    patches = torch.randn(int(grid.prod(1).sum()), 3 * 2 * 14 * 14)
    with torch.inference_mode():
        want = plain(patches, grid)
        assert not calls
        found = own(patches, grid)
    assert sorted((shape[0], shape[2]) for shape in calls) == sorted(windowed + whole)
    assert torch.allclose(found.pooler_output, want.pooler_output, atol=1e-6)
    assert torch.allclose(found.last_hidden_state, want.last_hidden_state, atol=1e-6)


def test_lengths_are_asked_for_once_in_a_forward(monkeypatch):
    asked, usual = [], varlen.plan
    monkeypatch.setattr(varlen, "plan", lambda bounds: asked.append(len(bounds)) or usual(bounds))
    own = attend_by_length(tower())
    for _ in range(2):
        own(torch.randn(240, 3 * 2 * 14 * 14), torch.tensor([[1, 12, 10]] * 2))
    assert sorted(asked) == [3, 3, 9, 9]  # pictures and windows, of two forwards
    assert not varlen._plans


def test_other_attention_and_other_networks_are_left(tmp_path):
    eager = tower()
    eager.config._attn_implementation = "eager"
    assert attend_by_length(eager).config._attn_implementation == "eager"
    assert attend_by_length(torch.nn.Linear(2, 2)).weight is not None
    attend_by_length(saved := tower()).save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
    again = type(saved).from_pretrained(tmp_path)
    assert again.config._attn_implementation == "sdpa"


def test_a_loaded_vlm_attends_so(vlm_folder):
    network = models.vlm(vlm_folder).network
    assert network.module.model.visual.config._attn_implementation == NAME
    assert network.module.model.language_model.config._attn_implementation == "sdpa"
