"""Asks /dev/kvm: does it open, is the API the stable one, can a VM be created, and what does KVM offer its guests?

Request numbers and structures: Linux, Documentation/virt/kvm/api.rst and include/uapi/linux/kvm.h. Nothing but the VM
descriptor is created, and it is closed at once.
"""

from __future__ import annotations

import errno
import os
import sys

from vprobe.probe.raw import KvmRaw, Leaves, Registers, Unread

DEVICE = "/dev/kvm"
KVM_GET_API_VERSION = 0xAE00
KVM_CREATE_VM = 0xAE01
KVM_CHECK_EXTENSION = 0xAE03
KVM_GET_SUPPORTED_CPUID = 0xC008AE05
KVM_GET_MSR_FEATURE_INDEX_LIST = 0xC004AE0A
KVM_GET_MSRS = 0xC008AE88

EXTENSIONS = {
    "nr_vcpus": 9,
    "max_vcpus": 66,
    "irqchip": 0,
    "nested_state": 157,
    "hyperv_enlightened_vmcs": 163,
    "vm_types": 235,
}
"""KVM_CAP_* by number: what else would a VM here get?"""

MAXIMUM_MSRS = 256
MAXIMUM_CPUID = 512


def _ioctl(descriptor: int, request: int, argument: int = 0) -> int | Unread:
    from fcntl import ioctl  # noqa: PLC0415 - not on every platform

    try:
        return ioctl(descriptor, request, argument)
    except OSError as error:
        return Unread(error.errno or errno.EIO)


def _ioctl_buffer(descriptor: int, request: int, buffer: bytearray) -> Unread | None:
    from fcntl import ioctl  # noqa: PLC0415 - not on every platform

    try:
        ioctl(descriptor, request, buffer, True)
    except OSError as error:
        return Unread(error.errno or errno.EIO)
    return None


def read_kvm(device: str = DEVICE) -> KvmRaw:
    """Everything that KVM answers to a user who may open the device."""
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return KvmRaw(opened=Unread(error.errno or errno.EIO))
    try:
        version = _ioctl(descriptor, KVM_GET_API_VERSION)
        if version != 12:
            return KvmRaw(opened=0, api_version=version)
        extensions = {name: _ioctl(descriptor, KVM_CHECK_EXTENSION, number) for name, number in EXTENSIONS.items()}
        return KvmRaw(
            opened=0,
            api_version=version,
            create_vm=_create_vm(descriptor),
            extensions={name: value for name, value in extensions.items() if isinstance(value, int)},
            feature_msrs=_feature_msrs(descriptor),
            supported_cpuid=_supported_cpuid(descriptor),
        )
    finally:
        os.close(descriptor)


def _create_vm(descriptor: int) -> int | Unread:
    vm = _ioctl(descriptor, KVM_CREATE_VM)
    if isinstance(vm, Unread):
        return vm
    os.close(vm)
    return 0


def _feature_msrs(descriptor: int) -> dict[int, int | Unread]:
    """KVM's own view of the capability MSRs: what it would let a nested hypervisor see."""
    buffer = bytearray(4 + 4 * MAXIMUM_MSRS)
    _put(buffer, 0, MAXIMUM_MSRS)
    if _ioctl_buffer(descriptor, KVM_GET_MSR_FEATURE_INDEX_LIST, buffer) is not None:
        return {}
    count = min(_word(buffer, 0), MAXIMUM_MSRS)
    indexes = (_word(buffer, 4 + 4 * position) for position in range(count))
    return {index: _feature_msr(descriptor, index) for index in indexes}


def _feature_msr(descriptor: int, index: int) -> int | Unread:
    entry = bytearray(24)  # struct kvm_msrs with one entry: nmsrs, pad, index, reserved, data
    _put(entry, 0, 1)
    _put(entry, 8, index)
    failure = _ioctl_buffer(descriptor, KVM_GET_MSRS, entry)
    return failure or int.from_bytes(entry[16:], sys.byteorder)


def _supported_cpuid(descriptor: int) -> Leaves:
    """CPUID as KVM would show it to a guest; the nested question is answered by its vmx and svm flags."""
    buffer = bytearray(8 + 40 * MAXIMUM_CPUID)  # struct kvm_cpuid2: nent, padding, entries of ten words
    _put(buffer, 0, MAXIMUM_CPUID)
    if _ioctl_buffer(descriptor, KVM_GET_SUPPORTED_CPUID, buffer) is not None:
        return {}
    leaves: dict[tuple[int, int], Registers] = {}
    for position in range(min(_word(buffer, 0), MAXIMUM_CPUID)):
        leaf, subleaf, _, a, b, c, d = (_word(buffer, 8 + 40 * position + 4 * place) for place in range(7))
        leaves[leaf, subleaf] = (a, b, c, d)
    return leaves


def _put(buffer: bytearray, position: int, value: int) -> None:
    buffer[position : position + 4] = value.to_bytes(4, sys.byteorder)


def _word(buffer: bytearray, position: int) -> int:
    return int.from_bytes(buffer[position : position + 4], sys.byteorder)
