"""Compile the files of one shard; make stand-ins for everything else.

Wrappers of compilers and launchers of compiler caches run this program in place of
themselves, with their own path and their arguments. It runs them, unless another shard
compiles the file, or a linked file is a stand-in.

A stand-in is a valid file without content. None may get into a compiler cache, so this
program makes none below one.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import shlex
import stat
import sys
import zlib

SHARD = "NOX_BUILDSTAGES_SHARD"
"""Set in a shard: the path of a program that runs this one."""

INSIDE = "NOX_BUILDSTAGES_COMPILING"
"""Set for programs that a cache runs, so that their compilers aren't wrapped again."""

MARK = b"nox-buildstages: a stand-in, because this is a shard"

SUFFIXES = (".c", ".cc", ".cpp", ".cxx", ".c++", ".C", ".cu", ".pyx")
"""Of the sources that are divided; Cython makes a file for each ``.pyx``."""

_CACHES = (b"ccache", b"sccache")
_OBJECTS = (".o", ".obj")
_LINKED = (*_OBJECTS, ".a", ".so", ".lo")
_COMPILES = {"-c", "--compile", "-dc", "-dw", "--device-c", "--device-w"}
_OUTPUT = ("-o", "--output-file")
_DEPENDENCIES = ("-MF", "--dependency-output")
_WITH_VALUE = {
    *(*_OUTPUT, *_DEPENDENCIES, "-x", "-I", "-D", "-U", "-L", "-T", "-u", "-z", "-l"),
    *("-MT", "-MQ", "-include", "-imacros", "-isystem", "-iquote", "-idirafter"),
    *("-Xcompiler", "-Xlinker", "-Xclang", "-Xpreprocessor", "-Xassembler", "-Xptxas"),
    *("-arch", "-code", "-gencode", "-ccbin", "-target", "-rpath", "-odir", "-std"),
    *("-isysroot", "--generate-code", "--param", "-aux-info", "-e"),
}
_NEITHER = re.compile(
    r"-(E|S|M|MM|###|ptx|cubin|fatbin|dlink|fsyntax-only|print.*)|-o.+"
)
"""Options of a run that neither compiles to an object file nor links, or of which
this program doesn't know what it writes."""

_KINDS = {"-shared": "library", "--shared": "library", "-r": "object"}

_CHECKS = re.compile(
    r"(^|/)(CMakeFiles/(CMakeScratch|CMakeTmp|[\d.]+[^/]*/CompilerId)|meson-private/"
    r"|(conftest|_configtest|sanitycheck\w*|cmake_pch[^/]*)\.)"
)
"""A file that a build tool compiles to test a compiler, or that all others need."""

_SOURCE = f"""\
#include <stdio.h>
__asm__(".ident \\"{MARK.decode()}\\"");
"""
_MAIN = f'int main(void) {{ fputs("{MARK.decode()}\\n", stderr); return 1; }}\n'


class Call:
    """The arguments of a compiler."""

    def __init__(self, arguments: list[str]) -> None:
        self.options: set[str] = set()
        self.values: dict[str, list[str]] = {}  # of the options that have one
        self.files: list[str] = []
        words = iter(_expand(arguments))
        for word in words:
            if word in _WITH_VALUE:
                self.values.setdefault(word, []).append(next(words, ""))
            elif word.startswith(("-L", "-l")):
                self.values.setdefault(word[:2], []).append(word[2:])
            elif word.startswith("-"):
                self.options.add(word)
            else:
                self.files.append(word)
        self.is_other = any(map(_NEITHER.fullmatch, self.options))
        self.compiles = not self.options.isdisjoint(_COMPILES)
        self.sources = [it for it in self.files if it.endswith(SUFFIXES)]

    def value(self, names: tuple[str, ...]) -> str:
        """Return the last value of an option that has several names; empty if unset."""
        values = [it for name in names for it in self.values.get(name, ())]
        return values[-1] if values else ""

    @property
    def object_file(self) -> str:
        """The only object file to compile; empty for any other call."""
        if not self.compiles or self.is_other or len(self.sources) != 1:
            return ""
        stem = os.path.splitext(os.path.basename(self.sources[0]))[0]
        output = self.value(_OUTPUT) or f"{stem}.o"
        return output if output.endswith(_OBJECTS) else ""

    @property
    def kind(self) -> str:
        """The kind of the linked file."""
        kinds = [it for option, it in _KINDS.items() if option in self.options]
        return kinds[0] if kinds else "program"

    def links_stand_in(self) -> bool:
        """Whether a linked file is, or contains, a stand-in."""
        if self.compiles or self.is_other or self.sources:
            return False
        files = [it for it in self.files if it.endswith(_LINKED) or ".so." in it]
        for name in self.values.get("-l", ()):
            for folder in self.values.get("-L", ()):
                files += [f"{folder}/lib{name}.so", f"{folder}/lib{name}.a"]
        return any(map(is_stand_in, files))


def _expand(arguments: list[str]) -> list[str]:
    """Return arguments with the arguments in files."""
    found: list[str] = []
    words = iter(arguments)
    for word in words:
        file = word[1:] if word.startswith("@") else ""
        if word in ("--options-file", "-optf"):
            file = next(words, "")
        if not file:
            found.append(word)
            continue
        try:
            with open(file, encoding="utf-8") as lines:
                found += shlex.split(lines.read())
        except (OSError, ValueError):
            found.append(word)
    return found


def is_stand_in(path: str) -> bool:
    """Whether a file is, or contains, a stand-in."""
    try:
        with (
            open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return content.find(MARK) >= 0
    except (OSError, ValueError):  # missing, or empty
        return False


def choose_shard(path: str, sources: list[str], count: int) -> int:
    """Return the shard of a source, from 0.

    Sources of the package are divided in order, and each shard gets as many of a
    folder. Others, which the build generates, are divided by name.
    """
    for name in (path, f"{os.path.splitext(path)[0]}.pyx"):
        if name in sources:
            return sources.index(name) % count
    return zlib.crc32(path.encode("utf-8", "surrogateescape")) % count


def is_below_cache(process: int) -> bool:
    """Whether a compiler cache has started a process; True if that is unknown."""
    while process > 1:
        try:
            with open(f"/proc/{process}/stat", "rb") as file:
                line = file.read()
        except OSError:
            return True
        name = line[line.index(b"(") + 1 : line.rindex(b")")]
        if name.startswith(_CACHES):
            return True
        process = int(line[line.rindex(b")") + 2 :].split()[1])
    return False


def make_stand_in(kind: str, folder: str, target: str) -> None:
    """Write a stand-in of a kind: ``object``, ``library`` or ``program``."""
    template = os.path.join(folder, kind)
    if not os.path.exists(template):
        source, own = f"{template}-{os.getpid()}.c", f"{template}-{os.getpid()}"
        with open(source, "w", encoding="utf-8") as file:
            file.write(_SOURCE + _MAIN * (kind == "program"))
        options = {"object": ["-c"], "library": ["-shared", "-fPIC"]}.get(kind, [])
        for compiler in ("cc", "gcc", "clang"):
            words = [compiler, "-x", "c", *options, source, "-o", own]
            try:
                if run(words, **{INSIDE: "1"}) == 0:
                    break
            except FileNotFoundError:
                continue
        else:
            sys.exit(f"no C compiler makes a stand-in of a {kind}")
        os.rename(own, template)
    with open(template, "rb") as file:
        content = file.read()
    if os.path.lexists(target):
        os.unlink(target)
    with open(target, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), stat.S_IMODE(os.stat(template).st_mode))


def run(words: list[str], **variables: str) -> int:
    """Run a program with more variables, and return its exit status."""
    process = os.posix_spawnp(words[0], words, {**os.environ, **variables})
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main(settings_file: str, program: str, *arguments: str) -> int:
    """Run a program, or make what other shards make; return the exit status."""
    os.environ.pop(SHARD, None)
    words = [program, *arguments]
    call = Call([*arguments])
    folder = os.path.dirname(settings_file)
    target, source = call.object_file, ""
    if target and not is_below_cache(os.getppid()):
        with open(settings_file, encoding="utf-8") as file:
            settings = json.load(file)
        source = find_source(call, settings["source"], settings["build"])
    if source:
        shard = choose_shard(source, settings["sources"], settings["count"])
        is_own = shard == settings["number"] - 1
        status = 0
        if is_own:
            status = run(words)
        else:
            make_stand_in("object", folder, target)
            if dependencies := call.value(_DEPENDENCIES):
                with open(dependencies, "w", encoding="utf-8") as file:
                    file.write(f"{target}:\n")
        what = ("failed" if status else "compiled") if is_own else "other"
        with open(settings["notes"], "a", encoding="utf-8") as file:
            file.write(f"{what}\t{source}\n")
        if status < 0:
            os.kill(os.getpid(), -status)
        return status
    if call.links_stand_in():
        make_stand_in(call.kind, folder, call.value(_OUTPUT) or "a.out")
        return 0
    os.execvp(program, words)  # noqa: S606 - no shell is wanted
    return 0


def find_source(call: Call, source: str, build: str) -> str:
    """Return the source of a call, below its folder; empty if it isn't divided."""
    path = os.path.realpath(call.sources[0])
    target = os.path.realpath(call.object_file)
    if _CHECKS.search(path) or _CHECKS.search(target):
        return ""
    for top in (source, build):
        if path.startswith(f"{os.path.realpath(top)}/"):
            return os.path.relpath(path, os.path.realpath(top))
    return ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
