"""A second MIDI reader, written from the standard (MIDI 1.0 detailed specification, Standard MIDI Files 1.0) to check
the first by.

It shares no code with `composer_classify.midi` and is as plain as possible, so that a reader can verify it by eye. It
knows no repairs but one: running status goes on behind SysEx and meta events. Anything else that the standard forbids
raises `ValueError`.
"""

from __future__ import annotations

from typing import NamedTuple


class Note(NamedTuple):
    "A note as the standard tells it: times in ticks."

    track: int
    channel: int
    pitch: int
    onset: int
    release: int


def read_number(data: bytes, at: int) -> tuple[int, int]:
    "A variable-length quantity of at most four bytes, and where it ends."
    value = 0
    for n in range(4):
        value = value * 128 + (data[at + n] & 0x7F)
        if data[at + n] < 0x80:
            return value, at + n + 1
    raise ValueError("a quantity of more than four bytes")


def read_events(data: bytes) -> tuple[list[tuple[int, int, int, int]], int]:
    """Tick, status and two data bytes (the second 0 where there is none) of each message of a track, and the tick of
    its end."""
    at = tick = status = 0
    events = []
    while at < len(data):
        delta, at = read_number(data, at)
        tick += delta
        if data[at] == 0xFF:  # meta event: kind, length, content
            kind = data[at + 1]
            length, at = read_number(data, at + 2)
            at += length
            if kind == 0x2F:
                if at != len(data):
                    raise ValueError("an end of track that is not the end")
                return events, tick
        elif data[at] in (0xF0, 0xF7):  # SysEx or escape: length, content
            length, at = read_number(data, at + 1)
            at += length
        else:
            if data[at] >= 0x80:
                status, at = data[at], at + 1
            if not 0x80 <= status < 0xF0:
                raise ValueError("no status")
            size = 1 if status // 16 in (0xC, 0xD) else 2  # program change and channel pressure have one data byte
            first, second = data[at], data[at + 1] if size == 2 else 0
            if max(first, second) >= 0x80:
                raise ValueError("a data byte out of range")
            events.append((tick, status, first, second))
            at += size
    raise ValueError("no end of track")


def read_tracks(data: bytes) -> list[bytes]:
    "The events of each track of a file, which must be as its header says. Chunks of another kind are passed over."
    if data[:4] != b"MThd":
        raise ValueError("no header")
    tracks, at = [], 8 + int.from_bytes(data[4:8], "big")
    while at < len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "big")
        if at + 8 + length > len(data):
            raise ValueError("a chunk longer than the file")
        if kind == b"MTrk":
            tracks.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    if len(tracks) != int.from_bytes(data[10:12], "big"):
        raise ValueError("a wrong number of tracks")
    return tracks


def read_notes(data: bytes) -> list[Note]:
    """All strokes of all keys, each with its release; a note that is never released lasts to the end of its track.

    The standard does not say to which stroke a release belongs. A release (Note Off, Note On of velocity 0, or All
    Notes Off and the like, controls 120 and 123 to 127) ends every stroke of its key that began at an earlier tick. If
    it ends several, as many releases less one are owed. A release that finds no earlier stroke is one of those; if none
    is owed, it ends the strokes of its own tick, which have no length. Behind All Notes Off none is owed.
    """
    notes = []
    for track, content in enumerate(read_tracks(data)):
        struck: dict[tuple[int, int], list[int]] = {}  # ticks of the strokes that sound, by channel and key
        owed: dict[tuple[int, int], int] = {}  # releases that are owed

        def release(key: tuple[int, int], tick: int) -> None:
            earlier = [onset for onset in struck.get(key, []) if onset < tick]
            here = [onset for onset in struck.get(key, []) if onset == tick]
            if earlier:
                notes.extend(Note(track, *key, onset, tick) for onset in earlier)
                owed[key] = owed.get(key, 0) + len(earlier) - 1
                struck[key] = here
            elif owed.get(key):
                owed[key] -= 1
            else:
                notes.extend(Note(track, *key, onset, tick) for onset in here)
                struck[key] = []

        events, end = read_events(content)
        for tick, status, first, second in events:
            kind, channel = status // 16, status % 16
            if kind == 0x9 and second > 0:
                struck.setdefault((channel, first), []).append(tick)
            elif kind in (0x8, 0x9):
                release((channel, first), tick)
            elif kind == 0xB and (first == 120 or first >= 123):
                for key in [key for key in struck if key[0] == channel]:
                    release(key, tick)
                    owed[key] = 0
        notes.extend(Note(track, *key, onset, end) for key, onsets in struck.items() for onset in onsets)
    return notes
