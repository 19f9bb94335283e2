"""Other vendors' HTTP APIs, spoken as their own clients expect them: one file each, mounted under a prefix.

Only the words are theirs. Keys, scopes, events, meters and customers are ours, and an event is the same event whichever
way it came. `vendor.py` says what a vendor's file must give, `mount.py` puts them in front of the framework.
"""
