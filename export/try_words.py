"""Texts of try.html in both languages: MARKUP for its HTML, SCRIPT for its script."""

from charts.text import Text

MARKUP = {
    "try": Text("{title}: try the net", "{title}：试用网络"),
    "intro": Text(
        "{kind} net with {parameters} parameters. Move its inputs, and see its output beside the one that torch"
        " recorded. The page computes the net itself, also offline. Nothing that you enter leaves it.",
        "{kind}网络，{parameters} 个参数。调整输入，就能看到输出，并与 torch 记录下来的输出对照。"
        "网络由这个页面自己计算，不联网也能用。你输入的内容不会离开这个页面。",
    ),
    "needs": Text(
        "This page needs a current browser, with JavaScript.", "这个页面需要较新的浏览器，并启用 JavaScript。"
    ),
    "input": Text("Input", "输入"),
    "output": Text("Output", "输出"),
    "probability": Text("Probability of each class", "每个类别的概率"),
    "recorded": Text("Recorded by torch", "torch 的记录"),
    "recorded_says": Text(
        "Inputs and outputs that were written down at export, and what this page makes of the same inputs. The"
        " tolerance is what float32 rounding explains. Press a row to set the inputs to it.",
        "导出时记录下来的输入和输出，以及这个页面对同样输入的计算结果。容差是 float32 舍入能够解释的差别。"
        "按下某一行，就把输入设为那一行。",
    ),
    "row": Text("row", "行"),
    "difference": Text("difference", "差别"),
    "tolerance": Text("tolerance", "容差"),
    "torch": Text("torch", "torch"),
    "computed": Text("this page", "本页"),
    "opinion": Text("Second opinion", "另一个实现"),
    "opinion_says": Text(
        "ONNX Runtime Web is another implementation. The button fetches release {runtime} of it from cdn.jsdelivr.net,"
        " 14 MB or compressed about 4, and runs the net.onnx that this page holds. The browser refuses any other bytes"
        " than those of that release.",
        "ONNX Runtime Web 是另一个实现。按钮会从 cdn.jsdelivr.net 获取它的 {runtime} 版（14 MB，压缩后约 4 MB），"
        "运行这个页面里保存的 net.onnx。内容与该版本不一致的文件，浏览器会拒绝。",
    ),
    "ask": Text("Ask ONNX Runtime Web", "用 ONNX Runtime Web 计算"),
    "footer": Text(
        "This page holds the bytes of net.onnx, and asks the network for nothing until that button is pressed.",
        "这个页面包含 net.onnx 的全部内容；在按下那个按钮之前，不会访问网络。",
    ),
}

SCRIPT = {
    "agrees": Text(
        "Computed on this page. It agrees with torch on all {rows} recorded inputs: the largest difference is"
        " {difference}, and {tolerance} is allowed there.",
        "由这个页面计算。对全部 {rows} 个记录的输入，结果都与 torch 一致："
        "最大差别是 {difference}，该处的容差是 {tolerance}。",
    ),
    "agrees_runtime": Text(
        "Computed by ONNX Runtime Web. It agrees with torch on all {rows} recorded inputs: the largest difference is"
        " {difference}, and {tolerance} is allowed there.",
        "由 ONNX Runtime Web 计算。对全部 {rows} 个记录的输入，结果都与 torch 一致："
        "最大差别是 {difference}，该处的容差是 {tolerance}。",
    ),
    "differs": Text(
        "Warning: the outputs differ from torch's by up to {difference}, where {tolerance} is what rounding explains."
        " Do not rely on what this page shows.",
        "警告：输出与 torch 的差别达到 {difference}，而舍入只能解释 {tolerance}。请不要相信这个页面显示的结果。",
    ),
    "missing": Text(
        "This net has operators that this page does not compute: {operators}. Press “Ask ONNX Runtime Web” below to run"
        " it, or use the Python snippet in the bundle's README.md.",
        "这个网络里有本页不会计算的算子：{operators}。请按下面的“用 ONNX Runtime Web 计算”来运行它，"
        "或者使用 README.md 里的 Python 代码。",
    ),
    "box": Text("{name}, as a number", "{name}，输入数值"),
    "refused": Text(
        "{name} must be a number such as 0.5 or -1e-3, not “{typed}”.",
        "{name} 必须是数，例如 0.5 或 -1e-3，不能是“{typed}”。",
    ),
    "empty": Text("{name} must be a number such as 0.5 or -1e-3.", "{name} 必须是数，例如 0.5 或 -1e-3。"),
    "set": Text("Set the inputs to recorded input {row}", "把输入设为第 {row} 个记录的输入"),
    "equal": Text("Recorded input {row}: the two are equal.", "第 {row} 个记录的输入：两者相等。"),
    "apart": Text(
        "Recorded input {row}: the two differ by {difference}, and {tolerance} is allowed.",
        "第 {row} 个记录的输入：两者相差 {difference}，容差是 {tolerance}。",
    ),
    "outside": Text(
        "Beyond the inputs that the net was trained on: what it says here is a guess.",
        "超出了网络训练时的输入范围：这里的输出只是猜测。",
    ),
    "unrecorded": Text(
        "Torch recorded no output for this input. Press a row of the table below to compare.",
        "torch 没有记录这个输入的输出。按下面表格中的一行，就可以对照。",
    ),
    "computed": Text("this page", "本页"),
    "runtime": Text("ONNX Runtime Web", "ONNX Runtime Web"),
    "torch": Text("torch, recorded", "torch 的记录"),
    "score": Text("score, {whose}", "得分，{whose}"),
    "curve": Text("{name}, {whose}", "{name}，{whose}"),
    "dots_classes": Text(
        "Dots: the recorded inputs, in the color of torch's answer", "圆点：记录的输入，颜色是 torch 给出的类别"
    ),
    "dots": Text("Dots: recorded by torch", "圆点：torch 的记录"),
    "ring": Text("Ring: your input; click or drag to move it", "圆圈：你的输入，点击或拖动可以移动"),
    "picture": Text(
        "What the net says for {inputs} in the range of its training", "在训练范围内，网络对 {inputs} 的输出"
    ),
    "loading": Text(
        "Fetching ONNX Runtime Web from cdn.jsdelivr.net …", "正在从 cdn.jsdelivr.net 获取 ONNX Runtime Web……"
    ),
    "offline": Text(
        "ONNX Runtime Web could not be fetched from cdn.jsdelivr.net: this device is offline, or something blocks that"
        " address. What this page computes itself needs no network. Press the button to try again.",
        "无法从 cdn.jsdelivr.net 获取 ONNX Runtime Web：设备没有联网，或者这个地址被屏蔽了。"
        "页面自己的计算不需要网络。可以再按一次按钮重试。",
    ),
    "broken": Text(
        "ONNX Runtime Web could not run the net in this browser: {why}.",
        "ONNX Runtime Web 无法在这个浏览器里运行网络：{why}。",
    ),
    "opinion_agrees": Text(
        "ONNX Runtime Web agrees: on the {rows} recorded inputs it is at most {torch} from torch and {page} from this"
        " page. For {inputs} it says {answer}.",
        "ONNX Runtime Web 的结果一致：对 {rows} 个记录的输入，与 torch 最多相差 {torch}，与本页最多相差 {page}。"
        "对 {inputs}，它的结果是 {answer}。",
    ),
    "opinion_differs": Text(
        "Warning: ONNX Runtime Web differs from torch by up to {torch} on the recorded inputs, more than rounding"
        " explains; it is at most {page} from this page. For {inputs} it says {answer}.",
        "警告：对记录的输入，ONNX Runtime Web 与 torch 的差别达到 {torch}，超过了舍入能够解释的范围；"
        "与本页最多相差 {page}。对 {inputs}，它的结果是 {answer}。",
    ),
}
