"""What was trained with this trainer, and how: sizes, data, stages and command lines.

`builtin` is the whole of `grounded train builtin`. Its parts: `clips` (shards of the small world), `codec` with
`codec_data` (the autoencoder), `video` (teacher and student), `reader` with `reader_data` (the network that reads
films), `holdout` (has a stage learnt its clips by heart?). `self_forcing`, `rolling_forcing`, `longlive`,
`context_forcing` and `grounded_forcing` are values (`stage`) over one trainer (`matching`). A recipe for another model
brings a network, an objective and a source of batches, and hands them to `loop.Run`.
"""
