"""What was built before, as far as the store still knows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nox_buildstages.store.key import difference

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from nox_buildstages.store.key import Recipe
    from nox_buildstages.store.store import Store, StoredWheel


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The records of earlier builds.

    Attributes:
        store: That has them.
        keys: Under which it has what was last built of each output here.
    """

    store: Store
    keys: Mapping[str, str] = field(default_factory=dict)
    _records: dict[str, list[StoredWheel]] = field(default_factory=dict)

    def before(
        self, recipe: Recipe, *, unknown: Collection[str] = ()
    ) -> StoredWheel | None:
        """Return the build that one of a recipe follows.

        That is the very same one where there is a record of it, else the last one here.
        Where the store has that no longer, or none is known, it is the one in the store
        that differs least; of several the newest.

        Args:
            recipe: Of the build to come, its environment as far as it is known.
            unknown: What the environment will hold beside that.
        """
        for key in (recipe.key, self.keys.get(recipe.name, "")):
            entry = self.store.peek(key)
            if entry is not None:
                return entry
        return min(
            self._of(recipe.name),
            key=lambda entry: len(difference(entry.recipe.without(unknown), recipe)),
            default=None,
        )

    def made(self, name: str, sha256: str) -> Recipe | None:
        """Return what a wheel was made of; None where that isn't known any more."""
        found = (it.recipe for it in self._of(name) if it.sha256 == sha256)
        return next(found, None)

    def _of(self, name: str) -> list[StoredWheel]:
        if not self._records:
            for entry in self.store.wheels():
                self._records.setdefault(entry.recipe.name, []).append(entry)
        return self._records.get(name, [])
