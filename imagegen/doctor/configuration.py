"""Checks the operator's configuration: settings, tokens, certificate, policy, templates, catalog."""

from __future__ import annotations

import datetime
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from imagegen import config_file
from imagegen.doctor.finding import BLOCKS_START, Finding, fail, ok, warn
from imagegen.models.aliases import Aliases
from imagegen.models.catalog import Catalog
from imagegen.models.entry import Entry
from imagegen.models.entry_files import CatalogError
from imagegen.prompts import templates
from imagegen.prompts.guardrails import Guardrails, PolicyError
from imagegen.security import tls, tokens
from imagegen.settings import PREFIX, Settings, SettingsError, load


def settings() -> tuple[Settings, Iterable[Finding]]:
    """The usable settings, and a finding for each invalid or unknown variable.

    Removes invalid variables from this process's environment, so that the other checks use the default. They do not use
    a settings file with a wrong setting.
    """
    wrong: dict[str, Finding] = {}  # by their lines
    while True:
        try:
            return load(), list(wrong.values()) or [ok("settings", f"{_set_count()}, and all are known and valid.")]
        except SettingsError as error:
            lines = str(error).splitlines()
        do = "Correct or unset it: the service does not start. The list: docs/settings.md."
        wrong |= {line: fail("settings", f"{line}.", do) for line in lines}
        named = {re.split("[ =:]", line)[0] for line in lines}
        variables = [name for name in os.environ if name.upper() in named]
        for name in variables:
            del os.environ[name]
        if not variables:  # the file's settings are wrong
            if os.environ.get(config_file.VARIABLE) == "":
                raise SettingsError("\n".join(lines))
            os.environ[config_file.VARIABLE] = ""


def _set_count() -> str:
    variables = sum(name.startswith(PREFIX) for name in os.environ)
    file = config_file.read()
    of_file = f" and {len(file.values)} in {file.path}" if file.path else ""
    return f"{variables} settings are set{of_file}"


def door(settings: Settings) -> Iterable[Finding]:
    """Check the tokens: readable by the service only, and present if other machines can reach it."""
    try:
        found = tokens.for_service(settings)
    except SettingsError as wrong:
        yield fail("tokens", str(wrong), BLOCKS_START)
        return
    file = settings.tokens_file
    if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077:
        yield warn("tokens", f"{file} can be read by other users of this machine.", f"chmod 600 {file}")
    elif found is not None:
        yield ok("tokens", f"{len(found.names)} tokens: {', '.join(found.names)}.")
    elif settings.allow_anonymous:
        yield warn(
            "tokens",
            f"The service requires no token and serves every client that reaches {settings.host}:{settings.port} "
            "(IMAGEGEN_ALLOW_ANONYMOUS).",
            "Make a token with `imagegen token new NAME` unless all users of that network may use this GPU.",
        )
    else:
        yield ok("tokens", "The service requires no token and serves only this machine.")


def certificate(settings: Settings) -> Iterable[Finding]:
    """Check the certificate of IMAGEGEN_TLS: it exists, matches its key and does not expire soon. Creates none."""
    if settings.tls == "off":
        yield ok("certificate", "HTTPS is off (IMAGEGEN_TLS).")
        return
    own = settings.tls == "auto"
    files = tls.own_files(settings) if own else tls.Files(*map(Path, settings.tls.split(",")))
    if own and not files.certificate.exists():
        yield ok("certificate", f"The service makes its certificate at the next start, in {files.certificate.parent}.")
        return
    try:
        tls.check(files)
        shown = tls.load_certificate(files)
    except (SettingsError, ValueError, OSError) as wrong:
        yield fail("certificate", str(wrong), "Put both files back from a backup, or name others in IMAGEGEN_TLS.")
        return
    now = datetime.datetime.now(datetime.UTC)
    until, left = shown.not_valid_after_utc, shown.not_valid_after_utc - now
    renewal = (
        "Restart the service: it renews its own certificate at a start, with the same key."
        if own
        else f"Put a new certificate into {files.certificate}, then restart the service."
    )
    if left <= datetime.timedelta(0):
        yield fail("certificate", f"The certificate ended on {until.date()}: no client accepts it.", renewal)
    elif shown.not_valid_before_utc > now:
        begins = shown.not_valid_before_utc.date()
        yield fail("certificate", f"The certificate begins only on {begins}.", "Check this machine's clock.")
    elif left < datetime.timedelta(days=tls.RENEW_DAYS):
        yield warn("certificate", f"The certificate ends in {left.days} days, on {until.date()}.", renewal)
    else:
        yield ok("certificate", f"The certificate holds until {until.date()} (SHA-256 {tls.fingerprint(shown)}).")


def policy(settings: Settings) -> Iterable[Finding]:
    """Check that the active policy can be read."""
    try:
        rules = Guardrails.load(settings.policy_file)
    except PolicyError as wrong:
        yield fail("policy", str(wrong), f"{BLOCKS_START} What a policy is: docs/policy.md.")
    else:
        yield ok("policy", f"The active policy: {rules.source}.")


def prompt_templates(settings: Settings) -> Iterable[Finding]:
    """Check that every template file is valid."""
    found, problems = templates.load(settings)
    for problem in problems:
        yield warn("templates", str(problem), "The template is ignored until this is fixed: docs/templates.md.")
    if not problems:
        yield ok("templates", f"{len(found)} templates.")


def catalog(settings: Settings, has_gpu: bool) -> tuple[Entry | None, Iterable[Finding]]:
    """The default model's entry, None if the catalog is invalid, and the findings."""
    try:
        loaded = Catalog.offered(settings)
        entry = loaded.default(settings, has_gpu=has_gpu)
        Aliases(settings.model_aliases, loaded.names(), entry.name)
    except CatalogError as wrong:
        return None, [fail("catalog", line, BLOCKS_START) for line in _lines(wrong)]
    return entry, [ok("catalog", f"{len(loaded.names())} models; the default is {entry.name}.")]


def _lines(error: Exception) -> list[str]:
    return [f"{line.rstrip('.')}." for line in str(error).splitlines()]
