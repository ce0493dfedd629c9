"""Names of directories, files and classes that commands without models need too; importing them loads nothing."""

EXPORT = "export"
"""The model directory in the directory of a run."""
DESCRIPTION = "tunesmith.json"
"""The file of an export that declares its prompt format and its sampling."""
CLASSIFIER = "ForSequenceClassification"
"""Suffix of the class names of reward models in transformers."""
