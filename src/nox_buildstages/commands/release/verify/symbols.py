"""Check that a wheel's symbols are in its runtime, or in another torch."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nox_buildstages.commands.release.verify.libraries import is_of_driver
from nox_buildstages.commands.release.verify.verdict import Verdict
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from nox_buildstages.wheels.binary import Binary, Library
    from nox_buildstages.wheels.wheel import WheelFile

_OF_DRIVER = re.compile("cu[A-Z]|nv")
"""The symbols of the driver's libraries, which no wheel has."""

_CUDA = "libcudart.so."


class OtherTorch(Value):
    """A torch that isn't in the runtime."""

    version: str
    libraries: Mapping[str, Library]  # by file name


def find_missing(
    binary: Binary, find: Callable[[str], Library | None], provided: Collection[str]
) -> list[str]:
    """Return the symbols of a binary which none of the loaded libraries has.

    ``find`` returns a library; None for libraries of the system, whose versions tell
    their symbols. ``provided`` are the interpreter's symbols.
    """
    missing = {
        symbol
        for symbol, file in binary.undefined.items()
        if not file or find(file) is not None
    }
    missing -= {*provided, *binary.defined}
    if any(map(is_of_driver, binary.needed)):
        missing = {it for it in missing if not _OF_DRIVER.match(it)}
    queue, seen = deque(binary.needed), set()
    while missing and queue:
        name = queue.popleft()
        library = None if name in seen else find(name)
        seen.add(name)
        if library is not None:
            missing -= library.defined
            queue.extend(library.needed)
    return sorted(missing)


def check_symbols(
    binaries: Sequence[Binary],
    find: Callable[[str], Library | None],
    provided: Collection[str],
) -> Verdict:
    """Return the verdict about the symbols that a wheel needs of its runtime."""
    problems = [*_describe_missing(binaries, find, provided, "the runtime")]
    return Verdict(
        check="symbols",
        state="failed" if problems else "ok",
        text="; ".join(problems) or "the runtime has all",
    )


def check_torch(
    wheel: WheelFile,
    binaries: Sequence[Binary],
    torch: OtherTorch,
    find: Callable[[str], Library | None],
    provided: Collection[str],
) -> Verdict:
    """Return the verdict about whether a wheel can be loaded with another torch.

    ``find`` returns a library of that torch or of the runtime without its own torch.
    """
    name = f"torch {torch.version}"
    problems = [
        f"requires {text}"
        for text in wheel.requires_dist
        if canonicalize_name((it := Requirement(text)).name) == "torch"
        and not it.specifier.contains(torch.version, prereleases=True)
    ]
    cuda = {
        it
        for library in torch.libraries.values()
        for it in library.needed
        if it.startswith(_CUDA)
    }
    for binary in binaries:
        problems += (
            f"{binary.name} needs {it}, and it needs {', '.join(sorted(cuda))}"
            for it in binary.needed
            if cuda and it.startswith(_CUDA) and it not in cuda
        )
    problems += _describe_missing(binaries, find, provided, "it")
    return Verdict(
        check=name,
        state="failed" if problems else "ok",
        text="; ".join(problems) or "loads",
    )


def _describe_missing(
    binaries: Sequence[Binary],
    find: Callable[[str], Library | None],
    provided: Collection[str],
    place: str,
) -> Iterator[str]:
    """Yield a sentence for each binary whose symbols some place lacks."""
    for binary in binaries:
        missing = find_missing(binary, find, provided)
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            yield f"{place} lacks {missing[0]}{more}, needed by {binary.name}"
