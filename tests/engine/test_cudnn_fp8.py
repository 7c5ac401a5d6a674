"""Attention in float8: scales, layout and what is remembered, over a frontend that computes what cuDNN rounds."""

from types import SimpleNamespace

import pytest
import torch

from gf_core.attention import backends, cudnn_fp8, fastest, sdpa
from gf_core.errors import GroundedError

CPU = torch.device("cpu")
FLOAT8 = torch.float8_e4m3fn


class Port:
    """A tensor of a graph; what is set on it is remembered."""

    def __init__(self, **said):
        self.said = said

    def __getattr__(self, name):
        def keep(value):
            self.said[name.removeprefix("set_")] = value
            return self

        return keep


class Graph:
    """`cudnn.pygraph`, as far as attention goes."""

    made = 0

    def __init__(self, *, handle, **types):
        Graph.made += 1

    def tensor(self, **said):
        return Port(**said)

    def sdpa_fp8(self, *, attn_scale, generate_stats, **ports):
        assert not generate_stats
        self.ports, self.attn_scale = ports, attn_scale
        self.out, *told = Port(), Port(), Port()
        return self.out, None, *told

    def build(self, modes):
        sizes = self.ports["q"].said["dim"]
        if sizes[2] == 3:
            raise Frontend.cudnnGraphNotSupportedError("No valid engine configs")

    def get_workspace_size(self):
        return 16

    def execute(self, values, workspace, *, handle):
        assert workspace.dtype == torch.uint8 and workspace.numel() == 16
        assert all(value.device == CPU for value in values.values())
        given = {name: _seen(port, values[port]) for name, port in self.ports.items()}
        scale = {name: float(given[name]) for name in cudnn_fp8.SCALES}
        q, k, v = (given[name].float() * scale[f"descale_{name}"] for name in "qkv")
        logits = q @ k.mT * self.attn_scale
        weights = (logits - logits.amax(-1, keepdim=True)).exp()
        seen = (weights * scale["scale_s"]).clamp(-448, 448).to(FLOAT8).float() * scale["descale_s"]
        out = seen @ v / weights.sum(-1, keepdim=True) * scale["scale_o"]
        _seen(self.out, values[self.out]).copy_(out.clamp(-448, 448).to(FLOAT8))


def _seen(port, value):
    """What cuDNN sees of memory: sizes, strides and type of the port, whatever the tensor's own are."""
    said = port.said
    assert value.dtype == (FLOAT8 if said["data_type"] == "float8" else torch.float32)
    return torch.as_strided(value, said["dim"], said["stride"])


class Unsupported(Exception):
    pass


Frontend = SimpleNamespace(
    data_type=SimpleNamespace(FP8_E4M3="float8", FLOAT="float32"),
    heur_mode=SimpleNamespace(A="a", FALLBACK="fallback"),
    cudnnGraphNotSupportedError=Unsupported,
    create_handle=lambda: "handle",
    pygraph=Graph,
)


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(cudnn_fp8, "LEAST_KEYS", 16)
    monkeypatch.setattr(Graph, "made", 0)
    return cudnn_fp8.kernel(Frontend)


def inputs(queries=24, keys=96, batch=2, heads=3, width=64, dtype=torch.bfloat16):
    rng = torch.Generator().manual_seed(0)
    shapes = ((batch, tokens, heads, width) for tokens in (queries, keys, keys))
    return [torch.randn(shape, generator=rng).to(dtype) for shape in shapes]


def error(told, exact):
    return float((told.float() - exact.float()).norm() / exact.float().norm())


@pytest.mark.parametrize("size", [0.05, 10.0])
@pytest.mark.parametrize("views", [False, True])
def test_it_is_attention_to_the_precision_of_float8(kernel, size, views):
    q, k, v = inputs()
    if views:  # a slice of the memory's slots, and heads that were taken apart
        k, v = (torch.cat([x, x], 1)[:, :96] for x in (k, v))
        q = q.transpose(1, 2).contiguous().transpose(1, 2)
    told = kernel(q, k, v * size)
    assert told.shape == q.shape and told.dtype == q.dtype and told.is_contiguous()
    assert 0.005 < error(told, sdpa(q.float(), k.float(), v.float() * size)) < 0.06


@pytest.mark.parametrize("cuts_off", [True, False])
def test_what_float8_cannot_hold_is_cut_off(kernel, monkeypatch, cuts_off):
    monkeypatch.setattr(cudnn_fp8, "_cuts_off", lambda device: cuts_off)
    q, k, v = inputs()
    v[:, 5] = 1e4
    assert kernel(q, k, v).isfinite().all()
    assert cudnn_fp8.rounded(v)[0, 5, 0, 0].float() == 448


def test_a_shape_is_planned_once_and_few_keys_are_not(kernel):
    q, k, v = inputs()
    for keys in (96, 96, 48, 96, 8):
        kernel(q, k[:, :keys], v[:, :keys])
    assert Graph.made == 2
    assert torch.equal(kernel(q, k[:, :8], v[:, :8]), sdpa(q, k[:, :8], v[:, :8]))
    with pytest.raises(GroundedError, match="no attention in float8 for 3 x 96 tokens, 3 heads of 64"):
        kernel(q[:, :3], k, v)


def test_it_is_taken_by_its_name_and_says_how_far_off_it_is(kernel, monkeypatch, caplog):
    caplog.set_level("INFO", "grounded")
    row = next(row for row in backends.BACKENDS if row.name == "cudnn-fp8")
    assert row.when == "asked" and not row.can(CPU, torch.bfloat16, 128)
    here = backends.Backend(row.name, lambda *_: True, lambda: kernel, row.when)
    monkeypatch.setattr(backends, "BACKENDS", (here, backends.BACKENDS[-1]))
    call = fastest.Call(CPU, torch.float32, 2, 64, 24, 96)
    assert backends.choose(CPU, torch.float32, 64, call=call) is sdpa
    assert backends.choose(CPU, torch.float32, 64, wanted="cudnn-fp8", call=call) is kernel
    assert "attention: cudnn-fp8, off by 0.0" in caplog.text
