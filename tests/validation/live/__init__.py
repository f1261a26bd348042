"""Proofs on the machine at hand: sessions of the real engine in which the truth is known, and the peers beside it."""
