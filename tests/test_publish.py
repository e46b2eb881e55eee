"""`python -m export publish`, against a stand-in of the Hub on this machine."""

import base64
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from huggingface_hub import ModelCard, close_session, constants

from export import bundle, child, layout, manifest
from export.__main__ import main
from export.bundle import Bundle
from export.results import Exit
from nets import TRAININGS
from tests.client import ROOT
from tests.conftest import Train

TOKEN = "hf_aSecretThatNobodyIsTold"
REPO = "someone/net"
LARGE = (".onnx", ".pkl", ".npz", ".safetensors", ".png")  # what the Hub keeps out of git


class Hub(ThreadingHTTPServer):
    """Answers what huggingface_hub asks while it publishes, and keeps what it is given. Repos: name -> path -> bytes.

    `failures` and `says` are answers to give instead: the end of an address -> status, and their text.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked: list[tuple[str, str | None, str]] = []  # method and path, authorization, user agent
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.stored: dict[str, bytes] = {}  # large files, by sha256
        self.commits: list[dict[str, Any]] = []
        self.modes: dict[str, str] = {}
        self.remarks: list[dict[str, str]] = []
        self.failures: dict[str, int] = {}
        self.says = "no"

    @property
    def head(self) -> str:
        return f"{len(self.commits):040x}"

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        for end, status in self.failures.items():
            if path.endswith(end):
                return status, {"error": self.says}
        if path.startswith("/store/"):
            self.stored[path.removeprefix("/store/")] = body
            return 200, {}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": self.remarks}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, {"objects": [self._place(each) for each in json.loads(body)["objects"]]}
        name = "/".join(path.split("/")[3:5])  # /api/models/USER/NAME/...
        if name not in self.repos:
            return 404, {"error": "Repository not found"}
        if "/preupload/" in path:
            return 200, {"files": [self._mode(name, each, json.loads(body)) for each in json.loads(body)["files"]]}
        if "/commit/" in path:
            return self._commit(name, [json.loads(line) for line in body.splitlines()])
        if path.removesuffix("/revision/main") != f"/api/models/{name}":
            return 404, {"error": "Not found"}
        siblings = [{"rfilename": each} for each in self.repos[name]]
        return 200, {"id": name, "sha": self.head, "private": self.private[name], "siblings": siblings}

    def _create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        name = f"{wanted['organization'] or 'myself'}/{wanted['name']}"
        known = name in self.repos
        if not known:
            assert wanted["type"] == "model"
            self.add(name, {}, private=wanted["visibility"] == "private")
        return 409 if known else 200, {"url": f"{self.url}/{name}"}

    def add(self, name: str, files: dict[str, bytes], *, private: bool = False) -> None:
        self.repos[name] = {".gitattributes": b"*.onnx filter=lfs", **files}
        self.private[name] = private

    def _mode(self, name: str, file: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        path = file["path"]
        self.modes[path] = "lfs" if path.endswith(LARGE) else "regular"
        there = self.repos[name].get(path)
        oid = None if there is None else sha256(there) if self.modes[path] == "lfs" else git_hash(there)
        ignore = asked.get("gitIgnore", self.repos[name].get(".gitignore", b"").decode())
        ignored = f"*{Path(path).suffix}" in ignore.split()
        return {"path": path, "uploadMode": self.modes[path], "shouldIgnore": ignored, "oid": oid}

    def _place(self, large: dict[str, Any]) -> dict[str, Any]:
        return {**large, "actions": {"upload": {"href": f"{self.url}/store/{large['oid']}"}}}

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        header, *changes = lines
        if header["value"].get("parentCommit") != self.head:
            return 412, {"error": "A commit has happened since"}
        files = self.repos[name]
        for change in changes:
            match change:
                case {"key": "file", "value": {"path": path, "content": content, "encoding": "base64"}}:
                    files[path] = base64.b64decode(content)
                case {"key": "lfsFile", "value": {"path": path, "oid": oid, "size": size}}:
                    files[path] = self.stored[oid]
                    assert (sha256(files[path]), len(files[path])) == (oid, size)
                case {"key": "deletedFile", "value": {"path": path}}:
                    del files[path]
                case _:
                    raise AssertionError(change)
        self.commits.append(header["value"])
        return 200, {"commitUrl": f"{self.url}/{name}/commit/{self.head}", "commitOid": self.head}


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path = self.path.partition("?")[0]
        asked = (f"{self.command} {path}", self.headers["Authorization"], self.headers["User-Agent"])
        self.server.asked.append(asked)
        status, told = self.server.answer(self.command, path, body)
        content = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The stand-in, in the place of the Hub, and somebody who is logged in."""
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        close_session()
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_OIDC_RESOURCE", raising=False)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # as __main__ sets it, before the import
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a protocol of binary chunks; without it, git's LFS
        yield server
        close_session()
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle's folder, to be copied."""
    out = tmp_path_factory.mktemp("original")
    assert main(["run", "regression", "--set", "steps=20", "--out", str(out)]) == Exit.OK
    return out / "regression"


@pytest.fixture
def made(original: Path, tmp_path: Path) -> Path:
    """A bundle's folder, to be altered."""
    return shutil.copytree(original, tmp_path / "out" / "regression")


@pytest.fixture
def other(train: Train, tmp_path: Path) -> Path:
    """The bundle of a net that learned otherwise."""
    return bundle.write(train("regression", seed=9), tmp_path / "other")[0].folder


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def published(folder: Path, *options: str) -> int:
    return main(["publish", str(folder), "--repo", REPO, *options])


def reported(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (report,) = json.loads(capsys.readouterr().out)
    assert isinstance(report, dict)
    return report


def reseal(folder: Path, changes: dict[str, bytes], **claims: Any) -> None:
    """Alter files and make the manifest match, as somebody would who means harm."""
    described = json.loads((folder / layout.MANIFEST).read_text(encoding="utf-8"))
    (folder / layout.MANIFEST).unlink()
    for name, content in changes.items():
        (folder / name).write_bytes(content)
    manifest.write({**described, **claims}, folder)


def without(folder: Path, name: str) -> None:
    (folder / name).unlink()
    reseal(folder, {})


def test_what_arrives_is_the_bundle_and_what_the_dry_run_told(
    hub: Hub, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert published(made, "--dry-run", "--json") == Exit.OK
    told = reported(capsys)
    assert published(made, "--json") == Exit.OK
    sent = reported(capsys)
    arrived = hub.repos[REPO]
    assert arrived.pop(".gitattributes") == b"*.onnx filter=lfs"
    assert arrived == contents(made)
    assert {each["path"]: (each["size"], each["sha256"]) for each in told["files"]} == {
        name: (len(content), sha256(content)) for name, content in arrived.items()
    }
    assert {**told, "commit": sent["commit"]} == sent
    assert sent["commit"] == {"url": f"{hub.url}/{REPO}/commit/{1:040x}", "made": True, "deleted": [], "remarks": []}
    assert [each["summary"] for each in hub.commits] == ["Bundle of Live Nets: regression, seed 2"]
    assert set(hub.modes.values()) == {"lfs", "regular"}


def test_a_dry_run_asks_nobody_and_needs_no_token(
    hub: Hub, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert published(made, "--dry-run", "--private") == Exit.OK
    printed = capsys.readouterr().out
    for name, content in contents(made).items():
        assert re.search(rf"^ +{sha256(content)}, {len(content)} bytes: {re.escape(name)}$", printed, re.MULTILINE)
    assert f"model repo {REPO}, created private if it does not exist" in printed
    assert "commit message: Bundle of Live Nets: regression, seed 2" in printed
    assert "    license: mit\n" in printed
    assert printed.endswith("dry run: nothing was sent\n")
    assert hub.asked == []


@pytest.mark.parametrize("private", [False, True])
def test_the_repo_is_created_as_it_was_told(
    private: bool, hub: Hub, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert published(made, *(["--private"] if private else [])) == Exit.OK
    assert hub.private == {REPO: private}
    assert f"sent: {hub.url}/{REPO}/commit/" in capsys.readouterr().out


def test_a_name_alone_is_a_repo_of_ones_own(hub: Hub, made: Path) -> None:
    assert main(["publish", str(made), "--repo", "net"]) == Exit.OK
    assert set(hub.repos) == {"myself/net"}


def test_the_token_goes_to_the_hub_and_is_told_to_nobody_else(
    hub: Hub, made: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert published(made, "--json") == published(made) == Exit.OK
    hub.failures, hub.says = {"/preupload/main": 403}, f"no rights, Bearer {TOKEN}"
    assert published(made) == Exit.HUB
    for asked, authorization, _ in hub.asked:  # storage has signed addresses; the card's check is open to all
        assert authorization == f"Bearer {TOKEN}" or "/store/" in asked or asked == "POST /api/validate-yaml"
    printed = capfd.readouterr()
    assert TOKEN not in printed.out + printed.err
    assert "no rights, Bearer (token)" in printed.err


def test_the_command_itself_asks_what_hf_endpoint_names_and_tells_only_what_is_published(hub: Hub, made: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "export", "publish", str(made), "--repo", REPO],
        cwd=ROOT,
        env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert f"sent: {hub.url}/{REPO}/commit/{1:040x}\n" in done.stdout
    assert [asked for asked, _, _ in hub.asked if "/store/" not in asked] == [
        *("POST /api/validate-yaml", "POST /api/repos/create", f"GET /api/models/{REPO}"),
        *(f"POST /api/models/{REPO}/preupload/main", f"POST /{REPO}.git/info/lfs/objects/batch"),
        *("POST /api/validate-yaml", f"POST /api/models/{REPO}/commit/main"),
    ]
    assert not any("torch" in agent or "agent/" in agent for _, _, agent in hub.asked)


def test_verify_does_not_wait_for_huggingface_hub(original: Path) -> None:
    code = (
        "import sys; from export.__main__ import main; main(sys.argv[1:]); assert 'huggingface_hub' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, "verify", str(original)], cwd=ROOT, check=True, capture_output=True)


def test_what_has_not_changed_is_not_committed_again(hub: Hub, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert published(made) == published(made) == Exit.OK
    assert len(hub.commits) == 1
    printed = capsys.readouterr().out
    assert printed.endswith(f"nothing has changed since {hub.url}/{REPO}/commit/{1:040x}; no commit was made\n")


def test_what_cannot_be_checked_is_written_anew(
    hub: Hub, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(manifest, "VERSION", "0.5.9")
        (old,) = bundle.write(train("regression", seed=9), tmp_path / "old")
    (new,) = bundle.write(train("regression", seed=9), tmp_path / "new")
    reseal(old.folder, dict.fromkeys(("README.md", "net.py", "try.html", "parity.json", "plot.png"), b"forged"))
    assert published(old.folder) == Exit.OK
    printed = capsys.readouterr().out
    why = "written by version 0.5.9"
    assert f"README.md, net.py, parity.json, try.html ({why}); plot.png (drawn by other versions" in printed
    assert hub.repos[REPO] == {**contents(new.folder), ".gitattributes": b"*.onnx filter=lfs"}


def test_a_plot_that_cannot_be_drawn_again_is_left_out_and_what_is_others_is_left_alone(
    hub: Hub, made: Path, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = train("regression", seed=9)
    with torch.no_grad():
        next(trainer.learners[0].net.parameters()).mul_(1.01)  # as on another processor, or a setting that was changed
    (other,) = bundle.write(trainer, tmp_path / "other")
    hub.add(REPO, {"thesis.txt": b"mine", "sub/net.pkl": b"mine too"})
    assert published(made) == Exit.OK
    capsys.readouterr()
    assert published(other.folder) == Exit.OK
    printed = capsys.readouterr().out
    assert "not checked: plot.png, the recipe in manifest.json (retraining the run on this machine gives" in printed
    assert "deleted if the repo has them: plot.png\n" in printed
    assert printed.endswith(", which deleted plot.png\n")
    sent = hub.repos[REPO]
    others = {".gitattributes", "thesis.txt", "sub/net.pkl"}
    assert sent.keys() == {*contents(other.folder)} - {"plot.png"} | others
    assert "plot.png" not in sent["README.md"].decode()
    same = {"net.pkl", "net_params.pkl", "net.safetensors", "net.onnx", "net.py", "try.html", "parity.json"}
    assert {name: sent[name] for name in same} == {name: contents(other.folder)[name] for name in same}


def test_a_gitignore_in_the_repo_keeps_nothing_out(hub: Hub, made: Path) -> None:
    hub.add(REPO, {".gitignore": b"*.pkl\n*.py\n"})
    assert published(made) == Exit.OK
    assert contents(made).items() <= hub.repos[REPO].items()


def test_private_does_not_hide_what_goes_to_a_public_repo(
    hub: Hub, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add(REPO, {})
    assert published(made, "--private") == Exit.HUB
    assert "it exists and is public" in capsys.readouterr().err
    assert set(hub.repos[REPO]) == {".gitattributes"}


def test_what_the_hub_remarks_on_a_card_is_passed_on(hub: Hub, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.remarks = [{"message": "an unusual licence"}]
    assert published(made) == Exit.OK
    printed = capsys.readouterr()
    assert "the Hub remarks: Warnings while validating metadata in README.md: - an unusual licence\n" in printed.out
    assert printed.err == ""


def altered(folder: Path) -> None:
    (folder / "net.onnx").write_bytes(b"?")


def unlike_its_golden_outputs(folder: Path) -> None:
    with np.load(folder / "golden.npz") as golden:
        arrays = {name: array + np.float32(name.startswith("y_")) for name, array in golden.items()}
    file = io.BytesIO()
    np.savez(file, **arrays)
    reseal(folder, {"golden.npz": file.getvalue()})


def not_finite(folder: Path) -> None:
    state = safetensors.torch.load_file(folder / "net.safetensors")
    next(iter(state.values())).fill_(torch.nan)
    for name in layout.MODEL_FILES:
        (folder / name).unlink()
    weights = {"net.safetensors": safetensors.torch.save(state)}
    reseal(folder, weights, weights=manifest.weights_digest(state))


def with_a_file_that_is_no_part_of_it(folder: Path) -> None:
    reseal(folder, {".gitattributes": b""})


def without_a_card(folder: Path) -> None:
    without(folder, "README.md")


def with_another_card(folder: Path) -> None:
    """Whose YAML would take gigabytes to parse: each level holds nine of the one before."""
    levels = [f"{name}: &{name} [{','.join(9 * [f'*{before}'])}]" for before, name in itertools.pairwise("abcdefghij")]
    aliases = "\n".join(["a: &a [x,x,x,x,x,x,x,x,x]", *levels])
    reseal(folder, {"README.md": f"---\nlicense: mit\n{aliases}\n---\n".encode()})


@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "real"])
@pytest.mark.parametrize(
    ("damage", "code", "told"),
    [
        (altered, Exit.BROKEN, "net.onnx has 1 bytes"),
        (unlike_its_golden_outputs, Exit.PARITY, "golden.npz"),
        (not_finite, Exit.NON_FINITE, "weights that are not finite"),
        (with_a_file_that_is_no_part_of_it, Exit.BROKEN, ".gitattributes does not belong to a bundle"),
        (without_a_card, Exit.BROKEN, "README.md is missing"),
        (with_another_card, Exit.BROKEN, "README.md differs from what this version writes"),
    ],
)
def test_of_a_bundle_that_is_not_whole_nothing_is_sent(
    damage: Any, code: Exit, told: str, dry: list[str], hub: Hub, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(made)
    assert published(made, *dry) == code
    assert told in capsys.readouterr().out
    assert hub.asked == []


def test_what_is_sent_is_what_was_verified_whatever_happens_to_the_folder(
    hub: Hub, made: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, ask = contents(made), child.ask

    def asked_and_then_replaced(command: str, folder: Path) -> dict[str, Any]:
        found = ask(command, folder)
        for name, content in contents(other).items():  # whole, but not what was verified
            (folder / name).write_bytes(content)
        return found

    monkeypatch.setattr(child, "ask", asked_and_then_replaced)
    assert published(made) == Exit.OK
    assert hub.repos[REPO] == {**before, ".gitattributes": b"*.onnx filter=lfs"}


def test_a_card_that_the_hub_refuses_is_named_before_anything_is_created(
    hub: Hub, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.failures, hub.says = {"/api/validate-yaml": 400}, '"license" must be one of many'
    assert published(made, "--json") == Exit.BROKEN
    assert reported(capsys)["error"].startswith("README.md is refused by the Hub: ")
    assert [asked for asked, _, _ in hub.asked] == ["POST /api/validate-yaml"]


@pytest.mark.parametrize("name", ["", "a/b/c", "-net", "net.", "a--b", "net.git", "me/né", f"me/{'n' * 97}", "me/ net"])
def test_a_name_that_no_repo_can_have_is_refused_first(name: str, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "no/such/folder", f"--repo={name}"]) == Exit.USAGE
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("error: --repo must be USER/NAME or NAME, each of ")
    assert f", not '{name[:40]}" in told
    assert hub.asked == []


@pytest.mark.parametrize("address", ["", "nonsense", "http://", "ftp://hub", "http://hub:port", "http://[hub"])
def test_an_endpoint_that_is_no_address_is_refused(
    address: str, hub: Hub, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert published(made) == Exit.USAGE
    told = f"error: HF_ENDPOINT must be an http:// or https:// URL, not {address!r}.\n"
    assert capsys.readouterr().err == told
    assert hub.asked == []


def test_several_bundles_are_refused_by_name(
    hub: Hub, made: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made.parent / "second").mkdir()
    other.rename(made.parent / "second" / "regression")
    assert published(made.parent) == Exit.USAGE
    names = f"{made}, {made.parent / 'second' / 'regression'}"
    assert capsys.readouterr().err == f"error: DIR must be one bundle, but contains {names}.\n"
    assert hub.asked == []


def test_a_folder_without_a_bundle_is_refused_as_verify_does(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert published(tmp_path) == Exit.BROKEN
    assert "manifest.json is missing: the folder contains no bundle" in capsys.readouterr().out
    assert published(tmp_path / "none") == Exit.USAGE
    assert hub.asked == []


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """What was told, which is one sentence."""
    printed = capsys.readouterr()
    assert printed.out == ""
    (told,) = printed.err.splitlines()
    assert told.startswith(f"error: {REPO} could not be published: ")
    assert told.endswith(".")
    return str(told)


@pytest.mark.parametrize(
    ("where", "status", "told"),
    [
        (
            "/api/repos/create",
            401,
            "the Hub does not accept the token (401: no); log in with `hf auth login`, or set HF",
        ),
        ("/api/repos/create", 403, "the token has no write permission there (403: no); use one with write permission."),
        ("/api/repos/create", 400, "the Hub refuses the request (400: no); check the name."),
        ("/api/repos/create", 429, "the Hub received too many requests (429: no); try again later."),
        ("/api/repos/create", 500, "the Hub has an internal error (500: no); try again later."),
        ("/api/validate-yaml", 502, "the Hub has an internal error (502: no); try again later."),
        (f"/api/models/{REPO}", 404, "the repo was not found (404: no); check the name"),
        ("/preupload/main", 403, "the token has no write permission there"),
        ("/objects/batch", 403, "the token has no write permission there"),
        ("storage", 403, "the token has no write permission there"),
        ("/commit/main", 412, "the repo was changed during the upload (412: no); run the command again."),
    ],
)
def test_what_the_hub_refuses_is_told_in_one_sentence(
    where: str, status: int, told: str, hub: Hub, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.failures = {sha256((made / "net.onnx").read_bytes()) if where == "storage" else where: status}
    assert published(made) == Exit.HUB
    assert told in refused(capsys)
    assert hub.commits == []


def test_a_hub_that_is_not_there_is_told_in_one_sentence(
    hub: Hub, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert published(made) == Exit.HUB
    told = refused(capsys)
    assert "the Hub cannot be reached at http://127.0.0.1:9 (" in told
    assert "check the connection, and HF_ENDPOINT if it is set" in told


@pytest.mark.parametrize(
    ("token", "told"),
    [("", "there is no token"), ("hf_\x01", "the token contains invalid characters")],
    ids=["none", "garbled"],
)
def test_without_a_token_nothing_is_sent(
    token: str, told: str, hub: Hub, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert published(made) == Exit.HUB
    assert f"{told}; log in with `hf auth login`, or set HF_TOKEN." in refused(capsys)
    assert hub.asked == []


def test_offline_nothing_is_sent(
    hub: Hub, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert published(made) == Exit.HUB
    assert "HF_HUB_OFFLINE is set; unset it." in refused(capsys)
    assert hub.asked == []


def test_json_tells_of_the_hubs_refusal_too(hub: Hub, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.failures = {"/api/repos/create": 500}
    assert published(made, "--json") == Exit.HUB
    assert reported(capsys) == {
        "exit": 5,
        "error": f"{REPO} could not be published: the Hub has an internal error (500: no); try again later.",
    }


@pytest.fixture(params=TRAININGS)
def each_bundle(request: pytest.FixtureRequest, train: Train, tmp_path: Path) -> list[Bundle]:
    return bundle.write(train(request.param), tmp_path)


def card_of(made: Bundle) -> Any:
    """What huggingface_hub reads in a card; typed by nobody."""
    return ModelCard((made.folder / "README.md").read_bytes().decode())


def test_every_card_is_one_that_the_hub_can_read(each_bundle: list[Bundle]) -> None:
    for made in each_bundle:
        card = card_of(made)
        assert (
            str(card).encode() == (made.folder / "README.md").read_bytes()
        )  # so that what the Hub is asked about is what it gets
        task, key = made.manifest["task"], made.manifest["lesson"]
        assert (card.data.license, card.data.library_name) == ("mit", "pytorch")
        assert card.data.tags == list(dict.fromkeys(["onnx", "live-nets", task, key]))
        assert card.data.pipeline_tag == f"tabular-{task}"
        assert card.data.model_name == f"live-nets-{made.name.replace('/', '-')}"


def test_every_card_has_the_nets_own_results(each_bundle: list[Bundle]) -> None:
    for made in each_bundle:
        data = card_of(made).data
        kinds = {"regression": {"mse"}, "classification": {"cross_entropy", "accuracy"}}[made.manifest["task"]]
        assert data.eval_results
        assert set(data.metrics) == {each.metric_type for each in data.eval_results} <= kinds
        results = {each.metric_name: each for each in data.eval_results}
        own = f"{made.manifest['net']} " if len(made.manifest["nets"]) > 1 else ""
        assert {f"{own}loss", f"{own}test loss"} <= set(results)
        for name, each in results.items():
            assert each.metric_value == made.manifest["metrics"][name]
            assert each.dataset_type == "synthetic"
            assert each.dataset_split == ("test" if "test" in name else "train")
            assert name.startswith(own)


def test_every_card_shows_inputs_from_the_range_of_the_training(each_bundle: list[Bundle]) -> None:
    for made in each_bundle:
        (port,) = made.manifest["inputs"]
        ((columns,),) = (each.values() for each in card_of(made).data.widget)
        assert list(columns) == list(port["features"])
        for values, low, high in zip(columns.values(), port["trained_from"], port["trained_to"], strict=True):
            assert len(values) == 5
            assert low <= min(values) < max(values) <= high
