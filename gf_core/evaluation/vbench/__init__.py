"""Scores of VBench, which runs in a Python of its own."""
