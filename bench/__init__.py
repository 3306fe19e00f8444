"""What a resize costs, measured on this machine: ``make bench``. It is never shipped."""
