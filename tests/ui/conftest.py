"""A real JupyterLab in a real Chromium. The lab and the browser start once for a module, each test has a page of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

TOKEN = "test-token"
START_LIMIT = 60
"""Seconds that a server may take until it answers."""

READY = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"


@dataclasses.dataclass(frozen=True, slots=True)
class Lab:
    """A running JupyterLab: its address, its files."""

    url: str
    root: Path
    log: Path

    def get(self, path: str) -> object:
        """GET an address below the server's own, with the token; the answer's JSON."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"token {TOKEN}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def sessions(self) -> list[dict[str, object]]:
        """The remote sessions that the gateway knows."""
        return self.get("remote-gpu/sessions")["sessions"]  # type: ignore[index]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(lab: Lab, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT
    while True:
        try:
            lab.get("api")
        except (urllib.error.URLError, OSError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"JupyterLab did not start ({error}):\n{lab.log.read_text()[-4000:]}")
            time.sleep(0.1)
        else:
            return


@pytest.fixture(scope="module")
def lab(module_places) -> Iterator[Lab]:
    base = module_places.base
    lab = Lab(f"http://127.0.0.1:{_free_port()}/", base / "files", base / "lab.log")
    settings = base / "settings"
    news = settings / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false"}')
    lab.root.mkdir()
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"),
        *(f"--port={lab.url.rsplit(':', 1)[1].strip('/')}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={lab.root}"),
        *(f"--IdentityProvider.token={TOKEN}", "--LabApp.expose_app_in_browser=True"),
        *(f"--LabApp.workspaces_dir={base / 'workspaces'}", f"--LabApp.user_settings_dir={settings}"),
        "--ServerApp.jpserver_extensions={'jupyter_remote_gpu': True}",
    ]
    with lab.log.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "HOME": str(base)})
    try:
        _wait_for(lab, process)
        yield lab
        for session in lab.sessions():
            request = urllib.request.Request(
                f"{lab.url}remote-gpu/sessions/{session['id']}", method="DELETE", headers={"Authorization": f"token {TOKEN}"}
            )
            urllib.request.urlopen(request, timeout=20).close()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = (os.environ.get("JUPYTER_REMOTE_GPU_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("no Chromium was found: run scripts/setup.sh browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclasses.dataclass(frozen=True, slots=True)
class Workbench:
    """A page with JupyterLab in it, and what a user does there."""

    page: Page

    @property
    def panel(self) -> Locator:
        return self.page.get_by_role("region", name="Remote GPU")

    def open_panel(self) -> Locator:
        """Click on the tab of the panel; returns the panel."""
        self.page.locator('.jp-SideBar.jp-mod-left li[data-id="jupyter-remote-gpu-panel"]').click()
        expect(self.panel).to_be_visible()
        return self.panel

    def new_notebook(self, kernel: str = "python3") -> str:
        """Make a notebook with `kernel` and wait until its kernel is idle; returns its path."""
        create = "async kernelName => { await window.jupyterapp.commands.execute('notebook:create-new', {kernelName}); }"
        self.page.evaluate(create, kernel)
        self.page.wait_for_function(READY, timeout=60_000)
        return self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.path")

    def run(self, source: str) -> Locator:
        """Put `source` into the last cell and run it; returns that cell."""
        cell = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-CodeCell").last
        cell.locator(".cm-content").click()
        # Typing would meet the editor's automatic brackets and its completer.
        self.page.evaluate("source => window.jupyterapp.shell.currentWidget.content.activeCell.model.sharedModel.setSource(source)", source)
        at = self.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex")
        self.page.keyboard.press("Shift+Enter")
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell").nth(at)


@pytest.fixture
def workbench(lab: Lab, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Workbench]:
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{lab.url}lab?token={TOKEN}&reset")
    page.wait_for_function("() => window.jupyterapp !== undefined", timeout=60_000)
    page.evaluate("async () => { await window.jupyterapp.restored; }")
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=60_000)
    yield Workbench(page)
    context.close()
    ours = [text for text in problems if "remote-gpu" in text.lower()]
    assert not ours, f"the page complained: {ours}"
