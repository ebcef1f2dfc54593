"""Packings that are cut off while they write: by a kill, by a disk that is full."""
