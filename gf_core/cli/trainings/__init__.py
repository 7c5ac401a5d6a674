"""Commands under `grounded train` that train nothing, or only to compare."""
