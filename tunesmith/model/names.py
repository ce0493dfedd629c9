"""Names of directories that commands without models need too; importing them loads nothing."""

EXPORT = "export"
"""The model directory in the directory of a run."""
