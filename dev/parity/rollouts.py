"""Replay of causal rollouts, chunk after chunk; `methods` says which."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from dev.parity import heads
from dev.parity.case import Case, Refusal, float_scalars
from dev.parity.methods import CONTEXT_FORCING, INFINITY, KREA, ROWS, calls, memory_spec, repo, sample_spec
from dev.parity.prompts import Switch, prompts_of
from dev.parity.published import director_of
from gf_core.checkpoints.keymaps import experts
from gf_core.config import Recipe
from gf_core.model.forward import text_kv
from gf_core.model.placement import Placement
from gf_core.sampling.chunkwise import Chunkwise
from gf_core.sampling.director import Director, Trace
from gf_core.sampling.sampler import Chunk


def serves(case: Case) -> bool:
    """Whether this is a rollout of a method that we know."""
    known = repo(case) in ROWS and (repo(case) != CONTEXT_FORCING or case.doc.get("oracle"))
    return "rollout" in case.doc and bool(known)


class Recorder:
    """Follows a director and gives its intermediates under the names of the case."""

    def __init__(self, case: Case, director: Director) -> None:
        self.case, self.director = case, director
        self.block = 0
        self.recaches = 0
        self.fresh: list[Trace] = []
        self.similar: list[Tensor] = []
        self.mean_key: Tensor | None = None
        self.in_block = False

    def __call__(self, trace: Trace) -> None:
        """Give the tensors of one network call."""
        if trace.kind == "recache" and repo(self.case) == KREA:
            self.fresh.append(trace)
        elif trace.kind == "recache":
            self.case.give(f"recache{self.recaches}.flow", trace.flow)
            self.give_memory(f"recache{self.recaches}", self.director.memory.layout.past)
            self.recaches += 1
        elif trace.kind == "clean" and self.in_block:
            self.case.give(f"block{self.block}.context.flow", trace.flow)
        elif trace.kind == "denoise":
            name = f"block{self.block}.step{trace.step}"
            self._give_fresh()
            self.case.give(f"{name}.flow", trace.flow)
            self.case.give(f"{name}.noisy_input", trace.latents)
            if trace.denoised is not None:
                self.case.give(f"{name}.x0", trace.denoised)

    def give_memory(self, name: str, frames: int) -> None:
        """Give keys and values of every layer, in the form that the recorded code base stores."""
        memory = self.director.memory
        if heads.serves(self.case):
            heads.give_memory(self.case, self.director, self.block)
            return
        if repo(self.case) == CONTEXT_FORCING:
            self._give_banks(name)
            return
        size = memory.tokens_per_frame
        rotated = memory.spec.positions == "absolute" or repo(self.case) == KREA
        stored = memory.k if rotated else memory.raw_k
        for layer in range(len(stored)):
            k, v = stored[layer, :, : frames * size], memory.v[layer, :, : frames * size]
            if repo(self.case) == INFINITY:  # its first slot alone is stored rotated, at position 0
                k = torch.cat([memory.k[layer, :, :size], k[:, size:]], dim=1)
            for letter, value in (("k", k), ("v", v)):
                full = f"{name}.kv.layer{layer}.{letter}"
                self.case.give(full, _padded(value, self.case.shape(full)))

    def _give_fresh(self) -> None:
        """What was computed anew before this block, in one call where ours are several."""
        traces, self.fresh, name = self.fresh, [], f"block{self.block}.recompute"
        if traces:
            self.case.give(f"{name}.clean_context", torch.cat([trace.latents for trace in traces], 1))
            self.case.give(f"{name}.flow", torch.cat([trace.flow for trace in traces], 1))
            self.give_memory(name, self.director.memory.layout.past)

    def _give_banks(self, name: str) -> None:
        """Sink, slow and fast frames of every layer apart, and how alike the chunks are."""
        memory, spec = self.director.memory, self.director.memory.spec
        assert memory.bank is not None
        for layer, (raw_k, v) in enumerate(zip(memory.raw_k, memory.v)):
            layout = memory.ledger.layer(layer)
            slots = list(range(layout.past))
            bank = slots[layout.anchors : layout.kept]
            others = [slot for slot in slots if slot not in bank]
            regions = {"S": others[: spec.anchors], "C": bank, "F": others[spec.anchors :][-spec.recent :]}
            for region, (letter, store) in itertools.product(regions, (("k", raw_k), ("v", v))):
                frames = store.unflatten(1, (-1, memory.tokens_per_frame))[:, regions[region]]
                self.case.give(f"{name}.kv.layer{layer}.{region}.{letter}", frames.flatten(1, 2))
            self.case.give(f"{name}.kv.layer{layer}.kbar", memory.bank.mean_key[layer])
        new, old = memory.bank.mean_key[:, 0].clone(), self.mean_key
        alike = torch.full((len(new),), 2.0) if old is None else torch.cosine_similarity(new, old, dim=-1)
        self.similar, self.mean_key = [*self.similar, alike], new
        self.case.give("similarity", torch.stack(self.similar))


def _padded(value: Tensor, shape: list[int] | None) -> Tensor:
    """Keys of a whole recorded buffer: the slots not used yet are zeros."""
    short = 0 if shape is None else shape[1] - value.shape[1]
    return torch.nn.functional.pad(value, (0, 0, 0, 0, 0, short)) if short > 0 else value


def _feed_given(case: Case, director: Director, recorder: Recorder) -> Tensor | None:
    """Commit the given latents in the pieces that the calls before the first denoising step have."""
    known = ("noise", "renoise", "prompt_embeds", "reencoded")
    given = next((v for n, v in case.inputs.items() if v.ndim == 5 and not n.startswith(known)), None)
    if given is None or not given.shape[1]:
        return None
    for call in calls(case):
        if call["kind"] == "denoise":
            break
        start = call["current_start_frame"]
        # One time per frame, or one for all of them, in one list or two.
        time = float(torch.tensor(call["timestep"]).flatten()[0])
        director.prefill(given[:, start : start + call["frames"]], timestep=time)
        recorder.give_memory(f"block{call.get('block', 0)}", director.memory.layout.past)
    if director.memory.ledger.frame != given.shape[1]:
        raise Refusal(
            f"the calls feed {director.memory.ledger.frame} of {given.shape[1]} given latent frames"
        )
    return given


@torch.no_grad()
def replay(case: Case) -> None:
    """Run the recorded rollout through a sampler and give every output the case asks for."""
    options, spec = case.doc["rollout"], case.model_spec()
    sample = sample_spec(case)
    height, width = options["latent_hw"]
    denoising, writing = experts(case.weights)
    model, batch = case.model(denoising), options["batch"]
    scores = heads.Scores(case) if heads.serves(case) else None
    placement = Placement(
        latent_height=height, latent_width=width, batch=batch, kernel=scores,
        writer=case.model(writing) if writing else None,
    )  # fmt: skip
    director = director_of(case)(model, spec, Recipe(memory_spec(case), sample), placement)
    sampler, first = Chunkwise(director), Chunkwise(director)
    first.levels = first.first_levels
    director.watch = recorder = Recorder(case, director)
    if scores is not None:
        scores.block = lambda: recorder.block
    for name, levels in (("timesteps", sampler.levels), ("timesteps_first_block", sampler.first_levels)):
        case.give(name, float_scalars([level.timestep for level in levels]))
    prompts, switches = prompts_of(case)
    director.start(prompts[0])
    for layer, text in enumerate(text_kv(model, prompts[0], spec.text_len)):
        case.give(f"cross_kv.layer{layer}.k", text.k)
        case.give(f"cross_kv.layer{layer}.v", text.v)
    given = _feed_given(case, director, recorder)
    film = _run(case, first, sampler, recorder, list(zip(switches, prompts[1:])))
    latents = film if given is None else torch.cat([given, film], dim=1)
    shape = case.shape("latents")
    case.give("latents", latents if shape is None else latents[:, -shape[1] :])
    case.give("final", latents)


def _run(
    case: Case,
    first: Chunkwise,
    sampler: Chunkwise,
    recorder: Recorder,
    switches: list[tuple[Switch, Tensor]],
) -> Tensor:
    """Denoise every recorded block with the recorded noise; returns the generated latents [b f c h w].

    first: makes the first block, whether or not latents were given before it. switches: with the prompt of each.
    """
    starts = [call for call in calls(case) if call["kind"] == "denoise" and call["step"] == 0]
    noise = case.inputs["noise"]
    # The frame of the first noise.
    begin = starts[-1]["current_start_frame"] + starts[-1]["frames"] - noise.shape[1]
    latents: list[Tensor] = []
    director = sampler.director
    recorder.in_block = True
    for call in starts:
        recorder.block, start = call["block"], call["current_start_frame"]
        if start != director.memory.ledger.frame:
            raise Refusal(
                f"block {call['block']} starts at frame {start}, not at {director.memory.ledger.frame}"
            )
        if switches and start >= switches[0][0].frame:  # one switch a block at most
            switch, prompt = switches.pop(0)
            (director.cut if switch.cut else director.switch)(prompt)

        again = case.inputs.get(f"reencoded_first_latent.block{call['block']}")
        if again is not None:
            director.memory.anchor_latents[:, :1].copy_(again)
        initial = noise[:, start - begin :][:, : call["frames"]]

        def draw(i: int, block: int = call["block"], initial: Tensor = initial) -> Tensor:
            return case.inputs[f"renoise.block{block}.step{i - 1}"] if i else initial

        latents += [
            clean.latents
            for clean in (first if call is starts[0] else sampler).feed(Chunk(call["block"], draw))
        ]
        recorder.give_memory(f"block{recorder.block}", director.memory.layout.past)
    return torch.cat(latents, dim=1)
