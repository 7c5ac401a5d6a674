"""Films on disk: writing as they grow, reading back, finishing, contact sheets. Knows nothing of torch."""

from .codecs import available_codecs
from .finish import finalise
from .metadata import read_metadata
from .reader import FilmInfo, pick_frames, probe, read_frames
from .sheet import SheetRow, contact_sheet
from .writer import FilmWriter

__all__ = [
    "FilmInfo",
    "FilmWriter",
    "SheetRow",
    "available_codecs",
    "contact_sheet",
    "finalise",
    "pick_frames",
    "probe",
    "read_frames",
    "read_metadata",
]
