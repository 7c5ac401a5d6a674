"""The parallel training forward equals the engine's step-by-step rollout on the same latents, verbs included."""

import random

import pytest
import torch

from gf_core.config import MemorySpec, ModelSpec, Recipe, SampleSpec
from gf_core.model.wan import WanModel
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.sampler import Chunk
from gf_core.text.small import SmallTextEncoder
from gf_core.train.batch import ClipBatch, forgotten, tabulate
from gf_core.train.context import ContextNet, run_streams
from gf_core.train.schedule import plan_schedule

MEMORY = MemorySpec(anchor_update="never")
SPEC = ModelSpec(
    dim=24, ffn_dim=32, num_heads=2, num_layers=2, in_dim=4, out_dim=4, text_len=12, text_dim=16, freq_dim=16
)
TIMESTEP = 600.0
PROMPTS = ["a fox", "it jumps now", "the red fox", ""]


class NeverReplace(random.Random):
    """A generator that leaves the anchors alone, as the memory above does."""

    def random(self) -> float:
        return 0.9


@pytest.fixture
def parts() -> tuple[WanModel, SmallTextEncoder]:
    torch.manual_seed(0)
    words = ("a", "fox", "it", "jumps", "now", "red", "the")
    model = WanModel(SPEC).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.15)
    return model, SmallTextEncoder(words, dim=8, layers=1, heads=2, text_dim=16).eval()


def step_by_step(model, encoder, latents, noisy, verbs) -> list[torch.Tensor]:
    """Flow of every noisy chunk from the engine, its memory filled with true latents."""
    sampler = make_sampler(
        model,
        SPEC,
        Recipe(MEMORY, SampleSpec(steps=(TIMESTEP,), warp=False)),
        latent_height=4,
        latent_width=4,
    )
    director = sampler.director
    flows: list[torch.Tensor] = []
    embeds = [row[None] for row in encoder.encode(PROMPTS)]
    director.start(embeds[0])
    prompt = 0
    for chunk in range(latents.shape[1] // 3):
        if verb := verbs.get(chunk):
            prompt += 1
            {"then": director.switch, "cut": director.cut, "scene": director.scene}[verb](embeds[prompt])
        span = slice(3 * chunk, 3 * chunk + 3)
        before = director.snapshot()
        director.watch = lambda trace: flows.append(trace.flow.clone()) if trace.kind == "denoise" else None
        list(sampler.feed(Chunk(chunk, lambda i, noise=noisy[:, span]: noise)))
        director.watch = None
        director.restore(before)
        director.prefill(latents[:, span])
    return flows


@pytest.mark.parametrize(
    "verbs",
    [{}, {4: "then"}, {1: "then"}, {3: "cut"}, {2: "scene"}, {2: "then", 4: "cut"}, {2: "cut", 4: "then"}],
)
def test_streams_equal_the_rollout(parts, verbs):
    model, encoder = parts
    chunks = 6
    latents, noisy = torch.randn(2, 1, 3 * chunks, 4, 4, 4)
    starts = [0, *sorted(verbs)]
    prompt = torch.tensor([[sum(c >= s for s in starts[1:]) for c in range(chunks)]])
    ids, lengths = encoder.batch(PROMPTS)
    layout = plan_schedule(chunks, verbs, MEMORY, NeverReplace())
    batch = ClipBatch(
        latents,
        torch.zeros(1, 3 * chunks, 4, 4),
        torch.zeros(1, chunks, 8, dtype=torch.long),
        ids[None],
        lengths[None],
        prompt,
        tabulate([layout], prompt),
    )
    with torch.no_grad():
        out = run_streams(
            model,
            encoder,
            batch,
            latents,
            noisy[:, None],
            torch.full((1, 1, chunks), TIMESTEP),
            torch.zeros(1, 1, chunks, dtype=torch.bool),
        )
        expected = step_by_step(model, encoder, latents, noisy, verbs)
    assert len(expected) == chunks
    for chunk, flow in enumerate(expected):
        got = out.flow[:, 0, 3 * chunk : 3 * chunk + 3]
        torch.testing.assert_close(got, flow, atol=2e-5, rtol=1e-4, msg=lambda m, c=chunk: f"chunk {c}: {m}")


def test_a_forgotten_chunk_does_not_see_the_memory(parts):
    model, encoder = parts
    latents, other, noisy = torch.randn(3, 1, 9, 4, 4, 4)
    ids, lengths = encoder.batch(PROMPTS)
    prompt = torch.zeros(1, 3, dtype=torch.long)
    layout = tabulate([plan_schedule(3, {}, MEMORY, NeverReplace())], prompt)
    alone = torch.tensor([[False, False, True]])
    flows = []
    for table in (layout, forgotten(layout, alone)):
        for context in (latents, other):
            batch = ClipBatch(
                latents,
                torch.zeros(1, 9, 4, 4),
                torch.zeros(1, 3, 8, dtype=torch.long),
                ids[None],
                lengths[None],
                prompt,
                table,
            )
            times, keep = torch.full((1, 1, 3), TIMESTEP), torch.zeros(1, 1, 3, dtype=torch.bool)
            with torch.no_grad():
                flows.append(
                    run_streams(model, encoder, batch, context, noisy[:, None], times, keep).flow[0, 0]
                )
    seeing, seeing_other, blind, blind_other = flows
    assert not torch.allclose(seeing[6:], seeing_other[6:], atol=1e-4)
    torch.testing.assert_close(blind[6:], blind_other[6:])
    assert torch.equal(blind[:6], seeing[:6])


def test_narrow_copies_of_the_weights_give_nearly_the_same_gradients(parts):
    model, encoder = parts
    latents, noisy = torch.randn(1, 9, 4, 4, 4), torch.randn(1, 1, 9, 4, 4, 4)
    ids, lengths = encoder.batch(PROMPTS)
    prompt = torch.tensor([[0, 0, 1]])
    table = tabulate([plan_schedule(3, {2: "then"}, MEMORY, NeverReplace())], prompt)
    nothing = torch.zeros(1, 9, 4, 4), torch.zeros(1, 3, 8, dtype=torch.long)
    batch = ClipBatch(latents, *nothing, ids[None], lengths[None], prompt, table)
    net, found = ContextNet(model, encoder), []
    for narrow in (None, torch.bfloat16):
        net.zero_grad()
        net.narrow = narrow
        flow = net(batch, latents, noisy, torch.full((1, 1, 3), 0.6), torch.zeros(1, 1, 3) > 0).flow
        assert flow.dtype == (narrow or torch.float32)
        flow.float().square().mean().backward()
        grads = [p.grad for p in net.parameters() if p.grad is not None]
        assert all(grad.dtype == torch.float32 for grad in grads)
        found.append(torch.cat([grad.flatten() for grad in grads]))
    assert torch.cosine_similarity(*found, dim=0) > 0.999
    assert not torch.equal(*found)
