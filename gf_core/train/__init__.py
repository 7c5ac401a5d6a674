"""Training of causal video models under the memory that the engine will give them.

Where to look first:

    loop.py         Run: the one loop, by clock or steps, with its log, average and checkpoint
    objectives/     what is learned: objective(batch) -> Loss; flow matching, distillation, those of papers
    films.py rollout.py     films that the network makes itself: what is drawn for them, and the engine's sampler
    streaming.py    one long film, a piece for every update; past.py what losses see of what came before
    context.py      the forward: all chunks of a clip at once, each with its own memory
    schedule.py     which frames that memory holds; batch.py the same as index tables
    data.py         shards that worker processes make, clips on the device
    sources/        data that people bring: prompts, LMDB, parquet, shots, encoded clips; order.py which come next
    encode.py       shots with captions to latents on disk
    draws.py        noise by sample, lengths by batch; recompute.py, lora.py, journal.py what their names say
    optim.py state.py ranks.py      Muon and the average; checkpoints; several processes or cards
    recipes/        one model each: sizes, data, stages, command line. The built-in model is recipes/builtin.py,
                    published trainings are values (recipes/stage.py) over recipes/matching.py

Everything outside recipes/ works at any scale and on any device, and knows nothing of the small world.
"""
