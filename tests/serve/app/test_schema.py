"""The server keeps its own OpenAPI schema, as an independent program reads it. `make serve` runs many more examples."""

from __future__ import annotations

import json
from pathlib import Path

from tests.campaigns.serve_schema import run_schemathesis
from tests.serve.served import run, running_server
from tests.serve.specifications import SERVED
from tunesmith.serve.app.factory import ServerParts


def test_random_requests_get_documented_answers(parts: ServerParts, tmp_path: Path) -> None:
    with running_server(parts) as address:
        schema = json.loads(run(lambda client: client.get("/openapi.json"), parts).content)
        path = tmp_path / "own.json"
        path.write_text(json.dumps(schema))
        done = run_schemathesis(path, address, 8, 3, "--phases", "fuzzing")
        assert done.returncode == 0, done.stdout


def test_the_operations_are_those_of_openai(parts: ServerParts) -> None:
    schema = json.loads(run(lambda client: client.get("/openapi.json"), parts).content)
    own = {path for path in schema["paths"] if path.startswith("/v1")}
    assert own == {f"/v1{path}" for path in SERVED}
