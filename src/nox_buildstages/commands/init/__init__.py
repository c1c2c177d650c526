"""`build-stages-init`: proposes the stages that a project lacks."""
