"""Faults that are planted into the source code of the package, by what they break."""
