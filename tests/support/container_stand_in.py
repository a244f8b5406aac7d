"""A stand-in for Docker and Podman, installed as a program by `install`. Containers and volumes are files in $STAND_IN.

It implements the calls of a deploy, really runs scripts on a volume, and fails where a test requires it. Files in
$STAND_IN:

  containers.json    name -> state; a container is `draining` from the stop request until `stop` returns
  volumes/NAME       /data; `jobs.sqlite3` holds the schema version: the generation of the newest image that used it
  calls, returned    every call, one per line; the calls that have returned
  image              the generation of the image that `run` starts; a container ends if the database is newer
  unready            generations that never become ready, one per line
  restarted          generations whose container ended and was restarted, one per line
  silent             how many times `logs` shows nothing
  fails              `CALL<tab>COMPLAINT` lines: a call that begins with CALL fails with COMPLAINT
  hold               while this file exists, a call that begins with its text does not return
"""

import atexit
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(os.environ.get("STAND_IN", ""))
CERTIFICATE = "ab" * 32


def read(name, otherwise=""):
    file = HERE / name
    return file.read_text() if file.exists() else otherwise


def fail(complaint, code=125):
    sys.stderr.write(complaint.replace("\\n", "\n") + "\n")
    sys.exit(code)


def volume_of(arguments):
    folder = HERE / "volumes" / arguments[arguments.index("--volume") + 1].removesuffix(":/data").strip("/")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Containers:
    def __init__(self):
        self.all = json.loads(read("containers.json", "{}"))

    def keep(self):
        making = HERE / f"containers.{os.getpid()}"
        making.write_text(json.dumps(self.all))
        making.replace(HERE / "containers.json")

    def one(self, name):
        return self.all[name] if name in self.all else fail(f"Error: no such container: {name}")

    def begin(self, one):
        """Start a container: it migrates the database to its generation, and ends if the database is newer."""
        database = Path(one["volume"]) / "jobs.sqlite3"
        form = int(database.read_text()) if database.exists() else 0
        one["draining"] = False
        one["status"] = "exited" if form > one["generation"] else "running"
        database.write_text(str(max(form, one["generation"])))


def main(call):
    for line in read("fails").splitlines():
        begins, complaint = line.split("\t")
        if " ".join(call).startswith(begins):
            fail(complaint)
    this = Containers()
    if call[0] == "stop":
        this.one(call[-1])["draining"] = True
        this.keep()
    while (held := read("hold")) and " ".join(call).startswith(held):
        time.sleep(0.01)
    this = Containers()
    match call:
        case ["version"]:
            print("1.0")
        case ["container", "inspect", "--format", _, name]:
            one = this.one(name)
            restarts = read("restarted").split().count(str(one["generation"]))
            print(f"{one['status']}|0|{restarts}|sha256:{one['generation']}|the day of the test")
        case ["image", "inspect", *_]:
            print(1000000)
        case ["stop", name]:
            this.one(name)["status"] = "exited"
        case ["start", name]:
            one = this.one(name)
            if one["status"] != "running":  # else it succeeds and does nothing, as in the real runtimes
                this.begin(one)
        case ["rename", before, after]:
            this.one(before)
            if after in this.all:
                fail(f"Error: the name {after} is in use")
            this.all[after] = this.all.pop(before)
        case ["rm", *force, name]:
            if this.one(name)["status"] == "running" and "--force" not in force:
                fail(f"Error: {name} is running")
            del this.all[name]
        case ["exec", name, *command]:
            one = this.one(name)
            if one["status"] != "running":
                fail(f"Error: {name} is not running")
            if command[-1].endswith("healthcheck"):
                if one["draining"] or str(one["generation"]) in read("unready").split():
                    fail("not ready", 1)
            elif command[-2:] == ["tls", "show"]:
                print(f"sha256       {CERTIFICATE}")
            elif command[0] == "rm":
                subprocess.run([part.replace("/data", one["volume"]) for part in command], check=True)
        case ["run", "--detach", "--name", name, *_]:
            if name in this.all:
                fail(f"Error: the name {name} is in use")
            this.all[name] = {"volume": str(volume_of(call)), "generation": int(read("image", "1")), "options": call}
            this.begin(this.all[name])
        case ["run", *_] if "token" in call:
            token = f"token-{len(read('calls').splitlines())}-of-the-stand-in"
            digest = subprocess.run(["sha256sum"], input=token.encode(), capture_output=True, check=True).stdout
            (volume_of(call) / "tokens").open("a").write(f"{call[-1]}:{digest.split()[0].decode()}\n")
            print(token)
        case ["run", *_, script]:
            done = subprocess.run(["sh", "-c", script.replace("/data", str(volume_of(call)))], check=False)
            if done.returncode:
                sys.exit(done.returncode)
        case ["logs", *_] if int(read("silent", "0")):
            (HERE / "silent").write_text(str(int(read("silent")) - 1))
        case ["logs", *_, name]:
            print(f"the log of {name}, generation {this.one(name)['generation']}")
        case _:
            fail(f"the stand-in knows no {' '.join(call)}")
    this.keep()


def note(file):
    (HERE / file).open("a").write(" ".join(sys.argv[1:]).replace("\n", " ") + "\n")


def install(program):
    """Install this file as a program at that path. It needs only the standard library."""
    program.write_text(f"#!{sys.executable} -SE\n{Path(__file__).read_text()}")
    program.chmod(0o755)


if __name__ == "__main__":
    note("calls")
    atexit.register(note, "returned")
    main(sys.argv[1:])
