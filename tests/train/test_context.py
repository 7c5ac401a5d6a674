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
from gf_core.train.context import PLAIN, compiled_steps, run_streams
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


@pytest.mark.slow
def test_compiled_steps_give_the_same_gradients_for_every_kind_of_clip(parts):
    """Traced and differentiated as a compiler would, with more and fewer switches, clips and draws."""
    model, encoder = parts
    ids, lengths = encoder.batch(PROMPTS)
    for clips, draws, verbs in ((2, 2, {}), (2, 2, {2: "then", 4: "then"}), (3, 3, {2: "then"})):
        prompt = torch.tensor([[sum(c >= s for s in verbs) for c in range(5)]]).expand(clips, -1)
        table = tabulate([plan_schedule(5, verbs, MEMORY, NeverReplace())] * clips, prompt)
        latents, noisy = torch.randn(clips, 15, 4, 4, 4), torch.randn(clips, draws, 15, 4, 4, 4)
        nothing = torch.zeros(clips, 15, 4, 4), torch.zeros(clips, 5, 8, dtype=torch.long)
        prompts = ids.expand(clips, -1, -1), lengths.expand(clips, -1)
        batch = ClipBatch(latents, *nothing, *prompts, prompt, table)
        drop, found = torch.zeros(clips, draws, 5, dtype=torch.bool), []
        for steps in (PLAIN, compiled_steps("aot_eager")):
            model.zero_grad()
            times = torch.full((clips, draws, 5), TIMESTEP)
            out = run_streams(model, encoder, batch, latents, noisy, times, drop, steps)
            out.flow.square().mean().backward()
            found.append([out.flow.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
        assert len(found[0]) > 30
        torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-4)
