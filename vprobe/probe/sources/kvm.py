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


def _ioctl_buffer(descriptor: int, request: int, buffer: memoryview) -> int | Unread:
    from fcntl import ioctl  # noqa: PLC0415 - not on every platform

    try:
        result: int = ioctl(descriptor, request, buffer, True)
    except OSError as error:
        return Unread(error.errno or errno.EIO)
    return result


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


def _words(count: int) -> memoryview:
    """A buffer of 32-bit words of this machine's byte order."""
    return memoryview(bytearray(4 * count)).cast("I")


def _feature_msrs(descriptor: int) -> dict[int, int | Unread]:
    """KVM's own view of the capability MSRs: what it would let a nested hypervisor see."""
    words = _words(1 + MAXIMUM_MSRS)  # struct kvm_msr_list: nmsrs, indices
    words[0] = MAXIMUM_MSRS
    if isinstance(_ioctl_buffer(descriptor, KVM_GET_MSR_FEATURE_INDEX_LIST, words), Unread):
        return {}
    return {index: _feature_msr(descriptor, index) for index in words[1 : 1 + min(words[0], MAXIMUM_MSRS)]}


def _feature_msr(descriptor: int, index: int) -> int | Unread:
    words = _words(6)  # struct kvm_msrs with one entry: nmsrs, pad, index, reserved, data of 64 bits
    words[0], words[2] = 1, index
    read = _ioctl_buffer(descriptor, KVM_GET_MSRS, words)
    if isinstance(read, Unread):
        return read
    if read != 1:  # the number of MSRs that were read: none, and yet no error
        return Unread(errno.EINVAL)
    return int.from_bytes(words[4:].tobytes(), sys.byteorder)


def _supported_cpuid(descriptor: int) -> Leaves:
    """CPUID as KVM would show it to a guest; the nested question is answered by its vmx and svm flags."""
    words = _words(
        2 + 10 * MAXIMUM_CPUID
    )  # struct kvm_cpuid2: nent, padding, entries of function, index, flags, registers
    words[0] = MAXIMUM_CPUID
    if isinstance(_ioctl_buffer(descriptor, KVM_GET_SUPPORTED_CPUID, words), Unread):
        return {}
    leaves: dict[tuple[int, int], Registers] = {}
    for start in range(2, 2 + 10 * min(words[0], MAXIMUM_CPUID), 10):
        leaf, subleaf, _, a, b, c, d = words[start : start + 7].tolist()
        leaves[leaf, subleaf] = (a, b, c, d)
    return leaves
