"""What a user sees and does in JupyterLab, in a real browser, on the cluster `local`."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.shared_places, pytest.mark.slow, pytest.mark.timeout(180)]

SLOW = 60_000
"""The time in ms within which a kernel, local or remote, must have started."""


def test_the_panel_lists_the_local_cluster_and_says_that_no_session_runs(workbench):
    panel = workbench.open_panel()
    row = panel.locator('[data-cluster="local"]')
    expect(row).to_contain_text("ready", timeout=SLOW)
    expect(row).to_contain_text(re.compile("CPU only|GPU"))
    expect(row).to_contain_text("this machine")
    expect(panel).to_contain_text("Open a notebook to choose where its %%remote_gpu cells run.")


def test_a_cell_runs_on_the_chosen_cluster_and_its_session_is_stopped_from_the_panel(workbench, lab, wait_until):
    panel = workbench.open_panel()
    notebook = workbench.new_notebook()
    choice = panel.get_by_label("Cluster for the remote cells of this notebook")
    choice.select_option("local")
    expect(panel.locator('[data-cluster="local"]')).to_have_attribute("data-chosen", "true")
    assert lab.get(f"remote-gpu/choice?notebook={notebook}")["cluster"] == "local"

    workbench.run("%load_ext remote_gpu")
    cell = workbench.run("%%remote_gpu\nimport os\nprint('the answer is', 6 * 7)\nos.getpid()")
    badge = cell.locator(".jp-RemoteGpu-badge")
    expect(badge).to_have_attribute("data-state", "done", timeout=SLOW)
    expect(badge).to_contain_text("local")
    expect(badge).to_contain_text("complete")
    expect(cell.locator(".jp-OutputArea-output", has_text="the answer is 42")).to_have_count(1)

    (session,) = [session for session in lab.sessions() if session["notebook"] == notebook]
    row = panel.locator(f'[data-session="{session["name"]}"]')
    expect(row).to_contain_text("idle")
    expect(row).to_contain_text("local")

    row.get_by_role("button", name="Stop the session").click()
    expect(row.get_by_role("button", name="Keep")).to_be_focused()
    workbench.page.keyboard.press("Escape")
    expect(row.get_by_role("button", name="Keep")).to_have_count(0)

    row.get_by_role("button", name="Stop the session").click()
    row.get_by_role("button", name="Stop", exact=True).click()
    live = ("pending", "running")
    assert wait_until(lambda: session["id"] not in [other["id"] for other in lab.sessions() if other["state"] in live], 20)
    expect(panel.locator(f'[data-session="{session["name"]}"] button:enabled', has_text="Stop")).to_have_count(0)


def test_a_failing_remote_cell_shows_the_remote_traceback_and_a_badge_that_says_failed(workbench):
    workbench.new_notebook()
    workbench.run("%load_ext remote_gpu")
    cell = workbench.run("%%remote_gpu\nvalue = 0\n1 / value")
    expect(cell.locator(".jp-RemoteGpu-badge")).to_have_attribute("data-state", "failed", timeout=SLOW)
    expect(cell.locator('[data-mime-type="application/vnd.jupyter.stderr"]')).to_contain_text("ZeroDivisionError")
    expect(cell.locator('[data-mime-type="application/vnd.jupyter.stderr"]')).to_contain_text("1 / value")


def test_the_badge_says_what_crossed_and_what_did_not(workbench):
    workbench.new_notebook()
    workbench.run("%load_ext remote_gpu")
    workbench.run("import sys; numbers, log = [1, 2, 3], open(sys.executable)")
    cell = workbench.run("%%remote_gpu\ntotal, there = sum(numbers), lambda: 0\nlog = None if 'log' not in dir() else log")
    badge = cell.locator(".jp-RemoteGpu-badge")
    expect(badge).to_contain_text("↑ 1", timeout=SLOW)
    expect(badge).to_contain_text("1 handle")
    expect(badge).to_have_attribute("title", re.compile("sent numbers"))
    expect(badge.locator(".jp-RemoteGpu-badge-note")).to_contain_text("log stays here")


def test_the_panel_interrupts_a_running_cell_and_the_session_keeps_its_variables(workbench):
    panel = workbench.open_panel()
    workbench.new_notebook()
    workbench.run("%load_ext remote_gpu")
    cell = workbench.run("%%remote_gpu\nimport time\nkept = 5\nprint('begun', flush=True)\ntime.sleep(600)")
    expect(cell).to_contain_text("begun", timeout=SLOW)
    row = panel.locator("[data-session]", has_text="running")
    row.get_by_role("button", name="Interrupt the running cell").click()
    expect(cell.locator(".jp-RemoteGpu-badge")).to_have_attribute("data-state", "interrupted", timeout=SLOW)
    after = workbench.run("%%remote_gpu\nprint('kept is', kept)")
    expect(after).to_contain_text("kept is 5", timeout=SLOW)


def test_a_remote_kernel_from_the_launcher_is_a_notebooks_own_kernel(workbench):
    page, panel = workbench.page, workbench.open_panel()
    page.locator('.jp-LauncherCard[data-category="Notebook"]', has_text="Remote GPU: local").click()
    page.wait_for_function("() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", timeout=SLOW)
    cell = workbench.run("import os\nprint('supervised by', 'JPY_PARENT_PID' not in os.environ)")
    expect(cell).to_contain_text("supervised by", timeout=SLOW)
    expect(panel).to_contain_text("The kernel of this notebook runs on local itself: every cell is remote.")


def test_the_commands_are_in_the_palette(workbench):
    commands = workbench.page.evaluate("() => window.jupyterapp.commands.listCommands().filter(id => id.startsWith('remote-gpu:'))")
    assert sorted(commands) == sorted(
        f"remote-gpu:{name}" for name in ("open-panel", "refresh", "stop-session", "interrupt-session", "restart-session")
    )
    workbench.page.evaluate("() => window.jupyterapp.commands.execute('remote-gpu:open-panel')")
    expect(workbench.panel).to_be_visible()
