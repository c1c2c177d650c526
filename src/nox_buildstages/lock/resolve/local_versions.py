"""The local versions that outputs get from what their stage's environment holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import Version

from nox_buildstages.config.getters import did_you_mean
from nox_buildstages.config.local_version import filled, is_local
from nox_buildstages.errors import LocalVersionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.utils import NormalizedName

    from nox_buildstages.lock.files.lockfile import Pin
    from nox_buildstages.model import LocalVersion


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelling:
    """An output that is to have a local version of ours.

    Attributes:
        output: The output.
        stage: That builds it.
        wanted: As declared.
    """

    output: NormalizedName
    stage: str
    wanted: LocalVersion

    def label(self, pins: Iterable[Pin]) -> str:
        """Return the local version, normalized.

        Args:
            pins: What the stage's environment holds.

        Raises:
            LocalVersionError: Something that it names isn't there, or has a version
                that no local version may hold.
        """
        held = {pin.name: pin.version.public for pin in pins}

        def version(name: NormalizedName) -> str:
            if name not in held:
                raise self._missing(name, held)
            return held[name]

        found = filled(self.wanted, version)
        if not is_local(found):
            problem = f"{found!r}, which local-version comes to, is no local version"
            hint = f"write {self.wanted.location} without what has such a version"
            raise self._wrong(problem, hint)
        return str(Version(f"0+{found}").local)

    def _missing(
        self, name: NormalizedName, held: Iterable[NormalizedName]
    ) -> LocalVersionError:
        hint = did_you_mean(name, held)
        where = f"in the environment of stage {self.stage}"
        return self._wrong(
            f"local-version names {name}, and no package {name} is {where} and no axis"
            f" has that name{hint}",
            f"correct {self.wanted.location}, or add {name!r} to the dependencies of"
            f" stage {self.stage}",
        )

    def _wrong(self, problem: str, hint: str) -> LocalVersionError:
        return LocalVersionError(
            output=self.output, stage=self.stage, problem=problem, hint=(hint,)
        )


def labelled(version: Version, label: str) -> Version:
    """Return a version with another local part, or with one at all."""
    return Version(f"{version.public}+{label}")
