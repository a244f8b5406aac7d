"""Checks everything that the service needs, without changes, and reports problems and their fixes.

Belongs here: checks and their findings. Not here: repairs, and checks that the running service makes."""

from __future__ import annotations

from collections.abc import Iterator

from imagegen.doctor import configuration, machine, running, state
from imagegen.doctor import model as drawing
from imagegen.doctor.finding import Finding, Level
from imagegen.engine_build.cards import find_cards
from imagegen.hardware import gpu
from imagegen.settings import Settings

__all__ = ["Finding", "Level", "examine"]


def examine(deep: bool = False) -> Iterator[Finding]:
    """Yield every finding, in the order of the checks. A later check skips what an earlier one found broken.

    Queries a running service first and checks it with its own settings. deep: also hash the model's large files.
    Reads the environment, and removes invalid variables from it.
    """
    settings, found = configuration.settings()
    yield from found
    service = running.find(settings)
    with running.adopted(service.environment if service else None):
        yield from _examine(service.settings if service else settings, service, deep)


def _examine(settings: Settings, service: running.Running | None, deep: bool) -> Iterator[Finding]:
    pids = service.pids if service else set()
    held = state.is_held(settings)
    if service is not None:
        yield from running.answer(service)
    yield from state.folder(settings, pids)
    yield from state.privacy(settings)
    connection, found = state.database(settings, held)
    yield from found
    try:
        yield from state.clock(connection)
        yield from state.leftovers(settings, connection, held)
    finally:
        if connection is not None:
            connection.close()
    yield from state.engines(settings, pids)
    yield from machine.port(settings, pids)
    yield from configuration.door(settings)
    yield from configuration.certificate(settings)
    yield from configuration.policy(settings)
    yield from configuration.prompt_templates(settings)
    card = gpu.read(settings)
    entry, catalog_found = configuration.catalog(settings, has_gpu=gpu.is_card(card))
    binary, flags, found = drawing.find_engine(settings, entry)
    yield from found
    yield from machine.gpus(find_cards(), card, gpu.problem(settings), machine.is_cuda13(binary))
    yield from catalog_found
    if entry is not None:
        yield from drawing.limits(entry)
        yield from drawing.engine_flags(entry, binary, flags)
        yield from drawing.engine_channel(entry, binary, flags)
        yield from drawing.packages(entry)
        yield from drawing.torch(entry, settings, card)
        yield from drawing.model_files(entry, settings, deep, has_gpu=gpu.is_card(card))
        yield from machine.memory(entry, settings, flags, card, binary)
    yield from machine.disk(settings, entry)
