"""Films on disk: writing as they grow, reading back, placing, contact sheets. Knows nothing of torch."""

from .audio import Audio, read_audio
from .codecs import available_codecs, suffix_for
from .metadata import Chapter, read_chapters, read_metadata
from .place import available_formats, place_film
from .reader import FilmInfo, pick_frames, probe, read_frames
from .sheet import SheetRow, contact_sheet, film_row
from .writer import FilmWriter, cut_out

__all__ = [
    "Audio",
    "Chapter",
    "FilmInfo",
    "FilmWriter",
    "SheetRow",
    "available_codecs",
    "available_formats",
    "contact_sheet",
    "cut_out",
    "film_row",
    "pick_frames",
    "place_film",
    "probe",
    "read_audio",
    "read_chapters",
    "read_frames",
    "read_metadata",
    "suffix_for",
]
