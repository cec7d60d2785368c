"""Widgets of remote cells, by a client that plays the frontend: the same traffic as from a plain local kernel, and all that is ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.fakes.frontend import Frontend, traffic
from tests.fakes.notebook import Notebook

pytestmark = [pytest.mark.shared_places, pytest.mark.slow, pytest.mark.timeout(300)]

LOAD = "%load_ext remote_gpu"


@pytest.fixture(scope="module")
def remote(module_places) -> Iterator[Frontend]:
    with Notebook(LOAD, "%remote_gpu start") as notebook:  # a start that takes its time says so, which is no widget's traffic
        yield Frontend(notebook, "%%remote_gpu\n")
        for line in notebook.run("%remote_gpu sessions").text.splitlines()[1:]:
            notebook.run(f"%remote_gpu stop {line.split()[-1]}")


@pytest.fixture(scope="module")
def local(module_places) -> Iterator[Frontend]:
    with Notebook() as notebook:
        yield Frontend(notebook, "# as long as a magic's line\n")


def _slider(front: Frontend) -> Any:
    cell = front.run(
        "import ipywidgets\nslider = ipywidgets.IntSlider(value=3, max=10)\n"
        "slider.observe(lambda change: print('moved to', change['new'], flush=True), 'value')\nslider"
    )
    slider = front.model("IntSliderModel")
    return [cell.messages, front.set(slider, value=5), front.set(slider, value=50), front.run("slider.value = 7").messages]


def _interact(front: Frontend) -> Any:
    code = """
import ipywidgets
def show(n, word='a'):
    if n == 3: raise ValueError('three')
    print(word * n, flush=True)
    return n
ipywidgets.interact(show, n=(0, 9), word=['a', 'b'])"""
    cell = front.run(code)
    slider = front.model("IntSliderModel")
    return [cell.messages, front.set(slider, value=6), front.set(slider, value=3), front.set(front.model("DropdownModel"), index=1)]


def _output(front: Frontend) -> Any:
    code = """
import ipywidgets
from IPython.display import clear_output, display, HTML
out = ipywidgets.Output()
button = ipywidgets.Button(description='go')
@out.capture(clear_output=True)
def clicked(_):
    print('clicked', flush=True)
    display(HTML('<b>bold</b>'))
    raise KeyError('in a callback')
button.on_click(clicked)
display(button, out)
with out:
    print('one')
    out.clear_output(wait=True)
    print('two')
    clear_output()
print('outside')
with out: 1 / 0
out.append_stdout('appended')"""
    cell = front.run(code)
    return [cell.messages, front.click(front.model("ButtonModel")), front.run("out.clear_output()\nprint('after')").messages]


def _links(front: Frontend) -> Any:
    code = """
import ipywidgets
a, b, c = ipywidgets.IntSlider(), ipywidgets.IntText(), ipywidgets.IntProgress()
front, back = ipywidgets.jslink((a, 'value'), (b, 'value')), ipywidgets.link((b, 'value'), (c, 'value'))
ipywidgets.VBox([a, b, c])"""
    cell = front.run(code)
    slider, number = front.model("IntSliderModel"), front.model("IntTextModel")
    moved = [front.set(slider, value=4), front.set(number, value=4)]  # the frontend moves both
    return [cell.messages, *moved, front.run("front.unlink(); print(a.value, b.value, c.value)").messages]


def _upload(front: Frontend) -> Any:
    code = """
import hashlib, ipywidgets
upload = ipywidgets.FileUpload(multiple=True)
def seen(change):
    for file in change['new']: print(file['name'], file['size'], hashlib.sha256(file['content']).hexdigest(), flush=True)
upload.observe(seen, 'value')
upload"""
    cell = front.run(code)
    data = [bytes(range(256)) * 8192, b"\x00\xff"]
    files = [
        {"name": f"f{n}.bin", "type": "application/octet-stream", "size": len(each), "last_modified": 1700000000000}
        for n, each in enumerate(data)
    ]
    comm_id = front.model("FileUploadModel")
    return [cell.messages, front.set(comm_id, data, [["value", 0, "content"], ["value", 1, "content"]], value=files)]


def _image(front: Frontend) -> Any:
    code = "import ipywidgets\nimage = ipywidgets.Image(value=bytes(range(256)) * 1000, format='png')\nimage"
    return [front.run(code).messages, front.run("image.value = b'\\xff' * 70000").messages]


def _bars(front: Frontend) -> Any:
    code = """
from tqdm.notebook import tqdm
for n in tqdm(range(3), desc='outer', bar_format='{l_bar}{bar}{n}/{total}', mininterval=0):
    for m in tqdm(range(2), leave=False, bar_format='{n}', mininterval=0): pass
print('done')"""
    return [front.run(code).messages]


def _progress(front: Frontend) -> Any:
    code = """
from rich.progress import BarColumn, Progress, TextColumn
with Progress(TextColumn('{task.description}'), BarColumn(), auto_refresh=False) as progress:
    task = progress.add_task('work', total=3)
    for _ in range(3): progress.update(task, advance=1, refresh=True)"""
    return [front.run(code).messages]


def _closing(front: Frontend) -> Any:
    made = front.run("import ipywidgets\nbox = ipywidgets.HBox([ipywidgets.Text('x'), ipywidgets.Checkbox()])\nbox").messages
    closed = front.run("box.children[0].close()").messages
    front.done(front.send("comm_close", {"comm_id": front.model("CheckboxModel"), "data": {}}))
    return [made, closed, front.run("assert box.children[1].comm._closed\nipywidgets.Widget.close_all()").messages]


def _figure(front: Frontend) -> Any:
    code = """
import numpy, plotly.graph_objects
figure = plotly.graph_objects.FigureWidget([plotly.graph_objects.Scatter(y=numpy.arange(2000.0), uid='u1')])
figure.layout.on_change(lambda layout, range: print('range', range, flush=True), 'xaxis.range')
figure"""
    cell = front.run(code)
    changed = front.run("figure.data[0].y = numpy.linspace(0, 1, 1500)\nfigure.add_bar(y=[1, 2], uid='u2')").messages
    relayout = {"relayout_data": {"xaxis.range[0]": 1, "xaxis.range[1]": 5}, "source_view_id": None}
    return [cell.messages, changed, front.set(front.model("AnyModel"), _js2py_relayout=relayout)]


def _canvas(front: Frontend) -> Any:
    code = """
%matplotlib widget
import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(3, 2))
axes.plot([1, 3, 2])
figure.canvas.mpl_connect('button_press_event', lambda event: print('pressed', round(event.x), round(event.y), flush=True))
figure.canvas"""
    cell = front.run(code)
    canvas = front.model("MPLCanvasModel")

    def custom(**content: Any) -> list[dict[str, Any]]:
        return front.say(canvas, {"method": "custom", "content": content})

    said = [
        custom(type="send_image_mode"),
        custom(type="set_device_pixel_ratio", device_pixel_ratio=1),
        custom(type="refresh"),
        custom(type="draw"),
    ]
    event = {"x": 40, "y": 30, "button": 0, "buttons": 1, "modifiers": [], "guiEvent": {}, "step": 1}
    said.append(custom(type="button_press", **event))
    return [cell.messages, *said, front.run("axes.set_title('changed'); figure.canvas.draw_idle(); plt.close(figure)").messages]


def _anywidget(front: Frontend) -> Any:
    code = """
import anywidget, traitlets
class Own(anywidget.AnyWidget):
    _esm = 'export default { render({ model, el }) { el.textContent = model.get("count") } }'
    count = traitlets.Int(0).tag(sync=True)
    blob = traitlets.Bytes(b'').tag(sync=True)
    quiet = traitlets.Int(0).tag(sync=True, echo_update=False)
own = Own(count=2, blob=b'abc')
def answer(widget, content, buffers):
    print(content, [bytes(each) for each in buffers], flush=True)
    widget.send({'answer': content}, buffers=[bytes(each)[::-1] for each in buffers])
own.on_msg(answer)
own"""
    cell = front.run(code)
    comm_id = front.model("AnyModel")
    said = front.say(comm_id, {"method": "custom", "content": {"hello": 1}}, [b"\x00\x01\x02", b"xyz"])
    return [
        cell.messages,
        said,
        front.set(comm_id, [b"new"], [["blob"]], count=3, quiet=4),
        front.run("print(own.blob, own.quiet)").messages,
    ]


def _comms(front: Frontend) -> Any:
    code = """
import comm
def echo(channel, message):
    channel.on_msg(lambda message: channel.send({'echo': message['content']['data']}, buffers=message['buffers']))
    channel.on_close(lambda message: print('closed', message['content']['data']))
    channel.send({'opened': message['content']['data']}, buffers=message['buffers'])
comm.get_comm_manager().register_target('echo', echo)
own = comm.create_comm(target_name='for the frontend', data={'a': 1}, buffers=[b'binary'])
own.on_msg(lambda message: print('heard', message['content']['data']))"""
    cell = front.run(code)
    own = next(each for each in reversed(front.heard) if each["msg_type"] == "comm_open")["content"]["comm_id"]
    opened = front.done(front.send("comm_open", {"comm_id": "there", "target_name": "echo", "data": {"n": 1}}, [b"up"]))
    refused = front.done(front.send("comm_open", {"comm_id": "nowhere", "target_name": "nobody knows", "data": {}}))
    said = [front.say("there", {"n": 2}, [b"\x00" * 100_000]), front.say(own, {"b": 2})]
    closed = front.done(front.send("comm_close", {"comm_id": "there", "data": {"why": "enough"}}))
    return [cell.messages, opened, refused, *said, closed, front.run("own.close({'bye': 1})").messages]


CASES = [_slider, _interact, _output, _links, _upload, _image, _bars, _progress, _closing, _figure, _canvas, _anywidget, _comms]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__.strip("_"))
def test_a_remote_kernel_and_the_frontend_say_what_a_local_one_says(case: Callable[[Frontend], Any], local, remote):
    there, here = case(remote), case(local)
    for n, (one, other) in enumerate(zip(there, here, strict=True)):
        assert traffic(one) == traffic(other), f"step {n}"
