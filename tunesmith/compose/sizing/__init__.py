"""`tunesmith plan`: what a recipe needs in memory, disk and time, computed before anything is loaded."""
