"""A small network with knobs: a script written from them, looked at by the probe and the rules that every run gets."""
