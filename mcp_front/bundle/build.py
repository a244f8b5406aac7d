"""Build the Claude Desktop bundle: `python mcp_front/bundle/build.py [imagegen.mcpb]`.

The bundle contains the modules of the front and of imagegen_client, and a project file. Claude Desktop's uv fetches the
dependencies at the first start. Needs `@anthropic-ai/mcpb`, installed for the tests or fetched by npx.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

BUNDLE = Path(__file__).parent
FRONT = BUNDLE.parent
CLIENT = FRONT.parent / "imagegen_client"
INSTALLED = FRONT.parent / "tests" / "mcp" / "node" / "node_modules" / ".bin" / "mcpb"
MCPB = "@anthropic-ai/mcpb@2.1.2"

MAIN = '''"""Where Claude Desktop starts the front."""

from mcp_front.cli import main

main()
'''


def main() -> None:
    """Assemble, validate and pack. Exit code 1 with a message if the packing tool is missing or fails."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "imagegen.mcpb").absolute()
    with tempfile.TemporaryDirectory(prefix="imagegen-mcpb-") as scratch:
        stage = Path(scratch) / "imagegen"
        assemble(stage)
        mcpb = packing_tool()
        for step in (["validate", str(stage / "manifest.json")], ["pack", str(stage), str(target)]):
            if subprocess.run([*mcpb, *step], cwd=scratch, stdin=subprocess.DEVNULL).returncode:
                sys.exit(f"mcpb {step[0]} refused the bundle; its words above say why.")
    print(f"{target}: {target.stat().st_size} bytes. Open it with Claude Desktop (Settings, Extensions).")


def assemble(stage: Path) -> None:
    """Copy the bundle's files into a new folder."""
    project = project_of(FRONT)
    for folder, extra in ((FRONT, "icon.svg"), (CLIENT, "py.typed")):
        package = stage / "src" / folder.name
        package.mkdir(parents=True)
        for module in [*folder.glob("*.py"), folder / extra]:
            shutil.copy(module, package)
    shutil.copytree(FRONT / "view", stage / "src" / FRONT.name / "view")
    (stage / "src" / "main.py").write_text(MAIN, encoding="utf-8")
    (stage / "pyproject.toml").write_text(project_file(project["version"]), encoding="utf-8")
    (stage / ".python-version").write_text("3.12\n", encoding="utf-8")
    shutil.copy(BUNDLE / "icon.png", stage)
    manifest = json.loads((BUNDLE / "manifest.json").read_text(encoding="utf-8"))
    manifest["version"] = project["version"]
    (stage / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def project_of(folder: Path) -> dict[str, Any]:
    """The table `project` of a package's pyproject.toml."""
    project: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def project_file(version: str) -> str:
    """The bundle's pyproject.toml: the dependencies for uv, and `package = false`, as the code runs from its folder."""
    needed = [*project_of(FRONT)["dependencies"], *project_of(CLIENT)["dependencies"]]
    needed.remove(project_of(CLIENT)["name"])  # its modules are in the bundle
    return (
        f'[project]\nname = "imagegen-mcp-bundle"\nversion = "{version}"\n'
        f'requires-python = ">=3.11,<3.15"\ndependencies = {json.dumps(needed)}\n\n[tool.uv]\npackage = false\n'
    )


def packing_tool() -> list[str]:
    """The command that packs bundles."""
    if INSTALLED.exists():
        # Prefer the Node of the tests' packages: the machine's may be too old.
        os.environ["PATH"] = f"{INSTALLED.parent}{os.pathsep}{os.environ['PATH']}"
        return [str(INSTALLED)]
    npx = shutil.which("npx")
    if npx is None:
        sys.exit("Packing needs npm: install Node.js 22 or newer, then run this again.")
    return [npx, "--yes", MCPB]


if __name__ == "__main__":
    main()
