"""Grounded Forcing: long multi-shot video from a storyboard on causal Wan-family models."""
