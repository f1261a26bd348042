"""Pure functions from vprobe.probe.raw.Raw to facts: they read nothing and change nothing."""
