"""What CycloneDX says of an SBOM."""

from __future__ import annotations

from cyclonedx.schema import SchemaVersion


def sbom_error(text: str) -> object:
    """Return why a text is no strictly valid SBOM; None if it is one."""
    # The import makes the grammars of RFC 3987, for seconds: here, for who asks.
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
