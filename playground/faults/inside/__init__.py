"""What gets into the function's process: its folder is on that process's PYTHONPATH, and Python does the rest."""
