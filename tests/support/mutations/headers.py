"""Mutations of safetensors files: each gives the bytes of a broken one."""

import json
import struct

from safetensors.torch import save

from lumina_next.tests.support.mutations.case import NAMES, VALUES, flipped

DTYPES = ["F32", "F16", "BF16", "F64", "I64", "I32", "I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"]
DTYPES += ["F4", "F8_E8M0", "C64", "U64", "F99", "", "f32"]
SHAPES = [[], [0], [1], [-1], [2**63], [2**40, 2**40], [0, 2**62], [1] * 70, ["3"], [1.5], [None]]


def saved(case, mutate):
    """A safetensors file of a model whose tensors are mutated and which is sound otherwise."""
    mutate(case)
    tensors = {k: t.contiguous().clone() for k, t in case.weights.items() if "\x00" not in k}
    return save(tensors, case.metadata())


def with_header(case, change):
    """The file after change(header), which gives the new one; the length is adapted."""
    content = save(case.weights, case.metadata())
    length = struct.unpack("<Q", content[:8])[0]
    header = change(json.loads(content[8 : 8 + length]))
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def header_entry(case):
    def change(header):
        field = case.chance.choice(["dtype", "shape", "data_offsets"])
        values = {"dtype": DTYPES, "shape": SHAPES, "data_offsets": SHAPES}[field] + VALUES
        header[case.key()][field] = case.chance.choice(values)
        return header

    return with_header(case, change)


def header_offsets(case):
    def change(header):
        offsets = header[case.key()]["data_offsets"]
        start, end = offsets
        offsets[:] = case.chance.choice(
            [[end, start], [start + 1, end], [start, end + 4], [0, 0], ["0", end], [start, "9"],
             [-4, end], [start], [start, 2**63], [float(start), end]]
        )  # fmt: skip
        return header

    return with_header(case, change)


def header_key(case):
    def change(header):
        header[case.chance.choice(NAMES)] = header.pop(case.key())
        return header

    return with_header(case, change)


def header_value(case):
    def change(header):
        header[case.key()] = case.chance.choice(VALUES)
        return header

    return with_header(case, change)


def metadata(case):
    key = case.chance.choice(["config", "_quantization_metadata", "trained_size_px", "format", ""])
    texts = ["", "{", "[]", "{}", "3", "9" * 5000, "[" * 100_000, '{"layers": 3}', "\x1b[2J"]
    texts += ['{"layers": {"layers.0.attention.wq": 3}}', '{"layers": {"": {"format": "x"}}}', "٣"]
    value = case.chance.choice([*texts, *VALUES])

    def change(header):
        header["__metadata__"] = case.chance.choice([{key: value}, {key: value}, value])
        return header

    return with_header(case, change)


def header_text(case):
    brackets = b'{"a":' * 100_000
    texts = [brackets, b"{" + b"[" * 100_000, b"{}", b"[]", b"{", b"\xff\xfe{", b'{"a":1,"a":2}']
    return with_header(case, lambda header: case.chance.choice(texts))


def flipped_bytes(case):
    return flipped(case.chance, save(case.weights, case.metadata()))


def cut(case):
    content = save(case.weights, case.metadata())
    return content[: case.chance.randrange(len(content))]


ON_SAFETENSORS = [header_entry, header_offsets, header_key, header_value, metadata, header_text]
ON_SAFETENSORS += [flipped_bytes, cut]
