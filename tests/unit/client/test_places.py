"""Folders and file names of Linux, macOS and Windows, decided anywhere."""

from __future__ import annotations

import pytest

from imagegen_client import places

WINDOWS, MACOS, LINUX = "win32", "darwin", "linux"
ANN = {WINDOWS: r"C:\Users\Ann", MACOS: "/Users/ann", LINUX: "/home/ann"}
LOCAL = {"LOCALAPPDATA": r"D:\Local"}


@pytest.mark.parametrize(
    ("system", "environ", "kind", "folder"),
    [
        (LINUX, {}, "config", "/home/ann/.config/imagegen"),
        (LINUX, {}, "data", "/home/ann/.local/share/imagegen"),
        (LINUX, {}, "cache", "/home/ann/.cache/imagegen"),
        (LINUX, {"XDG_CONFIG_HOME": "/etc/ann", "XDG_CACHE_HOME": "/c"}, "config", "/etc/ann/imagegen"),
        (LINUX, {"XDG_DATA_HOME": "relative"}, "data", "/home/ann/.local/share/imagegen"),
        (LINUX, {"XDG_CACHE_HOME": " "}, "cache", "/home/ann/.cache/imagegen"),
        (MACOS, {"XDG_CONFIG_HOME": "/x"}, "config", "/Users/ann/Library/Application Support/imagegen"),
        (MACOS, {}, "data", "/Users/ann/Library/Application Support/imagegen"),
        (MACOS, {}, "cache", "/Users/ann/Library/Caches/imagegen"),
        (WINDOWS, LOCAL, "config", r"D:\Local\imagegen"),
        (WINDOWS, LOCAL, "cache", r"D:\Local\imagegen\Cache"),
        (WINDOWS, {}, "data", r"C:\Users\Ann\AppData\Local\imagegen"),
    ],
)
def test_a_users_folder_is_where_the_system_has_it(system: str, environ: dict, kind: places.Kind, folder: str) -> None:
    assert str(places.user_folder(kind, system, environ, ANN[system])) == folder


@pytest.mark.parametrize(
    ("system", "environ", "folder"),
    [
        (LINUX, {}, "/etc/imagegen"),
        (MACOS, {}, "/Library/Application Support/imagegen"),
        (WINDOWS, {}, r"C:\ProgramData\imagegen"),
        (WINDOWS, {"PROGRAMDATA": r"E:\All"}, r"E:\All\imagegen"),
    ],
)
def test_a_machines_settings_have_a_folder(system: str, environ: dict, folder: str) -> None:
    assert str(places.machine_folder(system, environ)) == folder


@pytest.mark.parametrize(
    ("system", "temporary", "user_id", "folders"),
    [
        (LINUX, "/tmp", 1000, ["/home/ann/Pictures/imagegen", "/tmp/imagegen-1000"]),
        (MACOS, "/tmp", 501, ["/Users/ann/Pictures/imagegen", "/tmp/imagegen-501"]),
        (WINDOWS, r"C:\Temp", None, [r"C:\Users\Ann\Pictures\imagegen", r"C:\Temp\imagegen"]),
    ],
)
def test_pictures_go_to_the_users_pictures_first(system: str, temporary: str, user_id, folders: list[str]) -> None:
    assert [str(folder) for folder in places.pictures_folders(system, ANN[system], temporary, user_id)] == folders
    assert [str(folder) for folder in places.pictures_folders(system, None, temporary, user_id)] == folders[1:]


@pytest.mark.parametrize(
    ("name", "portable"),
    [
        ("cat.png", "cat.png"),
        ("Büro 猫.png", "Büro 猫.png"),
        ("con.png", "con_.png"),
        ("COM1", "COM1_"),
        ("lpt³.tar.gz", "lpt³_.tar.gz"),
        ("nul .png", "nul_.png"),
        ("console.png", "console.png"),
        ("com10.png", "com10.png"),
        ("a/b\\c:d.png", "a-b-c-d.png"),
        ('what?<"*|>.png', "what------.png"),
        ("line\nbreak\x00.png", "line-break-.png"),
        ("dots... ", "dots"),
        ("..", "-"),
        ("", "-"),
    ],
)
def test_a_portable_name_can_be_had_on_every_system(name: str, portable: str) -> None:
    assert places.portable_name(name) == portable
    assert places.portable_name(portable) == portable
