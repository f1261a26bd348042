"""Guests of QEMU's software emulation: every processor model against cpuid, and the firmware strings of products."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vprobe.probe.report import HostReport, decode
from vprobe.probe.sources.combined import read_recorded
from vprobe.probe.sources.text import parse_text

from . import bare_guest
from .test_probe_live import differences, labels_of

pytestmark = [pytest.mark.engine("qemu-system-x86_64"), pytest.mark.engine("gcc")]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest, compiled once."""
    return bare_guest.build(tmp_path_factory.mktemp("guest"))


def probe(image: Path, place: Path, cpu: str, smbios: tuple[str, ...]) -> HostReport:
    """The facts that the guest's leaves and tables give."""
    answer = bare_guest.run(image, cpu, smbios)
    (place / "cpuid.txt").write_text(answer.cpuid)
    return decode(read_recorded(str(place / "cpuid.txt"), str(answer.write_tree(place / "tree")))[0])


@pytest.mark.slow
@pytest.mark.engine("cpuid")
def test_flags_of_every_processor_model_agree_with_cpuid(image: Path) -> None:
    """Every flag that both name, of every model that QEMU emulates in software, read inside such guests."""
    names = bare_guest.models()
    assert len(names) > 50
    with ThreadPoolExecutor(2) as pool:
        dumps = dict(zip(names, pool.map(lambda name: bare_guest.run(image, name).cpuid, names), strict=True))
    compared = sum(len(labels_of(dump)) for dump in dumps.values())
    assert compared > 100 * len(names)
    assert {name: found for name, dump in dumps.items() if (found := differences(dump))} == {}


@pytest.mark.parametrize(
    ("cpu", "vtx", "amdv"),
    [
        ("max", "absent", "present"),
        ("qemu64,+svm", "absent", "present"),
        ("qemu64,-svm", "absent", "hidden"),
        ("Skylake-Server", "hidden", "absent"),
        ("Skylake-Server,-hypervisor", "disabled", "absent"),
        ("Opteron_G1,-hypervisor", "absent", "absent"),
        ("Conroe,-hypervisor", "absent", "absent"),
    ],
)
def test_states_of_emulated_processors(image: Path, cpu: str, vtx: str, amdv: str) -> None:
    """The rules of the contract on processors that a guest really sees, by CPUID alone."""
    found = decode(parse_text(bare_guest.run(image, cpu).cpuid)[0])
    assert (found.vtx.fact.state, found.amdv.fact.state) == (vtx, amdv)


NOVA = "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,version=27.1.0"
CLOUDSTACK = "type=1,manufacturer=Apache Software Foundation,product=CloudStack KVM Hypervisor"
INNOTEK = ("type=0,vendor=innotek GmbH", "type=1,manufacturer=innotek GmbH,product=VirtualBox")
PRODUCTS = {
    "plain": ((), "qemu", "qemu", None),
    "openstack": ((NOVA,), "qemu", "qemu", "openstack"),
    "cloudstack": ((CLOUDSTACK,), "qemu", "qemu", "cloudstack"),
    "vmware": (("type=1,manufacturer=VMware,, Inc.,product=VMware7,,1",), "vmware", "vmware", None),
    "virtualbox": (INNOTEK, "oracle", "virtualbox", None),
}
"""Product -> (SMBIOS strings, kind, monitor, platform)."""


@pytest.mark.parametrize("hidden", [False, True], ids=["signature", "no-signature"])
@pytest.mark.parametrize("product", list(PRODUCTS))
def test_products_by_their_firmware_strings(image: Path, tmp_path: Path, product: str, hidden: bool) -> None:
    """SMBIOS strings as the products set them, with the emulator's signature in sight and without."""
    smbios, kind, monitor, platform = PRODUCTS[product]
    found = probe(image, tmp_path, "qemu64,-hypervisor" if hidden else "qemu64", smbios).hypervisor
    if hidden and product in {"openstack", "cloudstack"}:
        kind = "kvm"  # what OpenStack and CloudStack run on, where nothing says otherwise
    assert (found.kind, found.platform, found.fact.state) == (kind, platform, "present")
    assert found.monitor == monitor or (hidden and product == "openstack")
    assert found.role == "guest"
