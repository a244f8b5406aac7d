"""How well agents can work with the MCP front: forty requests of users, replayed, or given to a language model.

    python benchmarks/agents.py [--only WORDS] [--json FILE]

Starts a service of its own with the models `tiny` and `sketch`, and the front in this process. For each request it
makes the recorded calls of agent_cases.py and checks that the tools' schemas allow them, that they do what they say,
and that each answer leads to the next call or says what to tell the user. Exit code 1 if one does not.

With IMAGEGEN_EVAL_URL=http://127.0.0.1:8000/v1 (an OpenAI-compatible address; IMAGEGEN_EVAL_MODEL, IMAGEGEN_EVAL_KEY) a
language model answers the requests, and its calls are compared with the recorded ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT)]

from agent_cases import CASES, Case  # noqa: E402
from agent_model import Attempt, Model, attempt  # noqa: E402
from agent_replay import Outcome, files, replay, report, tokens  # noqa: E402
from fastmcp import Client  # noqa: E402
from served import Service  # noqa: E402

from imagegen import engine_build  # noqa: E402
from imagegen.models.synthetic import make as synthetic  # noqa: E402
from imagegen.settings import Settings  # noqa: E402
from mcp_front import settings as front_settings  # noqa: E402
from mcp_front.app import build  # noqa: E402


async def measure(url: str, folder: Path, cases: Sequence[Case], model: Model | None) -> list[Outcome] | list[Attempt]:
    """Replay the cases on the service at `url`, or let `model` work on them. Files go to `folder`."""
    names = files(folder)
    settings = {"URL": url, "OUTPUT_DIR": str(folder / "saved"), "MCP_ROOTS": str(folder / "open"), "MCP_WAIT_S": "120"}
    front = build(front_settings.load({f"IMAGEGEN_{name}": value for name, value in settings.items()}), local=True)
    async with Client(front) as client:
        tools = {tool.name: tool for tool in await client.list_tools() if not _for_view(tool)}
        print(tokens(tools), flush=True)
        if model is None:
            return [await replay(client, tools, case, names) for case in cases]
        return [await attempt(model, client, tools, case, names) for case in cases]


def _for_view(tool: Any) -> bool:
    return ((tool.meta or {}).get("ui") or {}).get("visibility") == ["app"]


def attempts_report(attempts: Sequence[Attempt]) -> str:
    """A line for each request, and the share that was met."""
    lines = []
    for number, one in enumerate(attempts, start=1):
        called = ", ".join(one.called) or "no call"
        lines.append(f"{number:2} {'met    ' if not one.wrong else 'NOT MET'} {one.case.request[:60]}: {called}")
        lines += [f"         {reason}" for reason in one.wrong]
    met = sum(not one.wrong for one in attempts)
    lines.append(f"{met} of {len(attempts)} requests met, {sum(one.tokens for one in attempts)} tokens of prompts")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="requests that have these words")
    parser.add_argument("--json", type=Path, help="a file for the calls and what was wrong with them")
    given = parser.parse_args()
    cases, model = [case for case in CASES if given.only.lower() in case.request.lower()], Model.of_environment()
    with tempfile.TemporaryDirectory(prefix="imagegen-agents-") as scratch:
        folder = Path(scratch)
        for name in ("tiny", "sketch"):
            synthetic.make(name, Settings(home=folder / "home"))
        service = Service(folder / "home", engine_build.resolve(Settings()), {"model": "tiny"})
        service.start()
        try:
            found = asyncio.run(measure(service.url, folder / "files", cases, model))
        finally:
            service.end()
    words = [one for one in found if isinstance(one, Attempt)]
    print(attempts_report(words) if model else report([one for one in found if isinstance(one, Outcome)]))
    if given.json:
        rows = [{"request": one.case.request, "wrong": one.wrong} for one in found]
        given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return int(any(one.wrong for one in found))


if __name__ == "__main__":
    sys.exit(main())
