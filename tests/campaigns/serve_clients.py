"""Clients that are not part of the development install, unmodified, against a running server.

    python -m tests.campaigns.serve_clients --python VENV/bin/python --node DIRECTORY

``make clients`` installs both and gives them.

python: an interpreter with ``pip install langchain-openai litellm``.
node: a directory with ``npm install openai ai @ai-sdk/openai-compatible``.
A client that is not given is left out, and that is printed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.serve.served import LOG, end_models, new_models, new_parts, running_server
from tunesmith.serve.app.settings import ServerSettings

CLIENTS = Path(__file__).with_name("clients")


def run_client(script: Path, command: list[str], directory: Path, address: str) -> bool:
    """Run a client and print what it did; whether it ended well."""
    local = directory / script.name  # node looks for packages next to the script
    shutil.copyfile(script, local)
    try:
        done = subprocess.run(
            [*command, str(local), address], capture_output=True, text=True, check=False, timeout=300, cwd=directory
        )
    finally:
        local.unlink()
    print(f"{script.name}:\n" + "".join(f"  {line}\n" for line in done.stdout.splitlines()), end="")
    if done.returncode:
        print(done.stderr[-3000:])
    return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=os.path.abspath)  # the working directory of a client is another one
    parser.add_argument("--node", type=lambda given: Path(given).absolute())
    options = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        models = new_models(root / "models", names=["chatml"])
        with running_server(new_parts(models, ServerSettings(port=0))) as address:
            for script in sorted(CLIENTS.iterdir()):
                is_node = script.suffix == ".mjs"
                command = ["node"] if is_node else [options.python]
                place = options.node if is_node else root
                if place is None or command[0] is None:
                    print(f"{script.name}: left out")
                elif script.suffix in (".py", ".mjs") and not run_client(script, command, place, f"{address}/v1"):
                    failed.append(script.name)
        end_models(models)
    if failed or LOG:
        raise SystemExit("\n".join(["failed:", *failed, *LOG]))


if __name__ == "__main__":
    main()
