"""What a machine can serve, and the command that mends it: from facts alone."""

import sys

import pytest

from afx_profiles import list_profiles, load_profile
from afx_profiles.advice import judge, profile_states
from afx_profiles.machine import Device, Machine, Package, conflicts, memory

CPU = Device(provider="CPUExecutionProvider", kind="CPU", vendor="AMD")
CUDA = Device(provider="CUDAExecutionProvider", kind="GPU", vendor="NVIDIA")


def _machine(*names: str, devices: tuple[Device, ...] = (CPU,), error: str = "") -> Machine:
    packages = tuple(Package(name=name, version="1.0") for name in names)
    return Machine(
        system="Linux x86_64",
        python="3.11",
        cores=2,
        memory_bytes=8 << 30,
        available_bytes=4 << 30,
        nvidia=False,
        packages=packages,
        conflicts=conflicts(packages),
        devices=devices,
        devices_error=error,
    )


@pytest.mark.parametrize(
    ("profile", "names", "devices", "state", "mend"),
    [
        ("cpu-int4", ("onnxruntime", "onnxruntime-genai"), (CPU,), "ready", ""),
        (
            *("cpu-int4", (), (), "package missing"),
            "pip install 'agentflux-edge[cpu]'",
        ),
        ("cuda-fp16", ("onnxruntime-gpu", "onnxruntime-genai-cuda"), (CPU,), "no device", ""),
        ("cuda-fp16", ("onnxruntime-gpu", "onnxruntime-genai-cuda"), (CPU, CUDA), "ready", ""),
        (
            *("cuda-fp16", ("onnxruntime", "onnxruntime-genai"), (CPU,), "package missing"),
            "pip uninstall -y onnxruntime onnxruntime-genai && pip install 'agentflux-edge[cuda]'",
        ),
        (
            *("cpu-int4", ("onnxruntime", "onnxruntime-genai", "onnxruntime-gpu"), (CPU,)),
            "conflict",
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'agentflux-edge[cpu]'",
        ),
        (
            *("cpu-int4", ("onnxruntime-genai", "onnxruntime-gpu"), (CPU,), "conflict"),
            "pip uninstall -y onnxruntime-gpu && pip install 'agentflux-edge[cpu]'",
        ),
    ],
)
def test_each_state_has_the_command_that_mends_it(
    profile: str, names: tuple[str, ...], devices: tuple[Device, ...], state: str, mend: str
) -> None:
    found = judge(load_profile(profile), _machine(*names, devices=devices))
    assert (found.state, found.mend) == (state, mend)


def test_a_runtime_that_cannot_be_asked_is_not_called_ready() -> None:
    machine = _machine(
        "onnxruntime", "onnxruntime-genai", devices=(), error="onnxruntime is broken: x"
    )
    found = judge(load_profile("cpu-int4"), machine)
    assert (found.state, found.why) == ("broken", "onnxruntime is broken: x")


@pytest.mark.skipif(sys.platform == "win32", reason="DirectML is there")
def test_directml_is_for_another_system() -> None:
    assert judge(load_profile("directml-int4"), _machine()).state == "other system"


def test_every_shipped_profile_is_judged() -> None:
    states = profile_states(_machine())
    assert [state.profile for state in states] == list(list_profiles())
    assert all(state.why for state in states)


def test_memory_is_what_the_machine_has() -> None:
    total, available = memory()
    assert 0 < available <= total
    assert total > 256 << 20
