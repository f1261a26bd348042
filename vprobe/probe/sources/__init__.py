"""Each source reads a machine, or a record of one, once, into a vprobe.probe.raw.Raw."""
