"""Nodes that read a Take: its pictures and latents, its sheet, report and drift."""
