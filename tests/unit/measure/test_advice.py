"""What is said of a noisy machine, from recorded files."""

from __future__ import annotations

from pathlib import Path

from vprobe.measure.advice import advice

FILES = {
    "proc/loadavg": "1.90 0.3 0.1 2/100 77\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/intel_pstate/no_turbo": "0\n",
    "sys/devices/system/cpu/cpu1/topology/thread_siblings_list": "1,5\n",
}


def test_each_source_of_noise_is_named_with_what_would_help(tmp_path: Path) -> None:
    """Load, governor, turbo, siblings and a hypervisor each give one sentence."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    said = advice(1, "kvm", tmp_path)
    assert len(said) == 5
    for words in ("load 1.9", "powersave", "turbo", "1,5", "kvm guest"):
        assert any(words in sentence for sentence in said), words


def test_a_quiet_machine_and_an_unreadable_one_say_nothing(tmp_path: Path) -> None:
    """Nothing is guessed where nothing can be read."""
    assert advice(1, None, tmp_path) == ()
