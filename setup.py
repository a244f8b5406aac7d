"""Bakes the commit into wheels and source archives, as imagegen/commit.txt. All else is in pyproject.toml."""

from pathlib import Path
from runpy import run_path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).parent
BAKED = Path("imagegen", "commit.txt")


def bake(folder: str) -> None:
    """Write the commit of this checkout below `folder`. A source archive has the file already."""
    if not (HERE / BAKED).exists():
        commit = run_path(str(HERE / "imagegen" / "version.py"))["commit_of"](HERE)
        (Path(folder) / BAKED).write_text(commit + "\n", encoding="ascii")


class BuildWithCommit(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # an editable installation asks the checkout itself
            bake(self.build_lib)


class ArchiveWithCommit(sdist):
    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        bake(base_dir)


setup(cmdclass={"build_py": BuildWithCommit, "sdist": ArchiveWithCommit})
