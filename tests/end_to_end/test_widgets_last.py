"""Widgets of remote cells stay alive: through reloads, cuts, restarts and busy kernels, and beside local ones."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator

import pytest
from tests.contracts.cell import once
from tests.fakes.frontend import VIEW, Frontend, parent, text
from tests.fakes.notebook import Notebook

from remote_gpu.discovery import find_or_start_gateway, live_gateways

pytestmark = [pytest.mark.shared_places, pytest.mark.slow, pytest.mark.timeout(300)]

LOAD = "%load_ext remote_gpu"
SLIDER = (
    "import ipywidgets, threading\nslider = ipywidgets.IntSlider(value=3)\n"
    "slider.observe(lambda change: print('moved to', change['new']), 'value')\nslider"
)
BLOCKS = "import os, time\nprint('begun', flush=True)\nwhile not os.path.exists({go!r}): time.sleep(0.02)"


@pytest.fixture(scope="module")
def front(module_places) -> Iterator[Frontend]:
    with Notebook(LOAD) as notebook:
        yield Frontend(notebook, "%%remote_gpu\n")
        for line in notebook.run("%remote_gpu sessions").text.splitlines()[1:]:
            notebook.run(f"%remote_gpu stop {line.split()[-1]}")


@pytest.fixture
def go(module_places):
    """A file that ends a cell of `BLOCKS`."""
    return module_places.base / f"go-{uuid.uuid4().hex}"


def here(front: Frontend, code: str):
    cell = front.notebook.run(code)
    front.heard += cell.messages
    assert not cell.error, cell.traceback
    return cell


def test_a_reload_finds_the_remote_widgets_where_the_notebook_has_no_ipywidgets(front):
    here(front, "%%remote_gpu --no-sync\n" + SLIDER + "\nimage = ipywidgets.Image(value=bytes(1000) + b'end')")
    slider, image = front.model("IntSliderModel"), front.model("ImageModel")
    front.set(slider, value=8)
    states, binary = front.reload()
    assert states[slider]["state"]["value"] == 8
    assert (states[slider]["model_name"], states[slider]["model_module"]) == ("IntSliderModel", "@jupyter-widgets/controls")
    assert binary[image, "state", "value"] == bytes(1000) + b"end"
    assert front.comm_info()[slider] == {"target_name": "jupyter.widget"}
    assert here(front, "import sys; 'ipywidgets' in sys.modules").result == "False"


def test_a_reload_finds_local_and_remote_widgets_whichever_came_first(front):
    front.run(SLIDER)
    remote = front.model("IntSliderModel")
    here(front, "import ipywidgets\nmine = ipywidgets.FloatSlider(value=1.5)\npicture = ipywidgets.Image(value=b'local')")
    mine, picture = front.model("FloatSliderModel"), front.model("ImageModel")
    front.run("image = ipywidgets.Image(value=b'remote')\nimage")
    image = front.model("ImageModel")
    states, binary = front.reload()
    assert {remote, mine, picture, image} <= states.keys()
    assert (binary[picture, "state", "value"], binary[image, "state", "value"]) == (b"local", b"remote")
    front.set(mine, value=2.5)
    assert "moved to 6" in text(front.set(remote, value=6))
    assert here(front, "mine.value").result == "2.5"
    here(front, "mine.close()")
    front.run("image.close()")
    states, _ = front.reload()
    assert not {mine, image} & states.keys()
    assert {remote, picture} <= states.keys()


def test_a_reload_during_a_running_remote_cell_is_told_what_the_kernel_has_now(front, go):
    front.run(SLIDER)
    slider = front.model("IntSliderModel")
    asked = front.notebook.send(
        "%%remote_gpu\nwith slider.hold_sync():\n    slider.value = 77\n    " + BLOCKS.format(go=str(go)).replace("\n", "\n    ")
    )
    front.until(lambda each: "begun" in each["content"].get("text", ""))
    states = _beside(front, lambda: front.reload()[0])
    assert states[slider]["state"]["value"] == 77
    go.touch()
    front.done(asked)


def _beside(front: Frontend, action):
    """Do something on a subshell of the local kernel, as JupyterLab does with comms."""
    client = front.notebook.client
    request = client.session.msg("create_subshell_request", {})
    client.control_channel.send(request)
    subshell = client.get_control_msg(timeout=30)["content"]["subshell_id"]
    plain = client.session.msg_header

    def header(msg_type):
        return {**plain(msg_type), "subshell_id": subshell}

    client.session.msg_header = header
    try:
        return action()
    finally:
        client.session.msg_header = plain


def test_a_reload_while_the_remote_kernel_does_not_answer_is_told_what_it_last_said(front):
    front.run(SLIDER + "\nimport os; print('pid', os.getpid())\nimage = ipywidgets.Image(value=b'kept')")
    slider, image = front.model("IntSliderModel"), front.model("ImageModel")
    front.set(slider, value=9)
    pid = int(front.run("print(os.getpid())").text)
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        states, binary = front.reload()
        assert time.monotonic() - began < 4, "JupyterLab waits no longer"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert states[slider]["state"]["value"] == 9
    assert binary[image, "state", "value"] == b"kept"
    assert "moved to 10" in text(front.set(slider, value=10))


def test_widgets_work_while_a_remote_cell_runs(front, go):
    front.run(SLIDER + "\nslider.value = 4")
    slider = front.model("IntSliderModel")
    front.set(slider, value=5)
    asked = front.notebook.send("%%remote_gpu\n" + BLOCKS.format(go=str(go)))
    front.until(lambda each: "begun" in each["content"].get("text", ""))

    def move():
        front.set(slider, value=6)  # a local kernel, too, serves the first one only behind the cell
        return [front.set(slider, value=value) for value in (7, 8)]

    said = _beside(front, move)
    go.touch()
    front.done(asked)
    if "moved to 8" not in text(front.heard):
        front.until(lambda each: "moved to 8" in each["content"].get("text", ""))
    assert front.run("slider.value").result == "8"
    assert len(said) == 2


def test_what_a_long_callback_prints_comes_before_its_end(front):
    front.run(
        "import ipywidgets, time\nbutton = ipywidgets.Button()\nbutton.on_click(lambda _: [print(n, flush=True) or time.sleep(0.6) for n in range(4)])"
    )
    assert text(front.click(front.model("ButtonModel"))).split() == ["0", "1", "2", "3"]


def test_an_interrupt_ends_a_remote_callback_and_the_kernel_goes_on(front):
    front.run("button = ipywidgets.Button()\nbutton.on_click(lambda _: [print('in', flush=True), time.sleep(600)])")
    asked = front.send("comm_msg", {"comm_id": front.model("ButtonModel"), "data": {"method": "custom", "content": {"event": "click"}}})
    front.until(lambda each: "in" in each["content"].get("text", ""))
    front.notebook.manager.interrupt_kernel()
    front.done(asked)
    assert front.run("'on'").result == "'on'"


def test_a_callbacks_output_widget_shows_what_it_prints_and_the_record_stays_one(front):
    code = "out = ipywidgets.Output()\nout\n"
    cell = front.run(
        "import ipywidgets\nfrom IPython.display import clear_output\n"
        + code
        + "with out:\n    print('a')\n    clear_output()\n    print('b')"
    )
    records = [each for each in cell.messages if each["msg_type"] == "display_data"]
    assert len(records) == 1, "what is cleared is the Output, not the cell"
    button = "button = ipywidgets.Button()\n@button.on_click\ndef clicked(_):\n    with out: print('inside')"
    front.run(button)
    said = front.click(front.model("ButtonModel"))
    told = [each["content"]["data"]["state"].get("msg_id") for each in said if each["msg_type"] == "comm_msg"]
    assert told == [parent(said[0]), ""]


def test_a_widget_survives_a_cut_of_the_link(front):
    front.run(SLIDER)
    slider = front.model("IntSliderModel")
    for value in range(20, 25):
        _cut()
        front.set(slider, value=value)
        if f"moved to {value}" not in text(front.heard):
            front.until(lambda each, value=value: f"moved to {value}" in each["content"].get("text", ""))
    assert front.run("slider.value").result == "24"


def _cut() -> None:
    """Kill the attach processes of the gateways here."""
    gateways = {record.pid for record in live_gateways()}
    killed = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/cmdline", "rb") as line:
                mine = int(stat.read().rpartition(")")[2].split()[1]) in gateways
                attaches = b"\0attach\0" in line.read()
        except OSError:
            continue
        if mine and attaches:
            os.kill(int(pid), signal.SIGKILL)
            killed += 1
    assert killed, "no attach process was found"


def test_a_widget_survives_the_death_of_the_gateway(front):
    front.run(SLIDER)
    slider = front.model("IntSliderModel")
    os.kill(find_or_start_gateway().pid, signal.SIGKILL)
    assert "moved to 31" in text(front.set(slider, value=31))
    assert "moved to 32" in text(front.set(slider, value=32))
    assert front.run("slider.value").result == "32"


def test_widgets_of_a_session_are_shown_to_a_kernel_that_attaches_to_it(front):
    front.run(
        "import ipywidgets\n" + SLIDER + "\nbox = ipywidgets.VBox([slider])\nbox.children = [slider, ipywidgets.Image(value=b'early')]"
    )
    with Notebook(LOAD) as notebook:
        second = Frontend(notebook, "%%remote_gpu\n")
        name = notebook.run("%remote_gpu sessions").text.splitlines()[1].split()[-1]
        cell = here(second, f"%%remote_gpu --session {name}\nslider.value = 12\nslider")
        opened = [each["content"]["comm_id"] for each in cell.messages if each["msg_type"] == "comm_open"]
        slider, box, image = (second.model(f"{kind}Model") for kind in ("IntSlider", "VBox", "Image"))
        assert len(opened) == len(set(opened))
        assert opened.index(slider) < opened.index(box)
        assert opened.index(image) < opened.index(box)
        assert any(VIEW in bundle for bundle in cell.bundles())
        assert "moved to 13" in text(second.set(slider, value=13))
        assert second.reload()[0][slider]["state"]["value"] == 13
        front.run("slider.value = 14\nlater = ipywidgets.Text('later')")
        assert second.until(lambda each: each["msg_type"] == "comm_msg" and each["content"]["data"].get("state") == {"value": 14})
        second.until(lambda each: each["msg_type"] == "comm_open" and each["content"]["data"]["state"].get("value") == "later")
    assert front.run("slider.value").result == "14"


def test_attach_in_a_new_kernel_brings_the_widgets_of_all_cells(module_places, go):
    first = Notebook(LOAD)
    with first:
        one = Frontend(first, "%%remote_gpu --session kept\n")
        one.run(SLIDER)
        slider = one.model("IntSliderModel")
        blocks = "%%remote_gpu --session kept\nother = ipywidgets.IntText(value=1)\ndisplay(other)\n" + BLOCKS.format(go=str(go))
        with pytest.raises((AssertionError, RuntimeError)):
            first.run(blocks, when=once(lambda cell: "begun" in cell.text, first.kill), timeout=5)
    with Notebook(LOAD) as notebook:
        second = Frontend(notebook, "%%remote_gpu --session kept\n")
        go.touch()
        cell = here(second, "%remote_gpu attach kept")
        opened = [each["content"]["comm_id"] for each in cell.messages if each["msg_type"] == "comm_open"]
        assert opened.count(slider) == 1
        assert opened.count(second.model("IntTextModel")) == 1
        assert "moved to 2" in text(second.set(slider, value=2))
        assert second.run("slider.value").result == "2"
        notebook.run("%remote_gpu stop kept")


def test_a_restart_of_the_remote_kernel_closes_its_widgets(front):
    front.run(SLIDER)
    slider = front.model("IntSliderModel")
    restarted = here(front, "%remote_gpu restart")
    assert slider in [each["content"]["comm_id"] for each in front.notebook.comms if each["msg_type"] == "comm_close"]
    assert "new kernel" in restarted.text
    assert slider not in front.comm_info()
    assert slider not in front.reload()[0]


def test_unloading_closes_remote_widgets_and_leaves_the_local_ones(front):
    front.run(SLIDER)
    slider = front.model("IntSliderModel")
    here(front, "import ipywidgets\nmine = ipywidgets.FloatText()")
    here(front, "%unload_ext remote_gpu")
    assert slider not in front.comm_info()
    states, _ = front.reload()
    assert front.model("FloatTextModel") in states
    assert slider not in states
    here(front, LOAD)
