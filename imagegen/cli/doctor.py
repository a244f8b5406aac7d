"""`imagegen doctor`: what is wrong on this machine, and what to do."""

from __future__ import annotations

import sys
import textwrap
from dataclasses import asdict

import click

from imagegen.cli import documents
from imagegen.cli.documents import Findings
from imagegen.cli.output import json_option, print_json
from imagegen.doctor import Finding, Level, examine

SIGNS = {Level.OK: "ok  ", Level.WARN: "warn", Level.FAIL: "FAIL"}
COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
WIDTH = 110


@click.command()
@json_option
@click.option("--deep", is_flag=True, help="Hash the large files of the model too; takes minutes.")
def doctor(as_json: bool, deep: bool) -> None:
    """Check everything that the service needs, and print each problem with its fix. Changes nothing.

    Exit code 1 if something does not work, else 0.
    """
    findings = []
    for finding in examine(deep):
        findings.append(finding)
        if not as_json:
            _print(finding)
    failed = sum(finding.level is Level.FAIL for finding in findings)
    warned = sum(finding.level is Level.WARN for finding in findings)
    if as_json:
        print_json(Findings(not failed, [documents.Finding(**asdict(finding)) for finding in findings]))
    else:
        click.echo(f"{len(findings)} checks: {failed} failed, {warned} warnings.")
    sys.exit(1 if failed else 0)


def _print(finding: Finding) -> None:
    sign = click.style(SIGNS[finding.level], fg=COLOURS[finding.level])
    lines = textwrap.wrap(finding.what, WIDTH, break_long_words=False, break_on_hyphens=False)
    if finding.do:
        lines += textwrap.wrap(f"→ {finding.do}", WIDTH, break_long_words=False, break_on_hyphens=False)
    click.echo(f"{sign}  {finding.check:<13} {lines[0]}")
    for line in lines[1:]:
        click.echo(f"{'':<20}{line}")
