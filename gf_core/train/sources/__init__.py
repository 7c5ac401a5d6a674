"""Training data that people bring: prompts, LMDB, parquet, shots with captions, latents that were encoded here.

`opened` tells by a path what it is; whatever it is, a `Source` has samples by number. `order.Order` says which of them
a rank takes next.
"""

from .base import Sample, Source
from .digest import digest_of
from .opened import open_source

__all__ = ["Sample", "Source", "digest_of", "open_source"]
