"""Mutations of torch files: each gives the bytes of a broken one."""

import io
import pickle
import warnings
import zipfile
from collections import OrderedDict

import torch

from lumina_next.tests.support.mutations.case import flipped


def torch_bytes(content, **settings):
    file = io.BytesIO()
    torch.save(content, file, **settings)
    return file.getvalue()


def entries_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def archive_of(entries, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def deflated_archive(case):
    return archive_of(entries_of(torch_bytes(case.weights)).items(), zipfile.ZIP_DEFLATED)


def short_storage(case):
    entries = entries_of(torch_bytes(case.weights))
    name = case.chance.choice([name for name in entries if "/data/" in name])
    entries[name] = case.chance.choice([entries[name][:-8], entries[name] + bytes(8), b""])
    return archive_of(entries.items())


def lost_entry(case):
    entries = entries_of(torch_bytes(case.weights))
    del entries[case.chance.choice(sorted(entries))]
    return archive_of(entries.items())


def repeated_entry(case):
    entries = list(entries_of(torch_bytes(case.weights)).items())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns, and writes it
        return archive_of([*entries, case.chance.choice(entries)])


def encrypted_archive(case):
    """Flagged as encrypted, in the entries and in the table at the end."""
    content = bytearray(torch_bytes(case.weights))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        while start >= 0:
            content[start + offset] |= 1
            start = content.find(signature, start + 4)
    return bytes(content)


def with_pickle(case, content):
    """A zip archive whose pickle is this one, with the storages of the sound model."""
    entries = entries_of(torch_bytes(case.weights))
    return archive_of((k, content if k.endswith("data.pkl") else v) for k, v in entries.items())


def inflating_pickle(case):
    return archive_of([("a/data.pkl", b"\x80\x02" + b"N0" * 10**7 + b"N.")], zipfile.ZIP_DEFLATED)


def long_pickle(case):
    return with_pickle(case, b"\x80\x02" + b"N0" * 10**6 + b"N.")


def hashes_without_end(case):
    """A tuple of two of a tuple of two of ... as a key: its hash takes 2**60 steps."""
    doubled = b"".join(b"q%ch%c\x86" % (i, i) for i in range(1, 61))
    return with_pickle(case, b"\x80\x02})" + doubled + b"Ns.")


def calls(case):
    """Calls that take all memory, all time, or are none of torch's."""
    call = case.chance.choice(
        [b"cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R",
         b"ctorch\nTensor\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R",
         b"c_codecs\nencode\n(X\x02\x00\x00\x00abX\x08\x00\x00\x00punycodetR",
         b"cos\nsystem\n(X\x04\x00\x00\x00truetR", b"cbuiltins\nset\n]\x85R",
         b"ctorch\nSize\n)R", b"ctorch.nn.parameter\nParameter\n)\x81", b"h\x07", b"Q"]
    )  # fmt: skip
    return with_pickle(case, b"\x80\x02}X\x01\x00\x00\x00w" + call + b"s.")


def odd_content(case):
    itself = {}
    itself["state_dict"] = itself
    itself["model"] = itself
    weights, key = case.weights, case.key()
    contents = [
        itself, {}, [], None, 3, torch.ones(2), list(weights.values()), {3: torch.ones(2)},
        {None: weights}, {(1, 2): torch.ones(1)}, {"model": {"model": weights}}, {"epoch": 3},
        {"state": {}, "param_groups": []}, {**weights, key: 3}, {**weights, key: None},
        {**weights, key: weights}, OrderedDict(weights), {"model": weights, "optimizer": {1: 2}},
        {**weights, key: torch.ones(1).expand(10**6)}, {**weights, key: torch.zeros(2).to_sparse()},
        {key: torch.nn.Parameter(t.float()) for key, t in weights.items()}, {b"w": torch.ones(1)},
        {**weights, key: torch.ones(3, device="meta")},
    ]  # fmt: skip
    old = case.chance.random() < 0.5
    return torch_bytes(case.chance.choice(contents), _use_new_zipfile_serialization=not old)


def plain_pickle(case):
    values = [{"a": 1}, [1] * 1000, "text", {"w": b"x" * 100}]
    return pickle.dumps(case.chance.choice(values), case.chance.randrange(6))


def flipped_pickle(case):
    entries = entries_of(torch_bytes(case.weights))
    content = next(v for k, v in entries.items() if k.endswith("data.pkl"))
    return with_pickle(case, flipped(case.chance, content))


def flipped_archive(case):
    return flipped(case.chance, torch_bytes(case.weights))


def flipped_old_file(case):
    return flipped(case.chance, torch_bytes(case.weights, _use_new_zipfile_serialization=False))


def cut_torch_file(case):
    content = torch_bytes(case.weights, _use_new_zipfile_serialization=case.chance.random() < 0.5)
    return content[: case.chance.randrange(len(content))]


ON_TORCH = [deflated_archive, short_storage, lost_entry, repeated_entry, encrypted_archive]
ON_TORCH += [inflating_pickle, long_pickle, hashes_without_end, calls, odd_content, odd_content]
ON_TORCH += [plain_pickle, flipped_pickle, flipped_archive, flipped_old_file, cut_torch_file]
