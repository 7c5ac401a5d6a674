"""The `grounded` command line: the storyboard language without a host program."""

from .app import main

__all__ = ["main"]
