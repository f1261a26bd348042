"""All facts of one machine, and the document that scripts read: schema vprobe.probe/1."""

from __future__ import annotations

from vprobe.probe.decode.confidential import Guest, Sev, decode_confidential, decode_sev, decode_sgx, decode_tdx
from vprobe.probe.decode.consistency import inconsistent_cpus
from vprobe.probe.decode.container import Container, decode_container
from vprobe.probe.decode.cpu import Cpu, decode_cpu
from vprobe.probe.decode.cpuid import Cpuid
from vprobe.probe.decode.hypervisor import Hypervisor, decode_hypervisor
from vprobe.probe.decode.kvm import Kvm, Technologies, decode_kvm
from vprobe.probe.decode.platform import Iommu, decode_iommu, decode_mitigations
from vprobe.probe.decode.subject import Subject
from vprobe.probe.decode.svm import Amdv, decode_amdv
from vprobe.probe.decode.vmx import Vtx, decode_vtx
from vprobe.probe.facts import Fact
from vprobe.probe.raw import Raw, Unread
from vprobe.probe.record import Record
from vprobe.states import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


SCHEMA = "vprobe.probe/1"


class HostReport(Record):
    """What is known of a machine. Every member is frozen; `document()` is what `vprobe probe --json` prints."""

    raw: Raw
    cpu: Cpu
    vtx: Vtx
    amdv: Amdv
    sev: Sev
    tdx: Fact
    sgx: Fact
    iommu: Iommu
    hypervisor: Hypervisor
    container: Container
    confidential: Guest
    kvm: Kvm
    mitigations: dict[str, str]
    inconsistent_cpus: list[dict[str, Any]]

    @property
    def kvm_backend(self) -> str | None:
        """kvm_intel, kvm_amd, kvm_pvm, …; None where there is none."""
        return self.kvm.backend

    def cache_bytes(self, level: int, kind: str = "unified") -> int | None:
        """Size of one cache in bytes; None where the machine does not tell."""
        return next((cache.size_bytes for cache in self.cpu.caches if (cache.level, cache.type) == (level, kind)), None)

    def document(self) -> dict[str, Any]:
        """Plain JSON types, in the order of the contract."""
        return {
            "schema": SCHEMA,
            "cpu": _cpu(self.cpu),
            "virtualization": {
                "vtx": _vtx(self.vtx),
                "amdv": _amdv(self.amdv),
                "sev": _sev(self.sev),
                "tdx": _fact(self.tdx),
                "sgx": _fact(self.sgx),
                "iommu": _fact(self.iommu.fact) | {"kind": self.iommu.kind, "groups": self.iommu.groups},
            },
            "hypervisor": _hypervisor(self.hypervisor),
            "container": _container(self.container),
            "confidential": _fact(self.confidential.fact) | {"kind": self.confidential.kind},
            "kvm": _kvm(self.kvm),
            "mitigations": dict(self.mitigations),
            "inconsistent_cpus": list(self.inconsistent_cpus),
        }

    def details(self) -> dict[str, Any]:
        """What `--all --json` adds to the document: every leaf of every CPU in words, and every MSR that was tried."""
        from vprobe.probe.decode.leaves import decode_leaves  # noqa: PLC0415 - not for the document

        leaves = {
            str(cpu): [leaf.document() for leaf in decode_leaves(Cpuid(own))] for cpu, own in self.raw.cpuid.items()
        }
        msrs = {
            str(cpu): {
                f"{index:#x}": value.name if isinstance(value, Unread) else f"{value:#x}"
                for index, value in own.items()
            }
            for cpu, own in self.raw.msrs.items()
        }
        return {"cpuid": leaves, "msrs": msrs}


def decode(raw: Raw) -> HostReport:
    """Every fact that the raw record supports."""
    cpu = decode_cpu(raw)
    hypervisor = decode_hypervisor(raw)
    subject = Subject(raw, Cpuid(raw.leaves), cpu, hypervisor.keeper)
    container = decode_container(raw)
    vtx, amdv = decode_vtx(subject), decode_amdv(subject)
    in_container = container.fact.state is State.PRESENT
    technologies = Technologies(vtx.fact, amdv.fact, in_container, hypervisor.kind, subject.is_x86)
    return HostReport(
        raw=raw,
        cpu=cpu,
        vtx=vtx,
        amdv=amdv,
        sev=decode_sev(subject),
        tdx=decode_tdx(subject),
        sgx=decode_sgx(subject),
        iommu=decode_iommu(raw),
        hypervisor=hypervisor,
        container=container,
        confidential=decode_confidential(subject),
        kvm=decode_kvm(raw, technologies),
        mitigations=decode_mitigations(raw),
        inconsistent_cpus=inconsistent_cpus(raw),
    )


def _fact(fact: Fact) -> dict[str, Any]:
    return {
        "state": fact.state.value,
        "reason": fact.reason or None,
        "remedy": fact.remedy or None,
        "evidence": list(fact.evidence),
    }


def _cpu(cpu: Cpu) -> dict[str, Any]:
    return {
        "architecture": cpu.architecture,
        "vendor": cpu.vendor,
        "brand": cpu.brand,
        "family": cpu.family,
        "model": cpu.model,
        "stepping": cpu.stepping,
        "logical_cpus": cpu.logical_cpus,
        "microcode": cpu.microcode,
        "flags": list(cpu.flags),
        "caches": [cache.as_dict() for cache in cpu.caches],
        "topology": dict(cpu.topology),
        "address_bits": {"physical": cpu.physical_bits, "virtual": cpu.virtual_bits},
    }


def _vtx(vtx: Vtx) -> dict[str, Any]:
    return _fact(vtx.fact) | {
        "source": vtx.source,
        "feature_control": vtx.feature_control,
        "controls": vtx.capabilities.controls,
        "fields": vtx.capabilities.fields,
        "unknown_bits": vtx.capabilities.unknown_bits,
        "kernel_flags": list(vtx.kernel_flags),
    }


def _amdv(amdv: Amdv) -> dict[str, Any]:
    return _fact(amdv.fact) | {
        "revision": amdv.revision,
        "asids": amdv.asids,
        "features": amdv.features,
        "unknown_bits": amdv.unknown_bits,
        "vm_cr": amdv.vm_cr,
    }


def _sev(sev: Sev) -> dict[str, Any]:
    return _fact(sev.fact) | {
        "features": sev.features,
        "unknown_bits": sev.unknown_bits,
        "encryption_bit": sev.encryption_bit,
        "guests": sev.guests,
    }


def _hypervisor(hypervisor: Hypervisor) -> dict[str, Any]:
    layers = [
        {
            "kind": layer.kind,
            "class": layer.virt_class,
            "signature": layer.signature,
            "base": layer.base,
            "facade": layer.facade,
        }
        for layer in hypervisor.layers
    ]
    return _fact(hypervisor.fact) | {
        "kind": hypervisor.kind,
        "role": hypervisor.role,
        "layers": layers,
        "monitor": hypervisor.monitor,
        "platform": hypervisor.platform,
        "paravirtual_features": list(hypervisor.paravirtual_features),
    }


def _container(container: Container) -> dict[str, Any]:
    return _fact(container.fact) | {
        "kind": container.kind,
        "class": str(container.virt_class) if container.virt_class else None,
        "contradicted": list(container.contradicted),
    }


def _kvm(kvm: Kvm) -> dict[str, Any]:
    return _fact(kvm.fact) | {
        "usable": kvm.usable,
        "backend": kvm.backend,
        "api_version": kvm.api_version,
        "nested": _fact(kvm.nested),
    }
