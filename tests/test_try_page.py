"""try.html, the page in a bundle that runs the net in a browser."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from playwright.sync_api import Browser, Page, Route, expect

from charts.text import LANGUAGES, Language
from export import graph, try_page
from export.parity import Float32
from export.try_words import MARKUP, SCRIPT
from tests.runtimes import TYPES, WEB, needed, node, on_node

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
    described = {**json.loads((folder / "manifest.json").read_bytes()), "language": "en"}
    return Net(described, (folder / "net.onnx").read_bytes())


def in_language(net: Net, language: Language) -> Net:
    return net._replace(described={**net.described, "language": language})


def linear(inputs: int, outputs: int, then: str = "Identity") -> Net:
    """A net y = x W of a kind that no lesson has; the operator `then` must leave numbers as they are."""
    weight = np.arange(inputs * outputs, dtype=np.float32).reshape(inputs, outputs)
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in (("x", inputs), ("y", outputs))
    ]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node(then, ["h"], ["y"])]
    made = helper.make_graph(nodes, "linear", ports[:1], ports[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
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
def visit(browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    """visit(content): the page, ready, opened from a file. Fails on any error in it and on any request."""
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
    context.route(re.compile("^https:"), lambda route: route.abort())
    yield opened
    context.close()
    assert problems == []


Ask = Callable[[bytes, str], Page]


@pytest.fixture
def ask(browser: Browser, tmp_path: Path, web: Path) -> Iterator[Ask]:
    """ask(content, altered): the page after its button is pressed, where the file named `altered` has a byte more.

    Where that is "all", there is no network. Fails on any error in the page, and on a request before that.
    """
    errors: list[str] = []
    requests: list[str] = []
    context = browser.new_context()
    context.on("request", lambda request: requests.append(request.url))

    def asked(content: bytes, altered: str) -> Page:
        (tmp_path / "try.html").write_bytes(content)
        context.route(
            re.compile("^https:"),
            lambda route: route.abort() if altered == "all" else serve(route, web, altered=altered),
        )
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((tmp_path / "try.html").as_uri())
        expect(page.locator("html")).to_have_attribute("data-state", re.compile("ready|missing"))
        assert [url for url in requests if url.startswith("http")] == []
        page.locator("#ask").press("Enter")
        expect(page.locator("html")).to_have_attribute(
            "data-opinion", re.compile("given|offline|broken"), timeout=60_000
        )
        assert all(url.startswith((try_page.RUNTIME, "file:", "data:")) for url in requests)
        return page

    yield asked
    context.close()
    assert errors == []


def serve(route: Route, web: Path, altered: str = "") -> None:
    """Answer as the CDN does; the file named `altered` comes with a byte more."""
    name = route.request.url.removeprefix(try_page.RUNTIME)
    body = (web / name).read_bytes() + (b"\n" if name == altered else b"")
    headers = {"Access-Control-Allow-Origin": "*"}
    route.fulfill(body=body, content_type=TYPES[Path(name).suffix], headers=headers)


def elsewhere(url: str, file: Path) -> list[str]:
    known = (file.as_uri(), "data:")
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


TEXT = "</script><script>alert(1)</script><!--@@data{0}{x}"


def hostile(net: Net, language: Language = "en") -> Net:
    """The page of a net whose names would all be markup."""
    ports = {
        key: [{**net.described[key][0], "features": [TEXT] * len(net.described[key][0]["features"]), "unit": TEXT}]
        for key in ("inputs", "outputs")
    }
    names = {"title": TEXT, "net": TEXT, "nets": [TEXT, "b"], "task": TEXT, "label": {"en": TEXT, "zh": TEXT}}
    classes = [TEXT for _ in net.described["classes"]]
    return in_language(net._replace(described={**net.described, **names, **ports, "classes": classes}), language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_are_text_whatever_they_say(net: Net, language: Language) -> None:
    bad = hostile(net, language)
    assert Parser(bad.page).elements == Parser(net.page).elements
    assert json.loads(Parser(bad.page).data)["inputs"]["features"] == bad.described["inputs"][0]["features"]


def test_hostile_names_are_shown_and_not_run(visit: Visit, net: Net) -> None:
    page = visit(hostile(net).page)
    expect(page.locator("label").first).to_have_text(TEXT)


def test_a_page_depends_on_nothing_but_its_net(net: Net) -> None:
    assert net.page == net.page
    assert b"\r" not in net.page


def test_both_languages_fill_in_the_same_values() -> None:
    for text in (*MARKUP.values(), *SCRIPT.values()):
        en, zh = (set(re.findall(r"{(\w+)}", each)) for each in (text.en, text.zh))
        assert en - {"article"} == zh, text


ENGLISH = re.compile(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}", re.IGNORECASE)  # three words in a row


def test_a_chinese_page_has_no_english_sentence(visit: Visit, net: Net) -> None:
    page = visit(in_language(net, "zh").page)
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    page.locator("#box-0").fill("abc")
    expect(page.get_by_role("alert")).to_contain_text("必须是数")
    shown = page.locator("body").inner_text()
    labels = page.locator("[aria-label]").evaluate_all("all => all.map((each) => each.ariaLabel)")
    assert ENGLISH.findall("\n".join([shown, page.title(), *labels]).replace("ONNX Runtime Web", "")) == []
    assert "与 torch 一致" in shown


def test_the_page_computes_every_operator_of_the_lessons_nets() -> None:
    assert graph.known_operators() <= try_page.OPERATORS


def of_operators(*nodes: onnx.NodeProto, **constants: Float32) -> bytes:
    """A net of x (batch, 3) that consists of these operators."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    made = helper.make_graph(nodes, "operators", [x], [y], tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def test_the_pages_operators_are_those_of_onnx() -> None:
    node = helper.make_node
    generator = np.random.default_rng(0)
    row, column, square = (generator.normal(size=size).astype(np.float32) for size in ((3,), (5, 1), (3, 3)))
    variance = np.abs(row)
    nets = {
        **{op: of_operators(node(op, ["x"], ["y"])) for op in ("Relu", "Sigmoid", "Tanh", "Softplus", "Identity")},
        **{op: of_operators(node(op, ["x"], ["y"], alpha=0.3)) for op in ("Elu", "LeakyRelu")},
        **{f"{op}, default": of_operators(node(op, ["x"], ["y"])) for op in ("Elu", "LeakyRelu")},
        **{f"{op} row": of_operators(node(op, ["x", "row"], ["y"]), row=row) for op in ("Add", "Sub", "Mul", "Div")},
        **{f"{op} column": of_operators(node(op, ["x", "c"], ["y"]), c=column) for op in ("Add", "Sub", "Mul", "Div")},
        "scalar": of_operators(node("Mul", ["s", "x"], ["y"]), s=np.array(2.5, np.float32)),
        "itself": of_operators(node("Mul", ["x", "x"], ["y"])),
        "Dropout": of_operators(node("Dropout", ["x"], ["y"])),
        "MatMul": of_operators(node("MatMul", ["x", "w"], ["y"]), w=square),
        "Gemm": of_operators(node("Gemm", ["x", "w"], ["y"], alpha=0.5), w=square),
        "Gemm, all": of_operators(node("Gemm", ["x", "w", "b"], ["y"], beta=2.0, transB=1), w=square, b=row),
        "BatchNormalization": of_operators(
            node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], epsilon=0.1), s=row, b=-row, m=row, v=variance
        ),
    }
    assert {name.split()[0].rstrip(",") for name in nets} - {"scalar", "itself"} == try_page.OPERATORS
    x = generator.normal(size=(5, 3)).astype(np.float32)
    x[0] = (np.inf, -np.inf, np.nan)
    found = on_node(nets, {name: {"x": x} for name in nets})
    for name, content in nets.items():
        with np.errstate(all="ignore"):
            wanted: Float32 = np.asarray(ReferenceEvaluator(content).run(None, {"x": x})[0])  # type: ignore[index]
        np.testing.assert_allclose(found[f"{name}/x"], wanted, rtol=3e-7, atol=1e-7, err_msg=name)


TYPED = {
    "0.5": 0.5,
    "0,5": 0.5,
    ",5": 0.5,
    "5,": 5,
    "-0,25": -0.25,
    "+1": 1,
    " 2 ": 2,
    "1e-3": 1e-3,
    "1,5E2": 150,
    "０．５": 0.5,
    "０，５": 0.5,
    "0。5": 0.5,
    "－１": -1,
    "−1": -1,
    "\u30003": 3,
    "0,125": 0.125,
    "1234,567": 1234.567,
    **dict.fromkeys(("", " ", "abc", "1,234", "1,234,567", "12,345.6", "1.234,5", "1 000", "1'000", "10⁵", "½")),
    **dict.fromkeys(("0x10", "1_000", "--1", "1e", ".", ",", "-", "NaN", "Infinity", "1e999", "1e39", "五", "1.2.3")),
}


def test_a_number_is_understood_as_it_is_typed_or_refused() -> None:
    parsed = json.loads(node(f"console.log(JSON.stringify({json.dumps([*TYPED])}.map(parse)))"))  # NaN is null there
    wanted = {each: None if value is None else float(np.float32(value)) for each, value in TYPED.items()}
    assert dict(zip(TYPED, parsed, strict=True)) == wanted


def test_the_browser_agrees_with_torch_on_every_recorded_input(visit: Visit, net: Net) -> None:
    page = visit(net.page)
    assert data(page, "difference") < 1e-5
    expect(page.locator("#status")).to_contain_text("agrees with torch on all 17 recorded inputs")


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
    expect(page.locator("#status")).to_contain_text("Warning: the outputs differ from torch's by up to")


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
    shares = [f"{100 * each:.1f} %" for each in powers / powers.sum()]
    assert page.locator("#shares li > :last-child").all_text_contents() == shares
    widths = page.locator("#shares .bar div").evaluate_all("bars => bars.map((bar) => parseFloat(bar.style.width))")
    assert widths == pytest.approx(100 * powers / powers.sum(), abs=0.01)


def test_a_row_sets_the_inputs_and_shows_torchs_output(visit: Visit, net: Net) -> None:
    page = visit(net.page)
    page.get_by_role("button", name="recorded input 5").press("Enter")
    expect(page.locator("#beside")).to_contain_text("Recorded input 5")
    assert data(page, "x") == net.x[4].tolist()
    assert page.locator("#outputs td:nth-child(3)").all_text_contents() == [str(value) for value in net.y[4]]


def test_a_number_that_is_none_is_refused_with_what_was_typed(visit: Visit, net: Net) -> None:
    page = visit(net.page)
    box = page.locator("#box-0")
    box.fill("1,234")
    expect(page.get_by_role("alert")).to_have_text(re.compile("^x.? must be a number such as .*, not “1,234”\\.$"))
    expect(box).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#answer")).to_have_text("–")
    expect(page.locator("#outputs tr")).to_have_count(0)
    assert data(page, "x") == net.x[0].tolist()
    box.press_sequentially("５")
    box.clear()
    box.press_sequentially("0,5")
    expect(page.get_by_role("alert")).to_be_hidden()
    assert data(page, "x")[0] == 0.5
    box.blur()
    expect(box).to_have_value("0.5")


def test_a_refused_number_is_not_forgotten_when_another_input_is_right(visit: Visit) -> None:
    page = visit(shipped("classification").page)
    page.locator("#box-0").fill("abc")
    page.locator("#box-1").fill("0,5")
    expect(page.get_by_role("alert")).to_contain_text("“abc”")
    expect(page.locator("#answer")).to_have_text("–")
    page.locator("#box-0").fill("-1")
    expect(page.get_by_role("alert")).to_be_hidden()
    assert data(page, "x") == [-1, 0.5]


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
    expect(page.locator("figcaption")).to_contain_text("out 2, this page")
    expect(page.locator("#answer")).to_have_text("out 0 = 0, out 1 = -1, out 2 = -2")


def test_a_net_of_three_inputs_has_no_picture(visit: Visit) -> None:
    page = visit(linear(3, 1).page)
    expect(page.get_by_role("slider")).to_have_count(3)
    expect(page.locator("canvas")).to_be_hidden()


def test_a_phone_does_not_scroll_sideways(visit: Visit, net: Net) -> None:
    assert visit(net.page).evaluate("document.documentElement.scrollWidth") == 390


FILES = [*try_page.INTEGRITY]


@pytest.mark.parametrize(
    "altered", ["all", FILES[0], *(pytest.param(each, marks=pytest.mark.long) for each in FILES[1:])]
)
def test_a_second_opinion_that_cannot_be_had_is_told_and_the_page_works_on(
    ask: Ask, regression: Net, altered: str
) -> None:
    page = ask(regression.page, altered)
    told = page.locator("#opinion")
    expect(told).to_contain_text("ONNX Runtime Web could not")
    if altered == "all":
        expect(told).to_contain_text("this device is offline, or something blocks that address")
    page.locator("#box-0").fill("0.5")
    assert np.abs(regression.predict([0.5]) - data(page, "y")).max() < 1e-5


def test_a_second_opinion_is_compared_with_torch_and_with_the_page(ask: Ask) -> None:
    page = ask(shipped("classification").page, "")
    told = page.locator("#opinion")
    expect(told).to_contain_text("ONNX Runtime Web agrees: on the 17 recorded inputs it is at most")
    expect(told).to_contain_text(page.locator("#answer").inner_text())


def test_a_net_that_the_page_cannot_compute_is_run_by_onnxruntime_web(ask: Ask) -> None:
    net = linear(1, 3, then="Floor")  # of whole numbers, as the recorded inputs of this net give
    net.described["sample"] |= {"x": [[1.0], [2.0]], "y": [[0.0, 1.0, 2.0], [0.0, 2.0, 4.0]]}
    net.described["sample"]["tolerance"] = [[1e-6] * 3] * 2
    page = ask(net.page, "")
    expect(page.locator("#status")).to_contain_text("Computed by ONNX Runtime Web. It agrees with torch on all 2")
    page.locator("#box-0").fill("3")
    expect(page.locator("#answer")).to_have_text("out 0 = 0, out 1 = 3, out 2 = 6")
