"""How news leaves: one file per kind of channel, behind one interface."""
