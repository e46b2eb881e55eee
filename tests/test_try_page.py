"""try.html, the page in a bundle that runs the net in a browser."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from playwright.sync_api import Browser, Page, Route, expect

from export import try_page
from export.parity import Float32
from tests.runtimes import TYPES, WEB, needed

ROOT = Path(__file__).parent.parent

Visit = Callable[[bytes], Page]


class Net(NamedTuple):
    """What a page is made of."""

    described: dict[str, Any]
    onnx: bytes

    @property
    def page(self) -> bytes:
        return try_page.render(*self)

    @property
    def x(self) -> Float32:
        return np.array(self.described["sample"]["x"], np.float32)

    @property
    def y(self) -> Float32:
        return np.array(self.described["sample"]["y"], np.float32)

    def predict(self, x: list[float]) -> Float32:
        session = onnxruntime.InferenceSession(self.onnx, providers=["CPUExecutionProvider"])
        y: Float32 = session.run(["y"], {"x": np.array([x], dtype=np.float32)})[0][0]
        return y


def shipped(name: str) -> Net:
    folder = ROOT / "checkpoints" / name
    return Net(json.loads((folder / "manifest.json").read_bytes()), (folder / "net.onnx").read_bytes())


def linear(inputs: int, outputs: int) -> Net:
    """A net y = x W of a kind that no lesson has."""
    weight = np.arange(inputs * outputs, dtype=np.float32).reshape(inputs, outputs)
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in (("x", inputs), ("y", outputs))
    ]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "linear", ports[:1], ports[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    described = shipped("regression").described
    ranges = {"trained_from": [-1.0] * inputs, "trained_to": [1.0] * inputs}
    described["inputs"][0] |= {"features": [f"in {index}" for index in range(inputs)], **ranges}
    described["outputs"][0] |= {"features": [f"out {index}" for index in range(outputs)]}
    x = np.linspace(-1, 1, 4 * inputs, dtype=np.float32).reshape(4, inputs)
    tolerance = np.full((4, outputs), 1e-6)
    described["sample"] = {"x": x.tolist(), "y": (x @ weight).tolist(), "tolerance": tolerance.tolist()}
    return Net(described, model.SerializeToString())


@pytest.fixture
def regression() -> Net:
    return shipped("regression")


@pytest.fixture(params=["regression", "classification"])
def net(request: pytest.FixtureRequest) -> Net:
    return shipped(request.param)


@pytest.fixture(scope="session")
def web() -> Path:
    """The runtime's files, as the CDN serves them."""
    needed(WEB, "onnxruntime-web")
    return WEB


@pytest.fixture
def visit(browser: Browser, tmp_path: Path, web: Path) -> Iterator[Visit]:
    """visit(content): the page, ready, opened from a file. Fails on any error in it and on requests elsewhere."""
    problems: list[str] = []
    context = browser.new_context(viewport={"width": 390, "height": 844})
    file = tmp_path / "try.html"

    def opened(content: bytes) -> Page:
        file.write_bytes(content)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.goto(file.as_uri())
        expect(page.locator("html")).to_have_attribute("data-state", "ready")
        return page

    context.on("request", lambda request: problems.extend(elsewhere(request.url, file)))
    context.route(try_page.RUNTIME + "**", lambda route: serve(route, web))
    yield opened
    context.close()
    assert problems == []


def serve(route: Route, web: Path, altered: str = "") -> None:
    """Answer as the CDN does; the file named `altered` comes with a byte more."""
    name = route.request.url.removeprefix(try_page.RUNTIME)
    body = (web / name).read_bytes() + (b"\n" if name == altered else b"")
    headers = {"Access-Control-Allow-Origin": "*"}
    route.fulfill(body=body, content_type=TYPES[Path(name).suffix], headers=headers)


def elsewhere(url: str, file: Path) -> list[str]:
    known = (file.as_uri(), try_page.RUNTIME, "data:")
    return [] if url.startswith(known) else [f"asked elsewhere: {url}"]


def data(page: Page, name: str) -> Any:
    return json.loads(page.locator("html").get_attribute(f"data-{name}") or "null")


class Parser(HTMLParser):
    """The elements of a page, in order, and what its data element says."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.inside = False
        self.data = ""
        self.feed(content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.inside = ("id", "net") in attrs

    def handle_data(self, data: str) -> None:
        self.data += data if self.inside else ""


def test_the_page_holds_the_very_bytes_of_the_net_and_of_torchs_outputs(net: Net) -> None:
    held = json.loads(Parser(net.page).data)
    assert base64.b64decode(held["onnx"]) == net.onnx
    assert np.array_equal(np.array(held["golden"]["y"], dtype=np.float32), net.y)


def test_integrity_is_that_of_the_npm_files(web: Path) -> None:
    assert json.loads((web.parent / "package.json").read_bytes())["version"] == try_page.ONNXRUNTIME_WEB
    for name, value in try_page.INTEGRITY.items():
        digest = hashlib.sha384((web / name).read_bytes()).digest()
        assert value == f"sha384-{base64.b64encode(digest).decode()}", name


def hostile(net: Net) -> Net:
    text = "</script><script>alert(1)</script><!--@@data"
    inputs = [{**net.described["inputs"][0], "features": [text], "unit": text}]
    outputs = [{**net.described["outputs"][0], "features": [text], "unit": text}]
    names = {"title": text, "net": text, "nets": [text, "b"], "task": text}
    return net._replace(described={**net.described, **names, "inputs": inputs, "outputs": outputs})


def test_names_are_text_whatever_they_say(regression: Net) -> None:
    bad = hostile(regression)
    assert Parser(bad.page).elements == Parser(regression.page).elements
    assert json.loads(Parser(bad.page).data)["inputs"]["features"] == bad.described["inputs"][0]["features"]


def test_hostile_names_are_shown_and_not_run(visit: Visit, regression: Net) -> None:
    page = visit(hostile(regression).page)
    expect(page.locator("label")).to_have_text("</script><script>alert(1)</script><!--@@data")


def test_the_browser_agrees_with_torch_on_every_recorded_input(visit: Visit, net: Net) -> None:
    page = visit(net.page)
    assert data(page, "difference") < 1e-5
    expect(page.get_by_role("status")).to_contain_text("agree with torch's on all 17 recorded inputs")


def test_a_script_that_is_put_in_does_not_run(browser: Browser, regression: Net, tmp_path: Path) -> None:
    (tmp_path / "try.html").write_bytes(regression.page)
    context = browser.new_context()
    page = context.new_page()
    page.goto((tmp_path / "try.html").as_uri())
    refusals: list[str] = []
    page.on("console", lambda message: refusals.append(message.text))
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'ran = 1'}))")
    assert page.evaluate("typeof ran") == "undefined"
    assert any("Content Security Policy" in text for text in refusals)
    context.close()


def test_a_net_that_disagrees_is_warned_of(visit: Visit, regression: Net) -> None:
    model = onnx.load_model_from_string(regression.onnx)
    for tensor in model.graph.initializer:  # as small a fault as is made in earnest
        half = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    page = visit(regression._replace(onnx=model.SerializeToString()).page)
    expect(page.get_by_role("status")).to_contain_text("Warning: this browser's outputs differ from torch's by up to")


@pytest.mark.parametrize("widget", ["slider-0", "box-0"])
def test_a_moved_input_shows_what_onnxruntime_says(visit: Visit, net: Net, widget: str) -> None:
    page = visit(net.page)
    before = page.locator("html").get_attribute("data-y") or ""
    page.locator(f"#{widget}").fill("0.5")
    expect(page.locator("html")).not_to_have_attribute("data-y", before)
    assert data(page, "x")[0] == 0.5
    assert np.abs(net.predict(data(page, "x")) - data(page, "y")).max() < 1e-5
    expect(page.locator("#beside")).to_contain_text("Torch recorded no output")


def test_the_answer_names_the_class_and_its_probability(visit: Visit) -> None:
    net = shipped("classification")
    page = visit(net.page)
    powers = np.exp(net.y[0])
    share = 100 * powers.max() / powers.sum()
    expect(page.locator("#answer")).to_have_text(f"{net.described['classes'][net.y[0].argmax()]}, {share:.1f} %")


def test_a_row_sets_the_inputs_and_shows_torchs_output(visit: Visit, net: Net) -> None:
    page = visit(net.page)
    page.get_by_role("button", name="recorded input 5").press("Enter")
    expect(page.locator("#beside")).to_contain_text("Recorded input 5")
    assert data(page, "x") == net.x[4].tolist()
    assert page.locator("#outputs td:nth-child(3)").all_text_contents() == [str(value) for value in net.y[4]]


def test_a_click_on_the_picture_moves_the_inputs_there(visit: Visit, net: Net) -> None:
    page = visit(net.page)
    before = page.locator("html").get_attribute("data-x") or ""
    page.locator("canvas").click(position={"x": 150, "y": 100})
    expect(page.locator("html")).not_to_have_attribute("data-x", before)
    assert np.abs(net.predict(data(page, "x")) - data(page, "y")).max() < 1e-5


def test_inputs_beyond_the_training_are_taken_and_called_a_guess(visit: Visit, regression: Net) -> None:
    page = visit(regression.page)
    page.locator("#box-0").fill("40")
    expect(page.locator("#beside")).to_contain_text("guess")
    assert data(page, "x") == [40]


def test_a_net_of_several_outputs_has_a_curve_for_each(visit: Visit) -> None:
    page = visit(linear(1, 3).page)
    expect(page.locator("figcaption")).to_contain_text("out 2, this browser")
    expect(page.locator("#answer")).to_have_text("out 0 = 0, out 1 = -1, out 2 = -2")


def test_a_net_of_three_inputs_has_no_picture(visit: Visit) -> None:
    page = visit(linear(3, 1).page)
    expect(page.get_by_role("slider")).to_have_count(3)
    expect(page.locator("canvas")).to_be_hidden()


def test_a_phone_does_not_scroll_sideways(visit: Visit, net: Net) -> None:
    assert visit(net.page).evaluate("document.documentElement.scrollWidth") == 390


def test_without_the_network_the_page_says_how_to_go_on(browser: Browser, tmp_path: Path, net: Net) -> None:
    file = tmp_path / "try.html"
    file.write_bytes(net.page)
    with browser.new_context() as context:
        context.route(try_page.RUNTIME + "**", lambda route: route.abort())
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(file.as_uri())
        expect(page.locator("html")).to_have_attribute("data-state", "failed")
        expect(page.get_by_role("status")).to_contain_text("could not be loaded")
        expect(page.get_by_role("status")).to_contain_text("README.md")
        expect(page.locator("#recorded tbody tr")).to_have_count(17)
        expect(page.get_by_role("slider").first).to_be_disabled()
        assert errors == []


@pytest.mark.parametrize("name", try_page.INTEGRITY)
def test_a_runtime_of_other_bytes_is_not_run(
    browser: Browser, tmp_path: Path, web: Path, regression: Net, name: str
) -> None:
    file = tmp_path / "try.html"
    file.write_bytes(regression.page)
    with browser.new_context() as context:
        context.route(try_page.RUNTIME + "**", lambda route: serve(route, web, altered=name))
        page = context.new_page()
        with page.expect_response(try_page.RUNTIME + name):
            page.goto(file.as_uri())
        expect(page.locator("html")).to_have_attribute("data-state", "failed")
