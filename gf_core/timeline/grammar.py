"""Storyboard text to `Storyboard`: directives, verbs, prompts, and errors with line, column and fix; and back to text,
which always reads back as the same storyboard.

The whole grammar is in docs/storyboard.md; tests/fixtures/timeline holds cases that every reader of the
text shares.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from ..config import MAX_FPS
from ..errors import StoryboardError
from ..words import UNSEEN, exact_rate, rate, read_rate
from .lines import BARS, EDGES, Field, Line, escape, half_width, split_lines, suggest
from .options import is_option, read_options, read_seed, write_options
from .storyboard import (
    DEFAULT_FPS,
    MAX_SEGMENTS,
    NAME,
    REFERENCE,
    Picture,
    Segment,
    Storyboard,
)
from .verbs import VERBS, WORDS, Verb

VERB = re.compile(r" *([A-Za-z]+) *:")
"""A word and a colon at the start of a plain line; a verb if the word is one."""
_BACK = re.compile(r" *back( [^:]*|):", re.IGNORECASE | re.ASCII)
_BACK_TO = re.compile(r" +to +([0-9]+) *", re.IGNORECASE | re.ASCII)
_OPENS_BACK = re.compile(r" *back +to +[0-9]+ *:", re.IGNORECASE | re.ASCII)
"""`back to 2:`; a first prompt may begin with other words from `back` to a colon."""

_SCRIPT = re.compile(
    r" *((?:(?:hard|jump|match|quick|smash) +)?(then|cut|scene|shot|fade|dissolve|wipe)"
    r"(?: +(?:to|in|into|out|back|from|black|white|next|[0-9]{1,4}))*) *:",
    re.IGNORECASE | re.ASCII,
)
"""How scripts for cameras begin a shot: `CUT TO:`, `Scene 2:`, `Fade in:`."""
_FPS = re.compile(r" *@fps +(.+)", re.IGNORECASE | re.ASCII)
_CAST = re.compile(rf"[{EDGES}]*({NAME})[{EDGES}]*[=＝]")
PICTURES = ("png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff")
_PICTURE = re.compile(rf"[{BARS}][{EDGES}]*([^{BARS}]*\.[A-Za-z0-9]{{2,5}})$")
"""A name with a suffix behind the last bar of a description; any other bar there is a part of the description."""
_BRACED = re.compile(r"[{｛]([^{}｛｝]{1,80})[}｝]")
_SCHEDULE = re.compile(r""" *(?:"[0-9]+" *:|0 *:(?! *[0-9])|[{[]+ *(?:(?:"|[0-9]+ *:).*)?$)""")
"""How other programs begin a schedule of prompts: `"0": "a fox",`, `0: a fox`, `{"0": ...`."""
_LIST = re.compile(r""" *(?:[-*+•·–] |[0-9]+[.)] |"?[0-9]+"? *:|[]}],?$)""")
"""Lines of a list, and of a schedule."""


@dataclass
class _Reading:
    """What has been read so far."""

    settings: dict[str, Any] = field(default_factory=dict)
    cast: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    references: list[Field] = field(default_factory=list)
    """Fields whose `{name}`s are checked at the end, because the cast may follow them."""
    backs: list[tuple[int, Field]] = field(default_factory=list)
    """Places of segments that go back, and where the number stands; checked when all segments are read."""
    fps: Fraction = Fraction(DEFAULT_FPS)
    """For lengths in frames."""


def parse(text: str) -> Storyboard:
    """Read a storyboard; raises StoryboardError at the first thing that cannot be read."""
    reading = _Reading()
    lines = split_lines(text)
    reading.fps = _foreseen_fps(lines)
    for line in lines:
        if line.sign in ("", "#"):  # first: there may be very many
            continue
        whole = line.whole()
        if line.sign == "@":
            _read_directive(whole.after(len(whole.plain) - len(whole.plain.lstrip(" "))), reading)
        elif len(reading.segments) == MAX_SEGMENTS:
            message = f"the storyboard has more than {MAX_SEGMENTS:,} segments, and those are a day of film"
            raise whole.error(message, "cut it into several storyboards")
        else:
            reading.segments.append(_read_segment(line, reading))
    for index, place in reading.backs:
        _check_back(index, place, reading.segments)
    for place in reading.references:
        _check_references(place, reading.cast)
    if not reading.segments:
        raise StoryboardError(
            "the storyboard has no segment",
            "write what is seen on a line of its own, for example: a red fox walks left in a meadow | 5s",
            line=len(lines),
        )
    segments = tuple(reading.segments)
    return Storyboard(cast=reading.cast, segments=segments, pictures=reading.pictures, **reading.settings)


def format_storyboard(board: Storyboard) -> str:
    """Write `board` as text; raises StoryboardError if no text can say it (say, a line break in a prompt)."""
    head = []
    if board.fps != DEFAULT_FPS:
        head.append(f"@fps {rate(board.fps)}")
    if board.seed is not None:
        head.append(f"@seed {board.seed}")
    if board.style:
        head.append(f"@style {board.style}")
    for name, description in board.cast.items():
        picture = board.pictures.get(name)
        head.append(f"@cast {name} = {description}" + (f" | {picture.file}" if picture else ""))
    says = [_say(segment) for segment in board.segments]
    # Options stand below each other; a very long line does not push those of all others to the right.
    width = max((len(say) for say in says if len(say) <= 60), default=0)
    body = [
        " | ".join([say.ljust(width), *write_options(segment)]) for say, segment in zip(says, board.segments)
    ]
    text = "\n".join([*head, *([""] if head else []), *body]) + "\n"
    if parse(text) != board:
        raise StoryboardError(
            "this storyboard cannot be written as text",
            "prompts, style and cast are single lines without blanks at the ends; the first verb is 'start'",
        )
    return text


def _say(segment: Segment) -> str:
    prompt = escape(segment.prompt)
    if segment.verb == "back":
        return f"back to {segment.back}: {prompt}"
    if segment.verb != "start":
        return f"{segment.verb}: {prompt}"
    # A first prompt that looks like a remark, a directive, a verb or a schedule hides behind the verb it may have.
    said = half_width(segment.prompt).lstrip(" ")
    hides = said[:1] in ("#", "@") or any(form.match(said) for form in (VERB, _OPENS_BACK, _SCHEDULE))
    return f"scene: {prompt}" if hides else prompt


def _foreseen_fps(lines: list[Line]) -> Fraction:
    """What the line with `@fps` will say, which may stand below lengths in frames."""
    for line in lines:
        if line.sign == "@" and (found := _FPS.match(half_width(line.source))):
            try:
                return exact_rate(read_rate(found[1].strip(" ")))
            except ValueError:
                break
    return Fraction(DEFAULT_FPS)


def _read_segment(line: Line, reading: _Reading) -> Segment:
    prompt, options = line.fields(is_option)
    back = None
    if reading.segments and (match := _BACK.match(prompt.plain)):
        verb, back, prompt = "back", _read_back(prompt, match, reading), prompt.after(match.end())
    else:
        verb, prompt = _read_verb(prompt, first=not reading.segments)
    if not prompt.plain.strip(" "):
        raise prompt.error("the segment has no prompt", "write what is seen before the first '|'")
    reading.references.append(prompt)
    values, places = read_options(options, reading.fps)
    segment = Segment(verb=verb, prompt=prompt.text, line=line.number, back=back, **values)
    _check_switch_options(segment, places)
    return segment


def _read_back(prompt: Field, match: re.Match[str], reading: _Reading) -> int:
    """The number in `back to 2:`; whether there is such a segment is asked when all are read."""
    number, said = _BACK_TO.fullmatch(match[1]), re.sub("(?ai)^ +to(?= |$)", "", match[1]).strip(" ")
    if number is None or len(number[1]) > 9:
        fix = f"write back to {said}:" if re.fullmatch("[0-9]{1,9}", said) else "write for example back to 1:"
        raise prompt.error(
            f"'back to' needs the number of a segment, not '{said or 'nothing'}'", fix, match.start(1)
        )
    reading.backs.append((len(reading.segments), prompt.after(match.start(1) + number.start(1))))
    return int(number[1])


def _check_back(index: int, place: Field, segments: list[Segment]) -> None:
    """Segment `index` goes back to one in front of it that is in the film."""
    number, own = segments[index].back or 0, index + 1
    fix = "write back to 1:" if own == 2 else f"choose a number from 1 to {own - 1}"
    if not 1 <= number <= len(segments):
        raise place.error(f"there is no segment {number} to go back to", fix)
    if number == own:
        raise place.error("a segment cannot go back to itself", fix)
    if number > own:
        raise place.error(f"segment {number} comes later: there is nothing to go back to yet", fix)
    if segments[number - 1].mute:
        fix = "remove 'mute' from it, or go back to another one"
        raise place.error(f"segment {number} is muted: there is nothing to go back to", fix)


def _read_verb(prompt: Field, first: bool) -> tuple[Verb, Field]:
    match = VERB.match(prompt.plain)
    word = match[1].lower() if match else ""
    if first:
        if word in ("then", "cut", "start"):
            fix = f"remove '{word}:' (or write 'scene:')"
            raise prompt.error(f"the first segment cannot be '{word}:'", fix)
        if match and word == "scene":
            return "start", prompt.after(match.end())
        if _OPENS_BACK.match(prompt.plain):
            fix = "remove it (or write 'scene:' in front of it, where these words are the prompt)"
            raise prompt.error("the first segment cannot go back: nothing is in front of it", fix)
        if _SCHEDULE.match(prompt.plain):
            raise prompt.error("this is a schedule of another program", _HERE)
        return "start", prompt
    if match and word in WORDS:
        return word, prompt.after(match.end())
    *others, last = [f"{row.written} ({row.means})" for row in VERBS.values() if row.written]
    begin = f"begin the line with {', '.join(others)} or {last}"
    if script := _SCRIPT.match(prompt.plain):
        raise prompt.error(f"unknown verb '{script[1]}:'", _verb_for(script[1], script[2].lower()))
    if match:
        raise prompt.error(f"unknown verb '{match[1]}:'", suggest(word, WORDS, begin, "'{}:'"))
    leading = prompt.plain.partition(" ")[0].lower()
    fix = f"put a colon after it: '{leading}:'" if leading in WORDS else begin
    if _LIST.match(prompt.plain):
        fix = _HERE
    raise prompt.error("a segment after the first needs a verb", fix)


def _verb_for(said: str, word: str) -> str:
    """What to write in place of a script's own beginning of a shot, whose word for it is `word`."""
    verb = word if word in WORDS else "cut"
    other = {"scene": ", or 'cut:' to keep the cast"}.get(word, "")
    if word in ("fade", "dissolve", "wipe"):
        other = "; a change that comes slowly is 'then:' with | blend 2s behind the prompt"
    return f"write '{verb}:' in place of '{said}:'{other}"


_HERE = "write a line per segment, without numbers, quotes or dashes: what is seen | 5s, then: what comes next | 5s"


def _check_switch_options(segment: Segment, places: dict[str, Field]) -> None:
    """An option that belongs to one verb stands behind no other, and a blend fits inside its segment."""
    for verb, row in VERBS.items():
        for name in row.options:
            if name in places and segment.verb != verb:
                fix = f"remove {name}, or begin the line with {row.written}"
                raise places[name].error(f"{name} belongs to '{row.written}' only", fix)
    if segment.blend is not None and segment.blend > segment.seconds:
        message = f"the blend of {segment.blend:g} s is longer than its segment of {segment.seconds:g} s"
        raise places["blend"].error(message, "shorten the blend or lengthen the segment")


def _read_directive(whole: Field, reading: _Reading) -> None:
    word = whole.plain.partition(" ")[0]
    name, value = word[1:].lower(), whole.after(len(word))
    if name not in _EXAMPLES:
        known = f"directives are {', '.join('@' + known for known in _EXAMPLES)}"
        raise whole.error(f"unknown directive '{whole.word}'", suggest(name, _EXAMPLES, known, "'@{}'"))
    if name == "cast":
        _read_cast(value, reading)
        return
    if name in reading.settings:
        raise whole.error(f"@{name} is given twice", "keep one of the two")
    if not value.text:
        raise value.error(f"@{name} needs a value", f"write for example {_EXAMPLES[name]}")
    if name == "fps":
        reading.settings[name] = _read_fps(value)
    elif name == "seed":
        reading.settings[name] = read_seed(value, "@seed")
    else:
        reading.settings[name] = value.text
        reading.references.append(value)


def _read_fps(value: Field) -> int | float:
    said = value.plain.strip(" ")
    try:
        fps = read_rate(said)
    except ValueError:
        fix = f"write a number such as 24 or 23.976, or a fraction such as 24000/1001, from 1 to {MAX_FPS}"
        number = re.fullmatch(r"([0-9]{1,3})[.,]([0-9]{1,3}) *(?:fps)?|([0-9]{1,3}) *(?:fps)?", said.lower())
        if number and 1 <= float(number[0].replace(",", ".").removesuffix("fps")) <= MAX_FPS:
            fix = f"write @fps {number[3] or f'{number[1]}.{number[2]}'}"
        raise value.error(f"@fps needs a number, not '{value.text}'", fix) from None
    if not 1 <= fps <= MAX_FPS:
        raise value.error(f"@fps {value.text} is out of range", f"choose a number from 1 to {MAX_FPS}")
    return fps


_EXAMPLES = {
    "fps": "@fps 16",
    "seed": "@seed 7",
    "style": "@style 35mm film, soft morning light",
    "cast": "@cast fox = a small red fox with a torn left ear",
}
"""Every directive, and how it is written."""


def _read_cast(value: Field, reading: _Reading) -> None:
    match = _CAST.match(value.text)
    example = f"write for example: {_EXAMPLES['cast']}"
    if match is None:
        raise value.error("@cast needs a name, '=' and a description", example)
    name, description = match[1], value.after(match.end())
    if name in reading.cast:
        raise value.error(f"{name} is in the cast twice", "give one of the two another name")
    if not description.text:
        raise description.error(f"{name} has no description", example)
    if found := _PICTURE.search(description.text):
        description = _read_picture(name, description, found, reading)
    _check_references(description, reading.cast)  # only names above: no circles
    reading.cast[name] = description.text


def _read_picture(name: str, whole: Field, found: re.Match[str], reading: _Reading) -> Field:
    """Keep the picture that stands behind the description's last bar; gives the description before it."""
    file, place = whole.after(found.start(1)), replace(whole, raw=whole.raw[: found.start()]).trimmed()
    suffix = found[1].rpartition(".")[2].lower()
    if suffix not in PICTURES:
        known = f"give a picture, such as {name}.png; its name ends with one of {', '.join(PICTURES)}"
        raise file.error(f"'{found[1]}' is no picture", known)
    parts = found[1].split("/")
    if "\\" in found[1] or ":" in found[1] or parts[0] in ("", "~") or ".." in parts:
        fix = f"write its name, or a folder below and its name with / between them, such as cast/{name}.png"
        raise file.error(f"the picture '{found[1]}' is not beside the storyboard", fix)
    if not place.text:
        raise whole.error(f"{name} has no description", f"write for example: {_EXAMPLES['cast']} | fox.png")
    reading.pictures[name] = Picture(found[1], whole.line.number, file.place(0) + 1, whole.line.source)
    return place


def _check_references(place: Field, cast: dict[str, str]) -> None:
    for match in _BRACED.finditer(place.text):
        name = half_width(match[1]).replace(" ", "")
        if name in cast and any(sign in UNSEEN + "｛｝" for sign in match[0]):
            message = (
                f"'{match[0]}' has a full-width or an invisible sign and would not be read as {{{name}}}"
            )
            raise place.error(message, f"write {{{name}}}", match.start())
    for match in REFERENCE.finditer(place.text):
        if match[1] not in cast:
            add = f"add a line above: @cast {match[1]} = what it looks like"
            fix = suggest(match[1], cast, add, "{{{}}}")
            raise place.error(f"{{{match[1]}}} is not in the cast", fix, match.start())
