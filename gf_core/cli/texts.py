"""What `grounded COMMAND --help` says above and below the options."""

DESCRIPTION = "Long multi-shot video from a storyboard, on causal Wan-family models."

EXAMPLES = """\
examples:
  grounded plan workflows/storyboards/first_film.txt       what it will be, before anything is computed
  grounded render workflows/storyboards/first_film.txt     make it, with the built-in model
  grounded render film.txt --model longlive_base.pt --size 832x480
  grounded inspect longlive_base.pt                        what is this file, and can it be used?

A storyboard is text, one line per segment: docs/storyboard.md. A first one:
  a red fox walks right in a meadow at noon  | 5s
  then: it jumps                             | 4s
  cut: the same red fox sleeps in the snow at night | 4s
"""

HELP = {
    "render": """\
Render a storyboard to a video file, with a contact sheet and a report beside it. The film grows on disk while it
is made: after Ctrl-C, a crash or a power cut everything finished so far plays, and the same command goes on from
there. After an edit of the storyboard only what comes after the change is made anew. Nothing is ever overwritten.

examples:
  grounded render film.txt
  grounded render film.txt --seed 12 --out films/second_try.mp4
  grounded render film.txt --model longlive_base.pt --memory longlive --size 832x480
  grounded render film.txt --model self_forcing_dmd.pt --start-image harbour.png
  grounded render film.txt --start-video harbour.mp4       go on from where a video ends
  grounded render films/film.mp4                           the same film again, from what it carries
""",
    "watch": """\
Render a storyboard, and again whenever it is saved, as 'grounded render' does: only what comes after the change is made
anew. The model stays open, so an edit costs its segments and little else. A storyboard that is saved while its film is
made breaks that off, and what is finished of it is used. One with a mistake is told, and waited for. Ctrl-C ends.

examples:
  grounded watch film.txt
  grounded watch film.txt --model longlive_base.pt --size 832x480
  grounded watch film.txt --until 3                        its first three segments, while they are being written
""",
    "plan": """\
Show what a storyboard becomes before anything is computed: lengths after snapping to whole chunks, seeds, and what
memory, disk and time it will take. Options are those of 'render'. Exit status 2 if the storyboard cannot be read.

examples:
  grounded plan film.txt
  grounded plan film.txt --model longlive_base.pt --size 832x480
  grounded plan films/film.mp4                             what it would take to make that film again
""",
    "takes": """\
Render several takes of one segment, each with its own seed. What comes before the segment is used as it is, so only the
segment itself is computed. Clips of it and a contact sheet go into the Take's folder; 'grounded pick' keeps one.

examples:
  grounded takes film.txt --segment 4                      five takes, called a to e; a is the storyboard's own
  grounded takes film.txt --segment 4 --seeds 9            four more; what is there is not made again
  grounded pick film.txt 4 c                               write c's seed into film.txt
  grounded render film.txt                                 the whole film, going on from c
""",
    "farm": """\
Render every storyboard (.txt) of a folder: to films/NAME.mp4, each with a Take of its own in takes/NAME. Without --ray
one film after the other; with it, side by side on a Ray cluster that is running, each on a card of its own where the
cluster has cards. Every machine needs this program and sees the same folders. After Ctrl-C, or when a machine was lost,
the same command goes on; a film of the same storyboard that is there is left alone, and so is one that another command
is making, which is asked for once more at the end: several may work on one folder.

examples:
  grounded farm storyboards/
  grounded farm storyboards/ --model longlive_base.pt --ray               the cluster of this machine
  grounded farm storyboards/ --model longlive_base.pt --ray head:6379
""",
    "pick": """\
Write the seed of a take into the storyboard's line: the text is the truth, and nothing else in it changes. The next
render goes on from that take and does not compute it again. For a film, another program's file or '-' the new
storyboard is printed. Give the --seed and --fps that 'grounded takes' was given, if it was.

examples:
  grounded pick film.txt 4 c                               take c of segment 4
  grounded pick film.txt 4 c --take takes/other            of a Take that is not called as the storyboard
""",
    "tidy": """\
Free disk in a Take: the films of old runs are removed, their latents stay, so that an edit taken back is only decoded
again. Films in films/, unfinished runs and the takes of a segment are left alone.

examples:
  grounded tidy takes/film
  grounded tidy takes/film --keep 3                        the films of the three newest runs stay
""",
    "open": """\
Print the storyboard that is inside a film: what was rendered, to the letter. 'grounded render FILM' makes it again.
Storyboards of other programs (H3-Multishot, LTX Director, ShotStream, FizzNodes, Deforum, EntityBench) are printed as
ours, and one line says what has no counterpart; 'render' and 'plan' take them as they are.

examples:
  grounded open films/film.mp4
  grounded open films/film.mp4 > again.txt                 to go on with
  grounded open films/film.mp4 --settings                  how it was made, as JSON
  grounded open episode.json --fps 24                      another program's storyboard as ours
""",
    "export": """\
Write the cut as OpenTimelineIO (.otio), an edit decision list (.edl) or Final Cut XML (.fcpxml): one clip per segment,
pointing into the film. An .otio keeps everything: 'grounded open CUT.otio' gives the storyboard back, with what was
moved, trimmed or disabled in the editing program. Needs OpenTimelineIO, and for .edl and .fcpxml its plugins.

examples:
  grounded export films/film.mp4 film.otio
  grounded export films/film.mp4 film.edl
  grounded export film.txt film.fcpxml                     the cut as it is planned
""",
    "inspect": """\
examples:
  grounded inspect longlive_base.pt
  grounded inspect builtin
  grounded inspect --list                                  all that are known by name
""",
    "bench": """\
Measure a model on this machine: seconds per stage, pictures per second, memory. With --shape the weights are random,
so that nothing has to be downloaded to know how fast a model of that size would be here.

examples:
  grounded bench
  grounded bench --model longlive_base.pt --device cuda
  grounded bench --shape 1.3b --device cuda --dtype bfloat16 --size 832x480
""",
    "train": """\
Train a model. 'builtin' makes the built-in one again, from nothing. The others are published trainings by distribution
matching, with their papers' values, on prompts of your own. 'ablate' measures what each part of the memory does, with
the weights as they are or trained again. 'plan' says what such a training would take on 1, 8 and 64 cards.
'grounded train WHAT --help' lists the options of each.

examples:
  grounded train builtin --stage all --size tiny           the whole chain in small
  grounded train longlive --help                           a published training, and what it asks for
  grounded train plan                                      what such a training would take
""",
    "encode": """\
Encode shots to latents for training: every whole clip of every shot becomes a file, with its caption. The shots are a
folder of video files with a text file beside each, or a table (.csv, .json, .jsonl) that names files and captions. What
is there already and whole is kept, so the same command goes on after a stop.

examples:
  grounded encode shots/ --out latents/                    a folder of videos, each with a text file
  grounded encode shots.csv --out latents/ --model longlive_base.pt --size 832x480
""",
    "evaluate": """\
Measure a film of any model, or all films of a folder: whether its end differs from its beginning, whether the borders
of its chunks show, whether its cuts are seen (with the extra 'scenedetect'). A film of the built-in model is read too:
does it follow the prompt, and who stays who, also after how many shots away?

examples:
  grounded evaluate films/film.mp4
  grounded evaluate films/film.mp4 --json film.json --chart film.png
  grounded evaluate films/                                 a table of all of them
""",
    "drift": """\
examples:
  grounded drift films/film.mp4                            chart in films/film_drift.png
  grounded drift films/film.mp4 chart.png
""",
}
"""Of each command, what stands above its options, if more than a line, and its examples, which stand below."""
