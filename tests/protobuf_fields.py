"""Read the wire format of protocol buffers without a library: https://protobuf.dev/programming-guides/encoding."""

from collections.abc import Iterator


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Return the number and the content of each field of a message; all are strings, bytes or messages."""
    offset = 0
    while offset < len(message):
        key, offset = varint(message, offset)
        size, offset = varint(message, offset)
        yield key >> 3, message[offset : offset + size]
        offset += size


def varint(message: bytes, offset: int) -> tuple[int, int]:
    """Return the integer at an offset, 7 bits per byte and the lowest first, and the offset after it."""
    value, shift = message[offset] & 127, 7
    while message[offset] >= 128:
        offset += 1
        value |= (message[offset] & 127) << shift
        shift += 7
    return value, offset + 1
