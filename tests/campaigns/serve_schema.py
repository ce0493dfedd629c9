"""schemathesis against a running server: our own OpenAPI schema, and OpenAI's cut to the operations that are served.

    python -m tests.campaigns.serve_schema [--examples 2000] [--seed 1] [--only own|official]

Positive, negative, coverage and stateful tests with all checks and no operation left out, but one check: a request that
a schema allows may still be refused, because the model has no place for it (a context that is too short, an order of
roles) or because OpenAI's schema has tools, images and audio. Any 5xx, undocumented status or body is a failure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from tests.apps.sampled_models import write_causal
from tests.serve.served import LOG, end_models, new_models, new_parts, running_server
from tests.serve.specifications import official_schema
from tunesmith.serve.app.settings import ServerSettings

CONTEXT = 64  # replies fill it, so most of them are short
LEFT_OUT = "positive_data_acceptance"


def run_schemathesis(
    schema: Path, address: str, examples: int, seed: int, *words: str
) -> subprocess.CompletedProcess[str]:
    """Run all tests of a schema; the exit status is not 0 if one failed."""
    program = Path(sys.executable).with_name("st")
    options = ["--checks", "all", "--exclude-checks", LEFT_OUT, "--continue-on-failure"]
    options += ["--warnings", "off", "--no-color", "--request-timeout", "60"]
    command = [str(program), "run", str(schema), "--url", address, "-n", str(examples), "--seed", str(seed)]
    return subprocess.run([*command, *options, *words], cwd=schema.parent, capture_output=True, text=True, check=False)


def campaign(root: Path, examples: int, seed: int, only: str | None, phases: str) -> None:
    """Raises SystemExit if a test failed or the server logged an error."""
    write_causal(root / "chatml", "chatml", context=CONTEXT)
    models = new_models(root, names=["chatml"])
    parts = new_parts(models, ServerSettings(port=0, docs=True))
    failed = False
    with running_server(parts) as address:
        with urllib.request.urlopen(f"{address}/openapi.json") as answer:
            schemas = {"own": answer.read(), "official": json.dumps(official_schema("chatml")).encode()}
        for name, content in schemas.items():
            if only in (None, name):
                path = root / f"{name}.json"
                path.write_bytes(content)
                done = run_schemathesis(path, address, examples, seed, "--phases", phases)
                print(f"{name}:\n{done.stdout}", flush=True)
                failed = failed or done.returncode != 0
    end_models(models)
    answered = sorted(parts.counters.answered.items())
    print("\n".join(f"{number:8,d}  {status} {route}" for (route, status), number in answered))
    if failed or LOG:
        raise SystemExit("\n".join(["a test failed, or the server logged an error", *LOG]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("own", "official"))
    parser.add_argument("--phases", default="examples,coverage,fuzzing,stateful")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        campaign(Path(directory), options.examples, options.seed, options.only, options.phases)


if __name__ == "__main__":
    main()
