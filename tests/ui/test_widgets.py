"""Remote widgets in JupyterLab, in a real browser: a slider both ways, beside a local one, through a reload and a cut."""

from __future__ import annotations

import os
import re
import signal

import pytest
from playwright.sync_api import Locator, expect

pytestmark = [pytest.mark.shared_places, pytest.mark.slow, pytest.mark.timeout(300)]

SLOW = 60_000
"""The time in ms within which a kernel, local or remote, must have started."""

SLIDER = """import ipywidgets
{name} = ipywidgets.IntSlider(value=3, description={name!r})
{name}_said = ipywidgets.Output()
def moved(change):
    with {name}_said:
        print({name!r}, 'is', change['new'])
{name}.observe(moved, 'value')
ipywidgets.VBox([{name}, {name}_said])"""


def _step(cell: Locator, times: int = 1) -> None:
    """Move a cell's slider by the keyboard."""
    handle = cell.locator(".noUi-handle")
    expect(handle).to_be_visible(timeout=SLOW)
    handle.focus()
    for _ in range(times):
        handle.press("ArrowRight")


def _remote(source: str) -> str:
    return f"%%remote_gpu\n{source}"


def _save(workbench) -> None:
    workbench.page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.context.save(); }")


def _reload(workbench, path: str) -> None:
    page = workbench.page
    page.reload()
    page.wait_for_function("() => window.jupyterapp !== undefined", timeout=SLOW)
    page.evaluate("async () => { await window.jupyterapp.restored; }")
    page.evaluate("async path => { await window.jupyterapp.commands.execute('docmanager:open', {path}); }", path)
    ready = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
    page.wait_for_function(ready, timeout=SLOW)


def _cell(workbench, at: int) -> Locator:
    return workbench.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell").nth(at)


def test_a_remote_slider_moves_the_remote_value_and_its_output_follows(workbench):
    workbench.new_notebook()
    workbench.run("%load_ext remote_gpu")
    cell = workbench.run(_remote(SLIDER.format(name="far")))
    _step(cell)
    expect(cell).to_contain_text("far is 4", timeout=SLOW)
    told = workbench.run(_remote("print('its value is', far.value)\nfar.value = 40"))
    expect(told).to_contain_text("its value is 4", timeout=SLOW)
    expect(cell.locator(".widget-readout")).to_have_text("40", timeout=SLOW)


def test_a_reload_keeps_local_and_remote_widgets_alive_side_by_side(workbench):
    path = workbench.new_notebook()
    workbench.run("%load_ext remote_gpu")
    far = workbench.run(_remote(SLIDER.format(name="far")))
    near = workbench.run(SLIDER.format(name="near"))
    _step(far)
    _step(near)
    expect(far).to_contain_text("far is 4", timeout=SLOW)
    expect(near).to_contain_text("near is 4", timeout=SLOW)
    _save(workbench)

    _reload(workbench, path)
    far, near = _cell(workbench, 1), _cell(workbench, 2)
    expect(far.locator(".widget-readout")).to_have_text("4", timeout=SLOW)
    expect(near.locator(".widget-readout")).to_have_text("4", timeout=SLOW)
    _step(far)
    _step(near)
    expect(far).to_contain_text("far is 5", timeout=SLOW)
    expect(near).to_contain_text("near is 5", timeout=SLOW)
    told = workbench.run(_remote("print('it is', far.value)"))
    expect(told).to_contain_text("it is 5", timeout=SLOW)


def test_a_remote_slider_survives_cuts_of_the_link(workbench, lab):
    workbench.new_notebook()
    workbench.run("%load_ext remote_gpu")
    cell = workbench.run(_remote(SLIDER.format(name="far")))
    _step(cell)
    expect(cell).to_contain_text("far is 4", timeout=SLOW)
    for value in (5, 6, 7):
        _cut(lab)
        _step(cell)
        expect(cell).to_contain_text(f"far is {value}", timeout=SLOW)


def _cut(lab) -> None:
    """Kill the attach processes that belong to this test's folders."""
    needle, killed = os.fsencode(lab.root.parent), 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as line, open(f"/proc/{pid}/environ", "rb") as environment:
                said = line.read()
                mine = needle in said or needle in environment.read()
        except OSError:
            continue
        if mine and b"\0attach\0" in said:
            os.kill(int(pid), signal.SIGKILL)
            killed += 1
    assert killed, "no attach process was found"


def test_tqdm_and_interact_show_and_end_in_the_notebook(workbench):
    workbench.new_notebook()
    workbench.run("%load_ext remote_gpu")
    bar = workbench.run(_remote("from tqdm.notebook import tqdm\nfor n in tqdm(range(5), desc='steps'): pass\nprint('over')"))
    expect(bar).to_contain_text("over", timeout=SLOW)
    expect(bar.locator(".jupyter-widgets")).not_to_have_count(0)
    expect(bar).to_contain_text(re.compile("steps.*5/5"))
    cell = workbench.run(_remote("import ipywidgets\nipywidgets.interact(lambda n: 'n' * n, n=(0, 9));"))
    expect(cell).to_contain_text("'nnnn'", timeout=SLOW)
    _step(cell)
    expect(cell).to_contain_text("'nnnnn'", timeout=SLOW)


def test_plotly_and_ipympl_draw_and_answer_the_mouse(workbench):
    workbench.new_notebook()
    workbench.run("%load_ext remote_gpu")
    plot = workbench.run(_remote("import plotly.graph_objects as go\nfigure = go.FigureWidget([go.Scatter(y=[1, 3, 2])])\nfigure"))
    expect(plot.locator(".scatterlayer .trace path.js-line")).to_have_count(1, timeout=SLOW)
    told = workbench.run(_remote("figure.add_scatter(y=[2, 2, 2]); print('added')"))
    expect(told).to_contain_text("added", timeout=SLOW)
    expect(plot.locator(".scatterlayer .trace path.js-line")).to_have_count(2, timeout=SLOW)

    code = """%matplotlib widget
import ipywidgets, matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(3, 2))
axes.plot([1, 3, 2])
said = ipywidgets.Output()
@said.capture()
def pressed(event): print('pressed inside', event.inaxes is axes)
figure.canvas.mpl_connect('button_press_event', pressed)
display(said)
figure.canvas"""
    cell = workbench.run(_remote(code))
    canvas = cell.locator(".jupyter-matplotlib-canvas-container canvas").first
    expect(canvas).to_be_visible(timeout=SLOW)
    painted = (
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(value => value > 0 && value < 255)"
    )
    canvas.evaluate_handle(
        f"async canvas => {{ const painted = {painted}; while (!painted(canvas)) await new Promise(requestAnimationFrame); }}"
    )
    cell.locator(".jupyter-matplotlib-canvas-container canvas").last.click()
    expect(cell).to_contain_text("pressed inside True", timeout=SLOW)
