"""Values of variables that came from outside, which a report leaves out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nox_buildstages.indexes.url_secrets import redact
from nox_buildstages.value import Value, replace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from nox_buildstages.indexes.mask import Mask
    from nox_buildstages.run.events import Event

_VARIABLE = re.compile(r"env ([^\s=]+) (unset → )?")


class Privacy(Value):
    """Which variables are the table's own, and which came from outside."""

    declared: Collection[str]  # names in env of the table, and never in pass-env
    mask: Mask  # of the values of the names in pass-env

    def clean(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yield events without logins in URLs and without values from outside."""
        for event in events:
            facts = {name: self._clean(it) for name, it in event.facts.items()}
            if "reasons" in facts:
                facts["reasons"] = [self.clean_reason(it) for it in facts["reasons"]]
            yield replace(event, facts=facts)

    def clean_reason(self, reason: str) -> str:
        """Return a reason for a build; of a value that may be private, only the name.

        A variable of the table may have come from outside before: its new value is
        shown, and the old one isn't.
        """
        found = _VARIABLE.match(reason)
        if found is None or (found[1] in self.declared and found[2]):
            return reason
        if found[1] in self.declared and not reason.endswith(" → unset"):
            return f"env {found[1]} changed to {reason.rpartition(' → ')[2]}"
        return f"env {found[1]} changed"

    def _clean(self, value: Any) -> Any:  # noqa: ANN401 - any JSON value
        if isinstance(value, str):
            return redact(self.mask.hide(value))
        if isinstance(value, list):
            return [self._clean(it) for it in value]
        if isinstance(value, dict):
            return {name: self._clean(it) for name, it in value.items()}
        return value
