"""Variants: what a wheel needs from a machine, in the words of uv's preview."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nox_buildstages.config import getters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nox_buildstages.config.getters import Item
    from nox_buildstages.model import Variant

FEATURES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "nvidia": {
        "cuda_version_lower_bound": (r"[0-9]+(\.[0-9]+)?", "13.0"),
        "cuda_version_upper_bound": (r"[0-9]+(\.[0-9]+)?", "14.0"),
        "sm_arch": (r"[0-9]{2,3}[af]?_(real|virtual)", "90_real"),
    }
}
"""By namespace: each feature, with the pattern of its values and an example."""


def variant(item: Item) -> Variant | None:
    """Read the features that a value of an axis stands for, by namespace."""
    return getters.mapping_of(_features, "tables")(item)


def _features(item: Item) -> Mapping[str, tuple[str, ...]] | None:
    namespace = str(item.steps[-1])
    known = FEATURES.get(namespace)
    if known is None:
        hint = getters.did_you_mean(namespace, FEATURES)
        names = ", ".join(FEATURES)
        item.fault(f"unknown namespace{hint or f'; the known ones are: {names}'}")
        return None
    if item.value == {}:
        item.fault(f"expected a feature: {', '.join(known)}")
    features = {}
    for name, child in (getters.mapping_of(lambda it: it, "lists")(item) or {}).items():
        if name in known:
            values = getters.non_empty(getters.list_of(_value), "value")(child)
            features[name] = tuple(sorted(set(values or ())))
        else:
            hint = getters.did_you_mean(name, known)
            names = ", ".join(known)
            child.fault(f"unknown feature{hint or f'; the known ones are: {names}'}")
    return features


def _value(item: Item) -> str | None:
    namespace, feature, _ = map(str, item.steps[-3:])
    pattern, example = FEATURES[namespace][feature]
    value = getters.string(item)
    if value is not None and not re.fullmatch(pattern, value):
        item.expect(f"a value such as {getters.quote(example)}")
        return None
    return value
