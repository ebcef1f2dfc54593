"""Reads protobuf messages: the host needs no protobuf, and one test looks inside a vocabulary."""


def fields(message):
    """Number and value of each field of a message: an int, or the field's bytes."""
    offset = 0
    while offset < len(message):
        tag, offset = varint(message, offset)
        kind, size = tag & 7, 4
        if kind == 0:
            value, offset = varint(message, offset)
        else:
            if kind == 2:
                size, offset = varint(message, offset)
            value, offset = message[offset : offset + size], offset + size
        yield tag >> 3, value


def varint(message, offset):
    """The number that begins at `offset`, and the offset behind it."""
    value = shift = 0
    while True:
        byte = message[offset]
        value |= (byte & 127) << shift
        offset, shift = offset + 1, shift + 7
        if byte < 128:
            return value, offset
