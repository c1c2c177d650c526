"""The trial: compile and link three lines as a build would do it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from typing import TYPE_CHECKING

from nox_buildstages.preflight.facts import TrialResult
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from nox_buildstages.preflight.facts import Language
    from nox_buildstages.system.process import Completed

_CAUSE = re.compile(
    r"error:|cannot find|unable to find|No such file|nvcc fatal|not found"
)
_ARCHITECTURE = re.compile(r"(\d+)\.(\d+[af]?)(\+PTX)?")
_SOURCES: dict[Language, tuple[str, str]] = {
    "C": ("trial.c", "int trial(void) { return 0; }"),
    "C++": ("trial.cpp", "#include <vector>\nint trial() { return 0; }"),
    "CUDA": ("trial.cu", "__global__ void kernel() {}\nint trial() { return 0; }"),
}
_COMPILERS: dict[Language, tuple[str, str, str]] = {
    "C": ("CC", "cc", "CFLAGS"),
    "C++": ("CXX", "c++", "CXXFLAGS"),
}


class Trial(Value):
    """Three lines to compile and link."""

    language: Language
    variables: Mapping[str, str]  # of the build
    nvcc: Path | None = None
    python_headers: Path | None = None  # the folder; None if they are missing
    torch: Path | None = None  # the folder of a torch with CUDA
    headers: tuple[str, ...] = ()  # of CUDA

    @property
    def source(self) -> tuple[str, str]:
        """The name of the file, and its lines."""
        name, text = _SOURCES[self.language]
        own = ("Python.h",) if self.python_headers else ()
        included = (f"#include <{it}>\n" for it in (*own, *self.headers))
        return name, f"{''.join(included)}{text}\n"

    @property
    def compiler(self) -> str:
        """The name of the compiler."""
        if self.language == "CUDA":
            return str(self.nvcc)
        variable, default, _ = _COMPILERS[self.language]
        return self.variables.get(variable) or default

    def commands(self) -> dict[str, list[str]]:
        """Return the command lines by step; the programs are names or paths."""
        name, _ = self.source
        if self.language != "CUDA":
            variable, default, flags = _COMPILERS[self.language]
            compiler = self._split(variable) or [default]
            options = [*self._split("CPPFLAGS"), *self._split(flags), "-fPIC"]
            compile_ = [*compiler, *options, *self._includes, "-c", name]
            link = [*compiler, "-shared", "trial.o", *self._split("LDFLAGS")]
            return {
                "compile": [*compile_, "-o", "trial.o"],
                "link": [*link, "-o", "trial.so"],
            }
        nvcc = self._split("PYTORCH_NVCC") or [str(self.nvcc)]
        host = ["-ccbin", *self._split("CC" if self.torch else "CUDAHOSTCXX")[:1]]
        listed = re.split("[; ]+", self.variables.get("TORCH_CUDA_ARCH_LIST", ""))
        found = filter(None, map(_ARCHITECTURE.fullmatch, listed))
        numbers = dict.fromkeys(it[1] + it[2] for it in found)
        code = [f"-gencode=arch=compute_{it},code=sm_{it}" for it in numbers]
        compile_ = [*nvcc, *self._includes, *code, "-Xcompiler", "-fPIC"]
        compile_ += [*(host if len(host) > 1 else ()), "-c", name, "-o", "trial.o"]
        if self.torch is None:
            return {
                "compile": compile_,
                "link": [str(self.nvcc), "-shared", "trial.o", "-o", "trial.so"],
            }
        # As torch's cpp_extension does it.
        link = [*(self._split("CXX") or ["c++"]), "-shared", "trial.o"]
        link += [f"-L{self.torch / 'lib'}", f"-L{self._cuda_home / 'lib64'}"]
        link += [*self._split("LDFLAGS"), "-lcudart", "-lc10", "-o", "trial.so"]
        return {"compile": compile_, "link": link}

    @property
    def _cuda_home(self) -> Path:
        assert self.nvcc is not None  # noqa: S101 - only for CUDA
        return self.nvcc.parents[1]

    @property
    def _includes(self) -> list[str]:
        folders = [self._cuda_home / "include"] if self.torch and self.nvcc else []
        if self.python_headers:
            folders.append(self.python_headers)
        return [f"-I{it}" for it in folders]

    def _split(self, variable: str) -> list[str]:
        return shlex.split(self.variables.get(variable, ""))


def run_trial(
    trial: Trial, folder: Path, run: Callable[[Sequence[str], Path], Completed]
) -> tuple[TrialResult, str]:
    """Compile and link in a folder; return the result, and the output as a log.

    ``run`` runs a command line in a folder as the build would.
    """
    started = time.monotonic()
    name, text = trial.source
    folder.mkdir()
    (folder / name).write_text(text, encoding="utf-8")
    log = [f"trial of {trial.language}:", text]
    error, failed = "", ""
    for step, argv in trial.commands().items():
        path = shutil.which(argv[0], path=trial.variables.get("PATH", os.defpath))
        log.append(shlex.join(argv))
        if path is None:
            error, failed = f"{argv[0]} isn't on PATH", step
            break
        completed = run((path, *argv[1:]), folder)
        output = completed.stderr + completed.stdout
        log.append(output)
        if completed.returncode:
            lines = [it.strip() for it in output.splitlines() if it.strip()]
            cause = next(filter(_CAUSE.search, lines), None)
            status = f"exit status {completed.returncode}"
            error, failed = cause or next(iter(lines), status), step
            break
    result = TrialResult(
        language=trial.language,
        compiler=trial.compiler,
        seconds=time.monotonic() - started,
        error=error,
        step=failed or "compile",
        headers=trial.headers,
    )
    return result, "\n".join(filter(None, log))
