"""Check that Live Nets can be installed: exits with an error message if this Python or system is not supported.

`make` runs it first. The limits are those of the wheels of torch 2.13, onnxruntime 1.32 and numpy 2.4. Without this
check, pip would search for minutes and fail with "No matching distribution found". The syntax is that of old Pythons.
"""

import platform
import struct
import sys

OLDEST, NEWEST = (3, 11), (3, 14)
SYSTEMS = (
    "Linux with glibc 2.28 or newer on x86-64 or ARM, macOS 14 or newer on Apple silicon, or Windows on x86-64, 64 bits"
)


def refusal(version, bits, system, machine, release):  # noqa: ANN001, ANN201
    # type: (tuple[int, ...], int, str, str, tuple[int, ...]) -> str
    """Error message for a platform such as (3, 11), 64, "Linux", "x86_64", (2, 28); "" if it is supported.

    `release` is the version of glibc or macOS.
    """
    found = "%d.%d" % version  # noqa: UP031
    if not OLDEST <= version <= NEWEST:
        return "Live Nets needs Python 3.11 to 3.14, and this is %s; set PYTHON=python3.11 or the like." % found  # noqa: UP031
    machines = {"Linux": ("x86_64", "aarch64"), "Darwin": ("arm64",), "Windows": ("AMD64",)}.get(system, ())
    oldest = {"Linux": (2, 28), "Darwin": (14,)}.get(system, ())
    if bits == 64 and machine in machines and release >= oldest:
        return ""
    found = "%s on %s, %d bits" % (" ".join([system, ".".join(map(str, release))]).strip(), machine, bits)  # noqa: UP031
    return "Live Nets needs %s, and this is %s." % (SYSTEMS, found)  # noqa: UP031


def numbers(text):  # noqa: ANN001, ANN201
    # type: (str) -> tuple[int, ...]
    """Parse a release: (14, 2) for "14.2"; () if it has no numbers, as with musl."""
    return tuple(int(part) for part in text.split(".") if part.isdigit())


if __name__ == "__main__":
    system = platform.system()
    release = platform.libc_ver()[1] if system == "Linux" else platform.mac_ver()[0]
    bits = 8 * struct.calcsize("P")
    sys.exit(refusal(tuple(sys.version_info[:2]), bits, system, platform.machine(), numbers(release)) or 0)
