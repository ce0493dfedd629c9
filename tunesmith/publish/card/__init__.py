"""The model card: README.md of an export, written from the files of its run."""
