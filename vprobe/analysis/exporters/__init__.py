"""How are verdicts shown? One module a format; each turns a finished comparison or gate report into text."""
