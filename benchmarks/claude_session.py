"""A session of the real Claude Code with the MCP front: draw, choose, edit with a mask, enlarge, keep.

    python benchmarks/claude_session.py [--front FOLDER] [--tokenizer FOLDER] [--transcript FILE]

A stand-in on loopback takes the language model's place: its calls are fixed, all else is real (Claude Code of
tests/mcp/node, the front over stdio, the service, the engine with the model `tiny`). Prints what each call gave the
model, and what the tools cost in each conversation.

--front: no session; prints what the tools of the front in another copy of the repository cost.
--tokenizer: a folder with npm's @anthropic-ai/tokenizer (`npm install --prefix FOLDER @anthropic-ai/tokenizer`), which
counts tokens beside characters. It is the one of Claude 2; no later one is published.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT)]

from messages_endpoint import Session, Step, listening  # noqa: E402
from served import Service  # noqa: E402

from imagegen import engine_build  # noqa: E402
from imagegen.models.synthetic import make as synthetic  # noqa: E402
from imagegen.settings import Settings  # noqa: E402

NODE = ROOT / "tests/mcp/node"
PREFIX = "mcp__imagegen__"
QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1", "ENABLE_TOOL_SEARCH": "false"}
SMALL = {"width": 128, "height": 128, "steps": 2, "seed": 7}
IMAGE_ID = re.compile(r"Image id: (\w{32})")


def image(texts: list[str], number: int = 1) -> str:
    """The id of a picture of the newest result, as the model reads it."""
    return IMAGE_ID.findall(texts[-1])[number - 1]


@dataclass(frozen=True)
class Turn:
    """What the user says, and the steps of the model: calls, and the text that ends the turn."""

    user: str
    steps: Sequence[Step | str]


def turns(mask: Path) -> list[Turn]:
    """The session. `mask`: a file of the user."""

    def step(tool: str, arguments: Callable[[list[str]], dict[str, Any]]) -> Step:
        return Step(tool, arguments)

    drawing = {"prompt": "a red kite, flat illustration", "n": 3, **SMALL}
    changed = {"prompt": "make the upper half a green sky", "mask": str(mask), **SMALL}
    return [
        Turn("Draw three red kites.", [step("generate_image", lambda _: drawing), "Which of the three do you want?"]),
        Turn(
            f"The second one. Make the upper half a green sky; {mask.name} is the mask.",
            [step("edit_image", lambda texts: {**changed, "images": [image(texts, 2)]}), "The sky is green now."],
        ),
        Turn(
            "Make it twice as large, and keep it on the board Kites.",
            [
                step("upscale_image", lambda texts: {"image": image(texts)}),
                step("keep_image", lambda texts: {"image_id": image(texts), "board": "Kites"}),
                "It is 256 x 256 now, and it does not expire.",
            ],
        ),
    ]


def run(url: str, folder: Path) -> tuple[Session, list[Turn]]:
    """Have the session with a service at `url`; all files are in `folder`. Raises CalledProcessError."""
    home, work = folder / "home", folder / "work"
    for each in (home, work):
        each.mkdir(parents=True)
    half = Image.new("L", (128, 128), 0)
    half.paste(255, (0, 0, 128, 64))
    half.save(work / "sky.png")
    said = turns(work / "sky.png")
    own = {"IMAGEGEN_URL": url, "IMAGEGEN_OUTPUT_DIR": str(folder / "pictures"), "PYTHONPATH": str(ROOT)}
    server = {"type": "stdio", "command": sys.executable, "args": ["-m", "mcp_front"], "env": own}
    config = folder / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"imagegen": server}}))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEGEN_")}
    model = Session([step for turn in said for step in turn.steps], PREFIX)
    with listening(model):
        more = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "none", "HOME": str(home)} | QUIET
        env = kept | more | {"PATH": f"{NODE / 'node_modules/.bin'}{os.pathsep}{os.environ['PATH']}"}
        for number, turn in enumerate(said):
            goes_on = ["--continue"] if number else []
            options = ["--mcp-config", str(config), "--strict-mcp-config", "--allowedTools", "mcp__imagegen"]
            command = [str(NODE / "node_modules/.bin/claude"), "-p", turn.user, *goes_on, *options]
            subprocess.run(command, cwd=work, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return model, said


def transcript(model: Session, said: Sequence[Turn]) -> str:
    """The session as text: the user, each call with its result, the model's words."""
    lines, results = [], iter(model.texts)
    for turn in said:
        lines.append(f"> {turn.user}\n")
        for step in turn.steps:
            if isinstance(step, str):
                lines.append(f"{step}\n")
            elif (text := next(results, None)) is not None:
                lines.append(f"{step.tool}:\n\n" + "\n".join(f"    {line}" for line in text.splitlines()) + "\n")
    return re.sub(r"\[Image: source: [^\]]*\]", "[Image]", "\n".join(lines))


async def tools_of(front: Path) -> list[dict[str, Any]]:
    """The tools of another front that a model sees."""
    env = {**os.environ, "PYTHONPATH": str(front), "IMAGEGEN_URL": "http://127.0.0.1:9"}
    transport = StdioTransport(sys.executable, ["-m", "mcp_front"], env=env, cwd=str(front), log_file=Path(os.devnull))
    async with Client(transport) as client:
        tools = [tool.model_dump() for tool in await client.list_tools()]
    shown = [tool for tool in tools if ((tool["meta"] or {}).get("ui") or {}).get("visibility") != ["app"]]
    return [tool | {"name": PREFIX + tool["name"]} for tool in shown]


def cost(tools: Sequence[dict[str, Any]], tokenizer: Path | None) -> str:
    """What the tools cost in each conversation: the names, descriptions and schemas that Claude Code sends."""
    text = "\n".join(
        f"{tool['name']}\n{tool.get('description', '')}\n{json.dumps(tool['input_schema'])}" for tool in tools
    )
    return f"{len(tools)} tools, {len(text)} characters{_tokens(text, tokenizer)}"


def _tokens(text: str, tokenizer: Path | None) -> str:
    if tokenizer is None:
        return ""
    code = (
        "const { countTokens } = require('@anthropic-ai/tokenizer');"
        "console.log(countTokens(require('fs').readFileSync(0, 'utf8')))"
    )
    node = str(NODE / "node_modules/.bin/node")
    counted = subprocess.run([node, "-e", code], cwd=tokenizer, input=text, capture_output=True, text=True, check=True)
    return f", {counted.stdout.strip()} tokens"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--front", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--transcript", type=Path)
    given = parser.parse_args()
    if given.front:
        print(f"all tools: {cost(asyncio.run(tools_of(given.front.absolute())), given.tokenizer)}")
        return
    with tempfile.TemporaryDirectory(prefix="imagegen-session-") as scratch:
        folder = Path(scratch)
        synthetic.make("tiny", Settings(home=folder / "service"))
        service = Service(folder / "service", engine_build.resolve(Settings()), {"model": "tiny"})
        service.start()
        try:
            model, said = run(service.url, folder / "session")
        finally:
            service.end()
        text = transcript(model, said).replace(scratch, "~").replace(service.url, "http://127.0.0.1:8765")
    print(text)
    print(f"all tools: {cost(model.tools, given.tokenizer)}")
    print(
        f"all results: {sum(map(len, model.texts))} characters{_tokens(''.join(model.texts), given.tokenizer)}, ",
        end="",
    )
    print(f"{model.pictures} previews")
    if given.transcript:
        given.transcript.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
