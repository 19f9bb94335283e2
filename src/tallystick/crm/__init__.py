"""Customer relations systems that are told how customers use what they pay for: one interface, one file a system."""
