"""Small MIDI files and zip archives, event by event and record by record, so that each flaw is easy to write down."""
import io
import struct
import warnings
import zipfile

END = b"\x00\xff\x2f\x00"


def varlen(number: int) -> bytes:
    "A number as MIDI writes delta times: seven bits a byte."
    out = [number & 127]
    while number := number >> 7:
        out.insert(0, number & 127 | 128)
    return bytes(out)


def on(key: int, delta: int = 0, velocity: int = 80, channel: int = 0) -> bytes:
    return varlen(delta) + bytes([0x90 | channel, key, velocity])


def off(key: int, delta: int = 0, channel: int = 0) -> bytes:
    return varlen(delta) + bytes([0x80 | channel, key, 0])


def meta(kind: int, content: bytes, delta: int = 0) -> bytes:
    return varlen(delta) + bytes([0xFF, kind]) + varlen(len(content)) + content


def tempo(micros: int, delta: int = 0) -> bytes:
    "A tempo change, in microseconds a quarter note."
    return meta(0x51, micros.to_bytes(3, "big"), delta)


def control(number: int, value: int, delta: int = 0) -> bytes:
    return varlen(delta) + bytes([0xB0, number, value])


def scale(first: int = 60, n: int = 4, length: int = 240) -> bytes:
    "The events of a few keys one after another."
    return b"".join(on(first + i) + off(first + i, length) for i in range(n))


def smf(tracks: list[bytes], division: int = 480, format: int = 1, n_tracks: int = None) -> bytes:
    "A MIDI file of raw tracks. Nothing is added or checked: `END` is yours to write, `n_tracks` yours to get wrong."
    header = struct.pack(">4sIHHH", b"MThd", 6, format, len(tracks) if n_tracks is None else n_tracks, division & 0xFFFF)
    return header + b"".join(b"MTrk" + struct.pack(">I", len(track)) + track for track in tracks)


def piece(first: int = 60, n: int = 4) -> bytes:
    "A sound file; another first key gives another piece."
    return smf([scale(first, n) + END])


def riff(data: bytes) -> bytes:
    "The RIFF envelope of an `RMID` file."
    return b"RIFF" + struct.pack("<I", len(data) + 12) + b"RMIDdata" + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def make_zip(members: list[tuple[str | zipfile.ZipInfo, bytes]]) -> bytes:
    "A zip archive; names go in as they are, hostile and repeated ones too."
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # zipfile warns of repeated names
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def patch_zip(archive: bytes, offset_local: int, offset_central: int, format: str, change) -> bytes:
    "The archive with one field of every local header and every central record changed."
    out = bytearray(archive)
    for signature, offset in ((b"PK\x03\x04", offset_local), (b"PK\x01\x02", offset_central)):
        at = out.find(signature)
        while at >= 0:
            struct.pack_into(format, out, at + offset, change(*struct.unpack_from(format, out, at + offset)))
            at = out.find(signature, at + 4)
    return bytes(out)


def without_utf8_flag(archive: bytes) -> bytes:
    "The archive as old tools write it: bytes in UTF-8, and nothing that says so."
    return patch_zip(archive, 6, 8, "<H", lambda flags: flags & ~0x800)


def encrypted(archive: bytes) -> bytes:
    "The archive with each member said to be encrypted."
    return patch_zip(archive, 6, 8, "<H", lambda flags: flags | 1)


def lying(archive: bytes, size: int) -> bytes:
    "The archive with each member said to unpack to `size` bytes."
    return patch_zip(archive, 22, 24, "<I", lambda _: size)


def overlapping(archive: bytes, times: int) -> bytes:
    "An archive of one member listed many times over, all of them the same compressed bytes."
    directory, end = archive.index(b"PK\x01\x02"), archive.index(b"PK\x05\x06")
    records = archive[directory:end] * times
    count = min(times, 0xFFFF)
    return archive[:directory] + records + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(records), directory, 0)
