"""Which local files leave the machine: those in open folders, those the person agrees to, and no secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastmcp.client.elicitation import ElicitResult
from fronts import SMALL, call, job_id_of, reply, run, stand_in, text_of, within
from PIL import Image

from mcp_front.roots import is_inside, is_secret, narrow, open_folders
from mcp_front.settings import Settings, load

MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((64, 64), 80).convert("RGB").save(path)
    return path


class Person:
    """Answers the front's question, and remembers it."""

    def __init__(self, action: str, send: bool = True) -> None:
        self.action, self.send, self.asked = action, send, []

    async def __call__(self, message, response_type, _params, _context):
        self.asked.append(message)
        if self.action != "accept":
            return ElicitResult(action=self.action)
        names = list(getattr(response_type, "__dataclass_fields__", {"send": None}))
        return dict.fromkeys(names, self.send)


def edited(service, *files: Path, mode: str = "auto", roots=None, person=None, **settings):
    """The answer to an edit of these files, whose job is then cancelled. roots, person: what the client can give."""
    able = {"mode": mode} | ({"roots": roots} if roots is not None else {})
    able |= {"elicitation_handler": person} if person else {}

    async def story():
        async with within(service.url, client=able, **settings) as client:
            images = [str(file) for file in files]
            result = await call(client, "edit_image", prompt="make it blue", images=images, wait=False, **SMALL)
            if sent(result):
                await call(client, "cancel_job", job_id=job_id_of(result))
            return result

    return run(story())


def sent(result) -> bool:
    return not result.is_error and text_of(result).startswith("Job ")


@MODES
def test_a_file_outside_is_refused_with_the_setting_that_opens_it(service, tmp_path, mode):
    private = picture(tmp_path / "private.png")
    result = edited(service, private, mode=mode, output_dir=tmp_path / "out")
    assert result.is_error and text_of(result).startswith(f"{private} lies outside the folders")
    assert "IMAGEGEN_MCP_ROOTS" in text_of(result)
    assert sent(edited(service, private, mode=mode, mcp_roots=f"/nowhere:{tmp_path}"))


def test_of_a_refused_file_the_service_hears_nothing(tmp_path):
    inside, private = picture(tmp_path / "work" / "a.png"), picture(tmp_path / "private.png")
    asked = []

    def answer(handler):
        asked.append(handler.path)
        reply(handler, 404, "application/problem+json", b'{"code": "not_found", "detail": "Nothing is here."}')

    async def story(url):
        async with within(url, mcp_roots=inside.parent) as client:
            asked.clear()
            return await call(client, "edit_image", prompt="x", images=[str(inside), str(private)])

    with stand_in(answer) as url:
        assert run(story(url)).is_error and asked == []


@MODES
def test_the_folders_that_the_client_names_are_open(service, tmp_path, mode):
    person = Person("decline")
    mine = picture(tmp_path / "my project" / "a.png")
    roots = [mine.parent.as_uri()]
    assert sent(edited(service, mine, mode=mode, roots=roots, person=person))
    assert person.asked == []
    narrower = edited(service, mine, mode=mode, roots=roots, mcp_roots=tmp_path / "other")
    assert narrower.is_error, "the setting decides alone"


@MODES
def test_the_person_may_agree_to_a_file_outside(service, tmp_path, mode):
    inside, private = picture(tmp_path / "work" / "a.png"), picture(tmp_path / "private" / "b.png")
    person = Person("accept")
    assert sent(edited(service, inside, private, mode=mode, roots=[inside.parent.as_uri()], person=person))
    (question,) = person.asked
    assert str(private) in question and str(inside) not in question


@MODES
@pytest.mark.parametrize("person", [Person("decline"), Person("cancel"), Person("accept", send=False)])
def test_what_the_person_does_not_agree_to_is_not_sent(service, tmp_path, mode, person):
    private = picture(tmp_path / "private.png")
    result = edited(service, private, mode=mode, person=person)
    assert result.is_error and "did not agree to send" in text_of(result) and str(private) in text_of(result)


def test_what_a_symlink_leads_to_decides(service, tmp_path):
    private = picture(tmp_path / "private" / "b.png")
    work = tmp_path / "work"
    work.mkdir()
    (work / "link.png").symlink_to(private)
    (work / "folder").symlink_to(private.parent, target_is_directory=True)
    for named in (work / "link.png", work / "folder" / "b.png", work / ".." / "private" / "b.png"):
        result = edited(service, named, mcp_roots=work)
        assert result.is_error and text_of(result).startswith(f"{private} lies outside")
    (tmp_path / "alias").symlink_to(work, target_is_directory=True)
    assert sent(edited(service, picture(work / "a.png"), mcp_roots=tmp_path / "alias"))


def test_folders_of_secrets_are_never_read(service, tmp_path):
    key = picture(tmp_path / ".ssh" / "key.png")
    (tmp_path / "link.png").symlink_to(key)
    person = Person("accept")
    for named in (key, tmp_path / "link.png"):
        result = edited(service, named, person=person, mcp_roots=tmp_path)
        assert result.is_error and text_of(result).startswith(f"{key} lies where credentials or system files are.")
    assert person.asked == []


@pytest.mark.parametrize(
    ("path", "secret"),
    [
        ("/home/ann/.ssh/a.png", True),
        ("/home/ann/.aws/deep/a.png", True),
        ("/Users/ann/Library/Keychains/a.png", True),
        ("/etc/a.png", True),
        ("/proc/self/root/a.png", True),
        ("/home/ann/Pictures/.ssh", False),
        ("/home/ann/etc/a.png", False),
        ("/run/media/ann/camera/a.png", False),
    ],
)
def test_where_secrets_are(path, secret):
    assert is_secret(Path(path)) is secret


def test_which_folders_are_open(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "ann"))
    home = Path.home()
    work, out = home / "work", tmp_path / "out"
    chosen = Settings(output_dir=out)
    assert open_folders(chosen, work) == [work, out]
    assert open_folders(Settings(output_dir=out, roots=()), work) == [out]
    assert open_folders(Settings(output_dir=out, roots=(home,)), work) == [home, out], "a person may open all of it"
    assert narrow([Path("/"), home.parent, home]) == [], "a program that is started there is not at work there"
    assert home / "Pictures" / "imagegen" in open_folders(Settings(), work)
    assert is_inside(work / "a.png", [work]) and not is_inside(home / "work2" / "a.png", [work])


def test_the_folders_of_the_setting():
    roots = load({"IMAGEGEN_MCP_ROOTS": "/a: ${HOME}/b :"}).roots
    assert roots == (Path("/a"), Path.home() / "b")
    assert load({"IMAGEGEN_MCP_ROOTS": "${user_config.roots}"}).roots is None
