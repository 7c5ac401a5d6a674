"""Tables of heads that several tests give to a model of two layers with two heads."""

PICKING = {
    "anchors": 1,
    "recent": 4,
    "heads": (((1, 1), (1, 1)), ((1, 1), (1, 1, 2))),
    "heads_from": 1,
    "heads_before": (1, 1),
    "heads_runs": 2,
}
"""The last head picks parts of frames from the third chunk on."""
