"""A film's folder on disk: its runs, what of them can be used again, and the takes of its segments."""
