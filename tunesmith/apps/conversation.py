"""One conversation with a model: what was said, how replies are drawn, and the next reply."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.apps.terminal import Terminal
from tunesmith.errors import StorageError
from tunesmith.files import write_file
from tunesmith.generate.engine import Engine
from tunesmith.generate.sampling import Sampling
from tunesmith.text.tree import Message
