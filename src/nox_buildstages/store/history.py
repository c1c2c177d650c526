"""Earlier builds, from the records in the store."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from nox_buildstages.store.key import stage_wheel_changes
from nox_buildstages.store.listing import list_wheels
from nox_buildstages.store.store import RECORD
from nox_buildstages.value import Value, field

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from nox_buildstages.store.key import Recipe
    from nox_buildstages.store.listing import Listing
    from nox_buildstages.store.memory import BuildMemory
    from nox_buildstages.store.store import Store, StoredWheel


class Cause(Value):
    """The root of a change."""

    output: str  # the first output that changes
    text: str  # the change

    def explain(self, output: str) -> str:
        """Return the cause in words, for an output."""
        if output == self.output:
            return f"because {self.text}"
        return f"because of {self.output}: {self.text}"


class History(Value):
    """The records of earlier builds."""

    store: Store
    keys: Mapping[str, str] = field(default_factory=dict)
    """The keys of the wheels in this project's wheelhouse, by project."""
    _listed: Listing = field(default_factory=dict)
    _wheels: dict[str, list[StoredWheel]] = field(default_factory=dict)  # by project

    def previous(
        self, recipe: Recipe, *, unknown: Collection[str] = ()
    ) -> StoredWheel | None:
        """Return the wheel to compare with the wheel of a recipe.

        In this order: the wheel with the recipe's own key; the wheel in this project's
        wheelhouse; the wheel in the store that differs least, and of several the
        newest. The recipe lacks the wheels of projects in ``unknown``.
        """
        own = (it.key for it in recipe.all_alternatives)
        for key in (*own, self.keys.get(recipe.name, "")):
            wheel = self.store.peek(key)
            if wheel is not None:
                return wheel

        def distance(wheel: StoredWheel) -> int:
            return len(recipe.compare(wheel.recipe.without(unknown)))

        return min(self._wheels_of(recipe.name), key=distance, default=None)

    def memory_of(
        self, recipe: Recipe, *, unknown: Collection[str] = ()
    ) -> list[BuildMemory]:
        """Return the memory of builds of a recipe's output.

        The builds that differ least come first, and of several the newest. The recipe
        lacks the wheels of projects in ``unknown``.
        """
        found = [*self.store.failures(recipe.name)]
        for time, wheel in self.builds_of(recipe.name):
            if wheel.memory is not None:
                found.append((time, wheel.recipe, wheel.memory))

        def order(build: tuple[float, Recipe, BuildMemory]) -> tuple[int, float]:
            changes = recipe.compare(build[1].without(unknown))
            return len(changes), -build[0]

        return [memory for *_, memory in sorted(found, key=order)]

    def explain(
        self,
        recipe: Recipe,
        last: StoredWheel | None,
        *,
        unknown: Collection[str] = (),
    ) -> Iterator[tuple[str, Cause | None]]:
        """Yield how a build differs from the last one, with causes in other outputs.

        Changes of other outputs come last. The recipe lacks the wheels of projects in
        ``unknown``.
        """
        if last is None:
            yield "not built yet", None
            return
        if not unknown and recipe.accepts(last.recipe):
            yield "its wheel in the store is damaged", None
            return
        old = last.recipe.without(unknown)
        wheels = stage_wheel_changes(old, recipe)
        for text in recipe.without(wheels).compare(old.without(wheels)):
            yield text, None
        for name in wheels:
            stage = recipe.environment[name].stage
            cause = self._find_cause(name, old, recipe)
            because = f" {cause.explain(name)}" if cause else ""
            yield f"the wheel {name} of stage {stage} changed{because}", cause

    def _find_cause(self, name: str, old: Recipe, new: Recipe) -> Cause | None:
        """Return the cause of a changed wheel in an environment; None if unknown."""
        before, after = (
            self.recipe_of(name, recipe.environment[name].sha256)
            for recipe in (old, new)
        )
        if before is None or after is None:
            return None
        wheels = stage_wheel_changes(before, after)
        own = after.without(wheels).compare(before.without(wheels))
        if own:
            return Cause(output=name, text=own[0])
        deeper = (self._find_cause(wheel, before, after) for wheel in wheels)
        return next((cause for cause in deeper if cause), None)

    def recipe_of(self, name: str, sha256: str) -> Recipe | None:
        """Return the recipe of a wheel file; None without a record."""
        wheels = self._wheels_of(name)
        return next((it.recipe for it in wheels if it.sha256 == sha256), None)

    def builds_of(self, name: str) -> Iterator[tuple[float, StoredWheel]]:
        """Yield the builds of an output, each with its time, the newest first."""
        for wheel in self._wheels_of(name):
            with suppress(OSError):  # removed by another process
                yield wheel.path.with_name(RECORD).stat().st_mtime, wheel

    def _wheels_of(self, name: str) -> list[StoredWheel]:
        if not self._listed:
            self._listed.update(list_wheels(self.store))
        if name not in self._wheels:
            found = self.store.wheels(self._listed.get(name, ()))
            self._wheels[name] = [it for it in found if it.name == name]
        return self._wheels[name]
