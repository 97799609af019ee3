"""Linear layers through oneDNN: torch's values to rounding, and torch itself where oneDNN would not help."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mmreward.models import linears
from mmreward.models.base import TorchNetwork
from mmreward.models.linears import (
    LEAST_PRODUCTS,
    OneDNNAttention,
    OneDNNLinear,
    hasten,
    mkl_is_slow,
    rounded,
)

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linears, "mkl_is_slow", lambda: True)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes of what oneDNN was asked for."""
    shapes: list[torch.Size] = []
    own = torch.ops.mkldnn._linear_pointwise

    def counted(x: torch.Tensor, *rest: object) -> torch.Tensor:
        shapes.append(x.shape)
        return own(x, *rest)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counted)
    return shapes


def layer(bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(512, 1024, bias=bias).requires_grad_(False)


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(64, 512), (2, 40, 512), (2, 3, 20, 512)])
def test_values_are_torchs_to_rounding(
    slow: None, used: list[torch.Size], bias: bool, shape: tuple[int, ...]
) -> None:
    own = layer(bias)
    x = torch.randn(*shape)
    right = nn.functional.linear(x.double(), own.weight.double(), own.bias.double() if bias else None)
    assert hasten(own) is own
    assert type(own) is OneDNNLinear
    torch.testing.assert_close(own(x).double(), right, atol=5e-6, rtol=0)
    assert used == [torch.Size([rounded(x.numel() // 512), 512])]


@needs_onednn
def test_views_and_nans_are_read_as_they_are(slow: None, used: list[torch.Size]) -> None:
    own = hasten(layer())
    for x in (torch.randn(512, 80).t(), torch.randn(80, 1024)[:, ::2]):
        torch.testing.assert_close(own(x), own(x.contiguous()), atol=5e-6, rtol=0)
    x = torch.randn(80, 512)
    x[3, 5] = float("nan")
    missing = own(x).isnan()
    assert missing[3].all()
    assert missing.sum() == missing[3].numel()
    assert len(used) == 5


@given(st.integers(1, 1 << 20))
def test_rows_are_rounded_up_a_little_and_to_few_numbers(rows: int) -> None:
    assert rows <= rounded(rows) < rows + max(16, rows / 8 + 1)
    assert rounded(rounded(rows)) == rounded(rows)


def test_batches_of_every_length_have_few_shapes() -> None:
    assert len({rounded(rows) for rows in range(1, 1 << 14)}) == 64


@needs_onednn
def test_what_would_not_gain_or_needs_gradients_stays_with_torch(slow: None, used: list[torch.Size]) -> None:
    plain, own = layer(), hasten(layer())
    few = torch.randn(LEAST_PRODUCTS // plain.weight.numel() - 1, 512)
    many = torch.randn(LEAST_PRODUCTS // plain.weight.numel(), 512)
    assert torch.equal(own(few), plain(few))
    learned = many.clone().requires_grad_()
    own(learned).sum().backward()
    assert learned.grad is not None
    assert torch.equal(own(learned).detach(), plain(many))
    with torch.autocast("cpu", torch.bfloat16):
        assert own(many).dtype == torch.bfloat16
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(own(many), plain(many))
    assert own.to(torch.bfloat16)(many.bfloat16()).dtype == torch.bfloat16
    assert used == []
    with torch.no_grad():
        own.float()(learned)
    assert used == [torch.Size([rounded(len(many)), 512])]


def attention(batch_first: bool = True, bias: bool = True) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    made = nn.MultiheadAttention(512, 8, bias=bias, batch_first=batch_first).requires_grad_(False).eval()
    for vector in (made.in_proj_bias, made.out_proj.bias):
        if vector is not None:
            vector.normal_()
    return made


CAUSAL = torch.full((48, 48), float("-inf")).triu(1)


@needs_onednn
@pytest.mark.parametrize("mask", [None, CAUSAL, CAUSAL != 0], ids=["all", "float", "bool"])
@pytest.mark.parametrize(("batch_first", "bias"), [(True, True), (False, True), (True, False)])
def test_attention_is_torchs_to_rounding(
    slow: None, used: list[torch.Size], mask: torch.Tensor | None, batch_first: bool, bias: bool
) -> None:
    own, x = attention(batch_first, bias), torch.randn(48, 48, 512)
    exact = mask.double() if mask is CAUSAL else mask
    right, _ = copy.deepcopy(own).double()(*[x.double()] * 3, need_weights=False, attn_mask=exact)
    found, weights = hasten(own)(x, x, x, need_weights=False, attn_mask=mask)
    assert type(own) is OneDNNAttention
    assert weights is None
    assert len(used) == 2
    torch.testing.assert_close(found.double(), right, atol=1e-5, rtol=0)


@needs_onednn
def test_other_uses_of_attention_stay_with_torch(slow: None, used: list[torch.Size]) -> None:
    plain, own, x = attention(), hasten(attention()), torch.randn(48, 48, 512)
    hidden = torch.zeros(48, 48, dtype=torch.bool)
    hidden[:, 40:] = True
    for inputs, options in (
        ((x, x, x), {}),
        ((x, x.clone(), x), {"need_weights": False}),
        ((x, x, x), {"need_weights": False, "key_padding_mask": hidden}),
        ((x, x, x), {"need_weights": False, "attn_mask": CAUSAL.expand(48 * 8, 48, 48)}),
        ((x[:1, :8],) * 3, {"need_weights": False}),
    ):
        assert torch.equal(own(*inputs, **options)[0], plain(*inputs, **options)[0])
    learned = x.clone().requires_grad_()
    own(learned, learned, learned, need_weights=False)[0].sum().backward()
    assert learned.grad is not None
    assert used == []
    wide = nn.MultiheadAttention(512, 8, kdim=256).requires_grad_(False)
    assert type(hasten(wide)) is nn.MultiheadAttention


def test_only_large_plain_layers_are_changed(slow: None) -> None:
    class Adapter(nn.Linear):
        pass

    module = nn.ModuleDict({"large": layer(), "small": nn.Linear(512, 511), "adapter": Adapter(512, 512)})
    assert [type(one) for one in hasten(module).values()] == [OneDNNLinear, nn.Linear, Adapter]


def test_nothing_changes_where_mkl_is_not_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linears, "mkl_is_slow", lambda: False)
    assert type(hasten(layer())) is nn.Linear


@needs_onednn
def test_a_hastened_layer_is_copied_pickled_and_saved_as_torchs(slow: None) -> None:
    own, x = hasten(layer()), torch.randn(80, 512)
    for other in (copy.deepcopy(own), pickle.loads(pickle.dumps(own))):
        assert torch.equal(other(x), own(x))
    layer().load_state_dict(own.state_dict())


@needs_onednn
def test_every_network_is_hastened_as_it_is_built(slow: None) -> None:
    class Network(TorchNetwork):
        of_transformers = False

        def build(self) -> nn.Module:
            return nn.Sequential(layer())

    assert type(Network("mini-clip").module[0]) is OneDNNLinear


@pytest.mark.parametrize(
    ("capability", "amd", "slow"), [("AVX512", True, True), ("AVX2", True, False), ("AVX512", False, False)]
)
@needs_onednn
def test_mkl_is_slow_on_amd_with_avx512_alone(
    monkeypatch: pytest.MonkeyPatch, capability: str, amd: bool, slow: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(linears, "_of_amd", lambda: amd)
    assert mkl_is_slow.__wrapped__() is slow


def test_a_torch_whose_operation_is_another_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(x: torch.Tensor) -> torch.Tensor:
        return x

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(linears, "_of_amd", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", other, raising=False)
    assert mkl_is_slow.__wrapped__() is False
