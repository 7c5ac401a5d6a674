"""The built-in model as native MODEL, CLIP and VAE: same latents as without a host, and a whole film by the engine."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

import tiny
import torch
from grounded_forcing.gf_core.checkpoints.bundle import load_model
from grounded_forcing.gf_core.engine.events import ChunkDone, Finished
from grounded_forcing.gf_core.engine.film import look, settle
from grounded_forcing.gf_core.engine.session import Session
from grounded_forcing.gf_core.take.folder import Take
from grounded_forcing.nodes.native.bundle import native_bundle
from grounded_forcing.nodes.native.loader import Request, load

TEXT = "a red fox walks right in a meadow at noon | 1.5s | seed 7\nthen: it jumps | 0.75s\n"


def play(bundle, folder):
    """Events of a short film."""
    events = []
    with Take.open(folder) as take:
        Session(take, look(settle(bundle, TEXT), take.folder)).play(events.append)
    return events


def latents(bundle):
    bundle.text, kept = OwnText(bundle.text), bundle.text
    try:
        return tiny.film(bundle, bundle.recipe.memory)
    finally:
        bundle.text = kept


class OwnText:
    """Words that the built-in model knows, whatever is asked."""

    def __init__(self, encoder):
        self.encoder = encoder

    def encode(self, prompts):
        return self.encoder.encode(["a red fox jumps", "a blue owl sleeps"])


@torch.inference_mode()
def main():
    loaded = load(Request())
    native, alone = native_bundle(loaded.model, loaded.clip, loaded.vae), load_model("builtin")
    facts = {"info": loaded.info, "latents": tiny.gap(latents(native), latents(alone))}

    prompt = "a red fox jumps"
    cond, _ = loaded.clip.encode_from_tokens_scheduled(loaded.clip.tokenize(prompt))[0]
    rows = alone.text.encode([prompt])[0]
    facts["cond"] = list(cond.shape)
    facts["text"] = float((cond[0, : len(rows)] - rows).abs().max())
    facts["padding"] = float(cond[0, len(rows) :].abs().max())

    z = torch.randn(4, 16, 4, 6, generator=torch.Generator().manual_seed(1))
    space = loaded.model.model.process_latent_out(z.movedim(0, 1)[None])
    core = loaded.vae.decode(space)
    core = core[0] if core.ndim == 5 else core
    facts["decode"] = float((core - alone.codec.decoder().decode(z)).abs().max())
    back = loaded.model.model.process_latent_in(loaded.vae.encode(core))[0].movedim(0, 1)
    facts["encode"] = float((back - alone.codec.encode(core)).abs().max())

    events = play(native, Path.cwd() / "output" / "take")
    facts["chunks"] = sum(isinstance(event, ChunkDone) for event in events)
    finished = next(event for event in events if isinstance(event, Finished))
    facts["frames"], facts["film_bytes"] = finished.frames, finished.path.stat().st_size
    facts["unknown"] = tiny.refused(lambda: loaded.clip.tokenize("a zeppelin"))
    tiny.report(**facts)


main()
