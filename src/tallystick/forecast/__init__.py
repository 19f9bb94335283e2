"""What a series of usage will probably be, and whether one value of it is unusual. Pure: floats in, floats out."""
