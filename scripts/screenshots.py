"""Take the documentation's pictures: a real JupyterLab with the example notebook, in a real Chromium.

``.venv/bin/python scripts/screenshots.py`` writes docs/images/*.png. It needs what the browser tests need (scripts/setup.sh test).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
NOTEBOOK = ROOT / "examples" / "digits.ipynb"
TOKEN = "for-these-pictures"
IDLE = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"


@contextmanager
def lab(base: Path) -> Iterator[str]:
    """The address of a JupyterLab in folders of its own, with the example notebook in it."""
    files = base / "files"
    files.mkdir()
    shutil.copy(NOTEBOOK, files)
    settings = base / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folders = {
        "JUPYTER_RUNTIME_DIR": "rt",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_CONFIG_DIR": "config",
        "IPYTHONDIR": "ipython",
        "HOME": ".",
    }
    environment = {
        **os.environ,
        **{name: str(base / value) for name, value in folders.items()},
        "JUPYTER_REMOTE_GPU_FOLDER": str(base / "r"),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", f"--ServerApp.root_dir={files}"]
    command += [
        f"--IdentityProvider.token={TOKEN}",
        "--LabApp.expose_app_in_browser=True",
        f"--LabApp.user_settings_dir={base / 'settings'}",
    ]
    command += [f"--LabApp.workspaces_dir={base / 'workspaces'}"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        _wait(address)
        yield address
    finally:
        process.terminate()
        process.wait()
        subprocess.run([sys.executable, "-m", "remote_gpu.node", "zygote", "stop"], env=environment, check=False, capture_output=True)


def _wait(address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{address}api", timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    message = "JupyterLab did not start"
    raise TimeoutError(message)


def open_notebook(page: Page, address: str) -> None:
    """The panel on the left, the notebook beside it."""
    page.goto(f"{address}lab?token={TOKEN}&reset")
    page.wait_for_function("() => window.jupyterapp !== undefined", timeout=60_000)
    page.evaluate("async () => { await window.jupyterapp.restored; }")
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=60_000)
    page.evaluate("async () => { await window.jupyterapp.commands.execute('docmanager:open', {path: 'digits.ipynb'}); }")
    page.wait_for_function(IDLE, timeout=60_000)
    page.locator('.jp-SideBar.jp-mod-left li[data-id="jupyter-remote-gpu-panel"]').click()


def run_until_the_last_but_one(page: Page) -> None:
    """Run all cells but the last, which would stop the session."""
    page.evaluate(
        """async () => {
             const { commands, shell } = window.jupyterapp;
             const notebook = shell.currentWidget.content;
             notebook.activeCellIndex = notebook.widgets.length - 1;
             await commands.execute('notebook:run-all-above');
        }"""
    )
    remote = NOTEBOOK.read_text().count('"%%remote_gpu')
    done = "count => document.querySelectorAll('.jp-RemoteGpu-badge[data-state=done]').length >= count"
    page.wait_for_function(done, arg=remote, timeout=120_000)
    page.wait_for_function(IDLE, timeout=60_000)


def main() -> None:
    """Take the pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    chromium = next(path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name)))
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="j") as folder, lab(Path(folder)) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1360, "height": 900})
        open_notebook(page, address)
        run_until_the_last_but_one(page)
        page.locator(".jp-Cell", has=page.locator(".jp-RemoteGpu-badge")).first.evaluate("cell => cell.scrollIntoView({block: 'start'})")
        page.wait_for_timeout(3000)
        page.screenshot(path=str(IMAGES / "lab.png"))
        page.evaluate("async () => { await window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'}); }")
        page.wait_for_timeout(1500)
        page.screenshot(path=str(IMAGES / "lab-dark.png"))
        browser.close()


if __name__ == "__main__":
    main()
