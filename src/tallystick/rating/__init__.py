"""What usage costs. Pure: decimals in, decimals and their explanation out.

`price.py` reads a price, `rate.py` applies it; each price model is a file with its rule; `adjustments.py` says in which
order included units, discounts, the maximum and the minimum apply, and why.
"""
