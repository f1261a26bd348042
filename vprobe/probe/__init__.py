"""What is this machine? Raw sources, pure decoders, facts."""
