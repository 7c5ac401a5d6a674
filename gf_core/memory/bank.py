"""The bank: frames between anchors and recent memory that stand for what lies in between, in one of two ways.

`changes` (Context Forcing 3): the first frame of a chunk whose keys differ from those of the chunk before it, found in
the clean pass, first in first out; every layer keeps its own. `means` and `adaptive` (MemRoPE): a slow and a fast
running mean of all that leaves. Which chunk is compared and what leaves is the ledger's business.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import MemorySpec
from .heads import Share, own
from .ledger import Frame, Ledger
from .packed import fill, values_of, width_of

ADAPTIVE_RANGE = (0.1, 5.0)
"""`adaptive`: share of the fast mean where a place has changed least and most, in multiples of its own."""


class Bank:
    """What the banks of one memory need beside their slots; buffers [l b s h d] are the memory's."""

    def __init__(
        self,
        spec: MemorySpec,
        ledger: Ledger,
        stores: tuple[Tensor, Tensor],
        tokens_per_frame: int,
        share: Share | None = None,
    ) -> None:
        self._spec, self._ledger, self._size, self._stores = spec, ledger, tokens_per_frame, stores
        self._gather = own if share is None else share.gather
        raw_k, _ = stores
        layers, batch, _, heads, _ = raw_k.shape
        width = width_of(raw_k)
        # A step of 0.01 is near bfloat16's last bit, so means live in float32 and are cast into their slots.
        means = (layers, batch, spec.bank * tokens_per_frame if spec.averages else 0, heads, width)
        self.means = [torch.zeros(means, device=raw_k.device) for _ in range(2)]
        key = torch.zeros(layers, batch, heads, 0 if spec.averages else width, device=raw_k.device)
        self.mean_key = self._gather(key, 2).flatten(2)
        """Mean raw key [l b h*d] of the newest chunk, all heads laid flat."""

    def clear(self) -> None:
        """A new scene."""
        for store in (*self.means, self.mean_key):
            store.zero_()

    # -- changes ------------------------------------------------------------------------------------------------

    def compare(self, frames: int) -> list[int]:
        """After the newest chunk, of `frames`, was committed: layers in which it differs keep its first frame.

        Returns which do.
        """
        ledger, spec, raw_k = self._ledger, self._spec, self._stores[0]
        size, new, differ = self._size, [], list[int]()
        for layer, store in enumerate(raw_k):
            stop = ledger.layer(layer).past * size
            new.append(values_of(store[:, stop - frames * size : stop]).float().mean(1))  # b h d
        mean_key = self._gather(torch.stack(new), 2).flatten(2)  # l b (h d)
        if ledger.compares(frames):
            cosines = torch.nn.functional.cosine_similarity(mean_key, self.mean_key, dim=-1)  # l b
            # The only sample: several in step are refused such a bank (`checks.check`).
            differ = [n for n, alike in enumerate(cosines[:, 0].tolist()) if alike < spec.bank_below]
        for layer in differ:
            self._deposit(layer, frames)
        # Compared or not, the next chunk is measured against this one.
        self.mean_key.copy_(mean_key)
        return differ

    def _deposit(self, layer: int, frames: int) -> None:
        """The first of the `frames` newest frames is copied to the end of a layer's bank."""
        ledger, size = self._ledger, self._size
        layout = ledger.layer(layer)
        source, first = (layout.past - frames) * size, layout.anchors * size
        for store in self._stores:
            mine = store[layer]  # b s h d
            frame = mine[:, source : source + size].clone()
            if layout.bank == self._spec.bank:  # the oldest leaves: the others close up
                end = layout.kept * size
                mine[:, first : end - size] = mine[:, first + size : end].clone()
                mine[:, end - size : end] = frame
            else:  # recent frames make room for one more
                start, stop = layout.kept * size, layout.past * size
                mine[:, start + size : stop + size] = mine[:, start:stop].clone()
                mine[:, start : start + size] = frame
        ledger.deposit(layer, ledger.recent[-frames])

    # -- means --------------------------------------------------------------------------------------------------

    def fold(self, leaving: int, begins: bool) -> None:
        """Fold the `leaving` oldest recent frames into both means, or begin both with them."""
        layout, size, adaptive = self._ledger.layout, self._size, self._spec.bank_policy == "adaptive"
        first, start = layout.anchors * size, layout.kept * size
        shares: list[float | Tensor] = list(self._spec.bank_shares)
        for mean, store in zip(self.means, self._stores):
            gone = (
                values_of(store[:, :, start : start + leaving * size]).float().unflatten(2, (leaving, size))
            )  # l b f s h d
            # l b s h d: `adaptive` keeps the places of a frame apart, `means` has one mean for all of them.
            new = gone.mean(2) if adaptive else gone.mean((2, 3)).unsqueeze(2).expand(-1, -1, size, -1, -1)
            if adaptive and not begins and mean is self.means[0]:  # values move as far as their keys do
                shares[1] = self._share(new - mean[:, :, size:])  # against the fast mean
            for half, share in zip(mean.split(size, 2), shares):  # slow, fast
                half.copy_(new if begins else half + share * (new - half))
            fill(store[:, :, first:start], mean)

    def _share(self, moved: Tensor) -> Tensor:
        """Share of the fast mean at every place [l b s 1 1], by how far the keys there have moved [l b s h d]."""
        low, high = (times * self._spec.bank_shares[1] for times in ADAPTIVE_RANGE)
        far = self._gather(moved.norm(dim=-1), 3).mean(-1)  # l b s
        return (low + far / far.amax(-1, keepdim=True).clamp(min=1e-8) * (high - low))[..., None, None]

    # -- snapshots ----------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Tensor]:
        """What a later `restore` needs, as copies in the computer's memory."""
        ledger = self._ledger
        frames = torch.full((len(ledger.banks), self._spec.bank), -1)  # -1: none
        for layer, bank in enumerate(ledger.banks):
            frames[layer, : len(bank)] = torch.tensor([frame.number for frame in bank])
        named = {"k": self.means[0], "v": self.means[1], "key": self.mean_key}
        return {"frames": frames} | {name: store.to("cpu", copy=True) for name, store in named.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Return to a `snapshot` of a bank of the same settings."""
        for store, name in ((self.means[0], "k"), (self.means[1], "v"), (self.mean_key, "key")):
            store.copy_(state[name])
        self._ledger.banks = [
            [Frame(number, 0) for number in row if number >= 0] for row in state["frames"].tolist()
        ]
