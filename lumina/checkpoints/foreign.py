"""The one place where trouble with a file that somebody else made becomes a sentence.

Libraries raise errors of a dozen kinds for what they cannot read, most of them without the file's
name. The sentence is for the user who chose the file.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from .wording import printable


@contextmanager
def reading(*names: str) -> Iterator[None]:
    """Whatever goes wrong inside is raised as ValueError, or FileNotFoundError, that names a file.

    names: of the model and of its files. A ValueError or FileNotFoundError that names one of them
    passes; only what does not print is escaped in it. Want of memory is not the file's fault, and
    passes too.
    """
    try:
        yield
    except Exception as error:
        if _is_want_of_memory(error):
            raise
        sentence = printable(_sentence(error, names))
        if sentence == str(error):
            raise
        kind = FileNotFoundError if _is_missing(error) else ValueError
        raise kind(sentence) from error


def _sentence(error: Exception, names: tuple[str, ...]) -> str:
    text = str(error)
    if _is_missing(error):
        return text
    if type(error) is ValueError:
        return text if any(name in text for name in names) else f"{names[0]}: {text}"
    if isinstance(error, OSError) and error.strerror:
        return (
            f"{names[0]} cannot be read: {error.strerror}. Look whether the file and its disk are "
            "in order, and whether ComfyUI may read it."
        )
    reason = text.strip().partition("\n")[0][:300] or "no reason is given"
    return (
        f"{names[0]} cannot be read: {reason} ({type(error).__name__}). It is damaged, or of a "
        "kind that is not known here. Download it again, from where the model was published."
    )


def _is_missing(error: Exception) -> bool:
    """Whether it is a FileNotFoundError of ours: those of the system have a number."""
    return isinstance(error, FileNotFoundError) and error.errno is None


def _is_want_of_memory(error: Exception) -> bool:
    # By name: torch's has another place in every few versions. On the CPU it is a RuntimeError.
    is_one = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return is_one or "not enough memory" in str(error)
