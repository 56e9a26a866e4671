"""The command `llm`, configured as its documentation says for an OpenAI-compatible endpoint."""

import os
import tempfile
from pathlib import Path

from click.testing import CliRunner
from llm.cli import cli  # type: ignore[import-not-found]

from tests.interop.gateway.programs.serving import Result, serve

ENDPOINT = """\
- model_id: relay
  model_name: sora
  api_base: {base_url}
"""


def chat(base_url: str, prompt: str) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LLM_USER_PATH"] = folder
        (Path(folder) / "extra-openai-models.yaml").write_text(ENDPOINT.format(base_url=base_url))
        done = CliRunner().invoke(cli, ["--model", "relay", "--no-log", prompt], catch_exceptions=True)
    return {"status": done.exit_code, "stdout": done.stdout, "stderr": done.stderr}


if __name__ == "__main__":
    serve(chat=chat)
